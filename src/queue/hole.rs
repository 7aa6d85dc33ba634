//! Holes: space for bytes that are known later.

use super::Queue;
use crate::errno::{Errno, Result};
use crate::policy::Hints;
use crate::pool::Pool;

impl Queue {
    /// Makes a hole for at most `len` bytes behind what is queued. Appends go on behind it, but nothing behind
    /// it is available until it is filled. Returns its id. Errors as for [`Queue::append`].
    pub fn hole(&mut self, pool: &Pool, len: usize) -> Result<u64> {
        self.admit(len as u64)?;
        self.admit_message(len as u64)?;
        let block = self.take_one_block(pool, len)?;
        let boundaries = self.messages.as_ref().map_or(0, |messages| messages.set());
        self.stream.push_hole(block, len as u32, boundaries).map_err(|block| {
            self.give(pool, block);
            Errno::NO_MEMORY
        })
    }

    /// Fills the hole `id` with a copy of `bytes`. One that is filled or discarded already is left as it is.
    ///
    /// INVALID: more bytes than it was made for. A failed queue returns its error.
    pub fn fill(&mut self, pool: &Pool, id: u64, bytes: &[u8]) -> Result<Hints> {
        if let Some(errno) = self.failure() {
            return Err(errno);
        }
        let (before, len) = (self.available(), bytes.len() as u64);
        let Some(boundaries) = self.stream.fill(id, bytes)? else { return Ok(Hints::NONE) };
        if let Some(messages) = &mut self.messages {
            messages.on_inserted(boundaries, len);
        }
        let hints = self.on_revealed(pool, before);
        self.give_idle(pool);
        Ok(hints | self.policy.on_append(self.waiting(), false))
    }
}
