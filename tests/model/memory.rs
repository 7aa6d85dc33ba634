//! Memory that runs out: one of the allocations that sendq makes can be chosen to fail. Those of the test never do.

use libc::c_void;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr::null_mut;

#[global_allocator]
static ALLOCATOR: Failing = Failing;

struct Failing;

thread_local! {
    /// A function of sendq is running, and not a callback of the test.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    /// How many allocations are left until one fails; 0: none does.
    static LEFT: Cell<u32> = const { Cell::new(0) };
    static FAILED: Cell<bool> = const { Cell::new(false) };
}

/// From now on: the allocation of sendq with this number fails, counted from 1; 0: none.
pub fn fail(number: u32) {
    LEFT.set(number);
    FAILED.set(false);
}

/// The chosen allocation was made, and failed.
pub fn has_failed() -> bool {
    FAILED.get()
}

/// Calls a function of sendq.
pub fn inside<R>(call: impl FnOnce() -> R) -> R {
    within(true, call)
}

/// What a callback of the test does.
pub fn outside<R>(call: impl FnOnce() -> R) -> R {
    within(false, call)
}

fn within<R>(inside: bool, call: impl FnOnce() -> R) -> R {
    let before = INSIDE.replace(inside);
    let result = call();
    INSIDE.set(before);
    result
}

fn fails() -> bool {
    let left = LEFT.get();
    if left == 0 || !INSIDE.get() {
        return false;
    }
    LEFT.set(left - 1);
    FAILED.set(left == 1);
    left == 1
}

// SAFETY: the system's allocator, or no memory at all.
unsafe impl GlobalAlloc for Failing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller says.
        if fails() { null_mut() } else { unsafe { System.alloc(layout) } }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller says.
        unsafe { System.dealloc(memory, layout) };
    }
}

/// What a host's allocator aligns to.
fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 16).expect("no block is that large")
}

/// A pool's alloc: each block is an allocation of its own, which can fail, and which a sanitizer watches.
pub unsafe extern "C-unwind" fn alloc(_: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: a block is never empty.
    unsafe { ALLOCATOR.alloc(layout(size)) }.cast()
}

/// A pool's dealloc.
pub unsafe extern "C-unwind" fn dealloc(_: *mut c_void, block: *mut c_void, size: usize) {
    // SAFETY: what alloc() returned for this size.
    unsafe { ALLOCATOR.dealloc(block.cast(), layout(size)) };
}
