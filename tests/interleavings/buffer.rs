//! A shared buffer in queues of several threads.

use super::explore::{all_orders, some_orders};
use super::host::{Blocks, Peer, Pool, Queue, both, join, may_switch, start};
use sendq::capi::*;
use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::null_mut;

unsafe extern "C-unwind" fn release(arg: *mut c_void, _: *const c_void, _: usize, reason: i32) {
    // SAFETY: a counter, which stays.
    let released = unsafe { &*arg.cast::<Cell<usize>>() };
    may_switch();
    released.set(released.get() + if reason == 0 { 1 } else { 100 });
}

fn wrap(pool: &Pool) -> (*mut sendq_buf_t, &'static Cell<usize>) {
    let released: &Cell<usize> = Box::leak(Box::new(Cell::new(0)));
    let (mut buf, arg) = (null_mut(), (&raw const *released).cast_mut().cast());
    // SAFETY: memory that stays; the pool is alive.
    unsafe {
        let data = c"abcd".as_ptr().cast();
        assert_eq!(sendq_buf_wrap(pool.0, data, 4, Some(release), arg, &mut buf), 0);
    }
    (buf, released)
}

/// Two threads give up their references: the last one releases the owner.
#[test]
fn the_last_reference() {
    all_orders("the last reference", || {
        let pool = Pool::new();
        let (buf, released) = wrap(&pool);
        // SAFETY: a reference of the thread that is started.
        let unref = |buf| start(move || unsafe { sendq_buf_unref(buf) });
        // SAFETY: alive, by the host's reference.
        let other = unref(unsafe { sendq_buf_ref(buf) });
        let host = unref(buf);
        join([other, host]);
        assert_eq!(released.get(), 1);
        assert_eq!(pool.stats().shared, 0);
    });
}

/// Two queues send a part of it, while the host gives up its reference and the pool.
#[test]
fn two_queues_send_it() {
    some_orders("two queues send a buffer", || {
        let blocks = Blocks::new();
        let pool = Pool::counted(blocks, 1 << 20);
        let (buf, released) = wrap(&pool);
        let queues = [pool.queue(), pool.queue()];
        let peer = Peer::new();
        for q in queues {
            // SAFETY: alive.
            assert!(unsafe { sendq_append_buf(q.0, buf, 1, 2) } >= 0);
        }
        let host = start(move || {
            // SAFETY: the host's reference, used for the last time.
            unsafe { sendq_buf_unref(buf) };
            drop(pool);
        });
        let send = |q: Queue| {
            move || {
                q.flush_all(peer);
                q.free();
            }
        };
        both(send(queues[0]), send(queues[1]));
        join([host]);
        assert_eq!(peer.got.borrow().len(), 4);
        assert_eq!(released.get(), 1);
        blocks.are_freed();
    });
}
