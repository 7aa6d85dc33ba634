//! The statistics of a queue.

use super::boundary::{fill, guard, sendq_fd_t};
use super::handle::{during, sendq_t};
use crate::errno::Errno;
use crate::policy::Hints;
use crate::sink::socket_info::SocketInfo;
use crate::slot::NO_FD;
use crate::stats::Stats;
use libc::{c_char, c_int};
use std::mem::MaybeUninit;

/// The statistics of a queue, and the negative errno that ended it, or 0.
fn stats(queue: &sendq_t) -> (Stats, c_int) {
    queue.update_time();
    queue.inspect(|queue, pool| {
        let failure = queue.failure().map_or(0, Errno::negated);
        (Stats::of(queue, pool.now()), failure)
    })
}

/// Fills out with the statistics of a queue, up to out_size bytes. Costs one step for each borrowed or shared
/// piece that is queued, so do not call it for every append.
///
/// -EINVAL: q or out is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_stats(q: *const sendq_t, out: *mut Stats, out_size: usize) -> c_int {
    let ask = || {
        // SAFETY: NULL or the caller's live queue.
        let queue = unsafe { q.as_ref() }.ok_or(Errno::INVALID)?;
        if out.is_null() {
            return Err(Errno::INVALID);
        }
        // SAFETY: the caller's memory of that size.
        unsafe { fill(out, out_size, &stats(queue).0) }
    };
    // SAFETY: NULL or the caller's live queue.
    unsafe { during(q, || guard(ask, || ())) }
}

/// Writes the statistics of a queue as one flat JSON object, such as {"error":0,"copied":124,...}: the fields
/// of sendq_stats_t by name, and error as sendq_error returns it. If fd is the queue's socket (SENDQ_NO_FD:
/// none), the object also has what the kernel reports: so_sndbuf (SO_SNDBUF), outq (SIOCOUTQ: bytes not sent or
/// not acknowledged), tcp_unacked and tcp_total_retrans (TCP_INFO, in segments), and acked, which is sent minus
/// outq: the bytes that the peer's kernel has acknowledged, if all sent bytes went to fd. See socket(7) and
/// tcp(7). Fields that fd does not support are left out.
///
/// Like snprintf: writes at most size bytes including a NUL at the end, and returns the length of the whole
/// text without the NUL. So a result of size or more means that the text was cut off. If size is 0, nothing
/// is written and out may be NULL. 1024 bytes are enough.
///
/// -EINVAL: q is NULL, or out is NULL and size is not 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_stats_json(
    q: *const sendq_t,
    fd: sendq_fd_t,
    out: *mut c_char,
    size: usize,
) -> c_int {
    let mut length = 0;
    let write = || {
        // SAFETY: NULL or the caller's live queue.
        let queue = unsafe { q.as_ref() }.ok_or(Errno::INVALID)?;
        if out.is_null() && size > 0 {
            return Err(Errno::INVALID);
        }
        // No object is larger; the text is much smaller.
        let size = size.min(isize::MAX as usize);
        let mut none = [];
        let room: &mut [MaybeUninit<u8>] = if size == 0 {
            &mut none
        } else {
            // SAFETY: the caller's memory of that size, of which nothing is read.
            unsafe { std::slice::from_raw_parts_mut(out.cast(), size) }
        };
        let (stats, error) = stats(queue);
        let info =
            if fd == NO_FD as sendq_fd_t { SocketInfo::default() } else { SocketInfo::of(fd) };
        length = stats.write_json(error, &info, room) as c_int;
        Ok(Hints::NONE)
    };
    // SAFETY: NULL or the caller's live queue.
    match unsafe { during(q, || guard(write, || ())) } {
        0 => length,
        error => error,
    }
}
