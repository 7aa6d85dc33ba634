//! Memory and the byte budget that many queues share.

pub mod class;
mod state;

use crate::allocator::Allocator;
use crate::block::stack::{AtomicCell, Stack};
use crate::block::{Block, HEADER};
use crate::clock::Clock;
use crate::errno::{Errno, Result};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::token_bucket::TokenBucket;
use class::{CLASSES, Class, Classes};
use state::{State, add, subtract};
use std::hint::black_box;

/// The default of chunk_bytes, the size of the largest usual blocks: a page.
pub const BLOCK_BYTES: usize = 4 * 1024;
/// The default of keep_bytes, the size of the cache of free blocks.
pub const CACHE_BYTES: usize = 4 * 1024 * 1024;
/// The smallest chunk_bytes: the first class of blocks.
pub const MIN_BLOCK_BYTES: usize = class::FIRST_BLOCK_BYTES;
/// An append above this first tries to allocate all of it in one piece, and returns that. Kernels that
/// overcommit memory grant any number of blocks, and kill the process when these are touched. But they refuse
/// one block that is larger than the machine's memory (proc(5), overcommit_memory).
const PROBE_BYTES: usize = 256 * 1024 * 1024;
/// No budget: half the range, so that the sum of two counts cannot overflow.
pub const NO_LIMIT: usize = isize::MAX as usize;

/// The configuration of a pool.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The budget for blocks, including free ones, and pinned memory together. Only what is
    /// [`Admission::Forced`] may exceed it.
    pub max_bytes: usize,
    /// What a block of the largest class takes.
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
}

/// Whether the budget may refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Budget,
    /// It is exceeded if need be. What exceeds it is freed when it is returned.
    Forced,
}

/// Memory and the byte budget that many queues share.
pub struct Pool {
    limits: Limits,
    classes: Classes,
    state: Guard,
    allocator: Allocator,
    /// In a thread-safe pool: the block of each class that was returned last, so that a queue that fills and
    /// drains again and again takes no lock for it. It counts as allocated, not as cached.
    last_given: [AtomicCell; CLASSES],
    /// Whether these are part of the cache, and whether they are in use: not while the budget is exceeded.
    has_last_given: bool,
    uses_last_given: AtomicBool,
    /// Shared payloads charged to this pool. Not part of the state, because any thread may unreference the
    /// last one, whatever the pool is.
    shared: AtomicUsize,
    /// Whether a rate limits all queues together.
    has_rate: AtomicBool,
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

impl Usage {
    /// All that counts against the budget.
    pub fn sum(&self) -> u64 {
        (self.used + self.free + self.pinned + self.shared) as u64
    }
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
        // `last_given` is part of the cache: 1 + 1/4 + 1/16 ... of the largest block.
        let last_given = 2 * limits.chunk_bytes;
        let has_last_given = limits.keep_bytes >= last_given;
        if has_last_given {
            limits.keep_bytes -= last_given;
        }
        let state = Guard::Shared(Mutex::new(State::new(&limits)));
        Pool::new(limits, state, has_last_given, clock)
    }

    const fn new(limits: Limits, state: Guard, has_last_given: bool, clock: Clock) -> Pool {
        Pool {
            limits,
            classes: Classes::up_to(limits.chunk_bytes),
            state,
            allocator: Allocator::SYSTEM,
            last_given: [const { AtomicCell::new() }; CLASSES],
            has_last_given,
            uses_last_given: AtomicBool::new(has_last_given),
            shared: AtomicUsize::new(0),
            has_rate: AtomicBool::new(false),
            clock,
        }
    }

    /// The same pool, whose blocks come from `allocator`.
    pub fn with_allocator(self, allocator: Allocator) -> Pool {
        Pool { allocator, ..self }
    }

    /// Whether any thread may use it.
    pub const fn is_shared(&self) -> bool {
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

    /// Limits the rate of all queues together to `per_second`; 0: no limit.
    pub fn set_rate(&self, per_second: u64, burst: u64) {
        let now = self.now();
        self.state.with_locked(|state| {
            let bucket = TokenBucket::replace(state.bucket.get(), per_second, burst, now);
            state.bucket.set(bucket);
        });
        self.has_rate.store(per_second > 0, Ordering::Relaxed);
    }

    /// Whether a rate limits all queues together.
    pub fn has_rate(&self) -> bool {
        self.has_rate.load(Ordering::Relaxed)
    }

    /// How many bytes the rate allows to be sent now.
    #[cold]
    #[inline(never)]
    pub fn rate_allowance(&self) -> u64 {
        self.with_bucket(|bucket, now| bucket.allows(now)).unwrap_or(u64::MAX)
    }

    /// `len` bytes were sent.
    #[cold]
    #[inline(never)]
    pub fn spend_rate(&self, len: u64) {
        self.with_bucket(|bucket, now| bucket.spend(len, now));
    }

    /// Nanoseconds until the rate allows enough of `waiting` bytes to be worth a call.
    pub fn rate_wait_ns(&self, waiting: u64) -> u64 {
        if !self.has_rate() {
            return 0;
        }
        self.with_bucket(|bucket, now| bucket.wait(waiting, now)).unwrap_or(0)
    }

    fn with_bucket<R>(&self, f: impl FnOnce(&mut TokenBucket, u64) -> R) -> Option<R> {
        let now = self.now();
        self.state.with_locked(|state| {
            let mut bucket = state.bucket.get()?;
            let result = f(&mut bucket, now);
            state.bucket.set(Some(bucket));
            Some(result)
        })
    }

    /// What it holds.
    pub fn usage(&self) -> Usage {
        let shared = self.shared.load(Ordering::Relaxed);
        let filled = Class::all().filter(|class| self.last_given[class.index()].is_filled());
        let last_given: usize = filled.map(|class| self.classes.footprint(class)).sum();
        self.state.with_locked(|state| Usage {
            max: self.limits.max_bytes,
            used: (state.allocated.get() - state.cached.get()).saturating_sub(last_given),
            free: state.cached.get() + last_given,
            pinned: state.pinned.get(),
            shared,
            peak: state.ceiling.get().max(state.beyond.get()),
        })
    }

    /// A block of `class`.
    ///
    /// NO_BUFFERS: the budget is spent. NO_MEMORY: the allocator has none.
    #[inline(always)]
    pub fn take(&self, class: Class, admission: Admission) -> Result<Block> {
        let block = match &self.state {
            Guard::Confined(state) => state.take(class),
            Guard::Shared(state) => self.take_shared(class, state),
        };
        match block {
            Some(block) => Ok(block),
            None => self.allocate(self.classes.footprint(class), admission),
        }
    }

    #[inline(never)]
    fn take_shared(&self, class: Class, state: &Mutex<State>) -> Option<Block> {
        self.last_given[class.index()].take().or_else(|| state.lock().take(class))
    }

    /// One block that holds at least `bytes`. Errors as for [`Pool::take`].
    pub fn take_contiguous(&self, bytes: usize, admission: Admission) -> Result<Block> {
        if bytes <= self.capacity() {
            return self.take(self.class_for(bytes), admission);
        }
        match self.state.with_locked(|state| state.take_odd_size(bytes)) {
            Ok(block) => return Ok(block),
            // Outside the lock: freeing may be a system call.
            Err(stale) => drop(stale),
        }
        self.allocate(footprint(bytes)?, admission)
    }

    /// Bytes that a block of the largest class holds.
    pub fn capacity(&self) -> usize {
        self.classes.capacity(self.classes.last())
    }

    /// Bytes that a block of `class` holds.
    #[inline(always)]
    pub fn capacity_of(&self, class: Class) -> usize {
        self.classes.capacity(class)
    }

    /// The smallest class whose blocks hold `bytes`, or the largest if none does.
    pub fn class_for(&self, bytes: usize) -> Class {
        self.classes.class_for(bytes)
    }

    /// The class after `class`, or the largest.
    pub fn larger(&self, class: Class) -> Class {
        self.classes.larger(class)
    }

    /// What a block of [`Pool::take_contiguous`] takes. NO_MEMORY: no block is so large.
    pub fn contiguous_footprint(&self, bytes: usize) -> Result<usize> {
        if bytes <= self.capacity() {
            return Ok(self.classes.footprint(self.class_for(bytes)));
        }
        footprint(bytes)
    }

    /// What the blocks of [`Pool::take_many`] take together, at most usize::MAX.
    pub fn footprint_of_many(&self, bytes: usize, unused: usize) -> usize {
        bytes.div_ceil(self.capacity() - unused).saturating_mul(self.limits.chunk_bytes)
    }

    /// Blocks of the largest class that hold at least `bytes` together, or none at all, if `unused` bytes of
    /// each may not be used. Errors as for [`Pool::take`].
    pub fn take_many(&self, bytes: usize, unused: usize, admission: Admission) -> Result<Stack> {
        if bytes > PROBE_BYTES && self.allocator.is_system() {
            // black_box: the compiler removes an allocation that is not used, and then it never fails.
            let mut probe = Vec::<u8>::new();
            let granted = probe.try_reserve_exact(bytes);
            black_box(&probe);
            granted.map_err(|_| Errno::NO_MEMORY)?;
        }
        let (blocks, mut space) = (Stack::new(), 0);
        while space < bytes {
            match self.take(self.classes.last(), admission) {
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

    /// How many bytes the blocks hold that one append may take: within the budget, or within `reserve` bytes
    /// beyond it if that is more.
    pub fn remaining(&self, reserve: usize) -> usize {
        let Usage { max, used, pinned, shared, .. } = self.usage();
        let free = max.saturating_sub(used + pinned + shared).max(reserve);
        let fits = |class: &Class| self.classes.footprint(*class) <= free;
        match free / self.limits.chunk_bytes {
            0 => Class::all().rev().find(fits).map_or(0, |class| self.classes.capacity(class)),
            blocks => blocks.saturating_mul(self.capacity()),
        }
    }

    /// Moves the charge for `allocated` bytes of blocks and `pinned` bytes of borrowed memory from the pool
    /// `from` to this one.
    ///
    /// NO_BUFFERS: over the budget; nothing has changed.
    pub fn adopt(
        &self,
        from: &Pool,
        allocated: usize,
        pinned: usize,
        admission: Admission,
    ) -> Result<()> {
        if std::ptr::eq(self, from) {
            return Ok(());
        }
        let all = allocated.checked_add(pinned).ok_or(Errno::NO_BUFFERS)?;
        self.charge(all, admission, |state| {
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
    #[inline(always)]
    pub fn give(&self, block: Block) {
        if *block.allocator() != self.allocator {
            return self.free(block);
        }
        let surplus = match &self.state {
            Guard::Confined(state) => state.cache(block, &self.classes),
            Guard::Shared(state) => self.give_shared(block, state),
        };
        if let Some(block) = surplus {
            self.free(block);
        }
    }

    #[inline(never)]
    fn give_shared(&self, block: Block, state: &Mutex<State>) -> Option<Block> {
        let block = match self.classes.usual(block.capacity()) {
            Some(class) if self.uses_last_given.load(Ordering::Relaxed) => {
                self.last_given[class.index()].put(block)?
            }
            _ => block,
        };
        state.lock().cache(block, &self.classes)
    }

    #[cold]
    #[inline(never)]
    fn free(&self, block: Block) {
        let is_own = *block.allocator() == self.allocator;
        let surplus = self.state.with_locked(|state| {
            let shared = self.shared.load(Ordering::Relaxed);
            let may_cache = is_own && self.classes.usual(block.capacity()).is_none();
            let surplus = state.cache_odd_size(block, may_cache, shared, &self.limits);
            self.use_last_given(state.recover(shared, &self.limits));
            surplus
        });
        // Outside the lock: freeing may be a system call.
        drop(surplus);
    }

    /// Charges `bytes` of borrowed memory. NO_BUFFERS: the budget is spent.
    #[inline(always)]
    pub fn pin(&self, bytes: usize, admission: Admission) -> Result<()> {
        if bytes == 0 { Ok(()) } else { self.pin_some(bytes, admission) }
    }

    #[inline(always)]
    fn pin_some(&self, bytes: usize, admission: Admission) -> Result<()> {
        // Loaded under the lock, which pin_shared() holds as well.
        let pin = |state: &State| state.pin(bytes, self.shared.load(Ordering::Relaxed));
        if self.state.with_locked(pin) {
            return Ok(());
        }
        self.charge(bytes, admission, |state| add(&state.pinned, bytes))
    }

    /// `bytes` of borrowed memory were released.
    pub fn unpin(&self, bytes: usize) {
        if bytes > 0 {
            self.state.with_locked(|state| subtract(&state.pinned, bytes));
        }
    }

    /// Charges a shared payload. NO_BUFFERS: the budget is spent.
    pub fn pin_shared(&self, bytes: usize) -> Result<()> {
        self.charge(bytes, Admission::Budget, |_| {
            self.shared.fetch_add(bytes, Ordering::Relaxed);
        })
    }

    /// A shared payload was freed. Any thread may call this, whatever the pool is.
    pub fn unpin_shared(&self, bytes: usize) {
        self.shared.fetch_sub(bytes, Ordering::Relaxed);
    }

    #[cold]
    #[inline(never)]
    fn allocate(&self, footprint: usize, admission: Admission) -> Result<Block> {
        let unused = Stack::new();
        self.charge(footprint, admission, |state| {
            add(&state.allocated, footprint);
            state.evict(footprint, &unused);
        })?;
        // Outside the lock: these may be system calls.
        drop(unused);
        Block::allocate(footprint, &self.allocator).ok_or_else(|| {
            self.state.with_locked(|state| subtract(&state.allocated, footprint));
            Errno::NO_MEMORY
        })
    }

    /// Charges `bytes` more through `count`, if they are within the budget or [`Admission::Forced`]. Cached
    /// blocks are freed to make room.
    #[cold]
    #[inline(never)]
    fn charge(&self, bytes: usize, admission: Admission, count: impl FnOnce(&State)) -> Result<()> {
        let in_the_way = Stack::new();
        self.state.with_locked(|state| {
            let shared = self.shared.load(Ordering::Relaxed);
            if state.is_full(bytes, shared, &self.limits) {
                // They are freed before the blocks of the cache.
                for block in self.last_given.iter().filter_map(AtomicCell::take) {
                    subtract(&state.allocated, block.footprint());
                    in_the_way.push(block);
                }
            }
            if !state.make_room(bytes, shared, admission, &self.limits, &in_the_way) {
                return Err(Errno::NO_BUFFERS);
            }
            count(state);
            self.use_last_given(state.adapt(self.shared.load(Ordering::Relaxed), &self.limits));
            Ok(())
        })
        // Outside the lock, `in_the_way` is freed: that may be a system call.
    }

    /// Uses `last_given` or not. The lock of the state is held.
    fn use_last_given(&self, is_within: bool) {
        self.uses_last_given.store(self.has_last_given && is_within, Ordering::Relaxed);
    }
}
