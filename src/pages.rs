//! The memory of blocks. It comes from the system rather than from malloc, whose heap shrinks only from its
//! end, so that the memory of freed blocks would stay with the process.
//!
//! ```text
//!   slab   | header | page | page | ...  256 pages, aligned to their own size
//! ```
//!
//! Blocks of one page, the usual size, are cut from slabs. Slabs belong to the process, so that a block can
//! be spliced from pool to pool. Larger blocks are mapped one by one, smaller ones come from malloc.
//!
//! An append that finds a cached block in its pool does not come here.

#![allow(unsafe_code)]

use parking_lot::Mutex;
use std::alloc::{Layout, alloc, dealloc};
use std::ptr::{self, NonNull};
use std::sync::Once;

/// The page size that slabs use. Where the kernel's pages are larger, only whole slabs return to the system:
/// madvise(2) for a part of a kernel page would be rounded up, and discard memory in use.
pub const PAGE: usize = 4096;

/// Allocates a block of `bytes`, aligned for whatever a block holds.
pub fn take(bytes: usize) -> Option<NonNull<u8>> {
    if !cfg!(unix) || !is_mapped(bytes) {
        let layout = layout(bytes)?;
        // SAFETY: no block is of size zero.
        return NonNull::new(unsafe { alloc(layout) });
    }
    if bytes == PAGE { take_page() } else { map(bytes.next_multiple_of(PAGE)) }
}

/// Frees a block.
///
/// # Safety
/// `block` came from [`take`] with the same `bytes`, and nobody refers to it any more.
pub unsafe fn give(block: NonNull<u8>, bytes: usize) {
    // SAFETY: as the caller says.
    unsafe {
        if !cfg!(unix) || !is_mapped(bytes) {
            dealloc(block.as_ptr(), layout(bytes).expect("it was taken with this layout"));
        } else if bytes == PAGE {
            give_page(block);
        } else {
            unmap(block, bytes.next_multiple_of(PAGE));
        }
    }
}

fn is_mapped(bytes: usize) -> bool {
    bytes >= PAGE
}

fn layout(bytes: usize) -> Option<Layout> {
    Layout::from_size_align(bytes, align_of::<u64>()).ok()
}

/// Pages of a slab, including the one of its header.
const PAGES: usize = 256;
const SLAB: usize = PAGES * PAGE;
/// How many freed pages a slab collects before it returns them to the system together.
const BATCH: u32 = 16;

/// The header of a slab, in its first page. A page that is in neither set is in use.
struct Slab {
    next: Option<NonNull<Slab>>,
    prev: Option<NonNull<Slab>>,
    /// Free pages that may have memory behind them.
    dirty: PageSet,
    /// Free pages that have none.
    clean: PageSet,
    /// Pages in use, and pages that are being returned to the system.
    used: u32,
}

/// A set of the pages of one slab.
#[derive(Clone, Copy)]
struct PageSet([u64; PAGES / 64]);

impl PageSet {
    const NONE: PageSet = PageSet([0; PAGES / 64]);

    fn add(&mut self, page: usize) {
        self.0[page / 64] |= 1 << (page % 64);
    }

    fn take_lowest(&mut self) -> Option<usize> {
        let word = self.0.iter().position(|word| *word != 0)?;
        let bit = self.0[word].trailing_zeros() as usize;
        self.0[word] &= self.0[word] - 1;
        Some(word * 64 + bit)
    }

    fn contains(&self, page: usize) -> bool {
        self.0[page / 64] >> (page % 64) & 1 == 1
    }

    fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    fn join(&mut self, other: PageSet) {
        for (word, more) in self.0.iter_mut().zip(other.0) {
            *word |= more;
        }
    }
}

/// The slabs that have a free page. Pages are cut from the first.
struct Slabs {
    first: Option<NonNull<Slab>>,
    /// The kernel's pages are not larger than PAGE.
    purges: bool,
}

// SAFETY: slabs belong to nobody but this list, and are only touched under its lock.
unsafe impl Send for Slabs {}

static SLABS: Mutex<Slabs> = Mutex::new(Slabs { first: None, purges: false });

/// Runs before the first slab is mapped.
static START: Once = Once::new();

fn start() {
    SLABS.lock().purges = kernel_page() <= PAGE;
    lock_across_fork();
}

#[cfg(unix)]
fn kernel_page() -> usize {
    // SAFETY: asks for a number.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(usize::MAX)
}

/// The child of a fork inherits the lock, but not the thread that may hold it. So the lock is taken during a
/// fork, as malloc does with its own (pthread_atfork(3)).
#[cfg(unix)]
fn lock_across_fork() {
    extern "C" fn lock() {
        std::mem::forget(SLABS.lock());
    }
    extern "C" fn unlock() {
        // SAFETY: this thread locked it before the fork, and leaked the guard.
        unsafe { SLABS.force_unlock() };
    }
    // SAFETY: the functions exist as long as this library. If registering fails for lack of memory, a child
    // may find the lock taken.
    unsafe { libc::pthread_atfork(Some(lock), Some(unlock), Some(unlock)) };
}

#[cfg(not(unix))]
fn kernel_page() -> usize {
    PAGE
}

#[cfg(not(unix))]
fn lock_across_fork() {}

impl Slabs {
    /// Inserts `slab` as the second: only the first one keeps dirty pages for the next allocation.
    fn add(&mut self, mut slab: NonNull<Slab>) {
        // SAFETY: slabs in the list, and this one, are alive and only touched under the lock.
        unsafe {
            let next = match self.first {
                Some(mut first) => first.as_mut().next.replace(slab),
                None => self.first.replace(slab),
            };
            (slab.as_mut().prev, slab.as_mut().next) = (self.first.filter(|it| *it != slab), next);
            if let Some(mut next) = next {
                next.as_mut().prev = Some(slab);
            }
        }
    }

    fn remove(&mut self, slab: NonNull<Slab>) {
        // SAFETY: as for add().
        unsafe {
            let Slab { prev, next, .. } = *slab.as_ref();
            match prev {
                Some(mut prev) => prev.as_mut().next = next,
                None => self.first = next,
            }
            if let Some(mut next) = next {
                next.as_mut().prev = prev;
            }
        }
    }

    /// Takes a free page of the first slab, preferably a dirty one.
    fn take(&mut self) -> Option<NonNull<u8>> {
        let mut slab = self.first?;
        // SAFETY: as for add().
        let header = unsafe { slab.as_mut() };
        let page = header.dirty.take_lowest().or_else(|| header.clean.take_lowest());
        let page = page.expect("a slab in the list has a page to give");
        header.used += 1;
        if header.used as usize == PAGES - 1 {
            self.remove(slab);
        }
        // SAFETY: a page of this slab.
        Some(unsafe { slab.cast::<u8>().add(page * PAGE) })
    }

    /// Moves `pages` of `slab` from "in use" to the set that `free` picks.
    fn put(
        &mut self,
        mut slab: NonNull<Slab>,
        pages: PageSet,
        free: fn(&mut Slab) -> &mut PageSet,
    ) {
        // SAFETY: as for add().
        let header = unsafe { slab.as_mut() };
        let was_full = header.used as usize == PAGES - 1;
        header.used -= pages.count();
        free(header).join(pages);
        if was_full {
            self.add(slab);
        }
    }

    /// Removes `slab` from the list if it is empty and not the first.
    fn retire(&mut self, slab: NonNull<Slab>) -> bool {
        // SAFETY: as for add().
        let over = unsafe { slab.as_ref() }.used == 0 && self.first != Some(slab);
        if over {
            self.remove(slab);
        }
        over
    }

    /// Takes the dirty pages of `slab`, if there are enough for a system call: a whole batch, or more than
    /// half as many as are in use. They count as used until they are clean.
    fn purge(&mut self, mut slab: NonNull<Slab>) -> Option<PageSet> {
        if !self.purges {
            return None;
        }
        let is_first = self.first == Some(slab);
        // SAFETY: as for add().
        let header = unsafe { slab.as_mut() };
        let dirty = header.dirty.count();
        if dirty < BATCH && (is_first || 2 * dirty <= header.used) {
            return None;
        }
        header.used += dirty;
        let purged = std::mem::replace(&mut header.dirty, PageSet::NONE);
        if header.used as usize == PAGES - 1 {
            self.remove(slab);
        }
        Some(purged)
    }
}

fn take_page() -> Option<NonNull<u8>> {
    // A statement of its own, so that the lock is not held while the system maps memory.
    let page = SLABS.lock().take();
    page.or_else(|| {
        START.call_once(start);
        let slab = map_slab()?;
        let mut slabs = SLABS.lock();
        slabs.add(slab);
        slabs.take()
    })
}

/// # Safety
/// `page` came from [`take_page`], and nobody refers to it any more.
unsafe fn give_page(page: NonNull<u8>) {
    let offset = page.as_ptr() as usize % SLAB;
    // SAFETY: slabs are aligned to their size, and the page is inside one.
    let slab = unsafe { page.sub(offset) }.cast::<Slab>();
    let mut freed = PageSet::NONE;
    freed.add(offset / PAGE);
    let mut slabs = SLABS.lock();
    slabs.put(slab, freed, |slab| &mut slab.dirty);
    if !slabs.retire(slab) {
        let Some(purged) = slabs.purge(slab) else { return };
        drop(slabs);
        // SAFETY: pages of this slab, which count as used, and which nobody else has.
        unsafe { clean(slab.cast(), purged) };
        slabs = SLABS.lock();
        slabs.put(slab, purged, |slab| &mut slab.clean);
        if !slabs.retire(slab) {
            return;
        }
    }
    drop(slabs);
    // SAFETY: nobody has a page of it, and it is in no list.
    unsafe { unmap(slab.cast(), SLAB) };
}

/// Returns the memory behind `pages` to the system. The addresses stay reserved.
///
/// # Safety
/// They are pages of the slab at `base`, and nobody refers to them.
unsafe fn clean(base: NonNull<u8>, pages: PageSet) {
    let mut page = 0;
    while page < PAGES {
        let start = page;
        while page < PAGES && pages.contains(page) {
            page += 1;
        }
        if page > start {
            // SAFETY: as the caller says. If it fails, the memory stays with the process.
            unsafe { discard(base.add(start * PAGE), (page - start) * PAGE) };
        }
        page += 1;
    }
}

/// Maps a slab, all pages of which are free and clean.
fn map_slab() -> Option<NonNull<Slab>> {
    let slab = map_aligned()?.cast::<Slab>();
    let mut clean = PageSet::NONE;
    (1..PAGES).for_each(|page| clean.add(page));
    let header = Slab { next: None, prev: None, dirty: PageSet::NONE, clean, used: 0 };
    // SAFETY: the mapping is ours, aligned and large enough.
    unsafe { slab.write(header) };
    Some(slab)
}

fn map_aligned() -> Option<NonNull<u8>> {
    let first = map(SLAB)?;
    if (first.as_ptr() as usize).is_multiple_of(SLAB) {
        return Some(first);
    }
    // Rare: the kernel places the next mapping beside the last.
    // SAFETY: mapped just now; of the second mapping only what surrounds the slab is unmapped.
    unsafe {
        unmap(first, SLAB);
        let wide = map(2 * SLAB)?;
        let before = (wide.as_ptr() as usize).next_multiple_of(SLAB) - wide.as_ptr() as usize;
        let slab = wide.add(before);
        if before > 0 {
            unmap(wide, before);
        }
        unmap(slab.add(SLAB), SLAB - before);
        Some(slab)
    }
}

#[cfg(unix)]
fn map(bytes: usize) -> Option<NonNull<u8>> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANON;
    // SAFETY: a new mapping; no memory of anybody's is touched.
    let at = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, -1, 0) };
    if at == libc::MAP_FAILED {
        return None;
    }
    // A huge page behind one block would be memory that no statistic counts.
    // SAFETY: mapped just now. A kernel without huge pages returns an error, which does not matter.
    #[cfg(target_os = "linux")]
    unsafe {
        libc::madvise(at, bytes, libc::MADV_NOHUGEPAGE)
    };
    NonNull::new(at.cast())
}

/// # Safety
/// `bytes` at `at` were mapped here, and nobody refers to them.
#[cfg(unix)]
unsafe fn unmap(at: NonNull<u8>, bytes: usize) {
    // SAFETY: as the caller says.
    unsafe {
        // munmap(2) fails with ENOMEM if a hole would exceed the number of mappings. Then at least the memory
        // is returned, if not the addresses.
        if libc::munmap(at.as_ptr().cast(), bytes) != 0 {
            discard(at, bytes);
        }
    }
}

/// # Safety
/// As for [`unmap`].
#[cfg(unix)]
unsafe fn discard(at: NonNull<u8>, bytes: usize) {
    // SAFETY: as the caller says.
    unsafe { libc::madvise(at.as_ptr().cast(), bytes, libc::MADV_DONTNEED) };
}

#[cfg(not(unix))]
fn map(_: usize) -> Option<NonNull<u8>> {
    unreachable!("take() asks malloc")
}

#[cfg(not(unix))]
unsafe fn unmap(_: NonNull<u8>, _: usize) {}

#[cfg(not(unix))]
unsafe fn discard(_: NonNull<u8>, _: usize) {}
