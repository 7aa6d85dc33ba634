//! Sends what the caller has in hand, past an empty queue: only what the sink refuses is copied.

use crate::chunk::Stack;
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
    let total = parts.total();
    let begun = alone
        && parts.pieces().len() <= MAX_PIECES
        && queue.lend(|queue, pool| {
            queue.socket = sink.socket();
            queue.begin_direct_at_once(pool, total as u64)
        });
    if !begun {
        return send_closely(queue, sink, parts, alone);
    }
    let calls_before = sink.calls();
    let outcome = sink.write(parts.pieces());
    if outcome == Ok(total) {
        let calls = sink.calls() - calls_before;
        queue.lend(|queue, _| queue.end_direct_at_once(total as u64, calls));
        return Ok(Hints::NONE);
    }
    finish(queue, sink, parts, Stack::new(), calls_before, Some(outcome)).map(|()| Hints::NONE)
}

/// [`send`], looking closer.
#[inline(never)]
fn send_closely<S: Sink>(
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
    finish(queue, sink, parts, spare, sink.calls(), None).map(|()| true)
}

/// Sends `parts`, unless that had an `outcome` already, and copies what is left of them, to `spare` chunks
/// or others of the pool.
#[inline(never)]
fn finish<S: Sink>(
    queue: &impl Lender,
    sink: &mut S,
    parts: Parts,
    spare: Stack,
    calls_before: u32,
    outcome: Option<Result<usize>>,
) -> Result<()> {
    let (offered, outcome) = match outcome {
        Some(outcome) if outcome != Err(Errno::INTERRUPTED) => (parts.total(), outcome),
        _ => offer(parts.total(), || sink.write(parts.pieces())),
    };
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
        Ok(())
    })
}
