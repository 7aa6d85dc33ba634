//! Shadow mode: compares what another path has sent with what is queued.

use crate::errno::Result;
use crate::flush::{WithLocked, peek_through};
use crate::iovec::IoVecs;
use crate::policy::Hints;
use crate::queue::Flushed;
use crate::sink::compare::expect;

/// The result of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The bytes were the next ones, and are consumed.
    Same(Hints),
    /// They differ from this offset in the stream on. Nothing is consumed.
    DiffersAt(u64),
}

/// Compares the first `bytes` of `iovecs`, which hold at least that many, with what is queued.
///
/// BUSY: a flush is in progress. A failed queue returns its error; a file that cannot be read, its own.
pub fn verify(q: &impl WithLocked, iovecs: IoVecs, bytes: usize) -> Result<Verdict> {
    // As during a flush, so that nothing is consumed meanwhile. Appends do not move what is compared.
    q.with_locked(|queue, pool| queue.begin_flush(pool))?;
    let mut expected = expect(iovecs, bytes);
    let same = peek_through(q, |extent| expected.take(extent));
    q.with_locked(|queue, pool| {
        let is_same = same == Ok(bytes as u64);
        let sent = if is_same { bytes as u64 } else { 0 };
        // No sink was asked: one that was full stays so.
        let (is_blocked, wants_read) = (queue.policy().is_blocked(), queue.policy().wants_read());
        let is_blocked = is_blocked && sent == 0;
        let hints = queue.on_sent(pool, sent);
        let flushed = Flushed { sent, is_blocked, wants_read, ..Flushed::default() };
        queue.end_flush(pool, flushed);
        match same? {
            _ if is_same => Ok(Verdict::Same(hints)),
            same => Ok(Verdict::DiffersAt(queue.sent() + same)),
        }
    })
}
