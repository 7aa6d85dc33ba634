//! Does what a sequence says, to sendq and to the oracle, and compares them after each step.

use super::kernel::{self, Act, Answer, Event, State, release};
use super::memory::{self, Range, pointer};
use super::ops::{BUFFER, Op, Part, Setting, Told};
use super::oracle::{Kind, Oracle, Piece};
use libc::{c_int, c_void};
use sendq::capi::*;
use sendq::stats::{PoolStats, Stats};
use std::ptr::null_mut;

/// The number of no descriptor.
const GONE: c_int = 1 << 20;

/// A queue and its connection.
struct Side {
    q: *mut sendq_t,
    socket: usize,
    fd: c_int,
}

pub struct Run {
    setting: Setting,
    pool: *mut sendq_pool_t,
    sides: [Side; 2],
    oracle: Oracle,
    /// The shared buffer, where it is, and its owner.
    buf: *mut sendq_buf_t,
    shared: Range,
    buf_owner: usize,
    /// All owners of shared buffers.
    buffers: Vec<usize>,
    /// For [`Op::InCallback`].
    next_act: Option<(Act, usize)>,
    /// Descriptors of connections that the host has left.
    left: Vec<c_int>,
    descriptors: usize,
}

/// A message: its parts for the call, its pieces, and all its owners.
struct Message {
    parts: Vec<sendq_part_t>,
    pieces: Vec<Piece>,
    copied: Vec<Range>,
    owners: Vec<usize>,
    owner: usize,
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("it can be read").count()
}

fn as_arg(owner: usize) -> *mut c_void {
    owner as *mut c_void
}

fn close(fd: c_int) {
    // SAFETY: a descriptor of this run's.
    unsafe { libc::close(fd) };
}

// SAFETY of all that follows: live queues, buffers and a pool of the run; memory of the thread, which outlives it.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Run {
    pub fn new(setting: Setting) -> Run {
        memory::renew();
        kernel::with(|kernel| *kernel = Default::default());
        let descriptors = descriptors();
        let flags = if setting.threadsafe { SENDQ_THREADSAFE } else { 0 };
        let mut config: sendq_pool_config_t = unsafe { std::mem::zeroed() };
        (config.size, config.flags) = (size_of::<sendq_pool_config_t>(), flags);
        let mut pool = null_mut();
        assert_eq!(unsafe { sendq_pool_new(&config, &mut pool) }, 0);
        let sides = [0, 1].map(|i| {
            let (socket, fd) = kernel::with(|kernel| kernel.socket());
            Side { q: new_queue(&setting, pool, i), socket, fd }
        });
        let shared = Range { at: 0, len: 0 };
        let mut run = Run {
            setting,
            pool,
            sides,
            oracle: Oracle::new(),
            buf: null_mut(),
            shared,
            buf_owner: 0,
            buffers: Vec::new(),
            next_act: None,
            left: Vec::new(),
            descriptors,
        };
        run.make_buffer();
        run
    }

    fn make_buffer(&mut self) {
        let Some(range) = memory::take(BUFFER) else { return };
        self.shared = range;
        self.buf_owner = self.oracle.buffer(range);
        self.buffers.push(self.buf_owner);
        let (data, arg) = (pointer(range).cast(), as_arg(self.buf_owner));
        let made =
            unsafe { sendq_buf_wrap(self.pool, data, BUFFER, Some(release), arg, &mut self.buf) };
        assert_eq!(made, 0);
    }

    pub fn step(&mut self, i: usize, op: &Op) {
        if let Op::InCallback(act, second) = op {
            self.next_act = Some((*act, usize::from(*second)));
            return;
        }
        let act = self.next_act.take().filter(|_| may_act(op));
        let act = act.map(|(act, i)| (act, i, self.sides[i].q));
        kernel::with(|kernel| kernel.act = act);
        self.make(i, op);
        let has_acted = kernel::with(|kernel| kernel.act.take()).is_none() && act.is_some();
        if has_acted {
            // What this call has acknowledged may be an orphan already.
            unsafe { sendq_pool_reap(self.pool) };
        }
        self.check(i);
    }

    fn make(&mut self, i: usize, op: &Op) {
        match op {
            Op::InCallback(..) => {}
            Op::Append(len) => self.append(i, *len),
            Op::Ref(len) => self.append_ref(i, *len),
            Op::Buf(at, len) => self.append_buf(i, *at, *len),
            Op::NewBuf => {
                self.oracle.unref(self.buf_owner);
                unsafe { sendq_buf_unref(std::mem::replace(&mut self.buf, null_mut())) };
                self.make_buffer();
            }
            Op::Message(parts) => self.append_message(i, parts),
            Op::EndMessage => {
                let result = unsafe { sendq_end_message(self.sides[i].q) };
                assert!(result >= 0 || self.is_failed(i, result) || !self.setting.messages[i]);
            }
            Op::Notify => {
                let owner = self.oracle.owner(Vec::new());
                let result = unsafe { sendq_notify(self.sides[i].q, Some(release), as_arg(owner)) };
                self.appended(i, result, &[Piece::mark(owner)]);
            }
            Op::Send(parts, answers, budget) => self.send(i, parts, answers, *budget),
            Op::Flush(answers, budget) => {
                self.script(answers);
                let side = &self.sides[i];
                let result = unsafe { sendq_flush(side.q, side.fd, *budget) };
                if !self.follow(i) {
                    self.check_flushed(i, result);
                }
            }
            Op::Consume(len) => self.consume(i, *len),
            Op::Reap => self.reap(i),
            Op::ReapOther => {
                let result = unsafe { sendq_reap(self.sides[i].q, self.sides[1 - i].fd) };
                let is_right = match result {
                    0 => !self.oracle.is_unacked(i),
                    result if result == -libc::EBADF => self.sides[1 - i].fd == GONE,
                    result => result == -libc::EINVAL && self.oracle.is_unacked(i),
                };
                assert!(is_right, "{result}");
            }
            Op::ReapPool => {
                let result = unsafe { sendq_pool_reap(self.pool) };
                self.follow(i);
                let orphans = self.oracle.orphans().0;
                assert_eq!(result, if orphans > 0 { SENDQ_UNACKED } else { 0 });
            }
            Op::Ack(socket, first, count, told, copied) => {
                self.acknowledge(*socket, *first, *count, *told, *copied);
            }
            Op::Distract(socket, kind) => kernel::with(|kernel| {
                let socket = self.sides[socket % 2].socket;
                kernel.distract(socket, *kind);
            }),
            Op::Discard => {
                assert!(unsafe { sendq_discard(self.sides[i].q) } >= 0);
                self.oracle.discard(i, -libc::ECANCELED);
            }
            Op::DiscardUnstarted => self.discard_unstarted(i),
            Op::Fail(errno) => {
                assert_eq!(unsafe { sendq_fail(self.sides[i].q, *errno) }, 0);
                if self.oracle.queues[i].failed == 0 {
                    self.oracle.fail(i, *errno);
                }
            }
            Op::Reset(moves_on) => {
                assert_eq!(unsafe { sendq_reset(self.sides[i].q) }, 0);
                self.oracle.reset(i);
                if *moves_on {
                    self.connect(i);
                }
            }
            Op::Free => {
                unsafe { sendq_free(self.sides[i].q) };
                self.oracle.reset(i);
                self.sides[i].q = new_queue(&self.setting, self.pool, i);
                self.connect(i);
            }
            Op::Close => {
                close(std::mem::replace(&mut self.sides[i].fd, GONE));
            }
            Op::Switch => self.connect(i),
            Op::Splice(most) => self.splice(i, *most),
            Op::Cork => {
                let result = unsafe { sendq_cork(self.sides[i].q) };
                match result {
                    0 => self.oracle.cork(i),
                    _ => assert!(
                        self.is_failed(i, result)
                            || result == -libc::EALREADY && self.oracle.queues[i].is_corked()
                    ),
                }
            }
            Op::Uncork | Op::Rollback => {
                let q = self.sides[i].q;
                let is_uncork = matches!(op, Op::Uncork);
                let result = unsafe { if is_uncork { sendq_uncork(q) } else { sendq_rollback(q) } };
                match result {
                    0.. if is_uncork => self.oracle.uncork(i),
                    0.. => self.oracle.roll_back(i),
                    _ => assert!(
                        self.is_failed(i, result)
                            || result == -libc::EINVAL && !self.oracle.queues[i].is_corked()
                    ),
                }
            }
        }
    }

    fn is_failed(&self, i: usize, result: c_int) -> bool {
        result < 0 && self.oracle.queues[i].failed == result
    }

    fn script(&self, answers: &[Answer]) {
        kernel::with(|kernel| {
            kernel.answers = answers.iter().copied().collect();
        });
    }

    /// Follows what has happened in a call on the queue `i`. Returns whether a callback has changed a queue.
    fn follow(&mut self, i: usize) -> bool {
        let events = kernel::with(|kernel| std::mem::take(&mut kernel.events));
        let acted = events.iter().find_map(|event| match event {
            Event::Acted(act, i) => Some((*act, *i)),
            _ => None,
        });
        self.oracle.follow(i, events);
        if let Some((Act::Free, i)) = acted {
            self.sides[i].q = new_queue(&self.setting, self.pool, i);
            self.connect(i);
        }
        acted.is_some()
    }

    /// Another connection.
    fn connect(&mut self, i: usize) {
        let (socket, fd) = kernel::with(|kernel| kernel.socket());
        self.left.push(std::mem::replace(&mut self.sides[i].fd, fd));
        self.sides[i].socket = socket;
    }

    /// An append of `pieces` has returned.
    fn appended(&mut self, i: usize, result: c_int, pieces: &[Piece]) -> bool {
        if result >= 0 {
            self.oracle.append(i, pieces);
            return true;
        }
        let len: usize = pieces.iter().map(|piece| piece.range.len).sum();
        assert!(self.is_failed(i, result) || self.is_over_cap(i, result, len), "{result}");
        false
    }

    fn is_over_cap(&self, i: usize, result: c_int, len: usize) -> bool {
        let (max, waiting) = (self.setting.max[i], self.oracle.queues[i].waiting());
        result == -libc::ENOBUFS && max > 0 && waiting + len as u64 > max
    }

    fn append(&mut self, i: usize, len: usize) {
        let Some(range) = memory::take(len) else { return };
        let result = unsafe { sendq_append(self.sides[i].q, pointer(range).cast(), len) };
        memory::scribble(range);
        self.appended(i, result, &[Piece::new(Kind::Copied, range, None)]);
    }

    fn append_ref(&mut self, i: usize, len: usize) {
        let Some(range) = memory::take(len) else { return };
        let owner = self.oracle.owner(vec![range]);
        let (q, data, arg) = (self.sides[i].q, pointer(range).cast(), as_arg(owner));
        let result = unsafe { sendq_append_ref(q, data, len, Some(release), arg) };
        self.appended(i, result, &[Piece::new(Kind::Borrowed, range, Some(owner))]);
    }

    fn part_of_buffer(&self, at: usize, len: usize) -> Piece {
        let range = Range { at: self.shared.at + at, len };
        Piece::new(Kind::Shared, range, Some(self.buf_owner))
    }

    fn append_buf(&mut self, i: usize, at: usize, len: usize) {
        if self.buf.is_null() {
            return;
        }
        let result = unsafe { sendq_append_buf(self.sides[i].q, self.buf, at, len) };
        let piece = self.part_of_buffer(at, len);
        self.appended(i, result, &[piece]);
    }

    /// None: the memory is used up.
    fn message(&mut self, parts: &[Part]) -> Option<Message> {
        let part = |kind, data, len: usize, offset: usize, owner: Option<usize>| sendq_part_t {
            kind,
            fd: -1,
            data,
            offset: offset as u64,
            len: len as u64,
            release: owner.map(|_| release as _),
            arg: owner.map_or(null_mut(), as_arg),
        };
        let mut lent = Vec::new();
        let (mut given, mut pieces, mut copied, mut owners) = (vec![], vec![], vec![], vec![]);
        for kind in parts {
            match *kind {
                Part::Copy(len) => {
                    let range = memory::take(len)?;
                    let data = pointer(range).cast();
                    given.push(part(SENDQ_PART_COPY, data, len, 0, None));
                    pieces.push(Piece::new(Kind::Copied, range, None));
                    copied.push(range);
                }
                Part::Ref(len) => {
                    let range = memory::take(len)?;
                    let data = pointer(range).cast();
                    given.push(part(SENDQ_PART_REF, data, len, 0, None));
                    pieces.push(Piece::new(Kind::Borrowed, range, None));
                    lent.push(range);
                }
                Part::Own(len) => {
                    let range = memory::take(len)?;
                    let data = pointer(range).cast();
                    let owner = self.oracle.owner(vec![range]);
                    given.push(part(SENDQ_PART_OWN, data, len, 0, Some(owner)));
                    pieces.push(Piece::new(Kind::Borrowed, range, Some(owner)));
                    owners.push(owner);
                }
                Part::Buf(at, len) => {
                    if self.buf.is_null() {
                        return None;
                    }
                    given.push(part(SENDQ_PART_BUF, self.buf.cast_const().cast(), len, at, None));
                    pieces.push(self.part_of_buffer(at, len));
                }
            }
        }
        let owner = self.oracle.message(lent);
        owners.push(owner);
        for piece in &mut pieces {
            piece.message = Some(owner);
            if piece.kind == Kind::Borrowed && piece.owner.is_none() {
                piece.owner = Some(owner);
            }
        }
        if let Some(last) = pieces.iter().rposition(|piece| piece.kind != Kind::Copied) {
            pieces.insert(last + 1, Piece::mark(owner));
        }
        Some(Message { parts: given, pieces, copied, owners, owner })
    }

    fn append_message(&mut self, i: usize, parts: &[Part]) {
        let Some(message) = self.message(parts) else { return };
        let (parts, count) = (message.parts.as_ptr(), message.parts.len() as c_int);
        let arg = as_arg(message.owner);
        let result =
            unsafe { sendq_append_message(self.sides[i].q, parts, count, Some(release), arg) };
        message.copied.iter().for_each(|range| memory::scribble(*range));
        if self.appended(i, result, &message.pieces) {
            message.owners.iter().for_each(|owner| self.oracle.give(*owner));
        }
    }

    fn send(&mut self, i: usize, parts: &[Part], answers: &[Answer], budget: usize) {
        let Some(message) = self.message(parts) else { return };
        self.script(answers);
        let borrowed = message.pieces.iter().map(|piece| piece.range.len).sum::<usize>();
        let side = &self.sides[i];
        let (parts, count) = (message.parts.as_ptr(), message.parts.len() as c_int);
        let arg = as_arg(message.owner);
        let is_over_cap = self.is_over_cap(i, -libc::ENOBUFS, borrowed);
        let result =
            unsafe { sendq_send(side.q, side.fd, parts, count, Some(release), arg, budget) };
        message.copied.iter().for_each(|range| memory::scribble(*range));
        if result < 0 {
            self.follow(i);
            let is_full = is_over_cap && result == -libc::ENOBUFS;
            return assert!(is_full || self.is_failed(i, result), "{result}");
        }
        self.oracle.append(i, &message.pieces);
        message.owners.iter().for_each(|owner| self.oracle.give(*owner));
        self.follow(i);
        self.check_flushed(i, result);
    }

    /// A flush has returned `result`.
    fn check_flushed(&self, i: usize, result: c_int) {
        if self.oracle.queues[i].failed != 0 {
            assert!(self.is_failed(i, result) || result & SENDQ_CLOSED != 0, "{result}");
            return;
        }
        let has_rest = self.oracle.queues[i].available() > 0;
        let unacked = !has_rest && self.oracle.is_unacked(i);
        assert_eq!(result & (SENDQ_BLOCKED | SENDQ_MORE) != 0, has_rest, "{result}");
        assert_eq!(result & SENDQ_UNACKED != 0, unacked, "{result}");
    }

    fn consume(&mut self, i: usize, len: usize) {
        let len = len.min(self.oracle.queues[i].available() as usize);
        let result = unsafe { sendq_consume(self.sides[i].q, len) };
        if result >= 0 {
            self.oracle.consume(i, len, false);
        } else {
            assert!(self.is_failed(i, result), "{result}");
        }
    }

    fn reap(&mut self, i: usize) {
        let side = &self.sides[i];
        let was_unacked = self.oracle.is_unacked(i);
        let result = unsafe { sendq_reap(side.q, side.fd) };
        if self.follow(i) {
            return;
        }
        match result {
            _ if result == -libc::EBADF => assert!(was_unacked && self.sides[i].fd == GONE),
            // The queue still waits for its last connection.
            _ if result == -libc::EINVAL => assert!(was_unacked),
            _ => {
                let hint = if self.oracle.is_unacked(i) { SENDQ_UNACKED } else { 0 };
                assert_eq!(result, hint);
            }
        }
    }

    fn discard_unstarted(&mut self, i: usize) {
        let waiting = self.oracle.queues[i].waiting();
        if waiting == 0 && self.oracle.queues[i].has_pieces() {
            return;
        }
        let q = self.sides[i].q;
        let result = unsafe { sendq_discard_unstarted(q) };
        if !self.setting.messages[i] {
            return assert_eq!(result, -libc::EINVAL);
        }
        assert!(result >= 0, "{result}");
        match unsafe { sendq_queued_bytes(q) } {
            0 => self.oracle.discard(i, -libc::ECANCELED),
            left => self.oracle.cut(i, left),
        }
    }

    fn splice(&mut self, from: usize, most: Option<usize>) {
        let (to, most) = (1 - from, most.unwrap_or(usize::MAX));
        let waiting = self.oracle.queues[from].waiting() as usize;
        let result = unsafe { sendq_splice_n(self.sides[to].q, self.sides[from].q, most as u64) };
        let moved = most.min(waiting);
        if result >= 0 {
            return self.oracle.splice(from, moved);
        }
        let is_busy = result == -libc::EBUSY && self.oracle.queues[from].is_corked();
        if is_busy || self.is_failed(from, result) {
            return;
        }
        assert!(self.is_over_cap(to, result, moved) || self.is_failed(to, result), "{result}");
        if moved > 0 {
            self.oracle.divide(from, moved);
        }
    }

    fn acknowledge(&mut self, i: usize, first: usize, count: usize, told: Told, copied: bool) {
        kernel::with(|kernel| {
            let flies = |flight: &&kernel::Flight| flight.state == State::Flies;
            let sockets: Vec<usize> =
                kernel.flights.iter().filter(flies).map(|flight| flight.socket).collect();
            if sockets.is_empty() {
                return;
            }
            let socket = sockets[i % sockets.len()];
            let of_socket = || kernel.flights.iter().filter(|flight| flight.socket == socket);
            let flying: Vec<u32> = of_socket().filter(flies).map(|flight| flight.number).collect();
            let start = first % flying.len();
            let first = flying[start];
            let run = flying[start..].iter().zip(first..).take(count);
            let last = run.take_while(|(number, next)| *number == next).last();
            let last = *last.expect("there is one").0;
            match told {
                Told::Together => kernel.acknowledge(socket, first, last, copied),
                // From the first one of all, if that is not too early.
                Told::Again => {
                    let before = if start == 0 { 0 } else { first };
                    kernel.acknowledge(socket, before, last, copied);
                }
                Told::Ascending => {
                    (first..=last).for_each(|n| kernel.acknowledge(socket, n, n, copied));
                }
                Told::Descending => {
                    (first..=last).rev().for_each(|n| kernel.acknowledge(socket, n, n, copied));
                }
            }
        });
    }

    fn check(&mut self, i: usize) {
        self.follow(i);
        self.oracle.land_all();
        kernel::with(|kernel| {
            assert!(kernel.faults.is_empty(), "{:?}", kernel.faults);
            assert!(!kernel.owes_copy, "refused without a copy, and not copied");
        });
        self.oracle.check_owners();
        for i in 0..2 {
            let (q, queue) = (self.sides[i].q, &self.oracle.queues[i]);
            let mut stats = Stats::default();
            assert_eq!(unsafe { sendq_stats(q, &mut stats, size_of::<Stats>()) }, 0);
            assert_eq!(stats.waiting, queue.waiting());
            assert_eq!(stats.zerocopy, queue.carried);
            assert_eq!((stats.unacked, stats.pinned), self.oracle.held(i), "unacked, pinned");
            assert_eq!(unsafe { sendq_memory(q) }, stats.allocated + stats.pinned);
            assert_eq!((stats.zerocopy_acked, stats.zerocopy_copied), self.oracle.acked(i));
            assert_eq!(unsafe { sendq_error(q) }, queue.failed);
            let unacked = stats.waiting == 0 && self.oracle.is_unacked(i);
            assert_eq!(unsafe { sendq_state(q) } & SENDQ_UNACKED != 0, unacked);
        }
        self.check_pool();
    }

    fn check_pool(&self) {
        let mut stats = PoolStats::default();
        let size = size_of::<PoolStats>();
        assert_eq!(unsafe { sendq_pool_stats(self.pool, &mut stats, size) }, 0);
        assert_eq!(stats.pinned, self.oracle.pinned());
        assert_eq!((stats.orphans, stats.orphan_bytes), self.oracle.orphans());
        let alive = self.buffers.iter().filter(|owner| !self.oracle.is_released(**owner));
        assert_eq!(stats.shared, (alive.count() * BUFFER) as u64);
    }

    fn acknowledge_all(&mut self) {
        kernel::with(|kernel| {
            for i in 0..kernel.flights.len() {
                let (socket, number) = (kernel.flights[i].socket, kernel.flights[i].number);
                if kernel.flights[i].state == State::Flies {
                    kernel.acknowledge(socket, number, number, false);
                }
            }
        });
    }

    /// Everything comes back, in the end.
    pub fn end(&mut self) {
        self.oracle.unref(self.buf_owner);
        unsafe { sendq_buf_unref(std::mem::replace(&mut self.buf, null_mut())) };
        self.check(0);
        if !self.setting.frees_first {
            self.acknowledge_all();
        }
        for i in 0..2 {
            let side = &mut self.sides[i];
            unsafe { sendq_free(std::mem::replace(&mut side.q, null_mut())) };
            self.left.push(side.fd);
            self.oracle.reset(i);
            self.follow(i);
            self.oracle.land_all();
            self.oracle.check_owners();
        }
        self.check_pool();
        self.left.drain(..).filter(|fd| *fd != GONE).for_each(close);
        let has_orphans = self.oracle.orphans().0 > 0;
        if !self.setting.frees_first {
            self.reap_pool(has_orphans);
            self.check_pool();
            assert_eq!(self.oracle.pinned(), 0);
            unsafe { sendq_pool_free(self.pool) };
        } else {
            unsafe { sendq_pool_free(self.pool) };
            self.acknowledge_all();
            self.reap_pool(has_orphans);
        }
        self.pool = null_mut();
        self.oracle.check_all_released();
        assert_eq!(descriptors(), self.descriptors, "a descriptor is still open");
    }

    fn reap_pool(&mut self, has_orphans: bool) {
        if has_orphans {
            assert_eq!(unsafe { sendq_pool_reap(self.pool) }, 0);
        }
        self.follow(0);
        self.oracle.land_all();
        kernel::with(|kernel| assert!(kernel.faults.is_empty(), "{:?}", kernel.faults));
        self.oracle.check_owners();
    }
}

/// A run that has failed has not come to its end.
impl Drop for Run {
    fn drop(&mut self) {
        // SAFETY: for the last time, if at all.
        unsafe {
            self.sides.iter().for_each(|side| sendq_free(side.q));
            sendq_buf_unref(self.buf);
            sendq_pool_free(self.pool);
        }
    }
}

/// Whether a callback may change queues meanwhile: the result of another step tells who has what.
fn may_act(op: &Op) -> bool {
    use Op::{Consume, Discard, Fail, Flush, Reap, ReapPool, Reset};
    matches!(op, Consume(_) | Discard | Fail(_) | Flush(..) | Reap | ReapPool | Reset(_))
}

fn new_queue(setting: &Setting, pool: *mut sendq_pool_t, i: usize) -> *mut sendq_t {
    let threadsafe = if setting.threadsafe { SENDQ_THREADSAFE } else { 0 };
    let messages = if setting.messages[i] { SENDQ_MESSAGES } else { 0 };
    let config = sendq_config_t {
        size: size_of::<sendq_config_t>(),
        flags: SENDQ_ZEROCOPY | threadsafe | messages,
        reserved: 0,
        user: null_mut(),
        low: 0,
        high: setting.max[i],
        max: setting.max[i],
        copy_below: 1,
        max_messages: 0,
        share_below: 1,
        reserve: 0,
        zerocopy_from: kernel::FROM as u64,
    };
    let mut q = null_mut();
    // SAFETY: a config and a place of this function.
    assert_eq!(unsafe { sendq_new(pool, &config, &mut q) }, 0);
    q
}
