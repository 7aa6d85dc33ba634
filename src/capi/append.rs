//! Appends: bytes to copy, memory to borrow, parts of files, notifications, other queues; cork and reserve.

use super::boundary::{file, iovecs, readable, sendq_fd_t, slice};
use super::buf::sendq_buf_t;
use super::handle::{
    Call, append_confined, during, enter, enter_timed, enter_unlocked, sendq_release_fn, sendq_t,
};
use super::part::{check_file, release_at_once};
use crate::errno::Errno;
use crate::flush::WithLocked;
use crate::iovec::{IoVec, MAX_OBJECT};
use crate::policy::Hints;
use crate::queue::Queue;
use crate::release::{self, Shared};
use crate::slot::{Owner, Slot};
use libc::c_int;
use std::ffi::c_void;
use std::iter::once;
use std::ptr::{null, null_mut};

/// Appends a copy of len bytes: all of them, or none. The caller keeps its memory. Copied pieces that follow
/// each other are sent as one. Appending no bytes to an open queue succeeds; data may then be NULL.
///
/// Hints: SENDQ_WAKE, SENDQ_HIGH.
/// -EINVAL: q is NULL, data is NULL, or len is larger than an object can be.
/// -EPIPE: the queue is closed. -ENOMEM: out of memory.
/// -ENOBUFS: over max, or over the pool's budget. Try again when bytes of this queue, or for the budget of
/// any queue of the pool, were sent.
/// -EBUSY: memory is reserved; call sendq_commit first.
/// Another -errno: the connection has failed with it (sendq_error).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_append(q: *mut sendq_t, data: *const c_void, len: usize) -> c_int {
    let write = |queue: &mut Queue| {
        let fits = len.wrapping_sub(1) < queue.room() && !data.is_null();
        if fits {
            // SAFETY: the caller's memory; a length that fits a block is one that memory can have.
            queue.write(unsafe { std::slice::from_raw_parts(data.cast(), len) });
        }
        fits
    };
    // SAFETY: NULL or the caller's live queue.
    if unsafe { append_confined(q, write) } {
        return 0;
    }
    // SAFETY: as the caller says.
    unsafe { append_slow(q, data, len) }
}

/// sendq_append when anything at all needs a closer look.
///
/// # Safety
/// As for sendq_append.
#[inline(never)]
unsafe fn append_slow(q: *const sendq_t, data: *const c_void, len: usize) -> c_int {
    // SAFETY: NULL or the caller's live queue; its memory, of that length.
    unsafe {
        enter(q, |queue, pool| {
            let bytes = slice(data, len)?;
            queue.append(pool, len, once(bytes))
        })
    }
}

/// Appends a copy of the iovcnt pieces of iov, in order, as one append: all or none. Empty pieces are
/// skipped. iovcnt may be above IOV_MAX.
///
/// Hints and errors as for sendq_append. -EINVAL also if iovcnt is negative, if iov is NULL and iovcnt is not
/// 0, or if the pieces add up to more than an object can be.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_appendv(q: *mut sendq_t, iov: *const IoVec, iovcnt: c_int) -> c_int {
    // SAFETY: NULL or the caller's live queue; its array.
    unsafe {
        enter(q, |queue, pool| {
            let iovecs = iovecs(iov, iovcnt)?;
            queue.append(pool, iovecs.total(), iovecs.slices())
        })
    }
}

/// Appends len bytes without copying them. They must stay readable and unchanged until release is called with
/// arg, data and len. Fewer than copy_below bytes, or none, are copied, and release is called before this
/// returns. If release is NULL, the memory must stay valid for good, or the host has to learn in another way
/// when it is not needed any more (sendq_notify).
///
/// Hints and errors as for sendq_append. On failure the caller still owns its memory, and release is never
/// called.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_append_ref(
    q: *mut sendq_t,
    data: *const c_void,
    len: usize,
    release: sendq_release_fn,
    arg: *mut c_void,
) -> c_int {
    let owner = Owner { release, arg };
    // SAFETY: NULL or the caller's live queue; its memory, which it promises to leave unchanged until the
    // release.
    unsafe {
        // In a release callback no owner is released at once, so that the stack does not grow.
        let is_copied = |q: &sendq_t| {
            let copy_below = q.inspect(|queue, _| queue.policy().copy_below());
            len < copy_below as usize && !release::is_releasing(q)
        };
        if q.as_ref().is_some_and(is_copied) {
            return append_copied(q, data, len, owner);
        }
        enter(q, |queue, pool| {
            if len > 0 {
                readable(data, len)?;
            }
            queue.append_slot(pool, Slot::borrowed(data.cast(), len, owner))
        })
    }
}

/// Copies a piece that is too short to be borrowed, and releases its owner.
///
/// # Safety
/// As for sendq_append_ref.
unsafe fn append_copied(q: *mut sendq_t, data: *const c_void, len: usize, owner: Owner) -> c_int {
    // SAFETY: as the caller says.
    let result = unsafe { sendq_append(q, data, len) };
    if result >= 0 {
        release_at_once(owner, data, len as u64);
    }
    result
}

/// Appends len bytes of buf, from offset, without copying them. The queue holds a reference to buf until they
/// are sent or discarded. Fewer than share_below bytes are copied, and no reference is held. Appending no bytes
/// succeeds.
///
/// Hints and errors as for sendq_append. -EINVAL also if buf is NULL, or if the range is not inside the
/// buffer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_append_buf(
    q: *mut sendq_t,
    buf: *mut sendq_buf_t,
    offset: usize,
    len: usize,
) -> c_int {
    // SAFETY: NULL or the caller's live queue; NULL or its buffer.
    unsafe {
        enter(q, |queue, pool| {
            let shared = buf.as_ref().ok_or(Errno::INVALID)?;
            let data = shared.data(offset as u64, len).ok_or(Errno::INVALID)?;
            if (len as u64) < queue.policy().share_below() {
                return queue.append(pool, len, once(slice(data.cast(), len)?));
            }
            let slot = shared.slot(IoVec::new(data, len));
            let result = queue.append_slot(pool, slot);
            if result.is_err() {
                // The reference of the slot; the caller has another.
                sendq_buf_t::release(buf);
            }
            result
        })
    }
}

/// Appends len bytes of the file fd, from offset, without reading them now. They are sent by sendfile(2)
/// where possible. The file must stay open and keep those bytes until release is called with arg, NULL and
/// len. File bytes are not memory: they do not count against low, high, max and the pool's budget. Appending
/// no bytes succeeds, and release is called before this returns.
///
/// Hints and errors as for sendq_append. On failure release is never called.
/// -EINVAL also if no file can have that offset and len. -EBADF: fd is negative.
/// -ENOBUFS: more than 64 files and notifications are queued and their descriptions alone take more memory
/// than max, or the pool has no memory left for the description.
///
/// If the file is shorter than promised when its bytes are sent, the stream cannot be continued: the
/// connection fails with -ENODATA. If reading the file fails, the connection fails with the error of read(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_append_file(
    q: *mut sendq_t,
    fd: sendq_fd_t,
    offset: u64,
    len: u64,
    release: sendq_release_fn,
    arg: *mut c_void,
) -> c_int {
    let owner = Owner { release, arg };
    let is_kept;
    // SAFETY: NULL or the caller's live queue.
    let result = unsafe {
        let defers = q.as_ref().is_some_and(release::is_releasing);
        is_kept = len > 0 || defers;
        enter(q, |queue, pool| {
            check_file(fd, offset, len)?;
            if len == 0 && !defers {
                return queue.append_nothing();
            }
            let slot = Slot::file(file(fd), offset, len, owner);
            queue.append_slot(pool, slot)
        })
    };
    if !is_kept && result >= 0 {
        release_at_once(owner, null(), 0);
    }
    result
}

/// Calls function with arg, NULL, 0 and a reason (see sendq_release_fn) when all bytes that are queued now
/// have been sent, or when they are discarded. If nothing is queued, it is called before this returns, unless
/// the queue is corked: then the notification is held back like other appends. A notification does not divide
/// what is sent into more pieces.
///
/// Errors as for sendq_append. On failure function is never called.
/// -EINVAL also if function is NULL.
/// -ENOBUFS also if more than 64 files and notifications are queued and their descriptions alone take more
/// memory than max.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_notify(
    q: *mut sendq_t,
    function: sendq_release_fn,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: NULL or the caller's live queue.
    unsafe {
        enter(q, |queue, pool| {
            if function.is_none() {
                return Err(Errno::INVALID);
            }
            let slot = Slot::notification(Owner { release: function, arg });
            queue.append_slot(pool, slot)
        })
    }
}

/// Moves all that is queued in from to the end of to. Nothing is copied, except up to 1 KiB, so that many
/// small messages share memory. from is empty afterwards, and can be used further; its bytes count as sent by
/// it. If its producer was paused, the producer may continue, although no SENDQ_RESUME says so. The queues
/// may have different pools: the memory then counts against the pool of to. Splicing from an empty queue
/// succeeds. Costs one step for each borrowed or shared piece in from.
///
/// Hints, for to: SENDQ_WAKE, SENDQ_HIGH.
/// -EINVAL: a queue is NULL, both are the same, or only one of them is thread-safe.
/// -EPIPE, -ENOBUFS, -ENOMEM, -EBUSY: as for sendq_append to to.
/// -EBUSY also: from has memory reserved, is corked, has an open hole, is being flushed, or has owners that are
/// not released yet (in one of its callbacks).
/// Another -errno: one of the connections has failed with it. On failure nothing is moved.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_splice(to: *mut sendq_t, from: *mut sendq_t) -> c_int {
    // SAFETY: as the caller says.
    unsafe { sendq_splice_n(to, from, u64::MAX) }
}

/// sendq_splice of at most the first max_bytes bytes. A piece that is divided is released once, when both parts
/// are sent or discarded; the reason is 0 if both were sent. So is the owner of a message that is divided; the len
/// that it gets counts moved bytes as sent. A notification behind the division is called when what precedes it in
/// from is sent: it does not wait for what was moved.
/// What shares a block of memory with bytes that stay is
/// copied, at most one block. A max_bytes of 0 moves nothing. Costs one step for each borrowed or shared piece
/// that is moved.
///
/// Hints and errors as for sendq_splice. -EBUSY also if not all of from would be moved after a write callback has
/// refused bytes, which it needs again (sendq_flush_with).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_splice_n(
    to: *mut sendq_t,
    from: *mut sendq_t,
    max_bytes: u64,
) -> c_int {
    // SAFETY: NULL or the caller's live queues.
    unsafe {
        let splice = || {
            enter_unlocked(to, false, |to| {
                let from = from.as_ref().ok_or(Errno::INVALID)?;
                let is_same_kind = to.handle().is_threadsafe() == from.is_threadsafe();
                if std::ptr::eq(to.handle(), from) || !is_same_kind {
                    return Err(Errno::INVALID);
                }
                to.handle().update_time();
                from.update_time();
                // Locked in the order of their addresses, so that two threads which splice in opposite directions
                // do not deadlock. No owner of `from` has to be released.
                let from = Call::new(from, false);
                if (&raw const *to.handle()) < (&raw const *from.handle()) {
                    to.with_locked(|to, pool| {
                        from.with_locked(|from, other| to.splice(pool, from, other, max_bytes))
                    })
                } else {
                    from.with_locked(|from, other| {
                        to.with_locked(|to, pool| to.splice(pool, from, other, max_bytes))
                    })
                }
            })
        };
        during(from, splice)
    }
}

/// Corks the queue: what is appended from now on is held back. It counts as queued and against every limit,
/// but no flush sends it, until sendq_uncork makes it available or sendq_rollback discards it. The cork
/// belongs to the queue: in a thread-safe queue it holds back, and a rollback discards, what other threads
/// append as well.
///
/// -EINVAL: q is NULL. -EALREADY: it is corked. -EPIPE: it is closed. -EBUSY: memory is reserved.
/// -ENOMEM: out of memory, at the first cork of a queue. Another -errno: the connection has failed with it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_cork(q: *mut sendq_t) -> c_int {
    // SAFETY: NULL or the caller's live queue.
    unsafe {
        enter(q, |queue, _| {
            queue.cork()?;
            Ok(Hints::NONE)
        })
    }
}

/// Ends the cork, and makes available what was held back.
///
/// Hint: SENDQ_WAKE, if bytes were held back and no others are queued.
/// -EINVAL: q is NULL or not corked. -EBUSY: memory is reserved.
/// Another -errno: the connection has failed with it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_uncork(q: *mut sendq_t) -> c_int {
    // SAFETY: NULL or the caller's live queue.
    unsafe { enter(q, |queue, pool| queue.uncork(pool)) }
}

/// Ends the cork, and discards what was appended since sendq_cork, as if it had not been appended. Its owners
/// are released with -ECANCELED before the call returns (in a release callback: after that callback has
/// returned). The bytes count as discarded.
///
/// Hint: SENDQ_RESUME.
/// Errors as for sendq_uncork.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_rollback(q: *mut sendq_t) -> c_int {
    // SAFETY: NULL or the caller's live queue.
    unsafe { enter_timed(q, |queue, pool| queue.rollback(pool)) }
}

/// Reserves len contiguous bytes at *out for the caller to write into. Only what sendq_commit then appends is
/// ever sent. Until the commit, other appends and reservations return -EBUSY; flushing continues. The memory
/// belongs to the queue, and stays valid until the commit or sendq_free.
///
/// Errors as for sendq_append. -EINVAL also if out is NULL. On failure *out is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_reserve(
    q: *mut sendq_t,
    len: usize,
    out: *mut *mut c_void,
) -> c_int {
    if !out.is_null() {
        // SAFETY: not NULL, so the caller's place for a pointer.
        unsafe { out.write(null_mut()) };
    }
    // SAFETY: NULL or the caller's live queue; out is written if it is not NULL.
    unsafe {
        enter(q, |queue, pool| {
            if out.is_null() || len > MAX_OBJECT {
                return Err(Errno::INVALID);
            }
            let memory = queue.reserve(pool, len)?;
            out.write(memory.cast());
            Ok(Hints::NONE)
        })
    }
}

/// Appends the first used bytes of the reserved memory, and ends the reservation. used may be 0: then nothing
/// is appended.
///
/// Hints: SENDQ_WAKE, SENDQ_HIGH.
/// -EINVAL: q is NULL, nothing is reserved, or used is more than was reserved. The reservation stays.
/// -EPIPE, another -errno: the queue is closed, or has failed with it. The reservation has ended.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_commit(q: *mut sendq_t, used: usize) -> c_int {
    // SAFETY: NULL or the caller's live queue.
    unsafe { enter(q, |queue, pool| queue.commit(pool, used)) }
}
