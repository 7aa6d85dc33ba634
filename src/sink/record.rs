//! Gathers what is scattered.

#![allow(unsafe_code)]

use super::socket::read_at;
use crate::errno::{Errno, Result};
use crate::segment::Piece;
use libc::c_int;
use std::mem::MaybeUninit;

/// Memory that is filled from its front on.
pub struct Record<'a> {
    room: &'a mut [MaybeUninit<u8>],
}

impl<'a> Record<'a> {
    /// All of `room` is to be filled.
    pub fn new(room: &'a mut [MaybeUninit<u8>]) -> Record<'a> {
        Record { room }
    }

    /// Nothing is left to be filled.
    pub fn is_full(&self) -> bool {
        self.room.is_empty()
    }

    /// Copies `piece`, or as much of it as fits. Whoever lends the piece holds it until this returns.
    pub fn copy(&mut self, piece: Piece) {
        let now = self.next(piece.len());
        // SAFETY: held, as the caller says; `now` has room for at most that many, and nobody else has it.
        unsafe { piece.base().copy_to_nonoverlapping(now.as_mut_ptr().cast(), now.len()) };
    }

    /// Reads `len` bytes of the file `fd` from `offset`, or as many as fit.
    ///
    /// IO: it is shorter than what was promised of it; otherwise its own error: pread(2).
    pub fn read(&mut self, fd: c_int, mut offset: u64, len: u64) -> Result<()> {
        let mut now = self.next(usize::try_from(len).unwrap_or(usize::MAX));
        while !now.is_empty() {
            let read = read_at(fd, offset, now)?.len();
            if read == 0 {
                return Err(Errno::IO);
            }
            offset += read as u64;
            now = &mut now[read..];
        }
        Ok(())
    }

    /// The next `len` bytes, or as many as there are.
    fn next(&mut self, len: usize) -> &'a mut [MaybeUninit<u8>] {
        let room = std::mem::take(&mut self.room);
        let (now, later) = room.split_at_mut(len.min(room.len()));
        self.room = later;
        now
    }
}
