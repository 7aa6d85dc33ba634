//! How much may be queued, and how fast it may be sent: watermarks and the cap; a rate, a minimum rate, a
//! deadline, and the stall clock that tells a stuck connection from a busy one.
//!
//! A queue calls its policy when bytes were appended ([`Policy::on_append`]), consumed
//! ([`Policy::on_consume`]) or sent ([`Policy::on_sent`]), when the sink was full ([`Policy::on_blocked`]),
//! for the budget of a flush ([`Policy::budget`]), and to learn whether the deadline has passed
//! ([`Policy::check_deadline`]).

pub mod cold;
pub mod min_rate;

use crate::errno::{Errno, Result};
use crate::flags::Flags;
use crate::pool::class::FIRST_BLOCK_BYTES;
use crate::token_bucket::TokenBucket;
use crate::try_box::try_box;
use cold::Cold;
use min_rate::MinRate;

/// What the host has to do after a call, or the state of a queue: bits that the C ABI returns as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hints(u32);

impl Hints {
    /// Nothing is left to do.
    pub const NONE: Hints = Hints(0);
    /// The queue was empty: see that a flush gets scheduled.
    pub const WAKE: Hints = Hints(1);
    /// At or over the high watermark: pause the producer.
    pub const HIGH: Hints = Hints(2);
    /// Bytes remain, and the sink takes no more.
    pub const BLOCKED: Hints = Hints(4);
    /// Bytes remain, and the budget of the call is spent.
    pub const MORE: Hints = Hints(8);
    /// What is queued has dropped to the low watermark after having been high.
    pub const RESUME: Hints = Hints(16);
    /// Bytes remain, and the sink continues once its connection is readable.
    pub const WANT_READ: Hints = Hints(32);
    /// All is sent, and some of it without a copy that is not acknowledged yet.
    pub const UNACKED: Hints = Hints(64);
    /// State: what is appended is held back.
    pub const CORKED: Hints = Hints(128);
    /// State: no more appends.
    pub const CLOSED: Hints = Hints(256);

    /// The bits of the C ABI.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// Whether any of `hints` is among these.
    pub fn any(self, hints: Hints) -> bool {
        self.0 & hints.0 != 0
    }

    /// These without `hints`.
    pub fn without(self, hints: Hints) -> Hints {
        Hints(self.0 & !hints.0)
    }

    /// These if `condition` holds, else none.
    pub fn when(self, condition: bool) -> Hints {
        Hints(self.0 * u32::from(condition))
    }
}

impl std::ops::BitOr for Hints {
    type Output = Hints;
    fn bitor(self, other: Hints) -> Hints {
        Hints(self.0 | other.0)
    }
}

impl std::ops::BitOrAssign for Hints {
    fn bitor_assign(&mut self, other: Hints) {
        *self = *self | other;
    }
}

/// The most bytes that may be queued: half the range, so that the sum of two counts cannot overflow. As a
/// watermark it means no cap.
pub const UNBOUNDED: u64 = i64::MAX as u64;

/// The default of the high watermark.
pub const HIGH_BYTES: u64 = 1024 * 1024;

/// The default of the bytes that the pool's budget does not refuse: one block of the smallest class.
pub const RESERVE_BYTES: u64 = FIRST_BLOCK_BYTES as u64;

/// The default of [`Policy::copy_below`].
pub const COPY_BELOW: u32 = 4096;

/// The default of [`Policy::share_below`].
pub const SHARE_BELOW: u64 = 2048;

/// When to pause, when to resume, when to refuse. `low <= high <= max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    low: u64,
    high: u64,
    max: u64,
}

impl Watermarks {
    /// Checks the marks of a configuration. 0 means the default: no cap for `max`; for `high` 1 MiB, or `max`
    /// if that is less; for `low` half of `high`.
    ///
    /// INVALID: low is above high, or high above max.
    pub fn new(low: u64, high: u64, max: u64) -> Result<Watermarks> {
        let mark = |given: u64, default| if given == 0 { default } else { given.min(UNBOUNDED) };
        let max = mark(max, UNBOUNDED);
        let high = mark(high, HIGH_BYTES.min(max));
        let low = mark(low, high / 2);
        if low <= high && high <= max {
            Ok(Watermarks { low, high, max })
        } else {
            Err(Errno::INVALID)
        }
    }
}

/// The limits of one queue.
pub struct Policy {
    /// Watermarks plus the bytes queued in files. Only memory counts against the watermarks, and so all
    /// queued bytes can be compared with these fields. `high <= max`, which is at most 2^63 plus the bytes in
    /// files.
    high: u64,
    max: u64,
    /// When bytes were last sent and others stayed, or when the stall clock was started. Valid while STARTED.
    progress: u64,
    /// Nanoseconds for which the sink was full, in total. While it is full, the time when that began is
    /// subtracted.
    blocked_ns: u64,
    cold: Option<Box<Cold>>,
    /// Borrowed pieces shorter than this are copied. Saturated at u32::MAX, which no block exceeds.
    copy_below: u32,
    flags: Flags,
}

/// The high watermark was reached, and the low one not since.
const HIGH: u8 = 1;
/// The last flush found the sink full, and nothing was consumed since.
const BLOCKED: u8 = 2;
/// While BLOCKED: the sink continues once its connection is readable.
const WANTS_READ: u8 = 4;
/// There is a rate, a minimum rate or a deadline.
const PACED: u8 = 8;
/// The stall clock runs: since the first queued byte became available, some were sent, a flush was begun, or
/// the host asked how long the queue has stalled.
const STARTED: u8 = 16;
/// A flush has left bytes since [`Policy::take_changes`].
const RESTED: u8 = 32;
/// Bytes were appended or uncorked since then.
const APPENDED: u8 = 64;

/// What has happened to a queue since the last [`Policy::take_changes`], and may make it ready.
#[derive(Clone, Copy, Debug)]
pub struct Changes {
    /// A flush has left bytes.
    pub has_rest: bool,
    /// Bytes were appended or uncorked.
    pub has_appended: bool,
}

impl Policy {
    /// The policy of an empty queue. NO_MEMORY.
    pub fn new(marks: Watermarks) -> Result<Policy> {
        let mut policy = Policy {
            high: 0,
            max: 0,
            progress: 0,
            blocked_ns: 0,
            cold: None,
            copy_below: COPY_BELOW,
            flags: Flags::NONE,
        };
        policy.set_watermarks(marks, 0)?;
        Ok(policy)
    }

    /// Whether `len` more bytes of memory are within the cap, with `waiting` bytes queued.
    pub fn admits(&self, waiting: u64, len: u64) -> bool {
        // More may be queued than a cap that was lowered since.
        len <= self.max.saturating_sub(waiting)
    }

    /// Whether `len` bytes are within the cap of an empty queue.
    pub fn fits_cap(&self, len: u64) -> bool {
        len <= self.max - self.file_bytes()
    }

    /// How many bytes may be appended before there is a hint to return, with `waiting` bytes queued.
    pub fn room(&self, waiting: u64) -> u64 {
        self.high.saturating_sub(waiting + 1)
    }

    /// Bytes were appended, so that `waiting` bytes are queued. `first`: none was available before. WAKE,
    /// HIGH.
    #[inline(always)]
    pub fn on_append(&mut self, waiting: u64, first: bool) -> Hints {
        if first {
            self.on_available();
        }
        let is_high = waiting >= self.high;
        self.flags.set(if is_high { APPENDED | HIGH } else { APPENDED }, true);
        Hints::WAKE.when(first) | Hints::HIGH.when(is_high)
    }

    /// Bytes became available where none were: the stall clock starts anew, at the next flush or question.
    pub fn on_available(&mut self) {
        self.flags.set(STARTED, false);
    }

    /// Bytes were consumed, so that `waiting` bytes are queued. RESUME when that ends HIGH.
    pub fn on_consume(&mut self, waiting: u64) -> Hints {
        if self.flags.any(HIGH) { self.resume(waiting) } else { Hints::NONE }
    }

    /// Ends HIGH if `waiting` is at or below the low watermark. RESUME then.
    #[inline(never)]
    fn resume(&mut self, waiting: u64) -> Hints {
        let low = self.cold().and_then(|cold| cold.low);
        let low = low.unwrap_or((self.high - self.file_bytes()) / 2);
        let resumes = self.flags.any(HIGH) && waiting <= low + self.file_bytes();
        if resumes {
            self.flags.set(HIGH, false);
        }
        Hints::RESUME.when(resumes)
    }

    /// `bytes` of a file were appended. The cold fields are allocated ([`Policy::make_cold`]).
    pub fn on_file(&mut self, bytes: u64) {
        if let Some(cold) = self.cold_mut() {
            cold.file_bytes += bytes;
            (self.high, self.max) = (self.high + bytes, self.max + bytes);
        }
    }

    /// `bytes` of a file were appended, for the statistics.
    pub fn count_file(&mut self, bytes: u64) {
        if let Some(cold) = self.cold_mut() {
            cold.appended_file += bytes;
        }
    }

    /// Bytes of files appended in total. All that were neither these, nor borrowed, nor shared, were copied.
    pub fn appended_file(&self) -> u64 {
        self.cold().map_or(0, |cold| cold.appended_file)
    }

    /// `bytes` of files were consumed.
    pub fn on_file_removed(&mut self, bytes: u64) {
        if let Some(cold) = self.cold_mut() {
            cold.file_bytes -= bytes;
            (self.high, self.max) = (self.high - bytes, self.max - bytes);
        }
    }

    /// `len` bytes were moved to another queue, and `waiting` remain. HIGH ends as if they had been sent; BLOCKED
    /// ends if none remain.
    pub fn on_splice(&mut self, len: u64, waiting: u64, now: impl FnOnce() -> u64) {
        self.on_consume(waiting);
        let min_rate = self.cold_mut().and_then(|cold| cold.min_rate.as_mut());
        min_rate.into_iter().for_each(|min_rate| min_rate.on_splice(len));
        if waiting == 0 && self.flags.any(BLOCKED) {
            self.unblock(now());
        }
    }

    /// `len > 0` bytes have left, the last of `sent` ever, and others remain, or it matters for other reasons
    /// when ([`Policy::needs_time`]).
    #[inline(never)]
    pub fn on_sent(&mut self, len: u64, sent: u64, now: u64) {
        self.start_stall_clock(now, sent - len);
        self.progress = now;
        self.unblock(now);
        if let Some(cold) = self.cold_mut() {
            cold.bucket.iter_mut().for_each(|bucket| bucket.spend(len, now));
            cold.min_rate.iter_mut().for_each(|min_rate| min_rate.on_sent(now, sent, len));
        }
    }

    /// The peer has acknowledged bytes while others are queued.
    pub fn on_progress(&mut self, now: u64) {
        if self.flags.any(STARTED) {
            self.progress = now;
        }
    }

    /// Whether the time of the last sent byte matters, too.
    pub fn needs_time(&self) -> bool {
        self.flags.any(BLOCKED | PACED)
    }

    /// Starts the stall clock, if it does not run yet.
    pub fn start_stall_clock(&mut self, now: u64, sent: u64) {
        if !self.flags.any(STARTED) {
            self.flags.set(STARTED, true);
            self.progress = now;
            let min_rate = self.cold_mut().and_then(|cold| cold.min_rate.as_mut());
            min_rate.into_iter().for_each(|min_rate| min_rate.start(now, sent));
        }
    }

    /// The sink is full, and bytes remain. Returns whether it was not full before.
    pub fn on_blocked(&mut self, wants_read: bool, now: u64) -> bool {
        let is_new = !self.flags.any(BLOCKED);
        if is_new {
            self.blocked_ns = self.blocked_ns.wrapping_sub(now);
        }
        self.flags.set(BLOCKED, true);
        self.flags.set(WANTS_READ, wants_read);
        is_new
    }

    /// A flush has ended, and bytes remain.
    pub fn on_rest(&mut self) {
        self.flags.set(RESTED, true);
    }

    /// Bytes have become available that were held back.
    pub fn on_uncork(&mut self) {
        self.flags.set(APPENDED, true);
    }

    /// What has happened since the last call of this.
    pub fn take_changes(&mut self) -> Changes {
        let (has_rest, has_appended) = (self.flags.any(RESTED), self.flags.any(APPENDED));
        self.flags.set(RESTED | APPENDED, false);
        Changes { has_rest, has_appended }
    }

    /// The sink is no longer full, or that does not matter any more.
    pub fn unblock(&mut self, now: u64) {
        self.blocked_ns = self.blocked_ns(now);
        self.flags.set(BLOCKED | WANTS_READ, false);
    }

    /// How many of `available` bytes a flush may send. `sent` is the number of bytes sent in total.
    pub fn budget(&mut self, available: u64, sent: u64, now: impl FnOnce() -> u64) -> u64 {
        if self.flags.any(PACED) && available > 0 {
            self.allowance(available, sent, now())
        } else {
            available
        }
    }

    #[inline(never)]
    fn allowance(&mut self, available: u64, sent: u64, now: u64) -> u64 {
        self.start_stall_clock(now, sent);
        let bucket = self.cold_mut().and_then(|cold| cold.bucket.as_mut());
        bucket.map_or(available, |bucket| bucket.allows(now).min(available))
    }

    /// Whether the deadline has passed.
    pub fn check_deadline(&self, now: impl FnOnce() -> u64) -> bool {
        self.flags.any(PACED) && self.deadline().is_some_and(|deadline| deadline <= now())
    }

    fn deadline(&self) -> Option<u64> {
        self.cold().and_then(|cold| cold.deadline)
    }

    /// When bytes were last sent and others stayed, or when the stall clock was started. 0: it does not run.
    pub fn progress(&self) -> u64 {
        if self.flags.any(STARTED) { self.progress } else { 0 }
    }

    /// The high watermark was reached, and the low one not since.
    pub fn is_high(&self) -> bool {
        self.flags.any(HIGH)
    }

    /// How many bytes of memory may be appended before the high watermark, with `waiting` bytes queued.
    pub fn until_high(&self, waiting: u64) -> u64 {
        self.high.saturating_sub(waiting)
    }

    /// The sink was full when it was last offered bytes, and nothing was consumed since.
    pub fn is_blocked(&self) -> bool {
        self.flags.any(BLOCKED)
    }

    /// The sink continues once its connection is readable.
    pub fn wants_read(&self) -> bool {
        self.flags.any(WANTS_READ)
    }

    /// Bytes may be sent no faster than a rate.
    pub fn has_rate(&self) -> bool {
        self.cold().is_some_and(|cold| cold.bucket.is_some())
    }

    /// Nanoseconds for which the sink was full, in total.
    pub fn blocked_ns(&self, now: u64) -> u64 {
        if self.flags.any(BLOCKED) { self.blocked_ns.wrapping_add(now) } else { self.blocked_ns }
    }

    /// Nanoseconds without progress, or, below a minimum rate, for which the connection was too slow.
    pub fn stalled_ns(&mut self, now: u64, sent: u64) -> u64 {
        self.start_stall_clock(now, sent);
        let min_rate = self.cold().and_then(|cold| cold.min_rate);
        let slow = min_rate.and_then(|min_rate| min_rate.slow_for(now, sent));
        slow.unwrap_or(0).max(now.saturating_sub(self.progress))
    }

    /// Nanoseconds until a flush does something although the sink has not changed, with `waiting` bytes
    /// queued and `available` of them not corked. The pool's rate lets go in `pool_wait`. None: only the sink
    /// can help.
    pub fn retry_after_ns(
        &self,
        waiting: u64,
        available: u64,
        now: u64,
        pool_wait: u64,
    ) -> Option<u64> {
        let deadline = self.deadline().filter(|_| waiting > 0);
        let rate = if available == 0 || self.flags.any(BLOCKED) {
            None
        } else {
            let bucket = self.cold().and_then(|cold| cold.bucket);
            Some(bucket.map_or(0, |bucket| bucket.wait(available, now)).max(pool_wait))
        };
        let left = deadline.map(|deadline| deadline.saturating_sub(now));
        [left, rate].into_iter().flatten().min()
    }

    /// As it was made, with the watermarks of its configuration. Nothing is queued.
    pub fn reset(&mut self) {
        if let Some(cold) = self.cold_mut() {
            (cold.bucket, cold.min_rate, cold.deadline) = (None, None, None);
            cold.appended_file = 0;
            if let Some(marks) = cold.configured.take() {
                cold.low = Some(marks.low);
                (self.high, self.max) = (marks.high, marks.max);
            }
        }
        (self.progress, self.blocked_ns, self.flags) = (0, 0, Flags::NONE);
    }

    /// [`Policy::set_watermarks`] for marks that are not those of the configuration.
    pub fn change_watermarks(&mut self, marks: Watermarks, waiting: u64) -> Result<Hints> {
        let (high, max) = (self.high - self.file_bytes(), self.max - self.file_bytes());
        let cold = self.make_cold()?;
        let low = cold.low.unwrap_or(high / 2);
        cold.configured.get_or_insert(Watermarks { low, high, max });
        self.set_watermarks(marks, waiting)
    }

    /// Replaces the watermarks, with `waiting` bytes queued. These stay, even above a new cap. HIGH:
    /// `waiting` is at or over the new high watermark. RESUME: it is at or below the new low one after having
    /// been high.
    ///
    /// NO_MEMORY: a low watermark other than half of high needs an allocation. Nothing has changed.
    pub fn set_watermarks(&mut self, marks: Watermarks, waiting: u64) -> Result<Hints> {
        if marks.low != marks.high / 2 {
            self.make_cold()?.low = Some(marks.low);
        } else if let Some(cold) = self.cold_mut() {
            cold.low = None;
        }
        (self.high, self.max) = (marks.high + self.file_bytes(), marks.max + self.file_bytes());
        if waiting < self.high {
            return Ok(self.resume(waiting));
        }
        // With low equal to high, both hints would apply. HIGH wins, because a producer that pauses after
        // RESUME would not hear of another RESUME.
        self.flags.set(HIGH, true);
        Ok(Hints::HIGH)
    }

    /// Limits the rate to `per_second`; 0: no limit. NO_MEMORY.
    pub fn set_rate(&mut self, per_second: u64, burst: u64, now: u64) -> Result<()> {
        let bucket = &mut self.make_cold()?.bucket;
        *bucket = TokenBucket::replace(*bucket, per_second, burst, now);
        self.update_paced();
        Ok(())
    }

    /// Counts the connection as stalled while it sends less than `per_second` over `window` nanoseconds; 0:
    /// never. `sent` is the number of bytes sent in total. NO_MEMORY.
    pub fn set_min_rate(
        &mut self,
        per_second: u64,
        window: u64,
        now: u64,
        sent: u64,
    ) -> Result<()> {
        let min_rate = (per_second > 0).then(|| MinRate::new(per_second, window, now, sent));
        self.make_cold()?.min_rate = min_rate;
        self.update_paced();
        Ok(())
    }

    /// Sets the time at which what is still queued is discarded. NO_MEMORY.
    pub fn set_deadline(&mut self, deadline: u64) -> Result<()> {
        self.make_cold()?.deadline = Some(deadline);
        self.update_paced();
        Ok(())
    }

    fn update_paced(&mut self) {
        let is_paced = self.cold().is_some_and(|cold| {
            cold.bucket.is_some() || cold.min_rate.is_some() || cold.deadline.is_some()
        });
        self.flags.set(PACED, is_paced);
    }

    /// Borrowed pieces shorter than this are copied.
    pub fn copy_below(&self) -> u32 {
        self.copy_below
    }

    /// Sets [`Policy::copy_below`].
    pub fn set_copy_below(&mut self, bytes: u32) {
        self.copy_below = bytes;
    }

    /// Parts of shared payloads shorter than this are copied.
    pub fn share_below(&self) -> u64 {
        self.cold().and_then(|cold| cold.share_below).unwrap_or(SHARE_BELOW)
    }

    /// Sets [`Policy::share_below`]. NO_MEMORY.
    pub fn set_share_below(&mut self, bytes: u64) -> Result<()> {
        self.make_cold()?.share_below = Some(bytes);
        Ok(())
    }

    /// Bytes of memory that the pool's budget does not refuse to this queue.
    pub fn reserve(&self) -> u64 {
        self.cold().and_then(|cold| cold.reserve).unwrap_or(RESERVE_BYTES)
    }

    /// Sets [`Policy::reserve`]. NO_MEMORY.
    pub fn set_reserve(&mut self, bytes: u64) -> Result<()> {
        self.make_cold()?.reserve = Some(bytes);
        Ok(())
    }

    /// Bytes queued in files.
    pub fn file_bytes(&self) -> u64 {
        self.cold().map_or(0, |cold| cold.file_bytes)
    }

    /// Sent bytes need no further accounting.
    pub fn is_plain(&self) -> bool {
        self.cold.is_none() && !self.flags.any(HIGH | BLOCKED | PACED)
    }

    /// The cold fields, if they are allocated.
    pub fn cold(&self) -> Option<&Cold> {
        self.cold.as_deref()
    }

    /// The cold fields, if they are allocated.
    pub fn cold_mut(&mut self) -> Option<&mut Cold> {
        self.cold.as_deref_mut()
    }

    /// The cold fields, allocated now if they were not. NO_MEMORY.
    pub fn make_cold(&mut self) -> Result<&mut Cold> {
        let cold = match self.cold.take() {
            Some(cold) => cold,
            None => try_box(Cold::default())?,
        };
        Ok(self.cold.insert(cold))
    }
}
