//! The driver for the C ABI. System calls are answered by the script, and allocations can fail.

use super::driver::{Driver, HostClock, PoolDriver, World};
use super::memory;
use super::ops::{COPY_BELOW, Setting};
use super::script::{Script, kernel};
use libc::{c_int, c_void};
use sendq::capi::*;
use sendq::errno;
use sendq::iovec::IoVec;
use sendq::sink::Sink;
use sendq::sink::writer::Write;
use sendq::slot::Owner;
use sendq::stats::{PoolStats, Stats};
use std::ptr::null_mut;
use std::rc::Rc;

unsafe extern "C-unwind" fn simulated_now(arg: *mut c_void) -> u64 {
    // SAFETY: the run's clock, which outlives its pools.
    let clock = unsafe { &*arg.cast::<HostClock>() };
    clock.asked.set(clock.asked.get() + 1);
    clock.now.get()
}

unsafe extern "C-unwind" fn wake(_: *mut c_void) {}

struct Pool(*mut sendq_pool_t);

/// The queues hold it, until they are freed.
struct Shared(*mut sendq_buf_t);

struct Queue {
    q: *mut sendq_t,
    shared: Rc<Shared>,
}

pub fn world(setting: &Setting, clock: &HostClock, shared: &[u8]) -> World {
    let threadsafe = if setting.threadsafe { SENDQ_THREADSAFE } else { 0 };
    let pool_config = sendq_pool_config_t {
        size: size_of::<sendq_pool_config_t>(),
        flags: threadsafe | SENDQ_SOCKETS_NONBLOCKING | SENDQ_SIGPIPE_IGNORED,
        reserved: 0,
        max_bytes: setting.max_bytes(),
        chunk_bytes: setting.chunk_bytes,
        keep_bytes: setting.keep_bytes,
        now: setting.simulated.then_some(simulated_now),
        now_arg: (&raw const *clock).cast_mut().cast(),
        alloc: setting.allocates.then_some(memory::alloc),
        dealloc: setting.allocates.then_some(memory::dealloc),
        alloc_arg: null_mut(),
        wake: setting.tracks.then_some(wake),
        wake_arg: null_mut(),
    };
    let (low, high, max) = setting.marks();
    let config = sendq_config_t {
        max_messages: 0,
        size: size_of::<sendq_config_t>(),
        flags: 0,
        reserved: 0,
        zerocopy_from: 0,
        user: null_mut(),
        low,
        high,
        max,
        copy_below: COPY_BELOW as u64,
        share_below: setting.share_below as u64,
        reserve: setting.reserve,
    };
    // SAFETY: configs, places and bytes of this function.
    unsafe {
        let pools = [(); 2].map(|()| {
            let mut pool = null_mut();
            assert_eq!(sendq_pool_new(&pool_config, &mut pool), 0);
            Pool(pool)
        });
        let mut buf = null_mut();
        let data = shared.as_ptr().cast();
        assert_eq!(sendq_buf_copy(pools[0].0, data, shared.len(), &mut buf), 0);
        let shared = Rc::new(Shared(buf));
        let queues = [0, 1].map(|i| {
            let mut q = null_mut();
            let messages = setting.max_messages[i];
            let counts = if messages.is_some() { SENDQ_MESSAGES } else { 0 };
            let max_messages = messages.unwrap_or(0);
            let config = sendq_config_t { flags: threadsafe | counts, max_messages, ..config };
            assert_eq!(sendq_new(pools[setting.pool_of(i)].0, &config, &mut q), 0);
            Box::new(Queue { q, shared: shared.clone() }) as Box<dyn Driver>
        });
        World { queues, pools: pools.map(|pool| Box::new(pool) as Box<dyn PoolDriver>) }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: for the last time.
        unsafe { sendq_pool_free(self.0) };
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: for the last time.
        unsafe { sendq_buf_unref(self.0) };
    }
}

impl PoolDriver for Pool {
    fn stats(&self) -> PoolStats {
        let mut stats = PoolStats::default();
        // SAFETY: a live pool, and a place with its size.
        let got = unsafe { sendq_pool_stats(self.0, &mut stats, size_of::<PoolStats>()) };
        assert_eq!(got, 0);
        // SAFETY: a live pool.
        let bytes = unsafe { sendq_pool_bytes(self.0) };
        assert_eq!(bytes, stats.used + stats.free + stats.pinned + stats.shared);
        stats
    }

    fn heaviest(&self) -> Option<Vec<*const c_void>> {
        let mut heaviest = [null_mut::<sendq_t>(); 3];
        // SAFETY: a live pool, and places of this function.
        let count = unsafe { sendq_pool_heaviest(self.0, heaviest.as_mut_ptr(), 3) };
        Some(heaviest[..count as usize].iter().map(|q| q.cast_const().cast()).collect())
    }

    fn next(&self) -> Option<Option<*const c_void>> {
        // SAFETY: a live pool.
        let next = unsafe { sendq_pool_next(self.0) };
        Some((!next.is_null()).then_some(next.cast_const().cast()))
    }
}

impl Queue {
    /// `parts`, with the address of the shared payload.
    fn parts(&self, parts: &[sendq_part_t]) -> Vec<sendq_part_t> {
        let address = |part: &sendq_part_t| match part.kind {
            SENDQ_PART_BUF => sendq_part_t { data: self.shared.0.cast_const().cast(), ..*part },
            _ => *part,
        };
        parts.iter().map(address).collect()
    }
}

/// The script, as system calls reach it from within sendq.
struct Kernel(Script);

impl Sink for Kernel {
    fn write(&mut self, iovecs: &[IoVec], more: bool) -> errno::Result<usize> {
        memory::outside(|| self.0.write(iovecs, more))
    }
    fn send_file(&mut self, fd: i32, at: u64, len: usize, more: bool) -> errno::Result<usize> {
        memory::outside(|| self.0.send_file(fd, at, len, more))
    }
    fn calls(&self) -> u32 {
        self.0.calls()
    }
}

/// Lets `sink` answer the system calls of `call`.
fn serve<R>(sink: &mut Script, call: impl FnOnce() -> R) -> R {
    let mut kernel = Kernel(Script { is_kernel: true, ..std::mem::take(sink) });
    let result = kernel::serve(&mut kernel, call);
    *sink = kernel.0;
    result
}

/// Calls a function of the C ABI.
macro_rules! call {
    ($call:expr) => {
        memory::inside(|| unsafe { $call })
    };
}

// SAFETY of all that follows: a live queue, as the run sees to it; memory of the run, which outlives it.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Driver for Queue {
    fn address(&self) -> *const c_void {
        self.q.cast()
    }
    fn append(&self, bytes: &[u8]) -> c_int {
        call!(sendq_append(self.q, bytes.as_ptr().cast(), bytes.len()))
    }
    fn appendv(&self, iovecs: &[IoVec]) -> c_int {
        call!(sendq_appendv(self.q, iovecs.as_ptr(), iovecs.len() as c_int))
    }
    fn append_ref(&self, data: *const u8, len: usize, owner: Owner) -> c_int {
        call!(sendq_append_ref(self.q, data.cast(), len, owner.release, owner.arg))
    }
    fn append_buf(&self, offset: usize, len: usize) -> c_int {
        call!(sendq_append_buf(self.q, self.shared.0, offset, len))
    }
    fn append_file(&self, fd: c_int, offset: u64, len: u64, owner: Owner) -> c_int {
        call!(sendq_append_file(self.q, fd, offset, len, owner.release, owner.arg))
    }
    fn notify(&self, owner: Owner) -> c_int {
        call!(sendq_notify(self.q, owner.release, owner.arg))
    }
    fn reserve(&self, len: usize) -> Result<*mut u8, c_int> {
        let mut memory = null_mut();
        match call!(sendq_reserve(self.q, len, &mut memory)) {
            0 => Ok(memory.cast()),
            errno => Err(errno),
        }
    }
    fn commit(&self, used: usize) -> c_int {
        call!(sendq_commit(self.q, used))
    }
    fn cork(&self) -> c_int {
        call!(sendq_cork(self.q))
    }
    fn uncork(&self) -> c_int {
        call!(sendq_uncork(self.q))
    }
    fn rollback(&self) -> c_int {
        call!(sendq_rollback(self.q))
    }
    fn splice(&self, from: *const c_void, most: u64) -> c_int {
        let from = from.cast_mut().cast();
        match most {
            u64::MAX => call!(sendq_splice(self.q, from)),
            most => call!(sendq_splice_n(self.q, from, most)),
        }
    }
    fn append_message(&self, parts: &[sendq_part_t], owner: Owner) -> c_int {
        let (parts, count) = (self.parts(parts), parts.len() as c_int);
        call!(sendq_append_message(self.q, parts.as_ptr(), count, owner.release, owner.arg))
    }
    fn send_message(
        &self,
        sink: &mut Script,
        parts: &[sendq_part_t],
        owner: Owner,
        max_bytes: usize,
    ) -> c_int {
        let (parts, count) = (self.parts(parts), parts.len() as c_int);
        let Owner { release, arg } = owner;
        let (fd, parts) = (kernel::SOCKET, parts.as_ptr());
        serve(sink, || call!(sendq_send(self.q, fd, parts, count, release, arg, max_bytes)))
    }
    fn end_message(&self) -> c_int {
        call!(sendq_end_message(self.q))
    }
    fn discard_unstarted(&self) -> c_int {
        call!(sendq_discard_unstarted(self.q))
    }
    fn hole(&self, len: usize) -> Result<u64, c_int> {
        let mut hole = sendq_hole_t { id: u64::MAX };
        match call!(sendq_hole(self.q, len, &mut hole)) {
            0 => Ok(hole.id),
            errno => {
                assert_eq!(hole.id, 0);
                Err(errno)
            }
        }
    }
    fn fill(&self, id: u64, bytes: &[u8]) -> c_int {
        let hole = sendq_hole_t { id };
        call!(sendq_fill(self.q, hole, bytes.as_ptr().cast(), bytes.len()))
    }
    fn reset(&self) -> c_int {
        call!(sendq_reset(self.q))
    }
    fn fail(&self, errno: c_int) -> c_int {
        call!(sendq_fail(self.q, errno))
    }
    fn flush(&self, sink: &mut Script, max_bytes: usize) -> c_int {
        serve(sink, || call!(sendq_flush(self.q, kernel::SOCKET, max_bytes)))
    }
    fn flush_with(&self, write: Write, arg: *mut c_void, max_bytes: usize) -> c_int {
        call!(sendq_flush_with(self.q, Some(write), arg, max_bytes))
    }
    fn sendmsg(&self, sink: &mut Script, iovecs: &[IoVec]) -> isize {
        let mut msg: libc::msghdr = unsafe { std::mem::zeroed() };
        msg.msg_iov = iovecs.as_ptr().cast_mut().cast();
        msg.msg_iovlen = iovecs.len() as _;
        let (fd, flags) = (kernel::SOCKET, libc::MSG_NOSIGNAL);
        serve(sink, || match call!(sendq_sendmsg(self.q, fd, &msg, flags)) {
            -1 => -(std::io::Error::last_os_error().raw_os_error().unwrap() as isize),
            taken => taken,
        })
    }
    fn verify(&self, iovecs: &[IoVec], bytes: usize) -> (c_int, Option<u64>) {
        let mut at = u64::MAX;
        let (iov, count) = (iovecs.as_ptr(), iovecs.len() as c_int);
        let got = call!(sendq_verify(self.q, iov, count, bytes, &mut at));
        (got, (at != u64::MAX).then_some(at))
    }
    fn consume(&self, len: usize) -> c_int {
        call!(sendq_consume(self.q, len))
    }
    fn discard(&self) -> c_int {
        call!(sendq_discard(self.q))
    }
    fn close(&self) -> c_int {
        call!(sendq_close(self.q))
    }
    fn close_within(&self, timeout: u64) -> c_int {
        call!(sendq_close_within(self.q, timeout))
    }
    fn set_watermarks(&self, low: u64, high: u64, max: u64) -> c_int {
        call!(sendq_set_watermarks(self.q, low, high, max))
    }
    fn set_rate(&self, rate: u64, burst: u64) -> c_int {
        call!(sendq_set_rate(self.q, rate, burst))
    }
    fn set_min_rate(&self, rate: u64, window: u64) -> c_int {
        call!(sendq_set_min_rate(self.q, rate, window))
    }
    fn schedule(&self) -> Option<c_int> {
        Some(call!(sendq_schedule(self.q)))
    }
    fn free(&self) {
        call!(sendq_free(self.q));
    }
    fn peek(&self, room: &mut [IoVec]) -> usize {
        call!(sendq_peek(self.q, room.as_mut_ptr(), room.len() as c_int)) as usize
    }
    fn peek_parts(&self) -> Option<Vec<sendq_part_t>> {
        let mut parts = [std::mem::MaybeUninit::<sendq_part_t>::uninit(); 256];
        let count = call!(sendq_peek_parts(self.q, parts.as_mut_ptr().cast(), 256)) as usize;
        Some(parts[..count].iter().map(|part| unsafe { part.assume_init() }).collect())
    }
    fn queued_messages(&self) -> u64 {
        call!(sendq_queued_messages(self.q))
    }
    fn sent_messages(&self) -> u64 {
        call!(sendq_sent_messages(self.q))
    }
    fn queued_bytes(&self) -> u64 {
        call!(sendq_queued_bytes(self.q))
    }
    fn queued_memory(&self) -> u64 {
        call!(sendq_queued_memory(self.q))
    }
    fn memory(&self) -> u64 {
        call!(sendq_memory(self.q))
    }
    fn room(&self) -> u64 {
        unsafe { sendq_room(self.q) }
    }
    fn sent_bytes(&self) -> u64 {
        call!(sendq_sent_bytes(self.q))
    }
    fn error(&self) -> c_int {
        call!(sendq_error(self.q))
    }
    fn state(&self) -> c_int {
        call!(sendq_state(self.q))
    }
    fn stalled_ns(&self) -> u64 {
        call!(sendq_stalled_ns(self.q))
    }
    fn retry_after_ns(&self) -> u64 {
        call!(sendq_retry_after_ns(self.q))
    }
    fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        assert_eq!(call!(sendq_stats(self.q, &mut stats, size_of::<Stats>())), 0);
        stats
    }
}
