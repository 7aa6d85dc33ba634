//! Sends without a copy, and their acknowledgements.

use super::boundary::{guard_callback, sendq_fd_t};
use super::handle::{Call, during_pool, enter_unlocked, sendq_pool_t, sendq_t};
use super::orphans::Orphans;
use crate::errno::{Errno, Result};
use crate::flush::WithLocked;
use crate::policy::Hints;
use crate::reap::reap;
use crate::sink::platform::{ZerocopySocket, cookie};
use libc::c_int;
use std::ptr::NonNull;

/// A flag of a queue: large borrowed pieces, and parts of shared buffers, are sent without a copy (zerocopy_from).
/// sendq_flush and sendq_send do so by MSG_ZEROCOPY of Linux; nothing else does. The kernel reads the memory until the
/// peer has acknowledged the bytes (sendq_reap). Where a connection does not do it (another system, an older kernel, a
/// Unix socket, kTLS), and after 16 sends in a row that the kernel has copied after all, as it always does on loopback,
/// everything is copied as without the flag (zerocopy_off of sendq_stats_t).
///
/// The rule: a piece that was sent without a copy is released when the kernel has said that it does not read it any
/// more, and never before, whatever ends the connection. What the kernel still reads when its queue is reset or freed
/// is an orphan of the pool, which holds the socket open, shuts it down for writing, and counts the memory against its
/// budget. sendq_pool_reap releases it when the kernel is done or the connection has ended, to which the kernel sees
/// within a minute if the peer takes nothing.
///
/// So reset or free such a queue when nothing is unacknowledged, or close the connection right after. After a reset, and
/// with another queue, the same socket copies, because the kernel's numbers go on. As long as something is
/// unacknowledged, sendq has a descriptor of its own for the socket. A host that uses
/// epoll(7) itself has to remove its descriptor (EPOLL_CTL_DEL) before it closes it, because close(2) does so only with
/// the last descriptor. The acknowledgements come by the error queue of the socket: a host that uses SO_ZEROCOPY
/// itself, or takes timestamps from there (SO_TIMESTAMPING), should not set this flag. Pieces that are not sent so are
/// released before earlier ones that are.
pub const SENDQ_ZEROCOPY: u32 = 16;

/// Flush, sendq_reap, sendq_pool_reap, state: all is sent, and the kernel still reads some memory of it
/// (SENDQ_ZEROCOPY). Call sendq_reap when the socket has an error event: EPOLLERR, which comes unasked. If that returns
/// 0 and the event stays, the connection has failed (SO_ERROR, socket(7)).
pub const SENDQ_UNACKED: c_int = 64;

/// Takes the kernel's acknowledgements of what was sent to the socket fd without a copy (SENDQ_ZEROCOPY), and releases
/// the pieces that it does not read any more. Call it when fd has an error event, which stays until the
/// acknowledgements are taken. Each flush takes them as well. On a queue that has sent nothing so, it does nothing,
/// and does not use fd. Costs two system calls, and one for each acknowledgement.
///
/// Hint: SENDQ_UNACKED: others are to come, also if bytes are queued.
/// -EINVAL: q is NULL, or fd is another socket than that which the queue was flushed to. -EBADF, -ENOTSOCK: fd is
/// closed, or is no socket; nothing was taken. Free or reset the queue then: the pool goes on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_reap(q: *mut sendq_t, fd: sendq_fd_t) -> c_int {
    // SAFETY: NULL or the caller's live queue.
    unsafe {
        enter_unlocked(q, true, |call| {
            let Some(acks) = call.with_locked(|queue, _| queue.acks()) else {
                return Ok(Hints::NONE);
            };
            if cookie(fd)? != acks.id() {
                return Err(Errno::INVALID);
            }
            Ok(reap(call))
        })
    }
}

/// Releases what queues of this pool that were reset or freed have left in the kernel's hands, as far as the kernel is
/// done with it (SENDQ_ZEROCOPY). Call it from a timer. Each flush of a queue of this pool that has the flag does it as
/// well. The callbacks run on the calling thread, with no lock held. Costs one system call for each connection that is
/// left, and one for each acknowledgement.
///
/// A peer that takes next to nothing holds its memory for two minutes at most: the next call after that ends the
/// connection. To end it at once, connect(2) the socket to an address of AF_UNSPEC before sendq_free; close(2), also
/// with SO_LINGER, does not while the pool holds the socket. In a callback, while another call is at it, this does
/// nothing.
///
/// Hint: SENDQ_UNACKED: others are left. A pool that is freed while it has orphans, or queues with SENDQ_ZEROCOPY,
/// stays until this returns 0: the handle is valid for this call alone, and has to be given to it until then.
/// -EINVAL: pool is NULL. What queues of the default pool have left is released by flushes alone, on their threads.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_pool_reap(pool: *mut sendq_pool_t) -> c_int {
    let Some(address) = NonNull::new(pool) else { return Errno::INVALID.negated() };
    let mut result = 0;
    // SAFETY: alive, by the host's handle or by an orphan.
    guard_callback(|| unsafe {
        address.as_ref().update_time();
        result = during_pool(pool, || Orphans::reap_for_host(address)).bits() as c_int;
    });
    result
}

/// Makes `flush`, a flush of the queue `q`, which has SENDQ_ZEROCOPY, to the socket `fd`. Then takes what is
/// acknowledged, of the queue and of its pool.
///
/// # Safety
/// `q` is a live queue.
#[cold]
#[inline(never)]
pub(super) unsafe fn flush_and_reap(
    q: *mut sendq_t,
    fd: sendq_fd_t,
    flush: impl FnOnce(&Call, &mut ZerocopySocket) -> Result<Hints>,
) -> c_int {
    let mut pool = None;
    // SAFETY: alive, as the caller says. The pool is alive as long as its queue is, and then by a reference.
    unsafe {
        let result = enter_unlocked(q, true, |call| {
            let handle = call.handle();
            let hints = flush(call, &mut ZerocopySocket::new(fd, handle.pool().promises()))?;
            let (orphans, _) = handle.pool().orphans().count();
            pool = (orphans > 0).then(|| handle.pool_address());
            if let Some(pool) = pool {
                sendq_pool_t::hold(pool);
            }
            let rests = hints.any(Hints::BLOCKED | Hints::MORE);
            Ok(hints.without(Hints::UNACKED) | reap(call).when(!rests))
        });
        if let Some(pool) = pool {
            guard_callback(|| {
                Orphans::reap(pool);
                sendq_pool_t::release(pool);
            });
        }
        result
    }
}
