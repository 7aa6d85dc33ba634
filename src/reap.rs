//! Takes the acknowledgements of what was sent without a copy.

use crate::flush::WithLocked;
use crate::policy::Hints;
use crate::zerocopy::{Ack, Acks};
use std::iter;

/// How many acknowledgements one call takes. The kernel merges those of neighbouring sends, so that few wait.
const MOST: usize = 1024;

/// The acknowledgements that have come from `acks`.
pub fn each(acks: &dyn Acks) -> impl Iterator<Item = Ack> {
    iter::from_fn(|| acks.next()).take(MOST)
}

/// Takes the acknowledgements of a queue. The owners for which no other is to come are released next. UNACKED: some
/// are to come.
pub fn reap(q: &impl WithLocked) -> Hints {
    if let Some(acks) = q.with_locked(|queue, _| queue.acks()) {
        for ack in each(&*acks) {
            q.with_locked(|queue, pool| queue.acknowledge(pool, &acks, ack));
        }
    }
    q.with_locked(|queue, _| queue.unacked())
}
