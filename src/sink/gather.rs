//! Copies scattered extents to contiguous memory.

#![allow(unsafe_code)]

use super::platform::read_at;
use crate::errno::Result;
use crate::iovec::Extent;
use libc::c_int;
use std::mem::MaybeUninit;

/// Memory that is filled from its front on.
pub struct Gather<'a> {
    room: &'a mut [MaybeUninit<u8>],
}

impl<'a> Gather<'a> {
    /// Fills `room`.
    pub fn new(room: &'a mut [MaybeUninit<u8>]) -> Gather<'a> {
        Gather { room }
    }

    /// Copies the first bytes of `extent`, as many as fit. Returns how many. The caller keeps the extent
    /// valid until this returns.
    ///
    /// NO_DATA: a file is shorter than promised. Otherwise the error of pread(2).
    pub fn take(&mut self, extent: Extent) -> Result<u64> {
        let now = self.next(usize::try_from(extent.len()).unwrap_or(usize::MAX));
        let taken = now.len() as u64;
        match extent {
            // SAFETY: the caller keeps the extent valid; `now` has space for at most that many bytes, and
            // only this refers to it.
            Extent::Memory(iovec) => unsafe {
                iovec.base().copy_to_nonoverlapping(now.as_mut_ptr().cast(), now.len());
            },
            Extent::File(fd, offset, _) => read_whole(fd, offset, now)?,
        }
        Ok(taken)
    }

    /// The next `len` bytes, or as many as there are.
    fn next(&mut self, len: usize) -> &'a mut [MaybeUninit<u8>] {
        let room = std::mem::take(&mut self.room);
        let (now, later) = room.split_at_mut(len.min(room.len()));
        self.room = later;
        now
    }
}

fn read_whole(fd: c_int, mut offset: u64, mut room: &mut [MaybeUninit<u8>]) -> Result<()> {
    while !room.is_empty() {
        let read = read_at(fd, offset, room)?.len();
        offset += read as u64;
        room = &mut room[read..];
    }
    Ok(())
}
