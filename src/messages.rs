//! The boundaries between the messages of a queue.

use crate::errno::{Errno, Result};
use std::collections::VecDeque;

/// How many boundaries an empty queue keeps memory for.
const KEPT: usize = 16;

/// Where the messages of a queue end. Offsets count from the first byte that the queue has ever had.
#[derive(Default)]
pub struct Messages {
    /// The ends of the messages that are not wholly sent, in ascending order.
    ends: VecDeque<u64>,
    /// The offset of the first queued byte.
    front: u64,
    /// The offset at which the message begins that the first queued byte belongs to.
    begin: u64,
    /// Messages that are wholly sent.
    sent: u64,
    /// The most messages that may be queued; 0: any number.
    max: u64,
    /// How many boundaries were ever set.
    set: u64,
}

impl Messages {
    /// No message is queued, and no more than `max` may be; 0: any number.
    pub fn new(max: u64) -> Messages {
        Messages { max, ..Messages::default() }
    }

    /// As it was made.
    pub fn reset(&mut self) {
        *self = Messages::new(self.max);
    }

    /// Messages that are not wholly sent, with `waiting` bytes queued. One that has not ended counts if any of
    /// these bytes belong to it.
    pub fn queued(&self, waiting: u64) -> u64 {
        self.ends.len() as u64 + u64::from(self.open(waiting) > 0)
    }

    /// Messages that are wholly sent.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// How many of `waiting` queued bytes belong to a message that has not ended.
    fn open(&self, waiting: u64) -> u64 {
        let last = self.ends.back().copied().unwrap_or(self.begin);
        (self.front + waiting) - last.max(self.front)
    }

    /// Whether the next byte would begin a message that is one too many.
    pub fn is_full(&self, waiting: u64) -> bool {
        self.max > 0 && self.ends.len() as u64 >= self.max && self.open(waiting) == 0
    }

    /// Allocates what [`Messages::end`] needs. NO_MEMORY.
    pub fn reserve(&mut self) -> Result<()> {
        self.ends.try_reserve(1).map_err(|_| Errno::NO_MEMORY)
    }

    /// The last of `waiting` queued bytes ends a message. [`Messages::reserve`] has allocated what this needs.
    pub fn end(&mut self, waiting: u64) {
        let end = self.front + waiting;
        if end == self.ends.back().copied().unwrap_or(self.begin) {
            return;
        }
        self.set += 1;
        if waiting > 0 {
            return self.ends.push_back(end);
        }
        // All of it was sent before it ended.
        self.begin = end;
        self.sent += 1;
    }

    /// How many boundaries were ever set.
    pub fn set(&self) -> u64 {
        self.set
    }

    /// The first `len` queued bytes are queued no more. `sent`: they were sent.
    pub fn on_removed(&mut self, len: u64, sent: bool) {
        self.front += len;
        self.complete(sent);
        if !sent {
            self.begin = self.front;
        }
    }

    /// Removes the messages that are not queued any more.
    fn complete(&mut self, sent: bool) {
        while let Some(end) = self.ends.front().copied().filter(|end| *end <= self.front) {
            self.ends.pop_front();
            self.begin = end;
            self.sent += u64::from(sent);
        }
        if self.ends.is_empty() && self.ends.capacity() > KEPT {
            self.ends = VecDeque::new();
        }
    }

    /// Only the first `waiting` bytes stay queued.
    pub fn on_cut(&mut self, waiting: u64) {
        let end = self.front + waiting;
        while self.ends.back().is_some_and(|last| *last > end) {
            self.ends.pop_back();
            self.set -= 1;
        }
    }

    /// `len` bytes were inserted where `set` boundaries had been set.
    pub fn on_inserted(&mut self, set: u64, len: u64) {
        let behind = usize::try_from(self.set - set).unwrap_or(usize::MAX).min(self.ends.len());
        let before = self.ends.len() - behind;
        self.ends.range_mut(before..).for_each(|end| *end += len);
    }

    /// How many queued bytes belong to messages of which the first `offered` queued bytes, or bytes sent
    /// before, are a part.
    pub fn begun(&self, waiting: u64, offered: u64) -> u64 {
        let begun = self.front + offered;
        if begun == self.begin {
            return 0;
        }
        let end = self.ends.iter().copied().find(|end| *end >= begun);
        end.map_or(waiting, |end| end - self.front)
    }

    /// Moves the boundaries of `other`, all of whose `moved` bytes were appended behind `waiting` bytes.
    /// [`Messages::reserve_for`] has allocated what this needs.
    pub fn join(&mut self, other: &Messages, waiting: u64) {
        let shift = self.front + waiting;
        self.ends.extend(other.ends.iter().map(|end| end - other.front + shift));
        self.set += other.ends.len() as u64;
    }

    /// Allocates what [`Messages::join`] needs. NO_MEMORY.
    pub fn reserve_for(&mut self, other: &Messages) -> Result<()> {
        self.ends.try_reserve(other.ends.len()).map_err(|_| Errno::NO_MEMORY)
    }
}
