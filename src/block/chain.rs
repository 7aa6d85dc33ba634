//! The blocks of one queue, linked in the order of the stream.
//!
//! ```text
//!   head -> ... -> front -> ... -> cursor    oldest first
//! ```

pub(crate) mod carried;
pub(super) mod cut;
mod gates;

use super::gate::{Gates, Position};
use super::{Block, Consumed, Cursor, Header, Link, MemoryUsage, SLOT, block_at, block_at_mut};
use crate::iovec::Extent;
use crate::slot::Slot;
use libc::c_int;
use std::ptr::{self, NonNull};

/// The blocks of one queue, in the order of the stream.
pub struct Chain {
    /// The last block, and where to write in it.
    cursor: Cursor,
    /// The oldest block, which owns the next one and so on. None if and only if the cursor has no block.
    head: Link,
    /// The first block that is not consumed, or the last one if all are. Blocks before it stay until the
    /// owners of their slots are released.
    front: Option<NonNull<Header>>,
    /// Allocated with the first gate, and kept.
    gates: Option<Box<Gates>>,
    /// Offset of the slots of the last block, up to which bytes may be written; 0 without a block.
    slots_at: u32,
}

// SAFETY: only the chain owns its blocks, and blocks are Send.
unsafe impl Send for Chain {}

impl Chain {
    /// No block.
    pub const fn new() -> Chain {
        Chain { cursor: Cursor::NONE, head: Link::NONE, front: None, gates: None, slots_at: 0 }
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

    /// Bytes in use of the last block, slots included; 0 without one.
    pub fn used_in_last(&self) -> usize {
        self.tail().map_or(0, Block::capacity) - self.space() as usize
    }

    /// Whether a slot fits into the last block.
    pub fn has_space_for_slot(&self) -> bool {
        self.space() >= SLOT as u32 && self.slots_taken() > 0
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
            (self.cursor, self.slots_at, self.front) = (Cursor::NONE, 0, None);
        } else {
            self.pop_before(&mut block);
        }
        if self.gates.is_some() {
            self.on_popped(block.0);
        }
        Some(block)
    }

    #[inline(never)]
    fn on_popped(&mut self, block: NonNull<Header>) {
        self.gates.iter_mut().for_each(|gates| gates.on_popped(block));
    }

    /// `block` was the head, and is not the last.
    #[inline(never)]
    fn pop_before(&mut self, block: &mut Block) {
        self.head.0 = block.header_mut().next.0.take();
        if self.front == Some(block.0) {
            self.front = self.head.0;
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
        let first = self.gates.as_ref().and_then(|gates| gates.first());
        first.map_or(self.last(), |gate| gate.position)
    }

    /// The end of the last block.
    fn last(&self) -> Position {
        let slots = self.tail().map_or(0, |tail| tail.header().slots);
        Position { block: self.cursor.block, end: self.cursor.end, slots }
    }

    /// Consumes up to `len` available bytes, and every notification that no byte precedes, for `reason`: 0
    /// when they were sent.
    #[inline(always)]
    pub fn consume(&mut self, len: u64, reason: c_int) -> Consumed {
        let end = self.cursor.end;
        if self.front != self.cursor.block || self.has_gates() {
            return self.consume_blocks(len, reason, Consumed::default());
        }
        let mut consumed = Consumed::default();
        if let Some(last) = self.tail_mut() {
            let slots = last.header().slots;
            last.consume((end, slots), len, reason, &mut consumed);
        }
        consumed
    }

    /// Consumes everything for `reason`, after `bytes` bytes before it that are not in a block any more.
    pub fn consume_rest(&mut self, bytes: u64, reason: c_int) -> Consumed {
        self.consume_blocks(u64::MAX, reason, Consumed { bytes, ..Consumed::default() })
    }

    #[inline(never)]
    fn consume_blocks(&mut self, mut len: u64, reason: c_int, mut consumed: Consumed) -> Consumed {
        let visible = self.visible();
        if let Some(gates) = &mut self.gates {
            gates.on_consumed(len);
        }
        loop {
            let is_last = self.front == visible.block;
            // SAFETY: this chain owns the block, and is borrowed for as long as the result is.
            let Some(front) = (unsafe { block_at_mut(&mut self.front) }) else { return consumed };
            if visible.block.is_none() {
                return consumed;
            }
            let Header { end, slots, .. } = *front.header();
            let (end, slots) = if is_last { (visible.end, visible.slots) } else { (end, slots) };
            len = front.consume((end, slots), len, reason, &mut consumed);
            if is_last || !front.is_sent(end, slots) {
                return consumed;
            }
            self.front = front.header().next.0;
        }
    }

    /// Passes the available extents to `take`, oldest first, until that returns false, each with the slot that it
    /// is of, if any. No extent is empty.
    #[inline(always)]
    pub fn each_extent(&self, mut take: impl FnMut(Extent, Option<&Slot>) -> bool) {
        let visible = self.visible();
        // SAFETY: this chain owns the block, and is borrowed meanwhile.
        let mut next = unsafe { block_at(&self.front) }.filter(|_| visible.block.is_some());
        while let Some(block) = next {
            let is_last = visible.block == Some(block.0);
            let Header { end, slots, .. } = *block.header();
            let until = if is_last { (visible.end, visible.slots) } else { (end, slots) };
            if !block.each_extent(until, &mut take) || is_last {
                return;
            }
            next = block.header().next.get();
        }
    }

    /// The memory it holds. Walks all slots.
    pub fn memory_usage(&self) -> MemoryUsage {
        let (mut usage, mut next) = (MemoryUsage::default(), self.head.get());
        while let Some(block) = next {
            block.add_usage(&mut usage);
            next = block.header().next.get();
        }
        let spare = self.gates.as_ref().and_then(|gates| gates.spare.as_ref());
        usage.allocated += spare.map_or(0, |spare| spare.footprint() as u64);
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
