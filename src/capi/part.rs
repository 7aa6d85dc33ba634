//! The parts of a message, as C describes them.

use super::boundary::{file, guard_callback, sendq_fd_t};
use super::buf::sendq_buf_t;
use super::handle::{sendq_release_fn, sendq_t};
use crate::errno::{Errno, Result};
use crate::iovec::{Extent, Fill, IoVec};
use crate::queue::{Piece, Size};
use crate::release;
use crate::sink::platform::close;
use crate::slot::{NO_FD, Owner, Slot};
use libc::c_int;
use std::ffi::c_void;
use std::ptr::{null, null_mut};

/// The kind of a part: bytes to copy.
pub const SENDQ_PART_COPY: u32 = 0;
/// The kind of a part: memory that stays unchanged until the message is released.
pub const SENDQ_PART_REF: u32 = 1;
/// The kind of a part: bytes of a shared buffer.
pub const SENDQ_PART_BUF: u32 = 2;
/// The kind of a part: bytes of a file that stays open until the message is released.
pub const SENDQ_PART_FILE: u32 = 3;
/// The kind of a part: bytes of a file that sendq closes when it needs them no more.
pub const SENDQ_PART_OWNED_FILE: u32 = 4;
/// The kind of a part: memory with an owner of its own, which is released with data and len.
pub const SENDQ_PART_OWN: u32 = 5;

/// A part of a message: a range of its bytes. Make it with sendq_part_copy, sendq_part_ref, sendq_part_buf,
/// sendq_part_file, sendq_part_owned_file or sendq_part_own. A part that is all zero is an empty one.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct sendq_part_t {
    /// SENDQ_PART_COPY, SENDQ_PART_REF, SENDQ_PART_BUF, SENDQ_PART_FILE, SENDQ_PART_OWNED_FILE or
    /// SENDQ_PART_OWN.
    pub kind: u32,
    /// The file.
    pub fd: sendq_fd_t,
    /// The memory, or the sendq_buf_t.
    pub data: *const c_void,
    /// The offset in the shared buffer or in the file.
    pub offset: u64,
    /// How many bytes.
    pub len: u64,
    /// The owner of a SENDQ_PART_OWN.
    pub release: sendq_release_fn,
    /// The argument of release.
    pub arg: *mut c_void,
}

impl sendq_part_t {
    /// A part that describes `extent`.
    pub(super) fn of(extent: Extent) -> sendq_part_t {
        let none = sendq_part_t {
            kind: SENDQ_PART_REF,
            fd: NO_FD as sendq_fd_t,
            data: null(),
            offset: 0,
            len: extent.len(),
            release: None,
            arg: null_mut(),
        };
        match extent {
            Extent::Memory(iovec) => sendq_part_t { data: iovec.base().cast(), ..none },
            Extent::File(fd, offset, _) => {
                sendq_part_t { kind: SENDQ_PART_FILE, fd: fd as sendq_fd_t, offset, ..none }
            }
        }
    }

    /// Adds `next` to it, if both are memory and contiguous.
    pub(super) fn extend(&mut self, next: &sendq_part_t) -> bool {
        let is_memory = self.kind == SENDQ_PART_REF && next.kind == SENDQ_PART_REF;
        let touches = is_memory && self.data as u64 + self.len == next.data as u64;
        if touches {
            self.len += next.len;
        }
        touches
    }

    /// The address of its first byte, unless it is a file. INVALID: NULL, or a range that is not inside the
    /// shared buffer.
    #[inline(always)]
    fn address(&self) -> Result<*const u8> {
        if self.kind == SENDQ_PART_BUF {
            let len = usize::try_from(self.len).map_err(|_| Errno::INVALID)?;
            return self.shared()?.data(self.offset, len).ok_or(Errno::INVALID);
        }
        let address = self.data.cast::<u8>();
        // A length that no object has is found in the sum of all.
        let wraps = (address as u64).checked_add(self.len).is_none();
        if (address.is_null() || wraps) && self.len > 0 { Err(Errno::INVALID) } else { Ok(address) }
    }

    /// Its memory after its first `skip` bytes. It is checked.
    #[inline(always)]
    fn memory(&self, skip: u64) -> IoVec {
        let address = self.address().unwrap_or(null());
        IoVec::new(address.wrapping_add(skip as usize), (self.len - skip) as usize)
    }

    /// INVALID: NULL.
    fn shared(&self) -> Result<&sendq_buf_t> {
        // SAFETY: NULL or the caller's buffer, which it keeps during the call.
        unsafe { self.data.cast::<sendq_buf_t>().as_ref() }.ok_or(Errno::INVALID)
    }

    fn is_file(&self) -> bool {
        self.kind == SENDQ_PART_FILE || self.kind == SENDQ_PART_OWNED_FILE
    }

    /// INVALID: an unknown kind, memory that cannot be, a range that is not inside the buffer or no file can
    /// have. BADF: no descriptor.
    #[inline(always)]
    fn check(&self) -> Result<()> {
        match self.kind {
            SENDQ_PART_FILE | SENDQ_PART_OWNED_FILE => check_file(self.fd, self.offset, self.len),
            ..=SENDQ_PART_OWN => self.address().map(drop),
            _ => Err(Errno::INVALID),
        }
    }

    /// The slot for all of it, which is checked. It gets a reference of its own to a shared buffer.
    fn slot(&self) -> Slot {
        let owner = Owner { release: self.release, arg: self.arg };
        let memory = if self.is_file() { IoVec::new(null(), 0) } else { self.memory(0) };
        // SAFETY: as the caller promises, the memory stays unchanged until the release.
        unsafe {
            match self.kind {
                SENDQ_PART_BUF => match self.shared() {
                    Ok(shared) => shared.slot(memory),
                    Err(_) => Slot::notification(Owner::NONE),
                },
                SENDQ_PART_OWN => Slot::borrowed(memory.base(), memory.len(), owner),
                SENDQ_PART_FILE => Slot::file(file(self.fd), self.offset, self.len, Owner::NONE),
                SENDQ_PART_OWNED_FILE => {
                    Slot::file(file(self.fd), self.offset, self.len, closes(self.fd))
                }
                _ => Slot::borrowed(memory.base(), memory.len(), Owner::NONE),
            }
        }
    }
}

/// INVALID: no file can have that range. BADF: no descriptor.
pub(super) fn check_file(fd: sendq_fd_t, offset: u64, len: u64) -> Result<()> {
    let end = offset.checked_add(len).filter(|end| *end <= i64::MAX as u64);
    if end.is_none() {
        return Err(Errno::INVALID);
    }
    if file(fd) < 0 { Err(Errno::new(libc::EBADF)) } else { Ok(()) }
}

/// An owner that closes `fd`.
fn closes(fd: sendq_fd_t) -> Owner {
    Owner { release: Some(close_file), arg: fd as usize as *mut c_void }
}

unsafe extern "C-unwind" fn close_file(fd: *mut c_void, _: *const c_void, _: usize, _: c_int) {
    close(file(fd as usize as sendq_fd_t));
}

/// The parts of a message and its owner.
#[derive(Clone, Copy)]
pub(super) struct Parts<'a> {
    parts: &'a [sendq_part_t],
    owner: Owner,
    copy_below: u64,
    /// The same for parts of shared buffers.
    share_below: u64,
    /// The call comes from a release callback: owners are released after it, so that the stack does not grow.
    defers: bool,
    /// How many of the first bytes are sent already.
    sent: u64,
}

/// How a message is appended.
#[derive(Clone, Copy, Default)]
pub(super) struct Plan {
    pub(super) size: Size,
    /// All bytes of the message, those that are sent already included.
    total: u64,
    /// The part behind which the slot of the message's owner comes, counted from 1; 0: before all; None: it
    /// needs none.
    owner_after: Option<usize>,
    /// Some part has an owner of its own.
    has_owners: bool,
}

impl<'a> Parts<'a> {
    /// The caller's array of `count` parts.
    ///
    /// INVALID: `q` is NULL, `count` is negative, or `parts` is NULL and not empty.
    ///
    /// # Safety
    /// `parts` is NULL or an array of that many, which stays unchanged during the call, and so does what it
    /// describes. `q` is NULL or alive.
    pub(super) unsafe fn new(
        q: *const sendq_t,
        parts: *const sendq_part_t,
        count: c_int,
        owner: Owner,
    ) -> Result<Parts<'a>> {
        // SAFETY: as the caller says.
        let q = unsafe { q.as_ref() }.ok_or(Errno::INVALID)?;
        let count = usize::try_from(count).map_err(|_| Errno::INVALID)?;
        let parts = match count {
            0 => &[],
            _ if parts.is_null() => return Err(Errno::INVALID),
            // SAFETY: as the caller says.
            _ => unsafe { std::slice::from_raw_parts(parts, count) },
        };
        let defers = release::is_releasing(q);
        // In a release callback no owner is released at once, so that all of its memory is borrowed.
        let (copy_below, share_below) = q.inspect(|queue, _| {
            (u64::from(queue.policy().copy_below()), queue.policy().share_below())
        });
        let copy_below = if defers { 1 } else { copy_below };
        Ok(Parts { parts, owner, copy_below, share_below, defers, sent: 0 })
    }

    /// The same after the first `sent` bytes were sent.
    pub(super) fn after(self, sent: u64) -> Parts<'a> {
        Parts { sent, ..self }
    }

    /// Each part, and how many of its first bytes are sent already.
    fn each(self) -> impl Iterator<Item = (&'a sendq_part_t, u64)> {
        let mut sent = self.sent;
        self.parts.iter().map(move |part| {
            let skip = sent.min(part.len);
            sent -= skip;
            (part, skip)
        })
    }

    /// Whether `part` becomes a slot, after its first `skip` bytes were sent.
    fn is_slot(&self, part: &sendq_part_t, skip: u64) -> bool {
        let left = part.len - skip;
        match part.kind {
            SENDQ_PART_COPY => false,
            SENDQ_PART_REF => left >= self.copy_below && left > 0,
            SENDQ_PART_BUF => left >= self.share_below && left > 0,
            SENDQ_PART_OWN if left == 0 => self.defers && part.release.is_some(),
            SENDQ_PART_OWN => left >= self.copy_below,
            _ => left > 0,
        }
    }

    /// Checks the parts, and sums them up.
    ///
    /// INVALID: a part that cannot be, or more bytes than can be counted. BADF: a file without a descriptor.
    pub(super) fn plan(&self) -> Result<Plan> {
        let mut plan = Plan::default();
        for (i, (part, skip)) in self.each().enumerate() {
            part.check()?;
            plan.total = plan.total.saturating_add(part.len);
            plan.has_owners |= part.kind >= SENDQ_PART_OWNED_FILE;
            let left = part.len - skip;
            if !self.is_slot(part, skip) {
                plan.size.copied = plan.size.copied.saturating_add(left as usize);
                continue;
            }
            plan.owner_after = Some(i + 1);
            plan.size.slots += 1;
            match part.kind {
                SENDQ_PART_FILE | SENDQ_PART_OWNED_FILE => {
                    plan.size.file = plan.size.file.saturating_add(left);
                }
                SENDQ_PART_BUF => {}
                _ => plan.size.pinned = plan.size.pinned.saturating_add(left as usize),
            }
        }
        plan.size.bytes = plan.total - self.sent;
        if plan.total > i64::MAX as u64 {
            return Err(Errno::INVALID);
        }
        if self.owner.release.is_none() {
            plan.owner_after = None;
        } else if plan.owner_after.is_none() && self.defers {
            plan.owner_after = Some(0);
        }
        plan.size.slots += u32::from(plan.owner_after.is_some());
        Ok(plan)
    }

    /// Whether all of it is memory to copy, at least one byte and at most `room`.
    #[inline(always)]
    pub(super) fn fits(&self, room: usize) -> bool {
        let mut total = 0_u64;
        for part in self.parts {
            let is_short = match part.kind {
                SENDQ_PART_COPY => true,
                SENDQ_PART_REF | SENDQ_PART_OWN => part.len < self.copy_below,
                SENDQ_PART_BUF => part.len < self.share_below && part.address().is_ok(),
                _ => false,
            };
            if !is_short || part.data.is_null() {
                return false;
            }
            total = total.saturating_add(part.len);
        }
        total.wrapping_sub(1) < room as u64 && !self.defers
    }

    /// The bytes of its parts, all of which are memory.
    ///
    /// # Safety
    /// They are the caller's, and stay unchanged during the call.
    #[inline(always)]
    pub(super) unsafe fn slices(&self) -> impl Iterator<Item = &'a [u8]> {
        // SAFETY: as the caller says.
        self.parts.iter().map(|part| unsafe { part.memory(0).bytes() })
    }

    /// Releases all owners: everything was copied. Nothing is locked.
    #[inline(always)]
    pub(super) fn release_all(&self) {
        if self.parts.iter().any(|part| part.kind >= SENDQ_PART_OWNED_FILE) {
            self.release_parts();
        }
        release_at_once(self.owner, null(), 0);
    }

    /// Whether it may be sent from where it is.
    pub(super) fn may_pass(&self, plan: &Plan) -> bool {
        !self.defers && self.sent == 0 && plan.size.file == 0
    }

    /// The plan for what is left of a message, which was planned before any of it was sent.
    pub(super) fn plan_rest(&self, all: Plan) -> Result<Plan> {
        match self.sent {
            0 => Ok(all),
            // Nothing is left of it.
            sent if sent == all.total => {
                Ok(Plan { total: sent, has_owners: all.has_owners, ..Plan::default() })
            }
            _ => self.plan(),
        }
    }

    /// What to append, as planned. Shared buffers get a reference for each slot.
    pub(super) fn pieces(
        self,
        plan: &Plan,
    ) -> Pieces<'a, impl Iterator<Item = (&'a sendq_part_t, u64)>> {
        Pieces { parts: self, plan: *plan, each: self.each(), seen: 0, before: 0 }
    }

    /// Adds the memory of all parts to `fill`. Returns whether all of it fits, budget aside.
    pub(super) fn fill(&self, fill: &mut Fill) -> bool {
        for part in self.parts {
            let memory = part.memory(0);
            if memory.len() > 0 && !fill.add(Extent::Memory(memory)) {
                return fill.is_spent();
            }
        }
        true
    }

    /// Releases the owners of the parts that became no slots.
    #[cold]
    fn release_parts(&self) {
        for (part, _) in self.each().filter(|(part, skip)| !self.is_slot(part, *skip)) {
            match part.kind {
                SENDQ_PART_OWN => {
                    let owner = Owner { release: part.release, arg: part.arg };
                    release_at_once(owner, part.data, part.len);
                }
                SENDQ_PART_OWNED_FILE => release_at_once(closes(part.fd), null(), 0),
                _ => {}
            }
        }
    }

    /// Releases the owners that nothing is kept for. Nothing is locked.
    #[inline(always)]
    pub(super) fn release_now(&self, plan: &Plan) {
        if plan.has_owners {
            self.release_parts();
        }
        if plan.owner_after.is_none() {
            release_at_once(self.owner, null(), self.sent);
        }
    }
}

/// Releases `owner`, whose bytes are sent or copied.
pub(super) fn release_at_once(owner: Owner, data: *const c_void, len: u64) {
    if owner.release.is_some() {
        // SAFETY: as the host promises; nothing is locked.
        guard_callback(|| unsafe { owner.release(data, len as usize, 0) });
    }
}

/// The pieces of a message.
pub(super) struct Pieces<'a, I> {
    parts: Parts<'a>,
    plan: Plan,
    each: I,
    /// How many parts have been taken, and how many bytes of the message precede the next one.
    seen: usize,
    before: u64,
}

impl<'a, I: Iterator<Item = (&'a sendq_part_t, u64)>> Iterator for Pieces<'a, I> {
    type Item = Piece<'a>;

    #[inline(always)]
    fn next(&mut self) -> Option<Piece<'a>> {
        loop {
            if self.plan.owner_after == Some(self.seen) {
                self.plan.owner_after = None;
                let after = self.plan.total - self.before;
                return Some(Piece::Slot(Slot::message(self.parts.owner, self.before, after)));
            }
            let (part, skip) = self.each.next()?;
            self.seen += 1;
            self.before += part.len;
            if self.parts.is_slot(part, skip) {
                return Some(Piece::Slot(part.slot().without_first(skip as u32)));
            }
            if part.len > skip {
                // SAFETY: the caller's memory, which stays unchanged during the call; plan() has checked it.
                return Some(Piece::Copied(unsafe { part.memory(skip).bytes() }));
            }
        }
    }
}
