//! What one queue should be: bytes and who owns them, and what is counted of them.

use super::pace::{Bucket, Floor};
use libc::c_int;
use sendq::capi::*;
use std::collections::VecDeque;

pub const LOW: u64 = 1000;
pub const HIGH: u64 = 3000;
pub const MAX: u64 = 6000;

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
    bytes: VecDeque<u8>,
    /// It was borrowed, or is a notification: this one is told.
    owner: Option<usize>,
}

impl Part {
    pub fn new(kind: Kind, bytes: impl Into<VecDeque<u8>>, owner: Option<usize>) -> Part {
        let bytes = bytes.into();
        Part { kind, size: bytes.len(), bytes, owner }
    }

    pub fn copied(bytes: Vec<u8>) -> Part {
        Part::new(Kind::Copied, bytes, None)
    }

    pub fn notification(owner: usize) -> Part {
        Part::new(Kind::Copied, VecDeque::new(), Some(owner))
    }

    pub fn owner(&self) -> Option<usize> {
        self.owner
    }

    pub fn bytes(&self) -> impl Iterator<Item = u8> + '_ {
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

/// What one queue should be.
#[derive(Default)]
pub struct Model {
    pub parts: VecDeque<Part>,
    /// How many of `parts` may leave, while corked.
    pub corked: Option<usize>,
    /// Who has to be told, in order.
    pub gone: VecDeque<(usize, c_int)>,
    pub reserved: usize,
    pub closed: bool,
    pub freed: bool,
    pub failed: c_int,
    high: bool,
    pub marks: (u64, u64, u64),
    pub counts: Counts,
    pub now: u64,
    /// When bytes last left and others stayed, or when the first of those that wait came.
    pub progress: u64,
    /// Since when the sink is full.
    pub blocked: Option<u64>,
    /// How long it was before that.
    blocked_ns: u64,
    pub rate: Option<Bucket>,
    pub floor: Option<Floor>,
    deadline: Option<u64>,
}

impl Model {
    pub fn new() -> Model {
        Model { marks: (LOW, HIGH, MAX), ..Model::default() }
    }

    pub fn waiting(&self) -> usize {
        self.parts.iter().map(|part| part.bytes.len()).sum()
    }

    /// Whole pieces of others, until they are told.
    pub fn pinned(&self, kinds: &[Kind]) -> u64 {
        let pinned = self.parts.iter().filter(|part| kinds.contains(&part.kind));
        pinned.map(|part| part.size as u64).sum()
    }

    pub fn shared_parts(&self) -> u64 {
        self.parts.iter().filter(|part| part.kind == Kind::Shared).count() as u64
    }

    /// What is pinned of a payload with so many holders, divided among them.
    pub fn part_of_shared(&self, holders: u64) -> u64 {
        let parts = self.parts.iter().filter(|part| part.kind == Kind::Shared);
        parts.map(|part| part.size as u64 / holders).sum()
    }

    /// There is nothing that memory would be needed for.
    pub fn is_idle(&self) -> bool {
        self.parts.is_empty() && self.reserved == 0
    }

    pub fn visible(&self) -> usize {
        self.corked.unwrap_or(self.parts.len())
    }

    pub fn available(&self) -> impl Iterator<Item = u8> {
        self.parts.iter().take(self.visible()).flat_map(|part| &part.bytes).copied()
    }

    /// 0, or why nothing may be appended.
    pub fn refusal(&self) -> c_int {
        match (self.failed, self.closed) {
            (0, true) => -libc::EPIPE,
            (errno, _) => errno,
        }
    }

    pub fn admit(&self, len: usize) -> c_int {
        match self.refusal() {
            0 if self.reserved > 0 => -libc::EBUSY,
            0 if len > 0 && (self.waiting() + len) as u64 > self.marks.2 => -libc::ENOBUFS,
            errno => errno,
        }
    }

    fn came(&mut self, before: usize) {
        let after = self.waiting() as u64;
        self.counts.peak = self.counts.peak.max(after);
        if before == 0 && after > 0 {
            self.begin_to_wait();
        }
    }

    pub fn begin_to_wait(&mut self) {
        self.progress = self.now;
        self.floor.iter_mut().for_each(|floor| floor.begin(self.now));
    }

    /// HIGH and WAKE, after bytes came.
    fn risen(&mut self, before: usize) -> c_int {
        let high = self.waiting() as u64 >= self.marks.1;
        self.high |= high;
        let wake = before == 0 && self.corked.is_none();
        (SENDQ_WAKE * c_int::from(wake)) | (SENDQ_HIGH * c_int::from(high))
    }

    pub fn rise(&mut self, part: Part) -> c_int {
        let (before, len) = (self.waiting(), part.bytes.len());
        self.counts.appended[part.kind as usize] += len as u64;
        self.parts.push_back(part);
        if len == 0 {
            self.pass_marks();
            return 0;
        }
        self.came(before);
        self.risen(before)
    }

    pub fn append(&mut self, bytes: Vec<u8>) -> c_int {
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

    /// The first bytes leave, so many by each call: what is above the quota of a window does not count
    /// for the next one, but what the next call takes does.
    pub fn send(&mut self, takes: &[usize]) -> c_int {
        let len: usize = takes.iter().sum();
        self.counts.sent += len as u64;
        let hints = self.drop_front(len, 0);
        if len > 0 {
            self.progress = self.now;
            self.unblock();
            self.rate.iter_mut().for_each(|rate| rate.spend(len as u64, self.now));
            if let Some(floor) = &mut self.floor {
                takes.iter().for_each(|take| floor.leave(*take as u64, self.now));
            }
        }
        hints
    }

    pub fn resume(&mut self) -> c_int {
        let resume = self.high && self.waiting() as u64 <= self.marks.0;
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

    pub fn fail(&mut self, errno: c_int) {
        self.failed = errno;
        self.drop_all(errno);
        self.corked = None;
    }

    pub fn consume(&mut self, len: usize) -> c_int {
        if self.failed != 0 {
            return self.failed;
        }
        if self.available().count() < len {
            return -libc::EINVAL;
        }
        let hints = self.send(&[len]);
        if self.meet_deadline() { self.failed } else { hints }
    }

    pub fn take_held(&mut self) -> Result<Vec<Part>, c_int> {
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

    pub fn rollback(&mut self) -> Result<(c_int, Vec<Part>), c_int> {
        let held = self.take_held()?;
        self.counts.discarded += held.iter().map(|part| part.bytes.len() as u64).sum::<u64>();
        Ok((self.resume(), held))
    }

    /// All of `from` to the end of this; there is something to move, and it is admitted.
    pub fn splice(&mut self, from: &mut Model) -> c_int {
        let before = self.waiting();
        from.counts.sent += from.waiting() as u64;
        for part in &from.parts {
            self.counts.appended[part.kind as usize] += part.bytes.len() as u64;
        }
        self.parts.append(&mut from.parts);
        from.high = false;
        from.unblock();
        self.came(before);
        self.risen(before)
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
        if self.waiting() as u64 >= high {
            self.high = true;
            return SENDQ_HIGH;
        }
        self.resume()
    }

    /// A flush came back that called the sink so often, sent so much, and found it full or not.
    pub fn count_flush(&mut self, calls: usize, shorts: usize) {
        if calls > 0 {
            self.counts.flushes += 1;
            self.counts.calls += calls as u64;
            self.counts.shorts += shorts as u64;
        }
    }

    pub fn block(&mut self) {
        if self.blocked.is_none() {
            self.counts.blocked += 1;
            self.blocked = Some(self.now);
        }
    }

    fn unblock(&mut self) {
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
        slow.max(self.now.saturating_sub(self.progress))
    }

    /// `wait` is when the next flush does something, though the sink stays as it is.
    pub fn check_retry_after(&self, wait: u64) {
        let available = self.available().count() as u64;
        // A timer that is already over is not none.
        let left = self.deadline.map(|deadline| deadline.saturating_sub(self.now).max(1));
        let left = left.filter(|_| self.waiting() > 0);
        let held_back = self.rate.filter(|_| available > 0 && self.blocked.is_none());
        match (left, held_back) {
            (None, None) => assert_eq!(wait, 0),
            (Some(left), _) if wait == left => (),
            (left, Some(rate)) => {
                assert!(left.is_none_or(|left| wait < left));
                rate.check_wait(wait, available, self.now);
            }
            (Some(left), None) => assert_eq!(wait, left),
        }
    }
}
