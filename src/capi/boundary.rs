//! What stands between C and the core: NULL, panics, locks, configs of other versions.

use crate::errno::{Errno, Result};
use crate::pressure::Hints;
use libc::c_int;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A socket as the platform names it.
#[cfg(not(windows))]
pub type sendq_fd_t = c_int;
/// A socket as the platform names it.
#[cfg(windows)]
pub type sendq_fd_t = usize;

/// Runs `call` and turns what it gives into what C gets: hints, or a negative errno. A panic ends
/// here: it is logged, `poison` is run, and the call gives -ENOTRECOVERABLE.
#[inline]
pub(super) fn guard(call: impl FnOnce() -> Result<Hints>, poison: impl FnOnce()) -> c_int {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(hints)) => hints.bits() as c_int,
        Ok(Err(errno)) => errno.negated(),
        Err(panic) => {
            // Dropping the payload could panic in turn: it is leaked.
            std::mem::forget(panic);
            broken(poison)
        }
    }
}

/// [`guard`] for what calls back into the host and gives nothing.
pub(super) fn guard_callback(call: impl FnOnce()) {
    let called = || {
        call();
        Ok(Hints::NONE)
    };
    guard(called, || ());
}

#[cold]
fn broken(poison: impl FnOnce()) -> c_int {
    log::error!("a bug in sendq was caught: the queue that it happened to is out of use");
    // A queue that a panic left half changed may panic again: then it keeps what it has.
    std::mem::forget(catch_unwind(AssertUnwindSafe(poison)));
    Errno::NOT_RECOVERABLE.negated()
}

/// `value` on the heap, or NO_MEMORY where `Box::new` would end the process.
pub(super) fn try_box<T>(value: T) -> Result<Box<T>> {
    let mut room = Vec::new();
    room.try_reserve_exact(1).map_err(|_| Errno::NO_MEMORY)?;
    room.push(value);
    // SAFETY: a boxed slice of one T is one T of the same layout, allocated as such.
    Ok(unsafe { Box::from_raw(Box::into_raw(room.into_boxed_slice()).cast::<T>()) })
}

/// A configuration struct of the C ABI.
///
/// # Safety
/// It is `repr(C)`, begins with `size_t size`, and any bytes are a value of it.
pub(super) unsafe trait Config: Copy {}

/// Reads a configuration that may be NULL (all defaults), older than this version (what it lacks is
/// zero) or newer (what this version lacks must be zero). The rule is that of clone3(2).
///
/// INVALID: its size is too small to be one. TOO_BIG: it asks for what this version lacks.
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

/// Fills the caller's struct of figures, which may be of another version, as far as both go.
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

/// No configuration of any version is larger (clone3(2) takes a page as its bound as well).
const MAX_CONFIG: usize = 4096;
