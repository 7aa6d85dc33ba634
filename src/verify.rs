//! Shadow mode: were these the next bytes?

use crate::errno::Result;
use crate::flush::Lender;
use crate::pressure::Hints;
use crate::segment::Parts;
use crate::sink::compare::expect;

/// Runs that are looked at in one loan of the queue.
const BATCH: usize = 64;

/// What a comparison found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They were the next bytes, and have left.
    Same(Hints),
    /// They were not, from this offset in the stream on. Nothing has left.
    DiffersAt(u64),
}

/// Compares the first `bytes` of `parts`, which have as many, with what waits.
///
/// BUSY: a flush is under way. A failed queue gives its error; a file, its own.
pub fn verify(queue: &impl Lender, parts: Parts, bytes: usize) -> Result<Verdict> {
    // What waits stays where it is meanwhile, whatever others append.
    queue.lend(|queue, pool| queue.begin_flush(pool))?;
    let same = count_same(queue, parts, bytes);
    queue.lend(|queue, pool| {
        queue.end_flush(pool, 0, 0, false);
        let same = same?;
        if same < bytes as u64 {
            return Ok(Verdict::DiffersAt(queue.sent() + same));
        }
        Ok(Verdict::Same(queue.leave(pool, same)))
    })
}

/// How many of the first `bytes` are the same.
fn count_same(queue: &impl Lender, parts: Parts, bytes: usize) -> Result<u64> {
    let (mut same, mut seen) = (0, 0);
    let mut expected = expect(parts, bytes);
    loop {
        let mut runs = [None; BATCH];
        queue.lend(|queue, _| {
            for (place, run) in runs.iter_mut().zip(queue.runs().skip(seen)) {
                *place = Some(run);
            }
        });
        for run in runs {
            let Some(run) = run else { return Ok(same) };
            let taken = expected.take(run)?;
            same += taken;
            if taken < run.len() {
                return Ok(same);
            }
        }
        seen += BATCH;
    }
}
