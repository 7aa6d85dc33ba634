//! Lists of a registry's members, linked through the places of its table.

use super::table::{Links, NOWHERE, Table};
use std::cell::Cell;

/// A list. A member is in one at most.
#[derive(Clone, Copy)]
pub(in crate::capi) enum List {
    /// Ready, for the next turn.
    Later,
    /// Ready, for this turn.
    Now,
    /// Held back by their own rates.
    Paced,
    /// Those of `Paced` whose rates have to be asked.
    Asked,
}

const LISTS: usize = 4;
/// Places from here on are the ends of lists.
pub(super) const FIRST_END: u32 = NOWHERE - LISTS as u32;

/// Doubly linked rings, each through an end of its own. So a member is removed without knowing its list, and
/// a whole list is moved in one step.
pub(super) struct Lists {
    ends: [Cell<Links>; LISTS],
}

impl Lists {
    pub(super) const fn new() -> Lists {
        const fn empty(list: u32) -> Cell<Links> {
            let end = FIRST_END + list;
            Cell::new(Links { previous: end, next: end })
        }
        Lists { ends: [empty(0), empty(1), empty(2), empty(3)] }
    }

    fn end(list: List) -> u32 {
        FIRST_END + list as u32
    }

    fn links<'a, T>(&'a self, table: &'a Table<T>, place: u32) -> &'a Cell<Links> {
        match place.checked_sub(FIRST_END) {
            Some(end) => &self.ends[end as usize],
            None => table.links(place),
        }
    }

    fn join<T>(&self, table: &Table<T>, previous: u32, next: u32) {
        let (before, after) = (self.links(table, previous), self.links(table, next));
        before.set(Links { next, ..before.get() });
        after.set(Links { previous, ..after.get() });
    }

    /// The place of its first member.
    pub(super) fn first(&self, list: List) -> Option<u32> {
        let next = self.ends[list as usize].get().next;
        (next != Lists::end(list)).then_some(next)
    }

    pub(super) fn is_empty(&self, list: List) -> bool {
        self.first(list).is_none()
    }

    /// Adds the member at `place`, which is in no list, to the end of `list`.
    pub(super) fn push<T>(&self, table: &Table<T>, list: List, place: u32) {
        let last = self.ends[list as usize].get().previous;
        self.join(table, last, place);
        self.join(table, place, Lists::end(list));
    }

    /// Removes the member at `place` from its list.
    pub(super) fn remove<T>(&self, table: &Table<T>, place: u32) {
        let Links { previous, next } = table.links(place).get();
        self.join(table, previous, next);
    }

    /// Moves all members of `from` to the end of `to`.
    pub(super) fn append<T>(&self, table: &Table<T>, to: List, from: List) {
        if self.is_empty(from) {
            return;
        }
        let Links { previous: last, next: first } = self.ends[from as usize].get();
        self.join(table, self.ends[to as usize].get().previous, first);
        self.join(table, last, Lists::end(to));
        let end = Lists::end(from);
        self.ends[from as usize].set(Links { previous: end, next: end });
    }
}
