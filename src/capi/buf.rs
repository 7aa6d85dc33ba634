//! `sendq_buf_t`.

use super::boundary::{guard, guard_callback, slice};
use super::handle::{during_pool, sendq_pool_t, sendq_release_fn};
use crate::errno::{Errno, Result};
use crate::iovec::IoVec;
use crate::policy::Hints;
use crate::slot::{Owner, Slot};
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::try_box::try_box;
use libc::c_int;
use std::ffi::c_void;
use std::ptr::{NonNull, null_mut};

/// A shared buffer: one payload that many queues send. Any thread may use it, even if the queues are not
/// thread-safe.
pub struct sendq_buf_t {
    data: *const u8,
    len: usize,
    /// References: one of each handle of the host, one of each slot in a queue.
    refs: AtomicUsize,
    owner: Owner,
    /// The pool that it is charged to.
    pool: NonNull<sendq_pool_t>,
    /// The memory at `data`, if it was copied.
    _copy: Vec<u8>,
}

impl sendq_buf_t {
    /// The address of `len` bytes from `offset`; None if the range is not inside the buffer.
    pub(super) fn data(&self, offset: u64, len: usize) -> Option<*const u8> {
        let offset = usize::try_from(offset).ok().filter(|offset| *offset <= self.len)?;
        (len <= self.len - offset).then(|| self.data.wrapping_add(offset))
    }

    /// A slot for `memory` of this buffer, with a reference of its own.
    pub(super) fn slot(&self, memory: IoVec) -> Slot {
        self.hold();
        let arg = (&raw const *self).cast_mut().cast();
        let owner = Owner { release: Some(release_buf), arg };
        // SAFETY: inside the buffer, which does not change while it is referenced.
        unsafe { Slot::shared(memory.base(), memory.len(), owner) }
    }

    fn hold(&self) {
        // Relaxed: the caller has a reference, which is enough to make another (as in Arc).
        self.refs.fetch_add(1, Ordering::Relaxed);
    }

    /// Gives up a reference. The last one frees the buffer and releases its owner.
    ///
    /// # Safety
    /// `buf` is alive, and the caller gives up a reference of its own.
    pub(super) unsafe fn release(buf: *mut sendq_buf_t) {
        // SAFETY: alive, by the reference that is given up here. Release, so that the last one sees what the
        // others did.
        if unsafe { (*buf).refs.fetch_sub(1, Ordering::Release) } != 1 {
            return;
        }
        // A load and not a fence, because ThreadSanitizer does not know fences.
        // SAFETY: alive until it is dropped below.
        unsafe { (*buf).refs.load(Ordering::Acquire) };
        // SAFETY: the last reference is gone, and it came from a Box.
        let last = unsafe { Box::from_raw(buf) };
        let (owner, data, len) = (last.owner, last.data, last.len);
        // SAFETY: the reference that new() took.
        unsafe {
            last.pool.as_ref().pool().unpin_shared(len);
            sendq_pool_t::release(last.pool);
        }
        drop(last);
        // SAFETY: the host's own function with its own argument, as it asked for.
        unsafe { owner.release(data.cast(), len, 0) };
    }
}

/// The release callback of a shared slot.
unsafe extern "C-unwind" fn release_buf(buf: *mut c_void, _: *const c_void, _: usize, _: c_int) {
    // SAFETY: the reference that sendq_append_buf took.
    unsafe { sendq_buf_t::release(buf.cast()) };
}

/// Makes a buffer at `out` that is charged to `pool`. `make` returns its memory.
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
    // SAFETY: NULL or alive, as the caller says.
    unsafe { during_pool(pool, || guard(make, || ())) }
}

/// Makes a shared buffer by copying len bytes. It counts against the budget of pool (NULL: the default pool)
/// once, however many queues send it, until it is freed, and it keeps the pool alive. On success *out is a
/// reference to it; give it to sendq_buf_unref when no more appends will follow. The queues hold their own
/// references. The calling thread must be one that may use the pool; afterwards any thread may use the
/// buffer.
///
/// -EINVAL: out is NULL, data is NULL and len is not 0, or len is larger than an object can be.
/// -ENOBUFS: over the pool's budget. -ENOMEM: out of memory. On failure *out is NULL.
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
        let mut copy = Vec::new();
        copy.try_reserve_exact(len).map_err(|_| Errno::NO_MEMORY)?;
        copy.extend_from_slice(bytes);
        Ok((copy.as_ptr(), len, Owner { release: None, arg: null_mut() }, copy))
    };
    // SAFETY: NULL or what they are for.
    unsafe { new(pool, out, copy) }
}

/// Makes a shared buffer without copying. The bytes must stay readable and unchanged until release is called,
/// once, with arg, data, len and reason 0, by the thread that gives up the last reference. If release is
/// NULL, the memory must stay valid for good.
///
/// Errors as for sendq_buf_copy; release is then never called.
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
        // The owner of an empty one gets its own pointer back.
        Ok((data.cast(), bytes.len(), Owner { release, arg }, Vec::new()))
    };
    // SAFETY: NULL or what they are for.
    unsafe { new(pool, out, wrap) }
}

/// Takes another reference. Returns buf, or NULL if buf is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_buf_ref(buf: *mut sendq_buf_t) -> *mut sendq_buf_t {
    // SAFETY: NULL or alive.
    if let Some(buf) = unsafe { buf.as_ref() } {
        buf.hold();
    }
    buf
}

/// Gives up a reference. The last one frees the buffer. NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_buf_unref(buf: *mut sendq_buf_t) {
    if !buf.is_null() {
        // SAFETY: not NULL, so a reference of the caller's, which it gives up.
        guard_callback(|| unsafe { sendq_buf_t::release(buf) });
    }
}
