//! Moves bytes from a queue to a sink, under a budget.

use crate::errno::{Errno, Result};
use crate::pool::Pool;
use crate::pressure::Hints;
use crate::queue::Queue;
use crate::segment::{MAX_PIECES, Piece, Run, gather};
use crate::sink::Sink;
use std::mem::MaybeUninit;

/// How often in a row a signal may come first, before the host gets its turn.
const MAX_INTERRUPTS: u32 = 16;

/// How a flush reaches its queue, between the calls of its sink: each loan is short, so that a lock
/// behind it is never held across a system call or a callback.
pub trait Lender {
    /// Lends the queue and its pool to `f`.
    fn lend<R>(&self, f: impl FnOnce(&mut Queue, &Pool) -> R) -> R;
}

/// Hands what waits now to `sink`, at most `max_bytes` (0: no budget), until the sink takes no more.
///
/// BLOCKED: bytes remain, the sink is full. MORE: bytes remain, the budget is spent. RESUME: fell to
/// the low watermark. BUSY: another flush is under way. Any other error is the connection's end: the
/// queue has failed with it and keeps nothing. TIMED_OUT: its deadline was over before.
#[inline(always)]
pub fn flush<S: Sink>(queue: &impl Lender, sink: &mut S, max_bytes: usize) -> Result<Hints> {
    let calls_before = sink.calls();
    let only = queue.lend(|queue, _| {
        queue.socket = sink.socket();
        queue.begin_flush_at_once(max_bytes)
    });
    let Some(piece) = only else {
        let (budget, first) = queue.lend(|queue, pool| begin(queue, pool, max_bytes))?;
        let turn = Turn { budget, hints: Hints::NONE, shorts: 0, calls_before };
        return go_on(queue, sink, turn, first, None);
    };
    let outcome = sink.write(&[piece]);
    let calls = sink.calls() - calls_before;
    let is_over = outcome == Ok(piece.len())
        && queue.lend(|queue, pool| queue.end_flush_at_once(pool, piece.len() as u64, calls));
    if is_over {
        return Ok(Hints::NONE);
    }
    let turn = Turn { budget: piece.len(), hints: Hints::NONE, shorts: 0, calls_before };
    go_on(queue, sink, turn, Some(Run::Memory(piece)), Some(outcome))
}

/// What a flush may send, and what is first. What others append meanwhile waits for the next call: so a
/// call ends, however fast they are.
pub(crate) fn begin(
    queue: &mut Queue,
    pool: &Pool,
    max_bytes: usize,
) -> Result<(usize, Option<Run>)> {
    let allowed = usize::try_from(queue.begin_flush(pool)?).unwrap_or(usize::MAX);
    let budget = if max_bytes == 0 { allowed } else { allowed.min(max_bytes) };
    Ok((budget, queue.runs().next()))
}

/// How far a flush has come.
struct Turn {
    /// Bytes that it may still send.
    budget: usize,
    hints: Hints,
    /// Offers of which less was taken.
    shorts: u32,
    /// What the sink had counted before.
    calls_before: u32,
}

/// A flush, from the point where `first` is to be offered, or where that had an `outcome` already.
#[inline(never)]
fn go_on<S: Sink>(
    queue: &impl Lender,
    sink: &mut S,
    mut turn: Turn,
    mut first: Option<Run>,
    mut outcome: Option<Result<usize>>,
) -> Result<Hints> {
    loop {
        let (offered, outcome) = match (first, outcome.take()) {
            (Some(Run::Memory(piece)), Some(outcome)) if outcome != Err(Errno::INTERRUPTED) => {
                (piece.len(), outcome)
            }
            (None, _) => (0, Ok(0)),
            _ if turn.budget == 0 => (0, Ok(0)),
            (Some(Run::Memory(piece)), _) if piece.len() >= turn.budget => {
                let piece = piece.first(turn.budget);
                offer(piece.len(), || sink.write(&[piece]))
            }
            (Some(Run::Memory(_)), _) => write_many(queue, sink, turn.budget),
            (Some(Run::File(fd, offset, len)), _) => {
                let len = usize::try_from(len).unwrap_or(usize::MAX).min(turn.budget);
                offer(len, || sink.send_file(fd, offset, len))
            }
        };
        let calls = sink.calls() - turn.calls_before;
        let ended = queue.lend(|queue, pool| {
            let taken = match outcome {
                Ok(taken) => taken,
                Err(errno) if errno.is_refusal() => 0,
                Err(errno) => {
                    queue.end_flush(pool, calls, turn.shorts, false);
                    queue.fail(pool, errno);
                    return Some(Err(errno));
                }
            };
            turn.hints |= queue.leave(pool, taken as u64);
            turn.budget -= taken;
            turn.shorts += u32::from(taken < offered);
            // A file may be taken in parts for other reasons than a full socket (sendfile(2)).
            let asks_on = taken == offered || taken > 0 && matches!(first, Some(Run::File(..)));
            if asks_on && turn.budget > 0 {
                first = queue.runs().next();
                return None;
            }
            let is_over = turn.budget == 0 || outcome == Err(Errno::INTERRUPTED);
            let remains = queue.available() > 0;
            queue.end_flush(pool, calls, turn.shorts, remains && !is_over);
            if remains {
                turn.hints |= if is_over { Hints::MORE } else { Hints::BLOCKED };
            }
            Some(Ok(turn.hints))
        });
        if let Some(result) = ended {
            return result;
        }
    }
}

/// Makes `attempt`, again when a signal came first. Returns how many bytes it `offered` as well.
pub(crate) fn offer(
    offered: usize,
    mut attempt: impl FnMut() -> Result<usize>,
) -> (usize, Result<usize>) {
    let mut outcome = attempt();
    let mut left = MAX_INTERRUPTS - 1;
    while outcome == Err(Errno::INTERRUPTED) && left > 0 {
        outcome = attempt();
        left -= 1;
    }
    (offered, outcome)
}

/// Offers as many pieces as one call takes. Apart, because a flush that sends one piece, as most do,
/// need not touch the four pages of stack that this takes.
#[inline(never)]
fn write_many<S: Sink>(queue: &impl Lender, sink: &mut S, budget: usize) -> (usize, Result<usize>) {
    let mut room = [MaybeUninit::uninit(); MAX_PIECES];
    let pieces = queue.lend(|queue, _| gather(&mut room, queue.pieces(), budget));
    offer(pieces.iter().map(Piece::len).sum(), || sink.write(pieces))
}
