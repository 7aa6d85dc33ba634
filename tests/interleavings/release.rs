//! Every owner is released once, whichever threads send, discard and release, and whatever the callbacks do.

use super::explore::some_orders;
use super::host::{Peer, Pool, Queue, both, done_or_busy, may_switch};
use sendq::capi::*;
use std::cell::Cell;
use std::ffi::c_void;

/// A piece whose release callback does something to its queue.
struct Piece {
    q: Queue,
    then: fn(Queue),
    released: Cell<usize>,
}

unsafe extern "C-unwind" fn release(arg: *mut c_void, _: *const c_void, _: usize, _: i32) {
    // SAFETY: a piece, which stays.
    let piece = unsafe { &*arg.cast::<Piece>() };
    piece.released.set(piece.released.get() + 1);
    may_switch();
    (piece.then)(piece.q);
    may_switch();
}

/// Appends `count` pieces of two bytes.
fn append(q: Queue, count: usize, then: fn(Queue)) -> Vec<&'static Piece> {
    let piece = || -> &'static Piece {
        let piece: &Piece = Box::leak(Box::new(Piece { q, then, released: Cell::new(0) }));
        let arg = (&raw const *piece).cast_mut().cast();
        // SAFETY: alive; memory that stays.
        let hints = unsafe { sendq_append_ref(q.0, c"ab".as_ptr().cast(), 2, Some(release), arg) };
        assert!(hints >= 0);
        piece
    };
    (0..count).map(|_| piece()).collect()
}

fn are_released(pieces: &[&Piece]) {
    for piece in pieces {
        assert_eq!(piece.released.get(), 1);
    }
}

/// Two threads send in turns, and either of them may release what the other has sent.
#[test]
fn two_threads_release() {
    some_orders("two threads release", || {
        let pool = Pool::new();
        let q = pool.queue();
        let peer = Peer::new();
        let pieces = append(q, 4, |_| ());
        let flush = move || {
            for _ in 0..3 {
                done_or_busy(q.flush(peer, 2));
            }
        };
        both(flush, flush);
        q.flush_all(peer);
        are_released(&pieces);
        // SAFETY: alive.
        assert_eq!(unsafe { sendq_memory(q.0) }, 0);
        q.free();
    });
}

/// A callback appends, flushes and discards.
#[test]
fn callbacks_that_call_back() {
    some_orders("callbacks that call back", || {
        let pool = Pool::new();
        let q = pool.queue();
        let pieces = append(q, 2, |q| {
            assert!(q.append(b"more") >= 0);
            done_or_busy(q.discard());
        });
        let peer = Peer::new();
        both(move || q.flush_all(peer), move || q.flush_all(peer));
        q.discard();
        are_released(&pieces);
        q.adds_up();
        q.free();
    });
}

/// One thread sends while another discards: one of both releases each piece.
#[test]
fn sent_or_discarded() {
    some_orders("sent or discarded", || {
        let pool = Pool::new();
        let q = pool.queue();
        let pieces = append(q, 3, |_| ());
        let peer = Peer::answering(&[2, 2]);
        both(move || assert!(q.flush(peer, 4) >= 0), move || done_or_busy(q.discard()));
        q.discard();
        are_released(&pieces);
        q.adds_up();
        q.free();
    });
}

/// The last callback frees the queue while this thread's own call on it goes on.
#[test]
fn a_callback_frees_the_queue() {
    some_orders("a callback frees the queue", || {
        let pool = Pool::new();
        let (q, other) = (pool.queue(), pool.queue());
        let peer = Peer::new();
        let pieces = append(q, 2, |q| q.free());
        let view = pool.view();
        let look = move || {
            view.stats();
            assert!(other.append(b"ab") >= 0);
        };
        both(move || assert_eq!(q.flush(peer, 0), 0), look);
        are_released(&pieces);
        assert_eq!(pool.stats().queues, 1);
        other.free();
    });
}
