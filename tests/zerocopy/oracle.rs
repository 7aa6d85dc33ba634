//! Who may be released, and who has to be: from what was appended, where it was moved, what sockets took of it, and
//! what they have acknowledged.

use super::kernel::{self, Act, Event, State};
use super::memory::{self, Range};
use libc::{ECANCELED, c_int};
use std::collections::VecDeque;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Copied,
    Borrowed,
    Shared,
    /// A notification, or the end of what a message has borrowed.
    Mark,
}

/// A part of a stream.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    pub kind: Kind,
    pub range: Range,
    pub owner: Option<usize>,
    /// The owner of the message that it is a part of.
    pub message: Option<usize>,
    /// How many of its bytes were sent.
    sent: usize,
    /// Some were sent without a copy, by the queue that has it.
    is_carried: bool,
}

impl Piece {
    pub fn new(kind: Kind, range: Range, owner: Option<usize>) -> Piece {
        Piece { kind, range, owner, message: None, sent: 0, is_carried: false }
    }

    pub fn mark(owner: usize) -> Piece {
        Piece::new(Kind::Mark, Range { at: 0, len: 0 }, Some(owner))
    }

    fn left(&self) -> usize {
        self.range.len - self.sent
    }

    fn pinned(&self) -> u64 {
        if self.kind == Kind::Borrowed { self.range.len as u64 } else { 0 }
    }

    fn memory(&self) -> u64 {
        if self.kind == Kind::Copied { 0 } else { self.range.len as u64 }
    }
}

/// The first sends of a group.
#[derive(Clone, Copy, Debug)]
struct Until {
    group: usize,
    sends: usize,
}

#[derive(Default)]
struct Owner {
    is_given: bool,
    is_message: bool,
    is_shared: bool,
    /// Some of the message was sent without a copy.
    is_carried: bool,
    /// How many of its pieces are queued, or held until they are acknowledged.
    pieces: usize,
    /// It is not released before these are acknowledged.
    waits: Vec<Until>,
    /// The owner of a message that was carried may be released before or after these: the last of its parts may be
    /// another owner's.
    may_wait: Vec<Until>,
    /// Why its pieces are not needed any more.
    reasons: Vec<c_int>,
    /// The reasons of its releases.
    released: Vec<c_int>,
}

/// The sends without a copy of one queue, up to its reset.
#[derive(Default)]
struct Group {
    flights: Vec<usize>,
    /// Pieces that wait for the first so many of these.
    held: Vec<(usize, Piece)>,
    is_orphan: bool,
}

#[derive(Default)]
pub struct Queue {
    pieces: VecDeque<Piece>,
    /// How many pieces precede the cork.
    cork: Option<usize>,
    pub failed: c_int,
    group: usize,
    pub carried: u64,
    /// Pieces that were completed in this call.
    landing: Vec<Piece>,
}

impl Queue {
    pub fn waiting(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.left() as u64).sum()
    }

    pub fn available(&self) -> u64 {
        let count = self.cork.unwrap_or(self.pieces.len());
        self.pieces.iter().take(count).map(|piece| piece.left() as u64).sum()
    }

    pub fn is_corked(&self) -> bool {
        self.cork.is_some()
    }

    pub fn has_pieces(&self) -> bool {
        !self.pieces.is_empty()
    }

    fn pop(&mut self) -> Option<Piece> {
        self.cork = self.cork.map(|cork| cork.saturating_sub(1));
        self.pieces.pop_front()
    }

    /// Completes a piece.
    fn complete(&mut self, owners: &mut [Owner], piece: Piece, reason: c_int) {
        if let Some(owner) = piece.owner {
            owners[owner].reasons.push(reason);
        }
        self.landing.push(piece);
    }
}

#[derive(Default)]
pub struct Oracle {
    pub queues: [Queue; 2],
    owners: Vec<Owner>,
    groups: Vec<Group>,
}

impl Oracle {
    pub fn new() -> Oracle {
        let mut oracle = Oracle::default();
        (0..2).for_each(|i| oracle.renew(i));
        oracle
    }

    /// A new owner of `lent`, which nobody has been given yet.
    pub fn owner(&mut self, lent: Vec<Range>) -> usize {
        kernel::with(|kernel| kernel.lent.push(lent));
        self.owners.push(Owner::default());
        self.owners.len() - 1
    }

    pub fn message(&mut self, lent: Vec<Range>) -> usize {
        let owner = self.owner(lent);
        self.owners[owner].is_message = true;
        owner
    }

    /// The owner of a shared buffer, to which the host has a reference.
    pub fn buffer(&mut self, range: Range) -> usize {
        let owner = self.owner(vec![range]);
        let made = &mut self.owners[owner];
        (made.is_given, made.is_shared, made.pieces) = (true, true, 1);
        owner
    }

    /// The host has given up that reference.
    pub fn unref(&mut self, owner: usize) {
        self.owners[owner].pieces -= 1;
    }

    pub fn give(&mut self, owner: usize) {
        self.owners[owner].is_given = true;
    }

    /// `pieces` were appended.
    pub fn append(&mut self, i: usize, pieces: &[Piece]) {
        for owner in pieces.iter().filter_map(|piece| piece.owner) {
            self.owners[owner].pieces += 1;
            self.give(owner);
        }
        self.queues[i].pieces.extend(pieces);
    }

    /// Sends `len` bytes. Returns where they are.
    pub fn consume(&mut self, i: usize, mut len: usize, is_carried: bool) -> Vec<Range> {
        let (queue, owners) = (&mut self.queues[i], &mut self.owners);
        let mut ranges = Vec::new();
        while queue.cork != Some(0) {
            let Some(front) = queue.pieces.front_mut() else { break };
            let step = len.min(front.left());
            if step > 0 {
                ranges.push(Range { at: front.range.at + front.sent, len: step });
                front.is_carried |= is_carried;
                if let Some(message) = front.message.filter(|_| is_carried) {
                    owners[message].is_carried = true;
                }
            }
            front.sent += step;
            len -= step;
            if front.left() > 0 {
                break;
            }
            let piece = queue.pop().expect("it is the front");
            queue.complete(owners, piece, 0);
        }
        assert_eq!(len, 0, "more was sent than there is");
        ranges
    }

    /// Drops what is behind the first `len` bytes, and the marks there.
    pub fn cut(&mut self, i: usize, len: u64) {
        let (queue, owners) = (&mut self.queues[i], &mut self.owners);
        let (mut before, mut count) = (0, 0);
        for piece in &queue.pieces {
            if piece.left() > 0 && before == len {
                break;
            }
            before += piece.left() as u64;
            count += 1;
        }
        assert_eq!(before, len, "a piece was divided");
        queue.cork = queue.cork.map(|cork| cork.min(count));
        for piece in queue.pieces.split_off(count) {
            queue.complete(owners, piece, -ECANCELED);
        }
    }

    /// Drops everything.
    pub fn discard(&mut self, i: usize, reason: c_int) {
        let (queue, owners) = (&mut self.queues[i], &mut self.owners);
        for piece in std::mem::take(&mut queue.pieces) {
            queue.complete(owners, piece, reason);
        }
        queue.cork = queue.cork.map(|_| 0);
    }

    pub fn fail(&mut self, i: usize, errno: c_int) {
        self.discard(i, errno);
        self.queues[i].failed = errno;
    }

    pub fn cork(&mut self, i: usize) {
        let queue = &mut self.queues[i];
        queue.cork = Some(queue.pieces.len());
    }

    pub fn uncork(&mut self, i: usize) {
        self.queues[i].cork = None;
    }

    pub fn roll_back(&mut self, i: usize) {
        let (queue, owners) = (&mut self.queues[i], &mut self.owners);
        let cork = queue.cork.take().expect("it is corked");
        for piece in queue.pieces.split_off(cork) {
            queue.complete(owners, piece, -ECANCELED);
        }
    }

    /// The queue is as new, and has discarded everything.
    pub fn reset(&mut self, i: usize) {
        self.discard(i, -ECANCELED);
        self.land(i);
        let group = &mut self.groups[self.queues[i].group];
        group.is_orphan = true;
        self.renew(i);
    }

    fn renew(&mut self, i: usize) {
        self.groups.push(Group::default());
        self.queues[i] = Queue { group: self.groups.len() - 1, ..Queue::default() };
    }

    /// What is queued has to wait here for what was sent of it, because it may leave.
    fn part(&mut self, i: usize) {
        let (queue, owners) = (&mut self.queues[i], &mut self.owners);
        let until = Until { group: queue.group, sends: self.groups[queue.group].flights.len() };
        if !self.groups[until.group].is_unacked() {
            return;
        }
        if let Some(front) = queue.pieces.front_mut().filter(|front| front.is_carried) {
            front.is_carried = false;
            let owner = &mut owners[front.owner.expect("it was carried")];
            if !owner.is_message {
                owner.waits.push(until);
            }
        }
        for owner in queue.pieces.iter().filter_map(|piece| piece.owner) {
            owners[owner].may_wait.push(until);
        }
    }

    /// The first `len` bytes are to move to another queue: what of these was sent has to be waited for here, and the
    /// last piece is divided.
    pub fn divide(&mut self, i: usize, mut len: usize) {
        self.part(i);
        let pieces = &mut self.queues[i].pieces;
        for at in 0..pieces.len() {
            let (piece, left) = (pieces[at], pieces[at].left());
            if len >= left {
                len -= left;
                continue;
            }
            if len > 0 {
                let before = piece.sent + len;
                let range = Range { at: piece.range.at + before, len: left - len };
                pieces[at].range.len = before;
                pieces.insert(at + 1, Piece { range, sent: 0, is_carried: false, ..piece });
                if let Some(owner) = piece.owner {
                    self.owners[owner].pieces += 1;
                }
            }
            return;
        }
    }

    /// The first `len` bytes, and the marks behind them, have moved to the end of the other queue.
    pub fn splice(&mut self, from: usize, mut len: usize) {
        self.divide(from, len);
        let pieces = &mut self.queues[from].pieces;
        let mut moved = Vec::new();
        while let Some(front) = pieces.front().filter(|front| front.left() <= len) {
            len -= front.left();
            moved.extend(pieces.pop_front());
        }
        self.queues[1 - from].pieces.extend(moved);
    }

    /// What has happened in a call on the queue `i`.
    pub fn follow(&mut self, i: usize, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Sent { ranges, bytes, flight } => {
                    let sent = self.consume(i, bytes.len(), flight.is_some());
                    let original = memory::original();
                    let expected = sent.iter().flat_map(|range| &original[range.at..][..range.len]);
                    assert!(bytes.iter().eq(expected), "other bytes were sent");
                    if let Some(flight) = flight {
                        assert_eq!(joined(&ranges), joined(&sent), "sent from another place");
                        self.queues[i].carried += bytes.len() as u64;
                        self.groups[self.queues[i].group].flights.push(flight);
                    }
                }
                Event::Failed(errno) => self.fail(i, -errno),
                Event::Acted(Act::Discard, i) => self.discard(i, -ECANCELED),
                Event::Acted(_, i) => self.reset(i),
                Event::Released { owner, reason } => self.owners[owner].released.push(reason),
            }
        }
    }

    /// The call is over: what was completed is released, or held.
    pub fn land_all(&mut self) {
        for i in 0..2 {
            self.consume(i, 0, false);
            self.land(i);
        }
        for group in &mut self.groups {
            let acked = group.acked();
            for (_, piece) in group.held.extract_if(.., |(sends, _)| *sends <= acked) {
                if let Some(owner) = piece.owner {
                    self.owners[owner].pieces -= 1;
                }
            }
        }
    }

    fn land(&mut self, i: usize) {
        let queue = &mut self.queues[i];
        let group = &mut self.groups[queue.group];
        let sends = group.flights.len();
        for piece in std::mem::take(&mut queue.landing) {
            if piece.is_carried && group.is_unacked() {
                group.held.push((sends, piece));
                continue;
            }
            let Some(owner) = piece.owner else { continue };
            let owner = &mut self.owners[owner];
            owner.pieces -= 1;
            if piece.kind == Kind::Mark && owner.is_message {
                owner.may_wait.push(Until { group: queue.group, sends });
            }
        }
    }

    fn is_over(&self, until: &Until) -> bool {
        self.groups[until.group].acked() >= until.sends
    }

    /// All owners are released that have to be, and none that may not be.
    pub fn check_owners(&self) {
        for (i, owner) in self.owners.iter().enumerate() {
            let is_over = |waits: &[Until]| waits.iter().all(|until| self.is_over(until));
            let may = owner.is_given && owner.pieces == 0 && is_over(&owner.waits);
            let [reason] = owner.released[..] else {
                assert!(owner.released.is_empty(), "{i} is released twice");
                let may_wait = owner.is_carried && !is_over(&owner.may_wait);
                assert!(!may || may_wait, "{i} has to be released");
                continue;
            };
            assert!(may, "{i} is released too early");
            let mut reasons = owner.reasons.iter().filter(|reason| **reason != 0);
            let is_right = match reason {
                0 => owner.is_shared || reasons.next().is_none(),
                _ => !owner.is_shared && reasons.any(|other| *other == reason),
            };
            assert!(is_right, "{i} is released with {reason}, not {:?}", owner.reasons);
        }
    }

    pub fn is_unacked(&self, i: usize) -> bool {
        self.groups[self.queues[i].group].is_unacked()
    }

    /// How many sends of a queue are acknowledged, and how many of these the kernel has copied.
    pub fn acked(&self, i: usize) -> (u64, u64) {
        kernel::with(|kernel| {
            let flights = &self.groups[self.queues[i].group].flights;
            let flights = flights.iter().map(|flight| &kernel.flights[*flight]);
            let acked = || flights.clone().filter(|flight| flight.state == State::Reaped);
            (acked().count() as u64, acked().filter(|flight| flight.is_copied).count() as u64)
        })
    }

    /// The memory that a queue's pieces wait with, and all that it refers to.
    pub fn held(&self, i: usize) -> (u64, u64) {
        let queue = &self.queues[i];
        let held = self.groups[queue.group].held(Piece::memory);
        (held, held + queue.pieces.iter().map(Piece::memory).sum::<u64>())
    }

    /// Borrowed memory that is not given back.
    pub fn pinned(&self) -> u64 {
        let queued = self.queues.iter().flat_map(|queue| &queue.pieces).map(Piece::pinned);
        queued.sum::<u64>() + self.groups.iter().map(|group| group.held(Piece::pinned)).sum::<u64>()
    }

    /// How many orphans there are, and how much they hold.
    pub fn orphans(&self) -> (u64, u64) {
        let orphans = || self.groups.iter().filter(|group| group.is_orphan && group.is_unacked());
        (orphans().count() as u64, orphans().map(|group| group.held(Piece::memory)).sum())
    }

    pub fn check_all_released(&self) {
        let mut owners = self.owners.iter().filter(|owner| owner.is_given);
        assert!(owners.all(|owner| owner.released.len() == 1), "an owner was not released");
    }

    pub fn is_released(&self, owner: usize) -> bool {
        !self.owners[owner].released.is_empty()
    }
}

impl Group {
    /// How many of the first sends are acknowledged.
    fn acked(&self) -> usize {
        kernel::with(|kernel| {
            let reaped = |flight: &&usize| kernel.flights[**flight].state == State::Reaped;
            self.flights.iter().take_while(reaped).count()
        })
    }

    fn is_unacked(&self) -> bool {
        self.acked() < self.flights.len()
    }

    fn held(&self, bytes: impl Fn(&Piece) -> u64) -> u64 {
        self.held.iter().map(|(_, piece)| bytes(piece)).sum()
    }
}

/// `ranges`, of which those that touch are one.
fn joined(ranges: &[Range]) -> Vec<Range> {
    let mut joined: Vec<Range> = Vec::new();
    for range in ranges {
        match joined.last_mut().filter(|last| last.at + last.len == range.at) {
            Some(last) => last.len += range.len,
            None => joined.push(*range),
        }
    }
    joined
}
