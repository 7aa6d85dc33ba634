//! The free blocks and the counts of a pool: the part that a lock may guard.

use super::class::{CLASSES, Class, Classes};
use super::{Admission, Limits, NO_LIMIT};
use crate::block::Block;
use crate::block::stack::Stack;
use crate::token_bucket::TokenBucket;
use std::cell::Cell;

/// The most cached blocks of other than the usual size: large reservations are rare.
const MAX_ODD_SIZES: usize = 16;
/// A pool that has allocated BURST times its keep_bytes has seen a burst, which need not come again. From
/// then on it caches 1/AFTER_BURST of keep_bytes, until it holds less than half of the burst and allocates
/// again.
const BURST: usize = 8;
const AFTER_BURST: usize = 32;

/// Invariant: `allocated + pinned` plus the pool's shared payloads is at most `ceiling`, and `ceiling` is at
/// most `max_bytes`. With what is forced beyond the budget, the sum is at most `beyond`.
pub(super) struct State {
    /// Blocks of the classes that no queue holds.
    cache: [Stack; CLASSES],
    /// Cached blocks of other, larger sizes, and how many they are.
    odd_sizes: Stack,
    odd_count: Cell<usize>,
    /// What all cached blocks take from the system.
    pub(super) cached: Cell<usize>,
    /// The limit of `cached`: 0 while the budget is exceeded.
    keep_bytes: Cell<usize>,
    /// What all blocks of this pool take from the system, cached or not.
    pub(super) allocated: Cell<usize>,
    /// Borrowed memory, until its owner is released.
    pub(super) pinned: Cell<usize>,
    /// The highest sum within the budget. A pin that stays below it needs no further checks.
    pub(super) ceiling: Cell<usize>,
    /// The highest sum with what is forced beyond the budget.
    pub(super) beyond: Cell<usize>,
    /// The rate of all queues together.
    pub(super) bucket: Cell<Option<TokenBucket>>,
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
            cache: [const { Stack::new() }; CLASSES],
            odd_sizes: Stack::new(),
            odd_count: Cell::new(0),
            cached: Cell::new(0),
            keep_bytes: Cell::new(limits.keep_bytes),
            allocated: Cell::new(0),
            pinned: Cell::new(0),
            ceiling: Cell::new(0),
            beyond: Cell::new(0),
            bucket: Cell::new(None),
        }
    }

    /// The cached block of `class` that was returned last.
    #[inline(always)]
    pub(super) fn take(&self, class: Class) -> Option<Block> {
        let block = self.cache[class.index()].pop()?;
        subtract(&self.cached, block.footprint());
        Some(block)
    }

    /// Takes out a cached block, a large one first. It does not count as allocated any more.
    fn pop(&self) -> Option<Block> {
        self.pop_odd_size().or_else(|| {
            let block = Class::all().rev().find_map(|class| self.take(class))?;
            subtract(&self.allocated, block.footprint());
            Some(block)
        })
    }

    /// Moves cached blocks to `unused`, so that the cache has room for a block of `footprint` bytes, of whose
    /// size it has none: what it has may be of sizes that are out of use.
    pub(super) fn evict(&self, footprint: usize, unused: &Stack) {
        while self.cached.get() + footprint > self.keep_bytes.get() {
            let Some(block) = self.pop() else { return };
            unused.push(block);
        }
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
    #[inline(always)]
    pub(super) fn cache(&self, block: Block, classes: &Classes) -> Option<Block> {
        let cached = self.cached.get() + block.footprint();
        match classes.usual(block.capacity()) {
            Some(class) if cached <= self.keep_bytes.get() => {
                self.cached.set(cached);
                self.cache[class.index()].push(block);
                None
            }
            _ => Some(block),
        }
    }

    /// Caches a `block` that [`State::cache`] refused with those of other sizes, if it `may`, or returns it to
    /// be dropped. Then it does not count any more.
    pub(super) fn cache_odd_size(
        &self,
        block: Block,
        may: bool,
        shared: usize,
        limits: &Limits,
    ) -> Option<Block> {
        let footprint = block.footprint();
        let cached = self.cached.get() + footprint;
        // Memory beyond the budget is freed first.
        let is_over = self.is_full(0, shared, limits);
        let is_full = cached > self.keep_bytes.get() || self.odd_count.get() == MAX_ODD_SIZES;
        if !may || is_over || is_full {
            subtract(&self.allocated, footprint);
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

    /// Makes room for `bytes`, and returns whether there is: within the budget, unless they are forced. Moves
    /// the cached blocks that are in the way to `in_the_way`; they do not count any more.
    pub(super) fn make_room(
        &self,
        bytes: usize,
        shared: usize,
        admission: Admission,
        limits: &Limits,
        in_the_way: &Stack,
    ) -> bool {
        let most = if admission == Admission::Forced { NO_LIMIT } else { limits.max_bytes };
        let in_use = self.allocated.get() - self.cached.get() + self.pinned.get() + shared;
        let has_room = in_use.checked_add(bytes).is_some_and(|sum| sum <= most);
        while has_room && self.is_full(bytes, shared, limits) {
            let Some(block) = self.pop() else { break };
            in_the_way.push(block);
        }
        has_room
    }

    /// Updates the highest sum and the limit of the cache, after something was counted. Returns whether the sum
    /// is within the budget.
    pub(super) fn adapt(&self, shared: usize, limits: &Limits) -> bool {
        let allocated = self.allocated.get();
        let all = allocated + self.pinned.get() + shared;
        if all > limits.max_bytes {
            self.beyond.set(self.beyond.get().max(all));
            self.keep_bytes.set(0);
            return false;
        }
        self.ceiling.set(self.ceiling.get().max(all));
        let burst = limits.keep_bytes.saturating_mul(BURST);
        if allocated > burst {
            self.keep_bytes.set(limits.keep_bytes / AFTER_BURST);
        } else if allocated <= burst / 2 {
            self.keep_bytes.set(limits.keep_bytes);
        }
        true
    }

    /// Returns whether the sum is within the budget, after memory was returned. If it is again, blocks are
    /// cached again.
    pub(super) fn recover(&self, shared: usize, limits: &Limits) -> bool {
        let is_within = !self.is_full(0, shared, limits);
        if is_within && self.keep_bytes.get() == 0 {
            self.keep_bytes.set(limits.keep_bytes);
        }
        is_within
    }
}
