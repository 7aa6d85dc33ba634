//! One run of queued bytes, and who must be told when it is gone.

#![allow(unsafe_code)]

use crate::errno::{Errno, Result};
use libc::{c_int, c_void};
use std::mem::MaybeUninit;

/// The most pieces one `sendmsg(2)` takes on Linux and the BSDs (IOV_MAX, `getconf IOV_MAX`).
pub const MAX_PIECES: usize = 1024;

/// What is no descriptor.
pub const NO_FD: c_int = -1;

/// A run of bytes that waits in memory: laid out as C's `struct iovec`, so that a slice of pieces is
/// an iovec array.
///
/// The memory stays where it is, readable and unchanged, until the queue it was peeked from
/// consumes or discards it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    base: *mut c_void,
    len: usize,
}

impl Piece {
    /// `len` bytes from `base` on.
    pub fn new(base: *const u8, len: usize) -> Piece {
        Piece { base: base.cast_mut().cast(), len }
    }

    /// Where the bytes are.
    pub fn base(&self) -> *const u8 {
        self.base.cast_const().cast()
    }

    /// How many bytes. Never 0 for a piece that a queue made.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Its first `len` bytes, or all of it.
    #[inline]
    pub fn first(self, len: usize) -> Piece {
        Piece { len: self.len.min(len), ..self }
    }

    /// The bytes.
    ///
    /// # Safety
    /// They have not been consumed or discarded since the piece was peeked, and will not be while
    /// the slice is in use; what was reserved and committed among them was written.
    pub unsafe fn bytes<'a>(&self) -> &'a [u8] {
        // SAFETY: a piece spans the memory of one run, and the caller vouches that it is still held
        // and was written.
        unsafe { std::slice::from_raw_parts(self.base(), self.len) }
    }
}

/// Pieces of a caller's, which stay as they are for as long as `'a`.
#[derive(Clone, Copy)]
pub struct Parts<'a> {
    pieces: &'a [Piece],
    total: usize,
}

impl<'a> Parts<'a> {
    /// INVALID: a NULL that is not empty, or a length, of one or of all, that no object can have.
    ///
    /// # Safety
    /// Each is NULL, or readable and unchanged for `'a`, if its length is one that memory can have.
    pub unsafe fn new(pieces: &'a [Piece]) -> Result<Parts<'a>> {
        let mut total = 0_usize;
        for piece in pieces.iter().filter(|piece| piece.len > 0) {
            let wraps = (piece.base as usize).checked_add(piece.len).is_none();
            if piece.base.is_null() || piece.len > isize::MAX as usize || wraps {
                return Err(Errno::INVALID);
            }
            total = total.checked_add(piece.len).ok_or(Errno::INVALID)?;
        }
        if total > isize::MAX as usize { Err(Errno::INVALID) } else { Ok(Parts { pieces, total }) }
    }

    /// How many bytes.
    pub fn total(&self) -> usize {
        self.total
    }

    /// As a sink takes them; some may be empty.
    pub fn pieces(&self) -> &'a [Piece] {
        self.pieces
    }

    /// The bytes after the first `skip`, part by part; none is empty.
    pub fn slices(self, mut skip: usize) -> impl Iterator<Item = &'a [u8]> {
        self.pieces.iter().filter_map(move |piece| {
            let now = skip.min(piece.len);
            skip -= now;
            // SAFETY: new() found that it is no NULL, and its caller vouches for the bytes.
            (now < piece.len).then(|| unsafe { &piece.bytes()[now..] })
        })
    }
}

/// What waits at some place of the stream, as a flush sees it.
#[derive(Clone, Copy, Debug)]
pub enum Run {
    /// Bytes in memory.
    Memory(Piece),
    /// Bytes of a file: the descriptor, the offset in it, and how many.
    File(c_int, u64, u64),
}

impl Run {
    /// How many bytes.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> u64 {
        match self {
            Run::Memory(piece) => piece.len as u64,
            Run::File(_, _, len) => *len,
        }
    }
}

/// What a host gives to be called when a segment is gone: its argument, the memory (NULL for a file)
/// and its length as they were appended, and why: 0 or a negative errno.
pub type Release = unsafe extern "C-unwind" fn(*mut c_void, *const c_void, usize, c_int);

/// Who owns the bytes of a segment, and is told once when it is gone.
#[derive(Clone, Copy, Debug)]
pub struct Owner {
    /// None: nobody needs to know.
    pub release: Option<Release>,
    /// For `release`.
    pub arg: *mut c_void,
}

/// A run of bytes that sendq borrows: memory or a part of a file. Without bytes it is a mark in the
/// stream, whose owner is told when all before it has left.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// The address in memory, or the offset in the file.
    place: u64,
    len: u64,
    owner: Owner,
    /// The file, or BORROWED or SHARED for memory.
    fd: c_int,
}

const BORROWED: c_int = -1;
const SHARED: c_int = -2;

/// Whose the bytes of a segment are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Memory that this segment alone keeps its owner from.
    Borrowed,
    /// Memory that others may keep as well.
    Shared,
    /// A file's.
    File,
}

impl Segment {
    /// Memory of the host's.
    ///
    /// # Safety
    /// It stays readable and unchanged until `owner` is told.
    pub unsafe fn memory(data: *const u8, len: usize, owner: Owner) -> Segment {
        Segment { place: data as u64, len: len as u64, owner, fd: BORROWED }
    }

    /// A part of a payload that other segments may be parts of.
    ///
    /// # Safety
    /// As for [`Segment::memory`].
    pub unsafe fn shared(data: *const u8, len: usize, owner: Owner) -> Segment {
        Segment { place: data as u64, len: len as u64, owner, fd: SHARED }
    }

    /// A part of a file, which stays open until `owner` is told.
    pub fn file(fd: c_int, offset: u64, len: u64, owner: Owner) -> Segment {
        debug_assert!(fd >= 0);
        Segment { place: offset, len, owner, fd }
    }

    /// A mark in the stream.
    pub fn mark(owner: Owner) -> Segment {
        Segment { place: 0, len: 0, owner, fd: BORROWED }
    }

    /// Who is told.
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// Whose its bytes are.
    #[inline]
    pub fn kind(&self) -> Kind {
        match self.fd {
            BORROWED => Kind::Borrowed,
            SHARED => Kind::Shared,
            _ => Kind::File,
        }
    }

    /// How many bytes.
    #[allow(clippy::len_without_is_empty)]
    #[inline]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Memory that its owner cannot have while it is held.
    #[inline]
    pub fn pins(&self) -> usize {
        if self.fd == BORROWED { self.len as usize } else { 0 }
    }

    /// What is left of it after its first `sent` bytes; at least one is.
    #[inline]
    pub(crate) fn rest(&self, sent: u64) -> Run {
        let (place, len) = (self.place + sent, self.len - sent);
        match self.fd {
            BORROWED | SHARED => Run::Memory(Piece::new(place as *const u8, len as usize)),
            fd => Run::File(fd, place, len),
        }
    }
}

/// A segment that has left the queue, and the reason. Its owner has to be told, once, with no lock
/// held.
#[derive(Debug)]
#[must_use]
pub struct Gone {
    pub(crate) segment: Segment,
    pub(crate) reason: c_int,
}

impl Gone {
    /// Memory that its owner has back once it is told.
    #[inline]
    pub fn unpins(&self) -> usize {
        self.segment.pins()
    }

    /// Tells the owner.
    #[inline]
    pub fn tell(self) {
        let Segment { place, len, owner, fd } = self.segment;
        if let Some(release) = owner.release {
            let data = if fd < 0 { place as *const c_void } else { std::ptr::null() };
            // SAFETY: the host's own function with its own argument, as it asked for. What comes
            // back through here as an unwinding exception ends the process at the C boundary.
            unsafe { release(owner.arg, data, len as usize, self.reason) };
        }
    }
}

/// The first `budget` bytes of `waiting`, or as many as `room` holds, as one slice for a sink.
pub fn gather(
    room: &mut [MaybeUninit<Piece>],
    waiting: impl Iterator<Item = Piece>,
    mut budget: usize,
) -> &[Piece] {
    let mut count = 0;
    for (place, piece) in room.iter_mut().zip(waiting) {
        if budget == 0 {
            break;
        }
        let piece = piece.first(budget);
        budget -= piece.len;
        place.write(piece);
        count += 1;
    }
    // SAFETY: the first `count` were written above, and MaybeUninit<T> has the layout of T.
    unsafe { std::slice::from_raw_parts(room.as_ptr().cast(), count) }
}
