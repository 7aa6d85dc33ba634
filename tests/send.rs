//! What leaves past the queue, and what is left of it: each byte once, in order, whatever the sink says.

mod script;

use proptest::prelude::*;
use script::{Answer, Script, Single, WithLocked};
use sendq::errno::{Errno, Result};
use sendq::flush::send;
use sendq::iovec::{IoVec, IoVecs};
use sendq::policy::Watermarks;
use sendq::pool::Limits;

const HIGH: u64 = 3000;

fn send_now(queue: &Single, sink: &mut Script, bytes: &[u8], cut: usize) -> Result<usize> {
    let (head, tail) = bytes.split_at(cut.min(bytes.len()));
    let piece = |part: &[u8]| IoVec::new(part.as_ptr(), part.len());
    // A sink is offered no empty piece here: that would be the host's.
    let pieces: Vec<_> =
        [head, tail].into_iter().filter(|part| !part.is_empty()).map(piece).collect();
    // SAFETY: both live until this returns.
    send(queue, sink, unsafe { IoVecs::new(&pieces) }?, true)
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        4 => Just(Answer::All),
        4 => (0..900_usize).prop_map(Answer::Some),
        1 => Just(Answer::No(libc::EAGAIN)),
        1 => Just(Answer::No(libc::EINTR)),
        1 => Just(Answer::No(libc::ENOBUFS)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn each_byte_once_and_in_order(
        messages in prop::collection::vec((1..1000_usize, 0..1000_usize), 1..20),
        answers in prop::collection::vec(answer(), 0..40),
        keep_bytes in prop_oneof![Just(0_usize), Just(512), Just(1 << 20)],
    ) {
        let limits = Limits { chunk_bytes: 256, keep_bytes, ..Limits::DEFAULT };
        let queue = Single::new(limits, Watermarks::new(0, HIGH, 0).unwrap());
        let mut sink = Script::new(answers);
        let mut stream = Vec::new();
        let mut calls = 0;
        for (len, cut) in messages {
            let bytes: Vec<u8> = (stream.len()..stream.len() + len).map(|i| (i ^ i >> 8) as u8).collect();
            match send_now(&queue, &mut sink, &bytes, cut) {
                Ok(taken) => {
                    let waiting = queue.queue.borrow().waiting();
                    prop_assert!(taken == bytes.len() || taken > 0 && waiting == HIGH);
                    stream.extend(&bytes[..taken]);
                }
                Err(errno) => {
                    prop_assert_eq!(errno, Errno::AGAIN);
                    prop_assert_eq!(queue.queue.borrow().waiting(), HIGH);
                }
            }
            calls = sink.offers.len() as u64;
            let inside = queue.queue.borrow();
            prop_assert_eq!(inside.sent(), sink.taken.len() as u64);
            prop_assert_eq!(inside.sent() + inside.waiting(), stream.len() as u64);
            prop_assert_eq!(inside.counters().calls, calls);
            prop_assert!(!inside.is_flushing());
        }
        while queue.with_locked(|queue, _| queue.waiting()) > 0 {
            queue.flush(&mut sink, 0).unwrap();
        }
        prop_assert!(sink.offers.len() as u64 >= calls);
        prop_assert!(sink.taken == stream);
    }
}

#[test]
fn what_ends_the_connection_takes_nothing() {
    for interrupted in [false, true] {
        let queue = Single::default();
        queue.append(b"warms a block").unwrap();
        let mut sink = Script::default();
        queue.flush(&mut sink, 0).unwrap();
        let before = interrupted.then_some(Answer::No(libc::EINTR));
        sink.answers = before.into_iter().chain([Answer::No(libc::EPIPE)]).collect();
        assert_eq!(send_now(&queue, &mut sink, b"lost", 2), Err(Errno::new(libc::EPIPE)));
        assert_eq!(send_now(&queue, &mut sink, b"late", 2), Err(Errno::new(libc::EPIPE)));
        assert_eq!(sink.taken, b"warms a block");
    }
}
