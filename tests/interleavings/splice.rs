//! Bytes that move between queues of several threads.

use super::explore::some_orders;
use super::host::{Owner, Peer, Pool, Queue, both, done_or_busy};
use sendq::capi::*;

/// Two threads splice in opposite directions: neither waits for the other, and no byte is lost.
#[test]
fn in_opposite_directions() {
    some_orders("splices in opposite directions", || {
        let pool = Pool::new();
        let (one, two) = (pool.queue(), pool.queue());
        let owner = Owner::new();
        assert!(one.append_ref(b"ab", owner) >= 0);
        assert!(two.append(b"cde") >= 0);
        let splice = |to: Queue, from: Queue| {
            // SAFETY: alive.
            move || done_or_busy(unsafe { sendq_splice(to.0, from.0) })
        };
        both(splice(one, two), splice(two, one));
        let peer = Peer::new();
        one.flush_all(peer);
        two.flush_all(peer);
        let mut got = peer.got.borrow().clone();
        got.sort_unstable();
        assert_eq!(got, b"abcde");
        owner.has_all(&[]);
        one.free();
        two.free();
    });
}

/// A borrowed piece is divided, and two threads send its parts: the second releases the owner.
#[test]
fn the_parts_of_a_piece() {
    some_orders("the parts of a piece", || {
        let pool = Pool::new();
        let (from, to) = (pool.queue(), pool.queue());
        let (owner, peers) = (Owner::new(), [Peer::new(), Peer::new()]);
        assert!(from.append_ref(b"abcdef", owner) >= 0);
        // SAFETY: alive.
        assert!(unsafe { sendq_splice_n(to.0, from.0, 2) } >= 0);
        both(move || from.flush_all(peers[0]), move || to.free());
        assert_eq!(*peers[0].got.borrow(), b"cdef");
        owner.has_all(&[-libc::ECANCELED]);
        assert_eq!(owner.released.get(), 1);
        from.free();
    });
}
