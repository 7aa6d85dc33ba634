//! A host's own function, such as one that encrypts.

#![allow(unsafe_code)]

use super::Sink;
use crate::errno::{Errno, Result};
use crate::segment::Piece;
use libc::c_int;
use std::ffi::c_void;

/// Takes bytes: its argument, where they are, and how many. Returns how many it took, or a negative
/// errno, or WANT_READ.
pub type Write = unsafe extern "C-unwind" fn(*mut c_void, *const c_void, usize) -> i64;

/// What such a function returns when it cannot go on before its connection is readable.
pub const WANT_READ: i64 = -4096;

/// The function and its argument, for one flush.
pub struct Writer {
    write: Write,
    arg: *mut c_void,
    calls: u32,
}

impl Writer {
    /// That function.
    pub fn new(write: Write, arg: *mut c_void) -> Writer {
        Writer { write, arg, calls: 0 }
    }
}

impl Sink for Writer {
    fn write(&mut self, pieces: &[Piece]) -> Result<usize> {
        let piece = pieces[0];
        self.calls += 1;
        // SAFETY: the host's own function with its own argument, as it asked for; the piece is held
        // until this returns.
        let taken = unsafe { (self.write)(self.arg, piece.base().cast(), piece.len()) };
        match usize::try_from(taken) {
            Ok(0) => Err(Errno::AGAIN),
            Ok(taken) if taken <= piece.len() => Ok(taken),
            // It says that it took what it was not given.
            Ok(_) => Err(Errno::IO),
            Err(_) if taken == WANT_READ => Err(Errno::WANT_READ),
            Err(_) => Err(c_int::try_from(taken.unsigned_abs()).map_or(Errno::IO, Errno::new)),
        }
    }

    fn send_file(&mut self, _: c_int, _: u64, _: usize) -> Result<usize> {
        unreachable!("files are read into records")
    }

    fn calls(&self) -> u32 {
        self.calls
    }
}
