//! Releases the owners of completed slots, and keeps a queue alive meanwhile.
//!
//! A call that completes slots releases their owners at its end, with nothing locked, oldest first. A release
//! callback may call anything on the same queue. What such a call completes is released by the outer call, so
//! that the stack does not grow. A callback may free the queue, too: it is destroyed when the last call on it
//! is over.

#![allow(unsafe_code)]

use crate::pool::Pool;
use crate::queue::Queue;
use crate::slot::Slot;
use crate::sync::thread_local;
use std::cell::Cell;

/// When a queue may be destroyed: FREED, RELEASING, and how many calls that call back into the host are in
/// progress, in CALLs, not counting the one that is RELEASING. Guarded as the queue is.
pub struct Lifetime(u8);

/// The host has freed the queue: the last of these calls destroys it.
const FREED: u8 = 1;
/// One of these calls is releasing, and goes on until no completed slot is left.
const RELEASING: u8 = 2;
/// One call.
const CALL: u8 = 4;

impl Lifetime {
    /// No call is in progress.
    pub const NEW: Lifetime = Lifetime(0);

    /// Sets `flag`. Returns whether it was set before.
    fn set(&mut self, flag: u8) -> bool {
        let was = self.0 & flag != 0;
        self.0 |= flag;
        was
    }

    /// The host frees the queue. false: it has freed it before.
    pub fn free(&mut self) -> bool {
        !self.set(FREED)
    }

    fn is_releasing(&self) -> bool {
        self.0 & RELEASING != 0
    }

    /// A call that calls back begins. false: too many are nested to count this one, and the outer ones keep
    /// the queue alive.
    fn enter(&mut self) -> bool {
        let more = self.0.checked_add(CALL);
        self.0 = more.unwrap_or(self.0);
        more.is_some()
    }

    /// Such a call ends, which was `counted` or not. true: the queue has to be destroyed.
    fn leave(&mut self, counted: bool) -> bool {
        self.0 -= if counted { CALL } else { 0 };
        counted && self.is_over()
    }

    /// No completed slot is left.
    fn end_release(&mut self) {
        self.0 &= !RELEASING;
    }

    /// The queue was freed, and no call is in progress.
    fn is_over(&self) -> bool {
        self.0 == FREED
    }
}

/// A queue that several calls, and perhaps several threads, share.
pub trait Shared {
    /// Runs `f` with exclusive access to the queue, its pool and its lifetime. `f` calls no function of the
    /// host.
    fn with_lifetime<R>(&self, f: impl FnOnce(&mut Lifetime, &mut Queue, &Pool) -> R) -> R;

    /// Whether several threads may use it.
    fn is_threadsafe(&self) -> bool;

    /// Frees its memory.
    ///
    /// # Safety
    /// The host has freed `this`, and the last call on it is over.
    unsafe fn destroy(this: *const Self);
}

thread_local! {
    /// How many release callbacks of thread-safe queues are on this thread's stack.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Runs `call`, which calls back into the host. The queue stays alive during the call, even if the host frees
/// it there.
///
/// # Safety
/// `q` is alive.
pub unsafe fn hold<Q: Shared>(q: *const Q, call: impl FnOnce(*const Q)) {
    // SAFETY: alive at first, as the caller says, and then because the call is counted. No reference outlives
    // a statement, so that none is left when the queue is destroyed.
    unsafe {
        let counted = (*q).with_lifetime(|lifetime, _, _| lifetime.enter());
        call(q);
        if (*q).with_lifetime(|lifetime, _, _| lifetime.leave(counted)) {
            Q::destroy(q);
        }
    }
}

/// Releases the owners of all completed slots, and destroys the queue if it was freed. This has to be the
/// last access of a call to the queue. Inside a release callback it does nothing: the call that runs the
/// callback goes on until all owners are released.
///
/// # Safety
/// `q` is alive.
pub unsafe fn run<Q: Shared>(q: *const Q) {
    // SAFETY: as for hold().
    unsafe {
        let threadsafe = (*q).is_threadsafe();
        let mut visit = Visit { threadsafe, ..Visit::default() };
        loop {
            let step =
                (*q).with_lifetime(|lifetime, queue, pool| visit.step(lifetime, queue, pool));
            match step {
                Step::Release(slot) => visit.release(slot),
                Step::Over => return,
                Step::Destroy => return Q::destroy(q),
            }
        }
    }
}

/// One call of [`run`].
#[derive(Default)]
struct Visit {
    threadsafe: bool,
    has_begun: bool,
    /// It has set RELEASING, and so is not counted in `calls`.
    leads: bool,
    is_counted: bool,
}

enum Step {
    Release(Slot),
    Over,
    Destroy,
}

impl Visit {
    /// "No completed slot is left" is found and recorded under one lock, so that a call which leaves its
    /// slots to this one can rely on it.
    fn step(&mut self, lifetime: &mut Lifetime, queue: &mut Queue, pool: &Pool) -> Step {
        if !self.has_begun && !self.begin(lifetime) {
            return Step::Over;
        }
        if let Some(slot) = queue.next_released(pool) {
            return Step::Release(slot);
        }
        if self.leads {
            lifetime.end_release();
        }
        let is_last = lifetime.leave(self.is_counted) || self.leads && lifetime.is_over();
        if is_last { Step::Destroy } else { Step::Over }
    }

    /// Returns whether this call has anything to do.
    fn begin(&mut self, lifetime: &mut Lifetime) -> bool {
        self.has_begun = true;
        self.leads = !lifetime.set(RELEASING);
        if self.leads {
            return true;
        }
        // In a queue that serves one thread, the call that is releasing is further up the stack. In a
        // thread-safe one it may be another thread's: then both release, slot by slot.
        if !self.threadsafe || is_in_release() {
            return false;
        }
        self.is_counted = lifetime.enter();
        true
    }

    fn release(&self, slot: Slot) {
        if self.threadsafe { release_deeper(slot) } else { slot.release() }
    }
}

/// Whether a release callback of `q` is on the stack of this thread (of a thread-safe one: of any such queue).
pub fn is_releasing<Q: Shared>(q: &Q) -> bool {
    if q.is_threadsafe() {
        return is_in_release();
    }
    q.with_lifetime(|lifetime, _, _| lifetime.is_releasing())
}

#[inline(never)]
fn is_in_release() -> bool {
    DEPTH.with(Cell::get) > 0
}

#[inline(never)]
fn release_deeper(slot: Slot) {
    DEPTH.with(|depth| depth.set(depth.get() + 1));
    slot.release();
    DEPTH.with(|depth| depth.set(depth.get() - 1));
}
