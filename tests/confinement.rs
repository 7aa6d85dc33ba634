//! A queue or a pool without SENDQ_THREADSAFE that two threads use at once ends a debug build, and says who they
//! were. Handing it from thread to thread, calling back, and what any thread may do go on as in a release build.

#![cfg(all(unix, debug_assertions))]

use libc::{c_int, c_void};
use sendq::capi::*;
use std::mem::zeroed;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::ptr::null_mut;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// A handle that goes to another thread.
struct Handle<T>(*mut T);

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Handle<T> {
        *self
    }
}

impl<T> Copy for Handle<T> {}

// SAFETY: the tests say where it is used.
unsafe impl<T> Send for Handle<T> {}

impl<T> Handle<T> {
    fn get(self) -> *mut T {
        self.0
    }
}

fn new_pool(flags: u32) -> *mut sendq_pool_t {
    let mut pool = null_mut();
    // SAFETY: zero is a value of each field; places of this function.
    unsafe {
        let mut config: sendq_pool_config_t = zeroed();
        (config.size, config.flags) = (size_of_val(&config), flags);
        assert_eq!(sendq_pool_new(&config, &mut pool), 0);
    }
    pool
}

fn new_queue(pool: *mut sendq_pool_t, flags: u32) -> *mut sendq_t {
    let mut q = null_mut();
    // SAFETY: as above; the pool is NULL or alive.
    unsafe {
        let mut config: sendq_config_t = zeroed();
        (config.size, config.flags, config.copy_below) = (size_of_val(&config), flags, 1);
        assert_eq!(sendq_new(pool, &config, &mut q), 0);
    }
    q
}

/// What a callback does.
type Body<'a> = Box<dyn Fn() + 'a>;

unsafe extern "C-unwind" fn write(arg: *mut c_void, _: *const c_void, len: usize) -> i64 {
    // SAFETY: a Body that outlives the call.
    unsafe { (*arg.cast::<Body>())() };
    len as i64
}

unsafe extern "C-unwind" fn release(arg: *mut c_void, _: *const c_void, _: usize, _: c_int) {
    // SAFETY: as above.
    unsafe { (*arg.cast::<Body>())() };
}

/// Flushes `q`, and runs `body` in its write callback.
fn flush(q: *mut sendq_t, body: Body) -> c_int {
    // SAFETY: alive; the body outlives the call.
    unsafe {
        assert!(sendq_append(q, c"ab".as_ptr().cast(), 2) >= 0);
        sendq_flush_with(q, Some(write), (&raw const body).cast_mut().cast(), 0)
    }
}

/// Runs `other` on another thread while this one is in a write callback of `q`.
fn during_a_flush(q: *mut sendq_t, other: impl Fn() + Send + Copy + 'static) {
    let other = move || {
        let named = thread::Builder::new().name("other".into());
        named.spawn(other).unwrap().join().unwrap();
    };
    assert!(flush(q, Box::new(other)) >= 0);
}

/// A name, what must not happen, the function that notices it, and what is used.
type Misuse = (&'static str, fn(), &'static str, &'static str);

const MISUSES: [Misuse; 6] = [
    (
        "append",
        || {
            let q = Handle(new_queue(null_mut(), 0));
            // SAFETY: alive.
            during_a_flush(q.0, move || unsafe {
                sendq_append(q.get(), c"ab".as_ptr().cast(), 2);
            });
        },
        "sendq_append",
        "queue",
    ),
    (
        "append_ref",
        || {
            let q = Handle(new_queue(null_mut(), 0));
            // SAFETY: alive.
            during_a_flush(q.0, move || unsafe {
                sendq_append_ref(q.get(), c"ab".as_ptr().cast(), 2, None, null_mut());
            });
        },
        "sendq_append_ref",
        "queue",
    ),
    (
        "look",
        || {
            let q = Handle(new_queue(null_mut(), 0));
            // SAFETY: alive.
            during_a_flush(q.0, move || unsafe {
                sendq_queued_bytes(q.get());
            });
        },
        "sendq_queued_bytes",
        "queue",
    ),
    (
        "queues",
        || {
            let pool = new_pool(0);
            let (q, other) = (new_queue(pool, 0), Handle(new_queue(pool, 0)));
            // SAFETY: alive.
            during_a_flush(q, move || unsafe {
                sendq_close(other.get());
            });
        },
        "sendq_close",
        "pool",
    ),
    (
        "pool",
        || {
            let pool = Handle(new_pool(0));
            // SAFETY: alive.
            during_a_flush(new_queue(pool.0, 0), move || unsafe {
                sendq_pool_next(pool.get());
            });
        },
        "sendq_pool_next",
        "pool",
    ),
    (
        "release",
        || {
            let q = Handle(new_queue(null_mut(), 0));
            // SAFETY: alive.
            let frees = move || unsafe { sendq_free(q.get()) };
            let body: Body = Box::new(move || thread::spawn(frees).join().unwrap());
            let arg = (&raw const body).cast_mut().cast();
            // SAFETY: alive; the body outlives the calls.
            unsafe {
                assert!(sendq_append_ref(q.0, c"ab".as_ptr().cast(), 2, Some(release), arg) >= 0);
                sendq_consume(q.0, 2);
            }
        },
        "sendq_free",
        "queue",
    ),
];

/// The child of the test below: it is not to reach its end.
#[test]
#[ignore = "ends the process"]
fn misuse() {
    let name = std::env::var("SENDQ_MISUSE").unwrap();
    let (_, run, ..) = MISUSES.iter().find(|misuse| misuse.0 == name).unwrap();
    run();
}

#[test]
fn two_threads_at_once_end_the_process() {
    for (name, _, function, what) in MISUSES {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "misuse", "--ignored", "--nocapture"]);
        let output = child.env("SENDQ_MISUSE", name).output().unwrap();
        let says = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{name}: {says}");
        let line = says.lines().find(|line| line.starts_with("sendq: ")).expect(&says);
        assert!(line.contains(&format!("sendq: {function} by thread ")), "{line}");
        assert!(line.contains(" while thread "), "{line}");
        assert!(
            line.ends_with(&format!("the same {what}, which is not SENDQ_THREADSAFE")),
            "{line}"
        );
        #[cfg(target_os = "linux")]
        assert!(line.contains("(misuse)"), "{line}");
    }
}

/// An acceptor makes a queue, one worker fills it, another flushes it and frees it.
#[test]
fn a_queue_is_handed_on() {
    let pool = new_pool(0);
    let (to_filler, from_acceptor): (Sender<Handle<sendq_t>>, Receiver<_>) = channel();
    let (to_flusher, from_filler): (Sender<Handle<sendq_t>>, Receiver<_>) = channel();
    let filler = thread::spawn(move || {
        let q = from_acceptor.recv().unwrap();
        // SAFETY: alive, and this thread's now.
        assert!(unsafe { sendq_append(q.0, c"ab".as_ptr().cast(), 2) } >= 0);
        to_flusher.send(q).unwrap();
    });
    let flusher = thread::spawn(move || {
        let q = from_filler.recv().unwrap();
        assert_eq!(flush(q.0, Box::new(|| ())), 0);
        // SAFETY: as above.
        unsafe { sendq_free(q.0) };
    });
    to_filler.send(Handle(new_queue(pool, 0))).unwrap();
    filler.join().unwrap();
    flusher.join().unwrap();
    // SAFETY: the handle, used for the last time.
    unsafe { sendq_pool_free(pool) };
}

/// A callback uses its own queue, and another of the pool, and frees both and the pool: nothing is touched after that.
#[test]
fn callbacks_use_and_free_everything() {
    let pool = new_pool(0);
    for pool in [pool, null_mut()] {
        let (q, other) = (new_queue(pool, 0), new_queue(pool, 0));
        // SAFETY: alive until they are freed here.
        let frees = move || unsafe {
            assert!(sendq_append(other, c"ab".as_ptr().cast(), 2) >= 0);
            assert!(sendq_append(q, c"ab".as_ptr().cast(), 2) >= 0);
            sendq_free(other);
            sendq_free(q);
            sendq_pool_free(pool);
        };
        assert_eq!(flush(q, Box::new(frees)), -libc::ECANCELED);
    }
}

/// What any thread may do while a confined queue is in use: its buffers, thread-safe queues, other pools.
#[test]
fn other_threads_use_what_they_may() {
    let (pool, mut buf) = (new_pool(0), null_mut());
    // SAFETY: alive; memory and place of this function.
    assert_eq!(unsafe { sendq_buf_copy(pool, c"ab".as_ptr().cast(), 2, &mut buf) }, 0);
    let (q, buf) = (new_queue(pool, 0), Handle(buf));
    let (shared, confined) =
        (Handle(new_queue(null_mut(), SENDQ_THREADSAFE)), Handle(new_queue(null_mut(), 0)));
    // SAFETY: alive; the references are this thread's own.
    during_a_flush(q, move || unsafe {
        sendq_buf_unref(sendq_buf_ref(buf.get()));
        assert!(sendq_append(confined.get(), c"ab".as_ptr().cast(), 2) >= 0);
        assert!(sendq_append(shared.get(), c"ab".as_ptr().cast(), 2) >= 0);
    });
    during_a_flush(shared.0, move || {
        // SAFETY: alive.
        assert!(unsafe { sendq_append(shared.get(), c"ab".as_ptr().cast(), 2) } >= 0);
    });
    // SAFETY: alive, and not used any more.
    unsafe {
        sendq_buf_unref(buf.0);
        for q in [q, shared.0, confined.0] {
            sendq_free(q);
        }
        sendq_pool_free(pool);
    }
}
