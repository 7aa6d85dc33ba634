//! The queues of a pool that other threads than their own may look at.

use parking_lot::Mutex;
use std::cell::Cell;
use std::ptr::null;

/// The previous and the next member in the [`Registry`].
pub(super) type Links<T> = Cell<(*const T, *const T)>;

/// A type whose values can be members.
pub(super) trait Linked: Sized {
    /// Its links, which only the registry touches.
    fn links(&self) -> &Links<Self>;
}

/// An intrusive list, so that it needs no allocation. Its lock is taken before those of the members.
pub(super) struct Registry<T>(Mutex<List<T>>);

struct List<T> {
    first: *const T,
    /// Includes members that are not listed.
    count: usize,
}

// SAFETY: the pointers are only followed under the lock, and a member is removed before it is freed.
unsafe impl<T> Send for List<T> {}

impl<T: Linked> Registry<T> {
    pub(super) const fn new() -> Registry<T> {
        Registry(Mutex::new(List { first: null(), count: 0 }))
    }

    /// Counts a member, and lists it if other threads may look at it.
    ///
    /// # Safety
    /// It is alive until [`Registry::remove`].
    pub(super) unsafe fn add(&self, member: *const T, listed: bool) {
        let mut list = self.0.lock();
        list.count += 1;
        if !listed {
            return;
        }
        // SAFETY: listed members are alive, and their links are only touched under the lock.
        unsafe {
            (*member).links().set((null(), list.first));
            if let Some(next) = list.first.as_ref() {
                next.links().set((member, next.links().get().1));
            }
        }
        list.first = member;
    }

    /// Removes a member.
    ///
    /// # Safety
    /// It was added, and is still alive.
    pub(super) unsafe fn remove(&self, member: *const T) {
        let mut list = self.0.lock();
        list.count -= 1;
        // SAFETY: as for add().
        unsafe {
            let (previous, next) = (*member).links().replace((null(), null()));
            if let Some(next) = next.as_ref() {
                next.links().set((previous, next.links().get().1));
            }
            match previous.as_ref() {
                Some(previous) => previous.links().set((previous.links().get().0, next)),
                None if list.first == member => list.first = next,
                None => {}
            }
        }
    }

    /// Passes each listed member to `look`. Returns the number of all members.
    pub(super) fn each(&self, mut look: impl FnMut(&T)) -> usize {
        let list = self.0.lock();
        let mut member = list.first;
        // SAFETY: listed members are alive, and the lock is held.
        while let Some(listed) = unsafe { member.as_ref() } {
            look(listed);
            member = listed.links().get().1;
        }
        list.count
    }

    /// The listed members for which `measure` is not 0, in descending order; None if there is no memory for
    /// the list.
    pub(super) fn heaviest(&self, measure: impl Fn(&T) -> u64) -> Option<Vec<(u64, *const T)>> {
        let (mut count, mut measured) = (0, Vec::new());
        // Members may be added between the two passes. Then the last ones are left out.
        self.each(|_| count += 1);
        measured.try_reserve_exact(count).ok()?;
        self.each(|member| {
            let size = measure(member);
            if size > 0 && measured.len() < count {
                measured.push((size, &raw const *member));
            }
        });
        measured.sort_unstable_by_key(|(size, _)| std::cmp::Reverse(*size));
        Some(measured)
    }
}
