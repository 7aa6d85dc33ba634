//! `sendq_buf_t`.

use super::boundary::{guard, guard_callback, try_box};
use super::pool::sendq_pool_t;
use super::queue::{SENDQ_WAKE, confined, sendq_release_fn, sendq_t, slice, with};
use crate::errno::{Errno, Result};
use crate::flush::Lender;
use crate::pressure::Hints;
use crate::segment::{Owner, Segment};
use libc::c_int;
use std::ffi::c_void;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicUsize, Ordering, fence};

/// One payload that many queues send. Any thread may use it, whatever the queues are.
pub struct sendq_buf_t {
    data: *const u8,
    len: usize,
    /// The host's handles and every queue that it waits in hold one each.
    refs: AtomicUsize,
    owner: Owner,
    /// What it counts against.
    pool: NonNull<sendq_pool_t>,
    /// What `data` points to, if it was copied.
    _copy: Vec<u8>,
}

impl sendq_buf_t {
    /// A part of it for a queue that holds it; None if there is no such part.
    #[inline]
    fn part(&self, offset: usize, len: usize) -> Option<Segment> {
        if len == 0 || offset > self.len || len > self.len - offset {
            return None;
        }
        let arg = (&raw const *self).cast_mut().cast();
        let owner = Owner { release: Some(release_buf), arg };
        // SAFETY: inside the buffer, which is not changed while it is held.
        Some(unsafe { Segment::shared(self.data.add(offset), len, owner) })
    }

    fn hold(&self) {
        // Relaxed: whoever holds one already may hand out another (as Arc does).
        self.refs.fetch_add(1, Ordering::Relaxed);
    }
}

/// How many hold the payload that a shared segment is a part of.
pub(super) fn holders(owner: &Owner) -> u64 {
    // SAFETY: part() made the segment with the buffer as its argument; the segment holds it.
    unsafe { (*owner.arg.cast::<sendq_buf_t>()).refs.load(Ordering::Relaxed) as u64 }
}

/// One holder less; the last frees it and tells its owner.
///
/// # Safety
/// `buf` is alive, and the caller gives up a hold of its own.
unsafe fn unref(buf: *mut sendq_buf_t) {
    // SAFETY: alive, by the hold that is given up here. Release, so that the last holder sees what
    // the others did.
    if unsafe { (*buf).refs.fetch_sub(1, Ordering::Release) } != 1 {
        return;
    }
    fence(Ordering::Acquire);
    // SAFETY: nobody holds it any more, and it came from a Box.
    let last = unsafe { Box::from_raw(buf) };
    let (Owner { release, arg }, data, len) = (last.owner, last.data, last.len);
    // SAFETY: the hold that new() took.
    unsafe {
        last.pool.as_ref().pool().unpin_shared(len);
        sendq_pool_t::release(last.pool);
    }
    drop(last);
    if let Some(release) = release {
        // SAFETY: the host's own function with its own argument, as it asked for.
        unsafe { release(arg, data.cast(), len, 0) };
    }
}

/// What a queue calls when it has sent or dropped a shared payload.
unsafe extern "C-unwind" fn release_buf(buf: *mut c_void, _: *const c_void, _: usize, _: c_int) {
    // SAFETY: the hold that sendq_append_buf took.
    unsafe { unref(buf.cast()) };
}

/// Makes a buffer at `out` that counts against `pool`. What it is of, `make` says.
///
/// # Safety
/// `out` is NULL or a place for a pointer; `pool` is NULL or alive.
unsafe fn new(
    pool: *mut sendq_pool_t,
    out: *mut *mut sendq_buf_t,
    make: impl FnOnce() -> Result<(*const u8, usize, Owner, Vec<u8>)>,
) -> c_int {
    let make = || {
        if out.is_null() {
            return Err(Errno::INVALID);
        }
        // SAFETY: not NULL, so the caller's place for a pointer.
        unsafe { out.write(null_mut()) };
        let (data, len, owner, copy) = make()?;
        let (refs, pool) = (AtomicUsize::new(1), sendq_pool_t::of(pool));
        let buf = try_box(sendq_buf_t { data, len, refs, owner, pool, _copy: copy })?;
        // SAFETY: alive, as the caller says; then held.
        unsafe {
            pool.as_ref().pool().pin_shared(len)?;
            sendq_pool_t::hold(pool);
            out.write(Box::into_raw(buf));
        }
        Ok(Hints::NONE)
    };
    guard(make, || ())
}

/// Makes a payload that many queues can send, by copying len bytes. It counts against the budget of
/// pool, once, however many queues it waits in, until it is gone; NULL: the process's own pool. *out
/// holds it; give it to sendq_buf_unref when no more appends are to come: the queues keep it while they
/// need it. It keeps the pool alive. Made by a thread that may use the pool; after that any thread may
/// use it.
///
/// -EINVAL: out or data is NULL, or len is 0 or more than an object can have. -ENOBUFS: over the pool's
/// budget. -ENOMEM. On failure *out is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_buf_copy(
    pool: *mut sendq_pool_t,
    data: *const c_void,
    len: usize,
    out: *mut *mut sendq_buf_t,
) -> c_int {
    let copy = || {
        // SAFETY: the caller's memory of that length.
        let bytes = unsafe { slice(data, len) }?;
        if len == 0 {
            return Err(Errno::INVALID);
        }
        let mut copy = Vec::new();
        copy.try_reserve_exact(len).map_err(|_| Errno::NO_MEMORY)?;
        copy.extend_from_slice(bytes);
        Ok((copy.as_ptr(), len, Owner { release: None, arg: null_mut() }, copy))
    };
    // SAFETY: NULL or what they are for.
    unsafe { new(pool, out, copy) }
}

/// The same without copying: the bytes must stay readable and unchanged until release is called, once,
/// with arg, data, len and reason 0, by whichever thread gives up the last hold. A NULL release means
/// that the memory is immortal.
///
/// Errors as for sendq_buf_copy; then release is never called.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_buf_wrap(
    pool: *mut sendq_pool_t,
    data: *const c_void,
    len: usize,
    release: sendq_release_fn,
    arg: *mut c_void,
    out: *mut *mut sendq_buf_t,
) -> c_int {
    let wrap = || {
        // SAFETY: the caller's memory of that length.
        let bytes = unsafe { slice(data, len) }?;
        if len == 0 {
            return Err(Errno::INVALID);
        }
        Ok((bytes.as_ptr(), len, Owner { release, arg }, Vec::new()))
    };
    // SAFETY: NULL or what they are for.
    unsafe { new(pool, out, wrap) }
}

/// One hold more, for another owner of the handle. Returns buf. NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_buf_ref(buf: *mut sendq_buf_t) -> *mut sendq_buf_t {
    // SAFETY: NULL or alive.
    if let Some(buf) = unsafe { buf.as_ref() } {
        buf.hold();
    }
    buf
}

/// Gives a hold up. NULL: nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_buf_unref(buf: *mut sendq_buf_t) {
    if !buf.is_null() {
        // SAFETY: not NULL, so a hold of the caller's, which it gives up.
        guard_callback(|| unsafe { unref(buf) });
    }
}

/// Puts len bytes of buf, from offset on, behind what waits, without copying them. The queue holds buf
/// until they have left or were dropped.
///
/// Hints and errors as for sendq_append; -EINVAL also for a NULL buf, a len of 0, and a range that is
/// not inside the buffer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_append_buf(
    q: *mut sendq_t,
    buf: *mut sendq_buf_t,
    offset: usize,
    len: usize,
) -> c_int {
    // The common cases: nothing in here can fail, panic or call out.
    // SAFETY: NULL or the caller's live queue.
    if let Some((queue, pool)) = unsafe { confined(q) }
        // SAFETY: NULL or alive.
        && let Some(shared) = unsafe { buf.as_ref() }
        && let Some(segment) = shared.part(offset, len)
    {
        if queue.append_segment_at_once(pool, segment) {
            shared.hold();
            return 0;
        }
        if queue.start_with_segment_at_once(pool, segment) {
            shared.hold();
            return SENDQ_WAKE;
        }
    }
    let append = |q: &sendq_t| {
        // SAFETY: NULL or alive.
        let shared = unsafe { buf.as_ref() }.ok_or(Errno::INVALID)?;
        let segment = shared.part(offset, len).ok_or(Errno::INVALID)?;
        // Before, because another thread may have sent it by the time that the append is over.
        shared.hold();
        let result = q.lend(|queue, pool| queue.append_segment(pool, segment));
        if result.is_err() {
            // SAFETY: the hold of just now; the caller has another.
            unsafe { unref(buf) };
        }
        result
    };
    // SAFETY: NULL or the caller's live queue.
    unsafe { with(q, append) }
}
