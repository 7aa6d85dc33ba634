//! Moves bytes from a queue to a sink, or past an empty queue, under a budget.

use crate::errno::{Errno, Result, uninterrupted};
use crate::iovec::{Extent, Fill, IOV_MAX, IoVec, IoVecs, MAX_IOVECS, written};
use crate::policy::Hints;
use crate::pool::Pool;
use crate::queue::{Flushed, Queue, Run};
use crate::sink::Sink;
use libc::c_int;
use std::mem::MaybeUninit;

/// How a flush accesses its queue between the calls of its sink: for short times, so that no lock is held
/// across a system call or a callback.
pub trait WithLocked {
    /// Runs `f` with exclusive access to the queue and its pool.
    fn with_locked<R>(&self, f: impl FnOnce(&mut Queue, &Pool) -> R) -> R;
}

/// What a flush offers its sink next.
#[derive(Clone, Copy)]
enum Offer {
    /// This many iovecs.
    Memory(usize),
    /// A part of a file: its descriptor, and the offset in it.
    File(c_int, u64),
    /// So many iovecs, which are not copied, of this run.
    Zerocopy(usize, Run),
}

type Room = [MaybeUninit<IoVec>; MAX_IOVECS];

/// The state of a flush.
struct FlushState<'a, S> {
    sink: &'a mut S,
    calls_before: u32,
    /// Bytes that it may still send.
    budget: usize,
    /// None: the flush has ended.
    offer: Option<Offer>,
    /// How many bytes are offered.
    offered: usize,
    hints: Hints,
    flushed: Flushed,
    /// The kernel may hold back what the last call has sent, because it was told that more comes.
    is_held_back: bool,
    room: Room,
}

/// Hands what is queued to `sink`, at most `max_bytes` (0: no budget), until the sink takes no more. What
/// other threads append meanwhile is left for the next call: so the call ends, however fast they are.
///
/// BLOCKED: bytes remain, and the sink is full. MORE: bytes remain, and the budget is spent. RESUME: what is
/// queued has dropped to the low watermark. UNACKED: the sink knows how to send without a copy
/// ([`crate::reap::reap`]). BUSY: another flush is in progress. TIMED_OUT: the deadline had
/// passed. Any other error ends the connection: the queue has failed with it and keeps nothing.
#[inline(never)]
pub fn flush<S: Sink>(q: &impl WithLocked, sink: &mut S, max_bytes: usize) -> Result<Hints> {
    let mut state = FlushState::new(sink);
    q.with_locked(|queue, pool| state.begin(queue, pool, max_bytes))?;
    while let Some(offer) = state.offer {
        if let Offer::Zerocopy(count, run) = offer {
            state.send_zerocopy(q, count, run)?;
            continue;
        }
        let outcome = uninterrupted(|| state.make(offer));
        q.with_locked(|queue, pool| {
            state.account(queue, pool, outcome, |queue, taken| queue.on_sent(pool, taken))
        })?;
    }
    Ok(state.hints)
}

/// Begins a flush, and returns how many bytes it may send.
pub(crate) fn begin(queue: &mut Queue, pool: &Pool, max_bytes: usize) -> Result<usize> {
    let allowed = usize::try_from(queue.begin_flush(pool)?).unwrap_or(usize::MAX);
    Ok(if max_bytes == 0 { allowed } else { allowed.min(max_bytes) })
}

impl<'a, S: Sink> FlushState<'a, S> {
    #[inline(always)]
    fn new(sink: &'a mut S) -> FlushState<'a, S> {
        FlushState {
            calls_before: sink.calls(),
            sink,
            budget: 0,
            offer: None,
            offered: 0,
            hints: Hints::NONE,
            flushed: Flushed::default(),
            is_held_back: false,
            room: [const { MaybeUninit::uninit() }; MAX_IOVECS],
        }
    }

    #[inline(always)]
    fn begin(&mut self, queue: &mut Queue, pool: &Pool, max_bytes: usize) -> Result<()> {
        self.budget = begin(queue, pool, max_bytes)?;
        self.next(queue, pool);
        Ok(())
    }

    /// Finds what to offer next. If there is nothing, the flush ends.
    #[inline(always)]
    fn next(&mut self, queue: &mut Queue, pool: &Pool) {
        if self.budget == 0 {
            return self.end(queue, pool);
        }
        let run = if self.sink.knows_zerocopy() {
            queue.next_run(self.budget)
        } else {
            Run::copied(self.budget)
        };
        let mut fill = Fill::new(&mut self.room, run.bytes);
        queue.each_extent(|extent| fill.add(extent));
        (self.offered, self.offer) = match fill.file {
            _ if run.slots > 0 => (fill.bytes, Some(Offer::Zerocopy(fill.count, run))),
            _ if fill.count > 0 => (fill.bytes, Some(Offer::Memory(fill.count))),
            Some((fd, offset, len)) => {
                let len = usize::try_from(len).unwrap_or(usize::MAX).min(self.budget);
                (len, Some(Offer::File(fd, offset)))
            }
            None => return self.end(queue, pool),
        };
    }

    /// Makes the offer to the sink.
    #[inline(always)]
    fn make(&mut self, offer: Offer) -> Result<usize> {
        // All calls but the last carry MSG_MORE, so that the kernel sends full segments.
        let more = self.offered < self.budget;
        let (outcome, is_file) = match offer {
            Offer::Memory(count) => (self.sink.write(written(&self.room, count), more), false),
            Offer::Zerocopy(count, ..) => {
                (self.sink.write_zerocopy(written(&self.room, count), more), false)
            }
            Offer::File(fd, offset) => (self.sink.send_file(fd, offset, self.offered, more), true),
        };
        // A part of a file may be sent in several calls, which say that more comes, too.
        let was_held_back = std::mem::replace(&mut self.is_held_back, more || is_file);
        if outcome.is_err() && was_held_back {
            // Nothing more comes now.
            self.sink.push();
        }
        outcome
    }

    /// Makes an offer that is not to be copied. If the sink cannot do that, the same is offered again to be copied.
    #[cold]
    #[inline(never)]
    fn send_zerocopy(&mut self, q: &impl WithLocked, count: usize, run: Run) -> Result<()> {
        // It outlives what the queue has of it, so that it is not closed under a lock.
        let acks = self.sink.acks(q.with_locked(|queue, _| queue.connection()));
        if !q.with_locked(|queue, _| queue.begin_send(acks.clone(), run.slots)) {
            self.offer = Some(Offer::Memory(count));
            return Ok(());
        }
        let outcome = uninterrupted(|| self.make(Offer::Zerocopy(count, run)));
        q.with_locked(|queue, pool| {
            if queue.end_send(outcome) {
                self.offer = Some(Offer::Memory(count));
                return Ok(());
            }
            self.account(queue, pool, outcome, |queue, taken| {
                queue.on_carried(pool, taken, run.has_messages)
            })
        })
    }

    /// Accounts for what the sink took of the offer, which `consume` removes. Only what ends the connection is an
    /// error.
    #[inline(always)]
    fn account(
        &mut self,
        queue: &mut Queue,
        pool: &Pool,
        outcome: Result<usize>,
        consume: impl FnOnce(&mut Queue, u64) -> Hints,
    ) -> Result<()> {
        let taken = taken(outcome).inspect_err(|errno| {
            self.end(queue, pool);
            queue.fail(pool, *errno);
        })?;
        self.hints |= consume(queue, taken as u64);
        self.flushed.sent += taken as u64;
        self.budget -= taken;
        if taken == self.offered {
            self.next(queue, pool);
            return Ok(());
        }
        self.flushed.short_writes += 1;
        // sendfile(2) may send less for other reasons than a full socket, so it is asked again.
        if taken > 0 && matches!(self.offer, Some(Offer::File(..))) {
            self.next(queue, pool);
            return Ok(());
        }
        self.flushed.is_blocked = outcome != Err(Errno::INTERRUPTED);
        self.end(queue, pool);
        Ok(())
    }

    fn end(&mut self, queue: &mut Queue, pool: &Pool) {
        self.offer = None;
        self.flushed.calls = self.sink.calls() - self.calls_before;
        queue.end_flush(pool, self.flushed);
        self.hints |= Hints::UNACKED.when(self.sink.knows_zerocopy());
        if queue.available() > 0 {
            self.hints |= if self.flushed.is_blocked { Hints::BLOCKED } else { Hints::MORE };
        }
    }
}

/// How many bytes the sink has taken: none if it has refused. Any other error ends the connection.
#[inline(always)]
fn taken(outcome: Result<usize>) -> Result<usize> {
    match outcome {
        Err(errno) if errno.is_refusal() => Ok(0),
        outcome => outcome,
    }
}

/// A flush. If another thread is flushing, that thread sends what is queued or gets MORE.
fn flush_unless_busy<S: Sink>(q: &impl WithLocked, sink: &mut S) -> Result<()> {
    match flush(q, sink, 0) {
        Ok(_) | Err(Errno::BUSY) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Sends what is queued and then `iovecs`, directly from their memory if nothing is queued any more. What the
/// sink refuses is appended as a copy, up to the high watermark. Returns how many bytes of `iovecs` were sent
/// or copied. `single_writer`: no other thread can append meanwhile, so that what the sink refuses comes next
/// in the stream.
///
/// AGAIN: none, because the high watermark is reached. Otherwise as for an append and a flush.
pub fn send<S: Sink>(
    q: &impl WithLocked,
    sink: &mut S,
    iovecs: IoVecs,
    single_writer: bool,
) -> Result<usize> {
    if iovecs.total() == 0 {
        return flush_unless_busy(q, sink).map(|()| 0);
    }
    let waits = q.with_locked(|queue, _| queue.admit(0).map(|()| queue.waiting() > 0))?;
    if waits {
        flush_unless_busy(q, sink)?;
    }
    if single_writer && q.with_locked(|queue, pool| queue.begin_write_through(pool, 0))? {
        let offer = iovecs.first(IOV_MAX);
        let keep = |queue: &mut Queue, pool: &Pool, taken: usize| match queue
            .append_up_to_high(pool, iovecs, taken)
        {
            Ok(kept) => Ok(taken + kept),
            Err(_) if taken > 0 => Ok(taken),
            Err(errno) => Err(errno),
        };
        return write_through(q, sink, offer.as_slice(), offer.total(), keep)
            .map(|(taken, _)| taken);
    }
    let (kept, is_first) = q.with_locked(|queue, pool| {
        let is_first = queue.available() == 0;
        queue.append_up_to_high(pool, iovecs, 0).map(|kept| (kept, is_first))
    })?;
    if is_first {
        flush_unless_busy(q, sink)?;
    }
    Ok(kept)
}

/// Flushes what is queued, and then sends a message, directly from its memory if nothing is queued any more.
/// `memory` bytes of it have to be within the cap. `fill` adds its iovecs; false: it has to be appended first.
/// `keep` appends what is behind its first bytes, which were sent.
///
/// CLOSED: the message was appended, and then the connection failed. Otherwise as for an append and a flush.
pub fn send_message<S: Sink>(
    q: &impl WithLocked,
    sink: &mut S,
    max_bytes: usize,
    memory: u64,
    fill: impl FnOnce(&mut Fill) -> bool,
    keep: impl FnOnce(&mut Queue, &Pool, usize) -> Result<Hints>,
) -> Result<Hints> {
    let (hints, budget) = flush_before(q, sink, max_bytes)?;
    let mut room: Room = [const { MaybeUninit::uninit() }; MAX_IOVECS];
    let mut offer = Fill::new(&mut room, budget);
    let may_pass = budget > 0 && fill(&mut offer) && offer.bytes > 0;
    let (count, bytes) = (offer.count, offer.bytes);
    if may_pass && q.with_locked(|queue, pool| queue.begin_write_through(pool, memory))? {
        let (kept, rest) = write_through(q, sink, written(&room, count), bytes, keep)?;
        return Ok(hints | kept.without(Hints::WAKE) | rest);
    }
    let kept = q.with_locked(|queue, pool| keep(queue, pool, 0))?.without(Hints::WAKE);
    let rest = match budget {
        0 => Ok(Hints::MORE.when(q.with_locked(|queue, _| queue.available() > 0))),
        _ if hints.any(Hints::BLOCKED) => Ok(Hints::NONE),
        _ => flush_or_more(q, sink, budget),
    };
    Ok(hints | kept | rest.unwrap_or(Hints::CLOSED))
}

/// Flushes what is queued, if anything is. Returns how many bytes may still be sent as well.
fn flush_before<S: Sink>(
    q: &impl WithLocked,
    sink: &mut S,
    max_bytes: usize,
) -> Result<(Hints, usize)> {
    let budget = if max_bytes == 0 { usize::MAX } else { max_bytes };
    let (waits, before) = q.with_locked(|queue, _| {
        queue.admit(0)?;
        Ok((queue.waiting() > 0, queue.sent()))
    })?;
    if !waits {
        return Ok((Hints::NONE, budget));
    }
    let hints = flush_or_more(q, sink, budget)?;
    let sent = q.with_locked(|queue, _| queue.sent()) - before;
    let sent = usize::try_from(sent).unwrap_or(usize::MAX);
    Ok((hints, if hints.any(Hints::MORE) { 0 } else { budget.saturating_sub(sent) }))
}

/// A flush. MORE: another thread is flushing.
fn flush_or_more<S: Sink>(q: &impl WithLocked, sink: &mut S, budget: usize) -> Result<Hints> {
    match flush(q, sink, if budget == usize::MAX { 0 } else { budget }) {
        Err(Errno::BUSY) => Ok(Hints::MORE),
        outcome => outcome,
    }
}

/// Offers `iovecs` of `bytes` bytes to the sink, past an empty queue. `keep` appends what is behind those that it
/// has taken. Returns the result of `keep`, and BLOCKED or MORE if bytes remain.
fn write_through<S: Sink, R>(
    q: &impl WithLocked,
    sink: &mut S,
    iovecs: &[IoVec],
    bytes: usize,
    keep: impl FnOnce(&mut Queue, &Pool, usize) -> Result<R>,
) -> Result<(R, Hints)> {
    let calls_before = sink.calls();
    let outcome = uninterrupted(|| sink.write(iovecs, false));
    let calls = sink.calls() - calls_before;
    q.with_locked(|queue, pool| {
        let taken = taken(outcome).inspect_err(|errno| {
            queue.end_flush(pool, Flushed { calls, ..Flushed::default() });
            queue.fail(pool, *errno);
        })?;
        let sent = taken as u64;
        queue.on_write_through(sent);
        let kept = keep(queue, pool, taken);
        let is_short = taken < bytes;
        let is_blocked = is_short && outcome != Err(Errno::INTERRUPTED);
        let short_writes = u32::from(is_short);
        let flushed = Flushed { sent, calls, short_writes, is_blocked, wants_read: false };
        queue.end_flush(pool, flushed);
        let rest = if is_blocked { Hints::BLOCKED } else { Hints::MORE };
        Ok((kept?, rest.when(queue.available() > 0)))
    })
}

/// Passes the available extents to `take`, oldest first, until that takes less than all of one. Memory is
/// passed while the queue is locked, a file while it is not. A flush has to be in progress, so that nothing
/// is consumed meanwhile. Returns how many bytes were taken, or the error of `take`.
pub(crate) fn peek_through(
    q: &impl WithLocked,
    mut take: impl FnMut(Extent) -> Result<u64>,
) -> Result<u64> {
    let (mut taken, mut seen) = (0, 0);
    loop {
        let (mut skip, mut found) = (seen, Ok(None));
        q.with_locked(|queue, _| {
            queue.each_extent(|extent| {
                if skip > 0 {
                    skip -= 1;
                    return true;
                }
                seen += 1;
                if matches!(extent, Extent::File(..)) {
                    found = Ok(Some(extent));
                    return false;
                }
                match take(extent) {
                    Ok(now) => {
                        taken += now;
                        now == extent.len()
                    }
                    Err(errno) => {
                        found = Err(errno);
                        false
                    }
                }
            });
        });
        let Some(file) = found? else { return Ok(taken) };
        let now = take(file)?;
        taken += now;
        if now < file.len() {
            return Ok(taken);
        }
    }
}
