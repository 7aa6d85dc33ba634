//! `sendq_t`.

use super::boundary::{Config, guard, guard_callback, read_config, sendq_fd_t, try_box};
use super::pool::{SENDQ_THREADSAFE, sendq_pool_t};
use crate::chunk::Chain;
use crate::errno::{Errno, Result};
use crate::flush::{Lender, flush};
use crate::log;
use crate::pool::Pool;
use crate::pressure::{Hints, Watermarks};
use crate::queue::{Queue, Report};
use crate::records::flush_records;
use crate::segment::{Gone, Owner, Parts, Piece, Segment};
use crate::sink::socket::Socket;
use crate::sink::writer::{WANT_READ, Writer};
use libc::c_int;
use parking_lot::RawMutex;
use parking_lot::lock_api::RawMutex as _;
use std::cell::{Cell, UnsafeCell};
use std::ffi::c_void;
use std::ptr::{NonNull, null_mut};

/// Append: the queue was empty. See that a flush gets scheduled.
pub const SENDQ_WAKE: c_int = 1;
/// Append: at or over the high watermark. Pause the producer.
pub const SENDQ_HIGH: c_int = 2;
/// Flush: bytes remain and the sink takes no more. Wait until it is writable.
pub const SENDQ_BLOCKED: c_int = 4;
/// Flush: bytes remain and the budget of the call is spent. Call again soon: nobody will wake you.
pub const SENDQ_MORE: c_int = 8;
/// Flush: fell to the low watermark after having been high. The producer may go on.
pub const SENDQ_RESUME: c_int = 16;

/// Flush: bytes remain and the writer goes on once its connection is readable (TLS).
pub const SENDQ_WANT_READ: c_int = 32;

/// What a sendq_write_fn returns when it cannot go on before the connection is readable: what OpenSSL calls
/// SSL_ERROR_WANT_READ.
pub const SENDQ_WRITE_WANT_READ: i64 = -4096;
const _: () = assert!(SENDQ_WRITE_WANT_READ == WANT_READ);

/// Borrowed pieces shorter than this are copied, unless the configuration says otherwise.
const COPY_BELOW: u32 = 8192;

/// Tells the owner of borrowed memory, or of a file, that sendq needs it no more: exactly once, on the
/// thread whose call caused it, before that call returns, with no lock held. It may call anything on the
/// same queue, sendq_free included; who is to be told because of such a call is told after it has
/// returned, so that the stack does not grow. When two threads take turns in flushing a thread-safe
/// queue, either may tell what the other has sent. arg, data and len are those of the append (data is
/// NULL for a file or a notification). reason is 0: the bytes have left or were copied; -ECANCELED:
/// discarded by the host; another -errno: the connection has failed with it. It must not throw: an
/// exception ends the process.
pub type sendq_release_fn = Option<
    unsafe extern "C-unwind" fn(arg: *mut c_void, data: *const c_void, len: usize, reason: c_int),
>;

/// One connection's output: what waits, in order.
#[repr(C)]
pub struct sendq_t {
    /// First, so that an append finds what it needs in one cache line.
    queue: UnsafeCell<Queue>,
    pool: NonNull<sendq_pool_t>,
    user: *mut c_void,
    /// The neighbours in the pool's registry.
    pub(super) links: Cell<(*const sendq_t, *const sendq_t)>,
    /// At most u32::MAX, which is as good as all.
    copy_below: u32,
    /// What stands against the short ways: SHARED, CLOCK.
    kind: u8,
    /// Taken only when SHARED.
    lock: RawMutex,
    telling: UnsafeCell<Telling>,
}

/// An idle connection costs no more than 192 bytes of heap, eight of which are malloc's.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<sendq_t>() <= 184);

/// SENDQ_THREADSAFE: locked for each loan.
const SHARED: u8 = 1;
/// The pool has a clock of the host's, which is asked before each loan.
const CLOCK: u8 = 2;

/// Guarded as the queue is.
struct Telling {
    /// How many calls are telling owners: a callback may free the queue, which then lives until the
    /// last of these calls is done.
    calls: u8,
    /// FREED, LOOPS.
    flags: u8,
}

/// It lives only until nobody is told any more.
const FREED: u8 = 1;
/// A call goes on telling until nobody is left to be told.
const LOOPS: u8 = 2;

impl Telling {
    /// Returns whether it was set.
    fn set(&mut self, flag: u8, on: bool) -> bool {
        let was = self.flags & flag != 0;
        self.flags = if on { self.flags | flag } else { self.flags & !flag };
        was
    }

    /// A call that calls back begins. false: there are too many within each other to count, and those
    /// further out keep the queue alive.
    fn enter(&mut self) -> bool {
        let calls = self.calls.checked_add(1);
        self.calls = calls.unwrap_or(self.calls);
        calls.is_some()
    }

    /// It ends, and was `counted` or not. true: it was the last, and the queue has to go.
    fn leave(&mut self, counted: bool) -> bool {
        self.calls -= u8::from(counted);
        counted && self.calls == 0 && self.flags & FREED != 0
    }
}

/// How a queue is made. Zero in any field but size means its default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct sendq_config_t {
    /// sizeof(sendq_config_t): how sendq tells which version the caller was compiled against.
    pub size: usize,
    /// SENDQ_THREADSAFE, or 0. A thread-safe queue wants a thread-safe pool.
    pub flags: u32,
    /// 0.
    pub reserved: u32,
    /// The host's connection, for sendq_user. sendq does not look at it.
    pub user: *mut c_void,
    /// SENDQ_RESUME comes when no more than this many bytes wait. Default: a half of high.
    pub low: u64,
    /// SENDQ_HIGH comes when at least this many bytes wait. Default: 1 MiB, or max if that is less.
    pub high: u64,
    /// No more than this many bytes ever wait: over it, appends give -ENOBUFS. Default: no cap.
    pub max: u64,
    /// Borrowed pieces shorter than this are copied, and released at once: a piece of its own costs
    /// the kernel and the host more than a small copy. 1: never. Default: 8192, where borrowing began
    /// to win on TCP: with the value warm in the cache at 2 KiB (16 a flush) to 16 KiB (one a flush),
    /// with a cold one above 8 KiB.
    pub copy_below: u64,
}

// SAFETY: repr(C), begins with a usize, and integers and raw pointers may be any bytes.
unsafe impl Config for sendq_config_t {}

impl Lender for sendq_t {
    #[inline(always)]
    fn lend<R>(&self, f: impl FnOnce(&mut Queue, &Pool) -> R) -> R {
        self.look_at_clock();
        self.lend_timeless(f)
    }
}

impl sendq_t {
    #[inline]
    fn pool(&self) -> &sendq_pool_t {
        // SAFETY: held since sendq_new.
        unsafe { self.pool.as_ref() }
    }

    /// Before a loan, because a clock of the host's may call anything.
    #[inline]
    fn look_at_clock(&self) {
        if self.kind & CLOCK != 0 {
            self.pool().look_at_clock();
        }
    }

    /// [`Lender::lend`] without asking the clock.
    #[inline]
    fn lend_timeless<R>(&self, f: impl FnOnce(&mut Queue, &Pool) -> R) -> R {
        // SAFETY: alone with the queue while this lasts: see alone(). The core calls nothing of the
        // host's.
        self.alone(|| unsafe { f(&mut *self.queue.get(), self.pool().pool()) })
    }

    pub(super) fn is_shared(&self) -> bool {
        self.kind & SHARED != 0
    }

    /// Alone with the queue while `f` runs: a shared one is locked; a confined one is used by one thread
    /// at a time, by contract. `f` calls nothing that could come in again.
    #[inline]
    fn alone<R>(&self, f: impl FnOnce() -> R) -> R {
        struct Unlock<'a>(&'a RawMutex);
        impl Drop for Unlock<'_> {
            fn drop(&mut self) {
                // SAFETY: alone() has locked it, in this very call.
                unsafe { self.0.unlock() };
            }
        }
        let _held = self.is_shared().then(|| {
            self.lock.lock();
            Unlock(&self.lock)
        });
        f()
    }

    /// Shows the queue without asking the clock.
    pub(super) fn peep(&self, look: impl FnOnce(&Queue)) {
        self.lend_timeless(|queue, _| look(queue));
    }

    /// The next of the segments whose owners have to be told. None are left: a call that tells them is
    /// over, as by [`Telling::leave`]; if it `loops`, that ends in the same loan, so that whoever leaves
    /// an owner to it can rely on it.
    fn next_gone(&self, loops: bool, counted: bool) -> std::result::Result<Gone, bool> {
        self.look_at_clock();
        self.lend_timeless(|queue, pool| {
            queue.next_gone(pool).ok_or_else(|| {
                // SAFETY: alone with it, as with the queue.
                let telling = unsafe { &mut *self.telling.get() };
                if loops {
                    telling.set(LOOPS, false);
                }
                telling.leave(counted)
            })
        })
    }

    fn with_telling<R>(&self, f: impl FnOnce(&mut Telling) -> R) -> R {
        // SAFETY: alone with it.
        self.alone(|| f(unsafe { &mut *self.telling.get() }))
    }
}

thread_local! {
    /// How many calls on this thread are telling owners.
    static TELLING: Cell<u32> = const { Cell::new(0) };
}

/// Tells the owners of all that is gone, and lets the queue go if one of them, or the caller, has freed
/// it. Last of all in a call: the queue may not be there any more. In a callback of such a call there is
/// nothing to do: that call goes on until all are told, so that the stack does not grow with them.
///
/// # Safety
/// `q` is a live queue.
unsafe fn tell(q: *const sendq_t) {
    // SAFETY: alive, as the caller says; from here on, because it is counted. No reference outlives a
    // statement, so that none is left when the queue goes.
    unsafe {
        let (counted, looped) =
            (*q).with_telling(|telling| (telling.enter(), telling.set(LOOPS, true)));
        let last = if looped && TELLING.get() > 0 {
            (*q).with_telling(|telling| telling.leave(counted))
        } else {
            telling(|| {
                loop {
                    match (*q).next_gone(!looped, counted) {
                        Ok(gone) => gone.tell(),
                        Err(last) => break last,
                    }
                }
            })
        };
        if last {
            bury(q);
        }
    }
}

/// Runs `call`, which tells owners.
fn telling<R>(call: impl FnOnce() -> R) -> R {
    TELLING.with(|calls| {
        calls.set(calls.get() + 1);
        let result = call();
        calls.set(calls.get() - 1);
        result
    })
}

/// The same; None, and nothing is done, within such a call.
#[inline(always)]
fn telling_first<R>(call: impl FnOnce() -> Option<R>) -> Option<R> {
    TELLING.with(|calls| {
        if calls.get() > 0 {
            return None;
        }
        calls.set(1);
        let result = call();
        calls.set(0);
        result
    })
}

/// Lets a queue go that was freed while it was kept alive.
///
/// # Safety
/// The last call that kept it has just ended.
#[cold]
unsafe fn bury(q: *const sendq_t) {
    // SAFETY: made by Box::into_raw() in sendq_new, and nobody has it any more.
    let handle = unsafe { Box::from_raw(q.cast_mut()) };
    // SAFETY: held since sendq_new.
    unsafe { sendq_pool_t::release(handle.pool) };
}

/// Runs `call`, which calls back into the host, and may free the queue there: it lives until then.
///
/// # Safety
/// `q` is a live queue.
unsafe fn keeping(q: *const sendq_t, call: impl FnOnce(*const sendq_t)) {
    // SAFETY: alive, as the caller says; from here on, because `calls` keeps it so. No reference
    // outlives a statement, so that none is left when the queue goes.
    unsafe {
        let counted = (*q).with_telling(Telling::enter);
        call(q);
        if (*q).with_telling(|telling| telling.leave(counted)) {
            bury(q);
        }
    }
}

/// [`with`] for a call that can make segments leave: their owners are told before it returns, and the log
/// of a connection that has failed in it.
///
/// # Safety
/// As for [`with`].
#[inline]
unsafe fn with_told(
    q: *const sendq_t,
    call: impl FnOnce(&mut Queue, &Pool) -> Result<Hints>,
) -> c_int {
    // SAFETY: as the caller says.
    unsafe {
        after(q, |q, aftermath| {
            q.lend(|queue, pool| {
                let result = call(queue, pool);
                aftermath.look(queue, pool, result.is_err());
                result
            })
        })
    }
}

/// What a call leaves to be told.
#[derive(Default)]
pub(super) struct Aftermath {
    /// The only one that has left: its owner is told without more ado.
    only: Option<Gone>,
    /// Several have.
    gone: bool,
    report: Option<Report>,
}

impl Aftermath {
    /// [`Aftermath::look`], outside of a loan.
    #[inline]
    pub(super) fn look_at(&mut self, q: &sendq_t, failed: bool) {
        q.lend(|queue, pool| self.look(queue, pool, failed));
    }

    #[inline]
    fn look(&mut self, queue: &mut Queue, pool: &Pool, failed: bool) {
        if failed {
            self.report = queue.report_failure(pool);
        }
        // What others have let go, others tell.
        self.gone = queue.has_gone() && (!failed || queue.failure().is_some());
        // In a callback, owners are left to the call that tells them, if there is one.
        if self.gone && self.report.is_none() && TELLING.get() == 0 {
            self.only = queue.only_gone(pool);
            self.gone = self.only.is_none();
        }
    }
}

/// [`with`] for a call that finds out what is to be told, and then tells it.
///
/// # Safety
/// As for [`with`].
#[inline]
pub(super) unsafe fn after(
    q: *const sendq_t,
    call: impl FnOnce(&sendq_t, &mut Aftermath) -> Result<Hints>,
) -> c_int {
    let mut aftermath = Aftermath::default();
    // SAFETY: as the caller says.
    let result = unsafe { with(q, |q| call(q, &mut aftermath)) };
    let Aftermath { only, gone, report } = aftermath;
    if let Some(only) = only {
        guard_callback(|| telling(|| only.tell()));
    } else if gone || report.is_some() || result == Errno::NOT_RECOVERABLE.negated() {
        // SAFETY: not NULL, since it was called.
        guard_callback(|| unsafe { conclude(q, report) });
    }
    result
}

/// Logs what there is to `report`, and tells the owners of all that is gone.
///
/// # Safety
/// `q` is a live queue.
unsafe fn conclude(q: *const sendq_t, report: Option<Report>) {
    // SAFETY: as the caller says; keeping() keeps it so.
    unsafe {
        let Some(report) = report else { return tell(q) };
        keeping(q, |q| {
            log::report(q as usize, &report);
            tell(q);
        });
    }
}

/// The queue behind `q` and its pool, without a detour, if it is confined and the clock the system's.
///
/// # Safety
/// `q` is NULL or a live queue; nothing else is done with it while the loan lasts.
#[inline(always)]
pub(super) unsafe fn confined<'a>(q: *mut sendq_t) -> Option<(&'a mut Queue, &'a Pool)> {
    // SAFETY: NULL or alive, as the caller says.
    let handle = unsafe { q.as_ref() }?;
    if handle.kind != 0 {
        return None;
    }
    // SAFETY: alone with the queue, and the pool alive, as for lend().
    unsafe { Some((&mut *handle.queue.get(), handle.pool.as_ref().pool())) }
}

/// Runs `call` on the queue behind `q`; see [`guard`].
///
/// # Safety
/// `q` is NULL or a live queue.
#[inline]
pub(super) unsafe fn with(
    q: *const sendq_t,
    call: impl FnOnce(&sendq_t) -> Result<Hints>,
) -> c_int {
    // SAFETY: NULL or alive, as the caller says.
    let Some(handle) = (unsafe { q.as_ref() }) else {
        return Errno::INVALID.negated();
    };
    guard(|| call(handle), || handle.lend(|queue, pool| queue.fail(pool, Errno::NOT_RECOVERABLE)))
}

/// A number of the queue behind `q`; 0 for NULL.
///
/// # Safety
/// `q` is NULL or a live queue.
unsafe fn number(q: *const sendq_t, read: impl FnOnce(&Queue) -> u64) -> u64 {
    // SAFETY: NULL or alive, as the caller says.
    unsafe { q.as_ref() }.map_or(0, |handle| handle.lend(|queue, _| read(queue)))
}

/// A number of the queue behind `q` that depends on the time; 0 for NULL.
///
/// # Safety
/// `q` is NULL or a live queue.
unsafe fn number_now(q: *const sendq_t, read: impl FnOnce(&Queue, u64) -> u64) -> u64 {
    // SAFETY: NULL or alive, as the caller says.
    unsafe { q.as_ref() }.map_or(0, |handle| handle.lend(|queue, pool| read(queue, pool.now())))
}

/// The caller's bytes as a slice.
///
/// INVALID: NULL that is not empty, or a length that no object can have.
///
/// # Safety
/// `data` is NULL or readable for `len` bytes, if `len` is a length that memory can have.
#[inline]
pub(super) unsafe fn slice<'a>(data: *const c_void, len: usize) -> Result<&'a [u8]> {
    if len == 0 {
        return Ok(&[]);
    }
    // No object is larger than PTRDIFF_MAX, and none wraps around the address space.
    let wraps = (data as usize).checked_add(len).is_none();
    if data.is_null() || len > isize::MAX as usize || wraps {
        return Err(Errno::INVALID);
    }
    // SAFETY: not NULL, and readable as the caller says.
    Ok(unsafe { std::slice::from_raw_parts(data.cast(), len) })
}

/// Makes a queue. pool may be NULL: the process's own, thread-safe and without a budget. config may
/// be NULL: all defaults. On success *out owns the queue; give it to sendq_free.
///
/// -EINVAL: out is NULL, size is less than a size_t, reserved is not 0, an unknown flag, low above
/// high, high above max, or a thread-safe queue of a pool that is not.
/// -E2BIG: the config is of a newer version and asks for what this one does not know, or is over 4 KiB.
/// -ENOMEM. On failure *out is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_new(
    pool: *mut sendq_pool_t,
    config: *const sendq_config_t,
    out: *mut *mut sendq_t,
) -> c_int {
    let make = || {
        if out.is_null() {
            return Err(Errno::INVALID);
        }
        // SAFETY: not NULL, so the caller's place for a pointer.
        unsafe { out.write(null_mut()) };
        // SAFETY: NULL, or the caller's struct with its true size.
        let config = unsafe { read_config(config) }?;
        let marks = Watermarks::new(config.low, config.high, config.max)?;
        let shared = config.flags == SENDQ_THREADSAFE;
        let pool = sendq_pool_t::of(pool);
        // SAFETY: alive until the caller gives it up, or static.
        let inside = unsafe { pool.as_ref() }.pool();
        let (pool_shared, clock) = (inside.is_shared(), inside.clock().is_host());
        if config.reserved != 0 || config.flags & !SENDQ_THREADSAFE != 0 || shared && !pool_shared {
            return Err(Errno::INVALID);
        }
        let handle = try_box(sendq_t {
            queue: UnsafeCell::new(Queue::new(marks)?),
            pool,
            user: config.user,
            links: Cell::new((std::ptr::null(), std::ptr::null())),
            copy_below: match config.copy_below {
                0 => COPY_BELOW,
                bytes => u32::try_from(bytes).unwrap_or(u32::MAX),
            },
            kind: if shared { SHARED } else { 0 } | if clock { CLOCK } else { 0 },
            lock: RawMutex::INIT,
            telling: UnsafeCell::new(Telling { calls: 0, flags: 0 }),
        })?;
        // SAFETY: as above.
        unsafe { sendq_pool_t::hold(pool) };
        let handle = Box::into_raw(handle);
        // SAFETY: alive until sendq_free takes it out; the place is not NULL, as above.
        unsafe {
            (*handle).pool().queues().add(handle, shared || !pool_shared);
            out.write(handle);
        }
        Ok(Hints::NONE)
    };
    guard(make, || ())
}

/// Ends the queue: what waits is discarded and released, all memory goes back to the pool. No other
/// thread may be using it. To send what waits first: sendq_close, and flush until nothing waits.
/// A callback of the queue may free it, and even again when it is told of that. NULL: nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_free(q: *mut sendq_t) {
    if q.is_null() {
        return;
    }
    // SAFETY: not NULL, so the caller's own handle, used for the last time.
    guard_callback(|| unsafe {
        // A logger, or an owner, that is told of the end cannot know that it is the end.
        if (*q).with_telling(|telling| telling.set(FREED, true)) {
            return;
        }
        (*q).pool().queues().remove(q);
        let report = (*q).lend(|queue, pool| {
            let report = queue.report_giving_up(pool);
            queue.clear(pool);
            report
        });
        conclude(q, report);
    });
}

/// No more appends: they give -EPIPE. What waits is still flushed: when a flush gives no hint, all of it
/// has left, but for what is corked, which goes on waiting for sendq_uncork. A success also on a queue
/// that is closed or has failed.
///
/// -EINVAL: q is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_close(q: *mut sendq_t) -> c_int {
    let close = |q: &sendq_t| {
        q.lend(|queue, _| queue.close());
        Ok(Hints::NONE)
    };
    // SAFETY: NULL or the caller's live queue.
    unsafe { with(q, close) }
}

/// sendq_close, for the usual end of a connection: what has not left in timeout_ns nanoseconds is given
/// up. When that time is over, the next sendq_flush, sendq_consume or the like discards what
/// still waits, and fails the connection with -ETIMEDOUT: sendq_retry_after_ns says when to make that
/// call though the socket never becomes writable, and the discarded of sendq_stats how many bytes were
/// lost. A timeout of 0 is over at once. A later call sets another time, even after the first. A success
/// also on a queue where nothing waits, or that has failed.
///
/// -EINVAL: q is NULL. -ETIMEDOUT: bytes wait, and the timeout is 0. -EBUSY: another thread is
/// flushing it; -ENOMEM: nothing happened.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_close_within(q: *mut sendq_t, timeout_ns: u64) -> c_int {
    let close =
        |queue: &mut Queue, pool: &Pool| queue.close_within(pool, timeout_ns).map(|()| Hints::NONE);
    // SAFETY: NULL or the caller's live queue.
    unsafe { with_told(q, close) }
}

/// Drops what waits now. The queue can be used on. Reserved memory is not waiting: it stays. A success
/// also on a queue that is closed or has failed.
///
/// Hint: SENDQ_RESUME.
/// -EINVAL: q is NULL. -EBUSY: another thread is flushing it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_discard(q: *mut sendq_t) -> c_int {
    // SAFETY: NULL or the caller's live queue.
    unsafe {
        after(q, |q, aftermath| {
            q.lend(|queue, pool| {
                let report = queue.report_giving_up(pool);
                let hints = queue.discard(pool)?;
                aftermath.report = report;
                aftermath.look(queue, pool, false);
                Ok(hints)
            })
        })
    }
}

/// The user pointer of the queue's config. NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_user(q: *const sendq_t) -> *mut c_void {
    // SAFETY: NULL or the caller's live queue.
    unsafe { q.as_ref() }.map_or(null_mut(), |handle| handle.user)
}

/// Copies len bytes behind what waits: all of them, or none. The caller keeps its memory. Pieces
/// appended one after another leave as one. An empty append to a queue that is open is a success, and
/// data may then be NULL.
///
/// Hints: SENDQ_WAKE, SENDQ_HIGH.
/// -EINVAL: q is NULL, data is NULL, or len is more than an object can have.
/// -EPIPE: the queue is closed. -ENOBUFS: over max, or over the pool's budget: try again when some of what
/// waits has left, here or, for the budget, in any queue of the pool. -ENOMEM. -EBUSY: memory is
/// reserved, sendq_commit comes first.
/// Another -errno: the connection has failed with it (sendq_error).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_append(q: *mut sendq_t, data: *const c_void, len: usize) -> c_int {
    // The common case, in a few instructions. Nothing here fails or calls out, and what it asserts was
    // tested just before: it needs no guard.
    // SAFETY: NULL or the caller's live queue.
    if let Some((queue, _)) = unsafe { confined(q) }
        && !data.is_null()
        && queue.fits(len)
    {
        // SAFETY: the caller's memory; a length that fits a chunk is one that memory can have.
        queue.append_fitting(unsafe { std::slice::from_raw_parts(data.cast(), len) });
        return 0;
    }
    // SAFETY: as the caller says.
    unsafe { append_first(q, data, len) }
}

/// sendq_append when nothing waits: the other common case.
///
/// # Safety
/// As for sendq_append.
#[inline(never)]
unsafe fn append_first(q: *mut sendq_t, data: *const c_void, len: usize) -> c_int {
    // SAFETY: NULL or the caller's live queue.
    if let Some((queue, pool)) = unsafe { confined(q) }
        && !data.is_null()
        && queue.start_at_once(pool, len)
    {
        // SAFETY: the caller's memory; a length that fits a chunk is one that memory can have.
        queue.append_fitting(unsafe { std::slice::from_raw_parts(data.cast(), len) });
        return SENDQ_WAKE;
    }
    // SAFETY: as the caller says.
    unsafe { append_at_length(q, data, len) }
}

/// sendq_append in every case.
///
/// # Safety
/// As for sendq_append.
#[inline(never)]
unsafe fn append_at_length(q: *const sendq_t, data: *const c_void, len: usize) -> c_int {
    let append = |q: &sendq_t| {
        // SAFETY: the caller's memory of that length.
        let bytes = unsafe { slice(data, len) }?;
        q.lend(|queue, pool| {
            // The short ways were tried already, but for the kinds that these were not open to.
            if q.kind == 0 {
                queue.append_parts(pool, len, std::iter::once(bytes))
            } else {
                queue.append(pool, bytes)
            }
        })
    };
    // SAFETY: NULL or the caller's live queue.
    unsafe { with(q, append) }
}

/// Copies the iovcnt pieces of iov behind what waits, in order, as one append: all or none. Empty
/// pieces are skipped. iovcnt has no upper limit.
///
/// Hints and errors as for sendq_append; -EINVAL also for a negative iovcnt, a NULL iov that is not
/// empty, and pieces that add up to more than an object can have.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_appendv(q: *mut sendq_t, iov: *const Piece, iovcnt: c_int) -> c_int {
    let append = |q: &sendq_t| {
        // SAFETY: the caller's array.
        let parts = unsafe { parts(iov, iovcnt) }?;
        q.lend(|queue, pool| queue.append_parts(pool, parts.total(), parts.slices(0)))
    };
    // SAFETY: NULL or the caller's live queue.
    unsafe { with(q, append) }
}

/// The pieces of an iovec array, which stay as they are for the time of a call.
///
/// INVALID: a negative number of them, or a NULL that is not empty; as for [`Parts::new`].
///
/// # Safety
/// `iov` is NULL or an array of `iovcnt`, the pieces of which are the caller's memory.
pub(super) unsafe fn parts<'a>(iov: *const Piece, iovcnt: c_int) -> Result<Parts<'a>> {
    let count = usize::try_from(iovcnt).map_err(|_| Errno::INVALID)?;
    if iov.is_null() && count > 0 {
        return Err(Errno::INVALID);
    }
    // SAFETY: the caller's array of that many.
    let pieces = if count > 0 { unsafe { std::slice::from_raw_parts(iov, count) } } else { &[] };
    // SAFETY: as the caller says.
    unsafe { Parts::new(pieces) }
}

/// Borrows len bytes behind what waits, without copying them. They must stay readable and unchanged
/// until release is called with arg, data and len. Fewer than copy_below bytes are copied instead, and
/// released before the call returns. A NULL release means that the memory is immortal, or that the
/// host knows by other means (sendq_notify).
///
/// Hints and errors as for sendq_append; -EINVAL also for a len of 0. On failure the caller still owns
/// its memory, and release is never called.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_append_ref(
    q: *mut sendq_t,
    data: *const c_void,
    len: usize,
    release: sendq_release_fn,
    arg: *mut c_void,
) -> c_int {
    // The common case: nothing in here can fail, panic or call out.
    // SAFETY: NULL or the caller's live queue; its memory is borrowed as it promises.
    if let Some((queue, pool, segment)) = unsafe { to_borrow(q, data, len, release, arg) }
        && queue.append_segment_at_once(pool, segment)
    {
        return 0;
    }
    // SAFETY: as the caller says.
    unsafe { append_ref_first(q, data, len, release, arg) }
}

/// The queue and the segment, if it is not for the long way anyway.
///
/// # Safety
/// As for sendq_append_ref.
#[inline(always)]
unsafe fn to_borrow<'a>(
    q: *mut sendq_t,
    data: *const c_void,
    len: usize,
    release: sendq_release_fn,
    arg: *mut c_void,
) -> Option<(&'a mut Queue, &'a Pool, Segment)> {
    // SAFETY: NULL or the caller's live queue.
    let (queue, pool) = unsafe { confined(q) }?;
    // SAFETY: not NULL, since it was lent.
    let copy_below = unsafe { (*q).copy_below };
    if data.is_null() || len > isize::MAX as usize || len < copy_below as usize {
        return None;
    }
    // SAFETY: it stays as it is until it is released, as the caller promises.
    let segment = unsafe { Segment::memory(data.cast(), len, Owner { release, arg }) };
    Some((queue, pool, segment))
}

/// sendq_append_ref when nothing waits: the other common case.
///
/// # Safety
/// As for sendq_append_ref.
#[inline(never)]
unsafe fn append_ref_first(
    q: *mut sendq_t,
    data: *const c_void,
    len: usize,
    release: sendq_release_fn,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: NULL or the caller's live queue; its memory is borrowed as it promises.
    if let Some((queue, pool, segment)) = unsafe { to_borrow(q, data, len, release, arg) }
        && queue.start_with_segment_at_once(pool, segment)
    {
        return SENDQ_WAKE;
    }
    // SAFETY: as the caller says.
    unsafe { append_ref_at_length(q, data, len, Owner { release, arg }) }
}

/// sendq_append_ref in every case.
///
/// # Safety
/// As for sendq_append_ref.
#[inline(never)]
unsafe fn append_ref_at_length(
    q: *mut sendq_t,
    data: *const c_void,
    len: usize,
    owner: Owner,
) -> c_int {
    let Owner { release, arg } = owner;
    let mut copied = false;
    let append = |q: &sendq_t| {
        // SAFETY: the caller's memory of that length.
        let bytes = unsafe { slice(data, len) }?;
        if len == 0 {
            return Err(Errno::INVALID);
        }
        copied = len < q.copy_below as usize;
        if copied {
            return q.lend(|queue, pool| queue.append(pool, bytes));
        }
        // SAFETY: it stays as it is until it is released, as the caller promises.
        let segment = unsafe { Segment::memory(bytes.as_ptr(), len, owner) };
        q.lend(|queue, pool| queue.append_segment(pool, segment))
    };
    // SAFETY: NULL or the caller's live queue.
    let result = unsafe { with(q, append) };
    if let (true, Some(release)) = (copied && result >= 0, release) {
        // SAFETY: the caller's own function and argument; the queue is not touched any more.
        guard_callback(|| unsafe { release(arg, data, len, 0) });
    }
    result
}

/// Puts len bytes of the file fd, from offset on, behind what waits, without reading them now:
/// sendfile(2) sends them where it can. The file must stay open, and hold those bytes, until release
/// is called with arg, NULL and len.
///
/// Hints and errors as for sendq_append; -EINVAL also for a len of 0, and an offset and len that no
/// file has; -EBADF: fd is negative. On failure release is never called. If the file turns out shorter
/// when its turn comes, what was promised of the stream cannot be kept: the connection fails with
/// -EIO; with the error of read(2) if that fails.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_append_file(
    q: *mut sendq_t,
    fd: c_int,
    offset: u64,
    len: u64,
    release: sendq_release_fn,
    arg: *mut c_void,
) -> c_int {
    let append = |q: &sendq_t| {
        let end = offset.checked_add(len).filter(|end| *end <= i64::MAX as u64);
        if len == 0 || end.is_none() {
            return Err(Errno::INVALID);
        }
        if fd < 0 {
            return Err(Errno::new(libc::EBADF));
        }
        let segment = Segment::file(fd, offset, len, Owner { release, arg });
        q.lend(|queue, pool| queue.append_segment(pool, segment))
    };
    // SAFETY: NULL or the caller's live queue.
    unsafe { with(q, append) }
}

/// Calls function with arg, NULL and 0 once all that waits now has left; at once if nothing waits, unless the
/// queue is corked: then the notification is held back with the rest.
///
/// Errors as for sendq_append; -EINVAL also for a NULL function. -ENOBUFS also when more than 64 segments
/// wait which take more memory than max. On failure function is never called.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_notify(
    q: *mut sendq_t,
    function: sendq_release_fn,
    arg: *mut c_void,
) -> c_int {
    let notify = |queue: &mut Queue, pool: &Pool| {
        if function.is_none() {
            return Err(Errno::INVALID);
        }
        queue.append_segment(pool, Segment::mark(Owner { release: function, arg }))
    };
    // SAFETY: NULL or the caller's live queue.
    unsafe { with_told(q, notify) }
}

/// Moves all that waits in from behind what waits in to, without copying it (up to 1 KiB is copied,
/// so that many small messages share memory). from is empty then, and can be used on; its bytes count
/// as having left it. Who paused its producer lets that go on: no SENDQ_RESUME says so. The queues may
/// have different pools: the memory counts against to's from then on. Splicing from an empty queue is a
/// success.
///
/// Hints of to: SENDQ_WAKE, SENDQ_HIGH.
/// -EINVAL: a queue is NULL, both are the same, or only one of them is thread-safe. -EPIPE, -ENOBUFS,
/// -EBUSY as for sendq_append to to. -EBUSY also: from has memory reserved, is corked, is being flushed,
/// or has owners yet to be told (in a callback of it).
/// Another -errno: either connection has failed with it. On failure nothing is moved.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_splice(to: *mut sendq_t, from: *mut sendq_t) -> c_int {
    let splice = |to: &sendq_t| {
        // SAFETY: NULL or the caller's live queue.
        let from = unsafe { from.as_ref() }.ok_or(Errno::INVALID)?;
        if std::ptr::eq(to, from) || to.is_shared() != from.is_shared() {
            return Err(Errno::INVALID);
        }
        to.look_at_clock();
        from.look_at_clock();
        // In the order of their addresses, so that two threads which splice to and fro do not wait
        // for each other.
        if (&raw const *to) < (&raw const *from) {
            to.lend_timeless(|into, pool| {
                from.lend_timeless(|out, other| into.splice(pool, out, other))
            })
        } else {
            from.lend_timeless(|out, other| {
                to.lend_timeless(|into, pool| into.splice(pool, out, other))
            })
        }
    };
    // SAFETY: NULL or the caller's live queue.
    unsafe { with(to, splice) }
}

/// What is appended from here on is held back: it waits and counts against every limit, but no flush
/// sees it, until sendq_uncork lets it go or sendq_rollback takes it back. It is the queue that is corked:
/// in a thread-safe one, what other threads append is held back, and taken back, as well.
///
/// -EINVAL: q is NULL. -EALREADY: it is corked. -EPIPE: closed. -EBUSY: memory is reserved.
/// Another -errno: the connection has failed with it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_cork(q: *mut sendq_t) -> c_int {
    // SAFETY: NULL or the caller's live queue.
    unsafe { with(q, |q| q.lend(|queue, _| queue.cork().map(|()| Hints::NONE))) }
}

/// Lets go what was held back, and ends the cork.
///
/// Hint: SENDQ_WAKE, when nothing but that waits.
/// -EINVAL: q is NULL or not corked. -EBUSY: memory is reserved.
/// Another -errno: the connection has failed with it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_uncork(q: *mut sendq_t) -> c_int {
    // SAFETY: NULL or the caller's live queue.
    unsafe { with_told(q, |queue, pool| queue.uncork(pool)) }
}

/// Takes back what was appended since sendq_cork, as if it had never been, and ends the cork. What was
/// borrowed of it is released with -ECANCELED before the call returns; the bytes count as discarded.
///
/// Hint: SENDQ_RESUME. Errors as for sendq_uncork.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_rollback(q: *mut sendq_t) -> c_int {
    let mut held = Chain::new();
    let rollback = |q: &sendq_t| {
        let (hints, taken) = q.lend(|queue, pool| queue.rollback(pool))?;
        held = taken;
        Ok(hints)
    };
    // SAFETY: NULL or the caller's live queue.
    let result = unsafe { with(q, rollback) };
    if !held.is_empty() {
        // SAFETY: not NULL, since it was corked.
        guard_callback(|| unsafe { tell_held(q, held) });
    }
    result
}

/// Tells the owners of what was rolled back, and gives its memory back.
///
/// # Safety
/// `q` is a live queue.
unsafe fn tell_held(q: *mut sendq_t, mut held: Chain) {
    // SAFETY: as the caller says; keeping() keeps it so.
    unsafe {
        keeping(q, |q| {
            let pool = (*q).pool().pool();
            while let Some(gone) = held.next_gone(|chunk| pool.give(chunk)) {
                pool.unpin(gone.unpins());
                gone.tell();
            }
            while let Some(chunk) = held.pop() {
                pool.give(chunk);
            }
            tell(q);
        });
    }
}

/// Lends len contiguous bytes to write a message into, at *out, until sendq_commit. Only what is
/// committed is ever sent. Until then other appends, and another reserve, give -EBUSY; flushing goes
/// on. The memory is the queue's: it stays valid until the commit or sendq_free.
///
/// Errors as for sendq_append; -EINVAL also for a NULL out and a len of 0. On failure *out is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_reserve(
    q: *mut sendq_t,
    len: usize,
    out: *mut *mut c_void,
) -> c_int {
    let reserve = |q: &sendq_t| {
        if out.is_null() || len > isize::MAX as usize {
            return Err(Errno::INVALID);
        }
        let memory = q.lend(|queue, pool| queue.reserve(pool, len))?;
        // SAFETY: not NULL, so the caller's place for a pointer.
        unsafe { out.write(memory.cast()) };
        Ok(Hints::NONE)
    };
    if !out.is_null() {
        // SAFETY: not NULL, so the caller's place for a pointer.
        unsafe { out.write(null_mut()) };
    }
    // SAFETY: NULL or the caller's live queue.
    unsafe { with(q, reserve) }
}

/// The first used bytes of what was reserved wait from now on, and the reservation ends. used may be
/// 0: the reservation ends, and nothing was appended.
///
/// Hints: SENDQ_WAKE, SENDQ_HIGH.
/// -EINVAL: q is NULL, nothing is reserved, or used is more than what is (the reservation stays).
/// -EPIPE, another -errno: the queue is closed, or has failed with it; a reservation ends.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_commit(q: *mut sendq_t, used: usize) -> c_int {
    // SAFETY: NULL or the caller's live queue.
    unsafe { with(q, |q| q.lend(|queue, pool| queue.commit(pool, used))) }
}

/// Hands what waits to the connected stream socket fd, oldest first, until it takes no more or max_bytes
/// (0: no budget) are spent. Never waits and never raises SIGPIPE, whatever the socket's mode. What is
/// appended by other threads meanwhile is left for the next call.
///
/// If nothing waits, fd is not looked at. For a host that filters system calls: it makes send(2) for one
/// piece, sendmsg(2) for several, and for a part of a file sendfile(2), or pread(2) and send(2).
///
/// No hint but perhaps SENDQ_RESUME: all has left. SENDQ_BLOCKED: the socket is full, flush again when
/// it is writable. SENDQ_MORE: flush again soon. SENDQ_RESUME: what waits has fallen to low.
/// -EINVAL: q is NULL. -EBUSY: another thread is flushing it; nothing happened.
/// Another -errno is the end of the connection, such as -EPIPE or -ECONNRESET (the peer is gone),
/// -EBADF (fd is closed), -ENOTSOCK (fd is no socket): everything that waits has been
/// discarded when the call returns, and later appends and flushes give the same error. A socket that
/// is not connected gives -EPIPE or -ENOTCONN. See send(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_flush(q: *mut sendq_t, fd: sendq_fd_t, max_bytes: usize) -> c_int {
    // SAFETY: NULL or the caller's live queue.
    unsafe {
        after(q, |q, aftermath| {
            let result = flush(q, &mut Socket::new(fd), max_bytes);
            aftermath.look_at(q, result.is_err());
            result
        })
    }
}

/// Takes len bytes at data, for a host with its own way of writing: TLS, say. Returns how many it took, 1
/// or more; -EAGAIN (or 0): none, it is not writable; SENDQ_WRITE_WANT_READ: none, it goes on when it is
/// readable; another -errno: the connection has failed. It runs with no lock held, and may call anything
/// on the same queue; while it runs, sendq_discard and the like give -EBUSY. It must not throw: an
/// exception ends the process.
pub type sendq_write_fn =
    Option<unsafe extern "C-unwind" fn(arg: *mut c_void, data: *const c_void, len: usize) -> i64>;

/// sendq_flush by means of write, which is called with arg until all that waited has left, it takes no
/// more, or max_bytes are spent (0: no budget). It is given contiguous bytes, at most 16 KiB at once: the
/// plaintext of one TLS record. Small pieces are gathered into such records, and their owners released
/// when they are copied; a larger piece comes from where it lies; files are read. When write has taken
/// nothing, the next call offers it the same bytes at the same address first, even above max_bytes: what
/// SSL_write(3) wants without SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER. So after that, what waits should not be
/// discarded if the connection is to go on.
///
/// Hints: as for sendq_flush; SENDQ_WANT_READ in place of SENDQ_BLOCKED, when write asked for it.
/// -EINVAL: q or write is NULL. -EBUSY: another thread is flushing it, or write called this. -ENOMEM:
/// nothing happened. -ECANCELED: write has freed q. Another -errno is the end of the connection, with
/// what write returned (-EIO if it took more than it was given), as for sendq_flush.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_flush_with(
    q: *mut sendq_t,
    write: sendq_write_fn,
    arg: *mut c_void,
    max_bytes: usize,
) -> c_int {
    let Some(write) = write.filter(|_| !q.is_null()) else {
        return Errno::INVALID.negated();
    };
    let mut result = 0;
    let flush = |q: *const sendq_t| {
        // SAFETY: alive while this runs.
        result = unsafe {
            after(q, |q, aftermath| {
                let result = flush_records(q, &mut Writer::new(write, arg), max_bytes);
                aftermath.look_at(q, result.is_err());
                result
            })
        };
    };
    // SAFETY: the caller's live queue.
    guard_callback(|| unsafe { keeping(q, flush) });
    result
}

/// Fills up to iovcnt entries of iov with what waits, oldest first, and returns how many were filled:
/// for a host with its own way of writing, which then calls sendq_consume. What was peeked stays
/// where it is until it is consumed, flushed, discarded, freed, or the connection fails; appending does
/// not move it. So a thread-safe queue is peeked by the thread that also flushes. A queue that has failed
/// has nothing to show. Part of a file
/// has no address: the pieces end before it, and at its turn there are none.
///
/// -EINVAL: q is NULL, iovcnt is negative, or iov is NULL and iovcnt is not 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_peek(q: *const sendq_t, iov: *mut Piece, iovcnt: c_int) -> c_int {
    let room = usize::try_from(iovcnt);
    let mut filled = 0;
    let peek = |q: &sendq_t| {
        let room = room.map_err(|_| Errno::INVALID)?;
        if iov.is_null() && room > 0 {
            return Err(Errno::INVALID);
        }
        q.lend(|queue, _| {
            for (i, piece) in queue.pieces().take(room).enumerate() {
                // SAFETY: the caller's array has room for iovcnt entries, and i is below that.
                unsafe { iov.add(i).write(piece) };
                filled += 1;
            }
        });
        Ok(Hints::NONE)
    };
    // SAFETY: NULL or the caller's live queue.
    match unsafe { with(q, peek) } {
        0 => filled,
        error => error,
    }
}

/// The host has sent the first bytes bytes that wait by its own means: they are gone, and count as
/// sent.
///
/// Hint: SENDQ_RESUME.
/// -EINVAL: q is NULL, or fewer wait; nothing is consumed. -EBUSY: another thread is flushing it.
/// Another -errno: the connection has failed with it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_consume(q: *mut sendq_t, bytes: usize) -> c_int {
    // SAFETY: NULL or the caller's live queue.
    if let Some((queue, pool)) = unsafe { confined(q) }
        && queue.consume_at_once(pool, bytes as u64)
    {
        return 0;
    }
    // SAFETY: the same.
    unsafe { consume_segments(q, bytes) }
}

/// sendq_consume when others have to be told.
///
/// # Safety
/// As for sendq_consume.
#[inline(never)]
unsafe fn consume_segments(q: *mut sendq_t, bytes: usize) -> c_int {
    // In a callback, owners are left to the call that tells them: see tell().
    let consumed = telling_first(|| {
        // SAFETY: NULL or the caller's live queue.
        let (queue, pool) = unsafe { confined(q) }?;
        let Some(gone) = queue.consume_segments_at_once(pool, bytes as u64)? else {
            return Some(queue.has_gone());
        };
        gone.tell();
        Some(false)
    });
    match consumed {
        // SAFETY: the same, and not NULL.
        Some(true) => unsafe { tell(q) },
        Some(false) => {}
        // SAFETY: the same.
        None => return unsafe { consume_at_length(q, bytes) },
    }
    0
}

/// sendq_consume in every case.
///
/// # Safety
/// As for sendq_consume.
#[inline(never)]
unsafe fn consume_at_length(q: *mut sendq_t, bytes: usize) -> c_int {
    let consume = |q: &sendq_t, aftermath: &mut Aftermath| {
        q.lend(|queue, pool| {
            // As in append_at_length().
            if q.kind != 0 && queue.consume_at_once(pool, bytes as u64) {
                return Ok(Hints::NONE);
            }
            let result = queue.consume(pool, bytes as u64);
            aftermath.look(queue, pool, result.is_err());
            result
        })
    };
    // SAFETY: NULL or the caller's live queue.
    unsafe { after(q, consume) }
}

/// Bytes that wait now. 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_queued_bytes(q: *const sendq_t) -> u64 {
    // SAFETY: NULL or the caller's live queue.
    unsafe { number(q, Queue::waiting) }
}

/// Bytes that have left, ever: flushed or consumed. Only grows. 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_sent_bytes(q: *const sendq_t) -> u64 {
    // SAFETY: NULL or the caller's live queue.
    unsafe { number(q, Queue::sent) }
}

/// Nanoseconds since the last byte left while bytes waited, by the pool's clock. 0 if none wait, or only
/// corked ones, and for NULL. It measures what leaves, not how much waits, and needs no flush to grow: a
/// host looks at it from a timer, and drops the connections that are stuck. With sendq_set_min_rate, a
/// connection that has been too slow for longer counts as stalled for that long.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_stalled_ns(q: *const sendq_t) -> u64 {
    // SAFETY: NULL or the caller's live queue.
    unsafe { number_now(q, Queue::stalled_ns) }
}

/// No faster than bytes_per_second from now on; 0: as fast as the socket. Up to burst bytes may leave at
/// once after a pause; 0: what comes in a second. A new rate does not fill the bucket again. Flushes
/// that it holds back give SENDQ_MORE: sendq_retry_after_ns says when the next makes sense. What the
/// host sends by itself (sendq_consume) counts, but is not held back. The pool's clock sets the step:
/// the default one moves every few milliseconds (clock_getres(2), CLOCK_MONOTONIC_COARSE), and a burst
/// that is less than what comes meanwhile is all that leaves meanwhile.
///
/// -EINVAL: q is NULL. -ENOMEM: nothing is changed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_set_rate(
    q: *mut sendq_t,
    bytes_per_second: u64,
    burst: u64,
) -> c_int {
    let set = |q: &sendq_t| {
        q.lend(|queue, pool| queue.set_rate(pool, bytes_per_second, burst)).map(|()| Hints::NONE)
    };
    // SAFETY: NULL or the caller's live queue.
    unsafe { with(q, set) }
}

/// Slower counts as stalled: when fewer than bytes_per_second times the window have left in window_ns
/// nanoseconds, while bytes waited all the time, sendq_stalled_ns counts from the beginning of that
/// window, until a window comes in which as much has left. So a client that takes a byte a minute is
/// judged like one that takes none: set, say, 1000 bytes a second over 10 s, and drop who is stalled for
/// more than 30 s. The limit should not be below the window. 0: no such floor.
///
/// What leaves is what the socket takes, and a socket that was full is writable again only when a good
/// part of its send buffer is free: with a buffer of megabytes, a slow reader seems to stand still for
/// long. So choose the window by SO_SNDBUF (socket(7)), or set that; and set no floor above the rate of
/// sendq_set_rate.
///
/// -EINVAL: q is NULL, or the window is 0 and bytes_per_second is not. -ENOMEM: nothing is changed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_set_min_rate(
    q: *mut sendq_t,
    bytes_per_second: u64,
    window_ns: u64,
) -> c_int {
    let set = |q: &sendq_t| {
        if window_ns == 0 && bytes_per_second > 0 {
            return Err(Errno::INVALID);
        }
        q.lend(|queue, pool| queue.set_min_rate(pool, bytes_per_second, window_ns))
            .map(|()| Hints::NONE)
    };
    // SAFETY: NULL or the caller's live queue.
    unsafe { with(q, set) }
}

/// In how many nanoseconds a flush does something although the socket does not become writable: when
/// the rate (sendq_set_rate) lets go of enough to be worth a call, or the time of sendq_close_within is
/// over, by the pool's clock, which may be a step behind the timer's. For the host's timer. 0 after
/// SENDQ_MORE: at once; 0 after SENDQ_BLOCKED: there is nothing to wait for but the socket. 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_retry_after_ns(q: *const sendq_t) -> u64 {
    // SAFETY: NULL or the caller's live queue.
    unsafe { number_now(q, Queue::retry_after_ns) }
}

/// 0, or the -errno that ended the connection. -ENOTRECOVERABLE: a bug in sendq was caught here; the
/// queue is out of use, other queues are not. -EINVAL: q is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_error(q: *const sendq_t) -> c_int {
    // SAFETY: NULL or the caller's live queue.
    unsafe { with(q, |q| q.lend(|queue, _| queue.failure().map_or(Ok(Hints::NONE), Err))) }
}

/// Other watermarks from now on, with 0 for the defaults (see sendq_config_t). What waits stays,
/// also above a new max.
///
/// Hints: SENDQ_HIGH, when as much waits as the new high or more; else SENDQ_RESUME, when what waits is at
/// or below the new low after having been high.
/// -EINVAL: q is NULL, low above high, or high above max. -ENOMEM: a low that is not a half of high has
/// no room. Then nothing is changed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_set_watermarks(
    q: *mut sendq_t,
    low: u64,
    high: u64,
    max: u64,
) -> c_int {
    let set = |q: &sendq_t| {
        let marks = Watermarks::new(low, high, max)?;
        q.lend(|queue, _| queue.set_watermarks(marks))
    };
    // SAFETY: NULL or the caller's live queue.
    unsafe { with(q, set) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_ends_one_queue_and_no_other() {
        let (mut hurt, mut other) = (null_mut(), null_mut());
        // SAFETY: places for two queues, which live until they are freed below.
        unsafe {
            assert_eq!(sendq_new(null_mut(), std::ptr::null(), &mut hurt), 0);
            assert_eq!(sendq_new(null_mut(), std::ptr::null(), &mut other), 0);
            assert_eq!(sendq_append(hurt, c"lost".as_ptr().cast(), 4), SENDQ_WAKE);

            let panics = |q: &sendq_t| q.lend(|_, _| panic!("injected"));
            assert_eq!(with(hurt, panics), -libc::ENOTRECOVERABLE);
            assert_eq!(sendq_error(hurt), -libc::ENOTRECOVERABLE);
            assert_eq!(sendq_queued_bytes(hurt), 0);
            assert_eq!(sendq_append(hurt, c"more".as_ptr().cast(), 4), -libc::ENOTRECOVERABLE);

            assert_eq!(sendq_append(other, c"fine".as_ptr().cast(), 4), SENDQ_WAKE);
            assert_eq!(sendq_consume(other, 4), 0);
            sendq_free(hurt);
            sendq_free(other);
        }
    }
}
