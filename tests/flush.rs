//! What a flush does with each answer that a sink can give.

mod script;

use script::{Alone, Answer, Script};
use sendq::chunk::HEADER;
use sendq::errno::Errno;
use sendq::pool::Limits;
use sendq::pressure::{Hints, Watermarks};
use sendq::segment::MAX_PIECES;
use sendq::tally::Count;

fn small_chunks() -> Alone {
    let limits = Limits { chunk_bytes: 256, ..Limits::DEFAULT };
    Alone::new(limits, Watermarks::new(0, 0, 0).unwrap())
}

#[test]
fn pieces_appended_one_after_another_leave_as_one() {
    let queue = Alone::default();
    for part in ["header", "extras", "key", "value"] {
        queue.append(part.as_bytes()).unwrap();
    }
    let mut sink = Script::default();
    assert_eq!(queue.flush(&mut sink, 0), Ok(Hints::NONE));
    assert_eq!((sink.taken.as_slice(), sink.offers), (&b"headerextraskeyvalue"[..], vec![1]));
}

#[test]
fn an_empty_queue_asks_the_sink_nothing() {
    let mut sink = Script::default();
    assert_eq!(Alone::default().flush(&mut sink, 0), Ok(Hints::NONE));
    assert!(sink.offers.is_empty());
}

#[test]
fn a_short_write_is_blocked_without_a_second_offer() {
    let queue = Alone::default();
    queue.append(b"0123456789").unwrap();
    let mut sink = Script::new([Answer::Some(4)]);
    assert_eq!(queue.flush(&mut sink, 0), Ok(Hints::BLOCKED));
    assert_eq!((queue.queue.borrow().waiting(), sink.offers.len()), (6, 1));
    assert_eq!(queue.flush(&mut sink, 0), Ok(Hints::NONE));
    assert_eq!(sink.taken, b"0123456789");
}

#[test]
fn a_full_sink_is_blocked_and_nothing_is_lost() {
    for errno in [libc::EAGAIN, libc::EWOULDBLOCK, libc::ENOBUFS, libc::ENOMEM] {
        let queue = Alone::default();
        queue.append(b"waits").unwrap();
        let mut sink = Script::new([Answer::No(errno)]);
        assert_eq!(queue.flush(&mut sink, 0), Ok(Hints::BLOCKED));
        assert_eq!(queue.flush(&mut sink, 0), Ok(Hints::NONE));
        assert_eq!(sink.taken, b"waits");
    }
}

#[test]
fn a_signal_is_passed_over_but_not_for_ever() {
    let queue = Alone::default();
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
fn the_budget_holds_exactly() {
    let queue = small_chunks();
    queue.append(&[7; 1000]).unwrap();
    let mut sink = Script::default();
    for budget in [1, 255, 256, 257] {
        let before = sink.taken.len();
        assert_eq!(queue.flush(&mut sink, budget), Ok(Hints::MORE));
        assert_eq!(sink.taken.len() - before, budget);
    }
    assert_eq!(queue.flush(&mut sink, 231), Ok(Hints::NONE), "all that waits, and the budget too");
    assert_eq!(sink.taken.len(), 1000);
}

#[test]
fn a_sink_that_fills_before_the_budget_is_spent_is_blocked() {
    let queue = Alone::default();
    queue.append(&[7; 1000]).unwrap();
    let mut sink = Script::new([Answer::Some(10)]);
    assert_eq!(queue.flush(&mut sink, 100), Ok(Hints::BLOCKED));
}

#[test]
fn more_pieces_than_one_call_takes_go_in_several() {
    let queue = small_chunks();
    let bytes: Vec<u8> = (0..(256 - HEADER) * (2 * MAX_PIECES + 5)).map(|i| i as u8).collect();
    queue.append(&bytes).unwrap();
    let mut sink = Script::default();
    assert_eq!(queue.flush(&mut sink, 0), Ok(Hints::NONE));
    assert_eq!(sink.offers, [MAX_PIECES, MAX_PIECES, 5]);
    assert!(sink.taken == bytes);
}

#[test]
fn a_failed_connection_keeps_nothing_and_stays_failed() {
    let queue = small_chunks();
    queue.append(&[7; 1000]).unwrap();
    let mut sink = Script::new([Answer::Some(300), Answer::No(libc::EPIPE)]);
    assert_eq!(queue.flush(&mut sink, 0), Ok(Hints::BLOCKED));
    assert_eq!(queue.flush(&mut sink, 0), Err(Errno::PIPE));

    assert_eq!((queue.queue.borrow().waiting(), queue.pool.usage().used), (0, 0));
    let inner = queue.queue.borrow();
    assert_eq!((inner.sent(), inner.count(Count::Discarded)), (300, 700));
    drop(inner);
    assert_eq!(queue.append(b"more"), Err(Errno::PIPE));
    assert_eq!(queue.flush(&mut sink, 0), Err(Errno::PIPE));
}

#[test]
fn resume_comes_once_when_low_is_reached() {
    let queue = Alone::new(Limits::DEFAULT, Watermarks::new(100, 200, 0).unwrap());
    assert_eq!(queue.append(&[7; 199]), Ok(Hints::WAKE));
    assert_eq!(queue.append(&[7; 1]), Ok(Hints::HIGH));
    let mut sink = Script::default();
    assert_eq!(queue.flush(&mut sink, 99), Ok(Hints::MORE));
    assert_eq!(queue.flush(&mut sink, 1), Ok(Hints::MORE | Hints::RESUME));
    assert_eq!(queue.flush(&mut sink, 1), Ok(Hints::MORE));
}
