//! `sendq_pool_t`.

use super::boundary::{Config, guard, guard_callback, read_config, try_box};
use crate::chunk::{Chunk, MAX_CAPACITY};
use crate::errno::{Errno, Result};
use crate::pool::{CHUNK_BYTES, KEEP_BYTES, Limits, MIN_CHUNK_BYTES, Pool};
use crate::pressure::Hints;
use libc::c_int;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Any thread may use it, at the price of a lock per call. Without it, a queue or pool serves one
/// thread at a time, whichever that is, and the host sees to that.
pub const SENDQ_THREADSAFE: u32 = 1;

/// Memory and a byte budget that many queues share: one per event-loop thread, or one per process.
pub struct sendq_pool_t {
    pool: Pool,
    /// The host's handle and every queue hold one each. The process's default pool counts too, and
    /// never reaches 0.
    refs: AtomicUsize,
}

// SAFETY: a shared pool is locked inside. A confined one is used by one thread at a time: the
// contract that its user took on (SENDQ_THREADSAFE).
unsafe impl Sync for sendq_pool_t {}

static DEFAULT_POOL: sendq_pool_t =
    sendq_pool_t { pool: Pool::shared(Limits::DEFAULT), refs: AtomicUsize::new(1) };

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
    /// The budget in bytes, for all chunks of this pool: whole chunks, each with a header of 40 bytes.
    /// Over it, appends give -ENOBUFS. Default: none.
    pub max_bytes: u64,
    /// Bytes that one chunk holds, 256 at least. Default: 4 KiB.
    pub chunk_bytes: u64,
    /// Free chunks are kept for the next append up to this many bytes; what is above goes back to
    /// malloc at once. Default: 4 MiB. 1: none is kept.
    pub keep_bytes: u64,
}

// SAFETY: repr(C), begins with a usize, and integers may be any bytes.
unsafe impl Config for sendq_pool_config_t {}

impl sendq_pool_config_t {
    fn to_pool(self) -> Result<Pool> {
        let or = |value: u64, default: usize| match value {
            0 => Ok(default),
            value => usize::try_from(value).map_err(|_| Errno::INVALID),
        };
        let limits = Limits {
            max_bytes: or(self.max_bytes, usize::MAX)?,
            chunk_bytes: or(self.chunk_bytes, CHUNK_BYTES)?,
            keep_bytes: or(self.keep_bytes, KEEP_BYTES)?,
        };
        let sane = (MIN_CHUNK_BYTES..=MAX_CAPACITY).contains(&limits.chunk_bytes);
        let sane = sane && Chunk::footprint_of(limits.chunk_bytes) <= limits.max_bytes;
        match self.flags {
            _ if self.reserved != 0 || !sane => Err(Errno::INVALID),
            0 => Ok(Pool::confined(limits)),
            SENDQ_THREADSAFE => Ok(Pool::shared(limits)),
            _ => Err(Errno::INVALID),
        }
    }
}

impl sendq_pool_t {
    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// `pool` with one holder more, or the default pool for NULL.
    ///
    /// # Safety
    /// `pool` is NULL or alive.
    pub(super) unsafe fn hold(pool: *mut sendq_pool_t) -> NonNull<sendq_pool_t> {
        let held = NonNull::new(pool).unwrap_or(NonNull::from(&DEFAULT_POOL));
        // SAFETY: alive, as the caller says or because static.
        unsafe { held.as_ref() }.count(1);
        held
    }

    /// One holder less; the last frees it.
    ///
    /// # Safety
    /// `pool` is alive, and the caller gives up a hold of its own.
    pub(super) unsafe fn release(pool: NonNull<sendq_pool_t>) {
        // SAFETY: alive, by the hold that is given up here.
        if unsafe { pool.as_ref() }.count(-1) == 0 {
            // SAFETY: nobody holds it any more, and it came from sendq_pool_new's Box: the default
            // pool's own hold is never given up.
            drop(unsafe { Box::from_raw(pool.as_ptr()) });
        }
    }

    /// Counts holders; only a shared pool pays for an atomic operation.
    fn count(&self, by: isize) -> usize {
        let refs = &self.refs;
        if self.pool.is_shared() {
            refs.fetch_add(by as usize, Ordering::AcqRel).wrapping_add_signed(by)
        } else {
            let now = refs.load(Ordering::Relaxed).wrapping_add_signed(by);
            refs.store(now, Ordering::Relaxed);
            now
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
        let pool = unsafe { read_config(config) }?.to_pool()?;
        let handle = try_box(sendq_pool_t { pool, refs: AtomicUsize::new(1) })?;
        // SAFETY: as above.
        unsafe { out.write(Box::into_raw(handle)) };
        Ok(Hints::NONE)
    };
    guard(make, || ())
}

/// Gives the pool up. Its queues keep it alive: it goes with the last of them. NULL: nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_pool_free(pool: *mut sendq_pool_t) {
    if let Some(pool) = NonNull::new(pool) {
        // SAFETY: the caller's own handle, used for the last time.
        guard_callback(|| unsafe { sendq_pool_t::release(pool) });
    }
}
