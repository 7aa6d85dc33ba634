//! The figures of a queue.

use super::boundary::{fill, guard, sendq_fd_t};
use super::queue::sendq_t;
use crate::errno::Errno;
use crate::flush::Lender;
use crate::pressure::Hints;
use crate::segment::NO_FD;
use crate::sink::socket::{Facts, outq};
use crate::stats::Stats;
use libc::{c_char, c_int};
use std::mem::MaybeUninit;

impl sendq_t {
    /// Its figures, and the errno that ended it, negated, or 0.
    fn stats(&self) -> (Stats, c_int) {
        let (mut stats, socket, failure) = self.lend(|queue, pool| {
            let failure = queue.failure().map_or(0, Errno::negated);
            (Stats::of(queue, pool.now()), queue.socket, failure)
        });
        // Outside the loan: a system call.
        if socket != NO_FD
            && let Some(outq) = outq(socket)
        {
            stats.acked = stats.sent.saturating_sub(outq);
        }
        (stats, failure)
    }
}

/// The figures of a queue, as much of them as out_size has room for. Looks at everything that waits: not
/// for every append.
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
        unsafe { fill(out, out_size, &queue.stats().0) }
    };
    guard(ask, || ())
}

/// The figures of a queue as one flat JSON object, such as {"error":0,"copied":124,...}: the fields of
/// sendq_stats_t by name, and error as sendq_error has it. With its socket in fd (or -1), also what the
/// kernel tells: so_sndbuf (SO_SNDBUF), outq (SIOCOUTQ: not sent, or not acknowledged), tcp_unacked and
/// tcp_total_retrans (TCP_INFO, in segments); see socket(7) and tcp(7). What fd is not is left out.
///
/// Like snprintf: writes at most size bytes, a NUL at the end included, and returns how long the whole
/// is without the NUL; so a result of size or more says that it was cut off. A size of 0 writes nothing,
/// and out may then be NULL. 1024 bytes are enough.
///
/// -EINVAL: q is NULL, or out is and size is not 0.
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
        let (stats, error) = queue.stats();
        let facts = if fd == NO_FD { Facts::default() } else { Facts::of(fd) };
        length = stats.write_json(error, &facts, room) as c_int;
        Ok(Hints::NONE)
    };
    match guard(write, || ()) {
        0 => length,
        error => error,
    }
}
