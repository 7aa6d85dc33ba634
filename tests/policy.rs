//! The hints for a producer, when the next flush makes sense, and how fast bytes leave.

mod script;

use script::{Answer, Script, Single, WithLocked};
use sendq::policy::{Hints, Watermarks};

const SECOND: u64 = 1_000_000_000;

fn at(now: u64) -> Single {
    let queue = Single::default();
    queue.pool.clock().show(now);
    queue
}

fn retry_after(queue: &Single) -> Option<u64> {
    queue.queue.borrow().retry_after_ns(&queue.pool)
}

#[test]
fn a_deadline_is_never_nothing_to_wait_for() {
    let queue = at(SECOND);
    queue.append(b"waits").unwrap();
    queue.with_locked(|queue, pool| queue.close_within(pool, 10)).unwrap();
    let mut sink = Script::new([Answer::No(libc::EAGAIN)]);
    assert_eq!(queue.flush(&mut sink, 0), Ok(Hints::BLOCKED));
    assert_eq!(retry_after(&queue), Some(10));
    queue.pool.clock().show(2 * SECOND);
    assert_eq!(retry_after(&queue), Some(0), "it was over before the host could ask");

    let queue = at(SECOND);
    queue.with_locked(|queue, pool| queue.set_rate(pool, 100, 0)).unwrap();
    queue.with_locked(|queue, _| queue.cork()).unwrap();
    queue.append(b"held back").unwrap();
    queue.with_locked(|queue, pool| queue.close_within(pool, 10)).unwrap();
    assert_eq!(retry_after(&queue), Some(10), "none of it may leave, whatever the rate");
}

#[test]
fn a_rate_counts_what_the_host_sends_by_itself() {
    let queue = at(SECOND);
    queue.with_locked(|queue, pool| queue.set_rate(pool, 100, 0)).unwrap();
    queue.append(&[7; 1000]).unwrap();
    let mut sink = Script::default();
    assert_eq!(queue.flush(&mut sink, 0), Ok(Hints::MORE));
    assert_eq!(sink.taken.len(), 100);
    queue.pool.clock().show(2 * SECOND);
    queue.with_locked(|queue, pool| queue.consume(pool, 100)).unwrap();
    assert_eq!(queue.flush(&mut sink, 0), Ok(Hints::MORE));
    assert_eq!(sink.taken.len(), 100, "that second was the host's");
}

#[test]
fn a_rate_earns_no_part_of_a_nanosecond_twice() {
    let queue = at(SECOND);
    queue.with_locked(|queue, pool| queue.set_rate(pool, 900_000_000, 10)).unwrap();
    queue.append(&[7; 1000]).unwrap();
    let mut sink = Script::default();
    for now in 0..100 {
        queue.pool.clock().show(SECOND + now);
        queue.flush(&mut sink, 0).unwrap();
        queue.flush(&mut sink, 0).unwrap();
    }
    assert!(sink.taken.len() <= 10 + 99 * 9 / 10, "{} bytes", sink.taken.len());
}

#[test]
fn a_clock_that_jumps_back_changes_nothing() {
    let queue = at(2 * SECOND);
    queue.append(b"waits").unwrap();
    let mut sink = Script::new([Answer::No(libc::EAGAIN)]);
    assert_eq!(queue.flush(&mut sink, 0), Ok(Hints::BLOCKED));
    let blocked_ns = || queue.queue.borrow().policy().blocked_ns(queue.pool.now());
    queue.pool.clock().show(2 * SECOND + 5);
    assert_eq!(blocked_ns(), 5);
    queue.pool.clock().show(SECOND);
    assert_eq!(blocked_ns(), 5, "time stands still");
    assert_eq!(queue.flush(&mut sink, 0), Ok(Hints::NONE));
    assert_eq!(blocked_ns(), 5);
}

#[test]
fn new_watermarks_do_not_say_high_and_resume_at_once() {
    let queue = at(SECOND);
    queue.append(&[7; 100]).unwrap();
    let marks = Watermarks::new(100, 100, 0).unwrap();
    assert_eq!(queue.with_locked(|queue, _| queue.set_watermarks(marks)), Ok(Hints::HIGH));
    assert_eq!(queue.flush(&mut Script::default(), 1), Ok(Hints::MORE | Hints::RESUME));
}
