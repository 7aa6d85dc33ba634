//! Blocks of memory that the stream is written on, and the two ways they are strung together.
//!
//! ```text
//!   Chunk   | header | consumed | copied bytes ... | room ..... | C | B | A |
//!                               ^ start            ^ end        insertions
//!
//!   Chain   head -> chunk -> chunk -> tail     what a queue holds, oldest first
//!   Stack   top  -> chunk -> chunk             what a pool keeps, or an append took ahead
//! ```
//!
//! A chunk is a page of the stream. Copied bytes grow from its front. Segments that others own grow
//! from its back, each with the offset among the bytes where it is to be inserted: so the headers of
//! a burst of borrowed values share one chunk, and a run of copied bytes needs no description.
//!
//! A chunk never moves and never grows, so the bytes in it can be handed to the kernel while others
//! are appended behind them.

#![allow(unsafe_code)]

mod pages;

use crate::segment::{Gone, Kind, Owner, Piece, Run, Segment};
use libc::c_int;
use std::cell::Cell;
use std::cmp::Ordering;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};
use std::sync::atomic::{self, AtomicPtr};

/// What stands before the bytes of a chunk.
struct Header {
    next: Option<NonNull<Header>>,
    /// Nothing from here to that later chunk of the chain waits any more. It is one that may leave, so
    /// that it stays as long as this. None: not known.
    skip: Option<NonNull<Header>>,
    /// Bytes of the insertion `first` that have left already.
    into: u64,
    /// Of the chunk before a cork's divide: how many bytes of the queue may leave.
    visible: u64,
    /// Bytes that the block holds after this header, insertions included.
    capacity: u32,
    /// Offset of the first byte that has not left. `start <= end`.
    start: u32,
    /// Offset past the last byte written. For the tail of a chain this is stale: there the chain's
    /// own cursor counts, so that an append touches one line less.
    end: u32,
    /// Insertions at the back of the block: `count` in all, of which the `first` have left the
    /// queue, and the owners of the `told` know it. `told <= first <= count`.
    count: u32,
    first: u32,
    told: u32,
}

/// A segment in its place.
struct Insertion {
    segment: Segment,
    /// The offset among the chunk's bytes that it stands before.
    at: u32,
    /// Why it has left, once it has.
    reason: c_int,
}

/// What a chunk takes from the system before the bytes that it can hold.
pub const HEADER: usize = size_of::<Header>();

/// Bytes of a chunk that a segment takes.
pub const SEGMENT: usize = size_of::<Insertion>();

/// The largest chunk, so that offsets fit 32 bits.
pub const MAX_CAPACITY: usize = (u32::MAX as usize) & !(align_of::<Insertion>() - 1);

/// Bytes of a small part of the stream, that is rather copied into the room of the chunk before than
/// kept in a chunk of its own.
const SMALL: usize = 1024;

fn bytes_of(block: NonNull<Header>) -> *mut u8 {
    // SAFETY: every block is allocated with HEADER bytes and its capacity behind them, so one
    // past the header is inside it or at its end.
    unsafe { block.as_ptr().add(1).cast() }
}

/// One block, owned. It is in no chain and no stack.
pub struct Chunk(NonNull<Header>);

// SAFETY: a chunk owns its block alone, and nothing in the block is bound to a thread: who may be
// told from where is the host's own promise (SENDQ_THREADSAFE).
unsafe impl Send for Chunk {}

impl Chunk {
    /// An empty chunk that takes `footprint` bytes from the system, as [`Chunk::rounded`] gives them;
    /// None when it has no such block.
    pub fn allocate(footprint: usize) -> Option<Chunk> {
        let capacity = footprint.checked_sub(HEADER).filter(|bytes| *bytes <= MAX_CAPACITY)? as u32;
        let block = pages::take(footprint)?.cast::<Header>();
        let header = Header {
            next: None,
            skip: None,
            into: 0,
            visible: 0,
            capacity,
            start: 0,
            end: 0,
            count: 0,
            first: 0,
            told: 0,
        };
        // SAFETY: the block is ours, aligned for a header and large enough.
        unsafe { block.write(header) };
        Some(Chunk(block))
    }

    /// What a chunk of at least `footprint` bytes takes from the system; None when it would be too
    /// large.
    pub const fn rounded(footprint: usize) -> Option<usize> {
        let align = if footprint < pages::PAGE { align_of::<Insertion>() } else { pages::PAGE };
        match footprint.checked_next_multiple_of(align) {
            Some(rounded) if rounded <= HEADER + MAX_CAPACITY => Some(rounded),
            _ => None,
        }
    }

    /// Bytes it can hold.
    #[inline]
    pub fn capacity(&self) -> usize {
        // SAFETY: the block is owned and its header initialised.
        unsafe { self.0.as_ref().capacity as usize }
    }

    /// What it takes from the system.
    #[inline]
    pub fn footprint(&self) -> usize {
        HEADER + self.capacity()
    }

    /// All of what it can hold.
    pub fn room(&mut self) -> &mut [MaybeUninit<u8>] {
        // SAFETY: the block is owned, and any bytes are MaybeUninit.
        unsafe { std::slice::from_raw_parts_mut(bytes_of(self.0).cast(), self.capacity()) }
    }

    /// Where its first byte is: the whole capacity may be written there.
    pub fn spare(&mut self) -> *mut u8 {
        bytes_of(self.0)
    }

    /// Its first `len` bytes, which were written through [`Chunk::spare`].
    pub fn front(&self, len: usize) -> &[u8] {
        assert!(len <= self.capacity());
        // SAFETY: inside the block; the host that was lent them has written what it commits.
        unsafe { std::slice::from_raw_parts(bytes_of(self.0), len) }
    }

    /// The segment in it that has not left, if there is one; it has left now, sent.
    #[inline(always)]
    pub fn last_segment(&self) -> Option<Gone> {
        // SAFETY: the block is owned and its header initialised.
        let header = unsafe { self.0.as_ref() };
        debug_assert!(header.count - header.first <= 1);
        if header.first == header.count {
            return None;
        }
        let place = insertion_of(self.0, header.capacity, header.first);
        // SAFETY: insertions below count are initialised.
        Some(Gone { segment: unsafe { (*place).segment }, reason: 0 })
    }

    /// Gives the block up to a list, which owns it from here on.
    #[inline]
    fn into_block(self) -> NonNull<Header> {
        let block = self.0;
        std::mem::forget(self);
        block
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: allocate() took the block with this footprint, and nobody else owns it.
        unsafe { pages::give(self.0.cast(), self.footprint()) };
    }
}

/// Chunks, last in first out: what was given back last is warm in the cache.
#[derive(Default)]
pub struct Stack {
    top: Cell<Option<NonNull<Header>>>,
}

// SAFETY: a stack owns its chunks alone, and chunks are Send.
unsafe impl Send for Stack {}

impl Stack {
    /// An empty one.
    pub const fn new() -> Stack {
        Stack { top: Cell::new(None) }
    }

    /// Puts `chunk` on top.
    #[inline]
    pub fn push(&self, chunk: Chunk) {
        let mut block = chunk.into_block();
        // SAFETY: the block was just given up to this stack, nobody else refers to it.
        unsafe { block.as_mut().next = self.top.get() };
        self.top.set(Some(block));
    }

    /// None is there.
    pub fn is_empty(&self) -> bool {
        self.top.get().is_none()
    }

    /// Takes the top one.
    #[inline]
    pub fn pop(&self) -> Option<Chunk> {
        let block = self.top.get()?;
        // SAFETY: the stack owns the block; taking it off the top hands that ownership on.
        self.top.set(unsafe { block.as_ref().next });
        Some(Chunk(block))
    }
}

/// Room for one chunk, which any thread may take or fill without a lock.
#[derive(Default)]
pub struct Slot(AtomicPtr<Header>);

impl Slot {
    /// An empty one.
    pub const fn new() -> Slot {
        Slot(AtomicPtr::new(ptr::null_mut()))
    }

    /// Takes the chunk out, if there is one.
    #[inline]
    pub fn take(&self) -> Option<Chunk> {
        // Acquire: what the giver did with the chunk comes before what the taker does.
        NonNull::new(self.0.swap(ptr::null_mut(), atomic::Ordering::Acquire)).map(Chunk)
    }

    /// Puts `chunk` in; returns it if another is there.
    #[inline]
    pub fn put(&self, chunk: Chunk) -> Option<Chunk> {
        let block = chunk.into_block();
        let (free, taken) = (atomic::Ordering::Release, atomic::Ordering::Relaxed);
        match self.0.compare_exchange(ptr::null_mut(), block.as_ptr(), free, taken) {
            Ok(_) => None,
            Err(_) => Some(Chunk(block)),
        }
    }

    /// A chunk is there, or was a moment ago.
    pub fn is_filled(&self) -> bool {
        !self.0.load(atomic::Ordering::Relaxed).is_null()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        drop(self.take());
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}

/// What a chain holds, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// What the chunks take from the system.
    pub allocated: u64,
    /// Memory that is borrowed, until its owner is told.
    pub borrowed: u64,
    /// Shared payloads, likewise.
    pub shared: u64,
    /// What waits of borrowed memory, of shared payloads and of files.
    pub waiting: [u64; 3],
}

impl Census {
    fn count(&mut self, kind: Kind, len: u64, waiting: u64) {
        match kind {
            Kind::Borrowed => self.borrowed += len,
            Kind::Shared => self.shared += len,
            Kind::File => {}
        }
        self.waiting[kind as usize] += waiting;
    }

    /// Memory that would be free if the chain were not: its own, and that of others.
    pub fn held(&self) -> u64 {
        self.allocated + self.borrowed + self.shared
    }
}

/// The chunks of one queue, in the order of the stream, with the write cursor in the last.
pub struct Chain {
    /// The oldest chunk; None if and only if `tail` is.
    head: Option<NonNull<Header>>,
    /// The chunk that is written to.
    tail: Option<NonNull<Header>>,
    /// Offset past the last byte written in the tail.
    end: u32,
    /// How many bytes may be written there. 0 without a tail, and while the chain is sealed: then
    /// every append takes the long way, where the reason is looked up.
    room: u32,
    /// While corked: the last chunk that may leave, NONE when none may; what comes later is in
    /// chunks of its own. None: not corked.
    divider: Option<NonNull<Header>>,
}

/// A divider that no chunk is: nothing may leave.
const NONE: NonNull<Header> = NonNull::dangling();

impl Chain {
    /// No chunk.
    pub const fn new() -> Chain {
        Chain { head: None, tail: None, end: 0, room: 0, divider: None }
    }

    /// Bytes that [`Chain::write`] takes now.
    #[inline]
    pub fn room(&self) -> usize {
        self.room as usize
    }

    /// No chunk is held.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.head.is_none()
    }

    /// What is appended is held back.
    #[inline]
    pub fn is_corked(&self) -> bool {
        self.divider.is_some()
    }

    /// Copies `bytes` behind the last. They fit: at most [`Chain::room`].
    #[inline(always)]
    pub fn write(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.room as usize);
        let at = self.spare();
        self.end += bytes.len() as u32;
        self.room -= bytes.len() as u32;
        // SAFETY: `room` bytes at `end` are inside the tail's block, and the assertion keeps this
        // within them. `bytes` is a live slice that cannot overlap memory nobody was lent.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), at, bytes.len()) };
    }

    /// Puts `segment` behind the last byte. It fits: [`SEGMENT`] bytes of room.
    #[inline(always)]
    pub fn insert(&mut self, segment: Segment) {
        assert!(SEGMENT <= self.room as usize);
        let mut tail = self.tail.expect("room is in a tail");
        self.room -= SEGMENT as u32;
        let at = self.end;
        // SAFETY: the chain owns its tail, and no reference into it is alive.
        let header = unsafe { tail.as_mut() };
        header.count += 1;
        let place = insertion_of(tail, header.capacity, header.count - 1);
        // SAFETY: SEGMENT bytes of room end where the insertions begin: the place is free, inside
        // the block and aligned (MAX_CAPACITY, HEADER and SEGMENT are multiples of the alignment).
        unsafe { place.write(Insertion { segment, at, reason: 0 }) };
    }

    /// Where the next byte will be written; `room` bytes may be written there by others, and count
    /// once [`Chain::extend`] says so.
    #[inline(always)]
    pub fn spare(&self) -> *mut u8 {
        match self.tail {
            // SAFETY: the end is inside the tail's block.
            Some(tail) => unsafe { bytes_of(tail).add(self.end as usize) },
            None => ptr::null_mut(),
        }
    }

    /// The first `len` bytes of the spare room, which a reservation lent out, are data now.
    pub fn extend(&mut self, len: usize) {
        assert!(len <= self.room as usize);
        self.end += len as u32;
        self.room -= len as u32;
    }

    /// Lends the memory of `chunk`, which holds nothing yet: the chain keeps it behind its tail, or as
    /// its first. Until it is taken back, no chunk is pushed, and the tail stays.
    pub fn lend(&mut self, chunk: Chunk) -> *mut u8 {
        let Some(mut tail) = self.tail else {
            self.start(chunk);
            return self.spare();
        };
        let mut block = chunk.into_block();
        // SAFETY: the chain owns its tail, and from here on the chunk; no reference into either is
        // alive.
        unsafe {
            block.as_mut().clear();
            tail.as_mut().next = Some(block);
        }
        bytes_of(block)
    }

    /// Takes back what is kept behind the tail.
    pub fn take_lent(&mut self) -> Option<Chunk> {
        // SAFETY: the chain owns its tail, and what is behind it.
        self.tail.and_then(|mut tail| unsafe { tail.as_mut() }.next.take()).map(Chunk)
    }

    /// There is something behind the tail.
    pub fn lends(&self) -> bool {
        // SAFETY: the chain owns its tail.
        self.tail.is_some_and(|tail| unsafe { tail.as_ref() }.next.is_some())
    }

    /// Makes `chunk` the first: the chain is empty.
    #[inline(always)]
    pub fn start(&mut self, chunk: Chunk) {
        debug_assert!(self.is_empty());
        self.link(chunk);
        self.head = self.tail;
    }

    /// Makes `chunk`, of which the first `len` bytes were written, the first: there is another. Returns
    /// where they are.
    pub fn prepend(&mut self, chunk: Chunk, len: usize) -> Piece {
        assert!(self.head.is_some() && len <= chunk.capacity());
        let mut block = chunk.into_block();
        // SAFETY: the block was just given up to this chain, nobody else refers to it.
        let header = unsafe { block.as_mut() };
        header.clear();
        (header.next, header.end) = (self.head, len as u32);
        self.head = Some(block);
        Piece::new(bytes_of(block), len)
    }

    /// Makes `chunk` the tail.
    pub fn push(&mut self, chunk: Chunk) {
        let Some(mut last) = self.tail else {
            return self.start(chunk);
        };
        let end = self.end_of(last);
        self.link(chunk);
        // SAFETY: the chain owns its blocks, and no reference into this one is alive.
        let header = unsafe { last.as_mut() };
        header.end = end;
        header.next = self.tail;
    }

    /// Writes to `chunk` from here on.
    #[inline(always)]
    fn link(&mut self, chunk: Chunk) {
        self.room = chunk.capacity() as u32;
        let mut block = chunk.into_block();
        // SAFETY: the block was just given up to this chain, nobody else refers to it.
        unsafe { block.as_mut() }.clear();
        self.tail = Some(block);
        self.end = 0;
    }

    /// Takes no more by the short way, until [`Chain::unseal`].
    pub fn seal(&mut self) {
        self.room = 0;
    }

    /// The tail's room counts again, unless it belongs to what was there before the cork.
    pub fn unseal(&mut self) {
        let Some(tail) = self.tail else { return };
        if self.divider == self.tail {
            return;
        }
        // SAFETY: the chain owns its tail.
        let header = unsafe { tail.as_ref() };
        self.room = header.room(self.end_of(tail));
    }

    /// Where the bytes of `block`, one of this chain's, end.
    #[inline]
    fn end_of(&self, block: NonNull<Header>) -> u32 {
        if Some(block) == self.tail {
            self.end
        } else {
            // SAFETY: the chain owns its blocks.
            unsafe { block.as_ref().end }
        }
    }

    /// The last chunk that may leave.
    #[inline]
    fn last_visible(&self) -> Option<NonNull<Header>> {
        match self.divider {
            None => self.tail,
            Some(divider) => (divider != NONE).then_some(divider),
        }
    }

    /// What waits and may leave, oldest first; no run is empty.
    #[inline]
    pub fn runs(&self) -> Runs<'_> {
        let next = self.last_visible().and(self.head);
        Runs { chain: self, next, place: None }
    }

    /// The first `len` bytes that wait have left, for `reason`: 0 when they were sent. `len` is at
    /// most what may leave. Chunks before the tail that this empties go to `emptied`, as soon as
    /// nobody remains to be told about them. Returns how many segments have left.
    #[inline]
    pub fn advance(&mut self, len: u64, reason: c_int, mut emptied: impl FnMut(Chunk)) -> u32 {
        let (mut len, mut gone) = (len, 0);
        let mut next = self.last_visible().and(self.head);
        // The first chunk that stays though nothing of it waits.
        let mut passed = None;
        while let Some(mut block) = next {
            let end = self.end_of(block);
            // SAFETY: the chain owns its blocks, and no reference into this one is alive.
            let header = unsafe { block.as_mut() };
            gone += header.pass(block, end, &mut len, reason);
            if !header.is_passed(end) || next == self.last_visible() {
                break;
            }
            next = header.after();
            if header.told == header.count && self.head == Some(block) {
                emptied(self.pop().expect("there is a head"));
            } else {
                passed = passed.or(Some(block));
            }
        }
        if let Some(mut passed) = passed {
            // SAFETY: as above.
            unsafe { passed.as_mut() }.skip = next;
        }
        debug_assert!(len == 0, "advanced past what waits");
        gone
    }

    /// All of the chunk has left, sent, if it is the only one.
    #[inline(always)]
    pub fn pass_only(&mut self) -> bool {
        let Some(mut block) = self.head else { return false };
        if self.head != self.tail {
            return false;
        }
        let end = self.end_of(block);
        // SAFETY: the chain owns its blocks, and no reference into this one is alive.
        let header = unsafe { block.as_mut() };
        // The reason that an insertion is made with is 0 already.
        (header.start, header.first, header.into) = (end, header.count, 0);
        self.room = 0;
        true
    }

    /// A segment that has left, and whose owner does not know yet: now is the time. Chunks that are
    /// done with go to `emptied`, but for the tail.
    #[inline(always)]
    pub fn next_gone(&mut self, mut emptied: impl FnMut(Chunk)) -> Option<Gone> {
        loop {
            let mut block = self.head?;
            // SAFETY: the chain owns its blocks, and no reference into this one is alive.
            let header = unsafe { block.as_mut() };
            if header.told < header.first {
                // SAFETY: of this chain.
                return Some(unsafe { tell_next(block, header) });
            }
            if !self.pop_passed(&mut emptied) {
                return self.next_gone_behind();
            }
        }
    }

    /// The same behind the first chunk: where that was prepended.
    #[cold]
    #[inline(never)]
    fn next_gone_behind(&mut self) -> Option<Gone> {
        let mut next = self.head;
        while let Some(mut block) = next {
            // SAFETY: the chain owns its blocks, and no reference into this one is alive.
            let header = unsafe { block.as_mut() };
            if header.told < header.first {
                // SAFETY: of this chain.
                return Some(unsafe { tell_next(block, header) });
            }
            next = header.next;
        }
        None
    }

    /// Gives back the chunks at the front that all has left of, and all are told about.
    pub fn give_passed(&mut self, mut emptied: impl FnMut(Chunk)) {
        while self.pop_passed(&mut emptied) {}
    }

    #[inline(never)]
    fn pop_passed(&mut self, emptied: &mut impl FnMut(Chunk)) -> bool {
        let Some(block) = self.head else { return false };
        let end = self.end_of(block);
        // SAFETY: the chain owns its blocks.
        let header = unsafe { block.as_ref() };
        let passed = header.is_passed(end) && header.told == header.count;
        if !passed || self.head == self.tail {
            return false;
        }
        emptied(self.pop().expect("there is a head"));
        true
    }

    /// The bytes that were copied to the chunk and have not left, if it is the only one and has any.
    #[inline(always)]
    pub fn only_piece(&self) -> Option<Piece> {
        let head = self.head.filter(|_| self.head == self.tail)?;
        // SAFETY: the chain owns its blocks.
        let start = unsafe { head.as_ref() }.start;
        // SAFETY: start..end is inside the block.
        let base = unsafe { bytes_of(head).add(start as usize) };
        (start < self.end).then(|| Piece::new(base, (self.end - start) as usize))
    }

    /// Takes the chunk out, whatever is in it, if it is the only one.
    #[inline]
    pub fn pop_only(&mut self) -> Option<Chunk> {
        if self.head == self.tail { self.pop() } else { None }
    }

    /// Takes the oldest chunk out, whatever is in it.
    #[inline(always)]
    pub fn pop(&mut self) -> Option<Chunk> {
        let block = self.head?;
        if self.divider == self.head {
            self.divider = Some(NONE);
        }
        if self.head == self.tail {
            (self.head, self.tail) = (None, None);
            (self.end, self.room) = (0, 0);
        } else {
            // SAFETY: the chain owns its blocks.
            self.head = unsafe { block.as_ref().next };
        }
        Some(Chunk(block))
    }

    /// What is appended from here on is held back, in chunks of its own; the `visible` bytes of now
    /// may leave.
    pub fn cork(&mut self, visible: u64) {
        let mut divider = self.tail.unwrap_or(NONE);
        if self.tail.is_some() {
            // SAFETY: the chain owns its tail, and no reference into it is alive.
            unsafe { divider.as_mut() }.visible = visible;
        }
        self.divider = Some(divider);
        self.seal();
    }

    /// While corked: how much may leave. Whoever calls [`Chain::advance`] keeps the count, by
    /// [`Chain::show_less`].
    #[inline]
    pub fn visible(&self) -> u64 {
        match self.divider {
            // SAFETY: the chain owns its blocks.
            Some(divider) if divider != NONE => unsafe { divider.as_ref() }.visible,
            _ => 0,
        }
    }

    /// `len` of the bytes that may leave are about to.
    #[inline]
    pub fn show_less(&mut self, len: u64) {
        if let Some(mut divider) = self.divider.filter(|divider| *divider != NONE) {
            // SAFETY: the chain owns its blocks, and no reference into this one is alive.
            unsafe { divider.as_mut() }.visible -= len;
        }
    }

    /// The same, but the tail is held back already: a reservation in it was made while corked.
    pub fn cork_before_tail(&mut self) {
        self.seal();
        self.divider = Some(NONE);
        let mut next = self.head;
        while let Some(mut block) = next {
            // SAFETY: the chain owns its blocks, and no reference into this one is alive.
            let header = unsafe { block.as_mut() };
            // What is behind the divider may be taken out.
            header.skip = None;
            next = header.next;
            if next.is_some() && next == self.tail {
                self.divider = Some(block);
                self.show_less(self.visible());
            }
        }
    }

    /// Segments that have left, and whose owners do not know.
    pub fn untold(&self) -> u32 {
        let (mut untold, mut next) = (0, self.head);
        while let Some(block) = next {
            // SAFETY: the chain owns its blocks.
            let header = unsafe { block.as_ref() };
            untold += header.first - header.told;
            next = header.next;
        }
        untold
    }

    /// Ends the cork: all may leave.
    pub fn reveal(&mut self) {
        self.divider = None;
    }

    /// What is in it, by walking through all of it.
    pub fn census(&self) -> Census {
        self.census_of(|_| 1)
    }

    /// The same, with shared payloads divided among their `holders`.
    pub fn census_of(&self, mut holders: impl FnMut(&Owner) -> u64) -> Census {
        let (mut census, mut next) = (Census::default(), self.head);
        while let Some(block) = next {
            // SAFETY: the chain owns its blocks.
            let header = unsafe { block.as_ref() };
            census.allocated += HEADER as u64 + u64::from(header.capacity);
            for i in header.told..header.count {
                // SAFETY: insertions below count are initialised.
                let segment = unsafe { (*insertion_of(block, header.capacity, i)).segment };
                let left = match i.cmp(&header.first) {
                    Ordering::Less => segment.len(),
                    Ordering::Equal => header.into,
                    Ordering::Greater => 0,
                };
                let kind = segment.kind();
                let holders = if kind == Kind::Shared { holders(segment.owner()) } else { 1 };
                census.count(kind, segment.len() / holders, segment.len() - left);
            }
            next = header.next;
        }
        census
    }

    /// Ends the cork, and takes out what it held back.
    pub fn uncork(&mut self) -> Chain {
        let (divider, tail) = (self.divider.take(), self.tail);
        let Some(mut last) = divider else {
            return Chain::new();
        };
        if last == NONE {
            return std::mem::take(self);
        }
        if divider == tail {
            self.unseal();
            return Chain::new();
        }
        // SAFETY: the chain owns its blocks, and no reference into this one is alive.
        let header = unsafe { last.as_mut() };
        let (end, room) = (self.end, self.room);
        let held = Chain { head: header.next.take(), tail, end, room, divider: None };
        self.tail = divider;
        self.end = header.end;
        self.room = header.room(header.end);
        held
    }

    /// Puts all of `other`, of which nothing has left that is not told, behind the last byte. A
    /// little of it is copied, and its chunk comes back: many small parts would else hold a chunk
    /// each.
    pub fn absorb(&mut self, mut other: Chain) -> Option<Chunk> {
        debug_assert!(!other.is_corked());
        let (Some(head), Some(mut last)) = (other.head, self.tail) else {
            if self.tail.is_none() {
                (self.head, self.tail) = (other.head.take(), other.tail.take());
                (self.end, self.room) = (other.end, other.room);
            }
            return None;
        };
        if self.copies_little(&other, head) {
            return other.pop();
        }
        let end = self.end_of(last);
        // SAFETY: the chain owns its blocks, and no reference into this one is alive.
        let header = unsafe { last.as_mut() };
        (header.end, header.next) = (end, Some(head));
        (self.tail, self.end, self.room) = (other.tail, other.end, other.room);
        (other.head, other.tail) = (None, None);
        None
    }

    /// Copies what is in `block`, the head of `other`, behind the last byte, if that is all there is
    /// and little.
    fn copies_little(&mut self, other: &Chain, block: NonNull<Header>) -> bool {
        // SAFETY: `other` owns the block.
        let header = unsafe { block.as_ref() };
        let (start, end) = (header.start as usize, other.end_of(block) as usize);
        let insertions = (header.count - header.first) as usize * SEGMENT;
        let is_all = other.tail == Some(block) && header.into == 0 && header.told == header.first;
        if !is_all || end - start > SMALL || end - start + insertions > self.room() {
            return false;
        }
        let offset = self.end;
        // SAFETY: start..end are written bytes of the other chain's block.
        let bytes = unsafe { std::slice::from_raw_parts(bytes_of(block).add(start), end - start) };
        self.write(bytes);
        for i in header.first..header.count {
            // SAFETY: insertions below count are initialised.
            let insertion = unsafe { insertion_of(block, header.capacity, i).read() };
            self.insert(insertion.segment);
            let mut tail = self.tail.expect("it was inserted there");
            // SAFETY: the chain owns its tail; the insertion was written just now.
            unsafe {
                let header = tail.as_mut();
                let place = insertion_of(tail, header.capacity, header.count - 1);
                (*place).at = offset + (insertion.at - start as u32);
            }
        }
        true
    }
}

impl Header {
    /// Nothing is in the chunk.
    #[inline(always)]
    fn clear(&mut self) {
        (self.next, self.skip) = (None, None);
        (self.into, self.start) = (0, 0);
        (self.count, self.first, self.told) = (0, 0, 0);
    }

    /// Bytes between the last written, at `end`, and the insertions.
    #[inline]
    fn room(&self, end: u32) -> u32 {
        self.capacity - end - self.count * SEGMENT as u32
    }

    /// Where to look next when nothing of this chunk waits. At the end of a long flush, chunks whose
    /// owners are not told yet are many: they are walked through once.
    #[inline]
    fn after(&self) -> Option<NonNull<Header>> {
        self.skip.or(self.next)
    }

    /// Nothing of this chunk waits.
    #[inline]
    fn is_passed(&self, end: u32) -> bool {
        self.start == end && self.first == self.count
    }

    /// Lets up to `len` bytes of this chunk leave, and every mark that nothing waits before.
    /// Returns how many segments have left.
    #[inline]
    fn pass(&mut self, block: NonNull<Header>, end: u32, len: &mut u64, reason: c_int) -> u32 {
        let first = self.first;
        loop {
            let insertion =
                (self.first < self.count).then(|| insertion_of(block, self.capacity, self.first));
            // SAFETY: insertions below count are initialised.
            let stop = insertion.map_or(end, |place| unsafe { (*place).at });
            let step = (*len).min(u64::from(stop - self.start));
            self.start += step as u32;
            *len -= step;
            let Some(place) = insertion else { break };
            if self.start < stop {
                break;
            }
            // SAFETY: insertions below count are initialised, and nobody else refers to this one.
            let insertion = unsafe { &mut *place };
            let step = (*len).min(insertion.segment.len() - self.into);
            self.into += step;
            *len -= step;
            if self.into < insertion.segment.len() {
                break;
            }
            insertion.reason = reason;
            self.first += 1;
            self.into = 0;
        }
        self.first - first
    }
}

/// The next segment of `block` that has left and is not told: it is now.
///
/// # Safety
/// `header` is that of `block`, and there is one.
#[inline(always)]
unsafe fn tell_next(block: NonNull<Header>, header: &mut Header) -> Gone {
    let place = insertion_of(block, header.capacity, header.told);
    header.told += 1;
    // SAFETY: insertions below count are initialised.
    let Insertion { segment, reason, .. } = unsafe { place.read() };
    Gone { segment, reason }
}

/// Insertion `i` of `block`: they grow from its end.
#[inline]
fn insertion_of(block: NonNull<Header>, capacity: u32, i: u32) -> *mut Insertion {
    let back = (i as usize + 1) * SEGMENT;
    // SAFETY: insertions are only made where there is room, so `back` is at most the capacity.
    unsafe { bytes_of(block).add(capacity as usize - back).cast() }
}

/// See [`Chain::runs`].
pub struct Runs<'a> {
    chain: &'a Chain,
    next: Option<NonNull<Header>>,
    /// Where in `next`, once it was entered: the offset, the insertion, and how far into that.
    place: Option<(u32, u32, u64)>,
}

impl Iterator for Runs<'_> {
    type Item = Run;

    #[inline]
    fn next(&mut self) -> Option<Run> {
        loop {
            let block = self.next?;
            // SAFETY: the chain owns its blocks, and is borrowed while the iterator lives.
            let header = unsafe { block.as_ref() };
            let (start, i, into) = self.place.unwrap_or((header.start, header.first, header.into));
            let insertion = (i < header.count).then(|| insertion_of(block, header.capacity, i));
            // SAFETY: insertions below count are initialised, and not changed while borrowed.
            let insertion = insertion.map(|place| unsafe { &*place });
            let end = self.chain.end_of(block);
            let stop = insertion.map_or(end, |insertion| insertion.at);
            if start < stop {
                self.place = Some((stop, i, into));
                // SAFETY: start < stop <= end, so the place is inside the block.
                let base = unsafe { bytes_of(block).add(start as usize) };
                return Some(Run::Memory(Piece::new(base, (stop - start) as usize)));
            }
            let Some(insertion) = insertion else {
                let last = self.next == self.chain.last_visible();
                let is_passed = header.is_passed(end);
                self.next = match last {
                    true => None,
                    false if is_passed => header.after(),
                    false => header.next,
                };
                self.place = None;
                continue;
            };
            self.place = Some((start, i + 1, 0));
            if into < insertion.segment.len() {
                return Some(insertion.segment.rest(into));
            }
        }
    }
}

impl Default for Chain {
    fn default() -> Chain {
        Chain::new()
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        drop(self.take_lent());
        while self.pop().is_some() {}
    }
}
