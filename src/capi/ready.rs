//! Tells the registry of a pool, after each access to a queue, whether the queue is ready.

use super::registry::{Member, READY, Registry, UNLISTED, Want};
use crate::policy::Changes;
use crate::pool::Pool;
use crate::queue::{Deferred, Queue};
use crate::sync::atomic::Ordering;

/// After an access to a queue that is tracked and locked: puts it into the list where it belongs. Returns what
/// else is `deferred`, and WAKE if the host has to be woken.
pub(super) fn track<T: Member>(
    queues: &Registry<T>,
    member: &T,
    queue: &mut Queue,
    pool: &Pool,
    deferred: Deferred,
) -> Deferred {
    let Changes { has_rest, has_appended } = queue.take_changes();
    let is_plain = queue.available() > 0 && !queue.policy().has_rate();
    if is_plain && !has_rest && member.listed().load(Ordering::Relaxed) == READY {
        return deferred.without_changes();
    }
    let is_full = queue.policy().is_blocked();
    let has_happened = has_rest || has_appended && !is_full;
    // A full sink is the host's to watch. A later append to the queue changes nothing.
    let want = if has_rest && is_full { Want::Nothing } else { want(queue, pool, has_happened) };
    let wakes = put(queues, member, want);
    // A queue that is in no list has to notice the next append.
    if !is_full && queue.available() > 0 && !is_listed(member) {
        queue.clear_room();
    }
    let others = deferred.without_changes();
    if wakes { others | Deferred::WAKE } else { others }
}

/// Makes a locked queue ready, if bytes are available. Returns whether the host has to be woken.
pub(super) fn schedule<T: Member>(
    queues: &Registry<T>,
    member: &T,
    queue: &Queue,
    pool: &Pool,
) -> bool {
    put(queues, member, want(queue, pool, true))
}

/// Puts a locked queue, which is tracked from now on, into the list where it belongs.
pub(super) fn list<T: Member>(queues: &Registry<T>, member: &T, queue: &mut Queue, pool: &Pool) {
    queue.take_changes();
    if !queue.policy().is_blocked() {
        schedule(queues, member, queue, pool);
    }
}

/// Where a queue should be, if its sink is not full. `has_happened`: something makes it ready.
fn want(queue: &Queue, pool: &Pool, has_happened: bool) -> Want {
    if queue.available() == 0 {
        return Want::Nothing;
    }
    match queue.paced_ns(pool) {
        0 if has_happened => Want::Ready,
        0 => Want::Stay,
        wait => Want::Paced(pool.now().saturating_add(wait)),
    }
}

fn is_listed(member: &impl Member) -> bool {
    member.listed().load(Ordering::Relaxed) != UNLISTED
}

fn put<T: Member>(queues: &Registry<T>, member: &T, want: Want) -> bool {
    // Only an access to the queue puts it into a list, and the queue is locked.
    if matches!(want, Want::Nothing | Want::Stay) && !is_listed(member) {
        return false;
    }
    queues.with_turn(|turn, table| turn.put(table, member, want))
}
