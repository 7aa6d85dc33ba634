//! Appends: copied, borrowed or reserved bytes, or all of another queue.

use super::{CORKED, FLUSHING, Queue, RESERVED};
use crate::block::SLOT;
use crate::errno::{Errno, Result};
use crate::iovec::IoVecs;
use crate::policy::{Hints, UNBOUNDED};
use crate::pool::Pool;
use crate::slot::{Kind, Slot};

/// How many slots that refer to no memory (files, notifications) are admitted before their own size is held
/// against `max`.
const FREE_SLOTS: u32 = 64;

impl Queue {
    /// Appends a copy of `slices`, `total` bytes together: all of them or none.
    ///
    /// PIPE: closed. BUSY: memory is reserved. NO_BUFFERS: over the cap or the pool's budget. NO_MEMORY. A
    /// failed queue returns the error that ended it.
    #[inline(always)]
    pub fn append<'a>(
        &mut self,
        pool: &Pool,
        total: usize,
        slices: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Hints> {
        if total == 0 {
            return self.append_nothing();
        }
        self.admit(total as u64)?;
        if total > self.stream.space() {
            self.add_blocks(pool, total)?;
        }
        self.stream.write_all(slices);
        Ok(self.on_append(total as u64))
    }

    /// Appends no bytes: a success, unless the queue is closed or has failed.
    pub fn append_nothing(&self) -> Result<Hints> {
        self.refusal().map_or(Ok(Hints::NONE), Err)
    }

    /// Takes blocks for `total` more bytes, or none. Errors as for [`Queue::append`].
    #[inline(always)]
    pub(super) fn add_blocks(&mut self, pool: &Pool, total: usize) -> Result<()> {
        let lacking = total - self.stream.space();
        if lacking > pool.capacity() {
            return self.add_several_blocks(pool, lacking);
        }
        self.stream.add_block(pool.take()?);
        Ok(())
    }

    #[inline(never)]
    pub(super) fn add_several_blocks(&mut self, pool: &Pool, lacking: usize) -> Result<()> {
        let blocks = pool.take_many(lacking)?;
        while let Some(block) = blocks.pop() {
            self.stream.add_block(block);
        }
        Ok(())
    }

    /// Appends a copy of `iovecs` without their first `skip` bytes, cut off at the high watermark. Returns
    /// how many bytes were copied. AGAIN: none. Otherwise as for [`Queue::append`].
    pub fn append_up_to_high(&mut self, pool: &Pool, iovecs: IoVecs, skip: usize) -> Result<usize> {
        let until_high = self.policy.until_high(self.waiting());
        let len = (iovecs.total() - skip).min(usize::try_from(until_high).unwrap_or(usize::MAX));
        if len == 0 && iovecs.total() > skip {
            return Err(Errno::AGAIN);
        }
        self.append(pool, len, iovecs.part(skip, len))?;
        Ok(len)
    }

    /// Appends `slot`. On success the queue has to release its owner, on failure the caller keeps it. Errors
    /// as for [`Queue::append`].
    #[inline(always)]
    pub fn append_slot(&mut self, pool: &Pool, slot: Slot) -> Result<Hints> {
        self.admit(slot.memory())?;
        if slot.memory() == 0 {
            self.admit_slot(&slot)?;
        }
        let block = if self.stream.has_space_for_slot() { None } else { Some(pool.take()?) };
        if let Err(errno) = pool.pin(slot.pinned()) {
            block.into_iter().for_each(|block| pool.give(block));
            return Err(errno);
        }
        if let Some(block) = block {
            self.stream.push_block(block);
        }
        self.stream.push_slot(slot);
        self.slots += 1;
        self.counters.appended[slot.kind() as usize] += slot.len();
        if slot.kind() == Kind::File {
            self.policy.on_file(slot.len());
        }
        if slot.len() == 0 {
            self.consume_notifications(pool);
            return Ok(Hints::NONE);
        }
        Ok(self.on_append(slot.len()))
    }

    /// Admits a slot without memory: a notification, or a part of a file. NO_BUFFERS: the slots themselves
    /// take more memory than the cap, or the number of queued bytes would overflow. NO_MEMORY: no memory for
    /// the count of file bytes.
    #[cold]
    pub(super) fn admit_slot(&mut self, slot: &Slot) -> Result<()> {
        let bytes = u64::from(self.slots) * SLOT as u64;
        let exceeds_cap = self.slots >= FREE_SLOTS && !self.policy.fits_cap(bytes);
        if exceeds_cap || !self.can_count(slot.len()) {
            return Err(Errno::NO_BUFFERS);
        }
        if slot.kind() == Kind::File { self.policy.make_cold().map(drop) } else { Ok(()) }
    }

    /// Whether `len` more bytes can be counted. Without files, the cap sees to that.
    fn can_count(&self, len: u64) -> bool {
        len <= UNBOUNDED.saturating_sub(self.waiting())
    }

    /// Completes the notifications that no byte precedes.
    pub(super) fn consume_notifications(&mut self, pool: &Pool) {
        if self.available() == 0 {
            self.remove_front(pool, 0, 0);
        }
    }

    /// Reserves `len` contiguous bytes to write into, until the next commit. Errors as for [`Queue::append`].
    pub fn reserve(&mut self, pool: &Pool, len: usize) -> Result<*mut u8> {
        self.admit(len as u64)?;
        let reserved = u32::try_from(len).map_err(|_| Errno::NO_MEMORY)?;
        let memory = match self.stream.reserve(len) {
            Some(memory) if len > 0 => memory,
            _ => self.stream.reserve_block(pool.take_contiguous(len)?),
        };
        self.flags.set(RESERVED, true);
        self.reserved = reserved;
        Ok(memory)
    }

    /// Appends the first `used` reserved bytes and ends the reservation.
    ///
    /// INVALID: nothing is reserved, or less than `used`; the reservation stays. A closed or failed queue
    /// returns its error, and the reservation ends.
    pub fn commit(&mut self, pool: &Pool, used: usize) -> Result<Hints> {
        let refusal = self.refusal();
        let is_reserved = self.flags.any(RESERVED);
        if refusal.is_none() && (!is_reserved || used > self.reserved as usize) {
            return Err(Errno::INVALID);
        }
        self.flags.set(RESERVED, false);
        let used = if refusal.is_none() { used } else { 0 };
        if let Some(block) = self.stream.commit(used) {
            pool.give(block);
        }
        let hints = if used > 0 { self.on_append(used as u64) } else { Hints::NONE };
        self.give_idle(pool);
        refusal.map_or(Ok(hints), Err)
    }

    /// Moves all of `from` to the end of this queue: all or nothing. Nothing is copied, except a short
    /// stream. The bytes count as sent by `from`.
    ///
    /// BUSY: either queue has memory reserved, or `from` is corked, is being flushed, or has owners to
    /// release. Otherwise as for [`Queue::append`]; a failed `from` returns its error.
    pub fn splice(&mut self, pool: &Pool, from: &mut Queue, from_pool: &Pool) -> Result<Hints> {
        if let Some(errno) = from.failure() {
            return Err(errno);
        }
        let is_busy = from.flags.any(FLUSHING | RESERVED | CORKED);
        if is_busy || from.unreleased > 0 {
            return Err(Errno::BUSY);
        }
        let (len, file_bytes) = (from.waiting(), from.policy.file_bytes());
        if !self.can_count(len) {
            return Err(Errno::NO_BUFFERS);
        }
        self.admit(len - file_bytes)?;
        if len == 0 {
            return Ok(Hints::NONE);
        }
        if file_bytes > 0 {
            self.policy.make_cold()?;
        }
        let usage = from.stream.memory_usage(|_| 1);
        pool.adopt(from_pool, usage.allocated as usize, usage.borrowed as usize)?;
        self.policy.on_file(file_bytes);
        from.policy.on_file_removed(file_bytes);
        from.note_peak();
        from.forget_offered(from_pool);
        if let Some(copied) = self.stream.join(&mut from.stream) {
            pool.give(copied);
        }
        self.slots += std::mem::take(&mut from.slots);
        for (appended, waiting) in self.counters.appended.iter_mut().zip(usage.waiting) {
            *appended += waiting;
        }
        from.counters.sent += len;
        from.policy.on_splice(|| from_pool.now());
        Ok(self.on_append(len))
    }
}
