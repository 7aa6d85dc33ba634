//! A sink that sends nothing: it takes bytes for as long as they are the expected ones.

#![allow(unsafe_code)]

use super::Sink;
use super::socket::{READ_BYTES, read_at};
use crate::errno::{Errno, Result};
use crate::segment::{Parts, Piece, Run};
use libc::c_int;
use std::mem::MaybeUninit;

/// What is still expected.
pub struct Compare<'a, I> {
    /// Of the part that is compared with.
    now: &'a [u8],
    later: I,
    left: usize,
}

/// A sink that expects the first `bytes` of `parts`, which have as many.
pub fn expect(parts: Parts<'_>, bytes: usize) -> Compare<'_, impl Iterator<Item = &[u8]>> {
    debug_assert!(bytes <= parts.total());
    Compare { now: &[], later: parts.slices(0), left: bytes }
}

impl<'a, I: Iterator<Item = &'a [u8]>> Compare<'a, I> {
    /// How many of the first bytes of `run` are the expected ones. Errors as for [`Sink::send_file`].
    pub fn take(&mut self, run: Run) -> Result<u64> {
        let taken = match run {
            Run::Memory(piece) => self.write(&[piece])?,
            Run::File(fd, offset, len) => {
                self.send_file(fd, offset, usize::try_from(len).unwrap_or(usize::MAX))?
            }
        };
        Ok(taken as u64)
    }

    /// How many of the first of `bytes` are the expected ones.
    fn count(&mut self, mut bytes: &[u8]) -> usize {
        let before = self.left;
        while self.left > 0 && !bytes.is_empty() {
            if self.now.is_empty() {
                self.now = self.later.next().unwrap_or_default();
            }
            let step = bytes.len().min(self.now.len()).min(self.left);
            let (mine, theirs) = (&bytes[..step], &self.now[..step]);
            let same = match mine == theirs {
                true => step,
                false => mine.iter().zip(theirs).take_while(|(a, b)| a == b).count(),
            };
            self.left -= same;
            if same < step || step == 0 {
                break;
            }
            (bytes, self.now) = (&bytes[step..], &self.now[step..]);
        }
        before - self.left
    }
}

impl<'a, I: Iterator<Item = &'a [u8]>> Sink for Compare<'a, I> {
    fn write(&mut self, pieces: &[Piece]) -> Result<usize> {
        let mut taken = 0;
        for piece in pieces {
            // SAFETY: whoever offers a piece holds it until this call returns.
            let bytes = unsafe { piece.bytes() };
            let same = self.count(bytes);
            taken += same;
            if same < bytes.len() {
                break;
            }
        }
        Ok(taken)
    }

    fn send_file(&mut self, fd: c_int, offset: u64, len: usize) -> Result<usize> {
        let mut room = [MaybeUninit::uninit(); READ_BYTES];
        let mut taken = 0;
        while taken < len && self.left > 0 {
            let want = READ_BYTES.min(len - taken).min(self.left);
            let bytes = read_at(fd, offset + taken as u64, &mut room[..want])?;
            let (same, read) = (self.count(bytes), bytes.len());
            taken += same;
            if read == 0 {
                return Err(Errno::IO);
            }
            if same < read {
                break;
            }
        }
        Ok(taken)
    }

    fn calls(&self) -> u32 {
        0
    }
}
