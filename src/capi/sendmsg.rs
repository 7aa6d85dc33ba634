//! Moving from sendmsg(2): what stands in for it, and what checks it.

use super::boundary::sendq_fd_t;
use super::queue::{after, parts, sendq_t};
use crate::direct::send;
use crate::errno::{Errno, Result};
use crate::segment::{Parts, Piece};
use crate::sink::socket::Socket;
use crate::verify::{Verdict, verify};
use libc::{c_int, msghdr, ssize_t};

/// Flags of sendmsg(2) that change nothing here: sendq never waits and never raises SIGPIPE, and what
/// is to be sent together is appended together.
const HARMLESS: c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | libc::MSG_MORE;

/// Stands in for sendmsg(2): the same arguments, the same result, -1 with errno. It takes all bytes of
/// msg or none. What waits is flushed first; if it falls to low by that, no hint says so. If nothing waits
/// then, it writes straight from the caller's memory, and copies only what the socket refused; otherwise it
/// copies everything. A thread-safe queue always copies, and then flushes. What is left waits: see
/// sendq_queued_bytes, and flush when fd is writable. With sendq_set_rate it sends no faster than that.
///
/// Errors, with nothing taken: EAGAIN: as much waits as the high watermark or more, although a flush was
/// tried. EOPNOTSUPP: a destination, ancillary data, or a flag other than MSG_DONTWAIT, MSG_NOSIGNAL and
/// MSG_MORE, which change nothing. EINVAL: q or msg is NULL, or as for sendq_appendv (sendmsg(2) says
/// EFAULT, and EMSGSIZE above IOV_MAX pieces, of which any number may be here). EPIPE, ENOBUFS,
/// ENOMEM, EBUSY as for sendq_append; ENOBUFS also when msg is larger than max. Other errors end the
/// connection, as for sendq_flush.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_sendmsg(
    q: *mut sendq_t,
    fd: sendq_fd_t,
    msg: *const msghdr,
    flags: c_int,
) -> ssize_t {
    let mut total = 0;
    // SAFETY: NULL or the caller's live queue.
    let result = unsafe {
        after(q, |q, aftermath| {
            let parts = parts_of(msg, flags)?;
            total = parts.total() as ssize_t;
            let result = send(q, &mut Socket::new(fd), parts, !q.is_shared());
            // What waits may have been flushed before the message was refused.
            let refused = [Errno::AGAIN, Errno::NO_BUFFERS, Errno::NO_MEMORY].map(Err);
            aftermath.look_at(q, result.is_err() && !refused.contains(&result));
            result
        })
    };
    if result < 0 {
        // SAFETY: the thread's own errno.
        unsafe { *errno_location() = -result };
        return -1;
    }
    total
}

#[cfg(any(target_os = "linux", target_os = "emscripten"))]
use libc::__errno_location as errno_location;
#[cfg(any(target_vendor = "apple", target_os = "freebsd"))]
use libc::__error as errno_location;

/// The pieces of a message that has nothing else to it.
///
/// # Safety
/// `msg` is NULL or the caller's message.
unsafe fn parts_of<'a>(msg: *const msghdr, flags: c_int) -> Result<Parts<'a>> {
    // SAFETY: as the caller says.
    let msg = unsafe { msg.as_ref() }.ok_or(Errno::INVALID)?;
    // Without a name, its length does not count: sendmsg(2) does not look at it either.
    let has_name = !msg.msg_name.is_null() && msg.msg_namelen > 0;
    let is_plain = !has_name && msg.msg_controllen == 0 && flags & !HARMLESS == 0;
    if !is_plain {
        return Err(Errno::NOT_SUPPORTED);
    }
    let count = c_int::try_from(msg.msg_iovlen).map_err(|_| Errno::INVALID)?;
    // SAFETY: the caller's array; an iovec is laid out as a piece.
    unsafe { parts(msg.msg_iov.cast(), count) }
}

/// Shadow mode, for a path that is to be replaced: the old one sent the first bytes bytes of iov, and
/// the queue was told the same appends. Were they the next ones here? Yes: they are consumed, as by
/// sendq_consume. No: -EILSEQ, nothing is consumed, and *mismatch_at is the offset in the stream (of
/// which sendq_sent_bytes have left) of the first byte that differs, or that the queue does not have.
/// mismatch_at may be NULL. Parts of files are read and compared, too.
///
/// Hint: SENDQ_RESUME.
/// -EINVAL: q is NULL, as for sendq_appendv, or iov has fewer bytes. -EBUSY: another thread is flushing
/// it. Another -errno: the connection has failed with it, or a file cannot be read: see pread(2); -EIO: it
/// has become shorter.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_verify(
    q: *mut sendq_t,
    iov: *const Piece,
    iovcnt: c_int,
    bytes: usize,
    mismatch_at: *mut u64,
) -> c_int {
    // SAFETY: NULL or the caller's live queue.
    unsafe {
        after(q, |q, aftermath| {
            let parts = parts(iov, iovcnt)?;
            if bytes > parts.total() {
                return Err(Errno::INVALID);
            }
            let result = verify(q, parts, bytes);
            aftermath.look_at(q, result.is_err());
            match result? {
                Verdict::Same(hints) => Ok(hints),
                Verdict::DiffersAt(offset) => {
                    if !mismatch_at.is_null() {
                        mismatch_at.write(offset);
                    }
                    Err(Errno::ILLEGAL_SEQUENCE)
                }
            }
        })
    }
}
