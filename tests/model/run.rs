//! Does each operation to the queues and to the models, and compares.

use super::ops::{Op, Reaction, Setting};
use super::pace::{Bucket, Floor};
use super::queue::{HIGH, Kind, LOW, MAX, Model, Part};
use super::script::{Answer, Script, file_byte};
use libc::{c_int, c_void};
use sendq::capi::*;
use sendq::chunk::HEADER;
use sendq::flush::flush;
use sendq::pressure::Hints;
use sendq::stats::{PoolStats, Stats};
use std::cell::{Cell, RefCell};
use std::ptr::null_mut;

const COPY_BELOW: usize = 100;
const SHARED_BYTES: usize = 600;

/// An owner: which queue it calls back into, and what it does there. Told at most once.
struct Person {
    /// NULL once the queue is freed: by a host that keeps its books.
    queue: *const Cell<*mut sendq_t>,
    q: usize,
    then: Reaction,
    id: usize,
    data: Vec<u8>,
    log: *const RefCell<Vec<Told>>,
}

/// Who was told what, and what became of what was done then.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Told {
    id: usize,
    reason: c_int,
    result: c_int,
}

/// What a reaction appends.
fn reply(id: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| (i ^ id) as u8).collect()
}

unsafe extern "C-unwind" fn told(arg: *mut c_void, data: *const c_void, len: usize, reason: c_int) {
    // SAFETY: the Person that was given with the segment, alive until the run ends; its queue is
    // alive, or NULL, which is refused.
    unsafe {
        let person = &*arg.cast::<Person>();
        let queue = (*person.queue).get();
        assert!(
            data.is_null() || (data == person.data.as_ptr().cast() && len == person.data.len())
        );
        let at = (*person.log).borrow().len();
        (*person.log).borrow_mut().push(Told { id: person.id, reason, result: 0 });
        let result = match person.then {
            Reaction::Nothing => 0,
            Reaction::Append(len) => {
                let bytes = reply(person.id, len);
                sendq_append(queue, bytes.as_ptr().cast(), len)
            }
            Reaction::Discard => sendq_discard(queue),
            Reaction::Consume(len) => sendq_consume(queue, len),
            Reaction::Free => {
                sendq_free((*person.queue).replace(null_mut()));
                0
            }
        };
        (*person.log).borrow_mut()[at].result = result;
    }
}

unsafe extern "C-unwind" fn simulated_now(arg: *mut c_void) -> u64 {
    // SAFETY: the run's clock, which outlives its pools.
    unsafe { (*arg.cast::<Cell<u64>>()).get() }
}

pub struct Run {
    setting: Setting,
    /// Boxed, so that it stays where it is: the pools hold its address.
    clock: Box<Cell<u64>>,
    pools: [*mut sendq_pool_t; 2],
    /// What the pools may hold; 0: all there is.
    max: u64,
    /// The most that they held.
    peaks: [u64; 2],
    /// Boxed, so that they stay where they are: people hold their addresses.
    queues: Box<[Cell<*mut sendq_t>; 2]>,
    models: [Model; 2],
    shared: *mut sendq_buf_t,
    shared_bytes: Vec<u8>,
    /// Boxed, so that they stay where they are: sendq holds their addresses.
    #[allow(clippy::vec_box)]
    people: Vec<Box<Person>>,
    log: Box<RefCell<Vec<Told>>>,
    expected: Vec<Told>,
    lent: [*mut u8; 2],
    next: u32,
}

impl Run {
    pub fn new(setting: Setting) -> Run {
        let flags = if setting.threadsafe { SENDQ_THREADSAFE } else { 0 };
        let clock = Box::new(Cell::new(1_000_000_000_000));
        let max = setting.budget.map_or(0, |more| setting.chunk_bytes + SHARED_BYTES as u64 + more);
        let pool = sendq_pool_config_t {
            size: size_of::<sendq_pool_config_t>(),
            flags,
            reserved: 0,
            max_bytes: max,
            chunk_bytes: setting.chunk_bytes,
            keep_bytes: setting.keep_bytes,
            now: setting.simulated.then_some(simulated_now),
            now_arg: (&raw const *clock).cast_mut().cast(),
        };
        let queue = sendq_config_t {
            size: size_of::<sendq_config_t>(),
            flags,
            reserved: 0,
            user: null_mut(),
            low: LOW,
            high: HIGH,
            max: MAX,
            copy_below: COPY_BELOW as u64,
        };
        let mut run = Run {
            setting,
            clock,
            pools: [null_mut(); 2],
            max,
            peaks: [0; 2],
            queues: Box::default(),
            models: [Model::new(), Model::new()],
            shared: null_mut(),
            shared_bytes: (0..SHARED_BYTES).map(|i| (i * 7) as u8).collect(),
            people: Vec::new(),
            log: Box::default(),
            expected: Vec::new(),
            lent: [null_mut(); 2],
            next: 0,
        };
        let bytes = &run.shared_bytes;
        // SAFETY: configs, places and bytes of this function.
        unsafe {
            for i in 0..2 {
                assert_eq!(sendq_pool_new(&pool, &mut run.pools[i]), 0);
                let pool = run.pools[run.pool_of(i)];
                assert_eq!(sendq_new(pool, &queue, run.queues[i].as_ptr()), 0);
            }
            let data = bytes.as_ptr().cast();
            assert_eq!(sendq_buf_copy(run.pools[0], data, bytes.len(), &mut run.shared), 0);
        }
        run.set_clock(run.clock.get());
        run
    }

    /// Which pool the queue `q` has.
    fn pool_of(&self, q: usize) -> usize {
        if self.setting.one_pool { 0 } else { q }
    }

    fn set_clock(&mut self, now: u64) {
        self.clock.set(now);
        // So that both pools have seen it.
        for queue in self.queues.iter() {
            // SAFETY: a live queue or NULL.
            unsafe { sendq_stalled_ns(queue.get()) };
        }
        // Should it jump back, time stands still.
        self.models.iter_mut().for_each(|model| model.now = model.now.max(now));
    }

    fn payload(&mut self, len: usize) -> Vec<u8> {
        self.next += len as u32;
        (self.next - len as u32..self.next).map(|i| (i ^ i >> 8) as u8).collect()
    }

    fn person(&mut self, q: usize, then: Reaction, data: Vec<u8>) -> *mut c_void {
        let (id, log) = (self.people.len(), &raw const *self.log);
        let queue = &raw const self.queues[q];
        self.people.push(Box::new(Person { queue, q, then, id, data, log }));
        (&raw mut **self.people.last_mut().unwrap()).cast()
    }

    /// The owners of what is gone are told, in order, and react.
    fn tell(&mut self, q: usize) {
        while let Some((id, reason)) = self.models[q].gone.pop_front() {
            self.tell_one(id, reason);
        }
    }

    fn tell_one(&mut self, id: usize, reason: c_int) {
        let at = self.expected.len();
        self.expected.push(Told { id, reason, result: 0 });
        let person = &self.people[id];
        // A spliced piece still calls back into the queue that it was appended to.
        let (q, then) = (person.q, person.then);
        let model = &mut self.models[q];
        let result = match then {
            Reaction::Nothing => 0,
            Reaction::Free if model.freed => 0,
            _ if model.freed => -libc::EINVAL,
            Reaction::Append(len) => {
                let got = self.log.borrow().get(at).map_or(0, |told| told.result);
                let over_budget = got == -libc::ENOBUFS && self.max > 0 && model.admit(len) == 0;
                if over_budget { got } else { model.append(reply(id, len)) }
            }
            Reaction::Discard => model.drop_all(-libc::ECANCELED),
            Reaction::Consume(len) => model.consume(len),
            Reaction::Free => {
                model.freed = true;
                model.closed = true;
                model.reserved = 0;
                model.drop_all(-libc::ECANCELED);
                0
            }
        };
        self.expected[at].result = result;
        self.tell(q);
    }

    fn pool_stats(&self, pool: usize) -> PoolStats {
        let mut stats = PoolStats::default();
        // SAFETY: a live pool, and a place with its size.
        let got = unsafe { sendq_pool_stats(self.pools[pool], &mut stats, size_of::<PoolStats>()) };
        assert_eq!(got, 0);
        stats
    }

    fn stats(&self, q: usize) -> Stats {
        let mut stats = Stats::default();
        // SAFETY: a live queue, and a place with its size.
        let got = unsafe { sendq_stats(self.queues[q].get(), &mut stats, size_of::<Stats>()) };
        assert_eq!(got, 0);
        stats
    }

    /// What so many copied bytes take of a pool at most.
    fn chunks_for(&self, len: usize) -> u64 {
        let header = HEADER as u64;
        (len as u64).div_ceil(self.setting.chunk_bytes - header) * self.setting.chunk_bytes
    }

    /// A call for which the queue `q` had room came back with `got`. Whether the pool has room, only the
    /// pool can say; it may only refuse what could have taken it over its budget.
    fn over_budget(&self, q: usize, got: c_int, needs: u64) -> bool {
        if got != -libc::ENOBUFS || self.max == 0 {
            return false;
        }
        let stats = self.pool_stats(self.pool_of(q));
        let in_use = stats.used + stats.pinned + stats.shared;
        assert!(in_use + needs > self.max, "{in_use} and {needs} are within {}", self.max);
        true
    }

    pub fn step(&mut self, q: usize, op: &Op) {
        let skipped = match op {
            Op::CloseWithin(_) | Op::SetRate(..) | Op::SetMinRate(..) => !self.setting.simulated,
            _ => false,
        };
        if self.models[q].freed || skipped {
            return;
        }
        let queue = self.queues[q].get();
        let chunk = self.setting.chunk_bytes;
        // SAFETY: a live queue; memory of this run, which outlives it.
        let (got, want) = unsafe {
            match op {
                Op::Append(len) => {
                    let bytes = self.payload(*len);
                    let got = sendq_append(queue, bytes.as_ptr().cast(), *len);
                    (got, self.append(q, got, bytes))
                }
                Op::Appendv(lengths) => {
                    let bytes = self.payload(lengths.iter().sum());
                    let mut at = 0;
                    let iov: Vec<_> = lengths
                        .iter()
                        .map(|len| {
                            at += len;
                            let iov_base = bytes[at - len..].as_ptr().cast_mut().cast();
                            libc::iovec { iov_base, iov_len: *len }
                        })
                        .collect();
                    let got = sendq_appendv(queue, iov.as_ptr().cast(), iov.len() as c_int);
                    (got, self.append(q, got, bytes))
                }
                Op::Ref(len, then) => {
                    let bytes = self.payload(*len);
                    let arg = self.person(q, *then, bytes.clone());
                    let id = self.people.len() - 1;
                    let data = self.people[id].data.as_ptr().cast();
                    let got = sendq_append_ref(queue, data, *len, Some(told), arg);
                    let want = match self.models[q].admit(*len) {
                        _ if *len == 0 => -libc::EINVAL,
                        0 if *len < COPY_BELOW => {
                            let hints = self.append(q, got, bytes);
                            if hints >= 0 {
                                self.tell_one(id, 0);
                            }
                            hints
                        }
                        0 if self.over_budget(q, got, chunk + *len as u64) => got,
                        0 => self.models[q].rise(Part::new(Kind::Borrowed, bytes, Some(id))),
                        errno => errno,
                    };
                    (got, want)
                }
                Op::Buf(offset, len) => {
                    let got = sendq_append_buf(queue, self.shared, *offset, *len);
                    let want = match self.models[q].admit(*len) {
                        _ if *len == 0 || offset + len > self.shared_bytes.len() => -libc::EINVAL,
                        0 if self.over_budget(q, got, chunk) => got,
                        0 => {
                            let bytes = self.shared_bytes[*offset..offset + len].to_vec();
                            self.models[q].rise(Part::new(Kind::Shared, bytes, None))
                        }
                        errno => errno,
                    };
                    (got, want)
                }
                Op::File(len, then) => {
                    let arg = self.person(q, *then, Vec::new());
                    let id = self.people.len() - 1;
                    let offset = u64::from(self.next);
                    let got = sendq_append_file(queue, 5, offset, *len as u64, Some(told), arg);
                    let want = match self.models[q].admit(*len) {
                        _ if *len == 0 => -libc::EINVAL,
                        0 if self.over_budget(q, got, chunk) => got,
                        0 => {
                            let bytes = (offset..).take(*len).map(|at| file_byte(5, at));
                            let bytes = bytes.collect::<Vec<u8>>();
                            self.models[q].rise(Part::new(Kind::File, bytes, Some(id)))
                        }
                        errno => errno,
                    };
                    (got, want)
                }
                Op::Notify(then) => {
                    let arg = self.person(q, *then, Vec::new());
                    let id = self.people.len() - 1;
                    let got = sendq_notify(queue, Some(told), arg);
                    let want = match self.models[q].admit(0) {
                        0 if self.over_budget(q, got, chunk) => got,
                        0 => self.models[q].rise(Part::notification(id)),
                        errno => errno,
                    };
                    (got, want)
                }
                Op::Reserve(len) => {
                    let mut memory = null_mut();
                    let got = sendq_reserve(queue, *len, &mut memory);
                    // A chunk of its own, of whole pages, if the usual ones are too small.
                    let needs = chunk.max((*len + HEADER) as u64 + 4096);
                    let want = match self.models[q].admit(*len) {
                        0 if *len == 0 => -libc::EINVAL,
                        0 if self.over_budget(q, got, needs) => got,
                        errno => errno,
                    };
                    if got == 0 {
                        (self.lent[q], self.models[q].reserved) = (memory.cast(), *len);
                    }
                    (got, want)
                }
                Op::Commit(used) => {
                    let reserved = self.models[q].reserved;
                    let valid = reserved > 0 && *used <= reserved;
                    let bytes = self.payload(if valid { *used } else { 0 });
                    std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.lent[q], bytes.len());
                    let got = sendq_commit(queue, *used);
                    let model = &mut self.models[q];
                    if valid || model.refusal() != 0 {
                        model.reserved = 0;
                    }
                    let want = match model.refusal() {
                        0 if !valid => -libc::EINVAL,
                        0 if bytes.is_empty() => 0,
                        // Room was promised: a cap that was lowered meanwhile does not take it back.
                        0 => model.rise(Part::copied(bytes)),
                        errno => errno,
                    };
                    (got, want)
                }
                Op::Cork => {
                    let model = &mut self.models[q];
                    let want = match model.admit(0) {
                        0 if model.corked.is_some() => -libc::EALREADY,
                        0 => {
                            model.corked = Some(model.parts.len());
                            0
                        }
                        errno => errno,
                    };
                    (sendq_cork(queue), want)
                }
                Op::Uncork => {
                    let got = sendq_uncork(queue);
                    let model = &mut self.models[q];
                    let want = match model.take_held() {
                        Ok(held) => {
                            let idle = model.waiting() == 0;
                            model.parts.extend(held);
                            model.pass_marks();
                            if idle {
                                model.begin_to_wait();
                            }
                            SENDQ_WAKE * c_int::from(idle && model.waiting() > 0)
                        }
                        Err(errno) => errno,
                    };
                    (got, want)
                }
                Op::Rollback => {
                    let got = sendq_rollback(queue);
                    let want = match self.models[q].rollback() {
                        Ok((hints, held)) => {
                            for id in held.iter().filter_map(Part::owner) {
                                self.tell_one(id, -libc::ECANCELED);
                            }
                            hints
                        }
                        Err(errno) => errno,
                    };
                    (got, want)
                }
                Op::Splice => {
                    let moved = if self.models[1 - q].freed {
                        0
                    } else {
                        let stats = self.stats(1 - q);
                        stats.allocated + stats.pinned
                    };
                    let got = sendq_splice(queue, self.queues[1 - q].get());
                    (got, self.splice(q, got, moved))
                }
                Op::Flush { budget, answers } => return self.flush(q, *budget, answers),
                Op::Consume(len) => (sendq_consume(queue, *len), self.models[q].consume(*len)),
                Op::Discard => (sendq_discard(queue), self.models[q].drop_all(-libc::ECANCELED)),
                Op::Close => {
                    self.models[q].closed = true;
                    (sendq_close(queue), 0)
                }
                Op::CloseWithin(timeout) => {
                    (sendq_close_within(queue, *timeout), self.models[q].close_within(*timeout))
                }
                Op::SetWatermarks(low, high, max) => (
                    sendq_set_watermarks(queue, *low, *high, *max),
                    self.models[q].set_watermarks(*low, *high, *max),
                ),
                Op::SetRate(rate, burst) => {
                    let now = self.models[q].now;
                    let before = self.models[q].rate;
                    self.models[q].rate = Bucket::new(*rate, *burst, now).map(|bucket| {
                        before.map_or(bucket, |before| bucket.filled_from(before, now))
                    });
                    (sendq_set_rate(queue, *rate, *burst), 0)
                }
                Op::SetMinRate(rate, window) => {
                    let got = sendq_set_min_rate(queue, *rate, *window);
                    let valid = *rate == 0 || *window > 0;
                    if valid {
                        self.models[q].floor = Floor::new(*rate, *window, self.models[q].now);
                    }
                    (got, if valid { 0 } else { -libc::EINVAL })
                }
                Op::Pass(by) => {
                    self.set_clock(self.clock.get().saturating_add_signed(*by));
                    return;
                }
            }
        };
        self.tell(q);
        assert_eq!(got, want, "{op:?}");
    }

    fn append(&mut self, q: usize, got: c_int, bytes: Vec<u8>) -> c_int {
        if self.models[q].admit(bytes.len()) == 0
            && self.over_budget(q, got, self.chunks_for(bytes.len()))
        {
            return got;
        }
        self.models[q].append(bytes)
    }

    fn splice(&mut self, q: usize, got: c_int, moved: u64) -> c_int {
        let (to, from) = (&self.models[q], &self.models[1 - q]);
        let len = from.waiting();
        if from.freed {
            return -libc::EINVAL;
        }
        if from.failed != 0 {
            return from.failed;
        }
        if from.reserved > 0 || from.corked.is_some() {
            return -libc::EBUSY;
        }
        match to.admit(len) {
            0 if len == 0 => return 0,
            0 if !self.setting.one_pool && self.over_budget(q, got, moved) => return got,
            0 => (),
            errno => return errno,
        }
        let [first, second] = &mut self.models;
        let (to, from) = if q == 0 { (first, second) } else { (second, first) };
        to.splice(from)
    }

    fn flush(&mut self, q: usize, budget: usize, answers: &[Answer]) {
        let mut sink = Script::new(answers.iter().copied());
        // SAFETY: a live queue.
        let got = flush(unsafe { &*self.queues[q].get() }, &mut sink, budget);
        let now = self.models[q].now;
        let model = &mut self.models[q];
        let taken = sink.taken.len();
        let before = model.available().count();
        let rate = model.rate;
        if model.meet_deadline() {
            assert_eq!((got.map_err(|errno| errno.negated()), taken), (Err(-libc::ETIMEDOUT), 0));
        } else {
            assert!(sink.taken.iter().copied().eq(model.available().take(taken)));
            assert!(budget == 0 || taken <= budget);
            assert!(rate.is_none_or(|rate| taken as u128 <= rate.most(now)), "too fast");
            model.rate.iter_mut().for_each(|rate| rate.fill(now));
            let resume = model.send(&sink.takes);
            let left = before - taken;
            model.count_flush(sink.offers.len(), sink.shorts);
            match got {
                Err(errno) => {
                    let errno = errno.negated();
                    assert!(model.failed == errno || errno == -libc::ECONNRESET);
                    model.fail(errno);
                }
                Ok(hints) => {
                    let want = match (left, sink.is_full) {
                        (0, _) => 0,
                        (_, true) => Hints::BLOCKED.bits() as c_int,
                        (_, false) => Hints::MORE.bits() as c_int,
                    };
                    assert_eq!(hints.bits() as c_int, resume | want);
                    let held_back = |rate: Bucket| taken as u128 >= rate.least(now);
                    let spent = budget != 0 && taken == budget || rate.is_some_and(held_back);
                    assert!(left == 0 || sink.is_full || spent, "nothing was in the way");
                    if left > 0 && sink.is_full {
                        model.block();
                    }
                }
            }
        }
        // The core's flush leaves the telling to its caller; here any call will do.
        // SAFETY: a live queue.
        unsafe { sendq_consume(self.queues[q].get(), 0) };
        self.tell(q);
    }

    pub fn check(&mut self) {
        assert_eq!(*self.log.borrow(), self.expected);
        let held = [0, 1].map(|q| {
            assert_eq!(self.queues[q].get().is_null(), self.models[q].freed);
            if self.models[q].freed {
                return (0, 0);
            }
            self.check_bytes(q);
            self.check_stats(q)
        });
        if self.setting.one_pool {
            self.check_pool(0, &[0, 1], held);
            self.check_pool(1, &[], held);
        } else {
            self.check_pool(0, &[0], held);
            self.check_pool(1, &[1], held);
        }
    }

    fn check_bytes(&self, q: usize) {
        let (queue, model) = (self.queues[q].get(), &self.models[q]);
        let mut iov = [libc::iovec { iov_base: null_mut(), iov_len: 0 }; 256];
        // SAFETY: a live queue, and what was peeked stays while nothing is called.
        unsafe {
            assert_eq!(sendq_queued_bytes(queue), model.waiting() as u64);
            assert_eq!(sendq_sent_bytes(queue), model.counts.sent);
            assert_eq!(sendq_error(queue), model.failed);
            let count = sendq_peek(queue, iov.as_mut_ptr().cast(), iov.len() as c_int);
            let pieces = &iov[..count as usize];
            let peeked: Vec<u8> = pieces
                .iter()
                .flat_map(|iov| std::slice::from_raw_parts(iov.iov_base.cast(), iov.iov_len))
                .copied()
                .collect();
            let parts = model.parts.iter().take(model.visible());
            let in_memory = parts.take_while(|part| !part.is_file());
            let want = in_memory.flat_map(Part::bytes);
            if pieces.len() < iov.len() {
                assert!(peeked.into_iter().eq(want));
            } else {
                assert!(peeked.iter().copied().eq(want.take(peeked.len())));
            }
        }
    }

    /// The figures of a queue. Returns what it has allocated, and what it holds in all.
    fn check_stats(&self, q: usize) -> (u64, u64) {
        let (stats, model) = (self.stats(q), &self.models[q]);
        let counts = &model.counts;
        let [copied, borrowed, shared, file] = counts.appended;
        let got = [stats.copied, stats.borrowed, stats.shared, stats.file];
        assert_eq!(got, [copied, borrowed, shared, file]);
        assert_eq!(copied + borrowed + shared + file, stats.sent + stats.discarded + stats.waiting);
        assert_eq!((stats.sent, stats.discarded), (counts.sent, counts.discarded));
        assert_eq!((stats.waiting, stats.peak_waiting), (model.waiting() as u64, counts.peak));
        assert_eq!(stats.pinned, model.pinned(&[Kind::Borrowed, Kind::Shared]));
        assert!(!model.is_idle() || stats.allocated == 0, "idle, with {}", stats.allocated);
        assert_eq!((stats.flushes, stats.system_calls), (counts.flushes, counts.calls));
        assert_eq!((stats.short_writes, stats.blocked), (counts.shorts, counts.blocked));
        if self.setting.simulated {
            let queue = self.queues[q].get();
            assert!(model.waiting() == 0 || stats.last_progress_ns == model.progress);
            assert_eq!(stats.stalled_ns, model.stalled_ns());
            assert_eq!(stats.blocked_ns, model.blocked_ns());
            // SAFETY: a live queue.
            unsafe {
                assert_eq!(sendq_stalled_ns(queue), model.stalled_ns());
                model.check_retry_after(sendq_retry_after_ns(queue));
            }
        }
        // The run has a hold of the shared payload, too.
        let holders = 1 + self.models.iter().map(Model::shared_parts).sum::<u64>();
        let pinned = model.pinned(&[Kind::Borrowed]) + model.part_of_shared(holders);
        (stats.allocated, stats.allocated + pinned)
    }

    /// The figures of a pool with these queues, of which each has allocated and holds so much.
    fn check_pool(&mut self, pool: usize, queues: &[usize], held: [(u64, u64); 2]) {
        let stats = self.pool_stats(pool);
        let alive = queues.iter().filter(|q| !self.models[**q].freed);
        let models = queues.iter().map(|q| &self.models[*q]).filter(|model| !model.freed);
        assert_eq!(stats.queues, alive.count() as u64);
        let blocked = models.clone().filter(|model| model.blocked.is_some());
        assert_eq!(stats.blocked, blocked.count() as u64);
        assert_eq!(stats.waiting, models.clone().map(|model| model.waiting() as u64).sum::<u64>());
        assert_eq!(stats.pinned, models.map(|model| model.pinned(&[Kind::Borrowed])).sum::<u64>());
        assert_eq!(stats.used, queues.iter().map(|q| held[*q].0).sum::<u64>());
        assert_eq!(stats.shared, if pool == 0 { SHARED_BYTES as u64 } else { 0 });
        assert!(stats.free <= self.setting.keep_bytes);

        let all = stats.used + stats.free + stats.pinned + stats.shared;
        assert_eq!(stats.max, self.max);
        assert!(self.max == 0 || all <= self.max && stats.peak <= self.max, "{stats:?}");
        assert!(stats.peak >= all.max(self.peaks[pool]), "{stats:?}");
        self.peaks[pool] = stats.peak;

        let mut heaviest = [null_mut(); 3];
        // SAFETY: a live pool, and places of this function.
        let count = unsafe { sendq_pool_heaviest(self.pools[pool], heaviest.as_mut_ptr(), 3) };
        let weights: Vec<u64> = heaviest[..count as usize]
            .iter()
            .map(|found| {
                let place = |q: &&usize| self.queues[**q].get() == *found;
                held[*queues.iter().find(place).expect("a queue of this pool")].1
            })
            .collect();
        let mut want: Vec<u64> = queues.iter().map(|q| held[*q].1).filter(|w| *w > 0).collect();
        want.sort_by_key(|weight| std::cmp::Reverse(*weight));
        assert_eq!(weights, want);
    }

    /// Frees both queues: every owner that was not told is told now.
    pub fn end(&mut self) {
        for q in 0..2 {
            if self.models[q].freed {
                continue;
            }
            for person in self.people.iter_mut() {
                person.then = Reaction::Nothing;
            }
            // SAFETY: a live queue, for the last time.
            unsafe { sendq_free(self.queues[q].get()) };
            self.models[q].drop_all(-libc::ECANCELED);
            self.tell(q);
        }
        assert_eq!(*self.log.borrow(), self.expected);
        for pool in 0..2 {
            let stats = self.pool_stats(pool);
            assert_eq!((stats.queues, stats.used, stats.pinned), (0, 0, 0));
        }
        // SAFETY: for the last time.
        unsafe {
            sendq_buf_unref(self.shared);
            for pool in self.pools {
                sendq_pool_free(pool);
            }
        }
    }
}
