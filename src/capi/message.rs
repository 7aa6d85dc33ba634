//! Messages: appended or sent as a whole, counted, and discarded as a whole; holes for what is known later.

use super::boundary::{sendq_fd_t, slice};
use super::handle::{
    append_confined, enter, enter_timed, enter_unlocked, number, sendq_release_fn, sendq_t,
};
use super::part::{Parts, Plan, sendq_part_t};
use super::zerocopy::flush_and_reap;
use crate::errno::Errno;
use crate::flush::send_message;
use crate::iovec::{Extent, MAX_OBJECT};
use crate::policy::Hints;
use crate::queue::Queue;
use crate::release::Shared;
use crate::sink::platform::Socket;
use crate::slot::Owner;
use libc::c_int;
use std::ffi::c_void;

/// Appends the count parts of a message, in order: all of them, or none. Parts of SENDQ_PART_REF and
/// SENDQ_PART_OWN that are shorter than copy_below are copied, longer ones are borrowed. Parts of a shared buffer
/// get a reference of their own. If the queue has SENDQ_MESSAGES, a boundary follows the last byte: what was
/// appended since the boundary before is one message. A boundary does not divide what is sent into more pieces.
///
/// release is called once with arg, NULL, how many bytes of this message have been sent, and a reason, when the
/// last part that was not copied is not needed any more. If all parts were copied, it is called before this
/// returns (in a release callback: later). If it is NULL, the memory of SENDQ_PART_REF must stay valid for good.
/// len is no measure of success: it is 0 if all was copied, and may leave out the copied end of a message. A
/// message without bytes is none: on an open queue it succeeds, and release is called before this returns. It ends
/// a message that is open, as sendq_end_message does.
///
/// Hints and errors as for sendq_append. On failure the caller still owns everything, descriptors of
/// SENDQ_PART_OWNED_FILE included, and release is never called.
/// -EINVAL also if count is negative, if parts is NULL and count is not 0, if a part has an unknown kind, a NULL
/// or a range that cannot be, or if the parts add up to more than can be counted. -EBADF: a file's fd is negative.
/// -ENOBUFS also if max_messages are queued. Costs O(count) besides the bytes that are copied.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_append_message(
    q: *mut sendq_t,
    parts: *const sendq_part_t,
    count: c_int,
    release: sendq_release_fn,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: NULL or the caller's live queue; its array.
    let parts = match unsafe { Parts::new(q, parts, count, Owner { release, arg }) } {
        Ok(parts) => parts,
        Err(errno) => return errno.negated(),
    };
    // SAFETY: the caller's live queue, which nothing refers to when an owner is released; its memory.
    unsafe {
        let write =
            |queue: &mut Queue| parts.fits(queue.room()) && queue.write_message(parts.slices());
        if append_confined(q, write) {
            parts.release_all();
            return 0;
        }
        append_slow(q, parts)
    }
}

/// sendq_append_message when anything at all needs a closer look.
///
/// # Safety
/// `q` is the caller's live queue.
#[inline(never)]
unsafe fn append_slow(q: *const sendq_t, parts: Parts) -> c_int {
    let mut plan = Plan::default();
    // SAFETY: as the caller says.
    let result = unsafe {
        enter(q, |queue, pool| {
            plan = parts.plan()?;
            queue.append_message(pool, &plan.size, parts.pieces(&plan))
        })
    };
    if result >= 0 {
        parts.release_now(&plan);
    }
    result
}

/// Sends a message that is complete: sendq_append_message and sendq_flush in one. It first flushes what is
/// queued. If nothing is queued then, the parts go to the socket from where they are, and only what it refuses is
/// appended. release is called before this returns, unless the queue keeps parts that it borrows. So it allocates
/// nothing if the socket takes all. A message with parts of files, one of more than 256 pieces, a thread-safe queue,
/// one with SENDQ_ZEROCOPY, a cork, a rate, and a call from a release callback take the way of append and flush.
///
/// max_bytes and the hints are those of sendq_flush; SENDQ_HIGH: what is queued is at or over the high
/// watermark; SENDQ_CLOSED: the message was taken, and then the connection failed (sendq_error), so that it was
/// released with that error.
/// Errors as for sendq_append_message and sendq_flush. A negative result means that the caller still owns its
/// memory, and release is never called; sendq_error says whether the connection is over. -ENOBUFS also if the
/// message is larger than max, even if the socket would take all of it. The pool's budget does not refuse the rest
/// of a message that has begun to leave.
/// -EBUSY is as for sendq_append.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_send(
    q: *mut sendq_t,
    fd: sendq_fd_t,
    parts: *const sendq_part_t,
    count: c_int,
    release: sendq_release_fn,
    arg: *mut c_void,
    max_bytes: usize,
) -> c_int {
    // SAFETY: NULL or the caller's live queue; its array.
    let parts = match unsafe { Parts::new(q, parts, count, Owner { release, arg }) } {
        Ok(parts) => parts,
        Err(errno) => return errno.negated(),
    };
    let (mut kept, mut plan) = (parts, Plan::default());
    // SAFETY: the caller's live queue.
    let result = unsafe {
        if q.as_ref().is_some_and(sendq_t::has_zerocopy) {
            return send_or_carry(q, fd, parts, max_bytes);
        }
        enter_unlocked(q, true, |call| {
            plan = parts.plan()?;
            let mut socket = Socket::new(fd, call.handle().pool().promises());
            let may_pass = !call.handle().is_threadsafe() && parts.may_pass(&plan);
            send_message(
                call,
                &mut socket,
                max_bytes,
                plan.size.memory(),
                |fill| may_pass && parts.fill(fill),
                |queue, pool, sent| {
                    kept = parts.after(sent as u64);
                    plan = kept.plan_rest(plan)?;
                    queue.append_rest(pool, sent as u64, &plan.size, kept.pieces(&plan))
                },
            )
        })
    };
    if result >= 0 {
        kept.release_now(&plan);
    }
    result
}

/// [`sendq_send`] on a queue with SENDQ_ZEROCOPY. What is sent without a copy needs its owner until it is
/// acknowledged, so all of it is appended first.
///
/// # Safety
/// `q` is a live queue.
#[cold]
#[inline(never)]
unsafe fn send_or_carry(q: *mut sendq_t, fd: sendq_fd_t, parts: Parts, max_bytes: usize) -> c_int {
    let mut plan = Plan::default();
    // SAFETY: as the caller says.
    let result = unsafe {
        flush_and_reap(q, fd, |call, socket| {
            plan = parts.plan()?;
            let memory = plan.size.memory();
            send_message(
                call,
                socket,
                max_bytes,
                memory,
                |_| false,
                |queue, pool, _| queue.append_message(pool, &plan.size, parts.pieces(&plan)),
            )
        })
    };
    if result >= 0 {
        parts.release_now(&plan);
    }
    result
}

/// Ends a message: what was appended since the last boundary is one. With nothing appended since, it does
/// nothing. So does it without SENDQ_MESSAGES.
///
/// -EINVAL: q is NULL. -ENOMEM: out of memory, nothing has changed. Another -errno: the connection has failed
/// with it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_end_message(q: *mut sendq_t) -> c_int {
    // SAFETY: NULL or the caller's live queue.
    unsafe {
        enter(q, |queue, _| {
            if let Some(errno) = queue.failure() {
                return Err(errno);
            }
            queue.reserve_boundary()?;
            queue.end_message();
            Ok(Hints::NONE)
        })
    }
}

/// Discards the messages of which no byte was sent, corked ones and open holes included. The message that has
/// begun to leave stays, so that the peer can tell where the next one begins. Bytes that a write callback has
/// refused (sendq_flush_with) count as begun. Owners are released with -ECANCELED before the call returns.
///
/// Hint: SENDQ_RESUME.
/// -EINVAL: q is NULL, or has no SENDQ_MESSAGES. -EBUSY: a flush is in progress, or memory is reserved.
/// -ENOMEM: out of memory; nothing is discarded. Costs one step for each piece that is discarded.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_discard_unstarted(q: *mut sendq_t) -> c_int {
    // SAFETY: NULL or the caller's live queue.
    unsafe { enter_timed(q, |queue, pool| queue.discard_unstarted(pool)) }
}

/// Returns how many messages are queued and not wholly sent. A message that has not ended counts once it has
/// bytes that are queued. 0 without SENDQ_MESSAGES, or if q is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_queued_messages(q: *const sendq_t) -> u64 {
    // SAFETY: NULL or the caller's live queue.
    unsafe { number(q, 0, |queue, _| queue.queued_messages()) }
}

/// Returns how many messages were wholly sent, ever. 0 without SENDQ_MESSAGES, or if q is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_sent_messages(q: *const sendq_t) -> u64 {
    // SAFETY: NULL or the caller's live queue.
    unsafe { number(q, 0, |queue, _| queue.sent_messages()) }
}

/// A hole in a queue: space for bytes that are known later (sendq_hole).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct sendq_hole_t {
    /// 0: no hole.
    pub id: u64,
}

/// Makes a hole for at most max_len bytes, such as a length that is known when what follows is written. Appends
/// go on behind it. No flush sends what is behind it until it is filled. Several holes may be open. A hole counts
/// as no bytes until it is filled. When it is filled, what is queued may exceed max by max_len. *out is for
/// sendq_fill. A hole takes a block of memory, and divides what is sent in two pieces. A hole has to be filled, if
/// only with no bytes, or discarded: else nothing behind it ever leaves. It can be filled after sendq_close.
///
/// Errors as for sendq_append. -EINVAL also if out is NULL or max_len is larger than an object can be. On failure
/// *out is no hole.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_hole(
    q: *mut sendq_t,
    max_len: usize,
    out: *mut sendq_hole_t,
) -> c_int {
    if !out.is_null() {
        // SAFETY: not NULL, so the caller's place for a hole.
        unsafe { out.write(sendq_hole_t { id: 0 }) };
    }
    // SAFETY: NULL or the caller's live queue; out is written if it is not NULL.
    unsafe {
        enter(q, |queue, pool| {
            if out.is_null() || max_len > MAX_OBJECT {
                return Err(Errno::INVALID);
            }
            out.write(sendq_hole_t { id: queue.hole(pool, max_len)? });
            Ok(Hints::NONE)
        })
    }
}

/// Fills a hole of this queue with a copy of len bytes, which may be none. What is behind it may be sent then, up
/// to the next open hole. A hole that is filled already, or was discarded, is left as it is: the call succeeds.
///
/// Hints: SENDQ_WAKE, if bytes became available and none were; SENDQ_HIGH.
/// -EINVAL: q is NULL, data is NULL and len is not 0, or len is more than the hole was made for; it stays open.
/// Another -errno: the connection has failed with it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_fill(
    q: *mut sendq_t,
    hole: sendq_hole_t,
    data: *const c_void,
    len: usize,
) -> c_int {
    // SAFETY: NULL or the caller's live queue; its memory of that length.
    unsafe { enter(q, |queue, pool| queue.fill(pool, hole.id, slice(data, len)?)) }
}

/// Fills parts with the oldest queued bytes, as sendq_peek does, with parts of files: SENDQ_PART_REF for memory,
/// of which what is contiguous is one part, SENDQ_PART_FILE for files. Returns how many were filled, at most count. For hosts that hand them to
/// SSL_sendfile(3), io_uring(7) or a file of their own, and then call sendq_consume. Costs O(count).
///
/// -EINVAL: q is NULL, count is negative, or parts is NULL and count is not 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_peek_parts(
    q: *const sendq_t,
    parts: *mut sendq_part_t,
    count: c_int,
) -> c_int {
    let mut filled = 0;
    // SAFETY: NULL or the caller's live queue; its array has room for count parts.
    let result = unsafe {
        enter(q, |queue, _| {
            let count = usize::try_from(count).map_err(|_| Errno::INVALID)?;
            if parts.is_null() && count > 0 {
                return Err(Errno::INVALID);
            }
            queue.each_extent(|extent: Extent| {
                let part = sendq_part_t::of(extent);
                if filled > 0 && (*parts.add(filled - 1)).extend(&part) {
                    return true;
                }
                if filled == count {
                    return false;
                }
                parts.add(filled).write(part);
                filled += 1;
                true
            });
            Ok(Hints::NONE)
        })
    };
    if result < 0 { result } else { filled as c_int }
}
