//! Appends: copied, borrowed or reserved bytes, or all of another queue.

use super::{FLUSHING, Queue, RESERVED};
use crate::block::SLOT;
use crate::errno::{Errno, Result};
use crate::iovec::IoVecs;
use crate::policy::{Hints, UNBOUNDED};
use crate::pool::Pool;
use crate::slot::{Kind, Slot};

/// How many slots that refer to no memory (files, notifications) are admitted before their own size is held
/// against `max`.
const FREE_SLOTS: u32 = 64;

/// A part of an append.
pub enum Piece<'a> {
    /// Bytes to copy.
    Copied(&'a [u8]),
    /// Bytes that somebody else owns, or a notification.
    Slot(Slot),
}

/// What an append needs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Size {
    /// Bytes to copy.
    pub copied: usize,
    /// Slots.
    pub slots: u32,
    /// Memory that the slots borrow.
    pub pinned: usize,
    /// Bytes of files.
    pub file: u64,
    /// All bytes.
    pub bytes: u64,
}

impl Size {
    /// `len` bytes to copy.
    pub fn copied(len: usize) -> Size {
        Size { copied: len, bytes: len as u64, ..Size::default() }
    }

    /// One slot.
    pub fn of(slot: &Slot) -> Size {
        let mut size = Size::default();
        size.add_slot(slot);
        size
    }

    /// Adds `len` bytes to copy.
    pub fn add_copied(&mut self, len: usize) {
        self.copied += len;
        self.bytes += len as u64;
    }

    /// Adds a slot.
    pub fn add_slot(&mut self, slot: &Slot) {
        self.slots += 1;
        self.pinned += slot.pinned();
        self.file += slot.len() - slot.memory();
        self.bytes += slot.len();
    }

    /// Bytes of memory.
    pub fn memory(&self) -> u64 {
        self.bytes - self.file
    }

    fn is_nothing(&self) -> bool {
        self.bytes == 0 && self.slots == 0
    }
}

impl Queue {
    /// Appends a copy of `slices`, `total` bytes together: all of them or none. Errors as for
    /// [`Queue::begin_append`].
    #[inline(always)]
    pub fn append<'a>(
        &mut self,
        pool: &Pool,
        total: usize,
        slices: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Hints> {
        let size = Size::copied(total);
        self.begin_append(pool, &size)?;
        for bytes in slices {
            self.stream.write_piece(bytes);
        }
        Ok(self.end_append(pool, &size))
    }

    /// Appends `slot`. On success the queue has to release its owner, on failure the caller keeps it. Errors
    /// as for [`Queue::begin_append`].
    #[inline(always)]
    pub fn append_slot(&mut self, pool: &Pool, slot: Slot) -> Result<Hints> {
        let size = Size::of(&slot);
        self.begin_append(pool, &size)?;
        self.push_slot(slot);
        Ok(self.end_append(pool, &size))
    }

    /// Appends `pieces`, of which `size` is the sum: all of them or none. Errors as for
    /// [`Queue::begin_append`].
    #[inline(always)]
    pub fn append_pieces<'a>(
        &mut self,
        pool: &Pool,
        size: &Size,
        pieces: impl Iterator<Item = Piece<'a>>,
    ) -> Result<Hints> {
        self.begin_append(pool, size)?;
        for piece in pieces {
            match piece {
                Piece::Copied(bytes) => self.stream.write_piece(bytes),
                Piece::Slot(slot) => self.push_slot(slot),
            }
        }
        Ok(self.end_append(pool, size))
    }

    /// Makes sure that an append of this `size` cannot fail any more, or changes nothing.
    ///
    /// PIPE: closed. BUSY: memory is reserved. NO_BUFFERS: over the cap or the pool's budget. NO_MEMORY. A
    /// failed queue returns the error that ended it.
    #[inline(always)]
    fn begin_append(&mut self, pool: &Pool, size: &Size) -> Result<()> {
        if size.is_nothing() {
            return self.append_nothing().map(drop);
        }
        self.admit(size.memory())?;
        self.admit_message(size.bytes)?;
        if size.memory() == 0 || size.file > 0 {
            self.admit_slots(size.bytes, size.file)?;
        }
        self.pin(pool, size.pinned)?;
        if let Err(errno) = self.make_space(pool, size) {
            self.unpin(pool, size.pinned);
            return Err(errno);
        }
        self.stream.open_room();
        Ok(())
    }

    /// Accounts for an append that [`Queue::begin_append`] has begun.
    #[inline(always)]
    fn end_append(&mut self, pool: &Pool, size: &Size) -> Hints {
        if size.slots > 0 {
            self.on_slots(pool, size);
        }
        if size.bytes == 0 { Hints::NONE } else { self.on_append(size.bytes) }
    }

    /// Appends no bytes: a success, unless the queue is closed or has failed.
    pub fn append_nothing(&self) -> Result<Hints> {
        self.refusal().map_or(Ok(Hints::NONE), Err)
    }

    /// Takes blocks for what does not fit into the last one, or none. Errors as for
    /// [`Queue::begin_append`].
    #[inline(always)]
    fn make_space(&mut self, pool: &Pool, size: &Size) -> Result<()> {
        let (space, all) = (self.stream.space(), size.copied + size.slots as usize * SLOT);
        if all <= space
            && (size.slots == 0
                || !self.stream.has_gates()
                || self.has_slots_behind_gates(pool, size.slots)?)
        {
            return Ok(());
        }
        // With slots, the last block may be left as it is: they fit into new ones.
        let lacking = if size.slots == 0 { all - space } else { all };
        self.add_blocks(pool, lacking, size.slots > 0)
    }

    /// Whether the last block takes `slots`, if they fit. NO_BUFFERS, NO_MEMORY: there is no spare block for what
    /// is behind the cork.
    #[inline(never)]
    fn has_slots_behind_gates(&mut self, pool: &Pool, slots: u32) -> Result<bool> {
        if self.stream.lacks_spare(slots) {
            let spare = self.take_spare(pool)?;
            self.stream.set_spare(spare);
        }
        Ok(slots <= self.stream.slots_taken())
    }

    /// Appends `slot`. There is space for it in the last block, or in one linked behind it.
    #[inline(always)]
    fn push_slot(&mut self, slot: Slot) {
        if !self.stream.has_space_for_slot() {
            self.stream.next_block();
        }
        self.stream.push_slot(slot);
        self.stream.open_room();
        // What it borrows is held since it was pinned.
        self.held += slot.memory() - slot.pinned() as u64;
        match slot.kind() {
            Kind::Borrowed => self.counters.borrowed += slot.len(),
            Kind::Shared => self.counters.shared += slot.len(),
            Kind::File => self.policy.count_file(slot.len()),
        }
    }

    /// Accounts for the slots of an append.
    #[inline(always)]
    fn on_slots(&mut self, pool: &Pool, size: &Size) {
        self.slots += size.slots;
        if size.file > 0 {
            self.policy.on_file(size.file);
        }
        if size.slots > 1 || size.copied > 0 {
            while let Some(block) = self.stream.take_unused() {
                self.give(pool, block);
            }
        }
        if size.bytes == 0 {
            self.consume_notifications(pool);
        }
    }

    /// Appends a copy of `iovecs` without their first `skip` bytes, cut off at the high watermark. Returns
    /// how many bytes were copied. AGAIN: none, also if the cap or the budget refuse them. Otherwise as for
    /// [`Queue::append`].
    pub fn append_up_to_high(&mut self, pool: &Pool, iovecs: IoVecs, skip: usize) -> Result<usize> {
        let until_high = self.policy.until_high(self.waiting());
        let len = (iovecs.total() - skip).min(usize::try_from(until_high).unwrap_or(usize::MAX));
        if len == 0 && iovecs.total() > skip {
            return Err(Errno::AGAIN);
        }
        match self.append(pool, len, iovecs.part(skip, len)) {
            // The caller waits until its socket is writable, as after a full high watermark.
            Err(Errno::NO_BUFFERS) => Err(Errno::AGAIN),
            result => result.map(|_| len),
        }
    }

    /// Admits slots without memory: notifications, or parts of files. NO_BUFFERS: the slots themselves take
    /// more memory than the cap, or the number of queued bytes would overflow. NO_MEMORY: no memory for the
    /// count of file bytes.
    #[cold]
    fn admit_slots(&mut self, bytes: u64, file: u64) -> Result<()> {
        let memory = u64::from(self.slots) * SLOT as u64;
        let exceeds_cap = self.slots >= FREE_SLOTS && !self.policy.fits_cap(memory);
        if exceeds_cap || !self.can_count(bytes) {
            return Err(Errno::NO_BUFFERS);
        }
        if file > 0 { self.policy.make_cold().map(drop) } else { Ok(()) }
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
        self.admit_message(len as u64)?;
        let reserved = u32::try_from(len).map_err(|_| Errno::NO_MEMORY)?;
        let memory = match self.stream.reserve(len) {
            Some(memory) if len > 0 => memory,
            _ => {
                let block = self.take_one_block(pool, len)?;
                self.stream.reserve_block(block)
            }
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
            self.give(pool, block);
        }
        let hints = if used > 0 { self.on_append(used as u64) } else { Hints::NONE };
        self.give_idle(pool);
        refusal.map_or(Ok(hints), Err)
    }

    /// Moves the first `most` available bytes of `from`, or all, to the end of this queue: all or nothing.
    /// Nothing is copied, except a short stream, and what shares a block with bytes that stay. The bytes
    /// count as sent by `from`.
    ///
    /// BUSY: either queue has memory reserved, or `from` is corked or has a hole, is being flushed, has owners to
    /// release, or was refused bytes of which some would stay. Otherwise as for [`Queue::append`]; a failed `from`
    /// returns its error.
    pub fn splice(
        &mut self,
        pool: &Pool,
        from: &mut Queue,
        from_pool: &Pool,
        most: u64,
    ) -> Result<Hints> {
        if let Some(errno) = from.failure() {
            return Err(errno);
        }
        let is_busy = from.flags.any(FLUSHING | RESERVED) || from.stream.has_gates();
        if is_busy || from.unreleased > 0 {
            return Err(Errno::BUSY);
        }
        if most == 0 || from.waiting() == 0 {
            return self.admit(0).map(|()| Hints::NONE);
        }
        // Its sink needs the same bytes at the same address again.
        if most < from.waiting() && from.has_offered() {
            return Err(Errno::BUSY);
        }
        from.part_with_carried()?;
        let rest = from.split_off(from_pool, most, 0)?;
        let len = from.waiting();
        let spliced = self.splice_all(pool, from, from_pool);
        if let Some(rest) = rest {
            from.put_back(rest);
        }
        if spliced.is_ok() {
            from.policy.on_splice(len, from.waiting(), || from_pool.now());
        }
        spliced
    }

    /// Moves all of `from`, which is not empty.
    fn splice_all(&mut self, pool: &Pool, from: &mut Queue, from_pool: &Pool) -> Result<Hints> {
        let (len, file_bytes) = (from.waiting(), from.policy.file_bytes());
        if !self.can_count(len) {
            return Err(Errno::NO_BUFFERS);
        }
        self.admit(len - file_bytes)?;
        self.admit_message(len)?;
        if file_bytes > 0 {
            self.policy.make_cold()?;
        }
        if let (Some(messages), Some(others)) = (&mut self.messages, &from.messages) {
            messages.reserve_for(others)?;
        }
        let usage = from.stream.memory_usage();
        let (allocated, borrowed) = (usage.allocated as usize, usage.borrowed as usize);
        self.within_reserve(allocated.saturating_add(borrowed), |admission| {
            pool.adopt(from_pool, allocated, borrowed, admission)
        })?;
        self.policy.on_file(file_bytes);
        from.policy.on_file_removed(file_bytes);
        from.forget_offered(from_pool);
        self.splice_messages(from, len);
        self.held += usage.held();
        from.held -= usage.held();
        if let Some(copied) = self.stream.join(&mut from.stream) {
            self.give(pool, copied);
        }
        self.slots += std::mem::take(&mut from.slots);
        let [borrowed, shared, file] = usage.waiting;
        self.counters.borrowed += borrowed;
        self.counters.shared += shared;
        self.policy.count_file(file);
        from.counters.sent += len;
        Ok(self.on_append(len))
    }
}
