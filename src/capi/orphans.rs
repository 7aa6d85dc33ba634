//! What queues that are gone have sent without a copy: the pool keeps it until the kernel is done with it.

use super::handle::sendq_pool_t;
use super::lock::Guarded;
use crate::policy::Hints;
use crate::pool::Pool;
use crate::reap::each;
use crate::zerocopy::Zerocopy;
use std::ptr::NonNull;

/// An orphan that is older than this, in nanoseconds, is ended: a peer that takes a byte now and then would hold the
/// memory for ever.
const MOST_AGE: u64 = 120_000_000_000;

/// The orphans of a pool. Each holds a reference to the pool.
pub(super) struct Orphans(Guarded<List>);

struct List {
    first: Option<Box<Zerocopy>>,
    /// How many there are, and how many bytes they hold; those that a thread is looking at are not in the list.
    count: u64,
    bytes: u64,
    /// How many queues may leave others.
    queues: u64,
    /// A thread is looking at them.
    is_reaping: bool,
    /// The host has freed the pool while there were orphans or such queues. Its reference stays until it has heard
    /// that there are none any more.
    is_freed: bool,
}

impl List {
    fn push(&mut self, mut orphan: Box<Zerocopy>) {
        orphan.next = self.first.take();
        self.first = Some(orphan);
    }

    fn is_done(&self) -> bool {
        self.count == 0 && self.queues == 0
    }
}

impl Orphans {
    pub(super) const fn new(is_shared: bool) -> Orphans {
        let list =
            List { first: None, count: 0, bytes: 0, queues: 0, is_reaping: false, is_freed: false };
        Orphans(Guarded::new(list, is_shared))
    }

    /// How many there are, and how many bytes they hold.
    pub(super) fn count(&self) -> (u64, u64) {
        self.0.with(|list| (list.count, list.bytes))
    }

    /// A queue was made that may leave orphans.
    pub(super) fn add_queue(&self) {
        self.0.with(|list| list.queues += 1);
    }

    /// Such a queue is gone.
    pub(super) fn remove_queue(&self) {
        self.0.with(|list| list.queues -= 1);
    }

    /// The host frees the pool. false: its reference stays until [`Orphans::reap_for_host`] gives it up.
    pub(super) fn free(&self) -> bool {
        self.0.with(|list| {
            list.is_freed = !list.is_done();
            !list.is_freed
        })
    }

    /// Takes over what a queue of `pool` has left.
    ///
    /// # Safety
    /// `pool` is alive.
    pub(super) unsafe fn adopt(pool: NonNull<sendq_pool_t>, mut orphan: Box<Zerocopy>) {
        if let Some(acks) = orphan.acks() {
            acks.abandon();
        }
        // SAFETY: alive, as the caller says.
        unsafe {
            sendq_pool_t::hold(pool);
            orphan.since = pool.as_ref().pool().now();
            pool.as_ref().orphans().0.with(|list| {
                list.count += 1;
                list.bytes += orphan.held_bytes();
                list.push(orphan);
            });
        }
    }

    /// [`Orphans::reap`] by the host, which may have freed the pool. UNACKED: it has to call again.
    ///
    /// # Safety
    /// As for [`Orphans::reap`].
    pub(super) unsafe fn reap_for_host(pool: NonNull<sendq_pool_t>) -> Hints {
        // SAFETY: as the caller says, and then by a reference of its own.
        unsafe {
            sendq_pool_t::hold(pool);
            Orphans::reap(pool);
            let (rest, is_over) = pool.as_ref().orphans().0.with(|list| {
                let is_over = list.is_freed && list.is_done();
                let rest = if list.is_freed { !list.is_done() } else { list.count > 0 };
                list.is_freed &= !is_over;
                (rest, is_over)
            });
            (0..1 + u32::from(is_over)).for_each(|_| sendq_pool_t::release(pool));
            Hints::UNACKED.when(rest)
        }
    }

    /// Releases the owners of what is acknowledged, with nothing locked, and ends what is too old. If another call
    /// is at it, perhaps further up the stack, that one goes on.
    ///
    /// # Safety
    /// `pool` is alive, by a reference of the caller's.
    pub(super) unsafe fn reap(pool: NonNull<sendq_pool_t>) {
        // SAFETY: alive, as the caller says.
        let (handle, mut gone) = (unsafe { pool.as_ref() }, 0);
        let orphans = &handle.orphans().0;
        let mut next = orphans.with(|list| match std::mem::replace(&mut list.is_reaping, true) {
            true => None,
            false => Some(list.first.take()),
        });
        let Some(next) = &mut next else { return };
        while let Some(mut orphan) = next.take() {
            *next = orphan.next.take();
            let bytes = orphan.held_bytes();
            release_acked(&mut orphan, handle.pool());
            orphans.with(|list| list.bytes -= bytes - orphan.held_bytes());
            if orphan.is_unacked() {
                orphans.with(|list| list.push(orphan));
            } else {
                orphans.with(|list| list.count -= 1);
                gone += 1;
            }
        }
        orphans.with(|list| list.is_reaping = false);
        // SAFETY: so many references of orphans; the caller's is left.
        (0..gone).for_each(|_| unsafe { sendq_pool_t::release(pool) });
    }
}

fn release_acked(orphan: &mut Zerocopy, pool: &Pool) {
    if let Some(acks) = orphan.acks() {
        if pool.now().saturating_sub(orphan.since) > MOST_AGE {
            acks.abort();
        }
        for ack in each(&*acks) {
            orphan.acknowledge(&acks, ack);
        }
    }
    while let Some(slot) = orphan.next_released() {
        pool.unpin(slot.pinned());
        slot.release();
    }
}
