//! The driver for the core alone: a handle of the test's own does what `capi` does. Each time that it was alone
//! with the queue, that is in order again, and what is to be done when the call is over is noted.

use super::driver::{Driver, HostClock, PoolDriver, World};
use super::ops::{COPY_BELOW, Setting};
use super::script::Script;
use libc::{c_int, c_void};
use sendq::capi::*;
use sendq::clock::Clock;
use sendq::errno::{Errno, Result};
use sendq::flush::{self, WithLocked};
use sendq::iovec::{Fill, IoVec, IoVecs};
use sendq::policy::{Hints, Watermarks};
use sendq::pool::{Limits, NO_LIMIT, Pool};
use sendq::queue::{Deferred, Piece, Queue, Size};
use sendq::records::flush_records;
use sendq::release::{self, Lifetime, Shared};
use sendq::sink::writer::{Write, Writer};
use sendq::slot::{Owner, Slot};
use sendq::stats::{PoolStats, Stats};
use sendq::verify::{Verdict, verify};
use std::cell::{Cell, RefCell};
use std::mem::MaybeUninit;
use std::rc::Rc;

struct Memory {
    pool: Pool,
    /// Of a run in simulated time.
    clock: Option<*const HostClock>,
    /// The queues that were not freed.
    handles: RefCell<Vec<*const Handle>>,
    /// The queues that are still there.
    alive: Cell<usize>,
}

/// A queue as its callers share it. A RefCell finds out when two of them are with it at once.
struct Handle {
    queue: RefCell<Queue>,
    lifetime: RefCell<Lifetime>,
    memory: Rc<Memory>,
}

/// A payload that several slots are parts of: how many hold it, the run included.
struct Payload {
    bytes: Vec<u8>,
    holders: Cell<u64>,
}

struct Core {
    q: *const Handle,
    payload: Rc<Payload>,
}

pub fn world(setting: &Setting, clock: &HostClock, shared: &[u8]) -> World {
    let max_bytes = match setting.max_bytes() {
        0 => NO_LIMIT,
        bytes => bytes as usize,
    };
    let limits = Limits {
        max_bytes,
        chunk_bytes: setting.chunk_bytes as usize,
        keep_bytes: setting.keep_bytes as usize,
    };
    let memories = [(); 2].map(|()| {
        let pool_clock = if setting.simulated { Clock::host() } else { Clock::system() };
        Rc::new(Memory {
            pool: Pool::confined(limits, pool_clock),
            clock: setting.simulated.then_some(&raw const *clock),
            handles: RefCell::default(),
            alive: Cell::new(0),
        })
    });
    assert_eq!(memories[0].pool.pin_shared(shared.len()), Ok(()));
    let payload = Rc::new(Payload { bytes: shared.to_vec(), holders: Cell::new(1) });
    let (low, high, max) = setting.marks();
    let queues = [0, 1].map(|i| {
        let memory = memories[setting.pool_of(i)].clone();
        let mut queue = Queue::new(Watermarks::new(low, high, max).unwrap()).unwrap();
        queue.set_share_below(setting.share_below as u64).unwrap();
        if let Some(max) = setting.max_messages[i] {
            queue.count_messages(max).unwrap();
        }
        if setting.reserve > 0 {
            queue.set_reserve(setting.reserve).unwrap();
        }
        let (queue, lifetime) = (RefCell::new(queue), RefCell::new(Lifetime::NEW));
        let q = Box::into_raw(Box::new(Handle { queue, lifetime, memory: memory.clone() }));
        memory.handles.borrow_mut().push(q);
        memory.alive.set(memory.alive.get() + 1);
        Box::new(Core { q, payload: payload.clone() }) as Box<dyn Driver>
    });
    World { queues, pools: memories.map(|memory| Box::new(memory) as Box<dyn PoolDriver>) }
}

impl Memory {
    fn update_time(&self) {
        if let Some(clock) = self.clock {
            // SAFETY: the run's clock, which outlives its pools.
            self.pool.clock().show(unsafe { (*clock).now.get() });
        }
    }
}

impl PoolDriver for Rc<Memory> {
    fn stats(&self) -> PoolStats {
        let handles = self.handles.borrow();
        let mut stats = PoolStats::of(&self.pool);
        stats.queues = handles.len() as u64;
        for handle in handles.iter() {
            // SAFETY: a live queue.
            let queue = unsafe { (**handle).queue.borrow() };
            stats.add(&queue);
        }
        stats
    }

    fn heaviest(&self) -> Option<Vec<*const c_void>> {
        assert!(self.handles.borrow().len() <= self.alive.get());
        None
    }

    fn next(&self) -> Option<Option<*const c_void>> {
        None
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        assert!(self.alive.get() == 0 || std::thread::panicking(), "a queue was never destroyed");
    }
}

impl Shared for Handle {
    fn with_lifetime<R>(&self, f: impl FnOnce(&mut Lifetime, &mut Queue, &Pool) -> R) -> R {
        let (lifetime, queue) = (&mut *self.lifetime.borrow_mut(), &mut *self.queue.borrow_mut());
        f(lifetime, queue, &self.memory.pool)
    }

    fn is_threadsafe(&self) -> bool {
        false
    }

    unsafe fn destroy(this: *const Handle) {
        // SAFETY: made by Box::into_raw() in world(), and nobody has it any more.
        let handle = unsafe { Box::from_raw(this.cast_mut()) };
        handle.memory.alive.set(handle.memory.alive.get() - 1);
    }
}

struct Call<'a> {
    handle: &'a Handle,
    asks_clock: bool,
    deferred: Cell<Deferred>,
}

impl WithLocked for Call<'_> {
    fn with_locked<R>(&self, f: impl FnOnce(&mut Queue, &Pool) -> R) -> R {
        if self.asks_clock {
            self.handle.memory.update_time();
        }
        self.handle.with_lifetime(|_, queue, pool| {
            let result = f(queue, pool);
            queue.update_room();
            self.deferred.set(self.deferred.get() | queue.take_deferred());
            result
        })
    }
}

/// # Safety
/// `q` is a live queue, which may not be there any more when this returns.
unsafe fn finish(q: *const Handle, deferred: Deferred) {
    // SAFETY: as the caller says; hold() keeps it so.
    unsafe {
        if !deferred.has_report() {
            return release::run(q);
        }
        release::hold(q, |q| {
            let handle = &*q;
            handle.with_lifetime(|_, queue, pool| assert!(queue.take_report(pool).is_some()));
            release::run(q);
        });
    }
}

/// A message, as what has to be appended and whom to release at once.
struct Planned<'a> {
    size: Size,
    pieces: Vec<Piece<'a>>,
    at_once: Vec<(Owner, *const c_void, usize)>,
    /// How often it holds the payload.
    holds: u64,
}

impl Planned<'_> {
    fn release_at_once(self) {
        for (owner, data, len) in self.at_once {
            // SAFETY: as the run gave it; nothing is borrowed.
            unsafe { owner.release(data, len, 0) };
        }
    }
}

impl Core {
    fn is_releasing(&self) -> bool {
        // SAFETY: a live queue.
        release::is_releasing(unsafe { &*self.q })
    }

    fn plan(&self, parts: &[sendq_part_t], owner: Owner) -> Planned<'_> {
        let defers = self.is_releasing();
        let below = if defers { 1 } else { COPY_BELOW };
        let share_below = self.inspect(|queue, _| queue.policy().share_below());
        let mut planned =
            Planned { size: Size::default(), pieces: Vec::new(), at_once: Vec::new(), holds: 0 };
        let (mut total, mut owned) = (0, if defers { Some((0, 0)) } else { None });
        for part in parts {
            let len = part.len as usize;
            total += part.len;
            let of_part = Owner { release: part.release, arg: part.arg };
            let is_shared = part.kind == SENDQ_PART_BUF;
            let payload = self.payload.bytes.as_ptr().wrapping_add(part.offset as usize);
            let data = if is_shared { payload } else { part.data.cast() };
            // SAFETY: memory of the run.
            let slot = unsafe {
                match part.kind {
                    SENDQ_PART_REF if len >= below && len > 0 => {
                        Some(Slot::borrowed(data, len, Owner::NONE))
                    }
                    SENDQ_PART_OWN if len >= below || defers => {
                        Some(Slot::borrowed(data, len, of_part))
                    }
                    SENDQ_PART_BUF if part.len >= share_below && len > 0 => {
                        let payload = &*self.payload;
                        planned.holds += 1;
                        payload.holders.set(payload.holders.get() + 1);
                        let arg = (&raw const *payload).cast_mut().cast();
                        let owner = Owner { release: Some(release_payload), arg };
                        Some(Slot::shared(data, len, owner))
                    }
                    SENDQ_PART_FILE if len > 0 => {
                        Some(Slot::file(part.fd as c_int, part.offset, part.len, Owner::NONE))
                    }
                    _ => None,
                }
            };
            if let Some(slot) = slot {
                planned.size.add_slot(&slot);
                planned.pieces.push(Piece::Slot(slot));
                owned = Some((planned.pieces.len(), total));
                continue;
            }
            if part.kind == SENDQ_PART_OWN {
                planned.at_once.push((of_part, part.data, len));
            }
            if len > 0 {
                planned.size.add_copied(len);
                // SAFETY: memory of the run.
                let bytes = unsafe { std::slice::from_raw_parts(data, len) };
                planned.pieces.push(Piece::Copied(bytes));
            }
        }
        match owned {
            _ if owner.release.is_none() => {}
            None => planned.at_once.push((owner, std::ptr::null(), 0)),
            Some((at, before)) => {
                let slot = Slot::message(owner, before, total - before);
                planned.size.add_slot(&slot);
                planned.pieces.insert(at, Piece::Slot(slot));
            }
        }
        planned
    }

    /// `planned` was refused.
    fn give_back(&self, planned: &Planned) {
        self.payload.holders.set(self.payload.holders.get() - planned.holds);
    }

    fn call<R>(&self, asks_clock: bool, verb: impl FnOnce(&Call) -> R) -> R {
        // SAFETY: a live queue, as the run sees to it.
        let handle = unsafe { &*self.q };
        let call = Call { handle, asks_clock, deferred: Cell::new(Deferred::NONE) };
        let result = verb(&call);
        let deferred = call.deferred.get();
        if deferred != Deferred::NONE {
            // SAFETY: as above, until here.
            unsafe { finish(self.q, deferred) };
        }
        result
    }

    fn enter(&self, verb: impl FnOnce(&Call) -> Result<Hints>) -> c_int {
        in_c(self.call(false, verb))
    }

    fn enter_timed(&self, verb: impl FnOnce(&Call) -> Result<Hints>) -> c_int {
        in_c(self.call(true, verb))
    }

    fn inspect<R>(&self, look: impl FnOnce(&mut Queue, &Pool) -> R) -> R {
        // SAFETY: a live queue.
        unsafe { &*self.q }.with_lifetime(|_, queue, pool| look(queue, pool))
    }

    fn inspect_timed<R>(&self, look: impl FnOnce(&mut Queue, &Pool) -> R) -> R {
        // SAFETY: a live queue.
        unsafe { &*self.q }.memory.update_time();
        self.inspect(look)
    }

    /// The way of an append that fits.
    fn write(&self, bytes: &[u8]) -> bool {
        // SAFETY: a live queue.
        let mut queue = unsafe { (*self.q).queue.borrow_mut() };
        let fits = bytes.len().wrapping_sub(1) < queue.room();
        if fits {
            queue.write(bytes);
        }
        fits
    }
}

fn in_c(result: Result<Hints>) -> c_int {
    result.map_or_else(Errno::negated, |hints| hints.bits() as c_int)
}

/// # Safety
/// The payload that the slot was made of, which holds it.
unsafe extern "C-unwind" fn release_payload(
    arg: *mut c_void,
    _: *const c_void,
    _: usize,
    _: c_int,
) {
    // SAFETY: as the caller says.
    let payload = unsafe { &*arg.cast::<Payload>() };
    payload.holders.set(payload.holders.get() - 1);
}

// SAFETY of all that follows: a live queue, as the run sees to it; memory of the run, which outlives it.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Driver for Core {
    fn address(&self) -> *const c_void {
        self.q.cast()
    }
    fn append(&self, bytes: &[u8]) -> c_int {
        if self.write(bytes) {
            return 0;
        }
        self.appendv(&[IoVec::new(bytes.as_ptr(), bytes.len())])
    }
    fn appendv(&self, iovecs: &[IoVec]) -> c_int {
        let iovecs = unsafe { IoVecs::new(iovecs) };
        self.enter(|call| {
            call.with_locked(|queue, pool| {
                let iovecs = iovecs?;
                queue.append(pool, iovecs.total(), iovecs.slices())
            })
        })
    }
    fn append_ref(&self, data: *const u8, len: usize, owner: Owner) -> c_int {
        if len < COPY_BELOW && !self.is_releasing() {
            let got = self.appendv(&[IoVec::new(data, len)]);
            if got >= 0 {
                unsafe { owner.release(data.cast(), len, 0) };
            }
            return got;
        }
        let slot = unsafe { Slot::borrowed(data, len, owner) };
        self.enter(|call| call.with_locked(|queue, pool| queue.append_slot(pool, slot)))
    }
    fn append_buf(&self, offset: usize, len: usize) -> c_int {
        let payload = &*self.payload;
        if offset + len > payload.bytes.len() {
            return -libc::EINVAL;
        }
        if (len as u64) < self.inspect(|queue, _| queue.policy().share_below()) {
            return self.appendv(&[IoVec::new(payload.bytes[offset..].as_ptr(), len)]);
        }
        let arg = (&raw const *payload).cast_mut().cast();
        let owner = Owner { release: Some(release_payload), arg };
        let slot = unsafe { Slot::shared(payload.bytes.as_ptr().add(offset), len, owner) };
        payload.holders.set(payload.holders.get() + 1);
        let got = self.enter(|call| call.with_locked(|queue, pool| queue.append_slot(pool, slot)));
        if got < 0 {
            payload.holders.set(payload.holders.get() - 1);
        }
        got
    }
    fn append_file(&self, fd: c_int, offset: u64, len: u64, owner: Owner) -> c_int {
        if len == 0 {
            let got = self.appendv(&[]);
            if got >= 0 {
                unsafe { owner.release(std::ptr::null(), 0, 0) };
            }
            return got;
        }
        let slot = Slot::file(fd, offset, len, owner);
        self.enter(|call| call.with_locked(|queue, pool| queue.append_slot(pool, slot)))
    }
    fn notify(&self, owner: Owner) -> c_int {
        let slot = Slot::notification(owner);
        self.enter(|call| call.with_locked(|queue, pool| queue.append_slot(pool, slot)))
    }
    fn reserve(&self, len: usize) -> std::result::Result<*mut u8, c_int> {
        self.call(false, |call| call.with_locked(|queue, pool| queue.reserve(pool, len)))
            .map_err(Errno::negated)
    }
    fn commit(&self, used: usize) -> c_int {
        self.enter(|call| call.with_locked(|queue, pool| queue.commit(pool, used)))
    }
    fn cork(&self) -> c_int {
        self.enter(|call| call.with_locked(|queue, _| queue.cork()).map(|()| Hints::NONE))
    }
    fn uncork(&self) -> c_int {
        self.enter(|call| call.with_locked(|queue, pool| queue.uncork(pool)))
    }
    fn rollback(&self) -> c_int {
        self.enter_timed(|call| call.with_locked(|queue, pool| queue.rollback(pool)))
    }
    fn append_message(&self, parts: &[sendq_part_t], owner: Owner) -> c_int {
        let mut planned = self.plan(parts, owner);
        let (size, pieces) = (planned.size, std::mem::take(&mut planned.pieces));
        let got = self.enter(|call| {
            call.with_locked(|queue, pool| queue.append_message(pool, &size, pieces.into_iter()))
        });
        if got < 0 {
            self.give_back(&planned);
        } else {
            planned.release_at_once();
        }
        got
    }
    fn send_message(
        &self,
        sink: &mut Script,
        parts: &[sendq_part_t],
        owner: Owner,
        max_bytes: usize,
    ) -> c_int {
        let mut planned = self.plan(parts, owner);
        let (size, pieces) = (planned.size, std::mem::take(&mut planned.pieces));
        let got = self.enter_timed(|call| {
            let append = |queue: &mut Queue, pool: &Pool, sent: usize| {
                assert_eq!(sent, 0);
                queue.append_rest(pool, 0, &size, pieces.into_iter())
            };
            flush::send_message(call, sink, max_bytes, size.memory(), |_| false, append)
        });
        if got < 0 {
            self.give_back(&planned);
        } else {
            planned.release_at_once();
        }
        got
    }
    fn end_message(&self) -> c_int {
        self.enter(|call| {
            call.with_locked(|queue, _| {
                queue.failure().map_or(Ok(()), Err)?;
                queue.reserve_boundary()?;
                queue.end_message();
                Ok(Hints::NONE)
            })
        })
    }
    fn discard_unstarted(&self) -> c_int {
        self.enter_timed(|call| call.with_locked(|queue, pool| queue.discard_unstarted(pool)))
    }
    fn hole(&self, len: usize) -> std::result::Result<u64, c_int> {
        self.call(false, |call| call.with_locked(|queue, pool| queue.hole(pool, len)))
            .map_err(Errno::negated)
    }
    fn fill(&self, id: u64, bytes: &[u8]) -> c_int {
        self.enter(|call| call.with_locked(|queue, pool| queue.fill(pool, id, bytes)))
    }
    fn reset(&self) -> c_int {
        self.enter_timed(|call| {
            call.with_locked(|queue, pool| queue.reset(pool)).map(|_| Hints::NONE)
        })
    }
    fn fail(&self, errno: c_int) -> c_int {
        self.enter_timed(|call| {
            call.with_locked(|queue, pool| queue.fail_unless_busy(pool, Errno::new(-errno)))
                .map(|()| Hints::NONE)
        })
    }
    fn splice(&self, from: *const c_void, most: u64) -> c_int {
        let from = unsafe { &*from.cast::<Handle>() };
        from.memory.update_time();
        self.enter_timed(|to| {
            let from =
                Call { handle: from, asks_clock: false, deferred: Cell::new(Deferred::NONE) };
            let result = to.with_locked(|to, pool| {
                from.with_locked(|from, other| to.splice(pool, from, other, most))
            });
            assert_eq!(from.deferred.get(), Deferred::NONE);
            result
        })
    }
    fn flush(&self, sink: &mut Script, max_bytes: usize) -> c_int {
        self.enter_timed(|call| flush::flush(call, sink, max_bytes))
    }
    fn flush_with(&self, write: Write, arg: *mut c_void, max_bytes: usize) -> c_int {
        let mut result = 0;
        unsafe {
            release::hold(self.q, |_| {
                result = self.enter_timed(|call| {
                    flush_records(call, &mut Writer::new(write, arg), max_bytes)
                });
            });
        }
        result
    }
    fn sendmsg(&self, sink: &mut Script, iovecs: &[IoVec]) -> isize {
        let result =
            self.call(true, |call| flush::send(call, sink, unsafe { IoVecs::new(iovecs) }?, true));
        result.map_or_else(|errno| errno.negated() as isize, |taken| taken as isize)
    }
    fn verify(&self, iovecs: &[IoVec], bytes: usize) -> (c_int, Option<u64>) {
        let iovecs = unsafe { IoVecs::new(iovecs) }.unwrap();
        if bytes > iovecs.total() {
            return (-libc::EINVAL, None);
        }
        match self.call(true, |call| verify(call, iovecs, bytes)) {
            Ok(Verdict::Same(hints)) => (hints.bits() as c_int, None),
            Ok(Verdict::DiffersAt(at)) => (-libc::EILSEQ, Some(at)),
            Err(errno) => (errno.negated(), None),
        }
    }
    fn consume(&self, len: usize) -> c_int {
        self.enter_timed(|call| call.with_locked(|queue, pool| queue.consume(pool, len as u64)))
    }
    fn discard(&self) -> c_int {
        self.enter_timed(|call| call.with_locked(|queue, pool| queue.discard(pool)))
    }
    fn close(&self) -> c_int {
        self.enter(|call| {
            call.with_locked(|queue, _| queue.close());
            Ok(Hints::NONE)
        })
    }
    fn close_within(&self, timeout: u64) -> c_int {
        self.enter_timed(|call| {
            call.with_locked(|queue, pool| queue.close_within(pool, timeout)).map(|()| Hints::NONE)
        })
    }
    fn set_watermarks(&self, low: u64, high: u64, max: u64) -> c_int {
        let marks = Watermarks::new(low, high, max);
        self.enter(|call| call.with_locked(|queue, _| queue.set_watermarks(marks?)))
    }
    fn set_rate(&self, rate: u64, burst: u64) -> c_int {
        self.enter_timed(|call| {
            call.with_locked(|queue, pool| queue.set_rate(pool, rate, burst)).map(|()| Hints::NONE)
        })
    }
    fn set_min_rate(&self, rate: u64, window: u64) -> c_int {
        if rate > 0 && window == 0 {
            return -libc::EINVAL;
        }
        self.enter_timed(|call| {
            call.with_locked(|queue, pool| queue.set_min_rate(pool, rate, window))
                .map(|()| Hints::NONE)
        })
    }
    fn schedule(&self) -> Option<c_int> {
        None
    }
    fn free(&self) {
        if !self.inspect_lifetime() {
            return;
        }
        let memory = unsafe { (*self.q).memory.clone() };
        memory.handles.borrow_mut().retain(|handle| *handle != self.q);
        let call = Call {
            handle: unsafe { &*self.q },
            asks_clock: true,
            deferred: Cell::new(Deferred::NONE),
        };
        call.with_locked(|queue, pool| queue.clear(pool));
        let deferred = call.deferred.get();
        unsafe { finish(self.q, deferred) };
    }
    fn peek(&self, room: &mut [IoVec]) -> usize {
        let room: &mut [MaybeUninit<IoVec>] =
            unsafe { std::slice::from_raw_parts_mut(room.as_mut_ptr().cast(), room.len()) };
        self.call(false, |call| {
            let mut fill = Fill::new(room, usize::MAX);
            call.with_locked(|queue, _| queue.each_extent(|extent| fill.add(extent)));
            fill.count
        })
    }
    fn peek_parts(&self) -> Option<Vec<sendq_part_t>> {
        None
    }
    fn queued_messages(&self) -> u64 {
        self.inspect(|queue, _| queue.queued_messages())
    }
    fn sent_messages(&self) -> u64 {
        self.inspect(|queue, _| queue.sent_messages())
    }
    fn queued_bytes(&self) -> u64 {
        self.inspect(|queue, _| queue.waiting())
    }
    fn queued_memory(&self) -> u64 {
        self.inspect(|queue, _| queue.memory())
    }
    fn memory(&self) -> u64 {
        self.inspect(|queue, _| queue.held())
    }
    fn room(&self) -> u64 {
        self.inspect(|queue, pool| queue.remaining(pool))
    }
    fn sent_bytes(&self) -> u64 {
        self.inspect(|queue, _| queue.sent())
    }
    fn error(&self) -> c_int {
        self.inspect(|queue, _| queue.failure().map_or(0, Errno::negated))
    }
    fn state(&self) -> c_int {
        self.enter_timed(|call| call.with_locked(|queue, pool| Ok(queue.state(pool))))
    }
    fn stalled_ns(&self) -> u64 {
        self.inspect_timed(|queue, pool| queue.stalled_ns(pool.now()))
    }
    fn retry_after_ns(&self) -> u64 {
        self.inspect_timed(|queue, pool| queue.retry_after_ns(pool).unwrap_or(u64::MAX))
    }
    fn stats(&self) -> Stats {
        self.inspect_timed(|queue, pool| Stats::of(queue, pool.now()))
    }
}

impl Core {
    /// The host frees it; false: it has done so before.
    fn inspect_lifetime(&self) -> bool {
        // SAFETY: a live queue.
        unsafe { &*self.q }.with_lifetime(|lifetime, _, _| lifetime.free())
    }
}
