//! The table of a registry: 16 bytes for each member, in segments that never move, so that a look at all
//! members reads memory in order and the table grows without copying.

use crate::errno::{Errno, Result};
use std::cell::Cell;
use std::ptr::null;

/// The place of a member that is not in the table.
pub(in crate::capi) const NOWHERE: u32 = u32::MAX;
/// Members of a segment.
const SEGMENT: usize = 256;

#[derive(Clone, Copy)]
pub(in crate::capi) struct Links {
    pub(in crate::capi) previous: u32,
    pub(in crate::capi) next: u32,
}

struct Entry<T> {
    /// NULL: free.
    member: Cell<*const T>,
    /// In a list. In a free entry, `next` is the next free one.
    links: Cell<Links>,
}

impl<T> Entry<T> {
    /// A free entry. The next one is at the place `next`, unless that is the `end`.
    fn free(next: u32, end: u32) -> Entry<T> {
        let next = if next == end { NOWHERE } else { next };
        Entry { member: Cell::new(null()), links: Cell::new(Links { previous: NOWHERE, next }) }
    }
}

pub(in crate::capi) struct Table<T> {
    segments: Vec<Box<[Entry<T>]>>,
}

impl<T> Table<T> {
    pub(super) const fn new() -> Table<T> {
        Table { segments: Vec::new() }
    }

    fn entry(&self, place: u32) -> &Entry<T> {
        let place = place as usize;
        &self.segments[place / SEGMENT][place % SEGMENT]
    }

    pub(super) fn links(&self, place: u32) -> &Cell<Links> {
        &self.entry(place).links
    }

    pub(super) fn member(&self, place: u32) -> *const T {
        self.entry(place).member.get()
    }

    /// Sets the member at `place`; NULL makes the place free.
    pub(super) fn set(&self, place: u32, member: *const T) {
        self.entry(place).member.set(member);
    }

    /// All members, in the order of their places.
    pub(super) fn members(&self) -> impl Iterator<Item = *const T> {
        let entries = self.segments.iter().flatten();
        entries.map(|entry| entry.member.get()).filter(|member| !member.is_null())
    }

    /// Adds a segment of free places. Returns the first of them; each links the next, and the last NOWHERE.
    /// NO_MEMORY, also if there would be `limit` places or more.
    pub(super) fn grow(&mut self, limit: u32) -> Result<u32> {
        let first = self.segments.len() * SEGMENT;
        let end = u32::try_from(first + SEGMENT).ok().filter(|end| *end < limit);
        let end = end.ok_or(Errno::NO_MEMORY)?;
        let mut segment = Vec::new();
        segment.try_reserve_exact(SEGMENT).map_err(|_| Errno::NO_MEMORY)?;
        self.segments.try_reserve(1).map_err(|_| Errno::NO_MEMORY)?;
        segment.extend((first as u32 + 1..=end).map(|next| Entry::free(next, end)));
        self.segments.push(segment.into_boxed_slice());
        Ok(first as u32)
    }

    /// It has several segments.
    pub(super) fn has_grown(&self) -> bool {
        self.segments.len() > 1
    }

    /// Frees all segments but the first. There are no members. Returns the first free place, as
    /// [`Table::grow`] does.
    pub(super) fn clear(&mut self) -> u32 {
        self.segments.truncate(1);
        for (entry, next) in self.segments.iter_mut().flatten().zip(1..) {
            *entry = Entry::free(next, SEGMENT as u32);
        }
        0
    }
}
