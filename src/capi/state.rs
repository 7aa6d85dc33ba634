//! The state of a queue and its limits.

use super::handle::{during, enter, enter_timed, number, sendq_t};
use crate::errno::Errno;
use crate::policy::{Hints, Watermarks};
use crate::pool::Pool;
use crate::queue::Queue;
use libc::c_int;

/// A result of sendq_retry_after_ns: no flush can do anything before the socket changes.
pub const SENDQ_NEVER: u64 = u64::MAX;

/// Returns how many bytes are queued. 0 if q is NULL. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_queued_bytes(q: *const sendq_t) -> u64 {
    // SAFETY: NULL or the caller's live queue.
    unsafe { number(q, 0, |queue, _| queue.waiting()) }
}

/// Returns how many queued bytes are not in files: these count against high, max and the pool's budget. 0 if
/// q is NULL. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_queued_memory(q: *const sendq_t) -> u64 {
    // SAFETY: NULL or the caller's live queue.
    unsafe { number(q, 0, |queue, _| queue.memory()) }
}

/// Returns how many bytes of memory the queue holds: its blocks of the pool, whole, with what is reserved and
/// what is gathered for sendq_flush_with; borrowed memory, until its owner is released; and shared buffers, of
/// which each part counts whole. The queue itself is not counted. 0 if q is NULL. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_memory(q: *const sendq_t) -> u64 {
    // SAFETY: NULL or the caller's live queue.
    unsafe { number(q, 0, |queue, _| queue.held()) }
}

/// Returns how many bytes may be appended by sendq_append before the high watermark is reached or the pool's
/// budget is spent. 0 while the producer is paused (SENDQ_HIGH, and no SENDQ_RESUME since), while memory is
/// reserved, after sendq_close or a failure, and if q is NULL. A proxy reads no more than this from its other
/// side. In a thread-safe pool other threads may take from the budget meanwhile. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_room(q: *const sendq_t) -> u64 {
    // SAFETY: NULL or the caller's live queue.
    unsafe { number(q, 0, |queue, pool| queue.remaining(pool)) }
}

/// Returns how many bytes were sent in total, by flushes or sendq_consume. This number only increases. 0 if q
/// is NULL. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_sent_bytes(q: *const sendq_t) -> u64 {
    // SAFETY: NULL or the caller's live queue.
    unsafe { number(q, 0, |queue, _| queue.sent()) }
}

/// Returns for how many nanoseconds no byte was sent while bytes were queued, by the pool's clock. What the peer
/// acknowledges of bytes that were sent without a copy (SENDQ_ZEROCOPY) counts as if it were sent then. For the
/// first bytes of a queue that was empty, the time counts from the first flush after them, or the first call
/// of this function, because an append does not read the clock. 0 if nothing is queued, or only corked bytes,
/// or q is NULL.
///
/// The time depends on what is sent, not on how much is queued, and it grows without a flush. So a host
/// checks it from a timer, and drops the connections that are stuck. With sendq_set_min_rate, a connection
/// that has been too slow for longer counts as stalled for that long. O(1); reads the clock.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_stalled_ns(q: *const sendq_t) -> u64 {
    // SAFETY: NULL or the caller's live queue.
    unsafe {
        update_time(q);
        number(q, 0, |queue, pool| queue.stalled_ns(pool.now()))
    }
}

/// Returns the current state as hints, for a host that has lost track of them: SENDQ_HIGH (the producer
/// should be paused), SENDQ_BLOCKED or SENDQ_WANT_READ (what the next flush waits for), SENDQ_MORE (a flush
/// would offer bytes now), SENDQ_CORKED, SENDQ_CLOSED (also after a failure: see sendq_error). 0: none of
/// these. O(1); may read the clock.
///
/// -EINVAL: q is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_state(q: *const sendq_t) -> c_int {
    // SAFETY: NULL or the caller's live queue.
    unsafe {
        update_time(q);
        read(q, |queue, pool| queue.state(pool).bits() as c_int)
    }
}

/// Returns 0, or the -errno that ended the connection. -ENOTRECOVERABLE: a bug in sendq was caught, and this
/// queue cannot be used any more. -EINVAL: q is NULL. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_error(q: *const sendq_t) -> c_int {
    // SAFETY: NULL or the caller's live queue.
    unsafe { read(q, |queue, _| queue.failure().map_or(0, Errno::negated)) }
}

/// Replaces the watermarks; 0 means the default (see sendq_config_t). What is queued stays, even if it is
/// above the new max.
///
/// Hints: SENDQ_HIGH, if as much is queued as the new high or more. Otherwise SENDQ_RESUME, if what is queued
/// is at or below the new low after having been high.
/// -EINVAL: q is NULL, low is above high, or high is above max.
/// -ENOMEM: a low other than half of high needs memory. Nothing has changed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_set_watermarks(
    q: *mut sendq_t,
    low: u64,
    high: u64,
    max: u64,
) -> c_int {
    // SAFETY: NULL or the caller's live queue.
    unsafe {
        enter(q, |queue, _| {
            let marks = Watermarks::new(low, high, max)?;
            queue.set_watermarks(marks)
        })
    }
}

/// Limits the rate to bytes_per_second; 0: no limit. After a pause, up to burst bytes may be sent at once (a
/// token bucket); a burst of 0 means the bytes of one second. A new rate does not refill the bucket. A flush
/// that the rate holds back returns SENDQ_MORE; sendq_retry_after_ns says when to flush again. Bytes that the
/// host sends itself (sendq_consume) count against the rate, but are not held back.
///
/// The resolution is that of the pool's clock. The default clock advances every few milliseconds
/// (clock_getres(2), CLOCK_MONOTONIC_COARSE). A burst that is smaller than the bytes of one such step limits
/// the rate further: no more than burst bytes are sent in each step.
///
/// -EINVAL: q is NULL. -ENOMEM: out of memory, nothing has changed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_set_rate(
    q: *mut sendq_t,
    bytes_per_second: u64,
    burst: u64,
) -> c_int {
    // SAFETY: NULL or the caller's live queue.
    unsafe {
        enter_timed(q, |queue, pool| {
            queue.set_rate(pool, bytes_per_second, burst)?;
            Ok(Hints::NONE)
        })
    }
}

/// Sets a minimum rate; 0: none. A connection is too slow in a window of window_ns nanoseconds if bytes are
/// queued all the time and fewer than bytes_per_second are sent for each second of it. sendq_stalled_ns then
/// counts from the beginning of that window, until a window comes in which enough was sent. So a client that
/// takes one byte a minute is treated like one that takes nothing. For example, set 1000 bytes a second over
/// 10 s, and drop a client that is stalled for more than 30 s. The limit for sendq_stalled_ns should not be
/// below the window.
///
/// Sent bytes are those that the socket has taken. A full socket becomes writable only when a good part of
/// its send buffer is free. With a buffer of megabytes, a slow reader therefore seems to stand still for a
/// long time. So choose the window to fit SO_SNDBUF (socket(7)), or set SO_SNDBUF. Do not set a minimum rate
/// above the rate of sendq_set_rate.
///
/// -EINVAL: q is NULL, or window_ns is 0 and bytes_per_second is not. -ENOMEM: out of memory, nothing has
/// changed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_set_min_rate(
    q: *mut sendq_t,
    bytes_per_second: u64,
    window_ns: u64,
) -> c_int {
    // SAFETY: NULL or the caller's live queue.
    unsafe {
        enter_timed(q, |queue, pool| {
            if window_ns == 0 && bytes_per_second > 0 {
                return Err(Errno::INVALID);
            }
            queue.set_min_rate(pool, bytes_per_second, window_ns)?;
            Ok(Hints::NONE)
        })
    }
}

/// Returns in how many nanoseconds a flush does something although the socket has not changed, for the host's
/// timer. 0: now. SENDQ_NEVER: only the socket can help, nothing is queued, or q is NULL. Any other value is
/// the time until the rate (sendq_set_rate) allows enough bytes to be worth a call, or until the deadline of
/// sendq_close_within. It is measured by the pool's clock, which may be a step behind the clock of the timer.
/// O(1); reads the clock.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_retry_after_ns(q: *const sendq_t) -> u64 {
    // SAFETY: NULL or the caller's live queue.
    unsafe {
        update_time(q);
        number(q, SENDQ_NEVER, |queue, pool| queue.retry_after_ns(pool).unwrap_or(SENDQ_NEVER))
    }
}

/// Reads something that a queue has and that nothing changes. NULL gives -EINVAL.
///
/// # Safety
/// `q` is NULL or a live queue.
unsafe fn read(q: *const sendq_t, look: impl FnOnce(&mut Queue, &Pool) -> c_int) -> c_int {
    // SAFETY: NULL or alive, as the caller says.
    unsafe {
        let read = |handle: &sendq_t| during(q, || handle.inspect(look));
        q.as_ref().map_or(Errno::INVALID.negated(), read)
    }
}

/// Asks the host's clock before a number that depends on the time.
///
/// # Safety
/// `q` is NULL or a live queue.
unsafe fn update_time(q: *const sendq_t) {
    // SAFETY: NULL or alive, as the caller says.
    if let Some(handle) = unsafe { q.as_ref() } {
        handle.update_time();
    }
}
