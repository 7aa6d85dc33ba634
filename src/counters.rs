//! The counters of a queue.

/// Numbers that only increase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes appended as borrowed memory.
    pub borrowed: u64,
    /// Bytes appended as parts of shared payloads.
    pub shared: u64,
    /// Bytes sent.
    pub sent: u64,
    /// Bytes discarded.
    pub discarded: u64,
    /// The most bytes that were queued, as of the last time that some were consumed.
    pub peak: u64,
    /// Flushes that had something to send.
    pub flushes: u64,
    /// Calls of the sink.
    pub calls: u64,
    /// Calls that took less than they were offered.
    pub short_writes: u64,
    /// How often the sink became full.
    pub blocked: u64,
}
