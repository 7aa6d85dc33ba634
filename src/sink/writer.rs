//! The host's own function, such as one that encrypts.

#![allow(unsafe_code)]

use super::Sink;
use crate::errno::{Errno, Result};
use crate::iovec::IoVec;
use libc::c_int;
use std::ffi::c_void;

/// The host's write callback. Its parameters are its argument, the address of the bytes, and how many. It
/// returns how many it took, or a negative errno, or WANT_READ.
pub type Write = unsafe extern "C-unwind" fn(*mut c_void, *const c_void, usize) -> i64;

/// What the callback returns when it cannot continue before its connection is readable.
pub const WANT_READ: i64 = -4096;

/// No errno of a kernel is larger.
const MAX_ERRNO: i64 = 4095;

/// The callback and its argument, for one flush.
pub struct Writer {
    write: Write,
    arg: *mut c_void,
    calls: u32,
}

impl Writer {
    /// A sink that calls `write` with `arg`.
    pub fn new(write: Write, arg: *mut c_void) -> Writer {
        Writer { write, arg, calls: 0 }
    }
}

impl Sink for Writer {
    fn write(&mut self, iovecs: &[IoVec], _: bool) -> Result<usize> {
        let iovec = iovecs[0];
        self.calls += 1;
        // SAFETY: the host's own function with its own argument; the iovec stays valid until this returns.
        let taken = unsafe { (self.write)(self.arg, iovec.base().cast(), iovec.len()) };
        match usize::try_from(taken) {
            Ok(0) => Err(Errno::AGAIN),
            Ok(taken) if taken <= iovec.len() => Ok(taken),
            // It claims to have taken more than it was given.
            Ok(_) => Err(Errno::IO),
            Err(_) if taken == WANT_READ => Err(Errno::WANT_READ),
            Err(_) if taken < -MAX_ERRNO => Err(Errno::IO),
            Err(_) => Err(Errno::new(-taken as c_int)),
        }
    }

    fn send_file(&mut self, _: c_int, _: u64, _: usize, _: bool) -> Result<usize> {
        unreachable!("files are read into records")
    }

    fn calls(&self) -> u32 {
        self.calls
    }
}
