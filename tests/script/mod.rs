//! A sink that does what a script says, and a queue to flush into it.

#![allow(dead_code)] // Not every test uses all of it.

#[cfg(unix)] // It stands in for system calls of POSIX.
pub mod kernel;

use sendq::clock::Clock;
use sendq::errno::{Errno, Result};
pub use sendq::flush::WithLocked;
use sendq::flush::flush;
use sendq::iovec::IoVec;
use sendq::policy::{Hints, Watermarks};
use sendq::pool::{Limits, Pool};
use sendq::queue::Queue;
use sendq::sink::Sink;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::iter::once;
use std::sync::OnceLock;

/// What the sink answers to one offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Takes all of it.
    All,
    /// Takes this many bytes, or all if there are fewer.
    Some(usize),
    /// Takes nothing and gives this errno.
    No(i32),
}

/// One call of the sink.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// How many iovecs; 0 for a file.
    pub count: usize,
    /// Where the first of them is.
    pub base: *const u8,
    /// How many bytes.
    pub len: usize,
    /// Others follow at once, if that can be known.
    pub more: Option<bool>,
    /// How many bytes it took, or why none.
    pub outcome: Result<usize>,
}

impl Offer {
    pub fn is_file(&self) -> bool {
        self.count == 0
    }

    /// A signal came first: the same is offered again.
    pub fn is_interrupted(&self) -> bool {
        self.outcome == Err(Errno::INTERRUPTED)
    }
}

/// A sink that follows a script, and takes all once the script is over.
#[derive(Default)]
pub struct Script {
    pub answers: VecDeque<Answer>,
    /// What it took.
    pub taken: Vec<u8>,
    pub offers: Vec<Offer>,
    /// How many iovecs were empty: those of a host may be, a queue has none.
    pub empty: usize,
    /// How often it was told to send what it held back.
    pub pushes: usize,
    /// It stands behind system calls, of which that for files knows no MSG_MORE.
    pub is_kernel: bool,
}

impl Script {
    pub fn new(answers: impl IntoIterator<Item = Answer>) -> Script {
        Script { answers: answers.into_iter().collect(), ..Script::default() }
    }

    /// How many iovecs each offer had.
    pub fn counts(&self) -> Vec<usize> {
        self.offers.iter().map(|offer| offer.count).collect()
    }

    /// How much of `len` bytes it takes now.
    fn answer(&mut self, len: usize) -> Result<usize> {
        match self.answers.pop_front().unwrap_or(Answer::All) {
            Answer::All => Ok(len),
            Answer::Some(bytes) => Ok(bytes.min(len)),
            Answer::No(errno) => Err(Errno::new(errno)),
        }
    }

    /// The offers from `first` on were one flush. All calls but the last said that more comes, and the last one
    /// did not, unless it was cut short.
    pub fn check_train(&self, first: usize) {
        let offers = &self.offers[first..];
        for (i, offer) in offers.iter().enumerate() {
            let Some(more) = offer.more else { continue };
            let is_last = i + 1 == offers.len();
            let is_whole = offer.outcome == Ok(offer.len);
            assert!(is_last || more || offer.is_interrupted(), "{offer:?} was not the last");
            assert!(!is_last || !more || !is_whole, "{offer:?} was the last");
        }
        let pairs = offers.iter().zip(offers.iter().skip(1));
        let is_stuck = pairs
            .filter(|(before, after)| before.more == Some(true) && after.outcome.is_err())
            .any(|(before, _)| before.outcome.is_ok());
        assert!(!is_stuck || self.pushes > 0 || self.is_kernel, "nobody pushed");
        assert_eq!(self.empty, 0);
    }
}

impl Sink for Script {
    fn write(&mut self, iovecs: &[IoVec], more: bool) -> Result<usize> {
        assert!(!iovecs.is_empty());
        let len: usize = iovecs.iter().map(IoVec::len).sum();
        let outcome = self.answer(len);
        let (count, base) = (iovecs.len(), iovecs[0].base());
        self.empty += iovecs.iter().filter(|iovec| iovec.len() == 0).count();
        self.offers.push(Offer { count, base, len, more: Some(more), outcome });
        let mut left = outcome?;
        for iovec in iovecs.iter().filter(|iovec| iovec.len() > 0) {
            // SAFETY: the flush that offers them holds them until this call returns.
            let bytes = unsafe { iovec.bytes() };
            let bytes = &bytes[..left.min(bytes.len())];
            self.taken.extend_from_slice(bytes);
            left -= bytes.len();
        }
        outcome
    }

    fn send_file(&mut self, fd: i32, offset: u64, len: usize, more: bool) -> Result<usize> {
        assert_eq!(fd, file());
        let there = FILE_BYTES.saturating_sub(offset) as usize;
        let answer = self.answer(len);
        let outcome = match answer {
            Ok(_) if there == 0 => Err(Errno::NO_DATA),
            // sendfile(2) returns 0 only at the end of the file.
            Ok(0) if self.is_kernel => Err(Errno::AGAIN),
            Ok(taken) => Ok(taken.min(there)),
            Err(errno) => Err(errno),
        };
        let more = (!self.is_kernel).then_some(more);
        self.offers.push(Offer { count: 0, base: std::ptr::null(), len, more, outcome });
        self.taken.extend((offset..).take(outcome?).map(file_byte));
        outcome
    }

    fn push(&mut self) {
        self.pushes += 1;
    }

    fn calls(&self) -> u32 {
        (self.offers.len() + self.pushes) as u32
    }
}

/// How long the file of all scripts is.
pub const FILE_BYTES: u64 = 1 << 20;

/// What it has at an offset.
pub fn file_byte(at: u64) -> u8 {
    (at.wrapping_mul(31) ^ at >> 8) as u8
}

/// The file of all scripts: a real one, because records and verify read it.
pub fn file() -> i32 {
    static FILE: OnceLock<i32> = OnceLock::new();
    *FILE.get_or_init(|| {
        let bytes: Vec<u8> = (0..FILE_BYTES).map(file_byte).collect();
        // SAFETY: tmpfile makes a file, which stays open; the bytes are those of this function.
        unsafe {
            let file = libc::tmpfile();
            assert_eq!(libc::fwrite(bytes.as_ptr().cast(), bytes.len(), 1, file), 1);
            assert_eq!(libc::fflush(file), 0);
            let fd = libc::fileno(file);
            #[cfg(windows)]
            let fd = libc::get_osfhandle(fd) as i32;
            fd
        }
    })
}

/// A queue with its pool, as a single thread holds them.
pub struct Single {
    pub pool: Pool,
    pub queue: RefCell<Queue>,
}

impl Single {
    pub fn new(limits: Limits, marks: Watermarks) -> Single {
        let pool = Pool::confined(limits, Clock::host());
        Single { pool, queue: RefCell::new(Queue::new(marks).unwrap()) }
    }

    pub fn append(&self, bytes: &[u8]) -> Result<Hints> {
        self.with_locked(|queue, pool| queue.append(pool, bytes.len(), once(bytes)))
    }

    pub fn flush(&self, sink: &mut Script, max_bytes: usize) -> Result<Hints> {
        let first = sink.offers.len();
        let result = flush(self, sink, max_bytes);
        sink.check_train(first);
        result
    }
}

impl Default for Single {
    fn default() -> Single {
        Single::new(Limits::DEFAULT, Watermarks::new(0, 0, 0).unwrap())
    }
}

impl WithLocked for Single {
    fn with_locked<R>(&self, f: impl FnOnce(&mut Queue, &Pool) -> R) -> R {
        let queue = &mut *self.queue.borrow_mut();
        let result = f(queue, &self.pool);
        queue.update_room();
        result
    }
}
