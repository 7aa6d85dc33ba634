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
    /// `has_holes`: a hole is open, which belongs to this message if no byte follows it.
    pub fn end(&mut self, waiting: u64, has_holes: bool) {
        let end = self.front + waiting;
        if end == self.ends.back().copied().unwrap_or(self.begin) {
            return;
        }
        self.set += 1;
        if waiting > 0 || has_holes {
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

    /// The first `len` queued bytes are queued no more. `sent`: they were sent. `set`: how many boundaries had
    /// been set when the first open hole was made, which later ones follow.
    pub fn on_removed(&mut self, len: u64, sent: bool, set: u64) {
        self.front += len;
        self.complete(sent, set);
        if !sent {
            self.begin = self.front;
        }
    }

    /// Removes the messages that are not queued any more, whose boundaries are among the first `set` ones.
    fn complete(&mut self, sent: bool, set: u64) {
        while let Some(end) = self.ends.front().copied().filter(|end| *end <= self.front) {
            if self.set_before(0) >= set {
                return;
            }
            self.ends.pop_front();
            self.begin = end;
            self.sent += u64::from(sent);
        }
        if self.ends.is_empty() && self.ends.capacity() > KEPT {
            self.ends = VecDeque::new();
        }
    }

    /// Only the first `waiting` bytes stay queued. `set`: as for [`Messages::on_removed`].
    pub fn on_cut(&mut self, waiting: u64, set: u64) {
        let end = self.front + waiting;
        while self.ends.back().is_some_and(|last| *last > end) {
            self.ends.pop_back();
            self.set -= 1;
        }
        self.complete(true, set);
    }

    /// `len` bytes were inserted where `set` boundaries had been set.
    pub fn on_inserted(&mut self, set: u64, len: u64) {
        let behind = usize::try_from(self.set - set).unwrap_or(usize::MAX).min(self.ends.len());
        let before = self.ends.len() - behind;
        self.ends.range_mut(before..).for_each(|end| *end += len);
    }

    /// How many boundaries had been set when the one at `i` was.
    fn set_before(&self, i: usize) -> u64 {
        self.set - (self.ends.len() - i) as u64
    }

    /// Whether a message has bytes that were sent, or are among the first `offered` queued bytes.
    pub fn is_begun(&self, offered: u64) -> bool {
        self.front + offered > self.begin
    }

    /// Where the last message that has begun ends: how many queued bytes precede that, and how many boundaries
    /// had been set before. None: it has not ended.
    pub fn end_of_begun(&self, offered: u64) -> Option<(u64, u64)> {
        let begun = self.front + offered;
        let i = self.ends.iter().position(|end| *end >= begun)?;
        Some((self.ends[i] - self.front, self.set_before(i)))
    }

    /// Copies the boundaries of the first `moved` queued bytes of `other`, which were appended behind `waiting`
    /// bytes. [`Messages::reserve_for`] has allocated what this needs.
    pub fn join(&mut self, other: &Messages, moved: u64, waiting: u64) {
        let (shift, before) = (self.front + waiting, self.ends.len());
        let offsets = other.ends.iter().map(|end| end - other.front);
        self.ends
            .extend(offsets.take_while(|offset| *offset <= moved).map(|offset| offset + shift));
        self.set += (self.ends.len() - before) as u64;
    }

    /// Allocates what [`Messages::join`] needs. NO_MEMORY.
    pub fn reserve_for(&mut self, other: &Messages) -> Result<()> {
        self.ends.try_reserve(other.ends.len()).map_err(|_| Errno::NO_MEMORY)
    }
}
