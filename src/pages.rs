//! The memory of blocks. It comes from the system rather than from malloc, whose heap shrinks only from its
//! end, so that the memory of freed blocks would stay with the process.
//!
//! ```text
//!   slab   | header | piece | piece | ...  256 pieces, aligned to their size together
//! ```
//!
//! Blocks of the usual sizes, a page and a quarter and a sixteenth of one, are pieces of slabs. Slabs belong to
//! the process, so that a block can be spliced from pool to pool. Larger blocks are mapped one by one, those of
//! other sizes below a page come from malloc.
//!
//! An append that finds a cached block in its pool does not come here.

#![allow(unsafe_code)]

use parking_lot::Mutex;
use std::alloc::{Layout, alloc, dealloc};
use std::ptr::NonNull;
use std::sync::Once;

/// The page size that slabs use. Where the kernel's pages are larger, only whole slabs return to the system:
/// madvise(2) for a part of a kernel page would be rounded up, and discard memory in use.
pub const PAGE: usize = 4096;

/// Allocates a block of `bytes`, aligned for whatever a block holds.
pub fn take(bytes: usize) -> Option<NonNull<u8>> {
    match home(bytes) {
        Home::Malloc => {
            let layout = layout(bytes)?;
            // SAFETY: no block is of size zero.
            NonNull::new(unsafe { alloc(layout) })
        }
        Home::Slab(slabs) => take_piece(slabs),
        Home::Mapping => map(bytes.next_multiple_of(PAGE)),
    }
}

/// Frees a block.
///
/// # Safety
/// `block` came from [`take`] with the same `bytes`, and nobody refers to it any more.
pub unsafe fn give(block: NonNull<u8>, bytes: usize) {
    // SAFETY: as the caller says.
    unsafe {
        match home(bytes) {
            Home::Malloc => {
                dealloc(block.as_ptr(), layout(bytes).expect("it was taken with this layout"));
            }
            Home::Slab(slabs) => give_piece(slabs, block),
            Home::Mapping => unmap(block, bytes.next_multiple_of(PAGE)),
        }
    }
}

/// Where blocks of one size come from.
enum Home {
    Malloc,
    Slab(&'static Mutex<Slabs>),
    Mapping,
}

fn home(bytes: usize) -> Home {
    if !cfg!(unix) {
        return Home::Malloc;
    }
    match SIZES.iter().position(|size| *size == bytes) {
        Some(i) => Home::Slab(&SLABS[i]),
        None if bytes < PAGE => Home::Malloc,
        None => Home::Mapping,
    }
}

fn layout(bytes: usize) -> Option<Layout> {
    Layout::from_size_align(bytes, align_of::<u64>()).ok()
}

/// The sizes of pieces. A page is a multiple of each.
const SIZES: [usize; 3] = [PAGE / 16, PAGE / 4, PAGE];
/// Pieces of a slab, including the one of its header.
const PIECES: usize = 256;
/// How many freed pages a slab collects before it returns them to the system together.
const BATCH: usize = 16;

/// The header of a slab, in its first piece. A piece that is in neither set is in use.
struct Slab {
    next: Option<NonNull<Slab>>,
    prev: Option<NonNull<Slab>>,
    /// Free pieces that may have memory behind them.
    dirty: PieceSet,
    /// Free pieces that have none.
    clean: PieceSet,
    /// Pieces in use, and pieces that are being returned to the system.
    used: u32,
}

const _: () = assert!(size_of::<Slab>() <= SIZES[0]);

/// A set of the pieces of one slab.
#[derive(Clone, Copy)]
struct PieceSet([u64; PIECES / 64]);

impl PieceSet {
    const NONE: PieceSet = PieceSet([0; PIECES / 64]);

    fn add(&mut self, piece: usize) {
        self.0[piece / 64] |= 1 << (piece % 64);
    }

    fn take_lowest(&mut self) -> Option<usize> {
        let word = self.0.iter().position(|word| *word != 0)?;
        let bit = self.0[word].trailing_zeros() as usize;
        self.0[word] &= self.0[word] - 1;
        Some(word * 64 + bit)
    }

    fn contains(&self, piece: usize) -> bool {
        self.0[piece / 64] >> (piece % 64) & 1 == 1
    }

    /// Takes out the groups of `size` pieces that are all in the set: 1, 4 or 16, aligned to their number.
    fn take_groups(&mut self, size: usize) -> PieceSet {
        let group = u64::MAX >> (64 - size);
        let starts = u64::MAX / group;
        let mut taken = PieceSet::NONE;
        for (word, taken) in self.0.iter_mut().zip(&mut taken.0) {
            // Bit i becomes the conjunction of the `size` bits from i.
            let (mut all, mut width) = (*word, 1);
            while width < size {
                all &= all >> width;
                width *= 2;
            }
            *taken = (all & starts) * group;
            *word &= !*taken;
        }
        taken
    }

    fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    fn join(&mut self, other: PieceSet) {
        for (word, more) in self.0.iter_mut().zip(other.0) {
            *word |= more;
        }
    }
}

/// The slabs of one size of pieces that have a free one. Pieces are cut from the first.
struct Slabs {
    first: Option<NonNull<Slab>>,
    /// The size of a piece.
    size: usize,
    /// The kernel's pages are not larger than PAGE.
    purges: bool,
}

// SAFETY: slabs belong to nobody but this list, and are only touched under its lock.
unsafe impl Send for Slabs {}

static SLABS: [Mutex<Slabs>; SIZES.len()] =
    [Slabs::new(SIZES[0]), Slabs::new(SIZES[1]), Slabs::new(SIZES[2])];

/// Runs before the first slab is mapped.
static START: Once = Once::new();

fn start() {
    let purges = kernel_page() <= PAGE;
    SLABS.iter().for_each(|slabs| slabs.lock().purges = purges);
    lock_across_fork();
}

#[cfg(unix)]
fn kernel_page() -> usize {
    // SAFETY: asks for a number.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(usize::MAX)
}

/// The child of a fork inherits the locks, but not the threads that may hold them. So they are taken during a
/// fork, as malloc does with its own (pthread_atfork(3)).
#[cfg(unix)]
fn lock_across_fork() {
    extern "C" fn lock() {
        SLABS.iter().for_each(|slabs| std::mem::forget(slabs.lock()));
    }
    extern "C" fn unlock() {
        // SAFETY: this thread locked them before the fork, and leaked the guards.
        SLABS.iter().for_each(|slabs| unsafe { slabs.force_unlock() });
    }
    // SAFETY: the functions exist as long as this library. If registering fails for lack of memory, a child
    // may find a lock taken.
    unsafe { libc::pthread_atfork(Some(lock), Some(unlock), Some(unlock)) };
}

#[cfg(not(unix))]
fn kernel_page() -> usize {
    PAGE
}

#[cfg(not(unix))]
fn lock_across_fork() {}

impl Slabs {
    const fn new(size: usize) -> Mutex<Slabs> {
        Mutex::new(Slabs { first: None, size, purges: false })
    }

    /// Bytes of a slab, to which it is aligned.
    fn slab_bytes(&self) -> usize {
        PIECES * self.size
    }

    /// Inserts `slab` as the second: only the first one keeps dirty pieces for the next allocation.
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

    /// Takes a free piece of the first slab, preferably a dirty one.
    fn take(&mut self) -> Option<NonNull<u8>> {
        let mut slab = self.first?;
        // SAFETY: as for add().
        let header = unsafe { slab.as_mut() };
        let piece = header.dirty.take_lowest().or_else(|| header.clean.take_lowest());
        let piece = piece.expect("a slab in the list has a piece to give");
        header.used += 1;
        if header.used as usize == PIECES - 1 {
            self.remove(slab);
        }
        // SAFETY: a piece of this slab.
        Some(unsafe { slab.cast::<u8>().add(piece * self.size) })
    }

    /// Moves `pieces` of `slab` from "in use" to the set that `free` picks.
    fn put(
        &mut self,
        mut slab: NonNull<Slab>,
        pieces: PieceSet,
        free: fn(&mut Slab) -> &mut PieceSet,
    ) {
        // SAFETY: as for add().
        let header = unsafe { slab.as_mut() };
        let was_full = header.used as usize == PIECES - 1;
        header.used -= pieces.count();
        free(header).join(pieces);
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

    /// Takes the dirty pieces of `slab` that make up whole pages, if there are enough for a system call: a whole
    /// batch, or more than half as many as are in use. They count as used until they are clean.
    fn purge(&mut self, mut slab: NonNull<Slab>) -> Option<PieceSet> {
        if !self.purges {
            return None;
        }
        let is_first = self.first == Some(slab);
        // SAFETY: as for add().
        let header = unsafe { slab.as_mut() };
        let (per_page, dirty) = (PAGE / self.size, header.dirty.count());
        let is_batch = dirty as usize >= BATCH * per_page;
        if !is_batch && (is_first || 2 * dirty <= header.used) {
            return None;
        }
        let purged = header.dirty.take_groups(per_page);
        if purged.count() == 0 {
            return None;
        }
        header.used += purged.count();
        if header.used as usize == PIECES - 1 {
            self.remove(slab);
        }
        Some(purged)
    }
}

fn take_piece(slabs: &Mutex<Slabs>) -> Option<NonNull<u8>> {
    let mut locked = slabs.lock();
    let piece = locked.take();
    let slab_bytes = locked.slab_bytes();
    // The lock is not held while the system maps memory.
    drop(locked);
    piece.or_else(|| {
        START.call_once(start);
        let slab = map_slab(slab_bytes)?;
        let mut slabs = slabs.lock();
        slabs.add(slab);
        slabs.take()
    })
}

/// # Safety
/// `piece` came from [`take_piece`] of `list`, and nobody refers to it any more.
unsafe fn give_piece(list: &Mutex<Slabs>, piece: NonNull<u8>) {
    let mut slabs = list.lock();
    let (size, slab_bytes) = (slabs.size, slabs.slab_bytes());
    let offset = piece.as_ptr() as usize % slab_bytes;
    // SAFETY: slabs are aligned to their size, and the piece is inside one.
    let slab = unsafe { piece.sub(offset) }.cast::<Slab>();
    let mut freed = PieceSet::NONE;
    freed.add(offset / size);
    slabs.put(slab, freed, |slab| &mut slab.dirty);
    if !slabs.retire(slab) {
        let Some(purged) = slabs.purge(slab) else { return };
        drop(slabs);
        // SAFETY: pieces of this slab, whole pages, which count as used, and which nobody else has.
        unsafe { clean(slab.cast(), size, purged) };
        slabs = list.lock();
        slabs.put(slab, purged, |slab| &mut slab.clean);
        if !slabs.retire(slab) {
            return;
        }
    }
    drop(slabs);
    // SAFETY: nobody has a piece of it, and it is in no list.
    unsafe { unmap(slab.cast(), slab_bytes) };
}

/// Returns the memory behind `pieces` of `size` bytes to the system. The addresses stay reserved.
///
/// # Safety
/// They are pieces of the slab at `base` and make up whole pages, and nobody refers to them.
unsafe fn clean(base: NonNull<u8>, size: usize, pieces: PieceSet) {
    let mut piece = 0;
    while piece < PIECES {
        let start = piece;
        while piece < PIECES && pieces.contains(piece) {
            piece += 1;
        }
        if piece > start {
            // SAFETY: as the caller says. If it fails, the memory stays with the process.
            unsafe { discard(base.add(start * size), (piece - start) * size) };
        }
        piece += 1;
    }
}

/// Maps a slab of `bytes`, all pieces of which are free and clean.
fn map_slab(bytes: usize) -> Option<NonNull<Slab>> {
    let slab = map_aligned(bytes)?.cast::<Slab>();
    let mut clean = PieceSet::NONE;
    (1..PIECES).for_each(|piece| clean.add(piece));
    let header = Slab { next: None, prev: None, dirty: PieceSet::NONE, clean, used: 0 };
    // SAFETY: the mapping is ours, aligned and large enough.
    unsafe { slab.write(header) };
    Some(slab)
}

/// Maps `bytes`, aligned to their number.
fn map_aligned(bytes: usize) -> Option<NonNull<u8>> {
    let first = map(bytes)?;
    if (first.as_ptr() as usize).is_multiple_of(bytes) {
        return Some(first);
    }
    // Rare: the kernel places the next mapping beside the last.
    // SAFETY: mapped just now; of the second mapping only what surrounds the slab is unmapped.
    unsafe {
        unmap(first, bytes);
        let wide = map(2 * bytes)?;
        let before = (wide.as_ptr() as usize).next_multiple_of(bytes) - wide.as_ptr() as usize;
        let slab = wide.add(before);
        if before > 0 {
            unmap(wide, before);
        }
        unmap(slab.add(bytes), bytes - before);
        Some(slab)
    }
}

#[cfg(unix)]
fn map(bytes: usize) -> Option<NonNull<u8>> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANON;
    // SAFETY: a new mapping; no memory of anybody's is touched.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0) };
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
    // On the BSDs and macOS, MADV_DONTNEED is a hint that keeps the contents, and with them the memory.
    let advice = if cfg!(target_os = "linux") { libc::MADV_DONTNEED } else { libc::MADV_FREE };
    // SAFETY: as the caller says.
    unsafe { libc::madvise(at.as_ptr().cast(), bytes, advice) };
}

#[cfg(not(unix))]
fn map(_: usize) -> Option<NonNull<u8>> {
    unreachable!("take() asks malloc")
}

#[cfg(not(unix))]
unsafe fn unmap(_: NonNull<u8>, _: usize) {}

#[cfg(not(unix))]
unsafe fn discard(_: NonNull<u8>, _: usize) {}
