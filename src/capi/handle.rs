//! The handles of a queue and a pool, and the one entrance of every call on a queue.

use super::boundary::{guard, guard_callback};
use super::confinement::Confinement;
use super::orphans::Orphans;
use super::ready;
use super::registry::{Member, NOWHERE, Registry};
use crate::clock::Clock;
use crate::errno::{Errno, Result};
use crate::flush::WithLocked;
use crate::log;
use crate::policy::Hints;
use crate::pool::{Limits, Pool};
use crate::queue::{Deferred, Queue};
use crate::release::{self, Lifetime, Shared};
use crate::sink::Promises;
use crate::sync::RawMutex;
use crate::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use crate::sync::lock_api::RawMutex as _;
use libc::c_int;
use std::cell::{Cell, UnsafeCell};
use std::ffi::c_void;
use std::ptr::{NonNull, null_mut};

/// The output of one connection: the queued bytes, in order.
pub struct sendq_t {
    queue: UnsafeCell<Queue>,
    pool: NonNull<sendq_pool_t>,
    user: *mut c_void,
    /// Its place in the pool's registry.
    place: Cell<u32>,
    /// THREADSAFE, CLOCK, ZEROCOPY.
    kind: u8,
    /// In which list of the registry it is.
    listed: AtomicU8,
    /// Taken only when THREADSAFE.
    lock: RawMutex,
    lifetime: UnsafeCell<Lifetime>,
    /// Of a queue that is not THREADSAFE in a pool that is.
    confinement: Confinement,
}

/// An idle connection costs no more than 256 bytes of heap: this, eight bytes of malloc's, and 16 of the registry's
/// table.
#[cfg(all(target_pointer_width = "64", not(shuttle), not(debug_assertions)))]
const _: () = assert!(size_of::<sendq_t>() <= 232);

/// Any thread may use it: it is locked during access.
const THREADSAFE: u8 = 1;
/// The pool has a clock of the host, which is read before the time is needed.
const CLOCK: u8 = 2;
/// It may send without a copy.
const ZEROCOPY: u8 = 4;

impl sendq_t {
    /// A queue of `pool`. The caller takes the reference to the pool that the queue holds.
    pub(super) fn new(
        queue: Queue,
        pool: NonNull<sendq_pool_t>,
        user: *mut c_void,
        threadsafe: bool,
    ) -> sendq_t {
        // SAFETY: alive, as the caller of sendq_new says.
        let has_clock = unsafe { pool.as_ref() }.now.is_some();
        let flag = |flag, on| if on { flag } else { 0 };
        let kind = flag(THREADSAFE, threadsafe)
            | flag(CLOCK, has_clock)
            | flag(ZEROCOPY, queue.zerocopy().is_some());
        sendq_t {
            queue: UnsafeCell::new(queue),
            pool,
            user,
            place: Cell::new(NOWHERE),
            kind,
            listed: AtomicU8::new(0),
            lock: RawMutex::INIT,
            lifetime: UnsafeCell::new(Lifetime::NEW),
            confinement: Confinement::new(),
        }
    }

    pub(super) fn pool(&self) -> &sendq_pool_t {
        // SAFETY: held since sendq_new.
        unsafe { self.pool.as_ref() }
    }

    /// The same, for what may outlive the queue.
    pub(super) fn pool_address(&self) -> NonNull<sendq_pool_t> {
        self.pool
    }

    /// The host's own pointer.
    pub(super) fn user(&self) -> *mut c_void {
        self.user
    }

    /// Whether calls on its pool may look at it.
    pub(super) fn is_visible(&self) -> bool {
        self.place.get() != NOWHERE
    }

    /// Whether it may send without a copy.
    pub(super) fn has_zerocopy(&self) -> bool {
        self.kind & ZEROCOPY != 0
    }

    /// Reads the host's clock, if there is one. Nothing may be locked, because it may call anything.
    pub(super) fn update_time(&self) {
        if self.kind & CLOCK != 0 {
            self.pool().update_time();
        }
    }

    /// Runs `f` with exclusive access to the queue: a thread-safe one is locked, any other is used by one
    /// thread at a time, by contract. `f` calls nothing that could enter the queue again.
    #[inline(always)]
    fn with_lock<R>(&self, f: impl FnOnce() -> R) -> R {
        if self.is_threadsafe() {
            self.lock.lock();
        }
        let _unlock = Unlock(self);
        f()
    }

    /// After an access to the queue, which is tracked and still locked: tells the registry. Returns what is left
    /// to do.
    #[cold]
    #[inline(never)]
    fn track(&self, queue: &mut Queue, deferred: Deferred) -> Deferred {
        let pool = self.pool();
        ready::track(pool.queues(), self, queue, pool.pool(), deferred)
    }

    /// Runs `look` on the queue, at the time that was read last.
    pub(super) fn inspect<R>(&self, look: impl FnOnce(&mut Queue, &Pool) -> R) -> R {
        self.with_lifetime(|_, queue, pool| look(queue, pool))
    }
}

struct Unlock<'a>(&'a sendq_t);

impl Drop for Unlock<'_> {
    fn drop(&mut self) {
        if self.0.is_threadsafe() {
            // SAFETY: with_lock() has locked it, in this very call.
            unsafe { self.0.lock.unlock() };
        }
    }
}

impl Member for sendq_t {
    fn place(&self) -> &Cell<u32> {
        &self.place
    }

    fn listed(&self) -> &AtomicU8 {
        &self.listed
    }

    fn start_tracking(&self) {
        self.inspect(|queue, pool| {
            queue.set_tracked(true);
            ready::list(self.pool().queues(), self, queue, pool);
        });
    }
}

impl Shared for sendq_t {
    fn with_lifetime<R>(&self, f: impl FnOnce(&mut Lifetime, &mut Queue, &Pool) -> R) -> R {
        // SAFETY: exclusive access while this runs; the core calls no function of the host.
        self.with_lock(|| unsafe {
            f(&mut *self.lifetime.get(), &mut *self.queue.get(), &self.pool().pool)
        })
    }

    fn is_threadsafe(&self) -> bool {
        self.kind & THREADSAFE != 0
    }

    #[cold]
    unsafe fn destroy(this: *const sendq_t) {
        // SAFETY: made by Box::into_raw() in sendq_new, and nothing refers to it any more.
        let mut handle = unsafe { Box::from_raw(this.cast_mut()) };
        // SAFETY: held since sendq_new.
        unsafe {
            if let Some(orphan) = handle.queue.get_mut().take_unacked() {
                Orphans::adopt(handle.pool, orphan);
            }
            if handle.has_zerocopy() {
                handle.pool().orphans().remove_queue();
            }
            sendq_pool_t::release(handle.pool);
        }
    }
}

/// One call on a queue. After each access it updates the queue's room and collects the deferred work.
pub(super) struct Call<'a> {
    handle: &'a sendq_t,
    asks_clock: bool,
    deferred: Cell<Deferred>,
}

impl<'a> Call<'a> {
    pub(super) fn new(handle: &'a sendq_t, asks_clock: bool) -> Call<'a> {
        Call { handle, asks_clock, deferred: Cell::new(Deferred::NONE) }
    }

    /// Adds to the deferred work.
    pub(super) fn defer(&self, deferred: Deferred) {
        self.deferred.set(self.deferred.get() | deferred);
    }

    /// The handle.
    pub(super) fn handle(&self) -> &'a sendq_t {
        self.handle
    }
}

impl WithLocked for Call<'_> {
    #[inline(always)]
    fn with_locked<R>(&self, f: impl FnOnce(&mut Queue, &Pool) -> R) -> R {
        if self.asks_clock && self.handle.kind != 0 {
            self.handle.update_time();
        }
        self.handle.with_lifetime(|_, queue, pool| {
            let result = f(queue, pool);
            queue.update_room();
            let mut deferred = queue.take_deferred();
            if deferred != Deferred::NONE {
                if deferred.has_changes() {
                    deferred = self.handle.track(queue, deferred);
                }
                self.defer(deferred);
            }
            result
        })
    }
}

/// Enters the queue behind `q` to do `verb`: the only way in. NULL returns -EINVAL. A panic makes the queue
/// -ENOTRECOVERABLE. After the verb, the owners of completed slots are released, and a failure of the
/// connection is logged. The queue may not exist any more when this returns.
///
/// # Safety
/// `q` is NULL or a live queue.
#[inline(always)]
pub(super) unsafe fn enter(
    q: *const sendq_t,
    verb: impl FnOnce(&mut Queue, &Pool) -> Result<Hints>,
) -> c_int {
    // SAFETY: as the caller says.
    unsafe { enter_unlocked(q, false, |call| call.with_locked(verb)) }
}

/// [`enter`] for a verb that needs the time.
///
/// # Safety
/// As for [`enter`].
#[inline(always)]
pub(super) unsafe fn enter_timed(
    q: *const sendq_t,
    verb: impl FnOnce(&mut Queue, &Pool) -> Result<Hints>,
) -> c_int {
    // SAFETY: as the caller says.
    unsafe { enter_unlocked(q, true, |call| call.with_locked(verb)) }
}

/// [`enter`] for a verb that locks the queue itself, several times, and makes system calls or calls back
/// meanwhile. `asks_clock`: each time, the host's clock is asked before.
///
/// # Safety
/// As for [`enter`].
#[inline(always)]
pub(super) unsafe fn enter_unlocked(
    q: *const sendq_t,
    asks_clock: bool,
    verb: impl FnOnce(&Call) -> Result<Hints>,
) -> c_int {
    let enter = || {
        // SAFETY: NULL or alive, as the caller says.
        let Some(handle) = (unsafe { q.as_ref() }) else {
            return Errno::INVALID.negated();
        };
        let call = Call::new(handle, asks_clock);
        let poison = || call.with_locked(|queue, pool| queue.fail(pool, Errno::NOT_RECOVERABLE));
        let result = guard(|| verb(&call), poison);
        let deferred = call.deferred.get();
        if deferred != Deferred::NONE {
            // SAFETY: alive until here, and not used any more.
            unsafe { finish(q, deferred) };
        }
        result
    };
    // SAFETY: NULL or alive, as the caller says.
    unsafe { during(q, enter) }
}

/// Runs `call`, a call on the queue `q`, which in a debug build may not overlap with one by another thread.
///
/// # Safety
/// `q` is NULL or a live queue. `call` may free it.
#[inline(always)]
pub(super) unsafe fn during<R>(q: *const sendq_t, call: impl FnOnce() -> R) -> R {
    if !cfg!(debug_assertions) {
        return call();
    }
    // SAFETY: NULL or alive, as the caller says.
    unsafe {
        match q.as_ref() {
            Some(handle) if !handle.is_threadsafe() => {
                let pool = handle.pool.as_ptr();
                if !(*pool).pool.is_shared() {
                    return during_pool(pool, call);
                }
                Confinement::during(&raw const (*q).confinement, "queue", call)
            }
            _ => call(),
        }
    }
}

/// [`during`] for a call on `pool`.
///
/// # Safety
/// `pool` is NULL or alive. `call` may free it.
#[inline(always)]
pub(super) unsafe fn during_pool<R>(pool: *const sendq_pool_t, call: impl FnOnce() -> R) -> R {
    if !cfg!(debug_assertions) {
        return call();
    }
    // SAFETY: NULL or alive, as the caller says.
    unsafe {
        match pool.as_ref() {
            Some(handle) if !handle.pool.is_shared() => {
                Confinement::during(&raw const (*pool).confinement, "pool", call)
            }
            _ => call(),
        }
    }
}

/// Does the deferred work of a call.
///
/// # Safety
/// `q` is a live queue.
#[inline(never)]
unsafe fn finish(q: *const sendq_t, deferred: Deferred) {
    guard_callback(|| {
        // SAFETY: alive, as the caller says, and kept alive by hold().
        unsafe {
            if !deferred.has_report() && !deferred.has_wake() {
                return release::run(q);
            }
            release::hold(q, |q| {
                if deferred.has_wake() {
                    (*q).pool().wake();
                }
                if let Some(report) = (*q).inspect(|queue, pool| queue.take_report(pool)) {
                    log::report(q as usize, &report);
                }
                release::run(q);
            });
        }
    });
}

/// Frees the queue behind `q`. It is destroyed when the last call on it is over.
///
/// # Safety
/// `q` is a live queue, which the caller does not use any more.
pub(super) unsafe fn free(q: *const sendq_t) {
    // SAFETY: as the caller says. No reference is left when finish() destroys the queue.
    guard_callback(|| unsafe {
        // A logger or a release callback that this call runs may free the queue again, because it cannot know
        // better.
        if !(*q).with_lifetime(|lifetime, _, _| lifetime.free()) {
            return;
        }
        (*q).pool().queues.remove(q);
        (*q).inspect(|queue, _| queue.set_tracked(false));
        let call = Call::new(&*q, true);
        call.with_locked(|queue, pool| queue.clear(pool));
        let deferred = call.deferred.get();
        finish(q, deferred);
    });
}

/// Reads a number of the queue behind `q`; returns `null` for NULL.
///
/// # Safety
/// `q` is NULL or a live queue.
pub(super) unsafe fn number(
    q: *const sendq_t,
    null: u64,
    read: impl FnOnce(&mut Queue, &Pool) -> u64,
) -> u64 {
    // SAFETY: NULL or alive, as the caller says.
    unsafe { q.as_ref().map_or(null, |handle| during(q, || handle.inspect(read))) }
}

/// Lets `append` append to the queue behind `q`, if it is confined to one thread, which is the caller's. Returns
/// whether it has.
///
/// # Safety
/// `q` is NULL or a live queue. `append` calls nothing that could enter the queue again.
#[inline(always)]
pub(super) unsafe fn append_confined(
    q: *mut sendq_t,
    append: impl FnOnce(&mut Queue) -> bool,
) -> bool {
    // SAFETY: NULL or alive, as the caller says; only the caller's thread uses the queue.
    unsafe {
        match q.as_ref() {
            Some(handle) if !handle.is_threadsafe() => {
                during(q, || append(&mut *handle.queue.get()))
            }
            _ => false,
        }
    }
}

/// A release callback: sendq does not need the borrowed memory or the file any more. It is called exactly
/// once, on the thread whose call caused it, before that call returns, with no lock held. It may call any
/// function on the same queue, including sendq_free. If such a call completes further pieces, their owners
/// are released after the callback has returned, so that the stack does not grow. But an append that copies a
/// short piece releases its owner at once, in a callback, too, so a callback must not append short pieces to
/// itself without end. When two threads flush a thread-safe queue in turns, either of them may release what
/// the other has sent.
///
/// arg, data and len are those of the append; data is NULL for a file or a notification. reason is 0 if the
/// bytes were sent or copied, -ECANCELED if the host has discarded them, or another -errno with which the
/// connection has failed. The callback must not throw: an exception ends the process.
pub type sendq_release_fn = Option<
    unsafe extern "C-unwind" fn(arg: *mut c_void, data: *const c_void, len: usize, reason: c_int),
>;

/// A monotonic clock: returns nanoseconds since any fixed time. Any call on the pool's queues may call it,
/// with no lock held. It must not call such functions itself, and must not throw. If it goes back, sendq's
/// time stands still until the clock has caught up.
pub type sendq_now_fn = Option<unsafe extern "C-unwind" fn(arg: *mut c_void) -> u64>;

/// Allocates a block of size bytes, aligned to at least 8 bytes as by malloc(3), or returns NULL if there is no
/// memory. What is not aligned so is given back at once, and counts as no memory. Called by appends and
/// flushes on the pool's queues, perhaps with a queue's lock held, so it must not call sendq, and must not
/// throw.
pub type sendq_alloc_fn =
    Option<unsafe extern "C-unwind" fn(arg: *mut c_void, size: usize) -> *mut c_void>;

/// Frees a block that the sendq_alloc_fn beside it has allocated with the same size. A block that was spliced to a
/// queue of another pool is freed from there: later than its own pool, and on the threads of the other. It
/// must not call sendq, and must not throw.
pub type sendq_dealloc_fn =
    Option<unsafe extern "C-unwind" fn(arg: *mut c_void, block: *mut c_void, size: usize)>;

/// A function that wakes the thread which calls sendq_pool_next (see wake in sendq_pool_config_t). It runs on
/// the thread whose call caused it, before that call returns, with no lock held. It may call any function that
/// its thread may call, an append to the same queue included. It must not throw.
pub type sendq_wake_fn = Option<unsafe extern "C-unwind" fn(arg: *mut c_void)>;

/// Memory and a byte budget that many queues share: one pool per event-loop thread, or one per process.
pub struct sendq_pool_t {
    pool: Pool,
    /// References: one of the host's handle, one of each queue and of each shared buffer. The default pool
    /// has one of its own, and so never reaches 0.
    refs: AtomicUsize,
    /// The host's clock.
    now: sendq_now_fn,
    now_arg: *mut c_void,
    promises: Promises,
    /// Called when a queue becomes ready.
    wake: sendq_wake_fn,
    wake_arg: *mut c_void,
    queues: Registry<sendq_t>,
    orphans: Orphans,
    /// Of a pool that is not thread-safe, and so of all of its queues.
    confinement: Confinement,
}

// SAFETY: a shared pool has a lock. A confined one is used by one thread at a time, which is the host's
// contract (SENDQ_THREADSAFE). What buffers do to it from any thread is atomic.
unsafe impl Sync for sendq_pool_t {}

static DEFAULT_POOL: sendq_pool_t = sendq_pool_t::new(
    Pool::shared(Limits::DEFAULT, Clock::system()),
    None,
    null_mut(),
    Promises { nonblocking: false, sigpipe_ignored: false },
    None,
    null_mut(),
);

impl sendq_pool_t {
    pub(super) const fn new(
        pool: Pool,
        now: sendq_now_fn,
        now_arg: *mut c_void,
        promises: Promises,
        wake: sendq_wake_fn,
        wake_arg: *mut c_void,
    ) -> sendq_pool_t {
        let queues = Registry::new(pool.is_shared(), wake.is_some());
        let orphans = Orphans::new(pool.is_shared());
        sendq_pool_t {
            pool,
            refs: AtomicUsize::new(1),
            now,
            now_arg,
            promises,
            wake,
            wake_arg,
            queues,
            orphans,
            confinement: Confinement::new(),
        }
    }

    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    pub(super) fn queues(&self) -> &Registry<sendq_t> {
        &self.queues
    }

    /// What queues that are gone have left.
    pub(super) fn orphans(&self) -> &Orphans {
        &self.orphans
    }

    /// What the host promises about the sockets of this pool's queues.
    pub(super) fn promises(&self) -> Promises {
        self.promises
    }

    /// Reads the host's clock, if there is one. Nothing may be locked, because it may call anything.
    #[inline(never)]
    pub(super) fn update_time(&self) {
        if let Some(now) = self.now {
            // SAFETY: the host's own function with its own argument, as it asked for.
            self.pool.clock().show(unsafe { now(self.now_arg) });
        }
    }

    /// Wakes the host. Nothing may be locked, because the host may call anything.
    pub(super) fn wake(&self) {
        if let Some(wake) = self.wake {
            // SAFETY: as above.
            unsafe { wake(self.wake_arg) };
        }
    }

    /// `pool`, or the default pool for NULL.
    pub(super) fn of(pool: *mut sendq_pool_t) -> NonNull<sendq_pool_t> {
        NonNull::new(pool).unwrap_or(NonNull::from(&DEFAULT_POOL))
    }

    /// Takes a reference.
    ///
    /// # Safety
    /// `pool` is alive.
    pub(super) unsafe fn hold(pool: NonNull<sendq_pool_t>) {
        // SAFETY: alive, as the caller says. Relaxed: the caller has a reference, which is enough to make
        // another (as in Arc).
        unsafe { pool.as_ref() }.refs.fetch_add(1, Ordering::Relaxed);
    }

    /// Gives up a reference; the last one frees the pool. Any thread may give it up, as a buffer may have had
    /// it.
    ///
    /// # Safety
    /// `pool` is alive, and the caller gives up a reference of its own.
    pub(super) unsafe fn release(pool: NonNull<sendq_pool_t>) {
        // SAFETY: alive, by the reference that is given up here. Release and acquire, so that the last one
        // sees what the others did.
        if unsafe { pool.as_ref() }.refs.fetch_sub(1, Ordering::AcqRel) == 1 {
            // SAFETY: the last reference is gone, and it came from the Box of sendq_pool_new: the reference
            // of the default pool is never given up.
            drop(unsafe { Box::from_raw(pool.as_ptr()) });
        }
    }
}
