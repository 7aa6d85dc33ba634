//! Where the memory of blocks comes from: the system, or an allocator of the host.

#![allow(unsafe_code)]

use crate::errno::Result;
use crate::pages;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::try_box::try_box;
use libc::c_void;
use std::mem::align_of;
use std::ptr::NonNull;

/// The host's function that allocates.
pub type Alloc = unsafe extern "C-unwind" fn(*mut c_void, usize) -> *mut c_void;
/// The host's function that frees.
pub type Dealloc = unsafe extern "C-unwind" fn(*mut c_void, *mut c_void, usize);

/// What the memory of a block has to be aligned to.
pub const ALIGNMENT: usize = align_of::<u64>();

/// The functions of the host.
struct Host {
    alloc: Alloc,
    dealloc: Dealloc,
    arg: *mut c_void,
    /// References: of pools and of blocks.
    refs: AtomicUsize,
}

/// A reference to an allocator. A block may outlive its pool, and so has one of its own.
pub struct Allocator(Option<NonNull<Host>>);

// SAFETY: the functions of a host do not change, and the count is atomic. The host promises that they may run
// on the threads that use the pool.
unsafe impl Send for Allocator {}
// SAFETY: as above.
unsafe impl Sync for Allocator {}

impl Allocator {
    /// The system.
    pub const SYSTEM: Allocator = Allocator(None);

    /// The host's functions. NO_MEMORY.
    pub fn host(alloc: Alloc, dealloc: Dealloc, arg: *mut c_void) -> Result<Allocator> {
        let host = try_box(Host { alloc, dealloc, arg, refs: AtomicUsize::new(1) })?;
        Ok(Allocator(NonNull::new(Box::into_raw(host))))
    }

    /// It is the system.
    pub fn is_system(&self) -> bool {
        self.0.is_none()
    }

    fn host_ref(&self) -> Option<&Host> {
        // SAFETY: alive, by the reference that this is.
        self.0.as_ref().map(|host| unsafe { host.as_ref() })
    }

    /// Allocates `bytes`, aligned for whatever a block holds.
    pub fn take(&self, bytes: usize) -> Option<NonNull<u8>> {
        let Some(host) = self.host_ref() else { return pages::take(bytes) };
        // SAFETY: the host's own function with its own argument, as it asked for.
        let memory = NonNull::new(unsafe { (host.alloc)(host.arg, bytes) })?;
        if !(memory.as_ptr() as usize).is_multiple_of(ALIGNMENT) {
            // SAFETY: allocated just now.
            unsafe { (host.dealloc)(host.arg, memory.as_ptr(), bytes) };
            return None;
        }
        Some(memory.cast())
    }

    /// Frees what [`Allocator::take`] allocated.
    ///
    /// # Safety
    /// `memory` came from this allocator with the same `bytes`, and nobody refers to it any more.
    pub unsafe fn give(&self, memory: NonNull<u8>, bytes: usize) {
        // SAFETY: as the caller says.
        unsafe {
            match self.host_ref() {
                None => pages::give(memory, bytes),
                Some(host) => (host.dealloc)(host.arg, memory.as_ptr().cast(), bytes),
            }
        }
    }
}

impl PartialEq for Allocator {
    fn eq(&self, other: &Allocator) -> bool {
        self.0 == other.0
    }
}

impl Clone for Allocator {
    fn clone(&self) -> Allocator {
        if let Some(host) = self.host_ref() {
            // Relaxed: this is a reference, which is enough to make another (as in Arc).
            host.refs.fetch_add(1, Ordering::Relaxed);
        }
        Allocator(self.0)
    }
}

impl Drop for Allocator {
    fn drop(&mut self) {
        let Some(host) = self.0 else { return };
        // SAFETY: alive, by the reference that is given up here. Release and acquire, so that the last one sees
        // what the others did.
        if unsafe { host.as_ref() }.refs.fetch_sub(1, Ordering::AcqRel) == 1 {
            // SAFETY: the last reference is gone, and it came from the Box of host().
            drop(unsafe { Box::from_raw(host.as_ptr()) });
        }
    }
}
