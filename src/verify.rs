//! Shadow mode: were these the next bytes?

use crate::errno::Result;
use crate::flush::Lender;
use crate::pressure::Hints;
use crate::segment::{Parts, Run};
use crate::sink::compare::expect;

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
        // What is in memory is looked at within one loan; a file is read outside of it.
        let file = queue.lend(|queue, _| {
            for run in queue.runs().skip(seen) {
                seen += 1;
                if matches!(run, Run::File(..)) {
                    return Ok(Some(run));
                }
                let taken = expected.take(run)?;
                same += taken;
                if taken < run.len() {
                    break;
                }
            }
            Ok(None)
        })?;
        let Some(run) = file else { return Ok(same) };
        let taken = expected.take(run)?;
        same += taken;
        if taken < run.len() {
            return Ok(same);
        }
    }
}
