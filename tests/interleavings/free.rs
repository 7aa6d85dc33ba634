//! Queues come and go while other threads look at all queues of their pool.

use super::explore::some_orders;
use super::host::{Bell, Blocks, Owner, Peer, Pool, both, join, start};
use sendq::capi::*;
use std::ptr::null_mut;

/// One thread makes and frees queues that are ready. Another looks for those that are ready, stuck or heavy, but
/// uses only its own.
#[test]
fn looks_at_queues_that_go() {
    some_orders("looks at queues that go", || {
        let blocks = Blocks::new();
        let pool = Pool::counted(blocks, 1 << 20);
        let (own, owner, peer) = (pool.queue(), Owner::new(), Peer::new());
        let (own_pool, view) = (pool.view(), pool.view());
        let comes_and_goes = move || {
            for _ in 0..2 {
                let q = own_pool.queue();
                assert!(q.append_ref(b"ab", owner) >= 0);
                q.free();
            }
        };
        let looks = move || {
            assert!(own.append(b"ab") >= 0);
            let mut found = [null_mut(); 2];
            // SAFETY: alive; places of this function.
            unsafe {
                assert!(sendq_pool_heaviest(view.0, found.as_mut_ptr(), 2) >= 1);
                assert!(sendq_pool_stalled(view.0, 0, found.as_mut_ptr(), 2) >= 0);
            }
            assert!((1..=2).contains(&view.stats().queues));
            view.turn(|q| {
                if q == own {
                    q.flush_all(peer);
                }
            });
        };
        both(comes_and_goes, looks);
        pool.turn(|_| panic!("nothing is ready"));
        assert_eq!(*peer.got.borrow(), b"ab");
        owner.has_all(&[-libc::ECANCELED]);
        own.free();
        drop(pool);
        blocks.are_freed();
    });
}

/// The last queues and the host's handle of a pool go at once: the pool goes once, with all of its memory.
#[test]
fn the_last_of_a_pool() {
    some_orders("the last of a pool", || {
        let blocks = Blocks::new();
        let pool = Pool::counted(blocks, 1 << 20);
        let (one, two) = (pool.queue(), pool.queue());
        assert!(one.append(b"ab") >= 0);
        let other = start(move || two.free());
        both(move || one.free(), move || drop(pool));
        join([other]);
        blocks.are_freed();
    });
}

/// A queue that is freed leaves the turn, and wakes nobody for itself. Others in the turn stay.
#[test]
fn a_ready_queue_goes() {
    some_orders("a ready queue goes", || {
        let bell = Bell::new();
        let pool = Pool::with(|config| {
            config.wake = Some(Bell::wake);
            config.wake_arg = bell.arg();
        });
        let (goes, stays) = (pool.queue(), pool.queue());
        let peer = Peer::new();
        let free = start(move || {
            assert!(goes.append(b"xx") >= 0);
            goes.free();
        });
        let append = start(move || assert!(stays.append(b"ab") >= 0));
        while peer.got.borrow().len() < 2 {
            bell.wait();
            pool.turn(|q| {
                if q == stays {
                    q.flush_all(peer);
                }
            });
        }
        join([free, append]);
        assert_eq!(pool.stats().queues, 1);
        stays.free();
    });
}
