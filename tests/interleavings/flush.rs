//! A flush while other threads append, flush, discard or end the connection.

use super::explore::some_orders;
use super::host::{Owner, Peer, Pool, both, done_or_busy, join, start};
use sendq::capi::*;
use std::io::Read;
use std::mem::zeroed;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::ptr::null_mut;

/// One flush at a time gets through, and the peer gets what was appended, in order.
#[test]
fn two_flush_while_two_append() {
    some_orders("two flush while two append", || {
        let pool = Pool::new();
        let q = pool.queue();
        let peer = Peer::answering(&[1, -i64::from(libc::EAGAIN)]);
        let owner = Owner::new();
        static FRAMES: [[u8; 2]; 4] = [[0, 0], [0, 1], [1, 0], [1, 1]];
        let appenders = [0, 1].map(|thread| {
            start(move || {
                let frames = FRAMES.iter().skip(2 * thread).take(2);
                for (count, frame) in frames.enumerate() {
                    let hints =
                        if count == thread { q.append(frame) } else { q.append_ref(frame, owner) };
                    assert!(hints >= 0);
                }
            })
        });
        both(move || q.flush_all(peer), move || q.flush_all(peer));
        join(appenders);
        q.flush_all(peer);
        peer.got_frames(2, 2);
        assert_eq!((q.queued(), q.sent()), (0, 8));
        owner.has_all(&[]);
        q.adds_up();
        q.free();
    });
}

/// A discard hits what waits, or is told that a flush is in progress. What the flush has in its hands stays.
#[test]
fn discard_during_a_flush() {
    some_orders("discard during a flush", || {
        let pool = Pool::new();
        let q = pool.queue();
        let (peer, owner) = (Peer::answering(&[2]), Owner::new());
        assert!(q.append_ref(b"abcd", owner) >= 0);
        assert!(q.append(b"ef") >= 0);
        let discard = start(move || done_or_busy(q.discard()));
        both(move || q.flush_all(peer), move || assert!(q.append_ref(b"gh", owner) >= 0));
        join([discard]);
        q.flush_all(peer);
        assert_eq!(q.queued(), 0);
        owner.has_all(&[-libc::ECANCELED]);
        q.adds_up();
        q.free();
    });
}

/// The peer vanishes while others append: what was taken is released with the error, what was refused is not.
#[test]
fn a_failure_while_others_append() {
    some_orders("a failure while others append", || {
        let pool = Pool::new();
        let q = pool.queue();
        let (peer, owner) = (Peer::answering(&[1, -i64::from(libc::EPIPE)]), Owner::new());
        let appenders = [b"ab", b"cd"].map(|bytes| {
            start(move || {
                for _ in 0..2 {
                    let result = q.append_ref(bytes, owner);
                    assert!(result >= 0 || result == -libc::EPIPE);
                }
            })
        });
        let hints = q.flush(peer, 0);
        assert!(hints >= 0 || hints == -libc::EPIPE);
        join(appenders);
        // SAFETY: alive.
        let has_failed = unsafe { sendq_error(q.0) } == -libc::EPIPE;
        assert!(has_failed || hints >= 0);
        q.discard();
        owner.has_all(&[-libc::EPIPE, -libc::ECANCELED]);
        q.adds_up();
        q.free();
    });
}

/// A reset is refused during a flush, or the flush starts on a new queue.
#[test]
fn reset_during_a_flush() {
    some_orders("reset during a flush", || {
        let pool = Pool::new();
        let q = pool.queue();
        let (peer, owner) = (Peer::new(), Owner::new());
        assert!(q.append_ref(b"ab", owner) >= 0);
        // SAFETY: alive.
        let reset = move || done_or_busy(unsafe { sendq_reset(q.0) });
        both(reset, move || q.flush_all(peer));
        owner.has_all(&[-libc::ECANCELED]);
        assert_eq!(q.queued(), 0);
        q.free();
    });
}

/// Two threads send messages of their own: a hint of one of the calls gets everything sent.
#[test]
fn two_threads_send_messages() {
    some_orders("two threads send messages", || {
        let pool = Pool::new();
        let q = pool.queue();
        let (socket, socket_of_peer) = UnixStream::pair().unwrap();
        let fd = socket.as_raw_fd();
        let send = move |thread: u8| {
            move || {
                for count in 0..2 {
                    let frame = [thread, count];
                    // SAFETY: any bytes are a part; alive; memory of this function.
                    let mut hints = unsafe {
                        let mut part: sendq_part_t = zeroed();
                        (part.kind, part.data, part.len) =
                            (SENDQ_PART_COPY, frame.as_ptr().cast(), 2);
                        sendq_send(q.0, fd, &part, 1, None, null_mut(), 0)
                    };
                    assert!(hints >= 0);
                    while hints > 0 && hints & SENDQ_MORE != 0 {
                        // SAFETY: alive.
                        hints = unsafe { sendq_flush(q.0, fd, 0) };
                        done_or_busy(hints);
                    }
                }
            }
        };
        both(send(0), send(1));
        assert_eq!(q.queued(), 0);
        q.adds_up();
        q.free();
        drop(socket);
        let peer = Peer::new();
        (&socket_of_peer).read_to_end(&mut peer.got.borrow_mut()).unwrap();
        peer.got_frames(2, 2);
    });
}
