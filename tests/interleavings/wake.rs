//! No lost wake-up: a thread that sleeps until it is told to flush sends everything that others append.

use super::explore::some_orders;
use super::host::{Bell, Clock, Peer, Pool, Queue, both, join, start};
use sendq::capi::*;

/// Two threads append. A loop sleeps until wake is called, and flushes what sendq_pool_next returns.
#[test]
fn a_loop_that_sleeps_until_wake() {
    some_orders("a loop that sleeps until wake", || {
        let bell = Bell::new();
        let pool = Pool::with(|config| {
            config.wake = Some(Bell::wake);
            config.wake_arg = bell.arg();
        });
        let (one, two) = (pool.queue(), pool.queue());
        let peer = Peer::new();
        let appenders = [0, 1].map(|thread| {
            start(move || {
                for count in 0..2 {
                    let q = if count == 0 { one } else { two };
                    assert!(q.append(&[thread, count]) >= 0);
                }
            })
        });
        let (mut turns, mut rings) = (0, 0);
        while peer.got.borrow().len() < 8 {
            rings += bell.wait();
            turns += 1;
            pool.turn(|q| q.flush_all(peer));
        }
        join(appenders);
        // No spin: one for each append, or for each turn that left a queue for the next.
        assert!(rings <= 4 + turns, "{rings} rings in {turns} turns");
        assert_eq!(one.queued() + two.queued(), 0);
        one.free();
        two.free();
    });
}

/// The peer takes little at a time. The loop flushes each queue once a turn, and a blocked one when it is writable.
#[test]
fn a_loop_with_a_budget_and_a_slow_peer() {
    some_orders("a loop with a budget and a slow peer", || {
        let bell = Bell::new();
        let pool = Pool::with(|config| {
            config.wake = Some(Bell::wake);
            config.wake_arg = bell.arg();
        });
        let q = pool.queue();
        let peer = Peer::answering(&[1, -i64::from(libc::EAGAIN), 2]);
        let appenders = [0, 1].map(|thread| {
            start(move || {
                for count in 0..2 {
                    assert!(q.append(&[thread, count]) >= 0);
                }
            })
        });
        let mut is_blocked = false;
        while peer.got.borrow().len() < 8 {
            if is_blocked {
                // Its socket is writable now, which the loop learns without wake.
                is_blocked = q.flush(peer, 3) & SENDQ_BLOCKED != 0;
            } else {
                bell.wait();
            }
            pool.turn(|q| is_blocked = q.flush(peer, 3) & SENDQ_BLOCKED != 0);
        }
        join(appenders);
        peer.got_frames(2, 2);
        q.free();
    });
}

/// The pool has no wake, so that queues are tracked only from the first sendq_pool_next on, while others append.
#[test]
fn the_first_look_at_what_is_ready() {
    some_orders("the first look at what is ready", || {
        let pool = Pool::new();
        let (one, two) = (pool.queue(), pool.queue());
        let peer = Peer::new();
        let appenders = [one, two].map(|q| start(move || assert!(q.append(b"12") >= 0)));
        pool.turn(|q| q.flush_all(peer));
        join(appenders);
        pool.turn(|q| q.flush_all(peer));
        assert_eq!(peer.got.borrow().len(), 4);
        pool.turn(|_| panic!("nothing is ready"));
        one.free();
        two.free();
    });
}

/// Whoever gets WAKE flushes, and goes on while hints ask for it.
fn append_and_flush(q: Queue, peer: &'static Peer, thread: u8, count: u8) {
    for count in 0..count {
        let hints = q.append(&[thread, count]);
        assert!(hints >= 0);
        if hints & SENDQ_WAKE != 0 {
            q.flush_all(peer);
        }
    }
}

/// No thread sleeps and none has a loop: the hints alone get everything sent, although -EBUSY ends a flush.
#[test]
fn whoever_gets_a_hint_flushes() {
    some_orders("whoever gets a hint flushes", || {
        let pool = Pool::new();
        let q = pool.queue();
        let peer = Peer::answering(&[1]);
        both(move || append_and_flush(q, peer, 0, 3), move || append_and_flush(q, peer, 1, 3));
        assert_eq!(q.queued(), 0);
        peer.got_frames(2, 3);
        q.adds_up();
        q.free();
    });
}

/// A queue that its rate holds back, an append, and a turn at the moment when the rate lets go.
#[test]
fn a_queue_that_a_rate_holds_back() {
    some_orders("a queue that a rate holds back", || {
        let (bell, clock) = (Bell::new(), Clock::new());
        let pool = Pool::with(|config| {
            config.wake = Some(Bell::wake);
            config.wake_arg = bell.arg();
            config.now = Some(Clock::now);
            config.now_arg = clock.arg();
        });
        let (paced, other) = (pool.queue(), pool.queue());
        // SAFETY: alive.
        assert_eq!(unsafe { sendq_set_rate(paced.0, 1000, 4) }, 0);
        let peer = Peer::new();
        let appenders = [paced, other].map(|q| {
            start(move || {
                for _ in 0..2 {
                    assert!(q.append(b"1234") >= 0);
                }
            })
        });
        while peer.got.borrow().len() < 16 {
            // SAFETY: alive.
            let wait = unsafe { sendq_pool_retry_after_ns(pool.0) };
            match wait {
                0 => {}
                SENDQ_NEVER => drop(bell.wait()),
                wait => clock.advance(wait),
            }
            pool.turn(|q| assert!(q.flush(peer, 0) >= 0));
        }
        join(appenders);
        paced.free();
        other.free();
    });
}
