//! Chains that are cut and joined.

use super::super::gate::{Gate, Position};
use super::super::{Block, Cursor, Header, SLOT, block_at, block_at_mut};
use super::Chain;
use super::carried::Place;
use crate::iovec::IoVec;
use crate::slot::{Owner, Slot};
use std::ptr::NonNull;

/// A position in the middle of a block.
#[derive(Clone, Copy)]
pub struct Cut {
    pub(in crate::block) block: NonNull<Header>,
    /// The offset past the last copied byte before it.
    pub(in crate::block) at: u32,
    /// The first slot that is behind it, or is divided by it.
    pub(in crate::block) slot: u32,
    /// How many bytes of that slot precede it.
    pub(in crate::block) inside: u64,
    /// How many copied bytes and slots of the block are behind it.
    pub(in crate::block) bytes: u32,
    pub(in crate::block) slots: u32,
}

impl Cut {
    /// How many bytes a block needs for what is behind the cut in the same block.
    pub fn space(&self) -> usize {
        self.bytes as usize + self.slots as usize * SLOT
    }
}

/// A message that is cut: some of its slots.
#[derive(Clone, Copy)]
pub struct DividedMessage {
    /// That of its owner, behind the cut.
    owner: Place,
    /// The first one before the cut whose memory or file is that owner's.
    first: Place,
    /// How many such slots are before the cut.
    parts: u32,
}

impl DividedMessage {
    /// How many parts of the message have to be completed before its owner is released: these slots, and the owner's.
    pub fn parts(&self) -> u32 {
        self.parts + 1
    }
}

/// Whether the memory or the file of `slot` is that of the owner of a message.
fn is_of_message(slot: &Slot) -> bool {
    slot.len() > 0 && slot.owner().release.is_none()
}

impl Chain {
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

    /// The message that `cut`, after `len` bytes, divides, if its owner is behind the cut and has something before
    /// it. Walks all slots up to that owner.
    pub fn divided_message(&self, cut: &Cut, len: u64) -> Option<DividedMessage> {
        let (owner, before) = self.next_owner(cut)?;
        let begin = len.saturating_sub(before);
        let (mut position, mut first, mut parts) = (0, None, 0);
        // SAFETY: this chain owns the block, and is borrowed meanwhile.
        let mut next = unsafe { block_at(&self.front) };
        while let Some(block) = next {
            let Header { mut start, end, sent_slots, slots, head_offset, .. } = *block.header();
            let is_last = block.0 == cut.block;
            let until = if is_last { cut.slot + u32::from(cut.inside > 0) } else { slots };
            position -= i128::from(head_offset);
            for i in sent_slots..until {
                let slot = block.slot_ref(i);
                position += i128::from(slot.at - start) + i128::from(slot.len());
                start = slot.at;
                if is_of_message(slot) && position > i128::from(begin) {
                    first.get_or_insert(Place(block.0, i));
                    parts += 1;
                }
            }
            if is_last {
                break;
            }
            position += i128::from(end - start);
            next = block.header().next.get();
        }
        first.map(|first| DividedMessage { owner, first, parts })
    }

    /// The first slot of a message's owner behind `cut`, and how many bytes of the message precede the cut, if
    /// any do.
    pub(super) fn next_owner(&self, cut: &Cut) -> Option<(Place, u64)> {
        let mut distance = 0;
        let (mut start, mut from, mut inside) = (cut.at, cut.slot, cut.inside);
        let address = Some(cut.block);
        // SAFETY: find() has found it in this chain, which is borrowed.
        let mut next = unsafe { block_at(&address) };
        while let Some(block) = next {
            for i in from..block.header().slots {
                let slot = block.slot_ref(i);
                distance += u64::from(slot.at - start);
                start = slot.at;
                if let Some(before) = slot.message_before() {
                    let before = before.checked_sub(distance).filter(|before| *before > 0)?;
                    return Some((Place(block.0, i), before));
                }
                distance += slot.len() - inside;
                inside = 0;
            }
            if self.cursor.block == Some(block.0) {
                return None;
            }
            distance += u64::from(block.header().end - start);
            next = block.header().next.get();
            // A block that came from another queue may have sent some of what it had.
            if let Some(next) = next {
                let Header { start: first, sent_slots, head_offset, .. } = *next.header();
                (start, from, inside) = (first, sent_slots, head_offset);
            }
        }
        None
    }

    /// What was sent of the message at the front does not precede its owner any more: this chain goes behind other
    /// bytes. Walks all slots up to that owner.
    pub fn forget_sent(&mut self) {
        let Some(cut) = self.front_cut() else { return };
        if let Some((Place(block, i), sent)) = self.next_owner(&cut) {
            let mut address = Some(block);
            // SAFETY: next_owner() has found it in this chain, which is borrowed.
            unsafe { block_at_mut(&mut address) }.expect("it is some").slot_mut(i).forget(sent);
        }
    }

    /// The slot of the owner of `message`.
    pub fn owner_of(&self, message: &DividedMessage) -> Slot {
        let Place(block, i) = message.owner;
        let address = Some(block);
        // SAFETY: divided_message() has found it in this chain, which is borrowed.
        *unsafe { block_at(&address) }.expect("it is some").slot_ref(i)
    }

    /// Replaces the owner of `message`. Before the cut.
    pub fn set_owner(&mut self, message: &DividedMessage, owner: Owner) {
        let Place(block, i) = message.owner;
        let mut address = Some(block);
        // SAFETY: divided_message() has found it in this chain, which is borrowed.
        unsafe { block_at_mut(&mut address) }.expect("it is some").slot_mut(i).set_owner(owner);
    }

    /// Gives the slots of `message` before the cut an owner. After the cut.
    pub fn set_part_owners(&mut self, message: &DividedMessage, owner: Owner) {
        let Place(block, mut from) = message.first;
        let (mut address, mut left) = (Some(block), message.parts);
        // SAFETY: divided_message() has found it in this chain, which is borrowed.
        while let Some(block) = unsafe { block_at_mut(&mut address) } {
            // A block that came from another queue may have sent some of what it had.
            let Header { sent_slots, slots, .. } = *block.header();
            for i in from.max(sent_slots)..slots {
                let slot = block.slot_mut(i);
                if left > 0 && is_of_message(slot) {
                    slot.set_owner(owner);
                    left -= 1;
                }
            }
            let next = block.header().next.0;
            (address, from) = (next.filter(|_| left > 0), 0);
        }
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
    /// [`Cut::space`] bytes, or for the slots if all is to be discarded. `owner` is that of both parts of a divided
    /// slot.
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
}
