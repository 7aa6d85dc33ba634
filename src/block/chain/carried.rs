//! The slots of a chain that were sent, in part at least, without a copy.

use super::super::{Header, block_at, block_at_mut};
use super::Chain;
use super::cut::Cut;
use crate::slot::{Owner, Slot};
use std::ptr::NonNull;

/// A slot of a chain: its block, and its number there.
#[derive(Clone, Copy)]
pub struct Place(pub(in crate::block) NonNull<Header>, pub(in crate::block) u32);

impl Chain {
    /// The end of what is consumed.
    pub(super) fn front_cut(&self) -> Option<Cut> {
        // SAFETY: this chain owns the block, and is borrowed meanwhile.
        let front = (unsafe { block_at(&self.front) })?;
        let Header { start: at, sent_slots: slot, head_offset: inside, .. } = *front.header();
        Some(Cut { block: front.0, at, slot, inside, bytes: 0, slots: 0 })
    }

    /// What was consumed last was sent without a copy: marks the slot that was consumed in part (`has_begun`; another
    /// queue may have consumed some of a slot that came from there), and the owner of the message that was, if there
    /// may be one (`has_messages`). Walks all slots up to that owner.
    pub fn mark_carried(&mut self, has_begun: bool, has_messages: bool) {
        let [slot, owner] = self.begun(has_messages);
        for Place(block, i) in slot.filter(|_| has_begun).into_iter().chain(owner) {
            let mut address = Some(block);
            // SAFETY: begun() has found it in this chain, which is borrowed.
            unsafe { block_at_mut(&mut address) }.expect("it is some").slot_mut(i).carry();
        }
    }

    /// The slot that was consumed in part, and the owner of the message that was. Walks all slots up to that owner.
    fn begun(&self, has_messages: bool) -> [Option<Place>; 2] {
        let Some(cut) = self.front_cut() else { return [None, None] };
        let owner = if has_messages { self.next_owner(&cut) } else { None };
        [(cut.inside > 0).then_some(Place(cut.block, cut.slot)), owner.map(|(place, _)| place)]
    }

    /// Those of [`Chain::begun`] that are marked.
    pub fn carried(&self, has_messages: bool) -> [Option<(Place, Slot)>; 2] {
        self.begun(has_messages).map(|place| {
            let address = Some(place?.0);
            // SAFETY: begun() has found it in this chain, which is borrowed.
            let slot = *unsafe { block_at(&address) }?.slot_ref(place?.1);
            slot.is_carried().then_some((place?, slot))
        })
    }

    /// Removes the mark of the slot at `place`, which [`Chain::carried`] has returned, and gives it `owner`.
    pub fn unmark(&mut self, Place(block, i): Place, owner: Owner) {
        let mut address = Some(block);
        // SAFETY: carried() has found it in this chain, which is borrowed and has not changed.
        let block = unsafe { block_at_mut(&mut address) }.expect("it is some");
        block.slot_mut(i).unmark(owner);
    }

    /// Passes the completed slots that are marked to `take`. Those that it takes have no owner any more.
    pub fn take_carried(&mut self, mut take: impl FnMut(Slot) -> Option<Slot>) {
        let mut next = self.head.get_mut();
        while let Some(block) = next {
            let Header { released_slots, sent_slots, .. } = *block.header();
            for i in released_slots..sent_slots {
                let slot = block.slot_mut(i);
                if slot.is_carried() && take(*slot).is_none() {
                    *slot = Slot::notification(Owner::NONE);
                }
            }
            next = block.header_mut().next.get_mut();
        }
    }
}
