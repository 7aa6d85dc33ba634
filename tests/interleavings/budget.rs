//! The memory of a pool that several threads use: its budget holds, and everything comes back.

use super::explore::some_orders;
use super::host::{Blocks, Owner, Pool, Queue, both};
use sendq::capi::*;

/// Appends, sends all of it, and takes a refusal for what it is.
fn use_memory(q: Queue, owner: &'static Owner) {
    for _ in 0..2 {
        let copied = q.append(&[1; 200]);
        let borrowed = q.append_ref(&[2; 300], owner);
        for result in [copied, borrowed] {
            assert!(result >= 0 || result == -libc::ENOBUFS, "{result}");
        }
        // SAFETY: alive.
        assert_eq!(unsafe { sendq_consume(q.0, q.queued() as usize) }, 0);
    }
}

/// Two queues want more than the budget has. Nothing is reserved for them.
#[test]
fn a_budget_holds() {
    some_orders("a budget holds", || {
        let blocks = Blocks::new();
        let pool = Pool::counted(blocks, 1024);
        let queues = [(); 2].map(|()| pool.queue_with(|config| config.reserve = 1));
        let owner = Owner::new();
        both(move || use_memory(queues[0], owner), move || use_memory(queues[1], owner));
        let stats = pool.stats();
        assert!(stats.peak <= 1024, "{}", stats.peak);
        assert_eq!((stats.used, stats.pinned, stats.shared), (0, 0, 0));
        owner.has_all(&[]);
        for q in queues {
            q.adds_up();
            q.free();
        }
        drop(pool);
        blocks.are_freed();
    });
}
