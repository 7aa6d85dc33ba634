//! What is queued for one connection, and its limits. Each verb exists once.
//!
//! A queue does no I/O, has no lock and holds no reference to its pool: the caller passes the pool to each
//! call that takes or returns memory. A queue calls no callback either. The caller takes the slots to release
//! from [`Queue::next_released`] when the call is over.

mod append;
mod consume;
mod cork;
mod end;
mod hole;
mod memory;
mod message;
mod split;
mod zerocopy;

pub use append::{Piece, Size};
pub use zerocopy::Run;

use crate::block::MemoryUsage;
use crate::counters::Counters;
use crate::errno::{Errno, Result};
use crate::flags::Flags;
use crate::messages::Messages;
use crate::policy::{Changes, Hints, Policy, Watermarks};
use crate::pool::Pool;
use crate::stream::Stream;
use crate::zerocopy::Zerocopy;
use memory::BurstSize;

/// One connection's output.
#[repr(C)]
pub struct Queue {
    /// First, so that an append that fits touches one cache line. It holds no block when nothing is queued,
    /// nothing is reserved and no owner has to be released.
    stream: Stream,
    policy: Policy,
    counters: Counters,
    /// The boundaries between messages, if the host wants them counted.
    messages: Option<Box<Messages>>,
    /// Memory that it holds: see [`Queue::held`].
    held: u64,
    /// Bytes reserved, while RESERVED. They are in the block that the stream has linked behind the last one,
    /// or behind the last byte. In the latter case that block stays until the commit, even when everything
    /// before it is sent.
    reserved: u32,
    /// Slots whose owners are not released yet, and how many of these are completed.
    slots: u32,
    unreleased: u32,
    /// The errno that ended the connection, or 0. If it is set, CLOSED is set, too.
    failure: i16,
    flags: Flags,
    burst: BurstSize,
}

/// No more appends.
const CLOSED: u8 = 1;
/// Memory is reserved: no appends until the commit.
const RESERVED: u8 = 2;
/// Between begin_flush and end_flush: the bytes at the front may be in the kernel's hands.
const FLUSHING: u8 = 4;
/// See [`Queue::is_tracked`].
const TRACKED: u8 = 8;
/// The end of the connection has to be reported.
const REPORT: u8 = 16;
/// Slots were completed since the last [`Queue::take_deferred`].
const RELEASE: u8 = 32;
/// What is appended is held back.
const CORKED: u8 = 64;
/// The rest of a message is appended whose first bytes were sent: the pool's budget does not refuse it.
const CONTINUING: u8 = 128;

/// Of [`Deferred`], in which this bit is free: the host has to be woken.
const WAKE: u8 = CLOSED;

/// How a connection ended, for the log.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// What ended it. None: the host discarded what was queued while the sink was full.
    pub failure: Option<Errno>,
    /// Bytes discarded in total.
    pub lost: u64,
    /// Bytes sent in total.
    pub sent: u64,
    /// Nanoseconds since the last byte was sent.
    pub stalled: u64,
}

/// Work that remains after a call, once nothing is locked: owners to release, the end of the connection to
/// report, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deferred(u8);

impl Deferred {
    /// Nothing.
    pub const NONE: Deferred = Deferred(0);

    /// The host has to be woken. No queue sets this: the caller adds it.
    pub const WAKE: Deferred = Deferred(WAKE);

    /// The host has to be woken.
    pub fn has_wake(self) -> bool {
        self.0 & WAKE != 0
    }

    /// [`Queue::take_changes`] has to be called.
    pub fn has_changes(self) -> bool {
        self.0 & TRACKED != 0
    }

    /// The same without that.
    pub fn without_changes(self) -> Deferred {
        Deferred(self.0 & !TRACKED)
    }

    /// There is an end to report.
    pub fn has_report(self) -> bool {
        self.0 & REPORT != 0
    }
}

impl std::ops::BitOr for Deferred {
    type Output = Deferred;
    fn bitor(self, other: Deferred) -> Deferred {
        Deferred(self.0 | other.0)
    }
}

/// The result of a flush.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flushed {
    /// Bytes sent.
    pub sent: u64,
    /// Calls of the sink.
    pub calls: u32,
    /// Calls that took less than they were offered.
    pub short_writes: u32,
    /// The sink takes no more, and bytes remain.
    pub is_blocked: bool,
    /// The sink continues once its connection is readable.
    pub wants_read: bool,
}

impl Queue {
    /// An empty queue, without memory of any pool.
    ///
    /// NO_MEMORY: a low watermark other than half of high needs an allocation.
    pub fn new(marks: Watermarks) -> Result<Queue> {
        Ok(Queue {
            stream: Stream::default(),
            policy: Policy::new(marks)?,
            counters: Counters::default(),
            messages: None,
            held: 0,
            reserved: 0,
            slots: 0,
            unreleased: 0,
            failure: 0,
            flags: Flags::NONE,
            burst: BurstSize::SMALLEST,
        })
    }

    /// Bytes queued.
    pub fn waiting(&self) -> u64 {
        self.stream.waiting()
    }

    /// Bytes queued that may be sent: corked ones may not.
    pub fn available(&self) -> u64 {
        self.stream.available()
    }

    /// Bytes queued that are memory: those in files are not.
    pub fn memory(&self) -> u64 {
        self.waiting() - self.policy.file_bytes()
    }

    /// The counters, with the peak brought up to date.
    pub fn counters(&self) -> Counters {
        Counters { peak: self.counters.peak.max(self.waiting()), ..self.counters }
    }

    /// Bytes sent in total.
    pub fn sent(&self) -> u64 {
        self.counters.sent
    }

    /// The memory it holds, by kind. Walks all slots.
    pub fn memory_usage(&self) -> MemoryUsage {
        let mut usage = self.stream.memory_usage();
        let record = self.policy.cold().and_then(|cold| cold.offered.as_ref()?.copy.as_ref());
        usage.allocated += record.map_or(0, |(block, _)| block.footprint() as u64);
        usage.borrowed += self.zerocopy().map_or(0, Zerocopy::held_bytes);
        usage
    }

    /// Its limits.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Nanoseconds without progress while bytes were available, or for which the connection was too slow.
    pub fn stalled_ns(&mut self, now: u64) -> u64 {
        if self.available() == 0 { 0 } else { self.policy.stalled_ns(now, self.sent()) }
    }

    /// Nanoseconds until a flush does something although the sink has not changed. None: only the sink can
    /// help, or nothing is queued.
    pub fn retry_after_ns(&self, pool: &Pool) -> Option<u64> {
        self.retry_after(pool, self.waiting(), pool.rate_wait_ns(self.available()))
    }

    /// Nanoseconds for which its own rate, and not a full sink, holds it back.
    pub fn paced_ns(&self, pool: &Pool) -> u64 {
        if !self.policy.has_rate() || self.policy.is_blocked() {
            return 0;
        }
        self.retry_after(pool, self.waiting(), 0).unwrap_or(0)
    }

    fn retry_after(&self, pool: &Pool, waiting: u64, pool_wait: u64) -> Option<u64> {
        self.policy.retry_after_ns(waiting, self.available(), pool.now(), pool_wait)
    }

    /// The current state: HIGH, BLOCKED or WANT_READ, MORE, CORKED, CLOSED.
    pub fn state(&self, pool: &Pool) -> Hints {
        let (blocked, reads) = (self.policy.is_blocked(), self.policy.wants_read());
        let available = self.available();
        let is_paced = self.policy.has_rate() || pool.has_rate();
        let may_offer = || self.retry_after(pool, 0, pool.rate_wait_ns(available)) == Some(0);
        let offers = available > 0 && !blocked && (!is_paced || may_offer());
        Hints::HIGH.when(self.policy.is_high())
            | Hints::BLOCKED.when(blocked && !reads)
            | Hints::WANT_READ.when(reads)
            | Hints::MORE.when(offers)
            | self.unacked().when(self.waiting() == 0)
            | Hints::CORKED.when(self.flags.any(CORKED))
            | Hints::CLOSED.when(self.flags.any(CLOSED))
    }

    /// What ended the connection, if anything did.
    pub fn failure(&self) -> Option<Errno> {
        (self.failure != 0).then(|| Errno::new(i32::from(self.failure)))
    }

    /// How many bytes [`Queue::write`] may take: 0 when an append needs any check.
    pub fn room(&self) -> usize {
        self.stream.room()
    }

    /// Appends a copy of `bytes`, at most [`Queue::room`] of them. There is no hint to return.
    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.write(bytes);
    }

    /// Computes [`Queue::room`] anew. Needed after any change but [`Queue::write`].
    pub fn update_room(&mut self) {
        let waiting = self.waiting();
        let is_open = waiting > 0 && !self.flags.any(CLOSED | RESERVED) && !self.is_full(waiting);
        self.stream.set_room(if is_open { self.policy.room(waiting) } else { 0 });
    }

    /// Lets [`Queue::write`] take nothing, until the next [`Queue::update_room`].
    pub fn clear_room(&mut self) {
        self.stream.set_room(0);
    }

    /// What has happened since the last call of this and may make it ready.
    pub fn take_changes(&mut self) -> Changes {
        self.policy.take_changes()
    }

    /// Whether the caller looks at [`Queue::take_changes`] after each call.
    pub fn is_tracked(&self) -> bool {
        self.flags.any(TRACKED)
    }

    /// Sets that. While it is set, [`Queue::take_deferred`] always returns something, except during a flush.
    pub fn set_tracked(&mut self, on: bool) {
        self.flags.set(TRACKED, on);
    }

    /// Returns the deferred work of all calls since the last one of this.
    pub fn take_deferred(&mut self) -> Deferred {
        // What happens during a flush is seen at its end.
        let tracked = if self.flags.any(FLUSHING) { 0 } else { TRACKED };
        let deferred = self.flags.of(RELEASE | REPORT | tracked);
        if deferred != 0 {
            self.flags.set(RELEASE, false);
        }
        Deferred(deferred)
    }

    /// The error of an append to a closed or failed queue.
    #[inline(never)]
    fn refusal(&self) -> Option<Errno> {
        if !self.flags.any(CLOSED) {
            return None;
        }
        Some(self.failure().unwrap_or(Errno::PIPE))
    }

    /// Whether `len` more bytes of memory may be appended. Errors as for [`Queue::append`].
    pub(crate) fn admit(&self, len: u64) -> Result<()> {
        if self.flags.any(CLOSED | RESERVED) {
            return Err(self.refusal().unwrap_or(Errno::BUSY));
        }
        let is_admitted = self.policy.admits(self.waiting(), len);
        if is_admitted { Ok(()) } else { Err(Errno::NO_BUFFERS) }
    }

    /// Accounts for `len` appended bytes. WAKE: they are the first available ones. HIGH: at or over the high
    /// watermark.
    #[inline(always)]
    fn on_append(&mut self, len: u64) -> Hints {
        let is_first = self.available() == len && !self.stream.has_gates();
        self.policy.on_append(self.waiting(), is_first)
    }

    /// Replaces the watermarks. What is queued stays, even above a new cap. Hints and errors as for
    /// [`Policy::set_watermarks`].
    pub fn set_watermarks(&mut self, marks: Watermarks) -> Result<Hints> {
        self.policy.change_watermarks(marks, self.waiting())
    }

    /// Copies borrowed pieces that are shorter than `bytes`.
    pub fn set_copy_below(&mut self, bytes: u32) {
        self.policy.set_copy_below(bytes);
    }

    /// Copies parts of shared payloads that are shorter than `bytes`. NO_MEMORY.
    pub fn set_share_below(&mut self, bytes: u64) -> Result<()> {
        self.policy.set_share_below(bytes)
    }

    /// Lets this queue hold `bytes` of memory, whatever the pool's budget. NO_MEMORY.
    pub fn set_reserve(&mut self, bytes: u64) -> Result<()> {
        self.policy.set_reserve(bytes)
    }

    /// How many bytes may be appended by copying them before the high watermark, the cap or the pool's budget:
    /// 0 while the producer is paused, and when appends are refused.
    pub fn remaining(&self, pool: &Pool) -> u64 {
        if self.flags.any(CLOSED | RESERVED) || self.policy.is_high() {
            return 0;
        }
        let reserve = self.policy.reserve().saturating_sub(self.held);
        let in_pool = pool.remaining(usize::try_from(reserve).unwrap_or(usize::MAX));
        let memory = (self.stream.space() as u64).saturating_add(in_pool as u64);
        self.policy.until_high(self.waiting()).min(memory)
    }

    /// Limits the rate to `per_second`; 0: no limit. NO_MEMORY.
    pub fn set_rate(&mut self, pool: &Pool, per_second: u64, burst: u64) -> Result<()> {
        self.policy.set_rate(per_second, burst, pool.now())
    }

    /// Counts the connection as stalled while it sends less than `per_second` over `window` nanoseconds; 0:
    /// never. NO_MEMORY.
    pub fn set_min_rate(&mut self, pool: &Pool, per_second: u64, window: u64) -> Result<()> {
        self.policy.set_min_rate(per_second, window, pool.now(), self.sent())
    }
}
