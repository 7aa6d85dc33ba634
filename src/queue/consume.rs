//! How bytes are shown, consumed, and their owners taken for release.

use super::{CLOSED, FLUSHING, Flushed, Queue, RELEASE, RESERVED};
use crate::block::Consumed;
use crate::errno::{Errno, Result};
use crate::iovec::Extent;
use crate::policy::cold::Offered;
use crate::policy::{Hints, UNBOUNDED};
use crate::pool::Pool;
use crate::slot::Slot;
use libc::c_int;

impl Queue {
    /// Passes the available extents to `take`, oldest first, until that returns false. The memory stays where
    /// it is until it is consumed.
    pub fn each_extent(&self, take: impl FnMut(Extent) -> bool) {
        self.stream.each_extent(take);
    }

    /// The first available extent.
    pub fn first_extent(&self) -> Option<Extent> {
        let mut first = None;
        self.each_extent(|extent| {
            first = Some(extent);
            false
        });
        first
    }

    /// The host has sent the first `len` bytes by other means.
    ///
    /// INVALID: fewer are available; nothing is consumed. BUSY: a flush is in progress. A failed queue
    /// returns its error. TIMED_OUT: the deadline has passed, and the queue has failed now.
    pub fn consume(&mut self, pool: &Pool, len: u64) -> Result<Hints> {
        self.admit_flush()?;
        if len > self.available() {
            return Err(Errno::INVALID);
        }
        let hints = self.on_sent(pool, len);
        self.note_progress(pool, len);
        self.check_deadline(pool)?;
        Ok(hints)
    }

    /// Whether a flush may begin. BUSY: one is in progress. A failed queue returns its error.
    #[inline(always)]
    pub(super) fn admit_flush(&self) -> Result<()> {
        // A failed queue is always CLOSED, so one test covers the usual case.
        if !self.flags.any(FLUSHING | CLOSED) {
            return Ok(());
        }
        match self.failure() {
            Some(errno) => Err(errno),
            None if self.flags.any(FLUSHING) => Err(Errno::BUSY),
            None => Ok(()),
        }
    }

    /// Begins a flush, and returns how many bytes it may send.
    ///
    /// BUSY: one is in progress. TIMED_OUT: the deadline has passed; everything was discarded. A failed queue
    /// returns its error.
    pub fn begin_flush(&mut self, pool: &Pool) -> Result<u64> {
        self.admit_flush()?;
        self.check_deadline(pool)?;
        self.flags.set(FLUSHING, true);
        let budget = self.policy.budget(self.available(), self.sent(), || pool.now());
        Ok(if pool.has_rate() { budget.min(pool.rate_allowance()) } else { budget })
    }

    /// A flush is in progress.
    pub fn is_flushing(&self) -> bool {
        self.flags.any(FLUSHING)
    }

    /// Ends the flush that [`Queue::begin_flush`] began.
    #[inline(always)]
    pub fn end_flush(&mut self, pool: &Pool, flushed: Flushed) {
        self.flags.set(FLUSHING, false);
        if flushed.calls > 0 {
            self.counters.flushes += 1;
            self.counters.calls += u64::from(flushed.calls);
            self.counters.short_writes += u64::from(flushed.short_writes);
        }
        self.note_progress(pool, flushed.sent);
        if self.available() > 0 {
            self.note_rest(pool, flushed);
        }
    }

    /// `len` bytes were sent since the last call of this. Reads the clock only if the policy needs the time.
    #[inline(always)]
    pub(super) fn note_progress(&mut self, pool: &Pool, len: u64) {
        if len > 0 && (self.waiting() > 0 || self.policy.needs_time()) {
            self.policy.on_sent(len, self.counters.sent, pool.now());
        }
        if pool.has_rate() {
            pool.spend_rate(len);
        }
    }

    /// Updates the policy after a flush that left bytes.
    #[inline(never)]
    pub(super) fn note_rest(&mut self, pool: &Pool, flushed: Flushed) {
        let now = pool.now();
        self.policy.on_rest();
        self.policy.start_stall_clock(now, self.sent());
        if flushed.is_blocked {
            let is_new = self.policy.on_blocked(flushed.wants_read, now);
            self.counters.blocked += u64::from(is_new);
        } else {
            // The flush ended for another reason than a full sink, so an earlier BLOCKED is over.
            self.policy.unblock(now);
        }
    }

    /// Begins a flush of the caller's own memory past this queue, if nothing is queued and nothing holds it
    /// back. Returns whether it has begun. `memory`: how many bytes of it have to be within the cap.
    ///
    /// BUSY: a flush is in progress. Errors as for an append.
    pub fn begin_write_through(&mut self, pool: &Pool, memory: u64) -> Result<bool> {
        if self.flags.any(FLUSHING) {
            return Err(Errno::BUSY);
        }
        self.admit(memory)?;
        let is_paced = self.policy.has_rate() || pool.has_rate();
        let is_free = self.waiting() == 0 && !self.stream.has_gates() && !is_paced;
        self.flags.set(FLUSHING, is_free);
        Ok(is_free)
    }

    /// `len` bytes were sent past this empty queue.
    pub fn on_write_through(&mut self, len: u64) {
        self.counters.sent += len;
        if let Some(messages) = &mut self.messages {
            messages.on_removed(len, true, UNBOUNDED);
        }
    }

    /// The first `len` bytes, all available, were sent. A flush calls this after each call of its sink, and
    /// passes the total to [`Queue::end_flush`]. RESUME: what is queued has dropped to the low watermark.
    #[inline(always)]
    pub fn on_sent(&mut self, pool: &Pool, len: u64) -> Hints {
        self.counters.sent += len;
        self.remove_front(pool, len, 0);
        if self.policy.is_plain() { Hints::NONE } else { self.on_sent_slow(pool, len) }
    }

    /// [`Queue::on_sent`] for a queue with policy beyond the watermarks.
    #[inline(never)]
    pub(super) fn on_sent_slow(&mut self, pool: &Pool, len: u64) -> Hints {
        if len == 0 {
            return Hints::NONE;
        }
        self.forget_offered(pool);
        self.policy.on_consume(self.waiting())
    }

    /// Consumes the first `len` bytes, for `reason`: 0 when they were sent.
    #[inline(always)]
    pub(super) fn remove_front(&mut self, pool: &Pool, len: u64, reason: c_int) {
        self.note_peak();
        if let Some(messages) = &mut self.messages {
            let set = self.stream.set_before_hole().unwrap_or(UNBOUNDED);
            messages.on_removed(len, reason >= 0, set);
        }
        let consumed = self.stream.consume(len, reason);
        self.on_consumed(pool, consumed);
    }

    /// Updates the counts after something was consumed, and returns the blocks that are not needed any more.
    #[inline(always)]
    pub(super) fn on_consumed(&mut self, pool: &Pool, consumed: Consumed) {
        if consumed.slots > 0 || consumed.file > 0 {
            self.on_slots_consumed(consumed);
        }
        self.give_idle(pool);
    }

    #[inline(never)]
    pub(super) fn on_slots_consumed(&mut self, consumed: Consumed) {
        self.unreleased += consumed.slots;
        if consumed.slots > 0 {
            self.flags.set(RELEASE, true);
        }
        self.policy.on_file_removed(consumed.file);
    }

    /// Has to be called before the number of queued bytes drops: an append that fits does not track the peak.
    pub(super) fn note_peak(&mut self) {
        self.counters.peak = self.counters.peak.max(self.waiting());
    }

    /// Returns the blocks that are not needed any more to the pool.
    #[inline(always)]
    pub(super) fn give_idle(&mut self, pool: &Pool) {
        let is_held = self.slots > 0 || self.flags.any(RESERVED) || self.stream.has_holes();
        if self.waiting() > 0 || is_held {
            while let Some(block) = self.stream.pop_completed() {
                self.give(pool, block);
            }
            return;
        }
        self.give_all(pool);
    }

    /// The next completed slot. The caller releases it once nothing is locked. Returns the memory that was
    /// held for it.
    #[inline(always)]
    pub fn next_released(&mut self, pool: &Pool) -> Option<Slot> {
        loop {
            let slot = if self.unreleased > 0 {
                let completed = self.stream.next_released()?;
                self.unreleased -= 1;
                self.slots -= 1;
                self.give_idle(pool);
                let slot =
                    if completed.is_carried() { self.land(completed) } else { Some(completed) };
                let Some(slot) = slot else { continue };
                slot
            } else {
                self.next_acked()?
            };
            pool.unpin(slot.pinned());
            self.held -= slot.memory();
            // A part of a message has no owner of its own.
            if slot.owner().release.is_some() {
                return Some(slot);
            }
        }
    }

    /// Allocates what [`Queue::set_offered`] needs. NO_MEMORY.
    pub fn may_offer(&mut self) -> Result<()> {
        self.policy.make_cold().map(drop)
    }

    /// Whether a sink has refused what is at the front, and has to be offered it again.
    pub(super) fn has_offered(&self) -> bool {
        self.policy.cold().is_some_and(|cold| cold.offered.is_some())
    }

    /// Takes what a sink was offered and refused, if it is still at the front.
    pub fn take_offered(&mut self) -> Option<Offered> {
        self.policy.cold_mut().and_then(|cold| cold.offered.take())
    }

    /// Remembers what a sink has refused and has to be offered again. [`Queue::may_offer`] has allocated what
    /// this needs.
    pub fn set_offered(&mut self, offered: Offered) {
        if let Some(cold) = self.policy.cold_mut() {
            cold.offered = Some(offered);
        }
    }

    /// What a sink has refused is not at the front any more.
    #[inline(never)]
    pub(super) fn forget_offered(&mut self, pool: &Pool) {
        if let Some((block, _)) = self.take_offered().and_then(|offered| offered.copy) {
            self.give(pool, block);
        }
    }
}
