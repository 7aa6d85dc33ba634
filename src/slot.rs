//! A slot: bytes that somebody else owns, their place among the copied bytes of a block, and the owner to
//! release when they are not needed any more.

#![allow(unsafe_code)]

use crate::iovec::{Extent, IoVec};
use libc::{c_int, c_void};
use std::ptr::null;

/// No file descriptor.
pub const NO_FD: c_int = -1;

/// The host's release callback. Its parameters are the host's argument, the memory (NULL for a file) and its
/// length as they were appended, and the reason: 0 or a negative errno.
pub type Release = unsafe extern "C-unwind" fn(*mut c_void, *const c_void, usize, c_int);

/// The owner of a slot's bytes, which is released once.
#[derive(Clone, Copy, Debug)]
pub struct Owner {
    /// None: there is nothing to call.
    pub release: Option<Release>,
    /// For `release`.
    pub arg: *mut c_void,
}

impl Owner {
    /// Nobody.
    pub const NONE: Owner = Owner { release: None, arg: std::ptr::null_mut() };

    /// Calls the release callback, for `len` bytes at `data`.
    ///
    /// # Safety
    /// The host's own function is called with its own argument; nothing is locked or borrowed.
    pub unsafe fn release(self, data: *const c_void, len: usize, reason: c_int) {
        if let Some(release) = self.release {
            // SAFETY: as the caller says. An exception that unwinds from it ends the process at the C
            // boundary.
            unsafe { release(self.arg, data, len, reason) };
        }
    }
}

/// The kind of a slot's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Memory that only this slot borrows.
    Borrowed,
    /// Memory that other slots may refer to as well.
    Shared,
    /// A part of a file.
    File,
}

/// Added to the reason of a slot that was sent, in part at least, without a copy: its owner is not released before
/// that is acknowledged ([`crate::zerocopy`]). All reasons are above -4096.
pub const CARRIED: c_int = 1 << 16;

const BORROWED: c_int = -1;
const SHARED: c_int = -2;
const MESSAGE: c_int = -3;

/// Bytes that a queue borrows: memory, or a part of a file. A slot of no bytes is a notification, whose owner
/// is released when all bytes before it are consumed.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// The address in memory, or the offset in the file. For the owner of a message, how many bytes of the
    /// message precede this slot, and how many have been sent once it is completed.
    place: u64,
    len: u64,
    owner: Owner,
    /// The file, or BORROWED or SHARED for memory, or MESSAGE for the owner of a message.
    fd: c_int,
    /// The offset in the block's copied bytes that the slot precedes.
    pub(crate) at: u32,
    /// Why it is not needed any more, once it is completed; 0 before. CARRIED is added by each send that carried it
    /// and completed it, and by the mark of one that carried a part of it.
    pub(crate) reason: c_int,
    /// How many bytes of the owner's piece were sent before the slot was made. For the owner of a message,
    /// how many bytes of the message follow this slot.
    beside: u32,
}

impl Slot {
    fn new(place: u64, len: u64, owner: Owner, fd: c_int) -> Slot {
        Slot { place, len, owner, fd, at: 0, reason: 0, beside: 0 }
    }

    /// Memory of the host.
    ///
    /// # Safety
    /// It stays readable and unchanged until `owner` is released.
    pub unsafe fn borrowed(data: *const u8, len: usize, owner: Owner) -> Slot {
        Slot::new(data as u64, len as u64, owner, BORROWED)
    }

    /// A part of a shared payload.
    ///
    /// # Safety
    /// As for [`Slot::borrowed`].
    pub unsafe fn shared(data: *const u8, len: usize, owner: Owner) -> Slot {
        Slot::new(data as u64, len as u64, owner, SHARED)
    }

    /// A part of a file, which stays open until `owner` is released.
    pub fn file(fd: c_int, offset: u64, len: u64, owner: Owner) -> Slot {
        debug_assert!(fd >= 0);
        Slot::new(offset, len, owner, fd)
    }

    /// A notification.
    pub fn notification(owner: Owner) -> Slot {
        Slot::new(0, 0, owner, BORROWED)
    }

    /// The owner of a message, of which `before` bytes precede this slot and `after` bytes follow it.
    pub fn message(owner: Owner, before: u64, after: u64) -> Slot {
        let beside = u32::try_from(after).unwrap_or(u32::MAX);
        Slot { beside, ..Slot::new(before, 0, owner, MESSAGE) }
    }

    /// The same without its first `skip` bytes, which were sent already. Its owner is released for all of it.
    pub fn without_first(self, skip: u32) -> Slot {
        let (place, len) = (self.place + u64::from(skip), self.len - u64::from(skip));
        Slot { place, len, beside: skip, ..self }
    }

    /// Records why it is not needed any more. `distance`: how many bytes were consumed before it since this
    /// call began; `following`: how many are consumed after it.
    pub(crate) fn complete(&mut self, reason: c_int, distance: u64, following: u64) {
        self.reason += reason;
        if self.fd != MESSAGE {
            return;
        }
        self.place = if reason >= 0 {
            self.place + following.min(u64::from(self.beside))
        } else {
            // What is discarded has not been sent.
            self.place.saturating_sub(distance)
        };
    }

    /// It is the owner of a message all of which follows it.
    pub(crate) fn leads(&self) -> bool {
        self.fd == MESSAGE && self.place == 0 && self.beside > 0
    }

    /// Marks it as sent in part without a copy.
    pub(crate) fn carry(&mut self) {
        self.reason = CARRIED;
    }

    /// Removes that mark, and replaces its owner.
    pub(crate) fn unmark(&mut self, owner: Owner) {
        (self.reason, self.owner) = (0, owner);
    }

    /// It was sent, in part at least, without a copy.
    pub(crate) fn is_carried(&self) -> bool {
        self.reason > 0
    }

    /// The same slot without that mark, and whether its owner waits for an acknowledgement. That of a notification
    /// does not: it owns no bytes.
    pub(crate) fn landed(self) -> (Slot, bool) {
        let reason = match self.reason % CARRIED {
            0 => 0,
            above => above - CARRIED,
        };
        (Slot { reason, ..self }, self.len > 0 && self.fd < 0 || self.fd == MESSAGE)
    }

    /// If it is that of a message's owner: how many bytes of the message precede it.
    pub(crate) fn message_before(&self) -> Option<u64> {
        (self.fd == MESSAGE).then_some(self.place)
    }

    /// Of a message's owner: `sent` bytes of the message do not precede this slot any more.
    pub(crate) fn forget(&mut self, sent: u64) {
        self.place -= sent;
    }

    /// The same slot of a message's owner, of whose message `sent` bytes were sent.
    pub(crate) fn with_sent(self, sent: u64) -> Slot {
        Slot { place: sent, ..self }
    }

    /// Replaces its owner.
    pub(crate) fn set_owner(&mut self, owner: Owner) {
        self.owner = owner;
    }

    /// Its owner.
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// The kind of its bytes.
    pub fn kind(&self) -> Kind {
        match self.fd {
            BORROWED | MESSAGE => Kind::Borrowed,
            SHARED => Kind::Shared,
            _ => Kind::File,
        }
    }

    /// Its length in bytes.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Its length in memory: 0 for a file.
    pub fn memory(&self) -> u64 {
        if self.fd < 0 { self.len } else { 0 }
    }

    /// Whether its bytes are in memory.
    pub fn is_in_memory(&self) -> bool {
        self.fd < 0
    }

    /// Memory that its owner cannot reuse while it is queued.
    pub fn pinned(&self) -> usize {
        if self.fd == BORROWED { self.len as usize } else { 0 }
    }

    /// The rest of it after its first `sent` bytes, which is not empty.
    pub(crate) fn rest(&self, sent: u64) -> Extent {
        let (place, len) = (self.place + sent, self.len - sent);
        match self.fd {
            BORROWED | SHARED => Extent::Memory(IoVec::new(place as *const u8, len as usize)),
            fd => Extent::File(fd, place, len),
        }
    }

    /// Divides it after its first `len` bytes, which are fewer than it has. `owner` is that of both parts.
    pub(crate) fn split(self, len: u64, owner: Owner) -> (Slot, Slot) {
        let first = Slot { len, owner, ..self };
        let rest = Slot { place: self.place + len, len: self.len - len, owner, reason: 0, ..self };
        (first, rest)
    }

    /// Releases its owner. It is completed and out of the queue, and nothing is locked.
    pub fn release(self) {
        let skip = u64::from(self.beside);
        let (data, len) = match self.fd {
            MESSAGE => (null(), self.place),
            BORROWED | SHARED => ((self.place - skip) as *const c_void, self.len + skip),
            _ => (null(), self.len + skip),
        };
        // SAFETY: called as it was appended, and once: the queue has handed the slot out.
        unsafe { self.owner.release(data, len as usize, self.reason) };
    }
}
