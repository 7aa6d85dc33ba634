//! Flushing in records: two bugs of 0.1 that its model could not find, for it knew no `flush_with`. The rest is
//! the model's.

mod script;

use libc::{c_int, c_void};
use script::{Script, Single, WithLocked, file, file_byte};
use sendq::block::HEADER;
use sendq::errno::{Errno, Result};
use sendq::policy::{Hints, Watermarks};
use sendq::pool::Limits;
use sendq::records::{RECORD, flush_records};
use sendq::slot::{Owner, Slot};
use std::cell::RefCell;

thread_local! {
    /// Why owners were released.
    static REASONS: RefCell<Vec<c_int>> = const { RefCell::new(Vec::new()) };
}

unsafe extern "C-unwind" fn note(_: *mut c_void, _: *const c_void, _: usize, reason: c_int) {
    REASONS.with_borrow_mut(|reasons| reasons.push(reason));
}

const OWNER: Owner = Owner { release: Some(note), arg: std::ptr::null_mut() };

fn notify(queue: &Single) {
    let slot = Slot::notification(OWNER);
    queue.with_locked(|queue, pool| queue.append_slot(pool, slot)).unwrap();
}

fn append_file(queue: &Single, offset: u64, len: u64) {
    let slot = Slot::file(file(), offset, len, OWNER);
    queue.with_locked(|queue, pool| queue.append_slot(pool, slot)).unwrap();
}

/// Flushes, and releases as the end of a call does. Returns why.
fn flush(queue: &Single, sink: &mut Script, max_bytes: usize) -> (Result<Hints>, Vec<c_int>) {
    let result = flush_records(queue, sink, max_bytes);
    while let Some(slot) = queue.with_locked(|queue, pool| queue.next_released(pool)) {
        slot.release();
    }
    (result, REASONS.take())
}

fn answers(errno: c_int) -> Script {
    Script::new([script::Answer::No(errno)])
}

/// 0.1 wrote the record over the queue, and the notification, with nothing before it any more, came at once.
#[test]
fn a_notification_in_a_refused_record_waits_for_its_turn() {
    let queue = Single::default();
    queue.append(b"before").unwrap();
    notify(&queue);
    queue.append(b"after").unwrap();
    assert_eq!(flush(&queue, &mut answers(libc::EAGAIN), 0), (Ok(Hints::BLOCKED), vec![]));

    let mut sink = Script::new([script::Answer::Some(5), script::Answer::No(4096)]);
    assert_eq!(flush(&queue, &mut sink, 0), (Ok(Hints::WANT_READ), vec![]));
    let mut sink = Script::new([script::Answer::Some(1), script::Answer::No(libc::EAGAIN)]);
    assert_eq!(flush(&queue, &mut sink, 0), (Ok(Hints::BLOCKED), vec![0]));
    assert_eq!(flush(&queue, &mut answers(libc::EPROTO), 0).0, Err(Errno::new(libc::EPROTO)));
}

/// 0.1 returned ENOBUFS again and again: the budget was spent on what was queued here.
#[test]
fn a_record_of_a_file_may_exceed_the_pools_budget() {
    let limits = Limits { max_bytes: 512, chunk_bytes: 512, ..Limits::DEFAULT };
    let queue = Single::new(limits, Watermarks::new(0, 0, 0).unwrap());
    let header = vec![7; 512 - HEADER - size_of::<Slot>()];
    queue.append(&header).unwrap();
    append_file(&queue, 3, 20_000);
    assert_eq!(flush(&queue, &mut answers(libc::EAGAIN), 0), (Ok(Hints::BLOCKED), vec![]));
    assert!(queue.pool.usage().used > 512 + RECORD, "the record is kept, and counts");

    let mut sink = Script::default();
    assert_eq!(flush(&queue, &mut sink, 0), (Ok(Hints::NONE), vec![0]));
    let bytes = header.into_iter().chain((3..20_003).map(file_byte));
    assert!(sink.taken.into_iter().eq(bytes));
    assert_eq!(queue.pool.usage().used, 0);
    assert!(queue.pool.usage().free <= 512, "nothing beyond the budget is cached");
}
