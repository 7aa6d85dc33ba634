//! The statistics of a queue and of a pool as C structs, and those of a queue as JSON.

use crate::block::MemoryUsage;
use crate::pool::{NO_LIMIT, Pool};
use crate::queue::Queue;
use crate::sink::socket_info::SocketInfo;
use crate::zerocopy::Zerocopy;
use std::fmt::{self, Write};
use std::mem::MaybeUninit;

/// The statistics of one queue: bytes, counts, and nanoseconds. Totals are since the queue was made. At any
/// moment copied + borrowed + shared + file = sent + discarded + waiting.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Bytes appended by copying, in total. Spliced bytes count as what they were in the other queue.
    pub copied: u64,
    /// Bytes appended by sendq_append_ref without being copied, in total.
    pub borrowed: u64,
    /// Bytes appended by sendq_append_buf, in total.
    pub shared: u64,
    /// Bytes appended by sendq_append_file, in total.
    pub file: u64,
    /// Bytes sent, in total.
    pub sent: u64,
    /// Bytes discarded, rolled back, or lost with the connection, in total.
    pub discarded: u64,
    /// Bytes queued now.
    pub waiting: u64,
    /// Borrowed and shared memory that the queue refers to: whole pieces, until their owners are released.
    pub pinned: u64,
    /// Blocks of the pool that the queue holds, in bytes.
    pub allocated: u64,
    /// The most bytes that were queued at one time.
    pub peak_waiting: u64,
    /// Flushes that had something to send.
    pub flushes: u64,
    /// System calls of these flushes, including those that only prepare one that sends.
    pub system_calls: u64,
    /// System calls that took fewer bytes than they were given.
    pub short_writes: u64,
    /// How often the socket became full.
    pub blocked: u64,
    /// For how long it was full, in total.
    pub blocked_ns: u64,
    /// The time, by the pool's clock, when bytes were last sent and others stayed queued. Before that, the
    /// time of the first flush or call of sendq_stalled_ns or sendq_stats that found queued bytes. 0: neither
    /// has happened.
    pub last_progress_ns: u64,
    /// The result of sendq_stalled_ns.
    pub stalled_ns: u64,
    /// Bytes sent without a copy (SENDQ_ZEROCOPY), in total.
    pub zerocopy: u64,
    /// Sends without a copy that the kernel has acknowledged, in total.
    pub zerocopy_acked: u64,
    /// How many of these the kernel has copied after all.
    pub zerocopy_copied: u64,
    /// 1: the connection does not do it, or the kernel has copied too often, so that all is copied.
    pub zerocopy_off: u64,
    /// Bytes in pieces that are sent, and wait until the kernel does not read them any more.
    pub unacked: u64,
}

/// The statistics of a pool. Sizes are in bytes. blocked and waiting do not count the queues that
/// sendq_pool_heaviest leaves out because of their threads.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct PoolStats {
    /// How many queues there are.
    pub queues: u64,
    /// How many of them have found their socket full, and wait for it.
    pub blocked: u64,
    /// Bytes queued in all of them.
    pub waiting: u64,
    /// The budget. 0: none.
    pub max: u64,
    /// Blocks that queues hold.
    pub used: u64,
    /// Blocks that are cached for the next append.
    pub free: u64,
    /// Borrowed memory, until its owners are released.
    pub pinned: u64,
    /// Shared buffers that were made with this pool and are not freed yet.
    pub shared: u64,
    /// The highest sum of used, free, pinned and shared.
    pub peak: u64,
    /// Connections of queues that are gone, of which the kernel still reads memory (SENDQ_ZEROCOPY).
    pub orphans: u64,
    /// Bytes in the pieces of these. They are among pinned or shared.
    pub orphan_bytes: u64,
}

impl PoolStats {
    /// The statistics of `pool`, without its queues.
    pub fn of(pool: &Pool) -> PoolStats {
        let usage = pool.usage();
        PoolStats {
            max: if usage.max == NO_LIMIT { 0 } else { usage.max as u64 },
            used: usage.used as u64,
            free: usage.free as u64,
            pinned: usage.pinned as u64,
            shared: usage.shared as u64,
            peak: usage.peak as u64,
            ..PoolStats::default()
        }
    }

    /// Adds what is queued in one of its queues.
    pub fn add(&mut self, queue: &Queue) {
        self.waiting += queue.waiting();
        self.blocked += u64::from(queue.policy().is_blocked());
    }
}

impl Stats {
    /// The statistics of `queue` at the time `now`.
    pub fn of(queue: &mut Queue, now: u64) -> Stats {
        let stalled_ns = queue.stalled_ns(now);
        let (counters, policy) = (queue.counters(), queue.policy());
        let MemoryUsage { allocated, borrowed: pinned, shared: pinned_shared, .. } =
            queue.memory_usage();
        let (borrowed, shared, file) = (counters.borrowed, counters.shared, policy.appended_file());
        let zerocopy = queue.zerocopy().map(Zerocopy::counters).unwrap_or_default();
        let appended = counters.sent + counters.discarded + queue.waiting();
        Stats {
            copied: appended - borrowed - shared - file,
            borrowed,
            shared,
            file,
            sent: counters.sent,
            discarded: counters.discarded,
            waiting: queue.waiting(),
            pinned: pinned + pinned_shared,
            allocated,
            peak_waiting: counters.peak,
            flushes: counters.flushes,
            system_calls: counters.calls,
            short_writes: counters.short_writes,
            blocked: counters.blocked,
            blocked_ns: policy.blocked_ns(now),
            last_progress_ns: policy.progress(),
            stalled_ns,
            zerocopy: zerocopy.bytes,
            zerocopy_acked: zerocopy.acked,
            zerocopy_copied: zerocopy.copied,
            zerocopy_off: u64::from(queue.zerocopy().is_some_and(Zerocopy::is_off)),
            unacked: queue.zerocopy().map_or(0, Zerocopy::held_bytes),
        }
    }

    fn fields(&self) -> [(&'static str, u64); 22] {
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
            ("zerocopy", self.zerocopy),
            ("zerocopy_acked", self.zerocopy_acked),
            ("zerocopy_copied", self.zerocopy_copied),
            ("zerocopy_off", self.zerocopy_off),
            ("unacked", self.unacked),
        ]
    }

    /// Writes one flat JSON object into `room`, as much of it as fits before a NUL, and returns how
    /// long all of it is.
    pub fn write_json(&self, error: i32, info: &SocketInfo, room: &mut [MaybeUninit<u8>]) -> usize {
        let mut text = Text::new(room);
        // Text takes whatever is written to it.
        let _ = self.write_fields(error, info, &mut text);
        text.finish()
    }

    fn write_fields(&self, error: i32, info: &SocketInfo, to: &mut Text) -> fmt::Result {
        write!(to, "{{\"error\":{error}")?;
        for (name, value) in self.fields() {
            write!(to, ",\"{name}\":{value}")?;
        }
        let acked = info.outq.map(|outq| ("acked", Some(self.sent.saturating_sub(outq))));
        for (name, value) in info.fields().into_iter().chain(acked) {
            if let Some(value) = value {
                write!(to, ",\"{name}\":{value}")?;
            }
        }
        to.write_char('}')
    }
}

/// Text for a C buffer: its length is counted to the end, and as much is written as fits before a NUL.
pub struct Text<'a> {
    room: &'a mut [MaybeUninit<u8>],
    length: usize,
}

impl<'a> Text<'a> {
    /// An empty text in `room`.
    pub fn new(room: &'a mut [MaybeUninit<u8>]) -> Text<'a> {
        Text { room, length: 0 }
    }

    /// Ends it with a NUL, if `room` is not empty. Returns its full length without the NUL.
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
