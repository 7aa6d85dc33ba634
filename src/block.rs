//! One block of memory that holds a part of a stream.
//!
//! ```text
//!   | header | sent | copied bytes ... | space .... | slot | slot | slot |
//!                   ^ start            ^ end         2      1      0
//! ```
//!
//! Copied bytes grow from the front. Slots, for bytes that others own, grow from the back. Each slot has the
//! offset in the copied bytes that it precedes. So the headers of many borrowed values share one block, and
//! contiguous copied bytes need no description.
//!
//! A block never moves and never grows, so the kernel may be given its bytes while others are appended behind
//! them.

#![allow(unsafe_code)]

pub mod chain;
mod gate;
pub mod stack;

use crate::allocator::Allocator;
use crate::iovec::{Extent, IoVec};
use crate::pages::PAGE;
use crate::slot::{Kind, Owner, Slot};
use chain::cut::Cut;
use libc::c_int;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr::{self, NonNull};

/// The header of a block, before its bytes.
struct Header {
    /// The next block of the chain or stack, which this one owns.
    next: Link,
    /// Where its memory came from.
    allocator: Allocator,
    /// How many bytes of the slot `sent_slots` are consumed.
    head_offset: u64,
    /// Bytes after this header, slots included.
    capacity: u32,
    /// Offset of the first copied byte that is not consumed. `start <= end`.
    start: u32,
    /// Offset past the last copied byte. Not valid in the last block of a chain, where the [`Cursor`] has it:
    /// so an append touches one cache line less.
    end: u32,
    /// Slots at the back of the block. The first `sent_slots` are consumed, and the owners of the first
    /// `released_slots` are released. `released_slots <= sent_slots <= slots`.
    slots: u32,
    sent_slots: u32,
    released_slots: u32,
}

/// Bytes of a block's header.
pub const HEADER: usize = size_of::<Header>();

/// Bytes of a block that a slot takes.
pub const SLOT: usize = size_of::<Slot>();

/// The most bytes that a block holds, so that offsets fit 32 bits.
pub const MAX_CAPACITY: usize = (u32::MAX as usize) & !(align_of::<Slot>() - 1);

/// One block, owned.
#[repr(transparent)]
pub struct Block(NonNull<Header>);

/// An owning pointer to a block. It does not drop the block: a chain or a stack drops its blocks one by one,
/// because a recursive drop would overflow the call stack.
struct Link(Option<NonNull<Header>>);

impl Link {
    const NONE: Link = Link(None);

    fn set(&mut self, block: Block) {
        debug_assert!(self.is_none());
        self.0 = Some(ManuallyDrop::new(block).0);
    }

    fn take(&mut self) -> Option<Block> {
        self.0.take().map(Block)
    }

    fn is_none(&self) -> bool {
        self.0.is_none()
    }

    fn get(&self) -> Option<&Block> {
        // SAFETY: this link owns the block, and is borrowed for as long as the result is.
        unsafe { block_at(&self.0) }
    }

    fn get_mut(&mut self) -> Option<&mut Block> {
        // SAFETY: as for get().
        unsafe { block_at_mut(&mut self.0) }
    }
}

/// The block at an address.
///
/// # Safety
/// It lives, and nobody changes it, for as long as `'a`.
unsafe fn block_at(block: &Option<NonNull<Header>>) -> Option<&Block> {
    // SAFETY: Block is a transparent NonNull<Header>; as the caller says.
    block.as_ref().map(|block| unsafe { &*ptr::from_ref(block).cast() })
}

/// The block at an address.
///
/// # Safety
/// It lives, and nobody else uses it, for as long as `'a`.
unsafe fn block_at_mut(block: &mut Option<NonNull<Header>>) -> Option<&mut Block> {
    // SAFETY: as for block_at().
    block.as_mut().map(|block| unsafe { &mut *ptr::from_mut(block).cast() })
}

// SAFETY: a link owns its block, and blocks are Send.
unsafe impl Send for Link {}

// SAFETY: only the block owns its memory, and nothing in it is bound to a thread. The host promises that its
// callbacks may run on the threads that it uses (SENDQ_THREADSAFE).
unsafe impl Send for Block {}

/// What was consumed of a block, or of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Consumed {
    /// Completed slots.
    pub slots: u32,
    /// Bytes.
    pub bytes: u64,
    /// How many of them were of files.
    pub file: u64,
}

impl Block {
    /// An empty block that takes `footprint` bytes of `allocator`, a size that [`Block::rounded`] returned; None
    /// if there is no memory.
    pub fn allocate(footprint: usize, allocator: &Allocator) -> Option<Block> {
        let capacity = footprint.checked_sub(HEADER).filter(|bytes| *bytes <= MAX_CAPACITY)? as u32;
        let memory = allocator.take(footprint)?.cast::<Header>();
        let header = Header {
            next: Link::NONE,
            allocator: allocator.clone(),
            head_offset: 0,
            capacity,
            start: 0,
            end: 0,
            slots: 0,
            sent_slots: 0,
            released_slots: 0,
        };
        // SAFETY: the memory is ours, aligned for a header and large enough.
        unsafe { memory.write(header) };
        Some(Block(memory))
    }

    /// The size of a block of at least `footprint` bytes; None if it would be too large.
    pub const fn rounded(footprint: usize) -> Option<usize> {
        let align = if footprint < PAGE { align_of::<Slot>() } else { PAGE };
        match footprint.checked_next_multiple_of(align) {
            Some(rounded) if rounded <= HEADER + MAX_CAPACITY => Some(rounded),
            _ => None,
        }
    }

    fn header(&self) -> &Header {
        // SAFETY: the block is owned, and its header initialised.
        unsafe { self.0.as_ref() }
    }

    fn header_mut(&mut self) -> &mut Header {
        // SAFETY: the block is owned and borrowed for this alone, and its header initialised.
        unsafe { self.0.as_mut() }
    }

    /// Where the byte at `offset` is.
    fn at(&self, offset: u32) -> *mut u8 {
        // SAFETY: offsets are at most the capacity, and so inside the block or at its end.
        unsafe { self.0.as_ptr().add(1).cast::<u8>().add(offset as usize) }
    }

    /// Bytes it can hold.
    pub fn capacity(&self) -> usize {
        self.header().capacity as usize
    }

    /// Where its memory came from.
    pub fn allocator(&self) -> &Allocator {
        &self.header().allocator
    }

    /// What it takes from its allocator.
    pub fn footprint(&self) -> usize {
        HEADER + self.capacity()
    }

    /// Empties it. It has no next block.
    fn reset(&mut self) {
        let header = self.header_mut();
        debug_assert!(header.next.is_none());
        (header.head_offset, header.start) = (0, 0);
        (header.slots, header.sent_slots, header.released_slots) = (0, 0, 0);
    }

    /// All of its memory, whatever is in it.
    pub fn memory(&mut self) -> &mut [MaybeUninit<u8>] {
        // SAFETY: the block is owned, and any bytes are MaybeUninit.
        unsafe { std::slice::from_raw_parts_mut(self.at(0).cast(), self.capacity()) }
    }

    /// The `len` bytes from `offset`, which the caller has written through [`Block::memory`].
    pub fn written(&self, offset: usize, len: usize) -> IoVec {
        assert!(offset <= self.capacity() && len <= self.capacity() - offset);
        IoVec::new(self.at(offset as u32), len)
    }

    /// Its first `len` bytes, which the host has written after it reserved them.
    pub fn front(&self, len: usize) -> &[u8] {
        assert!(len <= self.capacity());
        // SAFETY: inside the block, and the host vouches that they were written.
        unsafe { std::slice::from_raw_parts(self.at(0), len) }
    }

    /// Offset of the last slot, or of the end if there is none.
    fn slots_at(&self) -> u32 {
        self.header().capacity - self.header().slots * SLOT as u32
    }

    /// The address of slot `i`; slots grow from the end.
    fn slot(&self, i: u32) -> *mut Slot {
        debug_assert!(i < self.header().slots);
        let back = (i + 1) * SLOT as u32;
        self.at(self.header().capacity - back).cast()
    }

    /// Slot `i`.
    fn slot_ref(&self, i: u32) -> &Slot {
        assert!(i < self.header().slots);
        // SAFETY: slots below `slots` are initialised, and only changed through a borrow of the block.
        unsafe { &*self.slot(i) }
    }

    /// Slot `i`.
    fn slot_mut(&mut self, i: u32) -> &mut Slot {
        assert!(i < self.header().slots);
        // SAFETY: slots below `slots` are initialised, and the block is borrowed for this alone.
        unsafe { &mut *self.slot(i) }
    }

    /// Adds `slot` at `end`, the offset past the last copied byte.
    fn push_slot(&mut self, end: u32, slot: Slot) {
        assert!(SLOT as u32 <= self.slots_at() - end);
        self.header_mut().slots += 1;
        let place = self.slot(self.header().slots - 1);
        // SAFETY: SLOT bytes of space end where the slots begin: the place is free, inside the block and
        // aligned (MAX_CAPACITY, HEADER and SLOT are multiples of the alignment).
        unsafe { place.write(slot) };
    }

    /// All of it up to the copied byte at `end` and the slot `slots` is consumed.
    fn is_sent(&self, end: u32, slots: u32) -> bool {
        let header = self.header();
        header.start == end && header.sent_slots == slots
    }

    /// All owners of its slots are released.
    fn is_released(&self) -> bool {
        self.header().released_slots == self.header().slots
    }

    /// Consumes up to `len` bytes before the copied byte at `end` and the slot `slots`, and every notification
    /// that no byte precedes, for `reason`: 0 when they were sent. Returns how many of `len` are left.
    fn consume(
        &mut self,
        (end, slots): (u32, u32),
        len: u64,
        reason: c_int,
        consumed: &mut Consumed,
    ) -> u64 {
        if self.header().sent_slots < slots {
            return self.consume_slots((end, slots), len, reason, consumed);
        }
        let left = self.consume_copied(end, len);
        consumed.bytes += len - left;
        left
    }

    /// Consumes up to `len` copied bytes before `stop`. Returns how many of `len` are left.
    fn consume_copied(&mut self, stop: u32, len: u64) -> u64 {
        let header = self.header_mut();
        let step = len.min(u64::from(stop - header.start));
        header.start += step as u32;
        len - step
    }

    #[inline(never)]
    fn consume_slots(
        &mut self,
        (end, slots): (u32, u32),
        mut len: u64,
        reason: c_int,
        consumed: &mut Consumed,
    ) -> u64 {
        let (all, before) = (len, consumed.bytes);
        while self.header().sent_slots < slots {
            // SAFETY: slots below `slots` are initialised; nobody else refers to this one.
            let slot = unsafe { &mut *self.slot(self.header().sent_slots) };
            len = self.consume_copied(slot.at, len);
            let header = self.header_mut();
            if header.start < slot.at {
                break;
            }
            let step = len.min(slot.len() - header.head_offset);
            len -= step;
            header.head_offset += step;
            if slot.kind() == Kind::File {
                consumed.file += step;
            }
            if header.head_offset < slot.len() {
                break;
            }
            slot.complete(reason, before + (all - len), len);
            header.head_offset = 0;
            header.sent_slots += 1;
            consumed.slots += 1;
        }
        if self.header().sent_slots == slots {
            len = self.consume_copied(end, len);
        }
        consumed.bytes = before + (all - len);
        len
    }

    /// The next completed slot, which the caller releases.
    fn next_released(&mut self) -> Option<Slot> {
        let header = self.header();
        let i = header.released_slots;
        if i == header.sent_slots {
            return None;
        }
        self.header_mut().released_slots += 1;
        Some(*self.slot_ref(i))
    }

    /// Passes what is not consumed before the copied byte at `end` and the slot `slots` to `take`, oldest first,
    /// each with the slot that it is of, if any. Returns false as soon as `take` does. No extent is empty.
    #[inline(always)]
    fn each_extent(
        &self,
        (end, slots): (u32, u32),
        take: &mut impl FnMut(Extent, Option<&Slot>) -> bool,
    ) -> bool {
        let Header { mut start, sent_slots, head_offset: mut offset, .. } = *self.header();
        for i in sent_slots..slots {
            let slot = self.slot_ref(i);
            // A slot without bytes does not divide the bytes around it.
            if slot.len() == 0 {
                continue;
            }
            if start < slot.at && !take(self.copied(start, slot.at), None) {
                return false;
            }
            start = slot.at;
            if !take(slot.rest(offset), Some(slot)) {
                return false;
            }
            offset = 0;
        }
        start == end || take(self.copied(start, end), None)
    }

    /// Where the first `len` bytes that are not consumed end, if the copied bytes end at `end`; or how many are
    /// left of them at the end of the block.
    fn find(&self, end: u32, mut len: u64) -> Result<Cut, u64> {
        let Header { mut start, sent_slots, slots, head_offset: mut inside, .. } = *self.header();
        let cut = |at, slot, inside| Cut {
            block: self.0,
            at,
            slot,
            inside,
            bytes: 0,
            slots: slots - slot,
        };
        for i in sent_slots..slots {
            let slot = self.slot_ref(i);
            let copied = u64::from(slot.at - start);
            if len < copied {
                return Ok(cut(start + len as u32, i, 0));
            }
            len -= copied;
            start = slot.at;
            let rest = slot.len() - inside;
            if len < rest || len == 0 && slot.leads() {
                return Ok(cut(start, i, inside + len));
            }
            len -= rest;
            inside = 0;
        }
        let copied = u64::from(end - start);
        if len < copied { Ok(cut(start + len as u32, slots, 0)) } else { Err(len - copied) }
    }

    /// No byte precedes its first slot that is not consumed, which has none.
    fn begins_with_notification(&self) -> bool {
        let Header { start, sent_slots, slots, head_offset, .. } = *self.header();
        let is_at_slot = sent_slots < slots && head_offset == 0;
        if !is_at_slot {
            return false;
        }
        let slot = self.slot_ref(sent_slots);
        slot.len() == 0 && slot.at == start && !slot.leads()
    }

    /// Moves what is behind `cut` to `to`, which has space for it. Of copied bytes that are to be discarded only
    /// the number is moved. `owner` is that of both parts of a divided slot.
    fn move_behind(&mut self, cut: &Cut, mut to: Block, owner: Owner, is_discarded: bool) -> Block {
        to.reset();
        let moved = if is_discarded { 0 } else { cut.bytes };
        // SAFETY: copied bytes of this block, which is another than `to`.
        unsafe {
            ptr::copy_nonoverlapping(self.at(cut.at), to.at(0), moved as usize);
        }
        let slots = self.header().slots;
        for i in cut.slot..slots {
            let mut slot = *self.slot_ref(i);
            if i == cut.slot && cut.inside > 0 {
                let (first, rest) = slot.split(cut.inside, owner);
                // SAFETY: the slot is initialised; this block is borrowed for this alone.
                unsafe { self.slot(i).write(first) };
                slot = rest;
            }
            slot.at -= cut.at;
            to.push_slot(moved, slot);
        }
        self.header_mut().slots = cut.slot + u32::from(cut.inside > 0);
        to
    }

    fn copied(&self, start: u32, end: u32) -> Extent {
        Extent::Memory(IoVec::new(self.at(start), (end - start) as usize))
    }

    /// Adds what it holds to `usage`.
    fn add_usage(&self, usage: &mut MemoryUsage) {
        let header = self.header();
        usage.allocated += self.footprint() as u64;
        usage.slots += header.slots - header.released_slots;
        for i in header.released_slots..header.slots {
            let slot = self.slot_ref(i);
            match slot.kind() {
                Kind::Borrowed => usage.borrowed += slot.len(),
                Kind::Shared => usage.shared += slot.len(),
                Kind::File => {}
            }
            if i >= header.sent_slots {
                let sent = if i == header.sent_slots { header.head_offset } else { 0 };
                usage.waiting[slot.kind() as usize] += slot.len() - sent;
            }
        }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        debug_assert!(self.header().next.is_none());
        let allocator = std::mem::replace(&mut self.header_mut().allocator, Allocator::SYSTEM);
        // SAFETY: allocate() took the memory with this footprint, and nobody else owns it.
        unsafe { allocator.give(self.0.cast(), self.footprint()) };
    }
}

/// What blocks hold, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUsage {
    /// What the blocks take from the system.
    pub allocated: u64,
    /// Borrowed memory, until its owner is released.
    pub borrowed: u64,
    /// Shared payloads, until the queue releases its reference.
    pub shared: u64,
    /// Bytes queued of borrowed memory, of shared payloads and of files.
    pub waiting: [u64; 3],
    /// Slots whose owners are not released.
    pub slots: u32,
}

impl MemoryUsage {
    /// Memory that would be free without the queue: its blocks, and the memory of others.
    pub fn held(&self) -> u64 {
        self.allocated + self.borrowed + self.shared
    }
}

/// The last block of a chain, and where the next byte goes.
pub struct Cursor {
    /// None, and 0 below, in a chain without blocks.
    block: Option<NonNull<Header>>,
    /// Offset past the last byte written.
    end: u32,
    /// How many bytes may be written without further checks: never more than there is space.
    room: u32,
}

impl Cursor {
    const NONE: Cursor = Cursor { block: None, end: 0, room: 0 };

    /// How many bytes [`Cursor::write`] may take.
    pub fn room(&self) -> usize {
        self.room as usize
    }

    /// Appends a copy of `bytes`, at most [`Cursor::room`] of them.
    #[inline(always)]
    pub fn write(&mut self, bytes: &[u8]) {
        let (block, end) = (self.block, self.end);
        self.advance(bytes.len());
        let Some(block) = block else { return };
        // SAFETY: the block lives as long as its chain has this cursor. The `room` bytes behind `end` are
        // inside the block and in use by nobody, so that `bytes`, a live slice, does not overlap them.
        unsafe {
            let to = block.as_ptr().add(1).cast::<u8>().add(end as usize);
            ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        }
    }

    /// The next `len` bytes, at most [`Cursor::room`], have been written.
    pub fn advance(&mut self, len: usize) {
        assert!(len <= self.room as usize);
        self.end += len as u32;
        self.room -= len as u32;
    }
}
