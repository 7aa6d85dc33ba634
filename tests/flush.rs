//! What the model leaves open about a flush: into how few pieces it puts what is queued, and answers of a sink
//! that random sequences hardly ever meet.

mod script;

use script::{Answer, Script, Single, WithLocked};
use sendq::block::HEADER;
use sendq::iovec::{IoVec, MAX_IOVECS, up_to};
use sendq::policy::{Hints, Watermarks};
use sendq::pool::Limits;
use sendq::slot::{Owner, Slot};

fn small_blocks() -> Single {
    let limits = Limits { chunk_bytes: 256, ..Limits::DEFAULT };
    Single::new(limits, Watermarks::new(0, 0, 0).unwrap())
}

#[test]
fn pieces_appended_one_after_another_leave_as_one() {
    let queue = Single::default();
    for part in ["header", "extras", "key", "value"] {
        queue.append(part.as_bytes()).unwrap();
    }
    let mut sink = Script::default();
    assert_eq!(queue.flush(&mut sink, 0), Ok(Hints::NONE));
    assert_eq!((sink.taken.as_slice(), sink.counts()), (&b"headerextraskeyvalue"[..], vec![1]));
}

#[test]
fn a_notification_divides_nothing() {
    let queue = Single::default();
    let slot = Slot::notification(Owner { release: None, arg: std::ptr::null_mut() });
    for part in ["header", "value"] {
        queue.append(part.as_bytes()).unwrap();
        queue.with_locked(|queue, pool| queue.append_slot(pool, slot)).unwrap();
    }
    let mut sink = Script::default();
    assert_eq!(queue.flush(&mut sink, 0), Ok(Hints::NONE));
    assert_eq!((sink.taken.as_slice(), sink.counts()), (&b"headervalue"[..], vec![1]));
}

#[test]
fn borrowed_memory_that_is_contiguous_leaves_as_one() {
    let queue = Single::default();
    let bytes: Vec<u8> = (0..600).map(|i| i as u8).collect();
    for part in bytes.chunks(100) {
        let owner = Owner { release: None, arg: std::ptr::null_mut() };
        // SAFETY: it stays until the queue is gone.
        let slot = unsafe { Slot::borrowed(part.as_ptr(), part.len(), owner) };
        queue.with_locked(|queue, pool| queue.append_slot(pool, slot)).unwrap();
    }
    let mut sink = Script::default();
    assert_eq!(queue.flush(&mut sink, 0), Ok(Hints::NONE));
    assert_eq!((sink.taken, sink.offers.len()), (bytes, 1));
    assert_eq!(sink.offers[0].count, 1);
}

#[test]
fn a_full_sink_is_blocked_and_nothing_is_lost() {
    for errno in [libc::EAGAIN, libc::EWOULDBLOCK, libc::ENOBUFS, libc::ENOMEM] {
        let queue = Single::default();
        queue.append(b"waits").unwrap();
        let mut sink = Script::new([Answer::No(errno)]);
        assert_eq!(queue.flush(&mut sink, 0), Ok(Hints::BLOCKED));
        assert_eq!(queue.flush(&mut sink, 0), Ok(Hints::NONE));
        assert_eq!(sink.taken, b"waits");
    }
}

#[test]
fn a_signal_is_passed_over_but_not_for_ever() {
    let queue = Single::default();
    queue.append(b"waits").unwrap();
    let mut sink = Script::new([Answer::No(libc::EINTR); 3]);
    assert_eq!(queue.flush(&mut sink, 0), Ok(Hints::NONE));
    assert_eq!(sink.offers.len(), 4);

    queue.append(b"waits").unwrap();
    let mut storm = Script::new([Answer::No(libc::EINTR); 1000]);
    assert_eq!(queue.flush(&mut storm, 0), Ok(Hints::MORE));
    assert!(storm.offers.len() < 100);
    assert_eq!(queue.queue.borrow().waiting(), 5);
}

#[test]
fn more_pieces_than_one_call_takes_go_in_several() {
    let queue = small_blocks();
    let bytes: Vec<u8> = (0..(256 - HEADER) * (2 * MAX_IOVECS + 5)).map(|i| i as u8).collect();
    queue.append(&bytes).unwrap();
    let mut sink = Script::default();
    assert_eq!(queue.flush(&mut sink, 0), Ok(Hints::NONE));
    assert_eq!(sink.counts(), [MAX_IOVECS, MAX_IOVECS, 5]);
    assert!(sink.taken == bytes);
}

#[test]
fn what_is_held_back_is_pushed_when_no_more_can_follow() {
    let queue = small_blocks();
    queue.append(&vec![7; (256 - HEADER) * (MAX_IOVECS + 1)]).unwrap();
    let mut sink = Script::new([Answer::All, Answer::No(libc::EAGAIN)]);
    assert_eq!(queue.flush(&mut sink, 0), Ok(Hints::BLOCKED));
    assert_eq!((sink.offers.len(), sink.pushes), (2, 1));
    assert_eq!(queue.flush(&mut sink, 0), Ok(Hints::NONE));
    assert_eq!((sink.offers.len(), sink.pushes), (3, 1));
}

#[test]
fn pieces_are_left_off_where_one_call_takes_only_so_many_bytes() {
    let bytes = [0; 4];
    let pieces = [3, 4, 2].map(|len| IoVec::new(bytes.as_ptr(), len));
    let count = |most| up_to(&pieces, most).len();
    assert_eq!([9, 8, 7, 6].map(count), [3, 2, 2, 1]);
    // At least one, whose first bytes are sent then.
    assert_eq!([3, 2, 0].map(count), [1, 1, 1]);
    assert!(up_to(&[], 9).is_empty());
}
