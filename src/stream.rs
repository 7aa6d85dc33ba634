//! The queued bytes of one queue, in order: write, borrow, consume, cut, join.
//!
//! Some bytes are copied, some are borrowed. All are described by a chain of blocks. The stream knows which
//! owners have to be released, but it releases none.

use crate::block::chain::Chain;
use crate::block::chain::carried::Place;
use crate::block::{Block, Consumed, MemoryUsage};
use crate::errno::{Errno, Result};
use crate::iovec::Extent;
use crate::joint::Joint;
use crate::slot::{Owner, Slot};
use libc::c_int;

/// A stream of at most this many bytes is copied when it is joined to another, rather than kept in a block of
/// its own.
const SMALL: u32 = 1024;

/// The bytes of one queue.
#[derive(Default)]
pub struct Stream {
    chain: Chain,
    /// The number of queued bytes, less the write cursor's offset in the last block, modulo 2^64. An append
    /// that fits moves only the cursor.
    base: u64,
}

impl Stream {
    /// Bytes queued.
    pub fn waiting(&self) -> u64 {
        self.base.wrapping_add(u64::from(self.chain.end()))
    }

    fn set_waiting(&mut self, waiting: u64) {
        self.base = waiting.wrapping_sub(u64::from(self.chain.end()));
    }

    /// Bytes queued that may be sent: those behind a cork or a hole may not.
    pub fn available(&self) -> u64 {
        self.chain.available(self.waiting())
    }

    /// Whether it is corked.
    pub fn is_corked(&self) -> bool {
        self.chain.is_corked()
    }

    /// Whether a cork or a hole holds back what is appended.
    pub fn has_gates(&self) -> bool {
        self.chain.has_gates()
    }

    /// How many bytes [`Stream::write`] may take.
    pub fn room(&self) -> usize {
        self.chain.room()
    }

    /// Lets [`Stream::write`] take `room` bytes, or as many as fit.
    pub fn set_room(&mut self, room: u64) {
        self.chain.set_room(room);
    }

    /// Appends a copy of `bytes`, at most [`Stream::room`] of them.
    pub fn write(&mut self, bytes: &[u8]) {
        self.chain.cursor().write(bytes);
    }

    /// Bytes that fit into the last block.
    pub fn space(&self) -> usize {
        self.chain.space() as usize
    }

    /// Bytes in use of the last block, slots included; 0 without a block.
    pub fn used_in_last(&self) -> usize {
        self.chain.used_in_last()
    }

    /// Lets [`Stream::write`] take as many bytes as fit.
    pub fn open_room(&mut self) {
        self.chain.set_room(u64::MAX);
    }

    /// Appends a copy of `bytes`. There is space for them in the last block and in those linked behind it, and
    /// [`Stream::open_room`] was called.
    #[inline(always)]
    pub fn write_piece(&mut self, bytes: &[u8]) {
        if bytes.len() > self.room() {
            self.write_across(bytes);
        } else {
            self.write(bytes);
        }
    }

    #[inline(never)]
    fn write_across(&mut self, mut bytes: &[u8]) {
        while bytes.len() > self.room() {
            let (now, later) = bytes.split_at(self.room());
            self.write(now);
            self.next_block();
            bytes = later;
        }
        self.write(bytes);
    }

    /// Adds `block`, which is written once the last one is full.
    pub fn add_block(&mut self, block: Block) {
        if self.chain.is_empty() {
            self.push_block(block);
        } else {
            self.chain.link_behind(block);
        }
    }

    /// How many slots the last block takes, if they fit.
    pub fn slots_taken(&self) -> u32 {
        self.chain.slots_taken()
    }

    /// Whether [`Stream::set_spare`] would let the last block take `slots`.
    pub fn lacks_spare(&self, slots: u32) -> bool {
        self.chain.lacks_spare(slots)
    }

    /// Lets slots behind the cork share a block with those before it, until [`Stream::take_spare`].
    pub fn set_spare(&mut self, spare: Block) {
        self.chain.set_spare(spare);
    }

    /// Takes out the spare block, unless slots behind the cork need it.
    pub fn take_spare(&mut self) -> Option<Block> {
        if self.chain.needs_spare() { None } else { self.chain.take_spare() }
    }

    /// How many boundaries had been set when the first open hole was made. None: there is no hole.
    pub fn set_before_hole(&self) -> Option<u64> {
        self.chain.set_before_hole()
    }

    /// Whether a hole holds a block.
    pub fn has_holes(&self) -> bool {
        self.chain.has_holes()
    }

    /// Whether a slot fits without another block.
    pub fn has_space_for_slot(&self) -> bool {
        self.chain.has_space_for_slot()
    }

    /// Appends `slot`. There is space for it.
    pub fn push_slot(&mut self, slot: Slot) {
        self.base = self.base.wrapping_add(slot.len());
        self.chain.push_slot(slot);
    }

    /// Goes on in the block that is linked behind the last one.
    pub fn next_block(&mut self) {
        let waiting = self.waiting();
        self.chain.next_block();
        self.set_waiting(waiting);
    }

    /// Takes out a block that was added and is not needed.
    pub fn take_unused(&mut self) -> Option<Block> {
        self.chain.unlink_behind()
    }

    /// Makes `block` the last one, which is written next.
    pub fn push_block(&mut self, block: Block) {
        let waiting = self.waiting();
        self.chain.push(block);
        self.base = waiting;
    }

    /// Where `len` contiguous bytes can be written behind the last one; None if they do not fit into the last
    /// block.
    pub fn reserve(&mut self, len: usize) -> Option<*mut u8> {
        (len <= self.space()).then(|| self.chain.write_pointer())
    }

    /// The memory of `block`, to be written by others. The stream holds the block until [`Stream::commit`].
    pub fn reserve_block(&mut self, mut block: Block) -> *mut u8 {
        let memory = block.memory().as_mut_ptr().cast();
        self.add_block(block);
        memory
    }

    /// Appends the first `len` of the reserved bytes. Returns the reserved block if it is not needed.
    pub fn commit(&mut self, len: usize) -> Option<Block> {
        let block = self.chain.unlink_behind();
        self.chain.set_room(u64::MAX);
        // A few bytes in a block of their own would make many small commits hold much memory.
        if let Some(block) = block {
            if len <= self.room().min(block.capacity() / 8) {
                self.write(block.front(len));
                return Some(block);
            }
            self.push_block(block);
        }
        self.chain.cursor().advance(len);
        None
    }

    /// Consumes `len` available bytes, and every notification that no byte precedes, for `reason`: 0 when
    /// they were sent. The completed slots are released next.
    pub fn consume(&mut self, len: u64, reason: c_int) -> Consumed {
        debug_assert!(len <= self.available());
        self.base = self.base.wrapping_sub(len);
        self.chain.consume(len, reason)
    }

    /// No block is held: nothing is queued, and no owner has to be released.
    pub fn is_empty(&self) -> bool {
        self.chain.is_empty()
    }

    /// Takes out a block that is consumed and whose owners are all released.
    pub fn pop_completed(&mut self) -> Option<Block> {
        self.chain.pop_completed()
    }

    /// Takes out the oldest block. Nothing is queued.
    #[inline(always)]
    pub fn pop(&mut self) -> Option<Block> {
        let block = self.chain.pop();
        if self.chain.is_empty() {
            self.base = 0;
        }
        block
    }

    /// The oldest completed slot, which the caller releases.
    pub fn next_released(&mut self) -> Option<Slot> {
        self.chain.next_released()
    }

    /// Passes the available extents to `take`, oldest first, until that returns false. No extent is empty.
    /// The memory stays where it is until it is consumed.
    #[inline(always)]
    pub fn each_extent(&self, mut take: impl FnMut(Extent) -> bool) {
        self.chain.each_extent(|extent, _| take(extent));
    }

    /// The same, each with the slot that it is of, if any.
    pub fn each_piece(&self, take: impl FnMut(Extent, Option<&Slot>) -> bool) {
        self.chain.each_extent(take);
    }

    /// Whether the first `len` available bytes end inside an extent.
    pub fn ends_inside(&self, mut len: u64) -> bool {
        let mut is_inside = false;
        self.each_extent(|extent| {
            is_inside = len > 0 && len < extent.len();
            len = len.saturating_sub(extent.len());
            len > 0
        });
        is_inside
    }

    /// What was consumed last was sent without a copy: [`Chain::mark_carried`].
    pub fn mark_carried(&mut self, has_begun: bool, has_messages: bool) {
        self.chain.mark_carried(has_begun, has_messages);
    }

    /// What is marked and not completed: [`Chain::carried`].
    pub fn carried(&self, has_messages: bool) -> [Option<(Place, Slot)>; 2] {
        self.chain.carried(has_messages)
    }

    /// Removes a mark, and replaces the owner: [`Chain::unmark`].
    pub fn unmark(&mut self, place: Place, owner: Owner) {
        self.chain.unmark(place, owner);
    }

    /// Takes out what is marked and completed: [`Chain::take_carried`].
    pub fn take_carried(&mut self, take: impl FnMut(Slot) -> Option<Slot>) {
        self.chain.take_carried(take);
    }

    /// Corks what is appended from here on. NO_MEMORY.
    pub fn cork(&mut self) -> Result<()> {
        self.chain.cork(self.waiting())
    }

    /// Ends the cork.
    pub fn uncork(&mut self) {
        self.chain.uncork();
    }

    /// Ends the cork, and removes all holes.
    pub fn remove_gates(&mut self) {
        self.chain.remove_gates();
    }

    /// Makes a hole of `len` bytes at the front of `block`, which becomes the last one. Returns its id.
    /// NO_MEMORY: `block` is returned.
    pub fn push_hole(
        &mut self,
        block: Block,
        len: u32,
        boundaries: u64,
    ) -> std::result::Result<u64, Block> {
        let waiting = self.waiting();
        let id = self.chain.push_hole(block, len, waiting, boundaries)?;
        self.set_waiting(waiting);
        Ok(id)
    }

    /// Fills a hole: [`Chain::fill`].
    pub fn fill(&mut self, id: u64, bytes: &[u8]) -> Result<Option<u64>> {
        let filled = self.chain.fill(id, bytes)?;
        if filled.is_some() {
            self.base = self.base.wrapping_add(bytes.len() as u64);
        }
        Ok(filled)
    }

    /// Ends the cork, and takes out what was appended since. Its first bytes may be dropped: returns how many as
    /// well.
    pub fn cut_at_cork(&mut self) -> Option<(Stream, u64)> {
        let waiting = self.waiting();
        let (rest, before, dropped) = self.chain.cut_at_cork()?;
        Some((self.cut_off(rest, waiting, before), dropped))
    }

    /// Takes out what is behind the first `len` bytes, and behind the holes there that were made when at most
    /// `set` boundaries had been set. Some block is held. `take` allocates a block of some size. Returns whether a
    /// slot was divided as well. NO_MEMORY, or the error of `take`: nothing has changed.
    pub fn split(
        &mut self,
        len: u64,
        set: u64,
        take: impl FnOnce(usize) -> Result<Block>,
    ) -> Result<(Stream, bool)> {
        let cut = self.chain.find(len, set).ok_or(Errno::INVALID)?;
        let divided = self.chain.divided(&cut);
        let joint = match divided.filter(|slot| slot.owner().release.is_some()) {
            Some(slot) => Some(Joint::new(slot, 2)?),
            None => None,
        };
        let message = match self.chain.divided_message(&cut, len) {
            Some(message) => {
                Some((message, Joint::new(self.chain.owner_of(&message), message.parts())?))
            }
            None => None,
        };
        let spare = if cut.space() > 0 { Some(take(cut.space())?) } else { None };
        let waiting = self.waiting();
        let owner = joint.map_or(Owner::NONE, Joint::into_owner);
        // A message's owner waits for what of it is on either side. Each slot before the cut has a part in it: they
        // may be divided again, or be sent without a copy, and then leave in any order.
        let message = message.map(|(message, joint)| (message, joint.into_owners_of_message()));
        if let Some((message, (whole, _))) = &message {
            self.chain.set_owner(message, *whole);
        }
        let rest = self.chain.split(cut, spare, owner, false);
        if let Some((message, (_, part))) = &message {
            self.chain.set_part_owners(message, *part);
        }
        self.chain.remove_gates_behind(&cut, len, set, &rest);
        Ok((self.cut_off(rest, waiting, len), divided.is_some()))
    }

    /// `rest` was taken out of the chain, and of `waiting` bytes the first `before` have stayed.
    fn cut_off(&mut self, rest: Chain, waiting: u64, before: u64) -> Stream {
        let mut rest = Stream { chain: rest, base: 0 };
        rest.set_waiting(waiting - before);
        self.set_waiting(before);
        rest
    }

    /// Completes all slots of `rest`, which was taken out of this stream, for `reason`. Its first `dropped` bytes
    /// are not there any more. They are released next.
    pub fn discard(&mut self, mut rest: Stream, dropped: u64, reason: c_int) -> Consumed {
        let waiting = self.waiting();
        let consumed = rest.chain.consume_rest(dropped, reason);
        self.chain.prepend(rest.chain);
        self.set_waiting(waiting);
        consumed
    }

    /// Puts back `rest`, which was taken out of this stream.
    pub fn put_back(&mut self, mut rest: Stream) {
        let waiting = self.waiting() + rest.waiting();
        self.chain.append(&mut rest.chain);
        self.set_waiting(waiting);
    }

    /// Appends all of `other`, which has no completed slots. A short `other` is copied, and its block is
    /// returned: otherwise many small messages would hold a block each.
    pub fn join(&mut self, other: &mut Stream) -> Option<Block> {
        let waiting = self.waiting() + other.waiting();
        other.chain.forget_sent();
        let is_copied = self.chain.copy_small(&other.chain, SMALL);
        let block = if is_copied { other.chain.pop() } else { None };
        if !is_copied {
            self.chain.append(&mut other.chain);
        }
        self.set_waiting(waiting);
        other.set_waiting(0);
        block
    }

    /// The memory it holds. Walks all slots.
    pub fn memory_usage(&self) -> MemoryUsage {
        self.chain.memory_usage()
    }
}
