//! A queue whose last bytes are taken out: to be discarded, or to be put back.

use super::Queue;
use crate::errno::{Errno, Result};
use crate::pool::{Admission, Pool};
use crate::slot::Kind;
use crate::stream::Stream;

/// The last bytes of a queue.
pub(super) struct Rest {
    pub(super) stream: Stream,
    slots: u32,
    file_bytes: u64,
}

impl Queue {
    /// Takes out what is behind the first `len` queued bytes, and behind the holes there that were made when at
    /// most `set` boundaries had been set; None: there is no more. NO_MEMORY.
    pub(super) fn split_off(&mut self, pool: &Pool, len: u64, set: u64) -> Result<Option<Rest>> {
        self.note_peak();
        if len >= self.waiting() && !self.stream.has_holes() {
            return Ok(None);
        }
        let mut spare = 0;
        let (stream, divided) = self.stream.split(len, set, |bytes| {
            let block = pool.take_contiguous(bytes, Admission::Forced)?;
            spare = block.footprint() as u64;
            Ok(block)
        })?;
        self.held += spare;
        let usage = self.stream.memory_usage();
        let slots = self.slots + u32::from(divided) - usage.slots;
        let file_bytes = self.policy.file_bytes() - usage.waiting[Kind::File as usize];
        self.slots = usage.slots;
        self.policy.on_file_removed(file_bytes);
        Ok(Some(Rest { stream, slots, file_bytes }))
    }

    /// Puts back what [`Queue::split_off`] has taken out.
    pub(super) fn put_back(&mut self, rest: Rest) {
        self.slots += rest.slots;
        self.policy.on_file(rest.file_bytes);
        self.stream.put_back(rest.stream);
    }

    /// Discards what [`Queue::split_off`] has taken out. Its slots are released next.
    pub(super) fn discard_rest(&mut self, pool: &Pool, rest: Rest, errno: Errno) {
        self.counters.discarded += rest.stream.waiting();
        self.slots += rest.slots;
        let mut consumed = self.stream.discard(rest.stream, 0, errno.negated());
        // split_off() has subtracted the bytes of files already.
        consumed.file = 0;
        self.on_consumed(pool, consumed);
    }
}
