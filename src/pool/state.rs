//! The free blocks and the counts of a pool: the part that a lock may guard.

use super::Limits;
use crate::block::Block;
use crate::block::chain::Stack;
use crate::errno::{Errno, Result};
use std::cell::Cell;

/// The most cached blocks of other than the usual size: large reservations are rare.
const MAX_ODD_SIZES: usize = 16;
/// A pool that has allocated BURST times its keep_bytes has seen a burst, which need not come again. From
/// then on it caches 1/AFTER_BURST of keep_bytes, until it holds less than half of the burst and allocates
/// again.
const BURST: usize = 8;
const AFTER_BURST: usize = 32;

/// Invariant: `allocated + pinned` plus the pool's shared payloads is at most `ceiling`, and `ceiling` is at
/// most `max_bytes`. With records beyond the budget, the sum is at most `beyond`.
pub(super) struct State {
    /// Blocks of `chunk_bytes` that no queue holds.
    cache: Stack,
    /// Cached blocks of other, larger sizes, and how many they are.
    odd_sizes: Stack,
    odd_count: Cell<usize>,
    /// What all cached blocks take from the system.
    pub(super) cached: Cell<usize>,
    /// The limit of `cached`.
    keep_bytes: Cell<usize>,
    /// What all blocks of this pool take from the system, cached or not.
    pub(super) allocated: Cell<usize>,
    /// Borrowed memory, until its owner is released.
    pub(super) pinned: Cell<usize>,
    /// The highest sum within the budget. A pin that stays below it needs no further checks.
    pub(super) ceiling: Cell<usize>,
    /// The highest sum with records beyond the budget.
    pub(super) beyond: Cell<usize>,
}

pub(super) fn add(count: &Cell<usize>, bytes: usize) {
    count.set(count.get() + bytes);
}

pub(super) fn subtract(count: &Cell<usize>, bytes: usize) {
    count.set(count.get() - bytes);
}

impl State {
    pub(super) const fn new(limits: &Limits) -> State {
        State {
            cache: Stack::new(),
            odd_sizes: Stack::new(),
            odd_count: Cell::new(0),
            cached: Cell::new(0),
            keep_bytes: Cell::new(limits.keep_bytes),
            allocated: Cell::new(0),
            pinned: Cell::new(0),
            ceiling: Cell::new(0),
            beyond: Cell::new(0),
        }
    }

    /// The cached block that was returned last.
    pub(super) fn take(&self, limits: &Limits) -> Option<Block> {
        let block = self.cache.pop()?;
        subtract(&self.cached, limits.chunk_bytes);
        Some(block)
    }

    /// A cached block that holds `bytes` and not much more. If there is none, the cached sizes may be out of
    /// use: then one of those blocks is returned as the error, to be dropped.
    pub(super) fn take_odd_size(&self, bytes: usize) -> std::result::Result<Block, Option<Block>> {
        let (passed, mut found) = (Stack::new(), None);
        while let Some(block) = self.odd_sizes.pop() {
            if (bytes..=bytes.saturating_mul(4)).contains(&block.capacity()) {
                found = Some(block);
                break;
            }
            passed.push(block);
        }
        while let Some(block) = passed.pop() {
            self.odd_sizes.push(block);
        }
        match found {
            Some(block) => {
                self.uncount_odd_size(&block);
                Ok(block)
            }
            None => Err(self.pop_odd_size()),
        }
    }

    /// Takes out the block of another size that was returned last. It does not count as allocated any more.
    fn pop_odd_size(&self) -> Option<Block> {
        let block = self.odd_sizes.pop()?;
        self.uncount_odd_size(&block);
        subtract(&self.allocated, block.footprint());
        Some(block)
    }

    fn uncount_odd_size(&self, block: &Block) {
        subtract(&self.cached, block.footprint());
        subtract(&self.odd_count, 1);
    }

    /// Caches `block`. Returns it if the cache is full or the block is of another size.
    pub(super) fn cache(&self, block: Block, limits: &Limits) -> Option<Block> {
        let cached = self.cached.get() + limits.chunk_bytes;
        if block.capacity() != limits.capacity() || cached > self.keep_bytes.get() {
            return Some(block);
        }
        self.cached.set(cached);
        self.cache.push(block);
        None
    }

    /// Counts a record of `footprint` bytes, whatever the budget.
    pub(super) fn allocate_beyond(&self, footprint: usize, shared: usize) {
        add(&self.allocated, footprint);
        let all = self.allocated.get() + self.pinned.get() + shared;
        self.beyond.set(self.beyond.get().max(all));
    }

    /// Caches a `block` that [`State::cache`] refused with those of other sizes, or returns it to be dropped.
    /// Then it does not count any more.
    pub(super) fn cache_odd_size(
        &self,
        block: Block,
        shared: usize,
        limits: &Limits,
    ) -> Option<Block> {
        let cached = self.cached.get() + block.footprint();
        let is_usual = block.capacity() == limits.capacity();
        // Memory beyond the budget is freed first.
        let is_over = self.is_full(0, shared, limits);
        let is_full = cached > self.keep_bytes.get() || self.odd_count.get() == MAX_ODD_SIZES;
        if is_usual || is_over || is_full {
            subtract(&self.allocated, block.footprint());
            return Some(block);
        }
        self.cached.set(cached);
        add(&self.odd_count, 1);
        self.odd_sizes.push(block);
        None
    }

    /// Counts `bytes` of borrowed memory, if the sum does not exceed the highest one so far.
    pub(super) fn pin(&self, bytes: usize, shared: usize) -> bool {
        // No overflow: both are at most NO_LIMIT, the one by the invariant, the other because no object is
        // larger.
        let pinned = self.pinned.get() + bytes;
        if self.allocated.get() + shared + pinned > self.ceiling.get() {
            return false;
        }
        self.pinned.set(pinned);
        true
    }

    /// Whether `bytes` more exceed the budget, unless cached blocks are freed.
    pub(super) fn is_full(&self, bytes: usize, shared: usize, limits: &Limits) -> bool {
        self.allocated.get() + self.pinned.get() + shared > limits.max_bytes.saturating_sub(bytes)
    }

    /// Makes room for `bytes` within the budget. Returns the cached blocks that have to be dropped for it.
    /// They do not count any more.
    pub(super) fn make_room(&self, bytes: usize, shared: usize, limits: &Limits) -> Result<Stack> {
        let pinned = self.pinned.get() + shared;
        let in_use = self.allocated.get() - self.cached.get() + pinned;
        if in_use.checked_add(bytes).is_none_or(|sum| sum > limits.max_bytes) {
            return Err(Errno::NO_BUFFERS);
        }
        let in_the_way = Stack::new();
        while self.allocated.get() + pinned > limits.max_bytes - bytes {
            if let Some(block) = self.pop_odd_size() {
                in_the_way.push(block);
                continue;
            }
            let block = self.take(limits).expect("what is in use alone is within the budget");
            subtract(&self.allocated, block.footprint());
            in_the_way.push(block);
        }
        Ok(in_the_way)
    }

    /// Updates the highest sum and the limit of the cache, after something was counted.
    pub(super) fn adapt(&self, shared: usize, limits: &Limits) {
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
