//! A connection of a host that does what the hints say, and no more.

use super::kernel;
use libc::{c_int, c_void};
use sendq::capi::*;
use sendq::errno::{Errno, Result};
use sendq::iovec::IoVec;
use sendq::sink::Sink;
use sendq::stats::Stats;
use std::collections::VecDeque;
use std::ptr::null_mut;

/// Takes as many bytes as it has room for.
struct Room {
    bytes: usize,
    calls: u32,
}

impl Sink for Room {
    fn write(&mut self, iovecs: &[IoVec], _: bool) -> Result<usize> {
        self.calls += 1;
        let taken = iovecs.iter().map(IoVec::len).sum::<usize>().min(self.bytes);
        if taken == 0 {
            return Err(Errno::new(libc::EAGAIN));
        }
        self.bytes -= taken;
        Ok(taken)
    }

    fn send_file(&mut self, _: c_int, _: u64, _: usize, _: bool) -> Result<usize> {
        unreachable!("no files here")
    }

    fn calls(&self) -> u32 {
        self.calls
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Producer {
    Runs,
    /// Until RESUME.
    Paused,
    /// There was no room while so much waited: until less does.
    Refused(u64),
    /// The pool's budget is spent, and nothing waits here: until another queue has sent something.
    ForPool,
}

/// Why there is a flush.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cause {
    Wake,
    /// The last flush gave MORE, and there was nothing to wait for, or that time has come.
    More,
    /// The sink has become writable.
    Writable,
}

pub struct Connection {
    pub queue: *mut sendq_t,
    pub producer: Producer,
    /// What is still to be appended.
    pub messages: VecDeque<usize>,
    /// Flush at once.
    pub pending: Option<Cause>,
    /// Flush when the sink becomes writable.
    pub wants_writable: bool,
    /// Flush at this time.
    pub timer: Option<u64>,
    pub corked: bool,
    /// No more appends.
    pub closed: bool,
    pub failed: c_int,
    /// The host did something else since the last flush.
    pub touched: bool,
    pub room: usize,
    /// Since the watermarks were set anew; 0: none.
    pub new_max: Option<u64>,
    pub appended: u64,
    /// Taken by the sink, or sent by the host itself.
    pub left: u64,
    pub appends: u64,
    pub flushes: u64,
}

static BYTES: [u8; 4096] = [7; 4096];

impl Connection {
    pub fn new(queue: *mut sendq_t, messages: &[usize], room: usize) -> Connection {
        Connection {
            queue,
            producer: Producer::Runs,
            messages: messages.iter().copied().collect(),
            pending: None,
            wants_writable: false,
            timer: None,
            corked: false,
            closed: false,
            failed: 0,
            touched: false,
            room,
            new_max: None,
            appended: 0,
            left: 0,
            appends: 0,
            flushes: 0,
        }
    }

    pub fn waiting(&self) -> u64 {
        // SAFETY: a live queue.
        unsafe { sendq_queued_bytes(self.queue) }
    }

    /// Bytes that wait and may leave.
    pub fn available(&self) -> usize {
        let mut iov = [libc::iovec { iov_base: null_mut(), iov_len: 0 }; 64];
        // SAFETY: a live queue, and room for so many.
        let count = unsafe { sendq_peek(self.queue, iov.as_mut_ptr().cast(), iov.len() as c_int) };
        iov[..count as usize].iter().map(|iov| iov.iov_len).sum()
    }

    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        // SAFETY: a live queue, and a place with its size.
        let got = unsafe { sendq_stats(self.queue, &mut stats, size_of::<Stats>()) };
        assert_eq!(got, 0);
        stats
    }

    /// The cap, which was `max` at first; 0: none.
    pub fn max(&self, max: u64) -> u64 {
        self.new_max.unwrap_or(max)
    }

    pub fn may_produce(&self) -> bool {
        self.producer == Producer::Runs && !self.messages.is_empty() && !self.closed
    }

    /// Some of what waited has left, perhaps: a producer that found no room tries again.
    pub fn look_again(&mut self) {
        if matches!(self.producer, Producer::Refused(at) if self.waiting() < at) {
            self.producer = Producer::Runs;
        }
    }

    /// Does what a call's result says.
    pub fn obey(&mut self, result: c_int) {
        if result < 0 {
            return;
        }
        if result & SENDQ_WAKE != 0 {
            self.pending = Some(Cause::Wake);
        }
        if result & SENDQ_RESUME != 0 {
            self.producer = Producer::Runs;
        }
        if result & SENDQ_HIGH != 0 {
            self.producer = Producer::Paused;
        }
    }

    /// Appends the next message. false: that is too large for anything to make room for it here.
    pub fn produce(&mut self, borrow: bool) -> bool {
        let len = self.messages[0];
        let data = BYTES.as_ptr().cast::<c_void>();
        // SAFETY: a live queue, and bytes that stay as they are.
        let result = unsafe {
            if borrow {
                sendq_append_ref(self.queue, data, len, None, null_mut())
            } else {
                sendq_append(self.queue, data, len)
            }
        };
        self.appends += 1;
        if result == -libc::ENOBUFS {
            let waits = self.waiting();
            self.producer = if waits > 0 { Producer::Refused(waits) } else { Producer::ForPool };
            return waits > 0;
        }
        assert!(result >= 0, "{result}");
        self.messages.pop_front();
        self.appended += len as u64;
        self.obey(result);
        true
    }

    /// Flushes, and schedules what is to come. Between both `time_passes`. Returns how much left.
    pub fn flush(&mut self, cause: Cause, call_bytes: usize, now: &dyn Fn() -> u64) -> u64 {
        (self.pending, self.timer, self.wants_writable) = (None, None, false);
        let touched = std::mem::take(&mut self.touched);
        let (before, available) = (self.waiting(), self.available());
        let mut sink = Room { bytes: self.room, calls: 0 };
        // SAFETY: a live queue.
        let result = kernel::serve(&mut sink, || unsafe {
            sendq_flush(self.queue, kernel::SOCKET, call_bytes)
        });
        let taken = (self.room - sink.bytes) as u64;
        (self.room, self.left) = (sink.bytes, self.left + taken);
        self.flushes += 1;
        if result < 0 {
            assert_eq!(result, -libc::ETIMEDOUT);
            (self.failed, self.producer) = (result, Producer::Runs);
            return before;
        }
        let hints = result;
        self.obey(hints);
        let left = self.available();
        assert_eq!(left > 0, hints & (SENDQ_BLOCKED | SENDQ_MORE) != 0, "bytes remain");
        assert_ne!(hints & (SENDQ_BLOCKED | SENDQ_MORE), SENDQ_BLOCKED | SENDQ_MORE);
        now();
        // SAFETY: a live queue.
        let wait = unsafe { sendq_retry_after_ns(self.queue) };
        if hints & SENDQ_BLOCKED != 0 {
            assert_eq!(self.room, 0);
            self.wants_writable = true;
        }
        match wait {
            0 => self.pending = Some(Cause::More),
            SENDQ_NEVER => assert!(hints & SENDQ_MORE == 0, "nothing but the sink can help"),
            _ => self.timer = Some(now().saturating_add(wait)),
        }
        let idle = taken == 0 && available > 0 && hints & SENDQ_BLOCKED == 0;
        assert!(!idle || touched || cause != Cause::More, "it was called for nothing");
        taken
    }
}
