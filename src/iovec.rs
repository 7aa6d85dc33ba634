//! Ranges of bytes: those of a queue, and those of a caller.

#![allow(unsafe_code)]

use crate::errno::{Errno, Result};
use libc::{c_int, c_void};
use std::mem::MaybeUninit;

/// The most that `sendmsg(2)` takes on Linux and the BSDs (`getconf IOV_MAX`).
pub const IOV_MAX: usize = 1024;

/// The most iovecs that a flush hands to one call of its sink: as many as fit a page of stack.
pub const MAX_IOVECS: usize = 256;

/// The most bytes that an object can have: PTRDIFF_MAX.
pub const MAX_OBJECT: usize = isize::MAX as usize;

/// A range of memory, laid out as C's `struct iovec`.
///
/// The memory stays readable and unchanged until the queue consumes it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct IoVec {
    base: *mut c_void,
    len: usize,
}

impl IoVec {
    /// `len` bytes from `base` on.
    pub fn new(base: *const u8, len: usize) -> IoVec {
        IoVec { base: base.cast_mut().cast(), len }
    }

    /// The address of the first byte.
    pub fn base(&self) -> *const u8 {
        self.base.cast_const().cast()
    }

    /// Its length, which is never 0 for one made by a queue.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Its first `len` bytes, or all of it.
    pub fn first(self, len: usize) -> IoVec {
        IoVec { len: self.len.min(len), ..self }
    }

    /// The bytes.
    ///
    /// # Safety
    /// They are readable and stay unchanged while the slice is in use: they are not consumed, and they were
    /// written if they were reserved.
    pub unsafe fn bytes<'a>(&self) -> &'a [u8] {
        // SAFETY: an IoVec spans one object, and the caller vouches that it is readable.
        unsafe { std::slice::from_raw_parts(self.base(), self.len) }
    }
}

/// The first of `iovecs` that have at most `most` bytes together, but at least one.
pub fn up_to(iovecs: &[IoVec], most: usize) -> &[IoVec] {
    let mut left = most;
    let fits = |iovec: &&IoVec| {
        let rest = left.checked_sub(iovec.len);
        left = rest.unwrap_or(0);
        rest.is_some()
    };
    let count = iovecs.iter().take_while(fits).count();
    &iovecs[..count.max(1).min(iovecs.len())]
}

/// A range of queued bytes, as a flush sees it.
#[derive(Clone, Copy, Debug)]
pub enum Extent {
    /// Bytes in memory.
    Memory(IoVec),
    /// Bytes of a file: the descriptor, the offset in it, and how many.
    File(c_int, u64, u64),
}

impl Extent {
    /// Its length in bytes.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> u64 {
        match self {
            Extent::Memory(iovec) => iovec.len as u64,
            Extent::File(_, _, len) => *len,
        }
    }
}

/// Fills an array of iovecs.
pub struct Fill<'a> {
    room: &'a mut [MaybeUninit<IoVec>],
    /// How many entries are filled.
    pub count: usize,
    /// How many bytes they hold.
    pub bytes: usize,
    /// The file at which it ended: the descriptor, the offset in it, and how many bytes.
    pub file: Option<(c_int, u64, u64)>,
    budget: usize,
}

impl<'a> Fill<'a> {
    /// Fills `room` with the first `budget` bytes, as far as there are entries, and up to the first file.
    pub fn new(room: &'a mut [MaybeUninit<IoVec>], budget: usize) -> Fill<'a> {
        Fill { room, count: 0, bytes: 0, file: None, budget }
    }

    /// Adds `extent`. Memory that is contiguous becomes one IoVec, even with slots between its parts. Returns
    /// whether there is more to fill.
    #[inline(always)]
    pub fn add(&mut self, extent: Extent) -> bool {
        let iovec = match extent {
            Extent::Memory(iovec) => iovec.first(self.budget - self.bytes),
            Extent::File(fd, offset, len) => {
                self.file = Some((fd, offset, len));
                return false;
            }
        };
        if !self.extend_last(iovec) {
            let Some(place) = self.room.get_mut(self.count) else { return false };
            place.write(iovec);
            self.count += 1;
        }
        self.bytes += iovec.len;
        self.bytes < self.budget
    }

    /// Whether it holds as many bytes as it may.
    pub fn is_spent(&self) -> bool {
        self.bytes >= self.budget
    }

    #[inline(always)]
    fn extend_last(&mut self, iovec: IoVec) -> bool {
        let Some(last) = self.count.checked_sub(1) else { return false };
        // SAFETY: the first `count` are filled.
        let last = unsafe { self.room[last].assume_init_mut() };
        let touches = last.base() as usize + last.len == iovec.base() as usize;
        if touches {
            last.len += iovec.len;
        }
        touches
    }
}

/// The first `count` entries of `room`, which [`Fill`] has written.
pub(crate) fn written(room: &[MaybeUninit<IoVec>], count: usize) -> &[IoVec] {
    let room = &room[..count];
    // SAFETY: the caller vouches that they were written, and MaybeUninit<T> has the layout of T.
    unsafe { std::slice::from_raw_parts(room.as_ptr().cast(), count) }
}

/// The iovecs of a caller, whose bytes stay unchanged for `'a`.
#[derive(Clone, Copy)]
pub struct IoVecs<'a> {
    iovecs: &'a [IoVec],
    total: usize,
}

impl<'a> IoVecs<'a> {
    /// None.
    pub const EMPTY: IoVecs<'static> = IoVecs { iovecs: &[], total: 0 };

    /// INVALID: a NULL that is not empty, or a length, of one or of all together, that no object can have.
    ///
    /// # Safety
    /// Each is NULL, or readable and unchanged for `'a`, if its length is one that memory can have.
    pub unsafe fn new(iovecs: &'a [IoVec]) -> Result<IoVecs<'a>> {
        let mut total = 0_usize;
        for iovec in iovecs.iter().filter(|iovec| iovec.len > 0) {
            let wraps = (iovec.base as usize).checked_add(iovec.len).is_none();
            if iovec.base.is_null() || wraps || iovec.len > MAX_OBJECT - total {
                return Err(Errno::INVALID);
            }
            total += iovec.len;
        }
        Ok(IoVecs { iovecs, total })
    }

    /// Their length in bytes.
    pub fn total(&self) -> usize {
        self.total
    }

    /// The iovecs, of which some may be empty.
    pub fn as_slice(&self) -> &'a [IoVec] {
        self.iovecs
    }

    /// The first `count` of them.
    pub fn first(&self, count: usize) -> IoVecs<'a> {
        match self.iovecs.get(..count) {
            None => *self,
            Some(iovecs) => IoVecs { iovecs, total: iovecs.iter().map(IoVec::len).sum() },
        }
    }

    /// The bytes as slices, none of which is empty.
    pub fn slices(self) -> impl Iterator<Item = &'a [u8]> {
        // SAFETY: new() has checked that it is not NULL, and its caller vouches for the bytes.
        self.iovecs.iter().filter(|iovec| iovec.len > 0).map(|iovec| unsafe { iovec.bytes() })
    }

    /// The `len` bytes after the first `skip`, as slices, none of which is empty.
    pub fn part(self, mut skip: usize, mut len: usize) -> impl Iterator<Item = &'a [u8]> {
        self.slices().filter_map(move |bytes| {
            let now = bytes.get(skip..).unwrap_or_default();
            skip = skip.saturating_sub(bytes.len());
            let now = &now[..now.len().min(len)];
            len -= now.len();
            (!now.is_empty()).then_some(now)
        })
    }
}
