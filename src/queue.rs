//! What waits, in order: append, reserve, cork, peek, consume.
//!
//! A queue does no I/O, has no lock and keeps no reference to its pool: whoever holds both lends
//! the pool to each call that takes or gives memory. Nor does it call anybody: who has to be told that
//! a segment is gone is told by the holder ([`Queue::next_gone`]), once the call is over.

mod extras;

use crate::chunk::{Census, Chain, Chunk, SEGMENT, Stack};
use crate::errno::{Errno, Result};
use crate::pool::Pool;
use crate::pressure::floor::Floor;
use crate::pressure::rate::Rate;
use crate::pressure::{Hints, Pressure, Watermarks};
use crate::segment::{Gone, Kind, NO_FD, Owner, Piece, Run, Segment};
use crate::tally::{Count, Tally};
use extras::{Boxed, Extras};

/// One connection's output.
///
/// Field order is by use: an append that fits touches the first 64 bytes only.
#[repr(C)]
pub struct Queue {
    /// Sealed whenever an append has to look closer: closed, failed, reserved, or nothing waits.
    /// Holds no chunk when nothing waits, nothing is reserved and nobody has to be told.
    chain: Chain,
    pressure: Pressure,
    flags: Flags,
    /// The errno that ended the connection, or 0. Then it is closed, too.
    failure: i16,
    /// Bytes that a reservation lent out, while RESERVED. They are at the front of the chunk that the
    /// chain lends, or at its write cursor: then that chunk stays until the commit, even when all that
    /// waits leaves.
    reserved: u32,
    /// Segments whose owners have not been told, and how many of those have left.
    segments: u32,
    untold: u32,
    sent: u64,
    /// When bytes last left and others stayed, or when the first of those that wait came.
    progress: u64,
    /// How long the sink was full, ever; while it is, less the time when that began.
    blocked_ns: u64,
    extras: Option<Boxed>,
    tally: Tally,
    /// The socket of the last flush, or NO_FD: for whoever asks the kernel about it.
    pub socket: i32,
}

/// So many marks are free: the memory of others counts against the cap, which they do not.
const FREE_MARKS: u32 = 64;

/// What stands against the short ways.
#[derive(Clone, Copy)]
struct Flags(u8);

impl Flags {
    /// No more appends.
    const CLOSED: u8 = 1;
    /// Memory is lent out: no appends until it is committed.
    const RESERVED: u8 = 2;
    /// Between begin_flush and end_flush: the bytes at the front may be in the kernel's hands.
    const FLUSHING: u8 = 4;
    /// The high watermark was reached, and the low one not since.
    const HIGH: u8 = 8;
    /// The last flush found the sink full, and nothing has left since.
    const BLOCKED: u8 = 16;
    /// There is a rate, a floor or a deadline.
    const PACED: u8 = 32;
    /// The end of the connection was reported.
    const REPORTED: u8 = 64;

    #[inline(always)]
    fn any(self, flags: u8) -> bool {
        self.0 & flags != 0
    }

    #[inline]
    fn set(&mut self, flag: u8, on: bool) {
        self.0 = if on { self.0 | flag } else { self.0 & !flag };
    }
}

/// How a connection ended that had something to lose: for the log.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// What ended it, or None: the host gave up what was blocked.
    pub failure: Option<Errno>,
    /// Bytes that were dropped, ever, or are about to be.
    pub lost: u64,
    /// Bytes that left, ever.
    pub sent: u64,
    /// For how long none had left.
    pub stalled: u64,
}

impl Queue {
    /// An empty queue. It holds no memory of any pool.
    ///
    /// NO_MEMORY: a low watermark of its own has no room.
    pub fn new(marks: Watermarks) -> Result<Queue> {
        let mut queue = Queue {
            chain: Chain::new(),
            pressure: Pressure::new(marks),
            flags: Flags(0),
            failure: 0,
            reserved: 0,
            segments: 0,
            untold: 0,
            sent: 0,
            progress: 0,
            blocked_ns: 0,
            extras: None,
            tally: Tally::default(),
            socket: NO_FD,
        };
        queue.set_low(marks)?;
        Ok(queue)
    }

    /// Bytes that wait.
    #[inline]
    pub fn waiting(&self) -> u64 {
        self.pressure.waiting()
    }

    /// Bytes that wait and may leave: what is corked may not.
    #[inline]
    pub fn available(&self) -> u64 {
        if self.chain.is_corked() { self.chain.visible() } else { self.waiting() }
    }

    /// Bytes that left, ever.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// What is counted.
    pub fn count(&self, count: Count) -> u64 {
        let counted = self.tally.get(count, self.carried());
        if count == Count::Peak { counted.max(self.waiting()) } else { counted }
    }

    /// What it holds, by walking through all of it.
    pub fn census(&self) -> Census {
        self.chain.census()
    }

    /// The memory that would be free if this queue were not: its own, what it borrows, and its part of the
    /// payloads that it shares with other `holders`.
    pub fn weight(&self, holders: impl FnMut(&Owner) -> u64) -> u64 {
        self.chain.census_of(holders).held()
    }

    /// When bytes last left and others stayed, or when bytes last began to wait.
    pub fn progress(&self) -> u64 {
        self.progress
    }

    /// The sink was full when it was last asked, and nothing has left since.
    pub fn is_blocked(&self) -> bool {
        self.flags.any(Flags::BLOCKED)
    }

    /// How long the sink was full, ever.
    pub fn blocked_ns(&self, now: u64) -> u64 {
        if self.is_blocked() { self.blocked_ns.wrapping_add(now) } else { self.blocked_ns }
    }

    /// How long none of what waits has left, or, below a floor, how long it has been too slow.
    pub fn stalled_ns(&self, now: u64) -> u64 {
        // What is only held back, nobody could take.
        if self.available() == 0 {
            return 0;
        }
        let floor = self.extra().and_then(|extras| extras.floor);
        let slow = floor.and_then(|floor| floor.slow_for(now, self.sent));
        slow.unwrap_or(0).max(now.saturating_sub(self.progress))
    }

    /// How long until a flush does something though the sink stays as it is: until the rate lets go
    /// of bytes, or the deadline is over. 0: it does something now, or there is no such time. A deadline is
    /// never 0, also when it is over: whoever waits for the sink would take it for none.
    pub fn retry_after_ns(&self, now: u64) -> u64 {
        let Some(extras) = self.extra().filter(|_| self.waiting() > 0) else {
            return 0;
        };
        let left = extras.deadline.map(|deadline| deadline.saturating_sub(now).max(1));
        let available = self.available();
        let held_back = match extras.rate {
            Some(rate) if available > 0 && !self.is_blocked() => Some(rate.wait(available, now)),
            _ => None,
        };
        [left, held_back].into_iter().flatten().min().unwrap_or(0)
    }

    /// What ended the connection, if anything did.
    pub fn failure(&self) -> Option<Errno> {
        (self.failure != 0).then(|| Errno::new(i32::from(self.failure)))
    }

    /// Copies `bytes` behind what waits: all of them or none.
    ///
    /// PIPE: closed. BUSY: memory is reserved. NO_BUFFERS: over the cap or the pool's budget.
    /// NO_MEMORY. A failed queue gives the error that ended it.
    pub fn append(&mut self, pool: &Pool, bytes: &[u8]) -> Result<Hints> {
        if self.fits(bytes.len()) {
            self.append_fitting(bytes);
            return Ok(Hints::NONE);
        }
        if self.start_at_once(pool, bytes.len()) {
            self.append_fitting(bytes);
            return Ok(Hints::WAKE);
        }
        self.append_parts(pool, bytes.len(), std::iter::once(bytes))
    }

    /// The common case of an append: `len` bytes fit behind others that wait, and there will be
    /// nothing to tell the host.
    #[inline(always)]
    pub fn fits(&self, len: usize) -> bool {
        // No bytes go the long way, as does everything while the chain is sealed. Room in an open chain
        // means that something waits.
        len != 0 && len <= self.chain.room() && self.pressure.stays_low(len as u64)
    }

    /// The other common case: nothing waits, `len` bytes fit one chunk, and a warm one is at hand,
    /// which is taken. What there is to tell is WAKE. false: nothing happened, look closer.
    #[inline(always)]
    pub fn start_at_once(&mut self, pool: &Pool, len: usize) -> bool {
        let idle = self.chain.is_empty() && self.is_plain();
        let fits = len != 0 && len <= pool.chunk_capacity() && self.pressure.stays_low(len as u64);
        if !idle || !fits {
            return false;
        }
        match pool.take_at_once() {
            Some(chunk) => self.chain.start(chunk),
            None => return false,
        }
        self.progress = pool.now();
        true
    }

    /// Nothing stands against an append, or changes what it has to tell.
    #[inline(always)]
    fn is_plain(&self) -> bool {
        let in_the_way = Flags::CLOSED | Flags::RESERVED | Flags::PACED;
        !self.flags.any(in_the_way) && !self.chain.is_corked()
    }

    /// Copies `bytes`, for which [`Queue::fits`] or [`Queue::start_at_once`] said yes.
    #[inline(always)]
    pub fn append_fitting(&mut self, bytes: &[u8]) {
        self.pressure.rise(bytes.len() as u64);
        self.chain.write(bytes);
    }

    /// Copies `parts`, `total` bytes together, as one append. Errors as for [`Queue::append`].
    #[inline(never)]
    pub fn append_parts<'a>(
        &mut self,
        pool: &Pool,
        total: usize,
        parts: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Hints> {
        if total == 0 {
            return self.refusal().map_or(Ok(Hints::NONE), Err);
        }
        self.admit(total as u64)?;
        let mut spare = match total.saturating_sub(self.chain.room()) {
            0 => Stack::new(),
            lacking => pool.take_many(lacking)?,
        };
        for part in parts {
            self.write(part, &mut spare);
        }
        Ok(self.rise(pool, total as u64))
    }

    /// Puts `segment` behind what waits. It becomes the queue's to tell, unless this fails. Errors as
    /// for [`Queue::append`].
    #[inline]
    pub fn append_segment(&mut self, pool: &Pool, segment: Segment) -> Result<Hints> {
        self.admit(segment.len())?;
        if segment.len() == 0 && self.has_many_marks() {
            return Err(Errno::NO_BUFFERS);
        }
        let chunk = if self.chain.room() < SEGMENT { Some(pool.take()?) } else { None };
        if let Err(errno) = pool.pin(segment.pins()) {
            chunk.into_iter().for_each(|chunk| pool.give(chunk));
            return Err(errno);
        }
        chunk.into_iter().for_each(|chunk| self.chain.push(chunk));
        self.insert(segment);
        if segment.len() > 0 {
            return Ok(self.rise(pool, segment.len()));
        }
        self.pass_marks(pool);
        Ok(Hints::NONE)
    }

    /// The common case of [`Queue::append_segment`], in a few instructions: others wait, there is room
    /// behind them, and nothing to tell the host. false: nothing happened.
    #[inline(always)]
    pub fn append_segment_at_once(&mut self, pool: &Pool, segment: Segment) -> bool {
        let (len, count) = (segment.len(), Queue::count_of(segment.kind()));
        if self.chain.room() < SEGMENT || !self.pressure.stays_low(len) || len == 0 {
            return false;
        }
        if !pool.pin_at_once(segment.pins()) {
            return false;
        }
        if !self.tally.add_low(count, len) {
            pool.unpin(segment.pins());
            return false;
        }
        self.chain.insert(segment);
        self.segments += 1;
        self.pressure.rise(len);
        true
    }

    /// The other common case: nothing waits, and a warm chunk is at hand. What there is to tell is WAKE.
    /// false: nothing happened.
    #[inline(always)]
    pub fn start_with_segment_at_once(&mut self, pool: &Pool, segment: Segment) -> bool {
        if !self.chain.is_empty() || !self.is_plain() {
            return false;
        }
        match pool.take_at_once() {
            Some(chunk) => self.chain.start(chunk),
            None => return false,
        }
        if !self.append_segment_at_once(pool, segment) {
            self.chain.seal();
            self.give_all(pool);
            return false;
        }
        self.progress = pool.now();
        true
    }

    fn count_of(kind: Kind) -> Count {
        match kind {
            Kind::Borrowed => Count::Borrowed,
            Kind::Shared => Count::Shared,
            Kind::File => Count::File,
        }
    }

    /// Segments take more memory than may wait here. A few always may.
    fn has_many_marks(&self) -> bool {
        let bytes = u64::from(self.segments) * SEGMENT as u64;
        self.segments >= FREE_MARKS && !self.pressure.admits_in_all(bytes)
    }

    /// Writes `segment` behind what waits: there is room for it.
    #[inline(always)]
    fn insert(&mut self, segment: Segment) {
        self.chain.insert(segment);
        self.segments += 1;
        self.tell_apart(segment.kind(), segment.len());
    }

    /// `len` bytes came that are not copied.
    #[inline(always)]
    fn tell_apart(&mut self, kind: Kind, len: u64) {
        self.add(Queue::count_of(kind), len);
    }

    #[inline(always)]
    fn add(&mut self, count: Count, n: u64) {
        match self.tally.add(count, n) {
            0 => {}
            carry => self.carry(count, carry),
        }
    }

    #[cold]
    #[inline(never)]
    fn carry(&mut self, count: Count, carry: u32) {
        match self.extras() {
            Ok(extras) => extras.carried.add(count, carry),
            Err(_) => self.tally.saturate(count),
        }
    }

    /// What few queues have. NO_MEMORY.
    fn extras(&mut self) -> Result<&mut Extras> {
        if self.extras.is_none() {
            self.extras = Some(Extras::boxed()?);
        }
        Ok(self.extra_mut().expect("it was made"))
    }

    #[inline]
    fn extra(&self) -> Option<&Extras> {
        self.extras.as_ref().map(|extras| &extras[0])
    }

    #[inline]
    fn extra_mut(&mut self) -> Option<&mut Extras> {
        self.extras.as_mut().map(|extras| &mut extras[0])
    }

    /// `len > 0` bytes came: WAKE when they are the first, HIGH at or over the mark.
    #[inline]
    fn rise(&mut self, pool: &Pool, len: u64) -> Hints {
        let is_first = self.waiting() == 0;
        self.pressure.rise(len);
        if is_first {
            self.start_waiting(pool);
        }
        let high = self.pressure.is_high();
        if high {
            self.flags.set(Flags::HIGH, true);
        }
        Hints::WAKE.when(is_first && !self.chain.is_corked()) | Hints::HIGH.when(high)
    }

    /// The time that nothing leaves counts from now on.
    #[inline]
    fn start_waiting(&mut self, pool: &Pool) {
        self.progress = pool.now();
        let (progress, sent) = (self.progress, self.sent);
        if self.flags.any(Flags::PACED)
            && let Some(floor) = self.extra_mut().and_then(|extras| extras.floor.as_mut())
        {
            floor.start(progress, sent);
        }
    }

    /// `len` bytes are gone: RESUME when this ends a time of being high.
    #[inline]
    fn fall(&mut self, len: u64) -> Hints {
        self.note_peak();
        self.pressure.fall(len);
        self.resume()
    }

    /// RESUME when what waits is down to low after a time of being high.
    #[inline]
    fn resume(&mut self) -> Hints {
        if !self.flags.any(Flags::HIGH) || self.waiting() > self.low() {
            return Hints::NONE;
        }
        self.flags.set(Flags::HIGH, false);
        Hints::RESUME
    }

    fn low(&self) -> u64 {
        let own = self.extra().and_then(|extras| extras.low);
        own.unwrap_or(self.pressure.usual_low())
    }

    /// What waits is about to become less: was it more than ever?
    #[inline(always)]
    fn note_peak(&mut self) {
        if !self.tally.reaches(Count::Peak, self.waiting()) {
            self.raise_peak();
        }
    }

    #[cold]
    #[inline(never)]
    fn raise_peak(&mut self) {
        let more = self.waiting().saturating_sub(self.tally.get(Count::Peak, self.carried()));
        self.add(Count::Peak, more);
    }

    fn carried(&self) -> Option<&crate::tally::Carried> {
        self.extra().map(|extras| &extras.carried)
    }

    /// Marks that nothing waits before have left.
    fn pass_marks(&mut self, pool: &Pool) {
        if self.available() == 0 {
            self.untold += self.chain.advance(0, 0, |chunk| pool.give(chunk));
        }
        if self.waiting() == 0 {
            self.chain.seal();
        }
    }

    /// Writes `part` into the tail's room, and on into chunks of `spare`: there is enough of both.
    fn write(&mut self, mut part: &[u8], spare: &mut Stack) {
        loop {
            let (now, later) = part.split_at(part.len().min(self.chain.room()));
            self.chain.write(now);
            if later.is_empty() {
                return;
            }
            part = later;
            self.chain.push(spare.pop().expect("the append took chunks for all of it"));
        }
    }

    /// Lends `len` contiguous bytes to write into, until the next commit. What is written there
    /// waits once it is committed. Errors as for [`Queue::append`]; INVALID: `len` is 0.
    pub fn reserve(&mut self, pool: &Pool, len: usize) -> Result<*mut u8> {
        self.admit(len as u64)?;
        if len == 0 {
            return Err(Errno::INVALID);
        }
        let reserved = u32::try_from(len).map_err(|_| Errno::NO_MEMORY)?;
        let memory = if len <= self.chain.room() {
            self.chain.spare()
        } else {
            let chunk = pool.take_contiguous(len)?;
            self.chain.lend(chunk)
        };
        self.chain.seal();
        self.flags.set(Flags::RESERVED, true);
        self.reserved = reserved;
        Ok(memory)
    }

    /// The first `used` reserved bytes wait from now on; the reservation ends.
    ///
    /// INVALID: nothing is reserved, or less than `used`; the reservation stays. A closed or failed
    /// queue gives its error, and the reservation ends.
    pub fn commit(&mut self, pool: &Pool, used: usize) -> Result<Hints> {
        let refusal = self.refusal();
        let is_reserved = self.flags.any(Flags::RESERVED);
        if refusal.is_none() && (!is_reserved || used > self.reserved as usize) {
            return Err(Errno::INVALID);
        }
        self.flags.set(Flags::RESERVED, false);
        let lent = self.chain.take_lent();
        let used = if refusal.is_none() { used } else { 0 };
        if !self.flags.any(Flags::CLOSED) {
            self.chain.unseal();
        }
        match lent {
            // Little in a chunk of its own would make many small commits hold much memory.
            Some(chunk) if used <= self.chain.room().min(chunk.capacity() / 8) => {
                self.chain.write(chunk.front(used));
                pool.give(chunk);
            }
            Some(chunk) => {
                self.chain.push(chunk);
                self.chain.extend(used);
            }
            None if used > 0 => self.chain.extend(used),
            None => (),
        }
        let hints = if used > 0 { self.rise(pool, used as u64) } else { Hints::NONE };
        self.settle(pool);
        refusal.map_or(Ok(hints), Err)
    }

    /// What waits and may leave, oldest first. It stays where it is until it leaves.
    #[inline]
    pub fn runs(&self) -> impl Iterator<Item = Run> {
        self.chain.runs()
    }

    /// The part of [`Queue::runs`] before the first file: what has an address.
    #[inline]
    pub fn pieces(&self) -> impl Iterator<Item = Piece> {
        self.runs().map_while(|run| match run {
            Run::Memory(piece) => Some(piece),
            Run::File(..) => None,
        })
    }

    /// The host sent the first `len` bytes by its own means.
    ///
    /// INVALID: fewer wait; nothing is consumed. BUSY: a flush is under way. A failed queue gives
    /// its error.
    #[inline]
    pub fn consume(&mut self, pool: &Pool, len: u64) -> Result<Hints> {
        if self.flags.any(Flags::FLUSHING) {
            return Err(Errno::BUSY);
        }
        if let Some(errno) = self.failure() {
            return Err(errno);
        }
        if len > self.available() {
            return Err(Errno::INVALID);
        }
        let hints = self.leave(pool, len);
        self.meet_deadline(pool)?;
        Ok(hints)
    }

    /// The common case of a consume, in a few instructions: all that waits leaves, it was copied and is
    /// in one chunk, and there will be no hint. false: nothing happened.
    #[inline(always)]
    pub fn consume_at_once(&mut self, pool: &Pool, len: u64) -> bool {
        if self.segments > 0 || !self.leaves_at_once(len) {
            return false;
        }
        let Some(chunk) = self.chain.pop_only() else { return false };
        self.sent += len;
        self.pressure.fall(len);
        pool.give_at_once(chunk);
        true
    }

    /// The same with segments among it. None: nothing happened. Otherwise the segment that has left, if
    /// there was one alone, or else [`Queue::has_gone`] tells whether there were more.
    #[inline(always)]
    pub fn consume_segments_at_once(&mut self, pool: &Pool, len: u64) -> Option<Option<Gone>> {
        if self.segments == 0 || !self.leaves_at_once(len) || self.untold > 0 {
            return None;
        }
        let mut gone = None;
        if self.segments > 1 {
            self.chain.pass_only().then_some(())?;
            self.untold = self.segments;
        } else {
            let chunk = self.chain.pop_only()?;
            gone = chunk.last_segment();
            self.segments = 0;
            pool.unpin(gone.as_ref().map_or(0, Gone::unpins));
            pool.give_at_once(chunk);
        }
        self.sent += len;
        self.pressure.fall(len);
        Some(gone)
    }

    /// Nothing but counting is to be done when `len` bytes leave, and that is all that waits.
    #[inline(always)]
    fn leaves_at_once(&self, len: u64) -> bool {
        let in_the_way =
            Flags::FLUSHING | Flags::RESERVED | Flags::HIGH | Flags::BLOCKED | Flags::PACED;
        len == self.waiting()
            && !self.flags.any(in_the_way)
            && !self.chain.is_corked()
            && self.tally.reaches(Count::Peak, len)
    }

    /// The common case of [`Queue::begin_flush`], in a few instructions: what waits was copied and is in
    /// one chunk, which may leave whole. None: nothing happened, look closer.
    #[inline(always)]
    pub fn begin_flush_at_once(&mut self, max_bytes: usize) -> Option<Piece> {
        let in_the_way = Flags::FLUSHING | Flags::PACED | Flags::BLOCKED;
        if self.segments > 0 || self.flags.any(in_the_way) || self.chain.is_corked() {
            return None;
        }
        let piece = self.chain.only_piece()?;
        if max_bytes != 0 && piece.len() > max_bytes {
            return None;
        }
        self.flags.set(Flags::FLUSHING, true);
        Some(piece)
    }

    /// The common case of the end: the `len` bytes of that piece have left by so many calls, and nothing
    /// came meanwhile. false: nothing happened.
    #[inline(always)]
    pub fn end_flush_at_once(&mut self, pool: &Pool, len: u64, calls: u32) -> bool {
        self.flags.set(Flags::FLUSHING, false);
        if !self.consume_at_once(pool, len) {
            self.flags.set(Flags::FLUSHING, true);
            return false;
        }
        self.add(Count::Flushes, 1);
        self.add(Count::Calls, u64::from(calls));
        true
    }

    /// As much waits as the high watermark, or more.
    pub fn is_high(&self) -> bool {
        self.pressure.is_high()
    }

    /// The common case of [`Queue::begin_direct`]: nothing waits or is in the way, and the pool has warm
    /// chunks for all. false: nothing happened, look closer.
    #[inline(always)]
    pub fn begin_direct_at_once(&mut self, pool: &Pool, total: u64) -> bool {
        let in_the_way = Flags::FLUSHING | Flags::HIGH | Flags::BLOCKED;
        let is_free = self.chain.is_empty() && self.is_plain() && !self.flags.any(in_the_way);
        if !is_free || total == 0 || !self.pressure.stays_low(total) || !pool.keeps(total) {
            return false;
        }
        self.flags.set(Flags::FLUSHING, true);
        true
    }

    /// The common case of the end: all of them have left by so many calls.
    #[inline(always)]
    pub fn end_direct_at_once(&mut self, total: u64, calls: u32) {
        self.flags.set(Flags::FLUSHING, false);
        self.sent += total;
        self.add(Count::Flushes, 1);
        self.add(Count::Calls, u64::from(calls));
    }

    /// Starts sending `total` bytes past the queue, as a flush, if nothing waits or holds them back. They
    /// will have room here if the sink refuses them: in the chunks that are returned, or in warm ones of
    /// the pool, where nobody else takes them meanwhile.
    ///
    /// Errors as for an append; BUSY also while a flush is under way.
    pub fn begin_direct(&mut self, pool: &Pool, total: u64) -> Result<Option<Stack>> {
        self.admit(total)?;
        if self.flags.any(Flags::FLUSHING) {
            return Err(Errno::BUSY);
        }
        let is_free = self.chain.is_empty() && !self.flags.any(Flags::PACED);
        if !is_free || self.chain.is_corked() {
            return Ok(None);
        }
        let spare = if pool.keeps(total) { Stack::new() } else { pool.take_many(total as usize)? };
        self.flags.set(Flags::FLUSHING, true);
        Ok(Some(spare))
    }

    /// `taken` of those bytes have left; the `rest`, of `len` bytes, waits.
    pub fn end_direct<'a>(
        &mut self,
        pool: &Pool,
        spare: Stack,
        taken: usize,
        len: usize,
        rest: impl Iterator<Item = &'a [u8]>,
    ) {
        self.sent += taken as u64;
        let had_to_take = len > 0 && spare.is_empty();
        let spare = if had_to_take { pool.take_many(len) } else { Ok(spare) };
        let mut spare = spare.expect("the pool keeps as much");
        for part in rest {
            self.write(part, &mut spare);
        }
        pool.give_all(spare);
        if len > 0 {
            self.rise(pool, len as u64);
            self.settle(pool);
        }
    }

    /// Starts a flush, and says how much of what waits it may send.
    ///
    /// BUSY: one is under way. TIMED_OUT: the deadline was over; everything is dropped. A failed queue
    /// gives its error.
    #[inline]
    pub fn begin_flush(&mut self, pool: &Pool) -> Result<u64> {
        if let Some(errno) = self.failure() {
            return Err(errno);
        }
        if self.flags.any(Flags::FLUSHING | Flags::PACED) {
            if self.flags.any(Flags::FLUSHING) {
                return Err(Errno::BUSY);
            }
            self.meet_deadline(pool)?;
        }
        self.flags.set(Flags::FLUSHING, true);
        let available = self.available();
        if self.flags.any(Flags::PACED)
            && let Some(rate) = self.extra_mut().and_then(|extras| extras.rate.as_mut())
        {
            return Ok(available.min(rate.allows(pool.now())));
        }
        Ok(available)
    }

    /// A flush is under way.
    pub fn is_flushing(&self) -> bool {
        self.flags.any(Flags::FLUSHING)
    }

    /// There is room to note what a sink refused. NO_MEMORY.
    pub fn may_refuse(&mut self) -> Result<()> {
        self.extras().map(drop)
    }

    /// The sink, of which [`Queue::end_flush`] said that it is full, has refused the first `len` bytes, and
    /// wants to be offered the same again.
    pub fn refused(&mut self, len: usize) {
        self.extra_mut().into_iter().for_each(|extras| extras.refused = len);
    }

    /// How many bytes were refused last, if they were; they are contiguous.
    pub fn last_refused(&self) -> usize {
        self.extra().map_or(0, |extras| extras.refused)
    }

    /// The first `len` bytes are in `chunk` now: their owners can be told. Returns where they are.
    pub fn replace_front(&mut self, pool: &Pool, chunk: Chunk, len: usize) -> Piece {
        self.untold += self.chain.advance(len as u64, 0, |chunk| pool.give(chunk));
        self.chain.prepend(chunk, len)
    }

    /// Ends the flush that [`Queue::begin_flush`] started, which called the sink so often; so many of
    /// the calls took less than they were offered. `blocked`: the last of them, and bytes remain.
    #[inline]
    pub fn end_flush(&mut self, pool: &Pool, calls: u32, shorts: u32, blocked: bool) {
        self.flags.set(Flags::FLUSHING, false);
        if calls > 0 {
            self.add(Count::Flushes, 1);
            self.add(Count::Calls, u64::from(calls));
            self.add(Count::Shorts, u64::from(shorts));
        }
        if blocked && !self.is_blocked() {
            self.flags.set(Flags::BLOCKED, true);
            self.blocked_ns = self.blocked_ns.wrapping_sub(pool.now());
            self.add(Count::Blocked, 1);
        }
    }

    /// The first `len` bytes have left; at least as many may.
    #[inline]
    pub fn leave(&mut self, pool: &Pool, len: u64) -> Hints {
        self.sent += len;
        let hints = self.drop_front(pool, len, None);
        if len > 0 && (self.waiting() > 0 || self.flags.any(Flags::BLOCKED | Flags::PACED)) {
            self.note_progress(pool, len);
        }
        hints
    }

    /// `len > 0` bytes have left.
    fn note_progress(&mut self, pool: &Pool, len: u64) {
        let now = pool.now();
        self.progress = now;
        self.unblock(now);
        let sent = self.sent;
        if let Some(extras) = self.extra_mut() {
            extras.rate.as_mut().into_iter().for_each(|rate| rate.spend(len, now));
            extras.floor.as_mut().into_iter().for_each(|floor| floor.progress(now, sent, len));
        }
    }

    /// The sink is no longer full, or it matters no longer.
    fn unblock(&mut self, now: u64) {
        if self.is_blocked() {
            self.blocked_ns = self.blocked_ns(now);
            self.flags.set(Flags::BLOCKED, false);
            self.extra_mut().into_iter().for_each(|extras| extras.refused = 0);
        }
    }

    /// Drops all that waits, corked or not. BUSY: a flush is under way. RESUME as for a flush.
    pub fn discard(&mut self, pool: &Pool) -> Result<Hints> {
        if self.flags.any(Flags::FLUSHING) {
            return Err(Errno::BUSY);
        }
        Ok(self.drop_all(pool, Errno::CANCELED))
    }

    /// No more appends; what waits still leaves.
    pub fn close(&mut self) {
        self.flags.set(Flags::CLOSED, true);
        self.chain.seal();
    }

    /// No more appends; what has not left in `timeout` nanoseconds is dropped.
    ///
    /// TIMED_OUT: that was now. BUSY: a flush is under way. NO_MEMORY: nothing happened.
    pub fn close_within(&mut self, pool: &Pool, timeout: u64) -> Result<()> {
        if self.failure != 0 || self.waiting() == 0 {
            self.close();
            return Ok(());
        }
        if self.flags.any(Flags::FLUSHING) {
            return Err(Errno::BUSY);
        }
        self.extras()?.deadline = Some(pool.now().saturating_add(timeout));
        self.flags.set(Flags::PACED, true);
        self.close();
        self.meet_deadline(pool)
    }

    /// TIMED_OUT: bytes wait, and the deadline is over. The connection has failed with it.
    #[inline]
    fn meet_deadline(&mut self, pool: &Pool) -> Result<()> {
        let deadline = self.extra().and_then(|extras| extras.deadline);
        if self.waiting() == 0 || deadline.is_none_or(|deadline| pool.now() < deadline) {
            return Ok(());
        }
        self.fail(pool, Errno::TIMED_OUT);
        Err(Errno::TIMED_OUT)
    }

    /// The connection ended with `errno`: nothing is kept, and the error stays.
    #[cold]
    pub fn fail(&mut self, pool: &Pool, errno: Errno) {
        self.failure = errno.number();
        self.flags.set(Flags::CLOSED, true);
        self.drop_all(pool, errno);
    }

    /// Drops everything, reserved memory too. For the end of the queue.
    pub fn clear(&mut self, pool: &Pool) {
        self.flags.set(Flags::RESERVED | Flags::FLUSHING, false);
        if let Some(chunk) = self.chain.take_lent() {
            pool.give(chunk);
        }
        self.flags.set(Flags::CLOSED, true);
        self.drop_all(pool, Errno::CANCELED);
    }

    /// What there is to say of the end of this connection, once, if it has failed.
    #[cold]
    pub fn report_failure(&mut self, pool: &Pool) -> Option<Report> {
        let failure = self.failure()?;
        if self.flags.any(Flags::REPORTED) {
            return None;
        }
        self.flags.set(Flags::REPORTED, true);
        Some(self.report(pool, Some(failure), self.count(Count::Discarded)))
    }

    /// What there is to say when the host is about to give up what waits: nothing, unless the sink was
    /// full.
    pub fn report_giving_up(&mut self, pool: &Pool) -> Option<Report> {
        self.is_blocked().then(|| {
            let lost = self.count(Count::Discarded) + self.waiting();
            self.report(pool, None, lost)
        })
    }

    fn report(&self, pool: &Pool, failure: Option<Errno>, lost: u64) -> Report {
        let stalled = pool.now().saturating_sub(self.progress);
        Report { failure, lost, sent: self.sent, stalled }
    }

    /// A segment that has left, and whose owner does not know yet: now is the time. The memory that
    /// only waited for that is given back before.
    #[inline(always)]
    pub fn next_gone(&mut self, pool: &Pool) -> Option<Gone> {
        if self.untold == 0 {
            return None;
        }
        let gone = self.chain.next_gone(|chunk| pool.give(chunk));
        pool.unpin(gone.as_ref().map_or(0, Gone::unpins));
        self.untold -= 1;
        self.segments -= 1;
        if self.untold == 0 {
            if self.is_idle() {
                self.give_all(pool);
            } else {
                self.give_passed(pool);
            }
        }
        gone
    }

    /// The same, if it is the only one.
    #[inline]
    pub fn only_gone(&mut self, pool: &Pool) -> Option<Gone> {
        if self.untold == 1 { self.next_gone(pool) } else { None }
    }

    #[inline(never)]
    fn give_passed(&mut self, pool: &Pool) {
        self.chain.give_passed(|chunk| pool.give(chunk));
    }

    /// Owners have to be told.
    #[inline]
    pub fn has_gone(&self) -> bool {
        self.untold > 0
    }

    /// Holds back what is appended from here on.
    ///
    /// ALREADY: it is corked. Errors as for [`Queue::append`].
    pub fn cork(&mut self) -> Result<()> {
        self.admit(0)?;
        if self.chain.is_corked() {
            return Err(Errno::ALREADY);
        }
        self.chain.cork(self.waiting());
        Ok(())
    }

    /// Lets go what was held back. WAKE: that made something available.
    ///
    /// INVALID: not corked. BUSY: memory is reserved. A failed queue gives its error.
    pub fn uncork(&mut self, pool: &Pool) -> Result<Hints> {
        let idle = self.chain.visible() == 0;
        let held = self.take_held()?;
        if let Some(copied) = self.chain.absorb(held) {
            pool.give(copied);
        }
        if idle {
            self.untold += self.chain.advance(0, 0, |chunk| pool.give(chunk));
            // Until now nobody could take it.
            self.start_waiting(pool);
        }
        self.settle(pool);
        Ok(if idle && self.waiting() > 0 { Hints::WAKE } else { Hints::NONE })
    }

    /// Takes back what was held back, as if it had never been appended: its chunks come to the
    /// caller, who has to tell the owners and give the memory back. Errors as for
    /// [`Queue::uncork`]. RESUME as for a flush.
    pub fn rollback(&mut self, pool: &Pool) -> Result<(Hints, Chain)> {
        let len = self.waiting() - self.available();
        let mut held = self.take_held()?;
        let before = held.untold();
        let gone = held.advance(len, Errno::CANCELED.negated(), |chunk| pool.give(chunk));
        self.segments -= before + gone;
        self.untold -= before;
        self.add(Count::Discarded, len);
        let hints = self.fall(len);
        self.settle(pool);
        Ok((hints, held))
    }

    /// Ends the cork and takes out what it held back.
    fn take_held(&mut self) -> Result<Chain> {
        if let Some(errno) = self.failure() {
            return Err(errno);
        }
        if !self.chain.is_corked() {
            return Err(Errno::INVALID);
        }
        if self.flags.any(Flags::RESERVED) {
            return Err(Errno::BUSY);
        }
        Ok(self.chain.uncork())
    }

    /// Moves all of `from` behind what waits here: nothing is copied, but for a little. All of it or
    /// nothing. It counts as having left `from`.
    ///
    /// BUSY: either has memory reserved, or `from` is corked, is being flushed, or has owners to be
    /// told. Otherwise as for [`Queue::append`]; a `from` that has failed gives its error.
    pub fn splice(&mut self, pool: &Pool, from: &mut Queue, from_pool: &Pool) -> Result<Hints> {
        if let Some(errno) = from.failure() {
            return Err(errno);
        }
        let is_busy = from.flags.any(Flags::FLUSHING | Flags::RESERVED);
        if is_busy || from.chain.is_corked() || from.untold > 0 {
            return Err(Errno::BUSY);
        }
        let len = from.waiting();
        self.admit(len)?;
        if len == 0 {
            return Ok(Hints::NONE);
        }
        let census = from.chain.census();
        pool.adopt(from_pool, census.allocated as usize, census.borrowed as usize)?;
        if let Some(copied) = self.chain.absorb(std::mem::take(&mut from.chain)) {
            pool.give(copied);
        }
        self.segments += std::mem::take(&mut from.segments);
        for kind in [Kind::Borrowed, Kind::Shared, Kind::File] {
            self.tell_apart(kind, census.waiting[kind as usize]);
        }
        from.sent += len;
        from.note_peak();
        from.pressure.fall(len);
        from.resume();
        if from.is_blocked() {
            from.unblock(from_pool.now());
        }
        let hints = self.rise(pool, len);
        self.settle(pool);
        Ok(hints)
    }

    /// Other watermarks from now on. What waits stays, also above a new cap.
    /// HIGH at or over the new mark, else RESUME when the new low mark ends a time of being high.
    ///
    /// NO_MEMORY: a low watermark of its own has no room; nothing changed.
    pub fn set_watermarks(&mut self, marks: Watermarks) -> Result<Hints> {
        self.set_low(marks)?;
        self.pressure.set_watermarks(marks);
        if !self.pressure.is_high() {
            return Ok(self.resume());
        }
        // Where low is high, both would be true. Who pauses last would hear of no RESUME any more.
        self.flags.set(Flags::HIGH, true);
        Ok(Hints::HIGH)
    }

    fn set_low(&mut self, marks: Watermarks) -> Result<()> {
        match marks.own_low() {
            Some(low) => self.extras()?.low = Some(low),
            None => self.extra_mut().into_iter().for_each(|extras| extras.low = None),
        }
        Ok(())
    }

    /// No faster than `per_second` from now on; 0: as fast as the sink. NO_MEMORY.
    pub fn set_rate(&mut self, pool: &Pool, per_second: u64, burst: u64) -> Result<()> {
        self.pace(|extras| {
            let now = pool.now();
            match &mut extras.rate {
                _ if per_second == 0 => extras.rate = None,
                Some(rate) => rate.change(per_second, burst, now),
                none => *none = Some(Rate::new(per_second, burst, now)),
            }
        })
    }

    /// Slower than `per_second` over `window` nanoseconds counts as stalled; 0: nothing does.
    /// NO_MEMORY.
    pub fn set_min_rate(&mut self, pool: &Pool, per_second: u64, window: u64) -> Result<()> {
        let (now, sent) = (pool.now(), self.sent);
        self.pace(|extras| {
            extras.floor = (per_second > 0).then(|| Floor::new(per_second, window, now, sent));
        })
    }

    fn pace(&mut self, set: impl FnOnce(&mut Extras)) -> Result<()> {
        let extras = self.extras()?;
        set(extras);
        let is_paced = extras.is_paced();
        self.flags.set(Flags::PACED, is_paced);
        Ok(())
    }

    fn drop_all(&mut self, pool: &Pool, errno: Errno) -> Hints {
        let waiting = self.waiting();
        self.add(Count::Discarded, waiting);
        let corked = self.chain.is_corked();
        self.chain.reveal();
        let hints = self.drop_front(pool, waiting, Some(errno));
        if self.is_blocked() {
            self.unblock(pool.now());
        }
        if corked {
            if self.flags.any(Flags::RESERVED) && !self.chain.lends() {
                self.chain.cork_before_tail();
            } else {
                self.chain.cork(0);
            }
        }
        hints
    }

    /// The first `len` bytes are gone: sent, or dropped because of `errno`.
    #[inline]
    fn drop_front(&mut self, pool: &Pool, len: u64, errno: Option<Errno>) -> Hints {
        let hints = self.fall(len);
        self.chain.show_less(len);
        if !self.is_idle() {
            let reason = errno.map_or(0, Errno::negated);
            self.untold += self.chain.advance(len, reason, |chunk| pool.give(chunk));
        }
        self.settle(pool);
        hints
    }

    /// Nothing needs the chunks any more.
    #[inline(always)]
    fn is_idle(&self) -> bool {
        self.waiting() == 0 && self.segments == 0 && !self.flags.any(Flags::RESERVED)
    }

    /// Restores what the fields promise after the chain has changed.
    #[inline]
    fn settle(&mut self, pool: &Pool) {
        if self.waiting() > 0 && !self.flags.any(Flags::CLOSED | Flags::RESERVED) {
            self.chain.unseal();
        } else {
            self.chain.seal();
            self.give_idle(pool);
        }
    }

    /// Gives the chunks back if nothing is in them.
    #[inline]
    fn give_idle(&mut self, pool: &Pool) {
        if self.is_idle() {
            self.give_all(pool);
        }
    }

    #[inline(always)]
    fn give_all(&mut self, pool: &Pool) {
        match self.chain.pop_only() {
            Some(chunk) => pool.give_at_once(chunk),
            None => self.give_several(pool),
        }
    }

    #[inline(never)]
    fn give_several(&mut self, pool: &Pool) {
        while let Some(chunk) = self.chain.pop() {
            pool.give(chunk);
        }
    }

    /// Why `len` more bytes may not come, if so.
    pub(crate) fn admit(&self, len: u64) -> Result<()> {
        match self.refusal() {
            Some(errno) => Err(errno),
            None if self.flags.any(Flags::RESERVED) => Err(Errno::BUSY),
            None if !self.pressure.admits(len) => Err(Errno::NO_BUFFERS),
            None => Ok(()),
        }
    }

    /// Why nothing may be appended any more, if so.
    fn refusal(&self) -> Option<Errno> {
        self.failure().or(self.flags.any(Flags::CLOSED).then_some(Errno::PIPE))
    }
}
