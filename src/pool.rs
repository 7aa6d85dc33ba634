//! Which chunks are free, and the byte budget: what many queues share.

use crate::chunk::{Chunk, Stack};
use crate::errno::{Errno, Result};
use parking_lot::Mutex;
use std::cell::RefCell;
use std::hint::black_box;

/// Bytes that a chunk holds unless the configuration says otherwise.
pub const CHUNK_BYTES: usize = 4 * 1024;
/// Free chunks that a pool keeps warm, in bytes, unless the configuration says otherwise.
pub const KEEP_BYTES: usize = 4 * 1024 * 1024;
/// The least that a chunk may hold: below it the headers weigh more than the bytes.
pub const MIN_CHUNK_BYTES: usize = 256;
/// Above this an append asks the allocator for the whole in one block first, and gives that back.
/// Overcommitting kernels grant any number of chunks and kill the process once they are touched;
/// one block that is larger than the machine they refuse (proc(5), overcommit_memory).
const PROBE_BYTES: usize = 256 * 1024 * 1024;

/// What a pool is made with.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The budget: what queues hold and what is kept free never exceed it together.
    pub max_bytes: usize,
    /// Bytes that each chunk holds.
    pub chunk_bytes: usize,
    /// Free chunks are kept up to this; above it memory goes back to the allocator.
    pub keep_bytes: usize,
}

impl Limits {
    /// The defaults: no budget.
    pub const DEFAULT: Limits =
        Limits { max_bytes: usize::MAX, chunk_bytes: CHUNK_BYTES, keep_bytes: KEEP_BYTES };

    /// With a chunk size as chunks have it.
    const fn rounded(self) -> Limits {
        let chunk_bytes = self.chunk_bytes.next_multiple_of(8);
        Limits { chunk_bytes, ..self }
    }
}

/// Memory and the byte budget that many queues share.
pub struct Pool {
    limits: Limits,
    state: Guard,
}

struct State {
    /// Chunks of `chunk_bytes` that no queue holds.
    free: Stack,
    /// What they take from the system.
    kept: usize,
    /// What all chunks of this pool take from the system: those kept, and those that queues hold.
    /// At most `max_bytes`.
    allocated: usize,
}

impl State {
    const NEW: State = State { free: Stack::new(), kept: 0, allocated: 0 };
}

/// One thread at a time, at no cost, or any thread.
enum Guard {
    Confined(RefCell<State>),
    Shared(Mutex<State>),
}

impl Guard {
    #[inline(always)]
    fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        match self {
            Guard::Confined(state) => f(&mut state.borrow_mut()),
            Guard::Shared(state) => f(&mut state.lock()),
        }
    }
}

impl Pool {
    /// A pool for one thread at a time.
    pub const fn confined(limits: Limits) -> Pool {
        let limits = limits.rounded();
        Pool { limits, state: Guard::Confined(RefCell::new(State::NEW)) }
    }

    /// A pool for any thread.
    pub const fn shared(limits: Limits) -> Pool {
        let limits = limits.rounded();
        Pool { limits, state: Guard::Shared(Mutex::new(State::NEW)) }
    }

    /// Bytes that a chunk of the usual size holds.
    #[inline]
    pub fn chunk_bytes(&self) -> usize {
        self.limits.chunk_bytes
    }

    /// Any thread may use it.
    pub fn is_shared(&self) -> bool {
        matches!(self.state, Guard::Shared(_))
    }

    /// Bytes of the chunks that queues hold.
    pub fn held_bytes(&self) -> usize {
        self.state.with(|state| state.allocated - state.kept)
    }

    /// Bytes of the chunks that are kept free.
    pub fn kept_bytes(&self) -> usize {
        self.state.with(|state| state.kept)
    }

    /// A chunk of the usual size.
    ///
    /// NO_BUFFERS: the budget is spent. NO_MEMORY: the allocator has none.
    pub fn take(&self) -> Result<Chunk> {
        match self.take_warm() {
            Some(chunk) => Ok(chunk),
            None => self.allocate(self.limits.chunk_bytes),
        }
    }

    /// A chunk of the usual size, if one is kept.
    #[inline]
    fn take_warm(&self) -> Option<Chunk> {
        self.state.with(|state| state.take(&self.limits))
    }

    /// A chunk of the usual size, if one is kept and this pool is confined: what costs a few
    /// instructions.
    #[inline(always)]
    pub fn take_at_once(&self) -> Option<Chunk> {
        match &self.state {
            Guard::Confined(state) => state.borrow_mut().take(&self.limits),
            Guard::Shared(_) => None,
        }
    }

    /// One chunk that holds at least `bytes`. Errors as for [`Pool::take`].
    pub fn take_contiguous(&self, bytes: usize) -> Result<Chunk> {
        if bytes <= self.limits.chunk_bytes { self.take() } else { self.allocate(bytes) }
    }

    /// Chunks that hold at least `bytes` together, or none at all. Errors as for [`Pool::take`].
    pub fn take_many(&self, bytes: usize) -> Result<Stack> {
        if bytes > PROBE_BYTES {
            // black_box: an allocation that nobody uses is optimized away, and then never fails.
            let mut probe = Vec::<u8>::new();
            let granted = probe.try_reserve_exact(bytes);
            black_box(&probe);
            granted.map_err(|_| Errno::NO_MEMORY)?;
        }
        let (mut taken, mut room) = (Stack::new(), 0);
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

    /// Takes over `bytes` of chunks that `from` allocated: they are counted here from now on.
    ///
    /// NO_BUFFERS: over the budget; nothing changed.
    pub fn adopt(&self, from: &Pool, bytes: usize) -> Result<()> {
        if std::ptr::eq(self, from) {
            return Ok(());
        }
        drop(self.state.with(|state| state.charge(bytes, &self.limits))?);
        from.state.with(|state| state.allocated -= bytes);
        Ok(())
    }

    /// Takes a chunk back.
    #[inline]
    pub fn give(&self, chunk: Chunk) {
        let surplus = self.state.with(|state| state.keep(chunk, &self.limits));
        if let Some(chunk) = surplus {
            self.free(chunk);
        }
    }

    /// Takes a chunk back; the short way if this pool is confined.
    #[inline(always)]
    pub fn give_at_once(&self, chunk: Chunk) {
        let surplus = match &self.state {
            Guard::Confined(state) => state.borrow_mut().keep(chunk, &self.limits),
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
        self.state.with(|state| state.allocated -= chunk.footprint());
        // Outside the lock: freeing may be a system call.
        drop(chunk);
    }

    /// Takes chunks back.
    pub fn give_all(&self, mut chunks: Stack) {
        while let Some(chunk) = chunks.pop() {
            self.give(chunk);
        }
    }

    #[cold]
    #[inline(never)]
    fn allocate(&self, capacity: usize) -> Result<Chunk> {
        let capacity = Chunk::rounded(capacity).ok_or(Errno::NO_MEMORY)?;
        let bytes = Chunk::footprint_of(capacity);
        let in_the_way = self.state.with(|state| state.charge(bytes, &self.limits))?;
        // Outside the lock: both may be system calls.
        drop(in_the_way);
        Chunk::allocate(capacity).ok_or_else(|| {
            self.state.with(|state| state.allocated -= bytes);
            Errno::NO_MEMORY
        })
    }
}

impl State {
    /// A kept chunk, the one given last.
    #[inline(always)]
    fn take(&mut self, limits: &Limits) -> Option<Chunk> {
        let chunk = self.free.pop()?;
        self.kept -= Chunk::footprint_of(limits.chunk_bytes);
        Some(chunk)
    }

    /// Keeps `chunk` warm, or returns it when it is one too many or of another size.
    #[inline(always)]
    fn keep(&mut self, chunk: Chunk, limits: &Limits) -> Option<Chunk> {
        let kept = self.kept + Chunk::footprint_of(limits.chunk_bytes);
        if chunk.capacity() != limits.chunk_bytes || kept > limits.keep_bytes {
            return Some(chunk);
        }
        self.kept = kept;
        self.free.push(chunk);
        None
    }

    /// Counts `bytes` as allocated, within the budget. Kept chunks that are in their way are
    /// returned, to be dropped.
    fn charge(&mut self, bytes: usize, limits: &Limits) -> Result<Stack> {
        let held = self.allocated - self.kept;
        if held.checked_add(bytes).is_none_or(|held| held > limits.max_bytes) {
            return Err(Errno::NO_BUFFERS);
        }
        let mut in_the_way = Stack::new();
        while self.allocated > limits.max_bytes - bytes {
            let chunk = self.free.pop().expect("what is held alone is within the budget");
            self.kept -= chunk.footprint();
            self.allocated -= chunk.footprint();
            in_the_way.push(chunk);
        }
        self.allocated += bytes;
        Ok(in_the_way)
    }
}
