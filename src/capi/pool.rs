//! `sendq_pool_t`.

use super::boundary::{Config, fill, guard, guard_callback, read_config};
use super::handle::{
    during_pool, sendq_alloc_fn, sendq_dealloc_fn, sendq_now_fn, sendq_pool_t, sendq_t,
    sendq_wake_fn,
};
use crate::allocator::Allocator;
use crate::block::{HEADER, MAX_CAPACITY};
use crate::clock::Clock;
use crate::errno::{Errno, Result};
use crate::policy::Hints;
use crate::pool::{BLOCK_BYTES, CACHE_BYTES, Limits, MIN_BLOCK_BYTES, NO_LIMIT, Pool};
use crate::sink::Promises;
use crate::stats::PoolStats;
use crate::try_box::try_box;
use libc::c_int;
use std::ffi::c_void;
use std::ptr::{NonNull, null_mut};

/// Any thread may use the queue or pool, at the price of a lock per call. Without this flag it serves one
/// thread at a time, and the host has to make sure of that.
pub const SENDQ_THREADSAFE: u32 = 1;

/// A promise of the host: all sockets that queues of this pool are flushed to are non-blocking (O_NONBLOCK).
/// sendq then does not check this before each sendfile(2). If the promise is broken, a flush of a file may
/// block.
pub const SENDQ_SOCKETS_NONBLOCKING: u32 = 2;

/// A promise of the host: the process ignores SIGPIPE (signal(7)). sendq then does not block this signal
/// around each sendfile(2). With both promises, a part of a file costs one system call; without them, up to
/// six.
pub const SENDQ_SIGPIPE_IGNORED: u32 = 4;

/// The configuration of a pool. Zero in any field except size means the default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct sendq_pool_config_t {
    /// sizeof(sendq_pool_config_t). It tells sendq which version the caller was compiled against.
    pub size: usize,
    /// SENDQ_THREADSAFE, SENDQ_SOCKETS_NONBLOCKING and SENDQ_SIGPIPE_IGNORED, or 0.
    pub flags: u32,
    /// Must be 0.
    pub reserved: u32,
    /// The budget in bytes. It counts whole blocks, including free ones that are cached for the next append;
    /// borrowed memory, until its owner is released; and shared buffers that were made with this pool. It
    /// does not count files. An append that would exceed it returns -ENOBUFS. Two things may exceed it: what
    /// each queue has reserved (sendq_config_t), and records of sendq_flush_with, by 16 KiB for each
    /// connection. Memory beyond the budget is freed when it is returned. Default: no budget.
    pub max_bytes: u64,
    /// The size of the largest usual block in bytes, at least 256. The first block of a queue takes 256 bytes,
    /// or as much as its last burst needed; each further one takes four times as many, up to chunk_bytes.
    /// 48 bytes of a block are its header, and each borrowed or shared piece takes 48 bytes of it. A single
    /// append that is larger takes several blocks of chunk_bytes. Sizes from 4096 on are rounded up to whole
    /// pages. Memory of blocks returns to the system by whole pages. Only blocks of less than 4096 bytes other
    /// than 256 and 1024 come from malloc, whose heap does not always shrink. Default: 4 KiB.
    pub chunk_bytes: u64,
    /// Free blocks are cached for the next append, up to this many bytes. Blocks above it are freed at once.
    /// A load that stays below it causes no page faults. A pool that has held more than eight times
    /// keep_bytes has seen a burst: it then caches only 1/32 of keep_bytes, until it holds less than four
    /// times keep_bytes and needs new blocks. Default: 4 MiB. 1: no block is cached.
    pub keep_bytes: u64,
    /// The clock of this pool's queues, for tests and simulations. NULL: the system's coarse monotonic clock
    /// (clock_gettime(2)), which is exact to some milliseconds.
    pub now: sendq_now_fn,
    /// The argument of now.
    pub now_arg: *mut c_void,
    /// The host's allocator. All blocks of the pool come from it, and nothing is mapped; free blocks are cached
    /// all the same (keep_bytes). Handles, copied shared buffers and the few fields that a queue needs rarely
    /// come from malloc. Both functions or none. Default: the system.
    pub alloc: sendq_alloc_fn,
    /// Frees what alloc has allocated.
    pub dealloc: sendq_dealloc_fn,
    /// The argument of alloc and dealloc. It must stay valid until all blocks are freed: those of the pool when
    /// its last queue is, and those that were spliced to queues of other pools when these let go of them.
    pub alloc_arg: *mut c_void,
    /// Called when a queue becomes ready (sendq_pool_next) while no other queue of the pool is: for a thread
    /// that sleeps, and calls sendq_pool_next when it is woken. It is called by the thread that appends or
    /// uncorks, or whose flush leaves bytes, with no lock held. sendq_pool_next calls it as well, if it ends a
    /// turn while queues are ready for the next one and wake was not called since the turn began. Outside a turn
    /// it is also called when a queue is held back by its rate for less time than sendq_pool_retry_after_ns
    /// has returned. So a thread may sleep until it is woken, or until that time. wake must stay callable until
    /// the pool and all its queues are freed. NULL: no call.
    pub wake: sendq_wake_fn,
    /// The argument of wake.
    pub wake_arg: *mut c_void,
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
            chunk_bytes: or(self.chunk_bytes, BLOCK_BYTES)?,
            keep_bytes: or(self.keep_bytes, CACHE_BYTES)?,
        };
        let sane = (MIN_BLOCK_BYTES..=HEADER + MAX_CAPACITY).contains(&limits.chunk_bytes);
        if self.reserved != 0 || !sane || limits.chunk_bytes > limits.max_bytes {
            return Err(Errno::INVALID);
        }
        let has = |flag| self.flags & flag != 0;
        if has(!(SENDQ_THREADSAFE | SENDQ_SOCKETS_NONBLOCKING | SENDQ_SIGPIPE_IGNORED)) {
            return Err(Errno::INVALID);
        }
        let clock = if self.now.is_some() { Clock::host() } else { Clock::system() };
        let make = if has(SENDQ_THREADSAFE) { Pool::shared } else { Pool::confined };
        let promises = Promises {
            nonblocking: has(SENDQ_SOCKETS_NONBLOCKING),
            sigpipe_ignored: has(SENDQ_SIGPIPE_IGNORED),
        };
        let pool = make(limits, clock).with_allocator(self.allocator()?);
        let (wake, wake_arg) = (self.wake, self.wake_arg);
        Ok(sendq_pool_t::new(pool, self.now, self.now_arg, promises, wake, wake_arg))
    }

    fn allocator(&self) -> Result<Allocator> {
        match (self.alloc, self.dealloc) {
            (None, None) => Ok(Allocator::SYSTEM),
            (Some(alloc), Some(dealloc)) => Allocator::host(alloc, dealloc, self.alloc_arg),
            _ => Err(Errno::INVALID),
        }
    }
}

/// Makes a pool. If config is NULL, all fields have their defaults. On success *out is the new pool; give it
/// to sendq_pool_free.
///
/// -EINVAL: out is NULL, size is less than a size_t, reserved is not 0, a flag is unknown, chunk_bytes is
/// less than 256, max_bytes is less than one block, one of alloc and dealloc is NULL and the other is not, or a
/// number is larger than the address space.
/// -E2BIG: the config is of a newer version and sets fields that this version does not know, or size is over
/// 4 KiB.
/// -ENOMEM: out of memory. On failure *out is NULL.
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

/// Releases the host's handle of the pool. Queues and shared buffers keep the pool alive: it is freed with the last of
/// them. If some of its queues have SENDQ_ZEROCOPY, free these first, and then call sendq_pool_reap until it returns 0;
/// otherwise call that afterwards, which frees the pool. NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_pool_free(pool: *mut sendq_pool_t) {
    if let Some(pool) = NonNull::new(pool) {
        // SAFETY: the caller's own handle, used for the last time.
        guard_callback(|| unsafe {
            if pool.as_ref().orphans().free() {
                sendq_pool_t::release(pool);
            }
        });
    }
}

/// Fills out with the statistics of a pool, up to out_size bytes.
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
        let mut stats = PoolStats::of(pool.pool());
        let mut add = |queue: &sendq_t| {
            queue.inspect(|queue, _| stats.add(queue));
            true
        };
        let count = pool.queues().each(&mut add);
        stats.queues = count as u64;
        (stats.orphans, stats.orphan_bytes) = pool.orphans().count();
        // SAFETY: the caller's memory of that size.
        unsafe { fill(out, out_size, &stats) }
    };
    // SAFETY: NULL or alive.
    unsafe { during_pool(pool, || guard(ask, || ())) }
}
