//! Sends what the caller has in hand, past an empty queue: only what the sink refuses is copied.

use crate::errno::{Errno, Result};
use crate::flush::{Lender, flush, offer};
use crate::pressure::Hints;
use crate::segment::{MAX_PIECES, Parts};
use crate::sink::Sink;

/// Sends `parts` after what waits: all of them are taken, or none. `alone`: nobody else can append
/// meanwhile, so that what the sink refuses is next in the stream.
///
/// AGAIN: at or over the high watermark. BUSY: memory is reserved. Otherwise as for an append and a
/// flush.
pub fn send<S: Sink>(
    queue: &impl Lender,
    sink: &mut S,
    parts: Parts,
    alone: bool,
) -> Result<Hints> {
    let waits = queue.lend(|queue, _| queue.admit(0).map(|()| queue.waiting() > 0))?;
    let hints = if waits { flush_if_free(queue, sink)? } else { Hints::NONE };
    if alone && parts.pieces().len() <= MAX_PIECES && send_past(queue, sink, parts)? {
        return Ok(hints);
    }
    let is_first = queue.lend(|queue, pool| {
        if queue.is_high() {
            return Err(Errno::AGAIN);
        }
        let is_first = queue.waiting() == 0;
        queue.append_parts(pool, parts.total(), parts.slices(0))?;
        Ok(is_first)
    })?;
    if is_first { flush_if_free(queue, sink) } else { Ok(hints) }
}

/// A flush; if another thread is at it, that one sends, or says that there is more.
#[inline(never)]
fn flush_if_free<S: Sink>(queue: &impl Lender, sink: &mut S) -> Result<Hints> {
    match flush(queue, sink, 0) {
        Err(Errno::BUSY) => Ok(Hints::NONE),
        result => result,
    }
}

/// Offers `parts` to the sink if nothing waits, and copies what is left of them. Returns whether it did.
fn send_past<S: Sink>(queue: &impl Lender, sink: &mut S, parts: Parts) -> Result<bool> {
    let spare = queue.lend(|queue, pool| {
        queue.socket = sink.socket();
        queue.begin_direct(pool, parts.total() as u64)
    })?;
    let Some(spare) = spare else { return Ok(false) };
    let calls_before = sink.calls();
    let (offered, outcome) = offer(parts.total(), || sink.write(parts.pieces()));
    let calls = sink.calls() - calls_before;
    queue.lend(|queue, pool| {
        let taken = match outcome {
            Ok(taken) => taken,
            Err(errno) if errno.is_refusal() => 0,
            Err(errno) => {
                pool.give_all(spare);
                queue.end_flush(pool, calls, 0, false);
                queue.fail(pool, errno);
                return Err(errno);
            }
        };
        queue.end_direct(pool, spare, taken, offered - taken, parts.slices(taken));
        queue.end_flush(pool, calls, u32::from(taken < offered), taken < offered);
        Ok(true)
    })
}
