//! The memory of a run: no byte of it is lent twice, and what it should contain is known.

use std::cell::Cell;
use std::ptr::null_mut;
use std::sync::OnceLock;

const BYTES: usize = 1 << 17;

/// A part of it, by its offset.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    pub at: usize,
    pub len: usize,
}

impl Range {
    pub fn overlaps(&self, other: &Range) -> bool {
        self.at < other.at + other.len && other.at < self.at + self.len
    }
}

thread_local! {
    static MEMORY: Cell<*mut u8> = const { Cell::new(null_mut()) };
    static USED: Cell<usize> = const { Cell::new(0) };
}

/// What it contains until it is released.
pub fn original() -> &'static [u8] {
    static ORIGINAL: OnceLock<Vec<u8>> = OnceLock::new();
    ORIGINAL.get_or_init(|| {
        let mut x = 1_u32;
        let mut next = || {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (x >> 24) as u8
        };
        (0..BYTES).map(|_| next()).collect()
    })
}

fn base() -> *mut u8 {
    if MEMORY.get().is_null() {
        MEMORY.set(Box::leak(original().to_vec().into_boxed_slice()).as_mut_ptr());
    }
    MEMORY.get()
}

/// All of it is as it was, and none is used.
pub fn renew() {
    // SAFETY: nobody else writes to it, and it is at least as long.
    unsafe { base().copy_from_nonoverlapping(original().as_ptr(), USED.get()) };
    USED.set(0);
}

/// The next `len` bytes. None: all are used.
pub fn take(len: usize) -> Option<Range> {
    let range = Range { at: USED.get(), len };
    // Ranges do not touch, so that they can be told apart.
    let used = Some(range.at + len + 1).filter(|used| *used <= BYTES)?;
    USED.set(used);
    Some(range)
}

pub fn pointer(range: Range) -> *const u8 {
    base().wrapping_add(range.at)
}

/// The range at an address, if it is one here.
pub fn range(pointer: *const u8, len: usize) -> Option<Range> {
    let at = (pointer as usize).checked_sub(base() as usize)?;
    (at + len <= BYTES).then_some(Range { at, len })
}

pub fn is_intact(range: Range) -> bool {
    // SAFETY: inside, and nobody writes to it meanwhile.
    let bytes = unsafe { std::slice::from_raw_parts(pointer(range), range.len) };
    bytes == &original()[range.at..range.at + range.len]
}

/// Its owner uses it for something else.
pub fn scribble(range: Range) {
    for i in range.at..range.at + range.len {
        // SAFETY: inside.
        unsafe { *base().add(i) = !original()[i] };
    }
}
