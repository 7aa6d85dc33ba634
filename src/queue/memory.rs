//! The memory that a queue holds: blocks of its pool, borrowed memory, and shared payloads.

use super::Queue;
use crate::block::Block;
use crate::errno::Result;
use crate::pool::Pool;

impl Queue {
    /// Bytes that it holds: whole blocks, borrowed memory until its owner is released, and the whole length of
    /// the parts of shared payloads.
    pub fn held(&self) -> u64 {
        self.held
    }

    /// A contiguous block of at least `len` bytes for a record ([`Pool::take_record`]).
    pub(crate) fn take_record(&mut self, pool: &Pool, len: usize) -> Result<Block> {
        let block = pool.take_record(len)?;
        Ok(self.hold(block))
    }

    /// Counts a block that was taken from the pool.
    pub(super) fn hold(&mut self, block: Block) -> Block {
        self.held += block.footprint() as u64;
        block
    }

    /// Returns a block to the pool.
    pub(crate) fn give(&mut self, pool: &Pool, block: Block) {
        self.held -= block.footprint() as u64;
        pool.give(block);
    }
}
