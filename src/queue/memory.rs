//! The memory that a queue holds: blocks of its pool, borrowed memory, and shared payloads. Which blocks it
//! takes, and what the budget may not refuse.

use super::{CONTINUING, Queue};
use crate::block::{Block, SLOT};
use crate::errno::{Errno, Result};
use crate::pool::class::Class;
use crate::pool::{Admission, Pool};

/// How large the last burst was. A burst is what is queued between two moments when nothing is. Its first block
/// is of this class. Each further block is of the next one, and the next burst begins with the class that this
/// one ended with, or with a smaller one if all of it would have fitted into one such block.
///
/// The index of the class, and HAS_GROWN once this burst has needed more than one block.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct BurstSize(u8);

const HAS_GROWN: u8 = 0x80;

impl BurstSize {
    pub(super) const SMALLEST: BurstSize = BurstSize(0);

    fn new(class: Class, has_grown: bool) -> BurstSize {
        BurstSize(class.index() as u8 | if has_grown { HAS_GROWN } else { 0 })
    }

    #[inline(always)]
    fn class(self) -> Class {
        Class::at(self.0 & !HAS_GROWN)
    }

    /// The size of the next burst, after one that has grown or else has used `used` bytes of one block.
    fn after(self, used: usize, pool: &Pool) -> BurstSize {
        let class = self.0 & !HAS_GROWN;
        let smaller = Class::at(class.saturating_sub(1));
        let is_smaller = self.0 & HAS_GROWN == 0 && used <= pool.capacity_of(smaller);
        BurstSize::new(if is_smaller { smaller } else { self.class() }, false)
    }
}

impl Queue {
    /// Bytes that it holds: whole blocks, borrowed memory until its owner is released, and the whole length of
    /// the parts of shared payloads.
    pub fn held(&self) -> u64 {
        self.held
    }

    /// Runs `take`, which takes `needed` bytes of memory: within the budget, or beyond it if no more than
    /// `reserve` bytes are held then, or if they belong to a message that has begun to leave.
    #[inline(always)]
    pub(super) fn within_reserve<R>(
        &self,
        needed: usize,
        take: impl Fn(Admission) -> Result<R>,
    ) -> Result<R> {
        match take(Admission::Budget) {
            Err(Errno::NO_BUFFERS) => self.within_reserve_slow(needed, take),
            result => result,
        }
    }

    #[cold]
    fn within_reserve_slow<R>(
        &self,
        needed: usize,
        take: impl Fn(Admission) -> Result<R>,
    ) -> Result<R> {
        let is_reserved = self.held.saturating_add(needed as u64) <= self.policy.reserve();
        if is_reserved || self.flags.any(CONTINUING) {
            take(Admission::Forced)
        } else {
            Err(Errno::NO_BUFFERS)
        }
    }

    /// The class of the next block.
    #[inline(always)]
    fn next_class(&mut self, pool: &Pool) -> Class {
        let class = self.burst.class();
        if self.stream.is_empty() {
            return class;
        }
        let larger = pool.larger(class);
        self.burst = BurstSize::new(larger, true);
        larger
    }

    /// Adds blocks for `len` bytes behind the last one, or none. `with_slots`: a slot that does not fit at the
    /// end of a block leaves its space unused. NO_BUFFERS, NO_MEMORY.
    #[inline(always)]
    pub(super) fn add_blocks(&mut self, pool: &Pool, len: usize, with_slots: bool) -> Result<()> {
        let class = self.next_class(pool);
        if len > pool.capacity_of(class) {
            return self.add_larger_blocks(pool, len, with_slots);
        }
        let block = self.take_block(pool, class, len)?;
        self.stream.add_block(block);
        Ok(())
    }

    #[inline(never)]
    fn add_larger_blocks(&mut self, pool: &Pool, len: usize, with_slots: bool) -> Result<()> {
        if len > pool.capacity() {
            return self.add_several_blocks(pool, len, with_slots);
        }
        let block = self.take_larger_block(pool, len)?;
        self.stream.add_block(block);
        Ok(())
    }

    /// Takes a block of the smallest class. NO_BUFFERS, NO_MEMORY.
    pub(super) fn take_spare(&mut self, pool: &Pool) -> Result<Block> {
        self.take_contiguous(pool, 0)
    }

    /// Returns the spare block, if no slot is behind a cork that it is for.
    pub(super) fn give_spare(&mut self, pool: &Pool) {
        if let Some(spare) = self.stream.take_spare() {
            self.give(pool, spare);
        }
    }

    /// Takes one block for `len` bytes. NO_BUFFERS, NO_MEMORY.
    pub(super) fn take_one_block(&mut self, pool: &Pool, len: usize) -> Result<Block> {
        let class = self.next_class(pool);
        if len <= pool.capacity_of(class) {
            self.take_block(pool, class, len)
        } else if len <= pool.capacity() {
            self.take_larger_block(pool, len)
        } else {
            self.take_contiguous(pool, len)
        }
    }

    /// Takes a block of `class`, or the smallest for `len` bytes if the budget has no room for it.
    #[inline(always)]
    fn take_block(&mut self, pool: &Pool, class: Class, len: usize) -> Result<Block> {
        match pool.take(class, Admission::Budget) {
            Ok(block) => Ok(self.hold(block)),
            Err(errno) => self.take_fitting_block(pool, len, errno),
        }
    }

    /// Takes a block for `len` bytes, which do not fit into one of the class that the burst asks for.
    fn take_larger_block(&mut self, pool: &Pool, len: usize) -> Result<Block> {
        let class = pool.class_for(len);
        self.burst = BurstSize::new(class, !self.stream.is_empty());
        self.take_block(pool, class, len)
    }

    /// Takes the smallest block for `len` bytes, after one of the class that the burst asks for was refused
    /// with `errno`.
    #[cold]
    fn take_fitting_block(&mut self, pool: &Pool, len: usize, errno: Errno) -> Result<Block> {
        if errno != Errno::NO_BUFFERS {
            return Err(errno);
        }
        self.take_contiguous(pool, len)
    }

    /// Takes one block for `len` bytes. NO_BUFFERS, NO_MEMORY.
    fn take_contiguous(&mut self, pool: &Pool, len: usize) -> Result<Block> {
        let needed = pool.contiguous_footprint(len)?;
        let block =
            self.within_reserve(needed, |admission| pool.take_contiguous(len, admission))?;
        Ok(self.hold(block))
    }

    fn add_several_blocks(&mut self, pool: &Pool, len: usize, with_slots: bool) -> Result<()> {
        let unused = if with_slots { SLOT - 1 } else { 0 };
        let needed = pool.footprint_of_many(len, unused);
        let blocks =
            self.within_reserve(needed, |admission| pool.take_many(len, unused, admission))?;
        while let Some(block) = blocks.pop() {
            let block = self.hold(block);
            self.stream.add_block(block);
        }
        self.burst = BurstSize::new(pool.class_for(len), true);
        Ok(())
    }

    /// Charges `bytes` of borrowed memory. NO_BUFFERS.
    #[inline(always)]
    pub(super) fn pin(&mut self, pool: &Pool, bytes: usize) -> Result<()> {
        self.within_reserve(bytes, |admission| pool.pin(bytes, admission))?;
        self.held += bytes as u64;
        Ok(())
    }

    /// Takes back [`Queue::pin`].
    pub(super) fn unpin(&mut self, pool: &Pool, bytes: usize) {
        self.held -= bytes as u64;
        pool.unpin(bytes);
    }

    /// A contiguous block of at least `len` bytes for a record that a sink has to be offered. The budget does
    /// not refuse it: the bytes are queued already, and there may be no other way to send them. NO_MEMORY.
    pub(crate) fn take_record(&mut self, pool: &Pool, len: usize) -> Result<Block> {
        let block = pool.take_contiguous(len, Admission::Forced)?;
        Ok(self.hold(block))
    }

    /// Counts a block that was taken from the pool.
    fn hold(&mut self, block: Block) -> Block {
        self.held += block.footprint() as u64;
        block
    }

    /// Returns a block to the pool.
    #[inline(always)]
    pub(crate) fn give(&mut self, pool: &Pool, block: Block) {
        self.held -= block.footprint() as u64;
        pool.give(block);
    }

    /// Returns all blocks to the pool: the burst is over.
    #[inline(always)]
    pub(super) fn give_all(&mut self, pool: &Pool) {
        if self.burst != BurstSize::SMALLEST && !self.stream.is_empty() {
            self.end_burst(pool);
        }
        while let Some(block) = self.stream.pop() {
            self.give(pool, block);
        }
    }

    #[inline(never)]
    fn end_burst(&mut self, pool: &Pool) {
        self.burst = self.burst.after(self.stream.used_in_last(), pool);
    }
}
