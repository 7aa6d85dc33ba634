//! What one queue should be: bytes and who owns them, and what is counted of them.

use super::pace::{Bucket, Floor};
use libc::c_int;
use sendq::block::SLOT;
use sendq::capi::*;
use std::cell::Cell;
use std::collections::VecDeque;

/// A byte of the stream; MISSING where a file is shorter than promised.
pub type Byte = u16;
pub const MISSING: Byte = 256;

/// Slots that bring no memory are free of the cap up to here.
const FREE_SLOTS: u64 = 64;

/// How bytes were appended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Copied,
    Borrowed,
    Shared,
    File,
}

/// A part of the stream as the model has it.
#[derive(Clone, Debug)]
pub struct Part {
    kind: Kind,
    /// Bytes that were appended.
    size: usize,
    /// Those that have not left.
    bytes: VecDeque<Byte>,
    /// It was borrowed, or is a notification: this one is released.
    owner: Option<usize>,
}

impl Part {
    pub fn new(kind: Kind, bytes: impl IntoIterator<Item = Byte>, owner: Option<usize>) -> Part {
        let bytes = VecDeque::from_iter(bytes);
        Part { kind, size: bytes.len(), bytes, owner }
    }

    pub fn copied(bytes: &[u8]) -> Part {
        Part::new(Kind::Copied, bytes.iter().copied().map(Byte::from), None)
    }

    pub fn notification(owner: usize) -> Part {
        Part::new(Kind::Copied, [], Some(owner))
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    fn is_slot(&self) -> bool {
        self.kind != Kind::Copied || self.owner.is_some()
    }

    pub fn bytes(&self) -> impl Iterator<Item = Byte> + '_ {
        self.bytes.iter().copied()
    }

    pub fn is_file(&self) -> bool {
        self.kind == Kind::File
    }
}

/// What is counted, ever.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// By kind.
    pub appended: [u64; 4],
    pub sent: u64,
    pub discarded: u64,
    pub peak: u64,
    pub flushes: u64,
    pub calls: u64,
    pub shorts: u64,
    pub blocked: u64,
}

thread_local! {
    /// How often a queue became ready.
    static READY: Cell<u64> = const { Cell::new(0) };
}

/// Whether sendq_pool_next has to return a queue.
#[derive(Clone, Copy, Default)]
pub struct Readiness {
    /// Which became ready earlier.
    pub since: Option<u64>,
    /// In this turn; otherwise in the next one.
    pub is_now: bool,
}

impl Readiness {
    pub fn begin(&mut self) {
        if self.since.is_none() {
            READY.set(READY.get() + 1);
            (self.since, self.is_now) = (Some(READY.get()), false);
        }
    }

    fn on_append(&mut self, is_blocked: bool) {
        if !is_blocked {
            self.begin();
        }
    }
}

/// What one queue should be.
#[derive(Default)]
pub struct Model {
    pub parts: VecDeque<Part>,
    /// How many of `parts` may leave, while corked.
    pub corked: Option<usize>,
    /// Who has to be released, in order.
    pub gone: VecDeque<(usize, c_int)>,
    pub reserved: Option<usize>,
    pub closed: bool,
    pub freed: bool,
    pub failed: c_int,
    /// A writer is called.
    pub flushing: bool,
    /// What a writer has refused, if it is still what waits first.
    pub offered: Option<(*const u8, usize)>,
    high: bool,
    pub marks: (u64, u64, u64),
    pub counts: Counts,
    pub now: u64,
    /// When the stall clock started, if it has.
    pub progress: Option<u64>,
    /// Since when the sink is full.
    pub blocked: Option<u64>,
    /// It goes on once it is readable.
    wants_read: bool,
    /// How long it was before that.
    blocked_ns: u64,
    pub rate: Option<Bucket>,
    pub floor: Option<Floor>,
    deadline: Option<u64>,
    pub ready: Readiness,
}

impl Model {
    pub fn new(marks: (u64, u64, u64)) -> Model {
        Model { marks, ..Model::default() }
    }

    /// What waits and is no part of a file.
    pub fn memory(&self) -> usize {
        let memory = self.parts.iter().filter(|part| !part.is_file());
        memory.map(|part| part.bytes.len()).sum()
    }

    pub fn waiting(&self) -> usize {
        self.parts.iter().map(|part| part.bytes.len()).sum()
    }

    /// Whole pieces of others, until they are told.
    pub fn pinned(&self, kinds: &[Kind]) -> u64 {
        let pinned = self.parts.iter().filter(|part| kinds.contains(&part.kind));
        pinned.map(|part| part.size as u64).sum()
    }

    /// There is nothing that memory would be needed for.
    pub fn is_idle(&self) -> bool {
        self.parts.is_empty() && self.reserved.is_none()
    }

    pub fn visible(&self) -> usize {
        self.corked.unwrap_or(self.parts.len())
    }

    pub fn available(&self) -> impl Iterator<Item = Byte> {
        self.parts.iter().take(self.visible()).flat_map(|part| &part.bytes).copied()
    }

    /// 0, or why nothing may be appended.
    pub fn refusal(&self) -> c_int {
        match (self.failed, self.closed) {
            (0, true) => -libc::EPIPE,
            (errno, _) => errno,
        }
    }

    /// So many bytes of memory are to come.
    pub fn admit(&self, len: usize) -> c_int {
        match self.refusal() {
            0 if self.reserved.is_some() => -libc::EBUSY,
            0 if len > 0 && (self.memory() + len) as u64 > self.marks.2 => -libc::ENOBUFS,
            errno => errno,
        }
    }

    /// Parts that others own, and notifications.
    pub fn slots(&self) -> u64 {
        self.parts.iter().filter(|part| part.is_slot()).count() as u64
    }

    /// A slot is to come that brings no memory.
    pub fn admit_slot(&self) -> c_int {
        let slots = self.slots();
        match self.admit(0) {
            0 if slots >= FREE_SLOTS && slots * SLOT as u64 > self.marks.2 => -libc::ENOBUFS,
            errno => errno,
        }
    }

    /// Bytes came where so many could leave. HIGH and WAKE.
    fn came(&mut self, before: usize) -> c_int {
        self.counts.peak = self.counts.peak.max(self.waiting() as u64);
        self.ready.on_append(self.blocked.is_some());
        self.settle();
        let wake = before == 0 && self.corked.is_none();
        if wake {
            self.progress = None;
        }
        let high = self.memory() as u64 >= self.marks.1;
        self.high |= high;
        (SENDQ_WAKE * c_int::from(wake)) | (SENDQ_HIGH * c_int::from(high))
    }

    /// A flush, or somebody who looks: the stall clock starts if bytes may leave.
    pub fn look(&mut self) {
        if self.available().next().is_some() {
            self.start_clock();
        }
    }

    fn start_clock(&mut self) {
        if self.progress.is_none() {
            self.progress = Some(self.now);
            self.floor.iter_mut().for_each(|floor| floor.begin(self.now));
        }
    }

    pub fn rise(&mut self, part: Part) -> c_int {
        let (before, len) = (self.available().count(), part.bytes.len());
        self.counts.appended[part.kind as usize] += len as u64;
        self.parts.push_back(part);
        if len == 0 {
            self.pass_marks();
            return 0;
        }
        self.came(before)
    }

    pub fn append(&mut self, bytes: &[u8]) -> c_int {
        if bytes.is_empty() {
            return self.refusal();
        }
        match self.admit(bytes.len()) {
            0 => self.rise(Part::copied(bytes)),
            errno => errno,
        }
    }

    /// Notifications, and segments all of which has left, at the front.
    pub fn pass_marks(&mut self) {
        self.pass(0);
    }

    fn pass(&mut self, reason: c_int) {
        while self.visible() > 0 && self.parts.front().is_some_and(|part| part.bytes.is_empty()) {
            let part = self.parts.pop_front().unwrap();
            self.corked = self.corked.map(|visible| visible - 1);
            self.gone.extend(part.owner.map(|id| (id, reason)));
        }
    }

    fn drop_front(&mut self, mut len: usize, reason: c_int) -> c_int {
        let leaves = len > 0;
        self.pass(reason);
        while len > 0 {
            let part = self.parts.front_mut().unwrap();
            let step = len.min(part.bytes.len());
            part.bytes.drain(..step);
            len -= step;
            self.pass(reason);
        }
        self.settle();
        if !leaves {
            return 0;
        }
        self.offered = None;
        self.resume()
    }

    /// These bytes leave at once: they are the next.
    pub fn leave(&mut self, bytes: &[u8]) -> c_int {
        assert!(bytes.iter().copied().map(Byte::from).eq(self.available().take(bytes.len())));
        self.send(bytes.len())
    }

    /// The first bytes leave at once.
    pub fn send(&mut self, len: usize) -> c_int {
        self.counts.sent += len as u64;
        let hints = self.drop_front(len, 0);
        self.progress_by(len);
        hints
    }

    /// So many bytes have left. What is above the quota of a window does not count for the next one.
    pub fn progress_by(&mut self, len: usize) {
        if len > 0 {
            self.start_clock();
            self.progress = Some(self.now);
            self.unblock();
            self.rate.iter_mut().for_each(|rate| rate.spend(len as u64, self.now));
            // The rate may have held it back since the turn began.
            self.ready.is_now &= self.rate.is_none();
            self.floor.iter_mut().for_each(|floor| floor.leave(len as u64, self.now));
        }
    }

    pub fn resume(&mut self) -> c_int {
        let resume = self.high && self.memory() as u64 <= self.marks.0;
        self.high &= !resume;
        SENDQ_RESUME * c_int::from(resume)
    }

    pub fn drop_all(&mut self, reason: c_int) -> c_int {
        let corked = self.corked.take();
        self.counts.discarded += self.waiting() as u64;
        let hints = self.drop_front(self.waiting(), reason);
        self.corked = corked.map(|_| 0);
        self.unblock();
        hints
    }

    pub fn discard(&mut self) -> c_int {
        if self.flushing { -libc::EBUSY } else { self.drop_all(-libc::ECANCELED) }
    }

    pub fn free(&mut self) {
        (self.freed, self.closed, self.reserved) = (true, true, None);
        self.drop_all(-libc::ECANCELED);
    }

    pub fn fail(&mut self, errno: c_int) {
        self.failed = errno;
        self.drop_all(errno);
    }

    pub fn consume(&mut self, len: usize) -> c_int {
        if self.flushing {
            return -libc::EBUSY;
        }
        if self.failed != 0 {
            return self.failed;
        }
        if self.available().count() < len {
            return -libc::EINVAL;
        }
        let hints = self.send(len);
        if self.meet_deadline() { self.failed } else { hints }
    }

    pub fn take_held(&mut self) -> Result<Vec<Part>, c_int> {
        match self.corked {
            _ if self.failed != 0 => Err(self.failed),
            None => Err(-libc::EINVAL),
            Some(_) if self.reserved.is_some() => Err(-libc::EBUSY),
            Some(visible) => {
                self.corked = None;
                Ok(self.parts.drain(visible..).collect())
            }
        }
    }

    pub fn uncork(&mut self) -> c_int {
        let idle = self.available().next().is_none();
        match self.take_held() {
            Err(errno) => errno,
            Ok(held) => {
                self.parts.extend(held);
                self.pass_marks();
                self.ready.on_append(self.blocked.is_some());
                self.settle();
                let wakes = idle && self.waiting() > 0;
                if wakes {
                    self.progress = None;
                }
                SENDQ_WAKE * c_int::from(wakes)
            }
        }
    }

    pub fn rollback(&mut self) -> c_int {
        match self.take_held() {
            Err(errno) => errno,
            Ok(held) => {
                self.counts.discarded +=
                    held.iter().map(|part| part.bytes.len() as u64).sum::<u64>();
                // Before those that have left and are not released yet: within a release there may be some.
                for id in held.iter().rev().filter_map(|part| part.owner) {
                    self.gone.push_front((id, -libc::ECANCELED));
                }
                self.resume()
            }
        }
    }

    /// All of `from` to the end of this; there is something to move, and it is admitted.
    pub fn splice(&mut self, from: &mut Model) -> c_int {
        let before = self.available().count();
        from.counts.sent += from.waiting() as u64;
        for part in &from.parts {
            self.counts.appended[part.kind as usize] += part.bytes.len() as u64;
        }
        self.parts.append(&mut from.parts);
        (from.high, from.offered) = (false, None);
        from.unblock();
        from.settle();
        self.came(before)
    }

    pub fn close_within(&mut self, timeout: u64) -> c_int {
        self.closed = true;
        if self.failed != 0 || self.waiting() == 0 {
            return 0;
        }
        self.deadline = Some(self.now.saturating_add(timeout));
        if self.meet_deadline() { self.failed } else { 0 }
    }

    /// The time to drain is over, and bytes wait: they are given up.
    pub fn meet_deadline(&mut self) -> bool {
        let over = self.deadline.is_some_and(|deadline| self.now >= deadline);
        let met = self.failed == 0 && over && self.waiting() > 0;
        if met {
            self.fail(-libc::ETIMEDOUT);
        }
        met
    }

    pub fn set_watermarks(&mut self, low: u64, high: u64, max: u64) -> c_int {
        self.marks = (low, high, max);
        if self.memory() as u64 >= high {
            self.high = true;
            return SENDQ_HIGH;
        }
        self.resume()
    }

    /// A flush came back that called the sink so often; so many of the calls took less than they were offered.
    pub fn count_flush(&mut self, calls: u64, shorts: u64) {
        self.counts.flushes += u64::from(calls > 0);
        self.counts.calls += calls;
        self.counts.shorts += shorts;
    }

    /// Nothing that is not available is ready.
    pub fn settle(&mut self) {
        if self.available().next().is_none() {
            self.ready.since = None;
        }
    }

    /// Makes it ready on request.
    pub fn schedule(&mut self) -> c_int {
        if self.failed == 0 {
            self.ready.begin();
            self.settle();
        }
        self.failed
    }

    /// A flush has left bytes, or a comparison.
    pub fn rest(&mut self) {
        if self.available().next().is_some() {
            match self.blocked {
                Some(_) => self.ready.since = None,
                None => self.ready.begin(),
            }
        }
    }

    /// The sink is full, and bytes remain.
    pub fn block(&mut self, wants_read: bool) {
        if self.blocked.is_none() {
            self.counts.blocked += 1;
            self.blocked = Some(self.now);
        }
        self.wants_read = wants_read;
    }

    pub fn is_paced(&self) -> bool {
        self.rate.is_some() || self.floor.is_some() || self.deadline.is_some()
    }

    pub fn unblock(&mut self) {
        self.blocked_ns = self.blocked_ns();
        self.blocked = None;
    }

    /// How long the sink was full. A clock that jumps back makes that shorter, not less than nothing.
    pub fn blocked_ns(&self) -> u64 {
        let Some(since) = self.blocked else { return self.blocked_ns };
        (self.blocked_ns + self.now).saturating_sub(since)
    }

    pub fn stalled_ns(&self) -> u64 {
        if self.available().count() == 0 {
            return 0;
        }
        let slow = self.floor.map_or(0, |floor| floor.stalled(self.now));
        let progress = self.progress.expect("it was looked at");
        slow.max(self.now.saturating_sub(progress))
    }

    /// `wait` is when the next flush does something, though the sink stays as it is.
    pub fn check_retry_after(&self, wait: u64) {
        let available = self.available().count() as u64;
        let deadline = self.deadline.filter(|_| self.waiting() > 0);
        let left = deadline.map(|deadline| deadline.saturating_sub(self.now));
        if available == 0 || self.blocked.is_some() {
            return assert_eq!(wait, left.unwrap_or(SENDQ_NEVER));
        }
        match self.rate {
            None => assert_eq!(wait, 0),
            Some(_) if left == Some(wait) => (),
            Some(rate) => {
                assert!(left.is_none_or(|left| wait < left));
                rate.check_wait(wait, available, self.now);
            }
        }
    }

    pub fn check_state(&self, state: c_int) {
        let bit = |bit: c_int, on: bool| if on { bit } else { 0 };
        let (full, reads) = (self.blocked.is_some(), self.wants_read);
        let mut want = bit(SENDQ_HIGH, self.high)
            | bit(SENDQ_BLOCKED, full && !reads)
            | bit(SENDQ_WANT_READ, full && reads)
            | bit(SENDQ_CORKED, self.corked.is_some())
            | bit(SENDQ_CLOSED, self.closed || self.failed != 0);
        let available = self.available().count() as u64;
        if available > 0 && !full {
            match self.rate {
                None => want |= SENDQ_MORE,
                Some(rate) => {
                    want |= state & SENDQ_MORE;
                    rate.check_now(want & SENDQ_MORE != 0, available, self.now);
                }
            }
        }
        assert_eq!(state, want);
    }
}
