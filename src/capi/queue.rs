//! `sendq_t`: making and ending a queue.

use super::boundary::{Config, guard, read_config};
use super::handle::{
    self, during, during_pool, enter, enter_timed, enter_unlocked, sendq_pool_t, sendq_t,
};
use super::orphans::Orphans;
use super::pool::SENDQ_THREADSAFE;
use super::zerocopy::SENDQ_ZEROCOPY;
use crate::errno::Errno;
use crate::flush::WithLocked;
use crate::policy::{Hints, Watermarks};
use crate::queue::Queue;
use crate::try_box::try_box;
use crate::zerocopy::ZEROCOPY_FROM;
use libc::c_int;
use std::ffi::c_void;
use std::ptr::null_mut;

/// Append, uncork, fill: bytes can be sent, and none could before. Make sure that a flush is scheduled.
pub const SENDQ_WAKE: c_int = 1;
/// Append: the queue is at or over the high watermark. Pause the producer. State: the high watermark was
/// reached, and SENDQ_RESUME has not been returned since.
pub const SENDQ_HIGH: c_int = 2;
/// Flush, state: bytes remain, and the sink takes no more. Wait until it is writable.
pub const SENDQ_BLOCKED: c_int = 4;
/// Flush: bytes remain, and the budget of the call is spent. Flush again soon; no event will tell you to.
/// State: a flush would offer bytes now.
pub const SENDQ_MORE: c_int = 8;
/// Flush, and other functions that list it: what is queued has dropped to the low watermark after having been
/// high. The producer may continue.
pub const SENDQ_RESUME: c_int = 16;
/// Flush, state: bytes remain, and the write callback can continue once its connection is readable (TLS).
pub const SENDQ_WANT_READ: c_int = 32;
/// State: what is appended is held back (sendq_cork).
pub const SENDQ_CORKED: c_int = 128;
/// State: appends are refused, after sendq_close or the end of the connection.
pub const SENDQ_CLOSED: c_int = 256;

/// A flag of a queue: it counts messages (sendq_append_message, sendq_end_message, sendq_queued_messages). A
/// boundary costs 8 to 16 bytes while its message is queued.
pub const SENDQ_MESSAGES: u32 = 8;

/// The configuration of a queue. Zero in any field except size means the default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct sendq_config_t {
    /// sizeof(sendq_config_t). It tells sendq which version the caller was compiled against.
    pub size: usize,
    /// SENDQ_THREADSAFE, SENDQ_MESSAGES and SENDQ_ZEROCOPY, or 0. A thread-safe queue needs a thread-safe pool.
    pub flags: u32,
    /// Must be 0.
    pub reserved: u32,
    /// The host's pointer for sendq_user, such as its connection. sendq does not use it.
    pub user: *mut c_void,
    /// The low watermark: SENDQ_RESUME is returned when no more than this many bytes are queued. Default:
    /// half of high.
    pub low: u64,
    /// The high watermark: SENDQ_HIGH is returned when at least this many bytes are queued. Default: 1 MiB,
    /// or max if that is less.
    pub high: u64,
    /// The cap: an append that would queue more than this many bytes returns -ENOBUFS. Bytes in files do not
    /// count against low, high and max. Default: no cap.
    pub max: u64,
    /// Borrowed pieces shorter than this are copied instead, and their owners are released at once: a small
    /// copy costs the kernel and the host less than a piece of its own. 1: no piece is copied. Default: 4096.
    /// The time of append and flush over TCP when the piece is borrowed, as a part of that when it is copied:
    /// one piece in a flush 1.05 up to 2 KiB, 1.04 at 3, 0.99 at 4, 0.97 at 8, 0.92 at 16 and 0.85 at 32 KiB;
    /// 16 pieces in a flush 1.15 to 1.21 up to 256 bytes, 1.11 at 1 KiB, 1.01 at 2, 0.93 at 3 and 4, and 0.85
    /// at 8 KiB.
    pub copy_below: u64,
    /// With SENDQ_MESSAGES, the most messages that may be queued: an append that would begin one more returns
    /// -ENOBUFS. Default: any number.
    pub max_messages: u64,
    /// The same for parts of shared buffers: those shorter than this are copied, and no reference to the buffer
    /// is kept for them. 1: no part is copied. Default: 2048, less than for borrowed pieces, because a copy for
    /// each of many queues takes memory. Shared as a part of copied: one part in a flush 1.05 up to 2 KiB, 1.04
    /// at 3, 0.99 at 4, 0.97 at 8 and 0.87 at 32 KiB; 16 parts in a flush 1.17 to 1.23 up to 256 bytes, 1.12 at
    /// 1 KiB, 1.03 at 2, 0.96 at 3, 0.93 at 4 and 0.86 at 8 KiB.
    pub share_below: u64,
    /// Bytes of memory that the budget of the pool does not refuse to this queue, whatever others hold: an
    /// append is admitted beyond the budget if the queue then holds no more than this (sendq_memory), blocks
    /// with their headers and slack. So one client that never reads cannot make the appends of others fail.
    /// 1: none. Default: 256, one small block.
    pub reserve: u64,
    /// With SENDQ_ZEROCOPY, borrowed pieces, and parts of shared buffers, of which at least this many bytes are to be
    /// sent are sent without a copy. The kernel's text says that this pays for writes of more than about 10 KB
    /// (Documentation/networking/msg_zerocopy.rst). It does not count that the memory comes back late, by a message
    /// of its own. Default: 64 KiB.
    pub zerocopy_from: u64,
}

// SAFETY: repr(C), begins with a usize, and integers and raw pointers may be any bytes.
unsafe impl Config for sendq_config_t {}

/// Makes a queue. If pool is NULL, the queue uses the process's default pool, which is thread-safe and has no
/// budget. If config is NULL, all fields have their defaults. On success *out is the new queue; give it to
/// sendq_free.
///
/// -EINVAL: out is NULL, size is less than a size_t, reserved is not 0, a flag is unknown, low is above high,
/// high is above max, or the queue is thread-safe and the pool is not.
/// -E2BIG: the config is of a newer version and sets fields that this version does not know, or size is over
/// 4 KiB.
/// -ENOMEM: out of memory. On failure *out is NULL.
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
        let threadsafe = config.flags & SENDQ_THREADSAFE != 0;
        let pool = sendq_pool_t::of(pool);
        // SAFETY: alive until the caller gives it up, or static.
        let is_shared = unsafe { pool.as_ref() }.pool().is_shared();
        let unknown = config.flags & !(SENDQ_THREADSAFE | SENDQ_MESSAGES | SENDQ_ZEROCOPY);
        if config.reserved != 0 || unknown != 0 || threadsafe && !is_shared {
            return Err(Errno::INVALID);
        }
        let mut queue = Queue::new(marks)?;
        if config.copy_below > 0 {
            queue.set_copy_below(u32::try_from(config.copy_below).unwrap_or(u32::MAX));
        }
        if config.flags & SENDQ_MESSAGES != 0 {
            queue.count_messages(config.max_messages)?;
        }
        if config.flags & SENDQ_ZEROCOPY != 0 {
            let from = config.zerocopy_from;
            queue.set_zerocopy(if from > 0 { from } else { ZEROCOPY_FROM })?;
        }
        if config.share_below > 0 {
            queue.set_share_below(config.share_below)?;
        }
        if config.reserve > 0 {
            queue.set_reserve(config.reserve)?;
        }
        let handle = try_box(sendq_t::new(queue, pool, config.user, threadsafe))?;
        let handle = Box::into_raw(handle);
        // SAFETY: alive until sendq_free takes it out, or until it is dropped here because that has failed; the
        // place is not NULL, as above.
        unsafe {
            let added = pool.as_ref().queues().add(handle, threadsafe || !is_shared);
            added.inspect_err(|_| drop(Box::from_raw(handle)))?;
            sendq_pool_t::hold(pool);
            if (*handle).has_zerocopy() {
                pool.as_ref().orphans().add_queue();
            }
            out.write(handle);
        }
        Ok(Hints::NONE)
    };
    // SAFETY: NULL or alive.
    unsafe { during_pool(pool, || guard(make, || ())) }
}

/// Frees the queue. Queued bytes are discarded, all owners are released (-ECANCELED), and all memory returns
/// to the pool. No other thread may be using the queue. To send what is queued first, call sendq_close and
/// flush until nothing is queued. A callback may free its own queue. If that runs further callbacks of the
/// queue, these may call sendq_free, too: the second call does nothing. NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_free(q: *mut sendq_t) {
    if !q.is_null() {
        // SAFETY: not NULL, so the caller's own handle, used for the last time.
        unsafe { during(q, || handle::free(q)) };
    }
}

/// Closes the queue: appends return -EPIPE from now on. What is queued is still flushed. When a flush returns
/// no hint, all of it is sent, except what is behind a cork or an open hole: sendq_uncork and sendq_fill work on a
/// closed queue. Closing a queue that is
/// closed or has failed succeeds.
///
/// -EINVAL: q is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_close(q: *mut sendq_t) -> c_int {
    // SAFETY: NULL or the caller's live queue.
    unsafe {
        enter(q, |queue, _| {
            queue.close();
            Ok(Hints::NONE)
        })
    }
}

/// sendq_close with a deadline. Bytes that are not sent within timeout_ns nanoseconds are lost: the next
/// sendq_flush, sendq_consume or other call that sends or closes discards them, and fails the connection with
/// -ETIMEDOUT. sendq_retry_after_ns says when to make that call, even if the socket never becomes writable.
/// The field discarded of sendq_stats says how many bytes were lost. A timeout of 0 means now. A later call
/// sets another deadline. The call succeeds if nothing is queued, or if the queue has failed.
///
/// -EINVAL: q is NULL. -ETIMEDOUT: bytes are queued, and timeout_ns is 0.
/// -EBUSY: another thread is flushing the queue. -ENOMEM: out of memory. After these two nothing has changed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_close_within(q: *mut sendq_t, timeout_ns: u64) -> c_int {
    // SAFETY: NULL or the caller's live queue.
    unsafe {
        enter_timed(q, |queue, pool| {
            queue.close_within(pool, timeout_ns)?;
            Ok(Hints::NONE)
        })
    }
}

/// Discards what is queued, and removes open holes. Owners are released with -ECANCELED before the call returns.
/// The queue can be used further. Reserved memory is not queued, and stays. Discarding from a queue that is closed or has
/// failed succeeds.
///
/// Hint: SENDQ_RESUME.
/// -EINVAL: q is NULL. -EBUSY: another thread is flushing the queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_discard(q: *mut sendq_t) -> c_int {
    // SAFETY: NULL or the caller's live queue.
    unsafe { enter_timed(q, |queue, pool| queue.discard(pool)) }
}

/// Makes the queue as new, with its config: what is queued is discarded and released with -ECANCELED before the
/// call returns, statistics are 0, settings made since (sendq_set_watermarks, sendq_set_rate, ...), a cork, a
/// reservation, a close and an error are gone. The user pointer stays. For hosts that use a connection's object
/// again. It may be called in a callback; a flush that ran the callback then ends as if the connection had failed.
///
/// -EINVAL: q is NULL. -EBUSY: the queue is being flushed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_reset(q: *mut sendq_t) -> c_int {
    // SAFETY: NULL or the caller's live queue.
    unsafe {
        enter_unlocked(q, true, |call| {
            if let Some(orphan) = call.with_locked(|queue, pool| queue.reset(pool))? {
                Orphans::adopt(call.handle().pool_address(), orphan);
            }
            Ok(Hints::NONE)
        })
    }
}

/// Ends the connection with an error, as if a flush had found it: what is queued is discarded and released with
/// negative_errno before the call returns, and later appends and flushes return it. For hosts that learn of the
/// end in another way, such as a read. A queue that has failed keeps its first error: the call succeeds.
///
/// -EINVAL: q is NULL, or negative_errno is not from -4095 to -1. -EBUSY: the queue is being flushed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_fail(q: *mut sendq_t, negative_errno: c_int) -> c_int {
    // SAFETY: NULL or the caller's live queue.
    unsafe {
        enter_timed(q, |queue, pool| {
            if !(-4095..0).contains(&negative_errno) {
                return Err(Errno::INVALID);
            }
            queue.fail_unless_busy(pool, Errno::new(-negative_errno))?;
            Ok(Hints::NONE)
        })
    }
}

/// Returns the user pointer of the queue's config. NULL if q is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_user(q: *const sendq_t) -> *mut c_void {
    // SAFETY: NULL or the caller's live queue.
    unsafe { q.as_ref() }.map_or(null_mut(), sendq_t::user)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capi::*;

    #[test]
    fn a_panic_ends_one_queue_and_no_other() {
        let (mut hurt, mut other) = (null_mut(), null_mut());
        // SAFETY: places for two queues, which live until they are freed below.
        unsafe {
            assert_eq!(sendq_new(null_mut(), std::ptr::null(), &mut hurt), 0);
            assert_eq!(sendq_new(null_mut(), std::ptr::null(), &mut other), 0);
            assert_eq!(sendq_append(hurt, c"lost".as_ptr().cast(), 4), SENDQ_WAKE);

            let panics = |_: &mut Queue, _: &crate::pool::Pool| panic!("injected");
            assert_eq!(enter(hurt, panics), -libc::ENOTRECOVERABLE);
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
