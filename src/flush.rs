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
pub fn flush(queue: &impl Lender, sink: &mut impl Sink, max_bytes: usize) -> Result<Hints> {
    // What others append meanwhile waits for the next call: so a call ends, however fast they are.
    let (mut budget, mut first) = queue.lend(|queue, pool| {
        queue.socket = sink.socket();
        let allowed = usize::try_from(queue.begin_flush(pool)?).unwrap_or(usize::MAX);
        let budget = if max_bytes == 0 { allowed } else { allowed.min(max_bytes) };
        Ok((budget, queue.runs().next()))
    })?;

    let (mut hints, mut shorts, calls_before) = (Hints::NONE, 0, sink.calls());
    loop {
        let (offered, outcome) = match first {
            _ if budget == 0 => (0, Ok(0)),
            None => (0, Ok(0)),
            Some(Run::Memory(piece)) if piece.len() >= budget => {
                let pieces = [piece.first(budget)];
                offer(piece.first(budget).len(), || sink.write(&pieces))
            }
            Some(Run::Memory(_)) => write_many(queue, sink, budget),
            Some(Run::File(fd, offset, len)) => {
                let len = usize::try_from(len).unwrap_or(usize::MAX).min(budget);
                offer(len, || sink.send_file(fd, offset, len))
            }
        };
        let calls = sink.calls() - calls_before;
        let ended = queue.lend(|queue, pool| {
            let taken = match outcome {
                Ok(taken) => taken,
                Err(errno) if errno.is_transient() || errno == Errno::INTERRUPTED => 0,
                Err(errno) => {
                    queue.end_flush(pool, calls, shorts, false);
                    queue.fail(pool, errno);
                    return Some(Err(errno));
                }
            };
            hints |= queue.leave(pool, taken as u64);
            budget -= taken;
            shorts += u32::from(taken < offered);
            // A file may be taken in parts for other reasons than a full socket (sendfile(2)).
            let asks_on = taken == offered || taken > 0 && matches!(first, Some(Run::File(..)));
            if asks_on && budget > 0 {
                first = queue.runs().next();
                return None;
            }
            let turn_is_over = budget == 0 || outcome == Err(Errno::INTERRUPTED);
            let remains = queue.available() > 0;
            queue.end_flush(pool, calls, shorts, remains && !turn_is_over);
            if remains {
                hints |= if turn_is_over { Hints::MORE } else { Hints::BLOCKED };
            }
            Some(Ok(hints))
        });
        if let Some(result) = ended {
            return result;
        }
    }
}

/// Makes `attempt`, again when a signal came first. Returns how many bytes it `offered` as well.
#[inline]
fn offer(offered: usize, mut attempt: impl FnMut() -> Result<usize>) -> (usize, Result<usize>) {
    let mut outcome = attempt();
    for _ in 1..MAX_INTERRUPTS {
        if outcome != Err(Errno::INTERRUPTED) {
            break;
        }
        outcome = attempt();
    }
    (offered, outcome)
}

/// Offers as many pieces as one call takes. Apart, because a flush that sends one piece, as most do,
/// need not touch the four pages of stack that this takes.
#[inline(never)]
fn write_many(queue: &impl Lender, sink: &mut impl Sink, budget: usize) -> (usize, Result<usize>) {
    let mut room = [MaybeUninit::uninit(); MAX_PIECES];
    let pieces = queue.lend(|queue, _| gather(&mut room, queue.pieces(), budget));
    offer(pieces.iter().map(Piece::len).sum(), || sink.write(pieces))
}
