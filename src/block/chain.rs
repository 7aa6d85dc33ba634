//! Linked lists of blocks.
//!
//! ```text
//!   Chain   head -> ... -> front -> ... -> cursor    what a queue holds, oldest first
//!   Stack   top -> block -> block                    what a pool caches, or an append has taken in advance
//! ```

use super::gate::{DIVIDED_SLOTS, Gate, Gates, Hole, Position};
use super::{Block, Consumed, Cursor, Header, Link, MemoryUsage, SLOT, block_at, block_at_mut};
use crate::errno::{Errno, Result};
use crate::iovec::{Extent, IoVec};
use crate::slot::{Owner, Slot};
use crate::try_box::try_box;
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
    /// Allocated with the first gate, and kept.
    gates: Option<Box<Gates>>,
    /// Offset of the slots of the last block, up to which bytes may be written; 0 without a block.
    slots_at: u32,
}

// SAFETY: only the chain owns its blocks, and blocks are Send.
unsafe impl Send for Chain {}

/// A position in the middle of a block.
#[derive(Clone, Copy)]
pub struct Cut {
    pub(super) block: NonNull<Header>,
    /// The offset past the last copied byte before it.
    pub(super) at: u32,
    /// The first slot that is behind it, or is divided by it.
    pub(super) slot: u32,
    /// How many bytes of that slot precede it.
    pub(super) inside: u64,
    /// How many copied bytes and slots of the block are behind it.
    pub(super) bytes: u32,
    pub(super) slots: u32,
}

impl Cut {
    /// How many bytes a block needs for what is behind the cut in the same block.
    pub fn space(&self) -> usize {
        self.bytes as usize + self.slots as usize * SLOT
    }
}

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

    /// How many slots the last block takes. A gate divides the slots of a block only if there is a spare block
    /// for those behind it.
    pub fn slots_taken(&self) -> u32 {
        // Gates are in order, so that only the last one can be in the last block.
        let Some(gates) = &self.gates else { return u32::MAX };
        let last = gates.list.last().filter(|gate| gate.position.block == self.cursor.block);
        let (Some(gate), Some(tail)) = (last, self.tail()) else { return u32::MAX };
        if gates.spare.is_none() {
            0
        } else {
            DIVIDED_SLOTS - (tail.header().slots - gate.position.slots).min(DIVIDED_SLOTS)
        }
    }

    /// Whether [`Chain::set_spare`] would let the last block take `slots`.
    pub fn lacks_spare(&self, slots: u32) -> bool {
        slots <= DIVIDED_SLOTS
            && self.slots_taken() == 0
            && self.gates.as_ref().is_some_and(|gates| gates.spare.is_none())
    }

    /// Lets slots behind the cork share a block with those before it.
    pub fn set_spare(&mut self, spare: Block) {
        if let Some(gates) = &mut self.gates {
            gates.spare = Some(spare);
        }
    }

    /// Whether the cork divides the slots of a block.
    pub fn needs_spare(&self) -> bool {
        let Some(gates) = &self.gates else { return false };
        let cork = gates.cork().map(|cork| gates.list[cork].position);
        // SAFETY: a block of this chain (see Gates::on_popped), which is borrowed.
        cork.is_some_and(|cork| unsafe {
            block_at(&cork.block).is_some_and(|block| block.header().slots > cork.slots)
        })
    }

    /// Takes out the spare block.
    pub fn take_spare(&mut self) -> Option<Block> {
        self.gates.as_mut()?.spare.take()
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

    /// Whether a gate holds bytes back.
    pub fn has_gates(&self) -> bool {
        self.gates.as_ref().is_some_and(|gates| !gates.list.is_empty())
    }

    /// Whether it is corked.
    pub fn is_corked(&self) -> bool {
        self.gates.as_ref().is_some_and(|gates| gates.cork().is_some())
    }

    /// Whether there is a hole that is not filled yet.
    pub fn has_holes(&self) -> bool {
        self.gates.as_ref().is_some_and(|gates| gates.has_holes())
    }

    /// How many boundaries had been set when the first open hole was made. None: there is no hole.
    pub fn set_before_hole(&self) -> Option<u64> {
        self.gates
            .as_ref()?
            .list
            .iter()
            .find(|gate| gate.hole.is_some())
            .map(|gate| gate.boundaries)
    }

    /// How many of `waiting` queued bytes are available.
    pub fn available(&self, waiting: u64) -> u64 {
        let first = self.gates.as_ref().and_then(|gates| gates.first());
        first.map_or(waiting, |gate| gate.before)
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

    /// Passes the available extents to `take`, oldest first, until that returns false. No extent is empty.
    #[inline(always)]
    pub fn each_extent(&self, mut take: impl FnMut(Extent) -> bool) {
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

    /// The gates, with space for one more. NO_MEMORY.
    fn make_gates(&mut self) -> Result<&mut Gates> {
        let mut gates = match self.gates.take() {
            Some(gates) => gates,
            None => try_box(Gates::default())?,
        };
        let reserved = gates.list.try_reserve(1);
        let gates = self.gates.insert(gates);
        reserved.map_err(|_| Errno::NO_MEMORY)?;
        Ok(gates)
    }

    /// Holds back what is appended from here on, behind `waiting` queued bytes. NO_MEMORY.
    pub fn cork(&mut self, waiting: u64) -> Result<()> {
        let position = self.last();
        let gates = self.make_gates()?;
        gates.list.push(Gate { position, before: waiting, boundaries: 0, hole: None });
        Ok(())
    }

    /// Ends the cork.
    pub fn uncork(&mut self) {
        if let Some(gates) = &mut self.gates
            && let Some(cork) = gates.cork()
        {
            gates.list.remove(cork);
        }
    }

    /// Removes all gates. Space that is not filled never is.
    pub fn remove_gates(&mut self) {
        if let Some(gates) = &mut self.gates {
            gates.list.clear();
        }
    }

    /// Ends the cork, and takes out what is behind it, to be discarded. Returns how many bytes stay, and how many
    /// bytes that share a block with them are dropped, as well.
    pub fn cut_at_cork(&mut self) -> Option<(Chain, u64, u64)> {
        let gates = self.gates.as_mut()?;
        let cork = gates.cork()?;
        let Gate { position, before, .. } = gates.list[cork];
        gates.list.truncate(cork);
        let Some(block) = position.block else {
            // Nothing precedes it.
            let gates = self.gates.take();
            let rest = std::mem::take(self);
            self.gates = gates;
            return Some((rest, before, 0));
        };
        let is_last = self.cursor.block == Some(block);
        let mut address = Some(block);
        // SAFETY: it is a block of this chain (see Gates::on_popped), which is borrowed.
        let last = unsafe { block_at_mut(&mut address) }.expect("it is some").header();
        let end = if is_last { self.cursor.end } else { last.end };
        let Position { end: at, slots: slot, .. } = position;
        let slots = last.slots - slot;
        let cut = Cut { block, at, slot, inside: 0, bytes: end - at, slots };
        let spare = if slots > 0 { self.take_spare() } else { None };
        let dropped = if spare.is_none() { u64::from(cut.bytes) } else { 0 };
        Some((self.split(cut, spare, Owner::NONE, true), before, dropped))
    }

    /// Makes the space for a hole of `len` bytes behind `waiting` queued ones: all of `block` up to there. The
    /// block is the last one then, and goes on behind the hole. Returns the id of the hole. NO_MEMORY: `block`
    /// is returned.
    pub fn push_hole(
        &mut self,
        block: Block,
        len: u32,
        waiting: u64,
        boundaries: u64,
    ) -> std::result::Result<u64, Block> {
        debug_assert!(len as usize <= block.capacity());
        let (position, address) = (self.last(), block.0);
        let Ok(gates) = self.make_gates() else { return Err(block) };
        gates.last_id += 1;
        let id = gates.last_id;
        let hole = Some(Hole { id, block: address, len });
        gates.list.push(Gate { position, before: waiting, boundaries, hole });
        self.push(block);
        self.cursor.advance(len as usize);
        self.tail_mut().expect("it was pushed").header_mut().start = len;
        Ok(id)
    }

    /// Fills the hole `id` with `bytes`, and removes its gate. They end where what was appended since begins,
    /// so that both are one piece. Returns how many boundaries there had been when it was made. None: there is
    /// no such hole. INVALID: more than it was made for.
    pub fn fill(&mut self, id: u64, bytes: &[u8]) -> Result<Option<u64>> {
        let Some(gates) = &mut self.gates else { return Ok(None) };
        let Some(at) = gates.hole(id) else { return Ok(None) };
        let Gate { boundaries, hole, .. } = gates.list[at];
        let Some(Hole { block, len, .. }) = hole else { return Ok(None) };
        if bytes.len() > len as usize {
            return Err(Errno::INVALID);
        }
        gates.list.remove(at);
        for later in &mut gates.list[at..] {
            later.before += bytes.len() as u64;
        }
        // SAFETY: the gate was removed when its block was, so that the block is of this chain, which is
        // borrowed. Nothing refers to the first `len` bytes: its copied bytes begin behind them.
        unsafe {
            let mut block = Some(block);
            let block = block_at_mut(&mut block).expect("it is some");
            let start = len - bytes.len() as u32;
            ptr::copy_nonoverlapping(bytes.as_ptr(), block.at(start), bytes.len());
            block.header_mut().start = start;
        }
        Ok(Some(boundaries))
    }

    /// Whether `block` is one of its blocks.
    fn contains(&self, block: Option<NonNull<Header>>) -> bool {
        let mut next = self.head.get();
        while let Some(here) = next {
            if Some(here.0) == block {
                return true;
            }
            next = here.header().next.get();
        }
        false
    }

    /// Where the first `len` bytes end, and the holes there that were made when at most `set` boundaries had been
    /// set. Slots without bytes that follow precede the cut.
    pub fn find(&self, mut len: u64, set: u64) -> Option<Cut> {
        let gates = self.gates.as_ref().map_or(&[][..], |gates| &gates.list);
        let holes = gates.iter().filter(|gate| gate.before == len && gate.hole.is_some());
        let block = |gate: &Gate| gate.hole.map(|hole| hole.block);
        let mut hole = holes.clone().rfind(|gate| gate.boundaries <= set).and_then(block);
        let behind = holes.clone().find(|gate| gate.boundaries > set).and_then(block);
        // SAFETY: this chain owns the block, and is borrowed meanwhile.
        let mut next = unsafe { block_at(&self.front) };
        while let Some(block) = next {
            let is_last = self.cursor.block == Some(block.0);
            let end = if is_last { self.cursor.end } else { block.header().end };
            hole = hole.filter(|hole| *hole != block.0);
            match block.find(end, len) {
                Ok(mut cut) => {
                    cut.bytes = end - cut.at;
                    return Some(cut);
                }
                Err(left) => len = left,
            }
            next = block.header().next.get();
            let goes_on = |next: &Block| Some(next.0) != behind && next.begins_with_notification();
            if len == 0 && hole.is_none() && !next.is_some_and(goes_on) {
                let slots = block.header().slots;
                return Some(Cut {
                    block: block.0,
                    at: end,
                    slot: slots,
                    inside: 0,
                    bytes: 0,
                    slots: 0,
                });
            }
        }
        None
    }

    /// The slot that `cut` divides.
    pub fn divided(&self, cut: &Cut) -> Option<Slot> {
        let block = Some(cut.block).filter(|_| cut.inside > 0);
        // SAFETY: find() has found it in this chain, which is borrowed.
        unsafe { block_at(&block) }.map(|block| *block.slot_ref(cut.slot))
    }

    /// Removes the gates that are behind `cut`, where `len` bytes end, and the holes there that were made when at
    /// most `set` boundaries had been set. `rest` was taken out.
    pub fn remove_gates_behind(&mut self, cut: &Cut, len: u64, set: u64, rest: &Chain) {
        let Some(gates) = &mut self.gates else { return };
        let stays =
            |gate: &&Gate| gate.before < len || gate.before == len && gate.boundaries <= set;
        let stay = gates.list.iter().take_while(stays).count();
        gates.list.truncate(stay);
        // A cork may be behind a hole that was filled with nothing, whose block goes.
        for gate in gates.list.iter_mut().filter(|gate| rest.contains(gate.position.block)) {
            gate.position = Position { block: Some(cut.block), end: cut.at, slots: cut.slot };
        }
    }

    /// Takes out what is behind `cut`. What is in the same block moves to `spare`, which has space for
    /// [`Cut::space`] bytes, or for the slots if all is to be discarded. `owner` is that of both parts of a divided slot.
    pub fn split(
        &mut self,
        cut: Cut,
        spare: Option<Block>,
        owner: Owner,
        is_discarded: bool,
    ) -> Chain {
        let mut address = Some(cut.block);
        // SAFETY: find() has found it in this chain, which is borrowed for as long as the result is.
        let last = unsafe { block_at_mut(&mut address) }.expect("it is some");
        let mut rest = Chain::new();
        rest.head.0 = last.header_mut().next.0.take();
        let moved = spare.map(|spare| last.move_behind(&cut, spare, owner, is_discarded));
        let slots_at = std::mem::replace(&mut self.slots_at, last.slots_at());
        let before = Cursor { block: Some(cut.block), end: cut.at, room: 0 };
        let cursor = std::mem::replace(&mut self.cursor, before);
        if !rest.is_empty() {
            (rest.cursor, rest.slots_at) = (cursor, slots_at);
        }
        if let Some(mut first) = moved {
            let (address, slots_at) = (first.0, first.slots_at());
            first.header_mut().end = cut.bytes;
            first.header_mut().next.0 = rest.head.0.take();
            if rest.cursor.block.is_none() {
                rest.cursor = Cursor { block: Some(address), end: cut.bytes, room: 0 };
                rest.slots_at = slots_at;
            }
            rest.head.set(first);
        }
        rest.front = rest.head.0;
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
        let may_push = count <= self.slots_taken();
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
