//! The queues of a pool that other threads than their own may look at, and which of them are ready.
//!
//! Two locks, neither of which a confined pool takes. That of the members is taken before those of the
//! queues, by a call that looks at all of them. That of the [`Turn`] is taken after that of a queue, and
//! nothing else is locked under it. The table is read under either, and grows under both.

mod lists;
mod table;
mod turn;

pub(super) use table::NOWHERE;
pub(super) use turn::{Next, READY, UNLISTED, Want};

use super::lock::Guarded;
use crate::errno::Result;
use crate::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::cell::{Cell, UnsafeCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ptr::null;
use table::{Links, Table};
use turn::Turn;

/// A type whose values can be members.
pub(super) trait Member {
    /// Where it is in the table.
    fn place(&self) -> &Cell<u32>;

    /// What of the [`Turn`] it is in. It is written under the lock of that.
    fn listed(&self) -> &AtomicU8;

    /// From now on, the turn is told when it becomes ready.
    fn start_tracking(&self);
}

pub(super) struct Registry<T> {
    members: Guarded<Members>,
    turn: Guarded<Turn>,
    table: UnsafeCell<Table<T>>,
    /// Whether its members tell when they become ready.
    is_tracking: AtomicBool,
}

struct Members {
    /// Includes members that are not in the table.
    count: usize,
    /// Members that are.
    visible: usize,
    /// The first free place.
    free: u32,
}

// SAFETY: the table and what it points to are used as the locks allow. A member is removed before it is freed.
unsafe impl<T> Sync for Registry<T> {}

impl<T: Member> Registry<T> {
    /// `is_tracking`: from the beginning.
    pub(super) const fn new(is_shared: bool, is_tracking: bool) -> Registry<T> {
        Registry {
            members: Guarded::new(Members { count: 0, visible: 0, free: NOWHERE }, is_shared),
            turn: Guarded::new(Turn::new(), is_shared),
            table: UnsafeCell::new(Table::new()),
            is_tracking: AtomicBool::new(is_tracking),
        }
    }

    /// Counts a member, and puts it into the table if other threads may look at it. NO_MEMORY.
    ///
    /// # Safety
    /// It is alive until [`Registry::remove`].
    pub(super) unsafe fn add(&self, member: *const T, is_visible: bool) -> Result<()> {
        self.members.with(|members| {
            if is_visible {
                if members.free == NOWHERE {
                    // SAFETY: both locks are held, and no reference to the table is in use.
                    let grow = || unsafe { (*self.table.get()).grow(lists::FIRST_END) };
                    members.free = self.turn.with(|_| grow())?;
                }
                // SAFETY: a lock is held; the member is alive.
                let (table, member) = unsafe { (&*self.table.get(), &*member) };
                let place = members.free;
                members.free = table.links(place).get().next;
                members.visible += 1;
                table.set(place, member);
                member.place().set(place);
                if self.is_tracking() {
                    member.start_tracking();
                }
            }
            members.count += 1;
            Ok(())
        })
    }

    /// Removes a member, from the lists of those that are ready as well.
    ///
    /// # Safety
    /// It was added, and is still alive.
    pub(super) unsafe fn remove(&self, member: *const T) {
        // SAFETY: alive, as the caller says.
        let member = unsafe { &*member };
        self.members.with(|members| {
            members.count -= 1;
            let place = member.place().get();
            if place == NOWHERE {
                return;
            }
            self.with_turn(|turn, table| turn.remove(table, member));
            member.place().set(NOWHERE);
            members.visible -= 1;
            // SAFETY: a lock is held.
            let table = unsafe { &*self.table.get() };
            table.set(place, null());
            table.links(place).set(Links { previous: NOWHERE, next: members.free });
            members.free = place;
            if members.visible == 0 && table.has_grown() {
                // SAFETY: both locks are held, and no reference to the table is in use.
                let clear = || unsafe { (*self.table.get()).clear() };
                members.free = self.turn.with(|_| clear());
            }
        });
    }

    /// Runs `f` under the lock of the turn.
    pub(super) fn with_turn<R>(&self, f: impl FnOnce(&mut Turn, &Table<T>) -> R) -> R {
        // SAFETY: a lock is held.
        self.turn.with(|turn| f(turn, unsafe { &*self.table.get() }))
    }

    /// Passes each member in the table to `look`, until that returns false. Returns the number of all
    /// members.
    pub(super) fn each(&self, mut look: impl FnMut(&T) -> bool) -> usize {
        self.members.with(|members| {
            // SAFETY: a lock is held, and members are alive.
            let mut all = unsafe { (*self.table.get()).members().map(|member| &*member) };
            all.all(&mut look);
            members.count
        })
    }

    /// The `n` members for which `measure` is largest and not 0, in descending order; None if there is no
    /// memory for the list.
    pub(super) fn heaviest(
        &self,
        n: usize,
        measure: impl Fn(&T) -> u64,
    ) -> Option<Vec<Reverse<(u64, *const T)>>> {
        let mut room = Vec::new();
        // Members may be added before the second look: then fewer are returned than there are.
        let most = n.min(self.members.with(|members| members.count));
        room.try_reserve_exact(most).ok()?;
        // The least of those that were found is on top.
        let mut found = BinaryHeap::from(room);
        self.each(|member| {
            let next = Reverse((measure(member), &raw const *member));
            if next.0.0 == 0 || most == 0 {
                return true;
            }
            if found.len() < most {
                found.push(next);
            } else if let Some(mut least) = found.peek_mut().filter(|least| least.0.0 < next.0.0) {
                *least = next;
            }
            true
        });
        Some(found.into_sorted_vec())
    }

    /// Whether its members tell when they become ready.
    pub(super) fn is_tracking(&self) -> bool {
        self.is_tracking.load(Ordering::Relaxed)
    }

    /// From now on they do.
    #[cold]
    pub(super) fn start_tracking(&self) {
        self.members.with(|_| {
            if self.is_tracking.swap(true, Ordering::Relaxed) {
                return;
            }
            // SAFETY: a lock is held, and members are alive.
            let all = unsafe { (*self.table.get()).members().map(|member| &*member) };
            all.for_each(T::start_tracking);
        });
    }

    /// Asks all members that are held back by their own rates, in order. `ask` calls
    /// [`Turn::answer`] for the member, which it locks.
    pub(super) fn ask_paced(&self, ask: impl Fn(&T)) {
        // The members stay alive meanwhile.
        self.members.with(|_| {
            self.with_turn(|turn, table| turn.begin_to_ask(table));
            while let Some(member) = self.with_turn(|turn, table| turn.first_to_ask(table)) {
                // SAFETY: alive, as it is in the table.
                ask(unsafe { &*member });
            }
        });
    }
}
