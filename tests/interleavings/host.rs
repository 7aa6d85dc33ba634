//! The host of the models: pools, queues, a peer that takes bytes, and owners that count their releases.

use sendq::capi::*;
use shuttle::sync::atomic::{AtomicUsize, Ordering};
use shuttle::sync::{Condvar, Mutex};
use shuttle::thread::{self, JoinHandle};
use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::mem::{ManuallyDrop, zeroed};
use std::ptr::null_mut;

/// Threads are coroutines of one thread of the system, so that nothing here runs at the same time.
struct OneThread<T>(T);
// SAFETY: as above.
unsafe impl<T> Send for OneThread<T> {}

/// Starts a thread of the host.
pub fn start(body: impl FnOnce() + 'static) -> JoinHandle<()> {
    let body = OneThread(body);
    thread::spawn(move || {
        let OneThread(body) = { body };
        body();
    })
}

/// Waits until these threads are over.
pub fn join(threads: impl IntoIterator<Item = JoinHandle<()>>) {
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// Runs both at once, until both are over.
pub fn both(one: impl FnOnce() + 'static, other: impl FnOnce() + 'static) {
    join([start(one), start(other)]);
}

/// The call has succeeded, or was told that another thread flushes.
pub fn done_or_busy(result: i32) {
    assert!(result >= 0 || result == -libc::EBUSY, "{result}");
}

/// Lets another thread run, perhaps.
pub fn may_switch() {
    AtomicUsize::new(0).load(Ordering::SeqCst);
}

/// A thread-safe pool. The host's handle is given up when it is dropped.
pub struct Pool(pub *mut sendq_pool_t);

impl Pool {
    pub fn new() -> Pool {
        Pool::with(|_| ())
    }

    pub fn with(configure: impl FnOnce(&mut sendq_pool_config_t)) -> Pool {
        // SAFETY: zero is a value of each field, and means its default.
        let mut config: sendq_pool_config_t = unsafe { zeroed() };
        config.size = size_of_val(&config);
        config.flags = SENDQ_THREADSAFE;
        configure(&mut config);
        let mut pool = null_mut();
        // SAFETY: config and place of this function.
        assert_eq!(unsafe { sendq_pool_new(&config, &mut pool) }, 0);
        Pool(pool)
    }

    /// A pool with a budget, whose blocks are counted by `blocks`.
    pub fn counted(blocks: &'static Blocks, max_bytes: u64) -> Pool {
        Pool::with(|config| {
            config.max_bytes = max_bytes;
            config.chunk_bytes = 256;
            config.alloc = Some(Blocks::alloc);
            config.dealloc = Some(Blocks::dealloc);
            config.alloc_arg = (&raw const *blocks).cast_mut().cast();
        })
    }

    /// The pool for another thread, while the handle is alive.
    pub fn view(&self) -> ManuallyDrop<Pool> {
        ManuallyDrop::new(Pool(self.0))
    }

    pub fn queue(&self) -> Queue {
        self.queue_with(|_| ())
    }

    pub fn queue_with(&self, configure: impl FnOnce(&mut sendq_config_t)) -> Queue {
        // SAFETY: as for the pool's.
        let mut config: sendq_config_t = unsafe { zeroed() };
        config.size = size_of_val(&config);
        config.flags = SENDQ_THREADSAFE;
        // Borrowed pieces stay borrowed.
        (config.copy_below, config.share_below) = (1, 1);
        configure(&mut config);
        let mut q = null_mut();
        // SAFETY: as above; the pool is alive.
        assert_eq!(unsafe { sendq_new(self.0, &config, &mut q) }, 0);
        Queue(q)
    }

    pub fn stats(&self) -> sendq::stats::PoolStats {
        // SAFETY: plain numbers; the pool is alive.
        unsafe {
            let mut stats = zeroed();
            assert_eq!(sendq_pool_stats(self.0, &mut stats, size_of_val(&stats)), 0);
            stats
        }
    }

    /// Passes each queue of a turn to `flush`.
    pub fn turn(&self, mut flush: impl FnMut(Queue)) {
        loop {
            // SAFETY: the pool is alive.
            let q = unsafe { sendq_pool_next(self.0) };
            if q.is_null() {
                return;
            }
            flush(Queue(q));
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: the handle, used for the last time.
        unsafe { sendq_pool_free(self.0) };
    }
}

/// A thread-safe queue. The model frees it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Queue(pub *mut sendq_t);

impl Queue {
    pub fn append(self, bytes: &[u8]) -> i32 {
        // SAFETY: alive; memory of the caller.
        unsafe { sendq_append(self.0, bytes.as_ptr().cast(), bytes.len()) }
    }

    /// Appends `bytes` borrowed from `owner`.
    pub fn append_ref(self, bytes: &'static [u8], owner: &'static Owner) -> i32 {
        let (data, arg) = (bytes.as_ptr().cast(), (&raw const *owner).cast_mut().cast());
        // Before: another thread may send and release it at once.
        owner.lent.set(owner.lent.get() + 1);
        // SAFETY: alive; memory that stays.
        let hints =
            unsafe { sendq_append_ref(self.0, data, bytes.len(), Some(Owner::release), arg) };
        if hints < 0 {
            owner.lent.set(owner.lent.get() - 1);
        }
        hints
    }

    pub fn flush(self, peer: &'static Peer, max_bytes: usize) -> i32 {
        let arg = (&raw const *peer).cast_mut().cast();
        // SAFETY: alive; the peer stays.
        unsafe { sendq_flush_with(self.0, Some(Peer::write), arg, max_bytes) }
    }

    /// Flushes until no hint asks for more. -EBUSY ends it, too: the other flush then sends the rest or is told of
    /// it.
    pub fn flush_all(self, peer: &'static Peer) {
        loop {
            let hints = self.flush(peer, 0);
            done_or_busy(hints);
            if hints < 0 || hints & (SENDQ_MORE | SENDQ_BLOCKED) == 0 {
                return;
            }
        }
    }

    pub fn discard(self) -> i32 {
        // SAFETY: alive.
        unsafe { sendq_discard(self.0) }
    }

    pub fn queued(self) -> u64 {
        // SAFETY: alive.
        unsafe { sendq_queued_bytes(self.0) }
    }

    pub fn sent(self) -> u64 {
        // SAFETY: alive.
        unsafe { sendq_sent_bytes(self.0) }
    }

    /// appended = sent + discarded + queued.
    pub fn adds_up(self) {
        // SAFETY: plain numbers; alive.
        let stats: sendq::stats::Stats = unsafe {
            let mut stats = zeroed();
            assert_eq!(sendq_stats(self.0, &mut stats, size_of_val(&stats)), 0);
            stats
        };
        let appended = stats.copied + stats.borrowed + stats.shared + stats.file;
        assert_eq!(appended, stats.sent + stats.discarded + self.queued());
    }

    pub fn free(self) {
        // SAFETY: alive, and not used any more.
        unsafe { sendq_free(self.0) };
    }
}

/// Lends memory, and counts what comes back.
#[derive(Default)]
pub struct Owner {
    pub lent: Cell<usize>,
    pub released: Cell<usize>,
    /// The reasons, other than 0, for which it came back.
    pub reasons: RefCell<Vec<i32>>,
}

impl Owner {
    pub fn new() -> &'static Owner {
        keep(Owner::default())
    }

    unsafe extern "C-unwind" fn release(arg: *mut c_void, _: *const c_void, _: usize, reason: i32) {
        // SAFETY: the owner, which stays.
        let owner = unsafe { &*arg.cast::<Owner>() };
        owner.released.set(owner.released.get() + 1);
        if reason != 0 {
            owner.reasons.borrow_mut().push(reason);
        }
        may_switch();
    }

    /// All that was lent came back, each once, and for no other reasons than 0 and these.
    pub fn has_all(&self, reasons: &[i32]) {
        assert_eq!(self.released.get(), self.lent.get());
        let all = self.reasons.borrow();
        assert!(all.iter().all(|reason| reasons.contains(reason)), "{all:?}");
    }
}

/// A connection's peer: takes bytes, as many as its answers say, and all after the last answer.
#[derive(Default)]
pub struct Peer {
    pub got: RefCell<Vec<u8>>,
    answers: RefCell<Vec<i64>>,
    /// It is being written to.
    is_busy: Cell<bool>,
    /// It was written to by two threads at once.
    has_collided: Cell<bool>,
}

impl Peer {
    pub fn new() -> &'static Peer {
        keep(Peer::default())
    }

    /// It takes at most so many bytes, or refuses with that errno.
    pub fn answering(answers: &[i64]) -> &'static Peer {
        let answers = answers.iter().rev().copied().collect();
        keep(Peer { answers: RefCell::new(answers), ..Peer::default() })
    }

    unsafe extern "C-unwind" fn write(arg: *mut c_void, data: *const c_void, len: usize) -> i64 {
        // SAFETY: the peer, which stays; the bytes of the call.
        let (peer, bytes) =
            unsafe { (&*arg.cast::<Peer>(), std::slice::from_raw_parts(data.cast::<u8>(), len)) };
        peer.has_collided.set(peer.has_collided.get() | peer.is_busy.replace(true));
        may_switch();
        let answer = peer.answers.borrow_mut().pop().unwrap_or(i64::MAX).min(len as i64);
        if answer > 0 {
            peer.got.borrow_mut().extend_from_slice(&bytes[..answer as usize]);
        }
        may_switch();
        peer.is_busy.set(false);
        answer
    }

    /// It got frames of two bytes, the number of a thread and a count, each whole, and those of a thread in order.
    pub fn got_frames(&self, threads: usize, frames: u8) {
        assert!(!self.has_collided.get());
        let (got, mut next) = (self.got.borrow(), vec![0; threads]);
        assert_eq!(got.len(), 2 * threads * frames as usize);
        for frame in got.chunks(2) {
            let next = &mut next[frame[0] as usize];
            assert_eq!(frame[1], *next);
            *next += 1;
        }
    }
}

/// The memory of a pool's blocks.
#[derive(Default)]
pub struct Blocks {
    held: RefCell<Vec<(usize, usize)>>,
    /// A block was freed that it does not hold.
    has_failed: Cell<bool>,
}

impl Blocks {
    pub fn new() -> &'static Blocks {
        keep(Blocks::default())
    }

    unsafe extern "C-unwind" fn alloc(arg: *mut c_void, size: usize) -> *mut c_void {
        // SAFETY: the blocks, which stay; a size that is not 0.
        unsafe {
            let memory = libc::malloc(size);
            (*arg.cast::<Blocks>()).held.borrow_mut().push((memory as usize, size));
            memory
        }
    }

    unsafe extern "C-unwind" fn dealloc(arg: *mut c_void, block: *mut c_void, size: usize) {
        // SAFETY: the blocks, which stay; a block of alloc().
        unsafe {
            let blocks = &*arg.cast::<Blocks>();
            let mut held = blocks.held.borrow_mut();
            match held.iter().position(|held| *held == (block as usize, size)) {
                Some(i) => {
                    held.swap_remove(i);
                    libc::free(block);
                }
                None => blocks.has_failed.set(true),
            }
        }
    }

    /// All blocks were freed, each once.
    pub fn are_freed(&self) {
        assert!(!self.has_failed.get());
        assert_eq!(*self.held.borrow(), []);
    }
}

/// Wakes a thread that sleeps.
#[derive(Default)]
pub struct Bell {
    rings: Mutex<usize>,
    rung: Condvar,
}

impl Bell {
    pub fn new() -> &'static Bell {
        keep(Bell::default())
    }

    pub fn ring(&self) {
        *self.rings.lock().unwrap() += 1;
        self.rung.notify_one();
    }

    /// Sleeps until it rings, or has rung since the last time. Returns how often.
    pub fn wait(&self) -> usize {
        let mut rings = self.rings.lock().unwrap();
        while *rings == 0 {
            rings = self.rung.wait(rings).unwrap();
        }
        std::mem::take(&mut *rings)
    }

    /// A sendq_wake_fn that rings it.
    pub unsafe extern "C-unwind" fn wake(arg: *mut c_void) {
        // SAFETY: the bell, which stays.
        unsafe { &*arg.cast::<Bell>() }.ring();
    }

    pub fn arg(&self) -> *mut c_void {
        (&raw const *self).cast_mut().cast()
    }
}

/// A clock that the model advances.
#[derive(Default)]
pub struct Clock(Cell<u64>);

impl Clock {
    pub fn new() -> &'static Clock {
        keep(Clock(Cell::new(1)))
    }

    pub fn advance(&self, ns: u64) {
        self.0.set(self.0.get() + ns);
    }

    /// A sendq_now_fn that reads it.
    pub unsafe extern "C-unwind" fn now(arg: *mut c_void) -> u64 {
        // SAFETY: the clock, which stays.
        unsafe { (*arg.cast::<Clock>()).0.get() }
    }

    pub fn arg(&self) -> *mut c_void {
        (&raw const *self).cast_mut().cast()
    }
}

/// Memory that lasts as long as any callback may need it.
fn keep<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}
