//! The figures of a queue and of a pool: as C structs, and a queue's as JSON.

use crate::queue::Queue;
use crate::sink::socket::Facts;
use crate::tally::Count;
use std::fmt::{self, Write};
use std::mem::MaybeUninit;

/// The figures of one queue: bytes, counts, and nanoseconds. At any moment copied + borrowed + shared +
/// file = sent + discarded + waiting.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Bytes appended by copying, ever. What is spliced counts as what it is.
    pub copied: u64,
    /// Bytes appended by sendq_append_ref without being copied, ever.
    pub borrowed: u64,
    /// Bytes appended by sendq_append_buf, ever.
    pub shared: u64,
    /// Bytes appended by sendq_append_file, ever.
    pub file: u64,
    /// Bytes that left, ever.
    pub sent: u64,
    /// Bytes that were dropped: discarded, rolled back, lost with the connection.
    pub discarded: u64,
    /// Bytes that wait now.
    pub waiting: u64,
    /// Memory of others that the queue keeps them from, borrowed and shared: whole pieces, until their
    /// owners have been told.
    pub pinned: u64,
    /// Memory of the pool that the queue holds.
    pub allocated: u64,
    /// The most bytes that ever waited.
    pub peak_waiting: u64,
    /// Flushes that had something to send.
    pub flushes: u64,
    /// System calls by which they sent.
    pub system_calls: u64,
    /// System calls that took less than they were given.
    pub short_writes: u64,
    /// How often the socket became full.
    pub blocked: u64,
    /// For how long it was, in all.
    pub blocked_ns: u64,
    /// The pool's clock when bytes last left and others stayed, or when the first of those that wait
    /// came.
    pub last_progress_ns: u64,
    /// sendq_stalled_ns.
    pub stalled_ns: u64,
    /// Bytes that the peer's side has acknowledged: what left, without what is in the send buffer of
    /// the socket of the last flush (SIOCOUTQ, tcp(7)). True as long as that is open, and all that left went
    /// there: not after a splice. 0 where it cannot be told.
    pub acked: u64,
}

/// The figures of a pool, in bytes. Those of its queues are sums over those that sendq_pool_heaviest
/// looks at.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct PoolStats {
    /// How many queues there are.
    pub queues: u64,
    /// How many of them found their socket full, and wait for it.
    pub blocked: u64,
    /// What waits in all of them.
    pub waiting: u64,
    /// The budget; 0: none.
    pub max: u64,
    /// Chunks that queues hold.
    pub used: u64,
    /// Chunks that are kept for the next append.
    pub free: u64,
    /// Borrowed memory, until its owners are told.
    pub pinned: u64,
    /// Shared payloads that were made with this pool and live.
    pub shared: u64,
    /// The most that used, free, pinned and shared ever were together.
    pub peak: u64,
}

impl Stats {
    /// Those of `queue` at the time `now`; what only the socket knows is left out.
    pub fn of(queue: &Queue, now: u64) -> Stats {
        let census = queue.census();
        let (borrowed, shared) = (queue.count(Count::Borrowed), queue.count(Count::Shared));
        let (file, discarded) = (queue.count(Count::File), queue.count(Count::Discarded));
        let appended = queue.sent() + discarded + queue.waiting();
        Stats {
            // What saturated for want of memory is not held against what was copied.
            copied: appended.saturating_sub(borrowed + shared + file),
            borrowed,
            shared,
            file,
            sent: queue.sent(),
            discarded,
            waiting: queue.waiting(),
            pinned: census.borrowed + census.shared,
            allocated: census.allocated,
            peak_waiting: queue.count(Count::Peak),
            flushes: queue.count(Count::Flushes),
            system_calls: queue.count(Count::Calls),
            short_writes: queue.count(Count::Shorts),
            blocked: queue.count(Count::Blocked),
            blocked_ns: queue.blocked_ns(now),
            last_progress_ns: queue.progress(),
            stalled_ns: queue.stalled_ns(now),
            acked: 0,
        }
    }

    fn fields(&self) -> [(&'static str, u64); 18] {
        [
            ("copied", self.copied),
            ("borrowed", self.borrowed),
            ("shared", self.shared),
            ("file", self.file),
            ("sent", self.sent),
            ("discarded", self.discarded),
            ("waiting", self.waiting),
            ("pinned", self.pinned),
            ("allocated", self.allocated),
            ("peak_waiting", self.peak_waiting),
            ("flushes", self.flushes),
            ("system_calls", self.system_calls),
            ("short_writes", self.short_writes),
            ("blocked", self.blocked),
            ("blocked_ns", self.blocked_ns),
            ("last_progress_ns", self.last_progress_ns),
            ("stalled_ns", self.stalled_ns),
            ("acked", self.acked),
        ]
    }

    /// Writes one flat JSON object into `room`, as much of it as fits before a NUL, and returns how
    /// long all of it is.
    pub fn write_json(&self, error: i32, facts: &Facts, room: &mut [MaybeUninit<u8>]) -> usize {
        let mut text = Text::new(room);
        // Text takes whatever is written to it.
        let _ = self.write_fields(error, facts, &mut text);
        text.finish()
    }

    fn write_fields(&self, error: i32, facts: &Facts, to: &mut Text) -> fmt::Result {
        write!(to, "{{\"error\":{error}")?;
        for (name, value) in self.fields() {
            write!(to, ",\"{name}\":{value}")?;
        }
        for (name, value) in facts.fields() {
            if let Some(value) = value {
                write!(to, ",\"{name}\":{value}")?;
            }
        }
        to.write_char('}')
    }
}

/// Text for a C buffer: counted to its end, kept as far as there is room for it and a NUL.
pub struct Text<'a> {
    room: &'a mut [MaybeUninit<u8>],
    length: usize,
}

impl<'a> Text<'a> {
    /// Nothing yet.
    pub fn new(room: &'a mut [MaybeUninit<u8>]) -> Text<'a> {
        Text { room, length: 0 }
    }

    /// Ends it with a NUL, if there is any room at all. Returns how long it would be without it.
    pub fn finish(self) -> usize {
        let last = self.room.len().saturating_sub(1);
        if let Some(end) = self.room.get_mut(self.length.min(last)) {
            end.write(0);
        }
        self.length
    }
}

impl Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let start = self.length.min(self.room.len());
        for (place, byte) in self.room[start..].iter_mut().zip(text.bytes()) {
            place.write(byte);
        }
        self.length += text.len();
        Ok(())
    }
}
