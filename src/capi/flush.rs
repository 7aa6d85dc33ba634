//! How bytes are sent: to a socket, through a function of the host, or by the host itself.

use super::boundary::{guard_callback, sendq_fd_t};
use super::handle::{enter, enter_timed, enter_unlocked, sendq_t};
use super::zerocopy::flush_and_reap;
use crate::errno::Errno;
use crate::flush::flush;
use crate::iovec::{Fill, IoVec};
use crate::policy::Hints;
use crate::records::flush_records;
use crate::release;
use crate::sink::platform::Socket;
use crate::sink::writer::{WANT_READ, Writer};
use libc::c_int;
use std::ffi::c_void;

/// A sendq_write_fn returns this if it cannot continue before the connection is readable. OpenSSL calls this
/// SSL_ERROR_WANT_READ.
pub const SENDQ_WRITE_WANT_READ: i64 = -4096;
const _: () = assert!(SENDQ_WRITE_WANT_READ == WANT_READ);

/// Sends what is queued to the connected stream socket fd, oldest bytes first, until the socket takes no more
/// or max_bytes are sent (0: no limit). It never blocks and never raises SIGPIPE, whatever the socket's mode.
/// Bytes that other threads append meanwhile are left for the next call. All system calls of one flush except
/// the last carry MSG_MORE (send(2)), so that a header and the file behind it share a segment. sendfile(2)
/// has no such flag. If the socket takes no more after a call with MSG_MORE, the kernel is told to send what it
/// holds back (TCP_CORK off, tcp(7)).
///
/// If nothing is queued, fd is not used.
///
/// No hint, or only SENDQ_RESUME or SENDQ_UNACKED: all is sent, except what is behind a cork or an open hole.
/// Hints: SENDQ_UNACKED: the kernel still reads some of it (SENDQ_ZEROCOPY). SENDQ_BLOCKED: the socket is full; flush
/// again when it is writable. SENDQ_MORE: max_bytes are sent, or a rate holds back the rest; flush again soon
/// (sendq_retry_after_ns). SENDQ_RESUME: what is queued has dropped to the low watermark.
/// -EINVAL: q is NULL. -EBUSY: another thread is flushing the queue; nothing has changed.
/// Another -errno is the end of the connection: -EPIPE or -ECONNRESET (the peer is gone), -EBADF (fd is
/// closed), -ENOTSOCK (fd is no socket), -ENODATA (a file is shorter than promised), -ETIMEDOUT (the deadline
/// of sendq_close_within has passed), or an error of send(2). A socket that is not connected gives -EPIPE or
/// -ENOTCONN. Everything that was queued is discarded and released with that error before the call returns,
/// and later appends and flushes return the same error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_flush(q: *mut sendq_t, fd: sendq_fd_t, max_bytes: usize) -> c_int {
    // SAFETY: NULL or the caller's live queue.
    unsafe {
        if q.as_ref().is_some_and(sendq_t::has_zerocopy) {
            return flush_and_reap(q, fd, |call, socket| flush(call, socket, max_bytes));
        }
        enter_unlocked(q, true, |call| {
            let promises = call.handle().pool().promises();
            flush(call, &mut Socket::new(fd, promises), max_bytes)
        })
    }
}

/// A write callback: takes len bytes at data, for a host with its own way of writing, such as TLS. It returns
/// how many bytes it took, at least 1; -EAGAIN or 0 if it took none because it is not writable;
/// SENDQ_WRITE_WANT_READ if it took none and can continue when it is readable; or another -errno if the
/// connection has failed. -ENOBUFS and -ENOMEM mean the same as -EAGAIN. After -EINTR the flush returns
/// SENDQ_MORE. Any other negative number counts as -EIO. It runs with no lock held, and may call any function on the same
/// queue. Calls that discard or consume return -EBUSY while it runs. It must not throw: an exception ends the process.
pub type sendq_write_fn =
    Option<unsafe extern "C-unwind" fn(arg: *mut c_void, data: *const c_void, len: usize) -> i64>;

/// Sends what is queued through the write callback, which is called with arg until all is sent, it takes no
/// more, or max_bytes are sent (0: no limit). Each call gets contiguous bytes, at most 16 KiB: the plaintext
/// of one TLS record. Small pieces are gathered into such records, larger pieces are passed from where they
/// are, and files are read.
///
/// If write has taken nothing, the next call of this function first passes the same bytes at the same
/// address, even if they are more than max_bytes. SSL_write(3) requires this unless
/// SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER is set. So, after a refusal, do not discard what is queued if the
/// connection is to continue. A gathered record takes up to 16 KiB of the pool's memory until write has taken
/// it. The pool's budget does not refuse it.
///
/// Hints: as for sendq_flush; SENDQ_WANT_READ in place of SENDQ_BLOCKED, if write returned
/// SENDQ_WRITE_WANT_READ.
/// -EINVAL: q or write is NULL. -EBUSY: another thread is flushing the queue, or write called this function.
/// -ENOMEM: out of memory, and nothing was sent. -ECANCELED: write has freed q.
/// Another -errno is the end of the connection, as for sendq_flush: the error that write returned, or -EIO if
/// it returned more than len.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_flush_with(
    q: *mut sendq_t,
    write: sendq_write_fn,
    arg: *mut c_void,
    max_bytes: usize,
) -> c_int {
    let Some(write) = write.filter(|_| !q.is_null()) else {
        return Errno::INVALID.negated();
    };
    let mut result = 0;
    // SAFETY: the caller's live queue, which is held while write runs.
    guard_callback(|| unsafe {
        release::hold(q, |q| {
            result = enter_unlocked(q, true, |call| {
                flush_records(call, &mut Writer::new(write, arg), max_bytes)
            });
        });
    });
    result
}

/// Fills up to iovcnt entries of iov with the oldest queued bytes, and returns how many entries were filled.
/// A host with its own way of writing sends them and then calls sendq_consume. The memory stays where it is
/// until it is consumed, flushed or discarded, the queue is freed, or the connection fails. Appending does
/// not move it. So a thread-safe queue may be peeked only by the thread that also flushes it. The entries end
/// before a part of a file, which has no address; there are none if a file comes first, or if the connection
/// has failed. Costs O(iovcnt), and one step for each notification in between.
///
/// -EINVAL: q is NULL, iovcnt is negative, or iov is NULL and iovcnt is not 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_peek(q: *const sendq_t, iov: *mut IoVec, iovcnt: c_int) -> c_int {
    let mut filled = 0;
    // SAFETY: NULL or the caller's live queue; its array has room for iovcnt entries.
    let result = unsafe {
        enter(q, |queue, _| {
            let room = usize::try_from(iovcnt).map_err(|_| Errno::INVALID)?;
            if iov.is_null() && room > 0 {
                return Err(Errno::INVALID);
            }
            if room > 0 {
                let room = std::slice::from_raw_parts_mut(iov.cast(), room);
                let mut fill = Fill::new(room, usize::MAX);
                queue.each_extent(|extent| fill.add(extent));
                filled = fill.count;
            }
            Ok(Hints::NONE)
        })
    };
    if result < 0 { result } else { filled as c_int }
}

/// Consumes the first bytes bytes, which the host has sent itself. They count as sent.
///
/// Hint: SENDQ_RESUME.
/// -EINVAL: q is NULL, or fewer bytes are queued; nothing is consumed. -EBUSY: another thread is flushing the
/// queue.
/// -ETIMEDOUT: the bytes are consumed, and the deadline of sendq_close_within has passed: the rest is
/// discarded.
/// Another -errno: the connection has failed with it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_consume(q: *mut sendq_t, bytes: usize) -> c_int {
    // SAFETY: NULL or the caller's live queue.
    unsafe { enter_timed(q, |queue, pool| queue.consume(pool, bytes as u64)) }
}
