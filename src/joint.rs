//! The one owner of the two parts of a divided slot, or of the parts of a divided message. It is released when all are
//! completed.

#![allow(unsafe_code)]

use crate::errno::Result;
use crate::slot::{Owner, Slot};
use crate::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};
use crate::try_box::try_box;
use libc::{c_int, c_void};

/// The slot as it was before it was divided. Its parts may be in queues of different threads.
pub struct Joint {
    slot: Slot,
    /// How many parts are not completed.
    parts: AtomicU32,
    /// The last reason of a part that was not 0.
    reason: AtomicI32,
    /// If it is that of a message's owner: how many bytes of the message were sent, once it is completed.
    sent: AtomicU64,
}

impl Joint {
    /// The owner of `parts` parts of `slot`. NO_MEMORY.
    pub fn new(slot: Slot, parts: u32) -> Result<Box<Joint>> {
        let (parts, reason, sent) = (AtomicU32::new(parts), AtomicI32::new(0), AtomicU64::new(0));
        try_box(Joint { slot, parts, reason, sent })
    }

    /// As all parts have it.
    pub fn into_owner(self: Box<Joint>) -> Owner {
        Owner { release: Some(release_part), arg: Box::into_raw(self).cast() }
    }

    /// For the slot of a message's owner, and for other slots of that message.
    pub fn into_owners_of_message(self: Box<Joint>) -> (Owner, Owner) {
        let part = self.into_owner();
        (Owner { release: Some(release_whole), ..part }, part)
    }
}

/// The release callback of the slot of a message's owner. `sent` bytes of the message were sent.
unsafe extern "C-unwind" fn release_whole(
    arg: *mut c_void,
    data: *const c_void,
    sent: usize,
    reason: c_int,
) {
    // SAFETY: as for release_part(): this part has not called that yet.
    unsafe {
        (*arg.cast::<Joint>()).sent.store(sent as u64, Ordering::Relaxed);
        release_part(arg, data, sent, reason);
    }
}

/// The release callback of a part.
unsafe extern "C-unwind" fn release_part(
    arg: *mut c_void,
    _: *const c_void,
    _: usize,
    reason: c_int,
) {
    let joint = arg.cast::<Joint>();
    // SAFETY: made by into_owner(), and alive until all parts have called this. Acquire and release, so that
    // the last one sees the reasons of the others.
    let joint = unsafe {
        if reason != 0 {
            (*joint).reason.store(reason, Ordering::Relaxed);
        }
        if (*joint).parts.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        Box::from_raw(joint)
    };
    let mut slot = match joint.slot.message_before() {
        Some(_) => joint.slot.with_sent(joint.sent.load(Ordering::Relaxed)),
        None => joint.slot,
    };
    slot.reason = joint.reason.load(Ordering::Relaxed);
    drop(joint);
    slot.release();
}
