//! `sendq_pool_t`.

use super::boundary::{Config, fill, guard, guard_callback, read_config, try_box};
use super::queue::sendq_t;
use super::registry::Registry;
use crate::chunk::{HEADER, MAX_CAPACITY};
use crate::clock::Clock;
use crate::errno::{Errno, Result};
use crate::pool::{CHUNK_BYTES, KEEP_BYTES, Limits, MIN_CHUNK_BYTES, NO_LIMIT, Pool};
use crate::pressure::Hints;
use crate::stats::PoolStats;
use libc::c_int;
use std::ffi::c_void;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Any thread may use it, at the price of a lock per call. Without it, a queue or pool serves one
/// thread at a time, whichever that is, and the host sees to that.
pub const SENDQ_THREADSAFE: u32 = 1;

/// A monotonic clock: nanoseconds since whenever. It may be called by any call on the pool's queues,
/// with no lock held, so it must not call these itself. Should it jump back, time stands still until it
/// has caught up. It must not throw.
pub type sendq_now_fn = Option<unsafe extern "C-unwind" fn(arg: *mut c_void) -> u64>;

/// Memory and a byte budget that many queues share: one per event-loop thread, or one per process.
pub struct sendq_pool_t {
    pool: Pool,
    /// The host's handle, every queue and every shared buffer hold one each. The process's default pool
    /// counts too, and never reaches 0.
    refs: AtomicUsize,
    /// For a clock of the host's.
    now: sendq_now_fn,
    now_arg: *mut c_void,
    queues: Registry,
}

// SAFETY: a shared pool is locked inside. A confined one is used by one thread at a time: the
// contract that its user took on (SENDQ_THREADSAFE); what buffers do from any thread is atomic.
unsafe impl Sync for sendq_pool_t {}

static DEFAULT_POOL: sendq_pool_t =
    sendq_pool_t::new(Pool::shared(Limits::DEFAULT, Clock::system(system_now)), None, null_mut());

/// CLOCK_MONOTONIC_COARSE, clock_gettime(2): exact to a tick of the kernel, and the cheapest there is.
#[cfg(target_os = "linux")]
#[inline]
fn system_now() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes a timespec. It cannot fail: every Linux has this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The platform's monotonic clock.
#[cfg(not(target_os = "linux"))]
fn system_now() -> u64 {
    use std::sync::OnceLock;
    use std::time::Instant;
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// How a pool is made. Zero in any field but size means its default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct sendq_pool_config_t {
    /// sizeof(sendq_pool_config_t): how sendq tells which version the caller was compiled against.
    pub size: usize,
    /// SENDQ_THREADSAFE, or 0.
    pub flags: u32,
    /// 0.
    pub reserved: u32,
    /// The budget in bytes: whole chunks, also those that are kept; memory that queues borrow, until its
    /// owners are told; shared buffers that were made with this pool. Over it, appends give -ENOBUFS.
    /// Default: none.
    pub max_bytes: u64,
    /// Memory that one chunk takes, 256 at least, 48 bytes of it for its header; rounded up to whole
    /// pages from 4096 on. Chunks below 4096 come from malloc, whose heap does not always shrink when
    /// they are freed; others are mapped, and go back to the system. Default: 4 KiB.
    pub chunk_bytes: u64,
    /// Free chunks are kept for the next append up to this many bytes; what is above is freed at once.
    /// A load that stays below it causes no page faults. A pool that has held eight times as much
    /// keeps only a 32nd of it, until it holds less than four times as much and needs new chunks.
    /// Default: 4 MiB. 1: none is kept.
    pub keep_bytes: u64,
    /// The clock of this pool's queues, for tests and simulations. NULL: the system's coarse monotonic
    /// one (clock_gettime(2)), which is exact to some milliseconds.
    pub now: sendq_now_fn,
    /// For now.
    pub now_arg: *mut c_void,
}

// SAFETY: repr(C), begins with a usize, integers and raw pointers may be any bytes; for the function,
// the caller vouches.
unsafe impl Config for sendq_pool_config_t {}

impl sendq_pool_config_t {
    fn to_pool(self) -> Result<sendq_pool_t> {
        let or = |value: u64, default: usize| match value {
            0 => Ok(default),
            value => usize::try_from(value).map_err(|_| Errno::INVALID),
        };
        let limits = Limits {
            max_bytes: or(self.max_bytes, NO_LIMIT)?.min(NO_LIMIT),
            chunk_bytes: or(self.chunk_bytes, CHUNK_BYTES)?,
            keep_bytes: or(self.keep_bytes, KEEP_BYTES)?,
        };
        let sane = (MIN_CHUNK_BYTES..=HEADER + MAX_CAPACITY).contains(&limits.chunk_bytes);
        if self.reserved != 0 || !sane || limits.chunk_bytes > limits.max_bytes {
            return Err(Errno::INVALID);
        }
        let clock = if self.now.is_some() { Clock::host() } else { Clock::system(system_now) };
        let pool = match self.flags {
            0 => Pool::confined(limits, clock),
            SENDQ_THREADSAFE => Pool::shared(limits, clock),
            _ => return Err(Errno::INVALID),
        };
        Ok(sendq_pool_t::new(pool, self.now, self.now_arg))
    }
}

impl sendq_pool_t {
    const fn new(pool: Pool, now: sendq_now_fn, now_arg: *mut c_void) -> sendq_pool_t {
        sendq_pool_t { pool, refs: AtomicUsize::new(1), now, now_arg, queues: Registry::new() }
    }

    #[inline]
    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    pub(super) fn queues(&self) -> &Registry {
        &self.queues
    }

    /// Asks the host's clock, if there is one. Nothing is locked or lent: it may call anything.
    #[inline]
    pub(super) fn look_at_clock(&self) {
        if let Some(now) = self.now {
            // SAFETY: the host's own function with its own argument, as it asked for.
            self.pool.clock().show(unsafe { now(self.now_arg) });
        }
    }

    /// `pool`, or the default pool for NULL.
    pub(super) fn of(pool: *mut sendq_pool_t) -> NonNull<sendq_pool_t> {
        NonNull::new(pool).unwrap_or(NonNull::from(&DEFAULT_POOL))
    }

    /// One holder more.
    ///
    /// # Safety
    /// `pool` is alive.
    pub(super) unsafe fn hold(pool: NonNull<sendq_pool_t>) {
        // SAFETY: alive, as the caller says. Relaxed: whoever holds one already may hand out another
        // (as Arc does).
        unsafe { pool.as_ref() }.refs.fetch_add(1, Ordering::Relaxed);
    }

    /// One holder less; the last frees it. Any thread may be the last: a buffer may have held it.
    ///
    /// # Safety
    /// `pool` is alive, and the caller gives up a hold of its own.
    pub(super) unsafe fn release(pool: NonNull<sendq_pool_t>) {
        // SAFETY: alive, by the hold that is given up here. Release and acquire, so that the last
        // holder sees what the others did.
        if unsafe { pool.as_ref() }.refs.fetch_sub(1, Ordering::AcqRel) == 1 {
            // SAFETY: nobody holds it any more, and it came from sendq_pool_new's Box: the default
            // pool's own hold is never given up.
            drop(unsafe { Box::from_raw(pool.as_ptr()) });
        }
    }
}

/// Makes a pool. config may be NULL: all defaults. On success *out owns it; give it to
/// sendq_pool_free.
///
/// -EINVAL: out is NULL, size is less than a size_t, reserved is not 0, an unknown flag, a chunk size
/// below 256 bytes, a budget below one chunk, or a number that no memory can have.
/// -E2BIG: the config is of a newer version and asks for what this one does not know, or is over 4 KiB.
/// -ENOMEM. On failure *out is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_pool_new(
    config: *const sendq_pool_config_t,
    out: *mut *mut sendq_pool_t,
) -> c_int {
    let make = || {
        if out.is_null() {
            return Err(Errno::INVALID);
        }
        // SAFETY: not NULL, so the caller's place for a pointer.
        unsafe { out.write(null_mut()) };
        // SAFETY: NULL, or the caller's struct with its true size.
        let handle = try_box(unsafe { read_config(config) }?.to_pool()?)?;
        // SAFETY: as above.
        unsafe { out.write(Box::into_raw(handle)) };
        Ok(Hints::NONE)
    };
    guard(make, || ())
}

/// Gives the pool up. Its queues and shared buffers keep it alive: it goes with the last of them. NULL:
/// nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_pool_free(pool: *mut sendq_pool_t) {
    if let Some(pool) = NonNull::new(pool) {
        // SAFETY: the caller's own handle, used for the last time.
        guard_callback(|| unsafe { sendq_pool_t::release(pool) });
    }
}

/// The figures of a pool, as much of them as out_size has room for.
///
/// -EINVAL: pool or out is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_pool_stats(
    pool: *const sendq_pool_t,
    out: *mut PoolStats,
    out_size: usize,
) -> c_int {
    let ask = || {
        // SAFETY: NULL or alive.
        let pool = unsafe { pool.as_ref() }.ok_or(Errno::INVALID)?;
        let usage = pool.pool.usage();
        let mut stats = PoolStats {
            max: if usage.max == NO_LIMIT { 0 } else { usage.max as u64 },
            used: usage.used as u64,
            free: usage.free as u64,
            pinned: usage.pinned as u64,
            shared: usage.shared as u64,
            peak: usage.peak as u64,
            ..PoolStats::default()
        };
        stats.queues = pool.queues.each(|queue| {
            stats.waiting += queue.waiting();
            stats.blocked += u64::from(queue.is_blocked());
        }) as u64;
        // SAFETY: the caller's memory of that size.
        unsafe { fill(out, out_size, &stats) }
    };
    guard(ask, || ())
}

/// Finds the queues that hold the most: chunks of the pool, and memory that they borrow or share. Fills
/// out with n of them at most, the heaviest first, and returns how many it filled in; queues that hold
/// nothing are left out. A shared buffer weighs in each queue its part among all who hold it. So a host
/// that is over its budget can drop the few that cause it. Looks at everything that waits: not for every
/// append.
///
/// In a thread-safe pool, queues that are not thread-safe are left out: only their own threads may
/// look at them. And another thread may free what this has found: the host has to prevent that.
/// -EINVAL: pool is NULL, or out is and n is not 0. -ENOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_pool_heaviest(
    pool: *const sendq_pool_t,
    out: *mut *mut sendq_t,
    n: usize,
) -> c_int {
    let mut count = 0;
    let find = || {
        // SAFETY: NULL or alive.
        let pool = unsafe { pool.as_ref() }.ok_or(Errno::INVALID)?;
        if out.is_null() && n > 0 {
            return Err(Errno::INVALID);
        }
        let heaviest = pool.queues.heaviest()?;
        for (i, (_, queue)) in heaviest.into_iter().take(n.min(c_int::MAX as usize)).enumerate() {
            // SAFETY: the caller's array has room for n, and i is below that.
            unsafe { out.add(i).write(queue.cast_mut()) };
            count += 1;
        }
        Ok(Hints::NONE)
    };
    match guard(find, || ()) {
        0 => count,
        error => error,
    }
}
