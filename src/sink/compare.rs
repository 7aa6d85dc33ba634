//! In place of a sink: takes bytes for as long as they are the expected ones.

#![allow(unsafe_code)]

use super::socket::{READ_BYTES, read_at};
use crate::errno::{Errno, Result};
use crate::segment::{Parts, Run};
use libc::c_int;
use std::mem::MaybeUninit;

/// What is still expected.
pub struct Compare<'a, I> {
    /// Of the part that is compared with.
    now: &'a [u8],
    later: I,
    left: usize,
}

/// Expects the first `bytes` of `parts`, which have as many.
pub fn expect(parts: Parts<'_>, bytes: usize) -> Compare<'_, impl Iterator<Item = &[u8]>> {
    debug_assert!(bytes <= parts.total());
    Compare { now: &[], later: parts.slices(0), left: bytes }
}

impl<'a, I: Iterator<Item = &'a [u8]>> Compare<'a, I> {
    /// How many of the first bytes of `run` are the expected ones. IO: a file is shorter than what was
    /// promised of it; otherwise its own error: pread(2).
    pub fn take(&mut self, run: Run) -> Result<u64> {
        let taken = match run {
            // SAFETY: whoever lends the run holds it until this call returns.
            Run::Memory(piece) => self.count(unsafe { piece.bytes() }),
            Run::File(fd, offset, len) => {
                self.read(fd, offset, usize::try_from(len).unwrap_or(usize::MAX))?
            }
        };
        Ok(taken as u64)
    }

    /// The same of `len` bytes of the file `fd` from `offset`.
    fn read(&mut self, fd: c_int, offset: u64, len: usize) -> Result<usize> {
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
