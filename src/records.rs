//! A flush for a sink that takes one contiguous piece at a time, and wants it again when it was refused:
//! TLS. What is small is gathered into full records; what is large is sent from where it lies.

use crate::errno::{Errno, Result};
use crate::flush::{Lender, begin};
use crate::pool::Pool;
use crate::pressure::Hints;
use crate::queue::Queue;
use crate::segment::{Piece, Run};
use crate::sink::Sink;
use crate::sink::record::Record;

/// The most that is offered at once: the plaintext of a TLS record (RFC 8446, 5.1).
pub const RECORD: usize = 16 * 1024;

/// [`crate::flush::flush`], record by record. After a refusal, the same bytes at the same address are
/// offered first by the next call, whatever its budget.
///
/// Errors and hints as for a flush; WANT_READ, which the sink asked for, in place of BLOCKED. CANCELED:
/// the sink has freed the queue.
pub fn flush_records<S: Sink>(
    queue: &impl Lender,
    sink: &mut S,
    max_bytes: usize,
) -> Result<Hints> {
    let (mut budget, _) = queue.lend(|queue, pool| {
        queue.may_refuse()?;
        begin(queue, pool, max_bytes)
    })?;
    let calls_before = sink.calls();
    let (mut hints, mut shorts, mut rest) = (Hints::NONE, 0, 0);
    loop {
        let piece = match next(queue, budget, rest) {
            Ok(piece) => piece,
            // What left before counts; the next call meets the error again.
            Err(errno) if errno.is_transient() && sink.calls() > calls_before => {
                let calls = sink.calls() - calls_before;
                queue.lend(|queue, pool| queue.end_flush(pool, calls, shorts, false));
                return Ok(hints | Hints::MORE);
            }
            Err(errno) => return queue.lend(|queue, pool| give_up(queue, pool, errno)),
        };
        let (offered, outcome) = match piece {
            // Once, whatever interrupts it: it may have freed the queue, and with that the piece.
            Some(piece) => (piece.len(), sink.write(&[piece])),
            None => (0, Ok(0)),
        };
        let calls = sink.calls() - calls_before;
        let ended = queue.lend(|queue, pool| {
            if !queue.is_flushing() {
                return Some(Err(Errno::CANCELED));
            }
            let refused = match outcome {
                Ok(taken) => {
                    hints |= queue.leave(pool, taken as u64);
                    budget = budget.saturating_sub(taken);
                    shorts += u32::from(taken < offered);
                    rest = offered - taken;
                    None
                }
                Err(errno) if errno.is_refusal() => Some(errno),
                Err(errno) => {
                    queue.end_flush(pool, calls, shorts, false);
                    return Some(fail(queue, pool, errno));
                }
            };
            if refused.is_none() && offered > 0 && budget > 0 && queue.available() > 0 {
                return None;
            }
            let remains = queue.available() > 0;
            shorts += u32::from(refused.is_some());
            queue.end_flush(pool, calls, shorts, refused.is_some());
            if refused.is_some() {
                queue.refused(offered);
            }
            hints |= match refused {
                Some(Errno::WANT_READ) => Hints::WANT_READ,
                Some(Errno::INTERRUPTED) => Hints::MORE,
                Some(_) => Hints::BLOCKED,
                None => Hints::MORE.when(remains),
            };
            Some(Ok(hints))
        });
        if let Some(result) = ended {
            return result;
        }
    }
}

/// Without memory for a record, nothing is lost; a file that cannot be read is the end.
fn give_up(queue: &mut Queue, pool: &Pool, errno: Errno) -> Result<Hints> {
    queue.end_flush(pool, 0, 0, false);
    if errno.is_transient() { Err(errno) } else { fail(queue, pool, errno) }
}

fn fail(queue: &mut Queue, pool: &Pool, errno: Errno) -> Result<Hints> {
    queue.fail(pool, errno);
    Err(errno)
}

/// What is to be offered next: what was refused; or the `rest` of what was offered last, or else at most a
/// record, and not above `budget`. The rest is not gathered anew, or all that follows it would be copied,
/// again and again, for a sink that takes little at a time.
fn next(queue: &impl Lender, budget: usize, rest: usize) -> Result<Option<Piece>> {
    enum Next {
        Offer(Option<Piece>),
        Gather(usize),
    }
    let next = queue.lend(|queue, _| {
        let Some(first) = queue.runs().next() else { return Next::Offer(None) };
        let refused = queue.last_refused();
        let available = usize::try_from(queue.available()).unwrap_or(usize::MAX);
        let want = match (refused, rest) {
            (0, 0) => RECORD.min(budget).min(available),
            (0, rest) => rest.min(budget),
            (refused, _) => refused,
        };
        match first {
            Run::Memory(piece) if piece.len() >= want || refused > 0 => {
                Next::Offer((want > 0).then(|| piece.first(want)))
            }
            _ if want == 0 => Next::Offer(None),
            _ => Next::Gather(want.min(before_large(queue, available))),
        }
    });
    match next {
        Next::Offer(piece) => Ok(piece),
        Next::Gather(want) => gather_front(queue, want),
    }
}

/// How many bytes stand before a piece that fills a record, if that can be sent from where it lies, and no
/// record more is needed than for all that is `available` without a gap. Otherwise no limit.
fn before_large(queue: &Queue, available: usize) -> usize {
    let mut before = 0;
    for run in queue.runs() {
        let len = usize::try_from(run.len()).unwrap_or(usize::MAX);
        if matches!(run, Run::Memory(_)) && len >= RECORD {
            let apart = 1 + (available - before).div_ceil(RECORD);
            return if apart > available.div_ceil(RECORD) { usize::MAX } else { before };
        }
        before = before.saturating_add(len);
        if before >= RECORD {
            break;
        }
    }
    usize::MAX
}

/// Copies the first `want` bytes to where they are contiguous. Without memory for that, the first piece will
/// do, unless that is a file.
fn gather_front(queue: &impl Lender, want: usize) -> Result<Option<Piece>> {
    let mut chunk = match queue.lend(|_, pool| pool.take_contiguous(want)) {
        Ok(chunk) => chunk,
        Err(errno) => {
            return match queue.lend(|queue, _| queue.runs().next()) {
                Some(Run::Memory(piece)) => Ok(Some(piece.first(want))),
                _ => Err(errno),
            };
        }
    };
    let gathered = gather(queue, Record::new(&mut chunk.room()[..want]));
    queue.lend(|queue, pool| match gathered {
        Ok(()) => Ok(Some(queue.replace_front(pool, chunk, want))),
        Err(errno) => {
            pool.give(chunk);
            Err(errno)
        }
    })
}

/// Fills `record` with the first bytes; there are as many.
///
/// Errors as for [`Record::read`].
fn gather(queue: &impl Lender, mut record: Record) -> Result<()> {
    let mut seen = 0;
    while !record.is_full() {
        // What is in memory is copied within one loan; a file is read outside of it. What waits stays
        // where it is until the flush is over.
        let file = queue.lend(|queue, _| {
            queue.runs().skip(seen).find_map(|run| {
                seen += 1;
                match run {
                    Run::Memory(piece) => {
                        record.copy(piece);
                        record.is_full().then_some(None)
                    }
                    Run::File(fd, offset, len) => Some(Some((fd, offset, len))),
                }
            })
        });
        if let Some((fd, offset, len)) = file.expect("as many bytes wait") {
            record.read(fd, offset, len)?;
        }
    }
    Ok(())
}
