//! What was sent without a copy, and what the kernel still reads of it (MSG_ZEROCOPY,
//! Documentation/networking/msg_zerocopy.rst).
//!
//! The kernel numbers these sends, and acknowledges each by its number: late, in any order, several at once.
//! The owner of memory that a send carried is released when all sends are acknowledged that were made before its slot
//! was completed.
//!
//! A slot is marked as carried when such a send takes the last of its bytes, or some of them. When it is completed and
//! taken out of its block, it lands here: it is held until then.

use crate::errno::{Errno, Result};
use crate::slot::Slot;
use std::collections::VecDeque;
use std::sync::Arc;

/// The default of zerocopy_from.
pub const ZEROCOPY_FROM: u64 = 64 * 1024;

/// After so many sends in a row that the kernel has copied after all, nothing is gained by more of them.
const MOST_COPIED: u32 = 16;
/// So many pieces are copied after the kernel had no memory to keep account of one (ENOBUFS), or the process no
/// descriptor.
const PAUSE: u32 = 16;

/// An acknowledgement of the sends `first` to `last`, by the kernel's numbers, which wrap around.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The first number.
    pub first: u32,
    /// The last one.
    pub last: u32,
    /// The kernel has copied the bytes after all.
    pub is_copied: bool,
}

/// Where acknowledgements come from: one connection. It stays open until they all have come.
pub trait Acks: Send + Sync {
    /// Which connection it is. No other one has the same number.
    fn id(&self) -> u64;

    /// The next acknowledgement that has come; None: no other yet.
    fn next(&self) -> Option<Ack>;

    /// The host has no use for the connection any more: ends it once what was sent has arrived.
    fn abandon(&self);

    /// Ends it now. What was sent and has not arrived is lost.
    fn abort(&self);
}

/// The connection that a queue has used last.
#[derive(Clone, Default)]
pub struct Connection {
    /// Its number.
    pub id: Option<u64>,
    /// Where acknowledgements come from, as long as some are to come.
    pub acks: Option<Arc<dyn Acks>>,
}

/// A slot whose owner is released later.
struct Held {
    slot: Slot,
    /// It waits for all sends before this one.
    until: u64,
}

/// The sends of one queue that are not acknowledged, and the slots that wait for it.
pub struct Zerocopy {
    /// Shorter pieces are copied.
    from: u64,
    connection: Connection,
    /// Which sends are acknowledged, from the oldest one on that is not. Numbers, here and below, count all
    /// sends of the queue, and the oldest of these has the number `oldest`.
    sends: VecDeque<bool>,
    oldest: u64,
    /// The send to which the kernel gave the number 0.
    origin: u64,
    /// The oldest first. There is always room for the slots that are completed and those that were carried in
    /// part, so that holding one needs no memory: see [`Zerocopy::begin_send`].
    held: VecDeque<Held>,
    held_bytes: u64,
    /// How many sends in a row the kernel has copied.
    copied_in_a_row: u32,
    /// How many pieces to copy before the next send.
    pause: u32,
    /// This connection does not do it, or not well.
    is_off: bool,
    /// The owner of a message may be marked.
    has_messages: bool,
    /// The figures.
    counters: Counters,
    /// The next one in a pool's list of those whose queue is gone.
    pub next: Option<Box<Zerocopy>>,
    /// When its queue was gone.
    pub since: u64,
}

/// What is counted, in total.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Bytes sent without a copy.
    pub bytes: u64,
    /// Sends that were acknowledged.
    pub acked: u64,
    /// How many of these the kernel has copied after all.
    pub copied: u64,
}

impl Zerocopy {
    /// Nothing was sent. Pieces of at least `from` bytes are sent without a copy.
    pub fn new(from: u64) -> Zerocopy {
        Zerocopy {
            from,
            connection: Connection::default(),
            sends: VecDeque::new(),
            oldest: 0,
            origin: 0,
            held: VecDeque::new(),
            held_bytes: 0,
            copied_in_a_row: 0,
            pause: 0,
            is_off: false,
            has_messages: false,
            counters: Counters::default(),
            next: None,
            since: 0,
        }
    }

    /// As new, for another connection. All is acknowledged; what is not released yet stays.
    pub fn reset(&mut self) {
        let (held, held_bytes) = (std::mem::take(&mut self.held), self.held_bytes);
        *self = Zerocopy { held, held_bytes, ..Zerocopy::new(self.from) };
    }

    /// Whether the owner of a message may be marked ([`crate::slot::CARRIED`]).
    pub fn has_messages(&self) -> bool {
        self.has_messages
    }

    /// Such an owner may be marked now.
    pub fn on_message(&mut self) {
        self.has_messages = true;
    }

    /// The shortest piece that is sent without a copy.
    pub fn from(&self) -> u64 {
        self.from
    }

    /// Bytes in pieces that wait for an acknowledgement.
    pub fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    /// The figures.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The connection does not do it, or the kernel has copied too often.
    pub fn is_off(&self) -> bool {
        self.is_off
    }

    /// Whether a send is not acknowledged.
    pub fn is_unacked(&self) -> bool {
        !self.sends.is_empty()
    }

    /// Where acknowledgements come from, if any are to come.
    pub fn acks(&self) -> Option<Arc<dyn Acks>> {
        self.connection.acks.clone()
    }

    /// The connection that was used last.
    pub fn connection(&self) -> Connection {
        self.connection.clone()
    }

    /// Begins to send `slots` slots, while `pending` others are completed. false: they have to be copied.
    ///
    /// `acks` is the connection, or why it does not do it.
    pub fn begin_send(
        &mut self,
        acks: Result<Arc<dyn Acks>>,
        slots: usize,
        pending: usize,
    ) -> bool {
        let acks = match acks {
            Ok(acks) => acks,
            Err(errno) => {
                self.is_off = errno == Errno::NOT_SUPPORTED;
                if errno != Errno::AGAIN {
                    self.pause = PAUSE;
                }
                return false;
            }
        };
        if self.connection.id != Some(acks.id()) {
            self.origin = self.oldest;
            (self.copied_in_a_row, self.pause, self.is_off) = (0, 0, false);
            self.connection.id = Some(acks.id());
        }
        // Each slot may be one of a message, whose owner waits as well.
        let room = self.held.try_reserve(pending + 2 * slots + 2);
        if room.and_then(|()| self.sends.try_reserve(1)).is_err() {
            return false;
        }
        self.connection.acks = Some(acks);
        self.sends.push_back(false);
        true
    }

    /// The send that was begun has ended with `outcome`. Returns whether the bytes have to be copied.
    pub fn end_send(&mut self, outcome: Result<usize>) -> bool {
        match outcome {
            Ok(taken) if taken > 0 => {
                self.counters.bytes += taken as u64;
                return false;
            }
            // The kernel gives no number to a send that takes nothing.
            _ => {
                self.sends.pop_back();
                self.end_if_acked();
            }
        }
        match outcome {
            // optmem_max or RLIMIT_MEMLOCK is exhausted (send(2)), until others are acknowledged.
            Err(errno) if errno == Errno::NO_BUFFERS || errno == Errno::NO_MEMORY => {
                self.pause = PAUSE;
                true
            }
            // The connection, or this memory, does not do it.
            Err(errno) if [Errno::NOT_SUPPORTED, Errno::INVALID, Errno::FAULT].contains(&errno) => {
                self.is_off = errno != Errno::FAULT;
                true
            }
            _ => false,
        }
    }

    /// Whether the next large piece is to be sent without a copy.
    pub fn is_next(&mut self) -> bool {
        let is_paused = self.pause > 0;
        self.pause = self.pause.saturating_sub(1);
        !is_paused
    }

    /// Takes an acknowledgement that came from `acks`. Returns whether slots may be released now.
    pub fn acknowledge(&mut self, acks: &Arc<dyn Acks>, ack: Ack) -> bool {
        if self.connection.id != Some(acks.id()) {
            return false;
        }
        let oldest = (self.oldest - self.origin) as u32;
        let (first, last) = (ack.first.wrapping_sub(oldest), ack.last.wrapping_sub(oldest));
        // A range may begin before the oldest one, and it may end with what another has sent on this socket.
        let first = if first > last { 0 } else { first as usize };
        let end = self.sends.len().min(last as usize + 1);
        for acked in self.sends.range_mut(first.min(end)..end) {
            *acked = true;
            self.counters.acked += 1;
            self.counters.copied += u64::from(ack.is_copied);
            self.copied_in_a_row = if ack.is_copied { self.copied_in_a_row + 1 } else { 0 };
        }
        self.is_off |= self.copied_in_a_row >= MOST_COPIED;
        while self.sends.front() == Some(&true) {
            self.sends.pop_front();
            self.oldest += 1;
        }
        self.end_if_acked();
        self.has_released()
    }

    /// Once all is acknowledged, the connection is the host's alone again.
    fn end_if_acked(&mut self) {
        if !self.is_unacked() {
            self.connection.acks = None;
        }
    }

    /// Of a carried slot that is completed: the slot to release. None: it is held until it is acknowledged.
    pub fn land(&mut self, slot: Slot) -> Option<Slot> {
        let (slot, has_bytes) = slot.landed();
        if !has_bytes || !self.is_unacked() {
            return Some(slot);
        }
        self.hold(slot);
        None
    }

    /// Holds the completed `slot` until what was sent so far is acknowledged.
    pub fn hold(&mut self, slot: Slot) {
        debug_assert!(self.held.len() < self.held.capacity());
        self.held_bytes += slot.memory();
        self.held.push_back(Held { slot, until: self.oldest + self.sends.len() as u64 });
    }

    /// Whether a slot may be released.
    fn has_released(&self) -> bool {
        // Without a send that failed after a slot was held, `until` would do.
        self.held.front().is_some_and(|held| held.until <= self.oldest || !self.is_unacked())
    }

    /// The next slot that may be released.
    pub fn next_released(&mut self) -> Option<Slot> {
        if !self.has_released() {
            return None;
        }
        let slot = self.held.pop_front()?.slot;
        self.held_bytes -= slot.memory();
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slot::Owner;

    struct Nowhere;

    impl Acks for Nowhere {
        fn id(&self) -> u64 {
            1
        }
        fn next(&self) -> Option<Ack> {
            None
        }
        fn abandon(&self) {}

        fn abort(&self) {}
    }

    /// The kernel's numbers are those of 32 bits, which a long connection uses up.
    #[test]
    fn numbers_wrap_around() {
        let acks: Arc<dyn Acks> = Arc::new(Nowhere);
        let mut zerocopy = Zerocopy::new(1);
        assert!(zerocopy.begin_send(Ok(acks.clone()), 1, 0));
        zerocopy.end_send(Err(Errno::AGAIN));
        // As after so many sends that are acknowledged.
        zerocopy.oldest = u64::from(u32::MAX) - 1;
        for _ in 0..4 {
            assert!(zerocopy.begin_send(Ok(acks.clone()), 1, 0));
            zerocopy.end_send(Ok(1));
            zerocopy.hold(Slot::notification(Owner::NONE));
        }
        let mut released = |first, last| {
            zerocopy.acknowledge(&acks, Ack { first, last, is_copied: false });
            std::iter::from_fn(|| zerocopy.next_released()).count()
        };
        assert_eq!(released(u32::MAX, 0), 0);
        assert_eq!(released(u32::MAX - 1, u32::MAX - 1), 3);
        assert_eq!(released(u32::MAX - 1, 0), 0);
        assert_eq!(released(0, 1), 1);
    }
}
