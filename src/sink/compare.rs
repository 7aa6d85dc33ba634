//! Compares extents with the bytes that are expected.

#![allow(unsafe_code)]

use super::file::READ_BYTES;
use super::platform::read_at;
use crate::errno::Result;
use crate::iovec::{Extent, IoVecs};
use libc::c_int;
use std::mem::MaybeUninit;

/// The bytes that are still expected.
pub struct Compare<'a, I> {
    /// The slice being compared with.
    now: &'a [u8],
    later: I,
    left: usize,
}

/// Expects the first `bytes` of `iovecs`, which hold at least that many.
pub fn expect(iovecs: IoVecs<'_>, bytes: usize) -> Compare<'_, impl Iterator<Item = &[u8]>> {
    debug_assert!(bytes <= iovecs.total());
    Compare { now: &[], later: iovecs.slices(), left: bytes }
}

impl<'a, I: Iterator<Item = &'a [u8]>> Compare<'a, I> {
    /// How many of the first bytes of `extent` are as expected. NO_DATA: a file is shorter than promised.
    /// Otherwise the error of pread(2).
    pub fn take(&mut self, extent: Extent) -> Result<u64> {
        let taken = match extent {
            // SAFETY: the caller keeps it valid until this returns.
            Extent::Memory(iovec) => self.count(unsafe { iovec.bytes() }),
            Extent::File(fd, offset, len) => {
                self.read(fd, offset, usize::try_from(len).unwrap_or(usize::MAX))?
            }
        };
        Ok(taken as u64)
    }

    /// The same for `len` bytes of the file `fd` from `offset`.
    fn read(&mut self, fd: c_int, offset: u64, len: usize) -> Result<usize> {
        let mut room = [MaybeUninit::uninit(); READ_BYTES];
        let mut taken = 0;
        while taken < len && self.left > 0 {
            let want = READ_BYTES.min(len - taken).min(self.left);
            let bytes = read_at(fd, offset + taken as u64, &mut room[..want])?;
            let (same, read) = (self.count(bytes), bytes.len());
            taken += same;
            if same < read {
                break;
            }
        }
        Ok(taken)
    }

    /// How many of the first `bytes` are as expected.
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
