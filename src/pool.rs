//! Memory and the byte budget that many queues share.

mod state;

use crate::block::chain::{AtomicCell, Stack};
use crate::block::{Block, HEADER};
use crate::clock::Clock;
use crate::errno::{Errno, Result};
use parking_lot::Mutex;
use state::{State, add, subtract};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The default of chunk_bytes, the size of a block: a page.
pub const BLOCK_BYTES: usize = 4 * 1024;
/// The default of keep_bytes, the size of the cache of free blocks.
pub const CACHE_BYTES: usize = 4 * 1024 * 1024;
/// The smallest block: below it the header and the slots outweigh the bytes.
pub const MIN_BLOCK_BYTES: usize = 256;
/// An append above this first tries to allocate all of it in one piece, and returns that. Kernels that
/// overcommit memory grant any number of blocks, and kill the process when these are touched. But they refuse
/// one block that is larger than the machine's memory (proc(5), overcommit_memory).
const PROBE_BYTES: usize = 256 * 1024 * 1024;
/// No budget: half the range, so that the sum of two counts cannot overflow.
pub const NO_LIMIT: usize = isize::MAX as usize;

/// The configuration of a pool.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The budget for blocks, including free ones, and pinned memory together. Only [`Pool::take_record`] may
    /// exceed it.
    pub max_bytes: usize,
    /// Bytes that each block takes.
    pub chunk_bytes: usize,
    /// Free blocks are cached up to this many bytes. Above it memory returns to the system.
    pub keep_bytes: usize,
}

impl Limits {
    /// The defaults: no budget.
    pub const DEFAULT: Limits =
        Limits { max_bytes: NO_LIMIT, chunk_bytes: BLOCK_BYTES, keep_bytes: CACHE_BYTES };

    /// The same, with the block size rounded as blocks need it.
    const fn rounded(self) -> Limits {
        match Block::rounded(self.chunk_bytes) {
            Some(chunk_bytes) => Limits { chunk_bytes, ..self },
            None => self,
        }
    }

    /// Bytes that a block of the usual size holds.
    fn capacity(&self) -> usize {
        self.chunk_bytes - HEADER
    }
}

/// Memory and the byte budget that many queues share.
pub struct Pool {
    limits: Limits,
    state: Guard,
    /// In a thread-safe pool: the block that was returned last, so that a queue that fills and drains again
    /// and again takes no lock for it. It counts as allocated, not as cached.
    last_given: AtomicCell,
    has_last_given: bool,
    /// Shared payloads charged to this pool. Not part of the state, because any thread may unreference the
    /// last one, whatever the pool is.
    shared: AtomicUsize,
    clock: Clock,
}

/// What a block that holds `bytes` takes from the system. NO_MEMORY: no block is so large.
fn footprint(bytes: usize) -> Result<usize> {
    bytes.checked_add(HEADER).and_then(Block::rounded).ok_or(Errno::NO_MEMORY)
}

/// What a pool holds, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// The budget.
    pub max: usize,
    /// Blocks that queues hold.
    pub used: usize,
    /// Blocks that are cached.
    pub free: usize,
    /// Borrowed memory.
    pub pinned: usize,
    /// Shared payloads.
    pub shared: usize,
    /// The highest sum of all these.
    pub peak: usize,
}

/// The state, used by one thread at a time at no cost, or by any thread under a lock.
enum Guard {
    Confined(State),
    Shared(Mutex<State>),
}

impl Guard {
    fn with_locked<R>(&self, f: impl FnOnce(&State) -> R) -> R {
        match self {
            Guard::Confined(state) => f(state),
            Guard::Shared(state) => f(&state.lock()),
        }
    }
}

impl Pool {
    /// A pool for one thread at a time.
    pub const fn confined(limits: Limits, clock: Clock) -> Pool {
        let limits = limits.rounded();
        Pool::new(limits, Guard::Confined(State::new(&limits)), false, clock)
    }

    /// A pool for any thread.
    pub const fn shared(limits: Limits, clock: Clock) -> Pool {
        let mut limits = limits.rounded();
        // `last_given` is part of the cache.
        let has_last_given = limits.keep_bytes >= limits.chunk_bytes;
        if has_last_given {
            limits.keep_bytes -= limits.chunk_bytes;
        }
        let state = Guard::Shared(Mutex::new(State::new(&limits)));
        Pool::new(limits, state, has_last_given, clock)
    }

    const fn new(limits: Limits, state: Guard, has_last_given: bool, clock: Clock) -> Pool {
        Pool {
            limits,
            state,
            last_given: AtomicCell::new(),
            has_last_given,
            shared: AtomicUsize::new(0),
            clock,
        }
    }

    /// Whether any thread may use it.
    pub fn is_shared(&self) -> bool {
        matches!(self.state, Guard::Shared(_))
    }

    /// The time.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The time, in nanoseconds.
    pub fn now(&self) -> u64 {
        self.clock.now()
    }

    /// What it holds.
    pub fn usage(&self) -> Usage {
        let shared = self.shared.load(Ordering::Relaxed);
        let last_given = if self.last_given.is_filled() { self.limits.chunk_bytes } else { 0 };
        self.state.with_locked(|state| Usage {
            max: self.limits.max_bytes,
            used: (state.allocated.get() - state.cached.get()).saturating_sub(last_given),
            free: state.cached.get() + last_given,
            pinned: state.pinned.get(),
            shared,
            peak: state.ceiling.get().max(state.beyond.get()),
        })
    }

    /// A block of the usual size.
    ///
    /// NO_BUFFERS: the budget is spent. NO_MEMORY: the system has none.
    #[inline(always)]
    pub fn take(&self) -> Result<Block> {
        let block = match &self.state {
            Guard::Confined(state) => state.take(&self.limits),
            Guard::Shared(state) => self.take_shared(state),
        };
        match block {
            Some(block) => Ok(block),
            None => self.allocate(self.limits.chunk_bytes),
        }
    }

    #[inline(never)]
    fn take_shared(&self, state: &Mutex<State>) -> Option<Block> {
        self.last_given.take().or_else(|| state.lock().take(&self.limits))
    }

    /// One block that holds at least `bytes`. Errors as for [`Pool::take`].
    pub fn take_contiguous(&self, bytes: usize) -> Result<Block> {
        if bytes <= self.limits.capacity() {
            return self.take();
        }
        match self.state.with_locked(|state| state.take_odd_size(bytes)) {
            Ok(block) => return Ok(block),
            // Outside the lock: freeing may be a system call.
            Err(stale) => drop(stale),
        }
        self.allocate(footprint(bytes)?)
    }

    /// [`Pool::take_contiguous`] for a record that a sink has to be offered. The budget does not refuse it:
    /// the bytes are queued already, and there may be no other way to send them. NO_MEMORY.
    pub fn take_record(&self, bytes: usize) -> Result<Block> {
        match self.take_contiguous(bytes) {
            Err(Errno::NO_BUFFERS) => self.take_beyond(bytes),
            result => result,
        }
    }

    /// Bytes that a block of the usual size holds.
    pub fn capacity(&self) -> usize {
        self.limits.capacity()
    }

    /// A block for `bytes`, beyond the budget. It is not of the usual size: blocks of that size are cached
    /// when they are returned, so that the budget would stay exceeded.
    fn take_beyond(&self, bytes: usize) -> Result<Block> {
        let footprint = match footprint(bytes)? {
            usual if usual == self.limits.chunk_bytes => footprint(usual)?,
            odd => odd,
        };
        let block = Block::allocate(footprint).ok_or(Errno::NO_MEMORY)?;
        self.state.with_locked(|state| {
            state.allocate_beyond(footprint, self.shared.load(Ordering::Relaxed));
        });
        Ok(block)
    }

    /// Blocks that hold at least `bytes` together, or none at all, if `unused` bytes of each may not be used.
    /// Errors as for [`Pool::take`].
    pub fn take_many(&self, bytes: usize, unused: usize) -> Result<Stack> {
        if bytes > PROBE_BYTES {
            // black_box: the compiler removes an allocation that is not used, and then it never fails.
            let mut probe = Vec::<u8>::new();
            let granted = probe.try_reserve_exact(bytes);
            black_box(&probe);
            granted.map_err(|_| Errno::NO_MEMORY)?;
        }
        let (blocks, mut space) = (Stack::new(), 0);
        while space < bytes {
            match self.take() {
                Ok(block) => {
                    space += block.capacity() - unused;
                    blocks.push(block);
                }
                Err(errno) => {
                    while let Some(block) = blocks.pop() {
                        self.give(block);
                    }
                    return Err(errno);
                }
            }
        }
        Ok(blocks)
    }

    /// Moves the charge for `allocated` bytes of blocks and `pinned` bytes of borrowed memory from the pool
    /// `from` to this one.
    ///
    /// NO_BUFFERS: over the budget; nothing has changed.
    pub fn adopt(&self, from: &Pool, allocated: usize, pinned: usize) -> Result<()> {
        if std::ptr::eq(self, from) {
            return Ok(());
        }
        let all = allocated.checked_add(pinned).ok_or(Errno::NO_BUFFERS)?;
        self.charge(all, |state| {
            add(&state.allocated, allocated);
            add(&state.pinned, pinned);
        })?;
        from.state.with_locked(|state| {
            subtract(&state.allocated, allocated);
            subtract(&state.pinned, pinned);
        });
        Ok(())
    }

    /// Takes a block back.
    pub fn give(&self, block: Block) {
        let surplus = match &self.state {
            Guard::Confined(state) => state.cache(block, &self.limits),
            Guard::Shared(state) => self.give_shared(block, state),
        };
        if let Some(block) = surplus {
            self.free(block);
        }
    }

    #[inline(never)]
    fn give_shared(&self, block: Block, state: &Mutex<State>) -> Option<Block> {
        let is_usual = block.capacity() == self.limits.capacity();
        let block =
            if self.has_last_given && is_usual { self.last_given.put(block)? } else { block };
        state.lock().cache(block, &self.limits)
    }

    #[cold]
    #[inline(never)]
    fn free(&self, block: Block) {
        let block = self.state.with_locked(|state| {
            state.cache_odd_size(block, self.shared.load(Ordering::Relaxed), &self.limits)
        });
        // Outside the lock: freeing may be a system call.
        drop(block);
    }

    /// Charges `bytes` of borrowed memory. NO_BUFFERS: the budget is spent.
    #[inline(always)]
    pub fn pin(&self, bytes: usize) -> Result<()> {
        if bytes == 0 { Ok(()) } else { self.pin_some(bytes) }
    }

    #[inline(never)]
    fn pin_some(&self, bytes: usize) -> Result<()> {
        // Loaded under the lock, which pin_shared() holds as well.
        let pin = |state: &State| state.pin(bytes, self.shared.load(Ordering::Relaxed));
        if self.state.with_locked(pin) {
            return Ok(());
        }
        self.charge(bytes, |state| add(&state.pinned, bytes))
    }

    /// `bytes` of borrowed memory were released.
    pub fn unpin(&self, bytes: usize) {
        if bytes > 0 {
            self.state.with_locked(|state| subtract(&state.pinned, bytes));
        }
    }

    /// Charges a shared payload. NO_BUFFERS: the budget is spent.
    pub fn pin_shared(&self, bytes: usize) -> Result<()> {
        self.charge(bytes, |_| {
            self.shared.fetch_add(bytes, Ordering::Relaxed);
        })
    }

    /// A shared payload was freed. Any thread may call this, whatever the pool is.
    pub fn unpin_shared(&self, bytes: usize) {
        self.shared.fetch_sub(bytes, Ordering::Relaxed);
    }

    #[cold]
    #[inline(never)]
    fn allocate(&self, footprint: usize) -> Result<Block> {
        self.charge(footprint, |state| add(&state.allocated, footprint))?;
        // Outside the lock: this may be a system call.
        Block::allocate(footprint).ok_or_else(|| {
            self.state.with_locked(|state| subtract(&state.allocated, footprint));
            Errno::NO_MEMORY
        })
    }

    /// Charges `bytes` more through `count`, if they are within the budget. Cached blocks are freed to make
    /// room.
    #[cold]
    #[inline(never)]
    fn charge(&self, bytes: usize, count: impl FnOnce(&State)) -> Result<()> {
        let mut last_given = None;
        let in_the_way = self.state.with_locked(|state| {
            let shared = self.shared.load(Ordering::Relaxed);
            if state.is_full(bytes, shared, &self.limits) {
                // It is freed before the blocks of the cache.
                last_given = self.last_given.take();
                subtract(&state.allocated, last_given.as_ref().map_or(0, Block::footprint));
            }
            let in_the_way = state.make_room(bytes, shared, &self.limits)?;
            count(state);
            state.adapt(self.shared.load(Ordering::Relaxed), &self.limits);
            Ok(in_the_way)
        })?;
        // Outside the lock: freeing may be a system call.
        drop((in_the_way, last_given));
        Ok(())
    }
}
