//! Checks between C and the core, whatever the handle: NULL, panics, lengths that no memory can have, configs
//! of other versions.

use crate::errno::{Errno, Result};
use crate::iovec::{IoVec, IoVecs, MAX_OBJECT};
use crate::policy::Hints;
use crate::sink::platform::Fd;
use libc::c_int;
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A socket or a file, as the platform names it.
pub type sendq_fd_t = Fd;

/// A file, as the core names it. Of a HANDLE 32 bits count, and the others are copies of their sign.
pub(super) fn file(fd: sendq_fd_t) -> c_int {
    fd as c_int
}

/// Runs `call` and converts its result to that of C: hints, or a negative errno. A panic ends here: it is
/// logged, `poison` is run, and the result is -ENOTRECOVERABLE.
pub(super) fn guard(call: impl FnOnce() -> Result<Hints>, poison: impl FnOnce()) -> c_int {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(hints)) => hints.bits() as c_int,
        Ok(Err(errno)) => errno.negated(),
        Err(panic) => {
            // Leaked, because dropping the payload could panic in turn.
            std::mem::forget(panic);
            broken(poison)
        }
    }
}

/// [`guard`] for a call that calls back into the host and returns nothing.
pub(super) fn guard_callback(call: impl FnOnce()) {
    let called = || {
        call();
        Ok(Hints::NONE)
    };
    guard(called, || ());
}

#[cold]
fn broken(poison: impl FnOnce()) -> c_int {
    log::error!("a bug in sendq was caught: its queue cannot be used any more");
    // A queue that a panic left inconsistent may panic again. Then it is left as it is.
    std::mem::forget(catch_unwind(AssertUnwindSafe(poison)));
    Errno::NOT_RECOVERABLE.negated()
}

/// A configuration struct of the C ABI.
///
/// # Safety
/// It is `repr(C)`, begins with `size_t size`, and any bytes are a value of it.
pub(super) unsafe trait Config: Copy {}

/// Reads a configuration. NULL means all defaults. In one of an older version, missing fields are zero. In
/// one of a newer version, fields that this version does not know have to be zero. The rule is that of
/// clone3(2).
///
/// INVALID: its size is too small. TOO_BIG: it uses fields that this version does not know.
///
/// # Safety
/// `config` is NULL or points to memory of as many bytes as its `size` field says.
pub(super) unsafe fn read_config<T: Config>(config: *const T) -> Result<T> {
    // SAFETY: any bytes are a value of a Config.
    let mut read: T = unsafe { MaybeUninit::zeroed().assume_init() };
    if config.is_null() {
        return Ok(read);
    }
    // SAFETY: the caller's struct begins with its size.
    let size = unsafe { config.cast::<usize>().read() };
    if size < size_of::<usize>() || size > MAX_CONFIG {
        return Err(if size > MAX_CONFIG { Errno::TOO_BIG } else { Errno::INVALID });
    }
    let (bytes, known) = (config.cast::<u8>(), size.min(size_of::<T>()));
    // SAFETY: the caller vouches for `size` bytes.
    let tail = unsafe { std::slice::from_raw_parts(bytes.add(known), size - known) };
    if tail.iter().any(|byte| *byte != 0) {
        return Err(Errno::TOO_BIG);
    }
    // SAFETY: `known` bytes are within both, and any bytes are a value of a Config.
    unsafe { bytes.copy_to_nonoverlapping((&raw mut read).cast(), known) };
    Ok(read)
}

/// Fills the caller's struct of statistics, which may be of another version, up to the smaller of both sizes.
///
/// INVALID: NULL.
///
/// # Safety
/// `out` is NULL or memory of `size` bytes; `T` is plain integers without padding.
pub(super) unsafe fn fill<T: Copy>(out: *mut T, size: usize, figures: &T) -> Result<Hints> {
    if out.is_null() {
        return Err(Errno::INVALID);
    }
    let known = size.min(size_of::<T>());
    // SAFETY: `known` bytes are within both.
    unsafe { (&raw const *figures).cast::<u8>().copy_to_nonoverlapping(out.cast(), known) };
    Ok(Hints::NONE)
}

/// The most that a configuration of any version may take (clone3(2) has a page as its limit as well).
const MAX_CONFIG: usize = 4096;

/// INVALID: NULL, or a length that no object can have, or that wraps around the address space.
pub(super) fn readable(data: *const c_void, len: usize) -> Result<()> {
    let wraps = (data as usize).checked_add(len).is_none();
    if data.is_null() || len > MAX_OBJECT || wraps { Err(Errno::INVALID) } else { Ok(()) }
}

/// The caller's bytes as a slice. INVALID: they are not [`readable`].
///
/// # Safety
/// `data` is NULL or readable for `len` bytes, if `len` is a length that memory can have.
pub(super) unsafe fn slice<'a>(data: *const c_void, len: usize) -> Result<&'a [u8]> {
    if len == 0 {
        return Ok(&[]);
    }
    readable(data, len)?;
    // SAFETY: not NULL, and readable as the caller says.
    Ok(unsafe { std::slice::from_raw_parts(data.cast(), len) })
}

/// The caller's array of iovecs, which stay unchanged during the call.
///
/// INVALID: a negative number of them, or a NULL that is not empty; as for [`IoVecs::new`].
///
/// # Safety
/// `iov` is NULL or an array of `iovcnt`, each of which is the caller's memory.
#[inline(always)]
pub(super) unsafe fn iovecs<'a>(iov: *const IoVec, iovcnt: c_int) -> Result<IoVecs<'a>> {
    let count = usize::try_from(iovcnt).map_err(|_| Errno::INVALID)?;
    if count == 0 {
        return Ok(IoVecs::EMPTY);
    }
    if iov.is_null() {
        return Err(Errno::INVALID);
    }
    // SAFETY: the caller's array of that many; as the caller says.
    unsafe { IoVecs::new(std::slice::from_raw_parts(iov, count)) }
}
