//! The queues of a pool that others than their own thread may look at.

use super::buf::holders;
use super::queue::sendq_t;
use crate::errno::{Errno, Result};
use crate::queue::Queue;
use parking_lot::Mutex;
use std::ptr::null;

/// A list through the queues themselves, so that it costs no allocation. Its lock comes before those of
/// the queues.
pub(super) struct Registry(Mutex<List>);

struct List {
    first: *const sendq_t,
    /// Those that are not in the list, too.
    queues: usize,
}

// SAFETY: the pointers are only followed under the lock, and a queue takes itself out before it goes.
unsafe impl Send for List {}

impl Registry {
    pub(super) const fn new() -> Registry {
        Registry(Mutex::new(List { first: null(), queues: 0 }))
    }

    /// Counts a queue in, and lists it if others may look at it.
    ///
    /// # Safety
    /// It is alive until [`Registry::remove`].
    pub(super) unsafe fn add(&self, queue: *const sendq_t, listed: bool) {
        let mut list = self.0.lock();
        list.queues += 1;
        if !listed {
            return;
        }
        // SAFETY: listed queues are alive, and their links are only touched under the lock.
        unsafe {
            (*queue).links.set((null(), list.first));
            if let Some(next) = list.first.as_ref() {
                next.links.set((queue, next.links.get().1));
            }
        }
        list.first = queue;
    }

    /// Counts a queue out.
    ///
    /// # Safety
    /// It was added, and is still alive.
    pub(super) unsafe fn remove(&self, queue: *const sendq_t) {
        let mut list = self.0.lock();
        list.queues -= 1;
        // SAFETY: as for add().
        unsafe {
            let (previous, next) = (*queue).links.replace((null(), null()));
            if let Some(next) = next.as_ref() {
                next.links.set((previous, next.links.get().1));
            }
            match previous.as_ref() {
                Some(previous) => previous.links.set((previous.links.get().0, next)),
                None if list.first == queue => list.first = next,
                None => {}
            }
        }
    }

    /// Shows each listed queue to `look`. Returns how many there are in all.
    pub(super) fn each(&self, mut look: impl FnMut(&Queue)) -> usize {
        let list = self.0.lock();
        list.walk(|queue| queue.peep(&mut look));
        list.queues
    }

    /// The listed queues that hold anything, and how many bytes, the heaviest first. NO_MEMORY.
    pub(super) fn heaviest(&self) -> Result<Vec<(u64, *const sendq_t)>> {
        let list = self.0.lock();
        let (mut count, mut weighed) = (0, Vec::new());
        list.walk(|_| count += 1);
        weighed.try_reserve_exact(count).map_err(|_| Errno::NO_MEMORY)?;
        list.walk(|queue| {
            let mut weight = 0;
            queue.peep(|queue| weight = queue.weight(holders));
            if weight > 0 {
                weighed.push((weight, &raw const *queue));
            }
        });
        weighed.sort_unstable_by_key(|(weight, _)| std::cmp::Reverse(*weight));
        Ok(weighed)
    }
}

impl List {
    fn walk(&self, mut look: impl FnMut(&sendq_t)) {
        let mut queue = self.first;
        // SAFETY: listed queues are alive, and the lock is held.
        while let Some(listed) = unsafe { queue.as_ref() } {
            look(listed);
            queue = listed.links.get().1;
        }
    }
}
