//! Reads files, for sinks that sendfile(2) does not serve.

#![allow(unsafe_code)]

use crate::errno::{Errno, Result, uninterrupted};
use libc::c_int;
use std::mem::MaybeUninit;

/// How many bytes of a file are read at a time.
pub const READ_BYTES: usize = 16 * 1024;

/// Reads from the file `fd` at `offset`, as much as fits into `room`, which is not empty: pread(2).
///
/// NO_DATA: the file ends before.
pub fn read_at(fd: c_int, offset: u64, room: &mut [MaybeUninit<u8>]) -> Result<&[u8]> {
    let offset = libc::off_t::try_from(offset).map_err(|_| Errno::OVERFLOW)?;
    // SAFETY: `room` has that length, and pread checks fd.
    let mut pread = || unsafe { libc::pread(fd, room.as_mut_ptr().cast(), room.len(), offset) };
    let read = uninterrupted(|| usize::try_from(pread()).map_err(|_| Errno::last()))?;
    if read == 0 {
        return Err(Errno::NO_DATA);
    }
    // SAFETY: so many were read.
    Ok(unsafe { std::slice::from_raw_parts(room.as_ptr().cast(), read) })
}
