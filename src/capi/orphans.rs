//! What queues that are gone have sent without a copy: the pool keeps it until the kernel is done with it.

use super::handle::sendq_pool_t;
use super::lock::Guarded;
use crate::policy::Hints;
use crate::pool::Pool;
use crate::reap::each;
use crate::zerocopy::Zerocopy;
use std::ptr::NonNull;

/// The orphans of a pool. Each holds a reference to the pool.
pub(super) struct Orphans(Guarded<List>);

struct List {
    first: Option<Box<Zerocopy>>,
    /// How many there are, and how many bytes they hold; those that a thread is looking at are not in the list.
    count: u64,
    bytes: u64,
}

impl Orphans {
    pub(super) const fn new(is_shared: bool) -> Orphans {
        Orphans(Guarded::new(List { first: None, count: 0, bytes: 0 }, is_shared))
    }

    /// How many there are, and how many bytes they hold.
    pub(super) fn count(&self) -> (u64, u64) {
        self.0.with(|list| (list.count, list.bytes))
    }

    /// Takes over what a queue of `pool` has left.
    ///
    /// # Safety
    /// `pool` is alive.
    pub(super) unsafe fn adopt(pool: NonNull<sendq_pool_t>, orphan: Box<Zerocopy>) {
        if let Some(acks) = orphan.acks() {
            acks.abandon();
        }
        // SAFETY: alive, as the caller says.
        unsafe {
            sendq_pool_t::hold(pool);
            pool.as_ref().orphans().0.with(|list| {
                list.count += 1;
                list.bytes += orphan.held_bytes();
                list.push(orphan);
            });
        }
    }

    /// Releases the owners of what is acknowledged, with nothing locked. UNACKED: there are others.
    ///
    /// # Safety
    /// `pool` is alive. It may be gone when this returns, if the host has freed it.
    pub(super) unsafe fn reap(pool: NonNull<sendq_pool_t>) -> Hints {
        // SAFETY: alive, as the caller says, and then by the references of the orphans that are looked at, which are
        // given up last.
        unsafe {
            let (handle, mut gone) = (pool.as_ref(), 0);
            let orphans = &handle.orphans().0;
            let mut next = orphans.with(|list| list.first.take());
            while let Some(mut orphan) = next {
                next = orphan.next.take();
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
            let rest = Hints::UNACKED.when(orphans.with(|list| list.count > 0));
            (0..gone).for_each(|_| sendq_pool_t::release(pool));
            rest
        }
    }
}

impl List {
    fn push(&mut self, mut orphan: Box<Zerocopy>) {
        orphan.next = self.first.take();
        self.first = Some(orphan);
    }
}

fn release_acked(orphan: &mut Zerocopy, pool: &Pool) {
    if let Some(acks) = orphan.acks() {
        for ack in each(&*acks) {
            orphan.acknowledge(&acks, ack);
        }
    }
    while let Some(slot) = orphan.next_released() {
        pool.unpin(slot.pinned());
        slot.release();
    }
}
