//! Which chunks are free, and the byte budget: what many queues share.

use crate::chunk::{Chunk, HEADER, Slot, Stack};
use crate::clock::Clock;
use crate::errno::{Errno, Result};
use parking_lot::Mutex;
use std::cell::Cell;
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that a chunk takes unless the configuration says otherwise: a page.
pub const CHUNK_BYTES: usize = 4 * 1024;
/// Free chunks that a pool keeps warm, in bytes, unless the configuration says otherwise.
pub const KEEP_BYTES: usize = 4 * 1024 * 1024;
/// The least that a chunk may take: below it the headers weigh more than the bytes.
pub const MIN_CHUNK_BYTES: usize = 256;
/// Above this an append asks the allocator for the whole in one block first, and gives that back.
/// Overcommitting kernels grant any number of chunks and kill the process once they are touched;
/// one block that is larger than the machine they refuse (proc(5), overcommit_memory).
const PROBE_BYTES: usize = 256 * 1024 * 1024;
/// No budget: half the range, so that a sum of two counts never wraps around.
pub const NO_LIMIT: usize = isize::MAX as usize;
/// Chunks of other than the usual size that are kept at most: reservations are large here and there.
const MAX_SPARES: usize = 16;
/// A pool that has taken this many times what it may keep has seen a burst, which need not come
/// again: it keeps a 32nd, until it holds less than half of that and needs more.
const BURST: usize = 8;
const AFTER_BURST: usize = 32;

/// What a pool is made with.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The budget: chunks, free ones too, and pinned memory never exceed it together.
    pub max_bytes: usize,
    /// Bytes that each chunk takes.
    pub chunk_bytes: usize,
    /// Free chunks are kept up to this; above it memory goes back to the system.
    pub keep_bytes: usize,
}

impl Limits {
    /// The defaults: no budget.
    pub const DEFAULT: Limits =
        Limits { max_bytes: NO_LIMIT, chunk_bytes: CHUNK_BYTES, keep_bytes: KEEP_BYTES };

    /// With a chunk size as chunks have it.
    const fn rounded(self) -> Limits {
        match Chunk::rounded(self.chunk_bytes) {
            Some(chunk_bytes) => Limits { chunk_bytes, ..self },
            None => self,
        }
    }

    /// Bytes that a chunk of the usual size holds.
    #[inline(always)]
    fn capacity(&self) -> usize {
        self.chunk_bytes - HEADER
    }
}

/// Memory and the byte budget that many queues share.
pub struct Pool {
    limits: Limits,
    state: Guard,
    /// In a shared pool: the chunk given last, so that a queue that fills and drains again and again
    /// takes no lock for it. It counts as allocated, not as kept.
    warm: Slot,
    keeps_warm: bool,
    /// Shared payloads that are charged to this pool. Apart, because the last of their holders may be
    /// any thread, whatever the pool is.
    shared: AtomicUsize,
    clock: Clock,
}

/// Invariant: `allocated + pinned` and the pool's `shared` are at most `ceiling`, and that is at most
/// `max_bytes`.
struct State {
    /// Chunks of `chunk_bytes` that no queue holds.
    free: Stack,
    /// Some of other sizes, larger than those, and how many.
    spare: Stack,
    spares: Cell<usize>,
    /// What all these take from the system.
    kept: Cell<usize>,
    /// `kept` may grow up to this.
    keep_bytes: Cell<usize>,
    /// What all chunks of this pool take from the system: those kept, and those that queues hold.
    allocated: Cell<usize>,
    /// Borrowed memory, until its owner is told.
    pinned: Cell<usize>,
    /// The most that there ever was of everything. Up to here a pin needs no closer look.
    ceiling: Cell<usize>,
}

/// What a pool has, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// The budget.
    pub max: usize,
    /// Chunks that queues hold.
    pub used: usize,
    /// Chunks that are kept.
    pub free: usize,
    /// Borrowed memory.
    pub pinned: usize,
    /// Shared payloads.
    pub shared: usize,
    /// The most that there ever was of all these together.
    pub peak: usize,
}

/// One thread at a time, at no cost, or any thread.
enum Guard {
    Confined(State),
    Shared(Mutex<State>),
}

impl Guard {
    #[inline(always)]
    fn with<R>(&self, f: impl FnOnce(&State) -> R) -> R {
        match self {
            Guard::Confined(state) => f(state),
            Guard::Shared(state) => f(&state.lock()),
        }
    }
}

impl Pool {
    /// A pool for one thread at a time.
    pub const fn confined(limits: Limits, clock: Clock) -> Pool {
        let state = Guard::Confined(State::new(&limits));
        Pool::new(limits, state, false, clock)
    }

    const fn new(limits: Limits, state: Guard, keeps_warm: bool, clock: Clock) -> Pool {
        let limits = limits.rounded();
        Pool { limits, state, warm: Slot::new(), keeps_warm, shared: AtomicUsize::new(0), clock }
    }

    /// A pool for any thread.
    pub const fn shared(mut limits: Limits, clock: Clock) -> Pool {
        limits = limits.rounded();
        // What is in the slot is kept, too.
        let keeps_warm = limits.keep_bytes >= limits.chunk_bytes;
        if keeps_warm {
            limits.keep_bytes -= limits.chunk_bytes;
        }
        let state = Guard::Shared(Mutex::new(State::new(&limits)));
        Pool::new(limits, state, keeps_warm, clock)
    }

    /// Bytes that a chunk of the usual size holds.
    #[inline]
    pub fn chunk_capacity(&self) -> usize {
        self.limits.capacity()
    }

    /// Any thread may use it.
    pub fn is_shared(&self) -> bool {
        matches!(self.state, Guard::Shared(_))
    }

    /// The time.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The time, in nanoseconds.
    #[inline]
    pub fn now(&self) -> u64 {
        self.clock.now()
    }

    /// What it has.
    pub fn usage(&self) -> Usage {
        let shared = self.shared.load(Ordering::Relaxed);
        let warm = if self.warm.is_filled() { self.limits.chunk_bytes } else { 0 };
        self.state.with(|state| Usage {
            max: self.limits.max_bytes,
            used: (state.allocated.get() - state.kept.get()).saturating_sub(warm),
            free: state.kept.get() + warm,
            pinned: state.pinned.get(),
            shared,
            peak: state.ceiling.get(),
        })
    }

    /// A chunk of the usual size.
    ///
    /// NO_BUFFERS: the budget is spent. NO_MEMORY: the system has none.
    pub fn take(&self) -> Result<Chunk> {
        let chunk = match &self.state {
            Guard::Confined(state) => state.take(&self.limits),
            Guard::Shared(state) => self.warm.take().or_else(|| state.lock().take(&self.limits)),
        };
        match chunk {
            Some(chunk) => Ok(chunk),
            None => self.allocate(self.limits.chunk_bytes),
        }
    }

    /// A chunk of the usual size, if one is at hand for a few instructions.
    #[inline(always)]
    pub fn take_at_once(&self) -> Option<Chunk> {
        match &self.state {
            Guard::Confined(state) => state.take(&self.limits),
            Guard::Shared(_) => self.warm.take(),
        }
    }

    /// Warm chunks that hold `bytes` are there, and stay until the next call: this pool is confined.
    pub fn keeps(&self, bytes: u64) -> bool {
        let Guard::Confined(state) = &self.state else { return false };
        // Spare ones are no use here, and are not told apart in what is kept.
        if state.spares.get() > 0 {
            return false;
        }
        let (kept, capacity) = (state.kept.get(), self.limits.capacity() as u64);
        if bytes <= capacity {
            return kept >= self.limits.chunk_bytes;
        }
        bytes <= (kept / self.limits.chunk_bytes) as u64 * capacity
    }

    /// One chunk that holds at least `bytes`. Errors as for [`Pool::take`].
    pub fn take_contiguous(&self, bytes: usize) -> Result<Chunk> {
        if bytes <= self.limits.capacity() {
            return self.take();
        }
        match self.state.with(|state| state.take_spare(bytes)) {
            Ok(chunk) => return Ok(chunk),
            // Outside the lock: freeing may be a system call.
            Err(stale) => drop(stale),
        }
        let footprint = bytes.checked_add(HEADER).and_then(Chunk::rounded);
        self.allocate(footprint.ok_or(Errno::NO_MEMORY)?)
    }

    /// Chunks that hold at least `bytes` together, or none at all. Errors as for [`Pool::take`].
    pub fn take_many(&self, bytes: usize) -> Result<Stack> {
        if bytes > PROBE_BYTES && !self.keeps(bytes as u64) {
            // black_box: an allocation that nobody uses is optimized away, and then never fails.
            let mut probe = Vec::<u8>::new();
            let granted = probe.try_reserve_exact(bytes);
            black_box(&probe);
            granted.map_err(|_| Errno::NO_MEMORY)?;
        }
        let (taken, mut room) = (Stack::new(), 0);
        while room < bytes {
            match self.take() {
                Ok(chunk) => {
                    room += chunk.capacity();
                    taken.push(chunk);
                }
                Err(errno) => {
                    self.give_all(taken);
                    return Err(errno);
                }
            }
        }
        Ok(taken)
    }

    /// Takes over `chunks` bytes of chunks that `from` allocated, and `pinned` bytes that were charged
    /// to it: they are counted here from now on.
    ///
    /// NO_BUFFERS: over the budget; nothing changed.
    pub fn adopt(&self, from: &Pool, chunks: usize, pinned: usize) -> Result<()> {
        if std::ptr::eq(self, from) {
            return Ok(());
        }
        let all = chunks.checked_add(pinned).ok_or(Errno::NO_BUFFERS)?;
        self.charge(all, |state| {
            more(&state.allocated, chunks);
            more(&state.pinned, pinned);
        })?;
        from.state.with(|state| {
            less(&state.allocated, chunks);
            less(&state.pinned, pinned);
        });
        Ok(())
    }

    /// Takes a chunk back.
    #[inline]
    pub fn give(&self, chunk: Chunk) {
        let surplus = match &self.state {
            Guard::Confined(state) => state.keep(chunk, &self.limits),
            Guard::Shared(state) => {
                self.keep_warm(chunk).and_then(|chunk| state.lock().keep(chunk, &self.limits))
            }
        };
        if let Some(chunk) = surplus {
            self.free(chunk);
        }
    }

    /// Keeps `chunk` where it costs no lock to take it, or returns it.
    #[inline]
    fn keep_warm(&self, chunk: Chunk) -> Option<Chunk> {
        if self.keeps_warm && chunk.capacity() == self.limits.capacity() {
            self.warm.put(chunk)
        } else {
            Some(chunk)
        }
    }

    /// Takes a chunk back; the short way if this pool is confined.
    #[inline(always)]
    pub fn give_at_once(&self, chunk: Chunk) {
        let surplus = match &self.state {
            Guard::Confined(state) => state.keep(chunk, &self.limits),
            Guard::Shared(_) => Some(chunk),
        };
        if let Some(chunk) = surplus {
            self.give_at_length(chunk);
        }
    }

    #[cold]
    #[inline(never)]
    fn give_at_length(&self, chunk: Chunk) {
        self.give(chunk);
    }

    #[cold]
    #[inline(never)]
    fn free(&self, chunk: Chunk) {
        let chunk = self.state.with(|state| state.spare(chunk, &self.limits));
        // Outside the lock: freeing may be a system call.
        drop(chunk);
    }

    /// Takes chunks back.
    pub fn give_all(&self, chunks: Stack) {
        while let Some(chunk) = chunks.pop() {
            self.give(chunk);
        }
    }

    /// Counts `bytes` of borrowed memory. NO_BUFFERS: the budget is spent.
    #[inline]
    pub fn pin(&self, bytes: usize) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        // Loaded in the lock, which pin_shared() holds as well.
        if self.state.with(|state| state.pin(bytes, self.shared.load(Ordering::Relaxed))) {
            return Ok(());
        }
        self.charge(bytes, |state| more(&state.pinned, bytes))
    }

    /// [`Pool::pin`], if this pool is confined and has seen as much before.
    #[inline(always)]
    pub fn pin_at_once(&self, bytes: usize) -> bool {
        match &self.state {
            Guard::Confined(state) => state.pin(bytes, self.shared.load(Ordering::Relaxed)),
            Guard::Shared(_) => false,
        }
    }

    /// The owner of so much borrowed memory has it back.
    #[inline(always)]
    pub fn unpin(&self, bytes: usize) {
        match &self.state {
            Guard::Confined(state) => less(&state.pinned, bytes),
            Guard::Shared(_) if bytes == 0 => {}
            Guard::Shared(_) => self.unpin_at_length(bytes),
        }
    }

    #[inline(never)]
    fn unpin_at_length(&self, bytes: usize) {
        self.state.with(|state| less(&state.pinned, bytes));
    }

    /// Counts a shared payload. NO_BUFFERS: the budget is spent.
    pub fn pin_shared(&self, bytes: usize) -> Result<()> {
        self.charge(bytes, |_| {
            self.shared.fetch_add(bytes, Ordering::Relaxed);
        })
    }

    /// A shared payload is gone. Any thread may say so, whatever the pool is.
    pub fn unpin_shared(&self, bytes: usize) {
        self.shared.fetch_sub(bytes, Ordering::Relaxed);
    }

    #[cold]
    #[inline(never)]
    fn allocate(&self, footprint: usize) -> Result<Chunk> {
        self.charge(footprint, |state| more(&state.allocated, footprint))?;
        // Outside the lock: this may be a system call.
        Chunk::allocate(footprint).ok_or_else(|| {
            self.state.with(|state| less(&state.allocated, footprint));
            Errno::NO_MEMORY
        })
    }

    /// Lets `count` count `bytes` more, if they are within the budget. Kept chunks give way.
    #[cold]
    #[inline(never)]
    fn charge(&self, bytes: usize, count: impl FnOnce(&State)) -> Result<()> {
        let mut warm = None;
        let in_the_way = self.state.with(|state| {
            let shared = self.shared.load(Ordering::Relaxed);
            if state.is_full(bytes, shared, &self.limits) {
                // It gives way before those that are kept.
                warm = self.warm.take();
                less(&state.allocated, warm.as_ref().map_or(0, Chunk::footprint));
            }
            let in_the_way = state.make_room(bytes, shared, &self.limits)?;
            count(state);
            state.adapt(self.shared.load(Ordering::Relaxed), &self.limits);
            Ok(in_the_way)
        })?;
        // Outside the lock: freeing may be a system call.
        drop((in_the_way, warm));
        Ok(())
    }
}

fn more(count: &Cell<usize>, bytes: usize) {
    count.set(count.get() + bytes);
}

fn less(count: &Cell<usize>, bytes: usize) {
    count.set(count.get() - bytes);
}

impl State {
    const fn new(limits: &Limits) -> State {
        State {
            free: Stack::new(),
            spare: Stack::new(),
            spares: Cell::new(0),
            kept: Cell::new(0),
            keep_bytes: Cell::new(limits.keep_bytes),
            allocated: Cell::new(0),
            pinned: Cell::new(0),
            ceiling: Cell::new(0),
        }
    }

    /// A kept chunk, the one given last.
    #[inline(always)]
    fn take(&self, limits: &Limits) -> Option<Chunk> {
        let chunk = self.free.pop()?;
        less(&self.kept, limits.chunk_bytes);
        Some(chunk)
    }

    /// A spare chunk that holds `bytes` and not many times as much. If there is none, the spare ones may
    /// be of sizes that nobody needs any more: one of them is returned as the error, to be dropped.
    fn take_spare(&self, bytes: usize) -> std::result::Result<Chunk, Option<Chunk>> {
        let (passed, mut found) = (Stack::new(), None);
        while let Some(chunk) = self.spare.pop() {
            if (bytes..=bytes.saturating_mul(4)).contains(&chunk.capacity()) {
                found = Some(chunk);
                break;
            }
            passed.push(chunk);
        }
        while let Some(chunk) = passed.pop() {
            self.spare.push(chunk);
        }
        match found {
            Some(chunk) => {
                self.uncount_spare(&chunk);
                Ok(chunk)
            }
            None => Err(self.pop_spare()),
        }
    }

    /// The spare chunk that was given last; it counts as allocated no more.
    fn pop_spare(&self) -> Option<Chunk> {
        let chunk = self.spare.pop()?;
        self.uncount_spare(&chunk);
        less(&self.allocated, chunk.footprint());
        Some(chunk)
    }

    fn uncount_spare(&self, chunk: &Chunk) {
        less(&self.kept, chunk.footprint());
        less(&self.spares, 1);
    }

    /// Keeps `chunk` warm, or returns it when it is one too many or of another size.
    #[inline(always)]
    fn keep(&self, chunk: Chunk, limits: &Limits) -> Option<Chunk> {
        let kept = self.kept.get() + limits.chunk_bytes;
        if chunk.capacity() != limits.capacity() || kept > self.keep_bytes.get() {
            return Some(chunk);
        }
        self.kept.set(kept);
        self.free.push(chunk);
        None
    }

    /// `chunk` was not kept: it becomes a spare one, or is returned to be dropped, and counts no more.
    fn spare(&self, chunk: Chunk, limits: &Limits) -> Option<Chunk> {
        let kept = self.kept.get() + chunk.footprint();
        let is_usual = chunk.capacity() == limits.capacity();
        if is_usual || kept > self.keep_bytes.get() || self.spares.get() == MAX_SPARES {
            less(&self.allocated, chunk.footprint());
            return Some(chunk);
        }
        self.kept.set(kept);
        more(&self.spares, 1);
        self.spare.push(chunk);
        None
    }

    /// Counts `bytes` of borrowed memory, if there was as much before.
    #[inline(always)]
    fn pin(&self, bytes: usize, shared: usize) -> bool {
        // Neither is above NO_LIMIT: the one by the invariant, the other as no object is.
        let pinned = self.pinned.get() + bytes;
        if self.allocated.get() + shared + pinned > self.ceiling.get() {
            return false;
        }
        self.pinned.set(pinned);
        true
    }

    /// `bytes` more are over the budget, if what is kept stays.
    fn is_full(&self, bytes: usize, shared: usize, limits: &Limits) -> bool {
        self.allocated.get() + self.pinned.get() + shared > limits.max_bytes.saturating_sub(bytes)
    }

    /// Makes room for `bytes` within the budget. Kept chunks that are in their way count no more, and
    /// are returned to be dropped.
    fn make_room(&self, bytes: usize, shared: usize, limits: &Limits) -> Result<Stack> {
        let pinned = self.pinned.get() + shared;
        let in_use = self.allocated.get() - self.kept.get() + pinned;
        if in_use.checked_add(bytes).is_none_or(|sum| sum > limits.max_bytes) {
            return Err(Errno::NO_BUFFERS);
        }
        let in_the_way = Stack::new();
        while self.allocated.get() + pinned > limits.max_bytes - bytes {
            if let Some(chunk) = self.pop_spare() {
                in_the_way.push(chunk);
                continue;
            }
            let chunk = self.take(limits).expect("what is in use alone is within the budget");
            less(&self.allocated, chunk.footprint());
            in_the_way.push(chunk);
        }
        Ok(in_the_way)
    }

    /// After something has been counted: how much there ever was, and how much to keep from now on.
    fn adapt(&self, shared: usize, limits: &Limits) {
        let allocated = self.allocated.get();
        self.ceiling.set(self.ceiling.get().max(allocated + self.pinned.get() + shared));
        let burst = limits.keep_bytes.saturating_mul(BURST);
        if allocated > burst {
            self.keep_bytes.set(limits.keep_bytes / AFTER_BURST);
        } else if allocated <= burst / 2 {
            self.keep_bytes.set(limits.keep_bytes);
        }
    }
}
