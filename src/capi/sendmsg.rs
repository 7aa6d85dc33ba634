//! Moving from sendmsg(2): its replacement.

use super::boundary::{iovecs, sendq_fd_t};
use super::handle::{enter_unlocked, sendq_t};
use crate::errno::{Errno, Result};
use crate::flush::send;
use crate::iovec::IoVecs;
use crate::policy::Hints;
use crate::release::Shared;
use crate::sink::platform::{MORE, Socket};
use libc::{c_int, msghdr, ssize_t};

/// Flags of sendmsg(2) that change nothing here: sendq never waits and never raises SIGPIPE, and what
/// is to be sent together is appended together.
const HARMLESS: c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | MORE;

/// Replaces sendmsg(2): the same arguments and the same result, -1 with errno on failure. It first flushes
/// what is queued. If nothing is queued then, it sends directly from the caller's memory. Of what the socket
/// refuses, it appends a copy, but no more than up to the high watermark. So the result may be less than the
/// length of msg, as that of sendmsg(2) may, and a host that calls this in a loop never queues more than high
/// for a client that does not read. A thread-safe queue always copies, and then flushes.
///
/// After a success bytes may be queued: see sendq_queued_bytes, and flush when fd is writable. A short result
/// does not always mean that the socket is full: a thread-safe queue copies no more than high at a time, and
/// one call offers the socket at most IOV_MAX pieces. So call again with the rest until the result is EAGAIN,
/// as with sendmsg(2), or see sendq_state for SENDQ_BLOCKED. A RESUME hint of the flush inside is not
/// returned. A message without bytes is a flush, also on a closed queue. The rate of sendq_set_rate holds
/// back what is sent.
///
/// Errors, with nothing taken: EAGAIN: as much is queued as the high watermark or more, even after the flush, or
/// the pool's budget or max_messages refuse the copy.
/// EOPNOTSUPP: a destination, ancillary data, or a flag. Only MSG_DONTWAIT, MSG_NOSIGNAL and MSG_MORE are
/// accepted, and ignored. EINVAL: q or msg is NULL, or as for sendq_appendv. (sendmsg(2) has EFAULT for some
/// of these, and EMSGSIZE above IOV_MAX pieces; here there may be any number of pieces.) EPIPE, ENOMEM,
/// EBUSY: as for sendq_append. Other errors end the connection, as for sendq_flush.
///
/// Not on Windows, which has no sendmsg(2).
#[cfg(not(windows))] // For cbindgen.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_sendmsg(
    q: *mut sendq_t,
    fd: sendq_fd_t,
    msg: *const msghdr,
    flags: c_int,
) -> ssize_t {
    let mut taken = 0;
    // SAFETY: NULL or the caller's live queue.
    let result = unsafe {
        enter_unlocked(q, true, |call| {
            let iovecs = iovecs_of(msg, flags)?;
            let mut socket = Socket::new(fd, call.handle().pool().promises());
            taken = send(call, &mut socket, iovecs, !call.handle().is_threadsafe())?;
            Ok(Hints::NONE)
        })
    };
    if result < 0 {
        // SAFETY: the thread's own errno.
        unsafe { *errno_location() = -result };
        return -1;
    }
    taken as ssize_t
}

#[cfg(any(target_os = "linux", target_os = "emscripten"))]
use libc::__errno_location as errno_location;
#[cfg(any(target_vendor = "apple", target_os = "freebsd"))]
use libc::__error as errno_location;

/// The pieces of a message that has nothing else to it.
///
/// # Safety
/// `msg` is NULL or the caller's message.
unsafe fn iovecs_of<'a>(msg: *const msghdr, flags: c_int) -> Result<IoVecs<'a>> {
    // SAFETY: as the caller says.
    let msg = unsafe { msg.as_ref() }.ok_or(Errno::INVALID)?;
    // Without a name, its length does not count: sendmsg(2) does not look at it either.
    let has_name = !msg.msg_name.is_null() && msg.msg_namelen > 0;
    let is_plain = !has_name && msg.msg_controllen == 0 && flags & !HARMLESS == 0;
    if !is_plain {
        return Err(Errno::NOT_SUPPORTED);
    }
    let count = c_int::try_from(msg.msg_iovlen).map_err(|_| Errno::INVALID)?;
    // SAFETY: the caller's array; an iovec is laid out as an IoVec.
    unsafe { iovecs(msg.msg_iov.cast(), count) }
}
