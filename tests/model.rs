//! The C ABI against a plain model: bytes and who owns them. Random sequences of every operation, into
//! a sink that takes, stalls, is interrupted and fails, with owners that call back in when they are
//! told; after each step both must agree on every byte, counter, hint, error and release.

mod script;

use libc::{c_int, c_void};
use proptest::prelude::*;
use script::{Answer, Script, file_byte};
use sendq::capi::*;
use sendq::flush::flush;
use sendq::pressure::Hints;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ptr::null_mut;

const LOW: u64 = 1000;
const HIGH: u64 = 3000;
const MAX: u64 = 6000;
const COPY_BELOW: usize = 100;

/// What an owner does when it is told.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Reaction {
    Nothing,
    Append(usize),
    Discard,
    Consume(usize),
    Free,
}

#[derive(Clone, Debug)]
enum Op {
    Append(usize),
    Appendv(Vec<usize>),
    Ref(usize, Reaction),
    Buf(usize, usize),
    File(usize, Reaction),
    Notify(Reaction),
    Reserve(usize),
    Commit(usize),
    Cork,
    Uncork,
    Rollback,
    Splice,
    Flush { budget: usize, answers: Vec<Answer> },
    Consume(usize),
    Discard,
    Close,
    SetWatermarks(u64, u64, u64),
}

fn length() -> impl Strategy<Value = usize> {
    prop_oneof![3 => 0..40_usize, 3 => 90..300_usize, 1 => 0..7000_usize]
}

fn reaction() -> impl Strategy<Value = Reaction> {
    prop_oneof![
        40 => Just(Reaction::Nothing),
        6 => (0..300_usize).prop_map(Reaction::Append),
        2 => Just(Reaction::Discard),
        2 => (0..300_usize).prop_map(Reaction::Consume),
        1 => Just(Reaction::Free),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        6 => Just(Answer::All),
        6 => (0..600_usize).prop_map(Answer::Some),
        2 => Just(Answer::No(libc::EAGAIN)),
        2 => Just(Answer::No(libc::EINTR)),
        1 => Just(Answer::No(libc::ENOBUFS)),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let flush = |answers| {
        (prop_oneof![Just(0), 1..2000_usize], prop::collection::vec(answers, 0..4))
            .prop_map(|(budget, answers)| Op::Flush { budget, answers })
    };
    prop_oneof![
        12 => length().prop_map(Op::Append),
        3 => prop::collection::vec(length(), 0..5).prop_map(Op::Appendv),
        10 => (length(), reaction()).prop_map(|(len, then)| Op::Ref(len, then)),
        4 => (0..600_usize, 0..300_usize).prop_map(|(offset, len)| Op::Buf(offset, len)),
        3 => (length(), reaction()).prop_map(|(len, then)| Op::File(len, then)),
        3 => reaction().prop_map(Op::Notify),
        3 => length().prop_map(Op::Reserve),
        4 => length().prop_map(Op::Commit),
        3 => Just(Op::Cork),
        2 => Just(Op::Uncork),
        2 => Just(Op::Rollback),
        3 => Just(Op::Splice),
        12 => flush(answer().boxed()),
        4 => length().prop_map(Op::Consume),
        1 => Just(Op::Discard),
        1 => (1..300_u64, 300..600_u64, 600..9000_u64)
            .prop_map(|(low, high, max)| Op::SetWatermarks(low, high, max)),
        1 => prop_oneof![
            4 => Just(Op::Close),
            1 => flush(Just(Answer::No(libc::ECONNRESET)).boxed()),
        ],
    ]
}

/// A part of the stream as the model has it.
#[derive(Clone, Debug)]
struct Part {
    /// What has not left.
    bytes: VecDeque<u8>,
    /// It was borrowed, or is a notification: this one is told.
    owner: Option<usize>,
    in_file: bool,
}

/// What one queue should be.
#[derive(Default)]
struct Model {
    parts: VecDeque<Part>,
    /// How many of `parts` may leave, while corked.
    corked: Option<usize>,
    /// Who has to be told, in order.
    gone: VecDeque<(usize, c_int)>,
    sent: u64,
    reserved: usize,
    closed: bool,
    freed: bool,
    failed: c_int,
    high: bool,
    marks: (u64, u64, u64),
}

impl Model {
    fn new() -> Model {
        Model { marks: (LOW, HIGH, MAX), ..Model::default() }
    }

    fn waiting(&self) -> usize {
        self.parts.iter().map(|part| part.bytes.len()).sum()
    }

    fn visible(&self) -> usize {
        self.corked.unwrap_or(self.parts.len())
    }

    fn available(&self) -> impl Iterator<Item = u8> {
        self.parts.iter().take(self.visible()).flat_map(|part| &part.bytes).copied()
    }

    /// 0, or why nothing may be appended.
    fn refusal(&self) -> c_int {
        match (self.failed, self.closed) {
            (0, true) => -libc::EPIPE,
            (errno, _) => errno,
        }
    }

    fn admit(&self, len: usize) -> c_int {
        match self.refusal() {
            0 if self.reserved > 0 => -libc::EBUSY,
            0 if len > 0 && (self.waiting() + len) as u64 > self.marks.2 => -libc::ENOBUFS,
            errno => errno,
        }
    }

    fn rise(&mut self, part: Part) -> c_int {
        let (before, len) = (self.waiting(), part.bytes.len());
        self.parts.push_back(part);
        if len == 0 {
            self.pass_marks();
            return 0;
        }
        let high = (before + len) as u64 >= self.marks.1;
        self.high |= high;
        let wake = before == 0 && self.corked.is_none();
        (SENDQ_WAKE * c_int::from(wake)) | (SENDQ_HIGH * c_int::from(high))
    }

    fn append(&mut self, bytes: Vec<u8>) -> c_int {
        if bytes.is_empty() {
            return self.refusal();
        }
        match self.admit(bytes.len()) {
            0 => self.rise(Part { bytes: bytes.into(), owner: None, in_file: false }),
            errno => errno,
        }
    }

    /// Notifications, and segments all of which has left, at the front.
    fn pass_marks(&mut self) {
        self.pass(0);
    }

    fn pass(&mut self, reason: c_int) {
        while self.visible() > 0 && self.parts.front().is_some_and(|part| part.bytes.is_empty()) {
            let part = self.parts.pop_front().unwrap();
            self.corked = self.corked.map(|visible| visible - 1);
            self.gone.extend(part.owner.map(|id| (id, reason)));
        }
    }

    fn leave(&mut self, mut len: usize, reason: c_int) -> c_int {
        self.pass(reason);
        while len > 0 {
            let part = self.parts.front_mut().unwrap();
            let step = len.min(part.bytes.len());
            part.bytes.drain(..step);
            len -= step;
            self.pass(reason);
        }
        self.resume()
    }

    fn resume(&mut self) -> c_int {
        let resume = self.high && self.waiting() as u64 <= self.marks.0;
        self.high &= !resume;
        SENDQ_RESUME * c_int::from(resume)
    }

    fn drop_all(&mut self, reason: c_int) -> c_int {
        let corked = self.corked.take();
        let hints = self.leave(self.waiting(), reason);
        self.corked = corked.map(|_| 0);
        hints
    }

    fn take_held(&mut self) -> Result<Vec<Part>, c_int> {
        match self.corked {
            _ if self.failed != 0 => Err(self.failed),
            None => Err(-libc::EINVAL),
            Some(_) if self.reserved > 0 => Err(-libc::EBUSY),
            Some(visible) => {
                self.corked = None;
                Ok(self.parts.drain(visible..).collect())
            }
        }
    }
}

/// An owner: which queue it calls back into, and what it does there. Told at most once.
struct Person {
    /// NULL once the queue is freed: by a host that keeps its books.
    queue: *const Cell<*mut sendq_t>,
    q: usize,
    then: Reaction,
    id: usize,
    data: Vec<u8>,
    log: *const RefCell<Vec<(usize, c_int)>>,
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
        (*person.log).borrow_mut().push((person.id, reason));
        match person.then {
            Reaction::Nothing => (),
            Reaction::Append(len) => {
                let bytes = reply(person.id, len);
                sendq_append(queue, bytes.as_ptr().cast(), len);
            }
            Reaction::Discard => drop(sendq_discard(queue)),
            Reaction::Consume(len) => drop(sendq_consume(queue, len)),
            Reaction::Free => sendq_free((*person.queue).replace(null_mut())),
        }
    }
}

struct Run {
    pools: [*mut sendq_pool_t; 2],
    /// Boxed, so that they stay where they are: people hold their addresses.
    queues: Box<[Cell<*mut sendq_t>; 2]>,
    models: [Model; 2],
    shared: *mut sendq_buf_t,
    shared_bytes: Vec<u8>,
    /// Boxed, so that they stay where they are: sendq holds their addresses.
    #[allow(clippy::vec_box)]
    people: Vec<Box<Person>>,
    log: Box<RefCell<Vec<(usize, c_int)>>>,
    expected: Vec<(usize, c_int)>,
    lent: [*mut u8; 2],
    next: u32,
}

impl Run {
    fn new(chunk_bytes: u64, threadsafe: bool) -> Run {
        let flags = if threadsafe { SENDQ_THREADSAFE } else { 0 };
        let mut run = Run {
            pools: [null_mut(); 2],
            queues: Box::default(),
            models: [Model::new(), Model::new()],
            shared: null_mut(),
            shared_bytes: (0..600).map(|i| (i * 7) as u8).collect(),
            people: Vec::new(),
            log: Box::default(),
            expected: Vec::new(),
            lent: [null_mut(); 2],
            next: 0,
        };
        for i in 0..2 {
            let pool = sendq_pool_config_t {
                size: size_of::<sendq_pool_config_t>(),
                flags,
                reserved: 0,
                max_bytes: 0,
                chunk_bytes,
                keep_bytes: 2048,
                now: None,
                now_arg: null_mut(),
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
            // SAFETY: configs and places of this function.
            unsafe {
                assert_eq!(sendq_pool_new(&pool, &mut run.pools[i]), 0);
                assert_eq!(sendq_new(run.pools[i], &queue, run.queues[i].as_ptr()), 0);
            }
        }
        let bytes = &run.shared_bytes;
        // SAFETY: bytes of this function.
        let made = unsafe {
            sendq_buf_copy(run.pools[0], bytes.as_ptr().cast(), bytes.len(), &mut run.shared)
        };
        assert_eq!(made, 0);
        run
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
        self.expected.push((id, reason));
        let person = &self.people[id];
        // A spliced piece still calls back into the queue that it was appended to.
        let q = person.q;
        let model = &mut self.models[q];
        if model.freed {
            return;
        }
        match person.then {
            Reaction::Nothing => (),
            Reaction::Append(len) => drop(model.append(reply(id, len))),
            Reaction::Discard => drop(model.drop_all(-libc::ECANCELED)),
            Reaction::Consume(len) if model.failed == 0 && model.available().count() >= len => {
                model.sent += len as u64;
                model.leave(len, 0);
            }
            Reaction::Consume(_) => (),
            Reaction::Free => {
                model.freed = true;
                model.closed = true;
                model.reserved = 0;
                model.drop_all(-libc::ECANCELED);
            }
        }
        self.tell(q);
    }

    fn step(&mut self, q: usize, op: &Op) {
        if self.models[q].freed {
            return;
        }
        let queue = self.queues[q].get();
        // SAFETY: a live queue; memory of this run, which outlives it.
        let (got, want) = unsafe {
            match op {
                Op::Append(len) => {
                    let bytes = self.payload(*len);
                    let got = sendq_append(queue, bytes.as_ptr().cast(), *len);
                    (got, self.models[q].append(bytes))
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
                    (got, self.models[q].append(bytes))
                }
                Op::Ref(len, then) => {
                    let bytes = self.payload(*len);
                    let arg = self.person(q, *then, bytes.clone());
                    let id = self.people.len() - 1;
                    let data = self.people[id].data.as_ptr().cast();
                    let got = sendq_append_ref(queue, data, *len, Some(told), arg);
                    let model = &mut self.models[q];
                    let want = match model.admit(*len) {
                        _ if *len == 0 => -libc::EINVAL,
                        0 if *len < COPY_BELOW => {
                            let hints = model.append(bytes);
                            self.tell_one(id, 0);
                            hints
                        }
                        0 => {
                            let owner = Some(id);
                            model.rise(Part { bytes: bytes.into(), owner, in_file: false })
                        }
                        errno => errno,
                    };
                    (got, want)
                }
                Op::Buf(offset, len) => {
                    let got = sendq_append_buf(queue, self.shared, *offset, *len);
                    let model = &mut self.models[q];
                    let want = match model.admit(*len) {
                        _ if *len == 0 || offset + len > self.shared_bytes.len() => -libc::EINVAL,
                        0 => {
                            let bytes = self.shared_bytes[*offset..offset + len].to_vec();
                            model.rise(Part { bytes: bytes.into(), owner: None, in_file: false })
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
                    let model = &mut self.models[q];
                    let want = match model.admit(*len) {
                        _ if *len == 0 => -libc::EINVAL,
                        0 => {
                            let bytes = (offset..).take(*len).map(|at| file_byte(5, at)).collect();
                            model.rise(Part { bytes, owner: Some(id), in_file: true })
                        }
                        errno => errno,
                    };
                    (got, want)
                }
                Op::Notify(then) => {
                    let arg = self.person(q, *then, Vec::new());
                    let id = self.people.len() - 1;
                    let got = sendq_notify(queue, Some(told), arg);
                    let model = &mut self.models[q];
                    let want = match model.admit(0) {
                        0 => {
                            let bytes = VecDeque::new();
                            model.rise(Part { bytes, owner: Some(id), in_file: false })
                        }
                        errno => errno,
                    };
                    (got, want)
                }
                Op::Reserve(len) => {
                    let mut memory = null_mut();
                    let got = sendq_reserve(queue, *len, &mut memory);
                    let want = match self.models[q].admit(*len) {
                        0 if *len == 0 => -libc::EINVAL,
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
                        0 => model.rise(Part { bytes: bytes.into(), owner: None, in_file: false }),
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
                            SENDQ_WAKE * c_int::from(idle && model.waiting() > 0)
                        }
                        Err(errno) => errno,
                    };
                    (got, want)
                }
                Op::Rollback => {
                    let got = sendq_rollback(queue);
                    let model = &mut self.models[q];
                    let want = match model.take_held() {
                        Ok(held) => {
                            let hints = model.resume();
                            for id in held.iter().filter_map(|part| part.owner) {
                                self.tell_one(id, -libc::ECANCELED);
                            }
                            hints
                        }
                        Err(errno) => errno,
                    };
                    (got, want)
                }
                Op::Splice => {
                    let got = sendq_splice(queue, self.queues[1 - q].get());
                    (got, self.splice(q))
                }
                Op::Flush { budget, answers } => return self.flush(q, *budget, answers),
                Op::Consume(len) => {
                    let got = sendq_consume(queue, *len);
                    let model = &mut self.models[q];
                    let want = if model.failed != 0 {
                        model.failed
                    } else if model.available().count() >= *len {
                        model.sent += *len as u64;
                        model.leave(*len, 0)
                    } else {
                        -libc::EINVAL
                    };
                    (got, want)
                }
                Op::Discard => (sendq_discard(queue), self.models[q].drop_all(-libc::ECANCELED)),
                Op::Close => {
                    self.models[q].closed = true;
                    (sendq_close(queue), 0)
                }
                Op::SetWatermarks(low, high, max) => {
                    let model = &mut self.models[q];
                    model.marks = (*low, *high, *max);
                    let is_high = model.waiting() as u64 >= *high;
                    model.high |= is_high;
                    let want = (SENDQ_HIGH * c_int::from(is_high)) | model.resume();
                    (sendq_set_watermarks(queue, *low, *high, *max), want)
                }
            }
        };
        self.tell(q);
        assert_eq!(got, want, "{op:?}");
    }

    fn splice(&mut self, q: usize) -> c_int {
        let [first, second] = &mut self.models;
        let (to, from) = if q == 0 { (first, second) } else { (second, first) };
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
            0 => (),
            errno => return errno,
        }
        let parts = std::mem::take(&mut from.parts);
        from.sent += len as u64;
        from.high = false;
        let idle = to.waiting() == 0 && to.corked.is_none();
        to.parts.extend(parts);
        let high = to.waiting() as u64 >= to.marks.1;
        to.high |= high;
        (SENDQ_WAKE * c_int::from(idle)) | (SENDQ_HIGH * c_int::from(high))
    }

    fn flush(&mut self, q: usize, budget: usize, answers: &[Answer]) {
        let mut sink = Script::new(answers.iter().copied());
        // SAFETY: a live queue.
        let got = flush(unsafe { &*self.queues[q].get() }, &mut sink, budget);
        let model = &mut self.models[q];
        let taken = sink.taken.len();
        assert!(sink.taken.iter().copied().eq(model.available().take(taken)));
        assert!(budget == 0 || taken <= budget);
        model.sent += taken as u64;
        let resume = model.leave(taken, 0);
        let left = model.available().count();
        match got {
            Err(errno) => {
                let errno = errno.negated();
                assert!(model.failed == errno || errno == -libc::ECONNRESET);
                model.failed = errno;
                model.drop_all(errno);
                model.corked = None;
            }
            Ok(hints) => {
                let spent = budget != 0 && taken == budget;
                let want = match (left, spent) {
                    (0, _) => 0,
                    (_, true) => Hints::MORE.bits() as c_int,
                    (_, false) => Hints::BLOCKED.bits() as c_int,
                };
                assert_eq!(hints.bits() as c_int, resume | want);
            }
        }
        // The core's flush leaves the telling to its caller; here any call will do.
        // SAFETY: a live queue.
        unsafe { sendq_consume(self.queues[q].get(), 0) };
        self.tell(q);
    }

    fn check(&mut self) {
        assert_eq!(*self.log.borrow(), self.expected);
        for (queue, model) in self.queues.iter().map(Cell::get).zip(&self.models) {
            assert_eq!(queue.is_null(), model.freed);
            if model.freed {
                continue;
            }
            let mut iov = [libc::iovec { iov_base: null_mut(), iov_len: 0 }; 256];
            // SAFETY: a live queue, and what was peeked stays while nothing is called.
            unsafe {
                assert_eq!(sendq_queued_bytes(queue), model.waiting() as u64);
                assert_eq!(sendq_sent_bytes(queue), model.sent);
                assert_eq!(sendq_error(queue), model.failed);
                let count = sendq_peek(queue, iov.as_mut_ptr().cast(), iov.len() as c_int);
                let pieces = &iov[..count as usize];
                let peeked: Vec<u8> = pieces
                    .iter()
                    .flat_map(|iov| std::slice::from_raw_parts(iov.iov_base.cast(), iov.iov_len))
                    .copied()
                    .collect();
                let parts = model.parts.iter().take(model.visible());
                let in_memory = parts.take_while(|part| !part.in_file);
                let want = in_memory.flat_map(|part| &part.bytes).copied();
                if pieces.len() < iov.len() {
                    assert!(peeked.into_iter().eq(want));
                } else {
                    assert!(peeked.iter().copied().eq(want.take(peeked.len())));
                }
            }
        }
    }

    /// Frees both queues: every owner that was not told is told now.
    fn end(&mut self) {
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
        // SAFETY: for the last time.
        unsafe {
            sendq_buf_unref(self.shared);
            for pool in self.pools {
                sendq_pool_free(pool);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn every_sequence_agrees_with_the_model(
        ops in prop::collection::vec((prop::bool::weighted(0.25), op()), 1..60),
        chunk_bytes in prop_oneof![Just(256_u64), Just(1000), Just(16384)],
        threadsafe: bool,
    ) {
        let mut run = Run::new(chunk_bytes, threadsafe);
        for (second, op) in &ops {
            run.step(usize::from(*second), op);
            run.check();
        }
        run.end();
    }
}
