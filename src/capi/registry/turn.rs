//! Which queues are ready, in the order in which they became so, and when the host has to be woken.

use super::Member;
use super::lists::{List, Lists};
use super::table::Table;
use crate::sync::atomic::Ordering;

/// In none of the lists.
pub(in crate::capi) const UNLISTED: u8 = 0;
/// In `Later` or `Now`.
pub(in crate::capi) const READY: u8 = 1;
/// In `Paced` or `Asked`.
const PACED: u8 = 2;

/// Where a queue should be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::capi) enum Want {
    /// In no list: no bytes are available, or its sink was full.
    Nothing,
    /// Ready, if it is in a list already.
    Stay,
    /// Ready: something has happened.
    Ready,
    /// Held back by its own rate until this time.
    Paced(u64),
}

/// The result of [`Turn::next`].
pub(in crate::capi) enum Next<T> {
    Queue(*const T),
    /// The turn is over. Whether the host has to be woken for the next one.
    Over(bool),
}

pub(in crate::capi) struct Turn {
    lists: Lists,
    /// [`Turn::next`] has returned a queue, and not yet that the turn is over.
    is_on: bool,
    /// The host was woken since the turn began.
    has_woken: bool,
    /// No paced queue is ready before this time.
    due: u64,
    /// Paced queues have left, or are held back for another time, so that `due` may be too early.
    is_due_stale: bool,
    /// The host knows that it has to come back at this time.
    alarm: u64,
}

impl Turn {
    pub(super) const fn new() -> Turn {
        Turn {
            lists: Lists::new(),
            is_on: false,
            has_woken: false,
            due: u64::MAX,
            is_due_stale: false,
            alarm: u64::MAX,
        }
    }

    /// A queue is ready.
    pub(in crate::capi) fn has_ready(&self) -> bool {
        !self.lists.is_empty(List::Now) || !self.lists.is_empty(List::Later)
    }

    /// A queue is held back by its own rate.
    pub(in crate::capi) fn has_paced(&self) -> bool {
        !self.lists.is_empty(List::Paced)
    }

    /// Puts `member` where it should be. Returns whether the host has to be woken.
    pub(in crate::capi) fn put<T: Member>(
        &mut self,
        table: &Table<T>,
        member: &T,
        want: Want,
    ) -> bool {
        let was = member.listed().load(Ordering::Relaxed);
        let to = match want {
            Want::Nothing => UNLISTED,
            Want::Stay if was == UNLISTED => UNLISTED,
            Want::Stay | Want::Ready => READY,
            Want::Paced(_) => PACED,
        };
        let had_ready = self.has_ready();
        if was != to {
            self.relist(table, member, was, to);
        }
        match want {
            Want::Paced(due) => {
                self.is_due_stale |= was == PACED;
                self.due = self.due.min(due);
                // Within a turn, the host asks for the time at its end.
                let is_news = !had_ready && !self.is_on && due < self.alarm;
                if is_news {
                    self.alarm = due;
                }
                is_news
            }
            _ if to != READY || was == READY || had_ready => false,
            _ => {
                self.has_woken = true;
                true
            }
        }
    }

    fn relist<T: Member>(&mut self, table: &Table<T>, member: &T, was: u8, to: u8) {
        let place = member.place().get();
        if was != UNLISTED {
            self.lists.remove(table, place);
            self.is_due_stale |= was == PACED;
        }
        match to {
            READY => self.lists.push(table, List::Later, place),
            PACED => self.lists.push(table, List::Paced, place),
            _ => {}
        }
        member.listed().store(to, Ordering::Relaxed);
    }

    /// Removes `member` for good.
    pub(super) fn remove<T: Member>(&mut self, table: &Table<T>, member: &T) {
        let was = member.listed().load(Ordering::Relaxed);
        self.relist(table, member, was, UNLISTED);
    }

    /// The next ready queue of this turn, which begins if none is on. `is_held`: the rate of the pool holds
    /// all queues back.
    pub(in crate::capi) fn next<T: Member>(&mut self, table: &Table<T>, is_held: bool) -> Next<T> {
        if !self.is_on {
            self.is_on = true;
            self.has_woken = false;
            self.alarm = u64::MAX;
            // Those that the pool's rate held back in the last turn come first.
            self.lists.append(table, List::Now, List::Later);
        }
        if !is_held && let Some(place) = self.lists.first(List::Now) {
            self.lists.remove(table, place);
            let member = table.member(place);
            // SAFETY: a listed member is alive.
            unsafe { &*member }.listed().store(UNLISTED, Ordering::Relaxed);
            return Next::Queue(member);
        }
        self.is_on = false;
        // When the pool's rate lets go, the host knows from the time that it asks for.
        let wakes = !is_held && !self.has_woken && self.has_ready();
        self.has_woken |= wakes;
        Next::Over(wakes)
    }

    /// Whether the next call of [`Turn::next`] begins a turn.
    pub(in crate::capi) fn is_over(&self) -> bool {
        !self.is_on
    }

    /// A paced queue may be ready now, or the time is not known when one is.
    pub(in crate::capi) fn has_to_ask(&self, now: u64) -> bool {
        self.has_paced() && (self.is_due_stale || self.due <= now)
    }

    pub(super) fn begin_to_ask<T>(&mut self, table: &Table<T>) {
        self.lists.append(table, List::Asked, List::Paced);
        (self.due, self.is_due_stale) = (u64::MAX, false);
    }

    pub(super) fn first_to_ask<T>(&self, table: &Table<T>) -> Option<*const T> {
        self.lists.first(List::Asked).map(|place| table.member(place))
    }

    /// `member`, if it is still paced, is ready, or else held back until `due`.
    pub(in crate::capi) fn answer<T: Member>(
        &mut self,
        table: &Table<T>,
        member: &T,
        due: Option<u64>,
    ) {
        if member.listed().load(Ordering::Relaxed) != PACED {
            return;
        }
        let to = if due.is_some() { PACED } else { READY };
        let is_stale = self.is_due_stale;
        self.relist(table, member, PACED, to);
        // It has not left: it is asked.
        self.is_due_stale = is_stale;
        self.due = self.due.min(due.unwrap_or(u64::MAX));
    }

    /// When the host has to come back, at the time `now`; None: nothing is paced or ready. `held_ns`: for how
    /// long the pool's rate holds all queues back. The host relies on the answer.
    pub(in crate::capi) fn retry_at(&mut self, now: u64, held_ns: u64) -> Option<u64> {
        let due = if self.has_ready() {
            now
        } else if self.has_paced() {
            self.due
        } else {
            self.alarm = u64::MAX;
            return None;
        };
        self.alarm = due.max(now.saturating_add(held_ns));
        Some(self.alarm)
    }
}
