//! A sink that does what a script says, and a queue to flush into it.

#![allow(dead_code)] // Not every test uses all of it.

use sendq::clock::Clock;
use sendq::errno::{Errno, Result};
pub use sendq::flush::Lender;
use sendq::flush::flush;
use sendq::pool::{Limits, Pool};
use sendq::pressure::{Hints, Watermarks};
use sendq::queue::Queue;
use sendq::segment::Piece;
use sendq::sink::Sink;
use std::cell::RefCell;
use std::collections::VecDeque;

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

/// A sink that follows a script, and takes all once the script is over.
#[derive(Default)]
pub struct Script {
    pub answers: VecDeque<Answer>,
    /// What it took.
    pub taken: Vec<u8>,
    /// How many bytes each of the calls took that took some.
    pub takes: Vec<usize>,
    /// How many pieces each offer had.
    pub offers: Vec<usize>,
    /// How many offers it took less of than there was, not counting those that a signal or the end
    /// came before.
    pub shorts: usize,
    /// It can take no more for now: it said so, or took a part of what was in memory.
    pub is_full: bool,
}

impl Script {
    pub fn new(answers: impl IntoIterator<Item = Answer>) -> Script {
        Script { answers: answers.into_iter().collect(), ..Script::default() }
    }

    /// How much of `offered` it takes now.
    fn answer(&mut self, offered: usize) -> Result<usize> {
        let answer = match self.answers.pop_front().unwrap_or(Answer::All) {
            Answer::All => Ok(offered),
            Answer::Some(bytes) => Ok(bytes.min(offered)),
            Answer::No(errno) => Err(Errno::new(errno)),
        };
        let is_full = answer.map_or_else(Errno::is_transient, |taken| taken == 0);
        self.is_full |= is_full;
        self.shorts += usize::from(is_full || answer.is_ok_and(|taken| taken < offered));
        self.takes.extend(answer.iter().filter(|taken| **taken > 0));
        answer
    }
}

impl Sink for Script {
    fn write(&mut self, pieces: &[Piece]) -> Result<usize> {
        assert!(!pieces.is_empty() && pieces.iter().all(|piece| piece.len() > 0));
        self.offers.push(pieces.len());
        let offered: usize = pieces.iter().map(Piece::len).sum();
        let take = self.answer(offered)?;
        self.is_full |= take < offered;
        let mut left = take;
        for piece in pieces {
            // SAFETY: the flush that offers the pieces holds them until this call returns.
            let bytes = unsafe { piece.bytes() };
            let bytes = &bytes[..left.min(bytes.len())];
            self.taken.extend_from_slice(bytes);
            left -= bytes.len();
        }
        Ok(take)
    }

    fn send_file(&mut self, fd: i32, offset: u64, len: usize) -> Result<usize> {
        self.offers.push(0);
        let take = self.answer(len)?;
        let bytes = (offset..).take(take).map(|at| file_byte(fd, at));
        self.taken.extend(bytes);
        Ok(take)
    }

    fn calls(&self) -> u32 {
        self.offers.len() as u32
    }
}

/// What the file `fd` of the script has at an offset.
pub fn file_byte(fd: i32, at: u64) -> u8 {
    (at.wrapping_mul(31) ^ fd as u64) as u8
}

/// A queue with its pool, as a single thread holds them.
pub struct Alone {
    pub pool: Pool,
    pub queue: RefCell<Queue>,
}

impl Alone {
    pub fn new(limits: Limits, marks: Watermarks) -> Alone {
        let pool = Pool::confined(limits, Clock::host());
        Alone { pool, queue: RefCell::new(Queue::new(marks).unwrap()) }
    }

    pub fn append(&self, bytes: &[u8]) -> Result<Hints> {
        self.lend(|queue, pool| queue.append(pool, bytes))
    }

    pub fn flush(&self, sink: &mut Script, max_bytes: usize) -> Result<Hints> {
        flush(self, sink, max_bytes)
    }
}

impl Default for Alone {
    fn default() -> Alone {
        Alone::new(Limits::DEFAULT, Watermarks::new(0, 0, 0).unwrap())
    }
}

impl Lender for Alone {
    fn lend<R>(&self, f: impl FnOnce(&mut Queue, &Pool) -> R) -> R {
        f(&mut self.queue.borrow_mut(), &self.pool)
    }
}
