//! Linked lists of blocks.
//!
//! ```text
//!   Chain   head -> ... -> front -> ... -> cursor    what a queue holds, oldest first
//!   Stack   top -> block -> block                    what a pool caches, or an append has taken in advance
//! ```

use super::{Block, Consumed, Cursor, Header, Link, MemoryUsage, SLOT, block_at, block_at_mut};
use crate::iovec::{Extent, IoVec};
use crate::slot::Slot;
use libc::c_int;
use std::cell::UnsafeCell;
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, Ordering};

/// The blocks of one queue, in the order of the stream.
pub struct Chain {
    /// The last block, and where to write in it.
    cursor: Cursor,
    /// The oldest block, which owns the next one and so on. None if and only if the cursor has no block.
    head: Link,
    /// The first block that is not consumed, or the last one if all are. Blocks before it stay until the
    /// owners of their slots are released.
    front: Option<NonNull<Header>>,
    /// Nothing behind this position is available, as in [`Position`]. NO_LIMIT: everything is.
    limit_block: Option<NonNull<Header>>,
    limit_end: u32,
    /// Offset of the slots of the last block, up to which bytes may be written; 0 without a block.
    slots_at: u32,
}

/// A `limit_end` that means no limit.
const NO_LIMIT: u32 = u32::MAX;

// SAFETY: only the chain owns its blocks, and blocks are Send.
unsafe impl Send for Chain {}

/// A position in a chain.
#[derive(Clone, Copy)]
struct Position {
    /// A block of the chain; None: before the first.
    block: Option<NonNull<Header>>,
    /// The offset past the last byte before it. All slots of the block precede it.
    end: u32,
}

impl Chain {
    /// No block.
    pub const fn new() -> Chain {
        Chain {
            cursor: Cursor::NONE,
            head: Link::NONE,
            front: None,
            limit_block: None,
            limit_end: NO_LIMIT,
            slots_at: 0,
        }
    }

    /// No block is held.
    pub fn is_empty(&self) -> bool {
        self.head.is_none()
    }

    /// Where the next byte goes.
    pub fn cursor(&mut self) -> &mut Cursor {
        &mut self.cursor
    }

    /// How many bytes may be written without further checks.
    pub fn room(&self) -> usize {
        self.cursor.room()
    }

    /// Lets `room` bytes be written without further checks, or as many as fit.
    pub fn set_room(&mut self, room: u64) {
        self.cursor.room = room.min(u64::from(self.space())) as u32;
    }

    /// Offset past the last byte of the last block; 0 without one.
    pub fn end(&self) -> u32 {
        self.cursor.end
    }

    /// Bytes that fit behind the last.
    pub fn space(&self) -> u32 {
        self.slots_at - self.cursor.end
    }

    /// Whether a slot fits into the last block, and would be on the same side of the limit as all slots
    /// there: a limit does not divide the slots of a block.
    pub fn has_space_for_slot(&self) -> bool {
        let is_divided = self.limit_end != NO_LIMIT && self.limit_block == self.cursor.block;
        !is_divided && self.space() >= SLOT as u32
    }

    /// Appends `slot`. There is space for it.
    pub fn push_slot(&mut self, mut slot: Slot) {
        let end = self.cursor.end;
        slot.at = end;
        self.cursor.room = 0;
        self.slots_at -= SLOT as u32;
        self.tail_mut().expect("there is space for it").push_slot(end, slot);
    }

    fn tail(&self) -> Option<&Block> {
        // SAFETY: this chain owns the block, and is borrowed for as long as the result is.
        unsafe { block_at(&self.cursor.block) }
    }

    fn tail_mut(&mut self) -> Option<&mut Block> {
        // SAFETY: as above.
        unsafe { block_at_mut(&mut self.cursor.block) }
    }

    /// Empties `block` and makes it the last one, all of which may be written.
    #[inline(always)]
    pub fn push(&mut self, mut block: Block) {
        if !self.is_empty() {
            self.link_behind(block);
            return self.next_block();
        }
        block.reset();
        self.front = Some(block.0);
        self.enter(block.0, block.header().capacity);
        self.head.set(block);
    }

    /// Sets the cursor to the block at `address`, which is empty and has that capacity.
    fn enter(&mut self, address: NonNull<Header>, capacity: u32) {
        self.cursor = Cursor { block: Some(address), end: 0, room: capacity };
        self.slots_at = capacity;
    }

    /// Empties `block` and links it behind the last one, without making it the last.
    #[inline(never)]
    pub fn link_behind(&mut self, mut block: Block) {
        let tail = self.tail_mut().expect("it is kept behind another");
        block.reset();
        block.header_mut().next.0 = tail.header_mut().next.0.take();
        tail.header_mut().next.set(block);
    }

    /// Makes the block that is linked behind the last one the last.
    #[inline(never)]
    pub fn next_block(&mut self) {
        let end = self.cursor.end;
        let tail = self.tail_mut().expect("one is kept behind another");
        tail.header_mut().end = end;
        let next = tail.header().next.get().expect("one is kept behind the last");
        let (address, capacity) = (next.0, next.capacity() as u32);
        self.enter(address, capacity);
    }

    /// Takes out a block that is linked behind the last one.
    pub fn unlink_behind(&mut self) -> Option<Block> {
        let behind = &mut self.tail_mut()?.header_mut().next;
        let mut block = behind.take()?;
        behind.0 = block.header_mut().next.0.take();
        Some(block)
    }

    /// The address of the byte behind the last.
    pub fn write_pointer(&self) -> *mut u8 {
        self.tail().map_or(ptr::null_mut(), |tail| tail.at(self.cursor.end))
    }

    /// Takes out the oldest block, whatever is in it.
    #[inline(always)]
    pub fn pop(&mut self) -> Option<Block> {
        let mut block = self.head.take()?;
        if self.cursor.block == Some(block.0) {
            (self.cursor, self.slots_at) = (Cursor::NONE, 0);
            (self.front, self.limit_block) = (None, None);
        } else {
            self.pop_before(&mut block);
        }
        Some(block)
    }

    /// `block` was the head, and is not the last.
    #[inline(never)]
    fn pop_before(&mut self, block: &mut Block) {
        self.head.0 = block.header_mut().next.0.take();
        if self.front == Some(block.0) {
            self.front = self.head.0;
        }
        if self.limit_block == Some(block.0) {
            self.limit_block = None;
        }
    }

    /// Takes out the oldest block if it is before the front and all its owners are released.
    pub fn pop_completed(&mut self) -> Option<Block> {
        let head = self.head.get()?;
        if self.front == Some(head.0) || !head.is_released() { None } else { self.pop() }
    }

    /// The oldest completed slot, which the caller releases.
    pub fn next_released(&mut self) -> Option<Slot> {
        self.head.get_mut()?.next_released()
    }

    /// The end of the available bytes.
    fn visible(&self) -> Position {
        if self.limit_end != NO_LIMIT {
            return Position { block: self.limit_block, end: self.limit_end };
        }
        Position { block: self.cursor.block, end: self.cursor.end }
    }

    /// Consumes up to `len` available bytes, and every notification that no byte precedes, for `reason`: 0
    /// when they were sent.
    #[inline(always)]
    pub fn consume(&mut self, len: u64, reason: c_int) -> Consumed {
        let end = self.cursor.end;
        if self.front != self.cursor.block || self.limit_end != NO_LIMIT {
            return self.consume_blocks(len, reason);
        }
        let mut consumed = Consumed::default();
        if let Some(last) = self.tail_mut() {
            last.consume(end, len, reason, &mut consumed);
        }
        consumed
    }

    #[inline(never)]
    fn consume_blocks(&mut self, mut len: u64, reason: c_int) -> Consumed {
        let mut consumed = Consumed::default();
        let visible = self.visible();
        loop {
            let is_last = self.front == visible.block;
            // SAFETY: this chain owns the block, and is borrowed for as long as the result is.
            let Some(front) = (unsafe { block_at_mut(&mut self.front) }) else { return consumed };
            if visible.block.is_none() {
                return consumed;
            }
            let end = if is_last { visible.end } else { front.header().end };
            len = front.consume(end, len, reason, &mut consumed);
            if is_last || !front.is_sent(end) {
                return consumed;
            }
            self.front = front.header().next.0;
        }
    }

    /// Passes the available extents to `take`, oldest first, until that returns false. No extent is empty.
    #[inline(always)]
    pub fn each_extent(&self, mut take: impl FnMut(Extent) -> bool) {
        let visible = self.visible();
        // SAFETY: this chain owns the block, and is borrowed meanwhile.
        let mut next = unsafe { block_at(&self.front) }.filter(|_| visible.block.is_some());
        while let Some(block) = next {
            let is_last = visible.block == Some(block.0);
            let end = if is_last { visible.end } else { block.header().end };
            if !block.each_extent(end, &mut take) || is_last {
                return;
            }
            next = block.header().next.get();
        }
    }

    /// What is written from here on is not available.
    pub fn limit(&mut self) {
        let Position { block, end } = self.visible();
        (self.limit_block, self.limit_end) = (block, end);
    }

    /// Makes everything available.
    pub fn unlimit(&mut self) {
        self.limit_end = NO_LIMIT;
    }

    /// Ends the limit, and takes out the blocks behind it.
    pub fn cut(&mut self) -> Chain {
        let end = std::mem::replace(&mut self.limit_end, NO_LIMIT);
        let mut limit = self.limit_block.take();
        // SAFETY: it is a block of this chain (see pop()), which is borrowed for as long as the result is.
        let Some(last) = (unsafe { block_at_mut(&mut limit) }) else {
            return std::mem::take(self);
        };
        let mut rest = Chain::new();
        rest.head.0 = last.header_mut().next.0.take();
        rest.front = rest.head.0;
        let slots_at = std::mem::replace(&mut self.slots_at, last.slots_at());
        let before = Cursor { block: limit, end, room: 0 };
        let cursor = std::mem::replace(&mut self.cursor, before);
        if !rest.is_empty() {
            (rest.cursor, rest.slots_at) = (cursor, slots_at);
        }
        rest
    }

    /// Appends the blocks of `other`.
    pub fn append(&mut self, other: &mut Chain) {
        let end = self.cursor.end;
        match self.tail_mut() {
            Some(tail) => {
                let header = tail.header_mut();
                (header.end, header.next.0) = (end, other.head.0.take());
            }
            None => (self.head.0, self.front) = (other.head.0.take(), other.front),
        }
        self.cursor = std::mem::replace(&mut other.cursor, Cursor::NONE);
        self.slots_at = std::mem::replace(&mut other.slots_at, 0);
        self.cursor.room = 0;
        other.front = None;
    }

    /// Prepends the blocks of `other`, which are consumed.
    pub fn prepend(&mut self, mut other: Chain) {
        if self.is_empty() {
            return self.append(&mut other);
        }
        let end = other.cursor.end;
        let Some(last) = other.tail_mut() else { return };
        let header = last.header_mut();
        (header.end, header.next.0) = (end, self.head.0.take());
        (other.cursor, other.front) = (Cursor::NONE, None);
        self.head.0 = other.head.0.take();
    }

    /// Appends a copy of `other`, if that is one block of at most `most` bytes, and fits into the last block.
    /// `other` has no completed slots.
    pub fn copy_small(&mut self, other: &Chain, most: u32) -> bool {
        let Some(block) = other.head.get().filter(|head| other.cursor.block == Some(head.0)) else {
            return false;
        };
        let Header { start, sent_slots, slots, head_offset, .. } = *block.header();
        let (len, count) = (other.cursor.end - start, slots - sent_slots);
        let fits = u64::from(len) + u64::from(count) * SLOT as u64 <= u64::from(self.space());
        let may_push = count == 0 || self.has_space_for_slot();
        if len > most || !fits || !may_push || head_offset > 0 {
            return false;
        }
        let offset = self.cursor.end;
        self.set_room(u64::MAX);
        // SAFETY: copied bytes of the other chain's block, which nobody changes meanwhile.
        self.cursor.write(unsafe { IoVec::new(block.at(start), len as usize).bytes() });
        let end = self.cursor.end;
        self.slots_at -= count * SLOT as u32;
        for i in sent_slots..slots {
            let mut slot = *block.slot_ref(i);
            slot.at = offset + (slot.at - start);
            self.tail_mut().expect("it has space").push_slot(end, slot);
        }
        self.cursor.room = 0;
        true
    }

    /// The memory it holds. Walks all slots; each shared payload is divided by its number of `holders`.
    pub fn memory_usage(&self, mut holders: impl FnMut(&Slot) -> u64) -> MemoryUsage {
        let (mut usage, mut next) = (MemoryUsage::default(), self.head.get());
        while let Some(block) = next {
            block.add_usage(&mut usage, &mut holders);
            next = block.header().next.get();
        }
        usage
    }
}

impl Default for Chain {
    fn default() -> Chain {
        Chain::new()
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        while self.unlink_behind().is_some() {}
        while self.pop().is_some() {}
    }
}

/// Blocks, last in first out: the block that was returned last is warm in the cache.
pub struct Stack {
    top: UnsafeCell<Link>,
}

impl Stack {
    /// An empty one.
    pub const fn new() -> Stack {
        Stack { top: UnsafeCell::new(Link::NONE) }
    }

    fn with_top<R>(&self, f: impl FnOnce(&mut Link) -> R) -> R {
        // SAFETY: a Stack is not Sync, and `f`, of this type, does not come back to it.
        f(unsafe { &mut *self.top.get() })
    }

    /// Pushes `block`.
    pub fn push(&self, mut block: Block) {
        self.with_top(|top| {
            block.header_mut().next.0 = top.0.take();
            top.set(block);
        });
    }

    /// Pops the top block.
    pub fn pop(&self) -> Option<Block> {
        self.with_top(|top| {
            let mut block = top.take()?;
            top.0 = block.header_mut().next.0.take();
            Some(block)
        })
    }
}

impl Default for Stack {
    fn default() -> Stack {
        Stack::new()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}

/// A place for one block, which any thread may take or fill without a lock.
#[derive(Default)]
pub struct AtomicCell(AtomicPtr<Header>);

impl AtomicCell {
    /// An empty one.
    pub const fn new() -> AtomicCell {
        AtomicCell(AtomicPtr::new(ptr::null_mut()))
    }

    /// Takes the block out, if there is one.
    pub fn take(&self) -> Option<Block> {
        // Acquire: what was done to the block before put() happens before what the taker does.
        NonNull::new(self.0.swap(ptr::null_mut(), Ordering::Acquire)).map(Block)
    }

    /// Puts `block` in; returns it if the place is taken.
    pub fn put(&self, block: Block) -> Option<Block> {
        let address = ManuallyDrop::new(block).0;
        let (free, taken) = (Ordering::Release, Ordering::Relaxed);
        match self.0.compare_exchange(ptr::null_mut(), address.as_ptr(), free, taken) {
            Ok(_) => None,
            Err(_) => Some(Block(address)),
        }
    }

    /// Whether a block was there a moment ago.
    pub fn is_filled(&self) -> bool {
        !self.0.load(Ordering::Relaxed).is_null()
    }
}

impl Drop for AtomicCell {
    fn drop(&mut self) {
        drop(self.take());
    }
}
