//! What one queue should be: bytes and who owns them, and what is counted of them.

use super::pace::{Bucket, Floor};
use libc::c_int;
use sendq::block::SLOT;
use sendq::capi::*;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

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

/// What is counted of a message for its owner: bytes that have left.
#[derive(Debug, Default)]
pub struct Message {
    left: Cell<usize>,
    /// A part of it was spliced to another queue, where bytes of others may be between: nobody counts then.
    is_scattered: Cell<bool>,
}

impl Message {
    pub fn new(left: usize) -> Rc<Message> {
        Rc::new(Message { left: Cell::new(left), ..Message::default() })
    }
}

/// Who is released once all parts of a piece are done with.
#[derive(Debug)]
pub struct Owner {
    pub id: Option<usize>,
    /// The message that it owns.
    message: Option<Rc<Message>>,
    /// Why the parts were done with.
    reasons: RefCell<Vec<c_int>>,
}

impl Owner {
    pub fn new(id: Option<usize>, message: Option<Rc<Message>>) -> Rc<Owner> {
        Rc::new(Owner { id, message, reasons: RefCell::default() })
    }
}

/// A part of a piece is done with.
#[derive(Debug)]
pub struct Gone {
    owner: Rc<Owner>,
    reason: c_int,
    /// How much of its message had left.
    left: Option<usize>,
    /// The last of those that were taken back together.
    is_last: bool,
}

/// Who is released, and what it is told.
#[derive(Debug)]
pub struct Release {
    pub id: usize,
    pub reasons: Vec<c_int>,
    /// The owner of a message is told this; None: nobody knows.
    pub left: Option<Option<usize>>,
}

impl Gone {
    fn new(owner: Rc<Owner>, reason: c_int) -> Gone {
        Gone { owner, reason, left: None, is_last: false }
    }

    /// So much has left of its message.
    fn count(&mut self) {
        let message = self.owner.message.as_ref().filter(|message| !message.is_scattered.get());
        self.left = message.map(|message| message.left.get());
    }

    /// None: another part of the piece is not done with, or nobody owns it.
    pub fn release(self) -> Option<Release> {
        self.owner.reasons.borrow_mut().push(self.reason);
        let is_message = self.owner.message.is_some();
        let owner = Rc::into_inner(self.owner)?;
        let left = is_message.then_some(self.left);
        Some(Release { id: owner.id?, reasons: owner.reasons.into_inner(), left })
    }
}

/// What a part without bytes is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mark {
    None,
    /// A hole with this id, for so many bytes.
    Hole(u64, usize),
    /// The end of a message.
    End,
}

/// A part of the stream as the model has it.
#[derive(Debug)]
pub struct Part {
    kind: Kind,
    /// Bytes that were appended.
    size: usize,
    /// Those that have not left.
    bytes: VecDeque<Byte>,
    /// It was borrowed, or is a notification: this one is released.
    owner: Option<Rc<Owner>>,
    /// What its bytes belong to. For an owner: its message, if all of that follows.
    message: Option<Rc<Message>>,
    mark: Mark,
}

impl Part {
    pub fn new(kind: Kind, bytes: impl IntoIterator<Item = Byte>, owner: Option<usize>) -> Part {
        let bytes = VecDeque::from_iter(bytes);
        let is_owned = owner.is_some() || kind != Kind::Copied;
        let owner = is_owned.then(|| Owner::new(owner, None));
        Part { kind, size: bytes.len(), bytes, owner, message: None, mark: Mark::None }
    }

    pub fn copied(bytes: &[u8]) -> Part {
        Part::new(Kind::Copied, bytes.iter().copied().map(Byte::from), None)
    }

    pub fn notification(owner: usize) -> Part {
        Part::new(Kind::Copied, [], Some(owner))
    }

    /// The owner of a message.
    pub fn owner(id: usize, message: &Rc<Message>) -> Part {
        let owner = Some(Owner::new(Some(id), Some(message.clone())));
        Part { owner, ..Part::copied(&[]) }
    }

    fn mark(mark: Mark) -> Part {
        Part { mark, ..Part::copied(&[]) }
    }

    pub fn of(self, message: &Rc<Message>) -> Part {
        Part { message: Some(message.clone()), ..self }
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn is_slot(&self) -> bool {
        self.kind != Kind::Copied || self.owner.is_some()
    }

    fn is_hole(&self) -> bool {
        matches!(self.mark, Mark::Hole(..))
    }

    pub fn bytes(&self) -> impl Iterator<Item = Byte> + '_ {
        self.bytes.iter().copied()
    }

    pub fn is_file(&self) -> bool {
        self.kind == Kind::File
    }

    /// Takes out its first `len` bytes. Both are released as one.
    fn divide(&mut self, len: usize) -> Part {
        let rest = self.bytes.split_off(len);
        let size = self.size - rest.len();
        let bytes = std::mem::replace(&mut self.bytes, rest);
        self.size = self.bytes.len();
        let (owner, message) = (self.owner.clone(), self.message.clone());
        Part { kind: self.kind, size, bytes, owner, message, mark: Mark::None }
    }

    /// It is the owner of a message all of which follows it.
    fn leads(&self) -> bool {
        self.bytes.is_empty() && self.message.is_some()
    }

    /// It is done with.
    fn gone(self, reason: c_int) -> Option<Gone> {
        self.owner.map(|owner| Gone::new(owner, reason))
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
    pub gone: VecDeque<Gone>,
    /// Somebody of `gone` is being released.
    pub releasing: bool,
    /// If messages are counted: how many may be queued (0: any number).
    pub max_messages: Option<u64>,
    pub sent_messages: u64,
    /// The last byte that left is not the end of a message.
    is_begun: bool,
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
    configured: (u64, u64, u64),
    pub counts: Counts,
    pub now: u64,
    /// When the stall clock started, if it has.
    pub progress: Option<u64>,
    /// Bytes that have left in the flush that is on.
    pub flushed: usize,
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
    pub fn new(marks: (u64, u64, u64), max_messages: Option<u64>) -> Model {
        Model { marks, configured: marks, max_messages, ..Model::default() }
    }

    /// What waits and is no part of a file.
    pub fn memory(&self) -> usize {
        let memory = self.parts.iter().filter(|part| !part.is_file());
        memory.map(|part| part.bytes.len()).sum()
    }

    /// Of the first `len` bytes, those that are not in files.
    pub fn memory_of_first(&self, len: usize) -> usize {
        let bytes = self.parts.iter().flat_map(|part| part.bytes.iter().map(|_| !part.is_file()));
        bytes.take(len).filter(|is_memory| *is_memory).count()
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
        let ends = self.parts.iter().filter(|part| part.mark == Mark::End).count();
        self.parts.len() == ends && self.reserved.is_none()
    }

    /// How many parts may leave: those before the cork and the first hole.
    pub fn visible(&self) -> usize {
        let hole = self.parts.iter().position(Part::is_hole);
        self.corked.unwrap_or(self.parts.len()).min(hole.unwrap_or(self.parts.len()))
    }

    pub fn has_holes(&self) -> bool {
        self.parts.iter().any(Part::is_hole)
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
            0 if len > 0 && self.is_full() => -libc::ENOBUFS,
            errno => errno,
        }
    }

    /// How many bytes may come before the high watermark.
    pub fn room(&self) -> u64 {
        let is_paused = self.refusal() != 0 || self.reserved.is_some() || self.high;
        if is_paused { 0 } else { self.marks.1.saturating_sub(self.memory() as u64) }
    }

    /// Bytes that belong to a message which has not ended.
    fn is_open(&self) -> bool {
        let tail = self.parts.iter().rev().take_while(|part| part.mark != Mark::End);
        tail.into_iter().any(|part| !part.bytes.is_empty())
    }

    fn ends(&self) -> u64 {
        self.parts.iter().filter(|part| part.mark == Mark::End).count() as u64
    }

    pub fn queued_messages(&self) -> u64 {
        let counts = self.max_messages.is_some();
        if counts { self.ends() + u64::from(self.is_open()) } else { 0 }
    }

    /// Another byte would begin a message that is one too many.
    pub fn is_full(&self) -> bool {
        let max = self.max_messages.filter(|max| *max > 0);
        max.is_some_and(|max| self.ends() >= max && !self.is_open())
    }

    /// Parts that others own, and notifications.
    pub fn slots(&self) -> u64 {
        self.parts.iter().filter(|part| part.is_slot()).count() as u64
    }

    /// A slot is to come that brings no memory, but so many bytes of a file.
    pub fn admit_slot(&self, len: usize) -> c_int {
        // Those that are to be released when the call is over are still there.
        let slots = self.slots() + self.gone.len() as u64;
        match self.admit(0) {
            0 if len > 0 && self.is_full() => -libc::ENOBUFS,
            0 if slots >= FREE_SLOTS && slots * SLOT as u64 > self.marks.2 => -libc::ENOBUFS,
            errno => errno,
        }
    }

    /// Bytes came where so many could leave. HIGH and WAKE.
    fn came(&mut self, before: usize) -> c_int {
        self.counts.peak = self.counts.peak.max(self.waiting() as u64);
        self.ready.on_append(self.blocked.is_some());
        self.settle();
        let wake = before == 0 && self.available().next().is_some();
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
        self.rise_all([part])
    }

    pub fn rise_all(&mut self, parts: impl IntoIterator<Item = Part>) -> c_int {
        let (before, mut len) = (self.available().count(), 0);
        for part in parts {
            len += part.bytes.len();
            self.counts.appended[part.kind as usize] += part.bytes.len() as u64;
            self.parts.push_back(part);
        }
        if len == 0 {
            // The owner of a message that was appended in a callback may precede its bytes: it is released later.
            if before == 0 {
                self.pass_marks();
            }
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
            if part.mark == Mark::End {
                self.sent_messages += u64::from(reason == 0);
                self.is_begun = false;
            }
            self.gone.extend(part.gone(reason));
        }
    }

    fn drop_front(&mut self, mut len: usize, reason: c_int) -> c_int {
        let (leaves, before) = (len > 0, self.gone.len());
        self.pass(reason);
        while len > 0 {
            let part = self.parts.front_mut().unwrap();
            let step = len.min(part.bytes.len());
            part.bytes.drain(..step);
            if reason == 0 {
                self.is_begun = true;
                part.message.iter().for_each(|message| message.left.update(|left| left + step));
            }
            len -= step;
            self.pass(reason);
        }
        self.settle();
        for gone in self.gone.range_mut(before..) {
            gone.count();
        }
        if !leaves {
            return 0;
        }
        self.offered = None;
        self.resume()
    }

    /// So many bytes have left past this empty queue.
    pub fn leave_past(&mut self, len: usize) {
        self.counts.sent += len as u64;
        self.counts.appended[Kind::Copied as usize] += len as u64;
        self.is_begun |= len > 0;
    }

    /// These bytes leave at once: they are the next.
    pub fn leave(&mut self, bytes: &[u8]) -> c_int {
        assert!(bytes.iter().copied().map(Byte::from).eq(self.available().take(bytes.len())));
        self.counts.sent += bytes.len() as u64;
        let hints = self.drop_front(bytes.len(), 0);
        self.go_on(bytes.len());
        self.flushed += bytes.len();
        hints
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
        self.go_on(len);
        self.count_for_floor(len);
    }

    /// What leaves in one flush counts for the lowest rate together, at its end.
    pub fn count_for_floor(&mut self, len: usize) {
        if len > 0 {
            self.floor.iter_mut().for_each(|floor| floor.leave(len as u64, self.now));
        }
    }

    fn go_on(&mut self, len: usize) {
        if len > 0 {
            self.start_clock();
            self.progress = Some(self.now);
            self.unblock();
            self.rate.iter_mut().for_each(|rate| rate.spend(len as u64, self.now));
            // The rate may have held it back since the turn began.
            self.ready.is_now &= self.rate.is_none();
        }
    }

    pub fn resume(&mut self) -> c_int {
        let resume = self.high && self.memory() as u64 <= self.marks.0;
        self.high &= !resume;
        SENDQ_RESUME * c_int::from(resume)
    }

    pub fn drop_all(&mut self, reason: c_int) -> c_int {
        let corked = self.corked.take();
        self.parts.retain(|part| !part.is_hole());
        self.counts.discarded += self.waiting() as u64;
        let hints = self.drop_front(self.waiting(), reason);
        self.is_begun = false;
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

    /// The host ends the connection.
    pub fn end_with(&mut self, errno: c_int) -> c_int {
        if self.flushing {
            return -libc::EBUSY;
        }
        if self.failed == 0 {
            self.fail(errno);
        }
        0
    }

    pub fn reset(&mut self) -> c_int {
        if self.flushing {
            return -libc::EBUSY;
        }
        self.drop_all(-libc::ECANCELED);
        let (gone, releasing, now) = (std::mem::take(&mut self.gone), self.releasing, self.now);
        let new = Model::new(self.configured, self.max_messages);
        *self = Model { gone, releasing, now, ..new };
        0
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

    pub fn cork(&mut self) -> c_int {
        match self.admit(0) {
            0 if self.corked.is_some() => -libc::EALREADY,
            0 => {
                self.corked = Some(self.parts.len());
                0
            }
            errno => errno,
        }
    }

    pub fn uncork(&mut self) -> c_int {
        let idle = self.available().next().is_none();
        match self.take_held() {
            Err(errno) => errno,
            Ok(held) => {
                self.parts.extend(held);
                if idle {
                    self.pass_marks();
                }
                self.ready.on_append(self.blocked.is_some());
                self.settle();
                let wakes = idle && self.available().next().is_some();
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
            Ok(mut held) => {
                // The end of what is before the cork stays.
                let first =
                    held.iter().position(|part| part.mark == Mark::End || !part.bytes.is_empty());
                if let Some(end) = first.filter(|at| held[*at].mark == Mark::End) {
                    let end = held.remove(end);
                    self.parts.push_back(end);
                }
                if self.available().next().is_none() {
                    self.pass_marks();
                }
                self.cancel(held);
                self.resume()
            }
        }
    }

    /// Who is released next: in order, but what is taken back in a callback may come before those that are not
    /// released yet, or after them. Where it lies in memory decides that, so the `id` that sendq released tells.
    pub fn next_gone(&mut self, id: Option<usize>) -> Option<Gone> {
        let is_it = |gone: &Gone| gone.reason == -libc::ECANCELED && gone.owner.id == id;
        let at = self.gone.iter().position(|gone| id.is_some() && is_it(gone));
        let last_before = self.gone.iter().take(at.unwrap_or(0)).rposition(|gone| gone.is_last);
        self.gone.remove(last_before.map_or(0, |last| last + 1))
    }

    /// The last parts are taken back.
    fn cancel(&mut self, parts: Vec<Part>) {
        self.counts.discarded += parts.iter().map(|part| part.bytes.len() as u64).sum::<u64>();
        let canceled = parts.into_iter().rev().filter_map(|part| part.gone(-libc::ECANCELED));
        // Before those that have left and are not released yet: within a release there may be some.
        for (i, mut gone) in canceled.enumerate() {
            gone.count();
            gone.is_last = i == 0;
            self.gone.push_front(gone);
        }
    }

    /// What was appended since the last end is a message.
    pub fn end_message(&mut self) -> c_int {
        if self.failed != 0 {
            return self.failed;
        }
        let last =
            self.parts.iter().rev().find(|part| part.mark == Mark::End || !part.bytes.is_empty());
        let is_any = last.map_or(self.is_begun, |last| last.mark != Mark::End);
        if self.max_messages.is_none() || !is_any {
            return 0;
        }
        // Behind the last byte and the holes, but before notifications, and before a cork that follows.
        let last = self.parts.iter().rposition(|part| part.is_hole() || !part.bytes.is_empty());
        let Some(last) = last else {
            self.sent_messages += 1;
            self.is_begun = false;
            return 0;
        };
        self.parts.insert(last + 1, Part::mark(Mark::End));
        self.corked = self.corked.map(|visible| visible + usize::from(visible > last));
        0
    }

    pub fn discard_unstarted(&mut self) -> c_int {
        if self.max_messages.is_none() {
            return -libc::EINVAL;
        }
        if self.flushing || self.reserved.is_some() {
            return -libc::EBUSY;
        }
        let offered = self.offered.map_or(0, |(_, len)| len);
        if !self.is_begun && offered == 0 {
            return self.discard();
        }
        let mut before = 0;
        let end = self.parts.iter().position(|part| {
            before += part.bytes.len();
            part.mark == Mark::End && before >= offered
        });
        if let Some(end) = end {
            let rest = self.parts.iter().skip(end + 1);
            let is_notification =
                |part: &&Part| part.bytes.is_empty() && part.mark == Mark::None && !part.leads();
            let kept = end + 1 + rest.take_while(is_notification).count();
            let rest = self.parts.split_off(kept);
            self.cancel(rest.into_iter().collect());
            self.corked = self.corked.map(|visible| visible.min(kept));
        }
        self.settle();
        self.resume()
    }

    pub fn hole(&mut self, id: u64, len: usize) {
        self.parts.push_back(Part::mark(Mark::Hole(id, len)));
    }

    pub fn fill(&mut self, id: u64, bytes: &[u8]) -> c_int {
        if self.failed != 0 {
            return self.failed;
        }
        let is_it = |part: &Part| matches!(part.mark, Mark::Hole(hole, _) if hole == id);
        let Some(at) = self.parts.iter().position(is_it) else { return 0 };
        if matches!(self.parts[at].mark, Mark::Hole(_, len) if bytes.len() > len) {
            return -libc::EINVAL;
        }
        let before = self.available().count();
        self.counts.appended[Kind::Copied as usize] += bytes.len() as u64;
        self.parts[at] = Part::copied(bytes);
        // An end that only the hole has kept behind the cork ends what is before it.
        if let Some(visible) = self.corked
            && let Some(first) = self
                .parts
                .iter()
                .skip(visible)
                .position(|part| part.mark != Mark::None || !part.bytes.is_empty())
            && self.parts[visible + first].mark == Mark::End
        {
            let end = self.parts.remove(visible + first).unwrap();
            self.parts.insert(visible, end);
            self.corked = Some(visible + 1);
        }
        if before == 0 {
            self.pass_marks();
        }
        self.came(before)
    }

    /// A splice of so many bytes failed, and may have divided a piece.
    pub fn divide(&mut self, most: usize) {
        let mut before = 0;
        for at in 0..self.parts.len() {
            let len = self.parts[at].bytes.len();
            if before < most && most < before + len {
                let first = self.parts[at].divide(most - before);
                self.parts.insert(at, first);
                return;
            }
            before += len;
        }
    }

    /// The first `most` bytes of `from` to the end of this; there is something to move, and it is admitted.
    pub fn splice(&mut self, from: &mut Model, most: usize) -> c_int {
        let before = self.available().count();
        let mut left = most.min(from.waiting());
        from.counts.sent += left as u64;
        // What has no bytes goes with those before it.
        while let Some(part) = from.parts.front_mut() {
            if left == 0 && (!part.bytes.is_empty() || part.leads()) {
                break;
            }
            let len = part.bytes.len().min(left);
            left -= len;
            let part = if len < part.bytes.len() {
                part.divide(len)
            } else {
                from.parts.pop_front().unwrap()
            };
            let owned = part.owner.as_ref().and_then(|owner| owner.message.as_ref());
            for message in part.message.iter().chain(owned) {
                message.is_scattered.set(true);
            }
            from.is_begun |= len > 0;
            self.counts.appended[part.kind as usize] += len as u64;
            if part.mark == Mark::End {
                from.is_begun = false;
                from.sent_messages += 1;
            }
            if part.mark != Mark::End || self.max_messages.is_some() {
                self.parts.push_back(part);
            }
        }
        self.share_owner(from);
        from.offered = None;
        if from.waiting() == 0 {
            from.high = false;
            from.unblock();
        } else {
            from.resume();
        }
        from.settle();
        self.came(before)
    }

    /// If a message was divided, its owner waits for what came here, too.
    fn share_owner(&mut self, from: &Model) {
        let owners = from.parts.iter().filter_map(|part| part.owner.as_ref());
        let Some(owner) = owners.clone().find(|owner| owner.message.is_some()) else { return };
        let is_of_it = |part: &&mut Part| {
            let borrows = part.kind == Kind::Borrowed || part.kind == Kind::File;
            let is_free = part
                .owner
                .as_ref()
                .is_some_and(|owner| owner.id.is_none() && owner.message.is_none());
            let messages = part.message.as_ref().zip(owner.message.as_ref());
            let is_same = messages.is_some_and(|(one, other)| Rc::ptr_eq(one, other));
            borrows && is_free && is_same && !part.bytes.is_empty()
        };
        if let Some(part) = self.parts.iter_mut().rev().find(is_of_it) {
            part.owner = Some(owner.clone());
        }
    }

    pub fn close(&mut self) -> c_int {
        self.closed = true;
        0
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
