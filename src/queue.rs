//! What waits, in order: append, reserve, cork, peek, consume.
//!
//! A queue does no I/O, has no lock and keeps no reference to its pool: whoever holds both lends
//! the pool to each call that takes or gives memory. Nor does it call anybody: who has to be told that
//! a segment is gone is told by the holder ([`Queue::next_gone`]), once the call is over.

use crate::chunk::{Chain, Chunk, SEGMENT, Stack};
use crate::errno::{Errno, Result};
use crate::pool::Pool;
use crate::pressure::{Hints, Pressure, Watermarks};
use crate::segment::{Gone, Piece, Run, Segment};

/// One connection's output.
///
/// Field order is by use: an append that fits touches the first 64 bytes only.
#[repr(C)]
pub struct Queue {
    /// Sealed whenever an append has to look closer: closed, failed, reserved, or nothing waits.
    /// Holds no chunk when nothing waits, nothing is reserved and nobody has to be told.
    chain: Chain,
    pressure: Pressure,
    /// While corked: how much of what waits may leave.
    visible: u64,
    /// Segments whose owners have not been told, and how many of those have left.
    segments: u32,
    untold: u32,
    /// Bytes that a reservation lent out; 0: none. They are at the front of `lent`, or at the chain's
    /// write cursor: then that chunk stays until the commit, even when all that waits leaves.
    reserved: usize,
    /// A chunk that was taken for the reservation, because the tail had not enough room.
    lent: Option<Chunk>,
    sent: u64,
    discarded: u64,
    /// What ended the connection, if anything did. Then it is closed, too.
    failure: Option<Errno>,
    closed: bool,
    /// Between begin_flush and end_flush: the bytes at the front may be in the kernel's hands.
    flushing: bool,
}

impl Queue {
    /// An empty queue. It holds no memory of any pool.
    pub fn new(marks: Watermarks) -> Queue {
        Queue {
            chain: Chain::new(),
            pressure: Pressure::new(marks),
            visible: 0,
            segments: 0,
            untold: 0,
            reserved: 0,
            lent: None,
            sent: 0,
            discarded: 0,
            failure: None,
            closed: false,
            flushing: false,
        }
    }

    /// Bytes that wait.
    #[inline]
    pub fn waiting(&self) -> u64 {
        self.pressure.waiting()
    }

    /// Bytes that wait and may leave: what is corked may not.
    #[inline]
    pub fn available(&self) -> u64 {
        if self.chain.is_corked() { self.visible } else { self.waiting() }
    }

    /// Bytes that left, ever.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Bytes that were dropped, ever.
    pub fn discarded(&self) -> u64 {
        self.discarded
    }

    /// What ended the connection, if anything did.
    pub fn failure(&self) -> Option<Errno> {
        self.failure
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
        // len - 1 < room: no bytes go the long way, as does everything while the chain is sealed.
        // Room in an open chain means that something waits.
        len.wrapping_sub(1) < self.chain.room() && self.pressure.stays_low(len as u64)
    }

    /// The other common case: nothing waits, `len` bytes fit one chunk, and a warm one is at hand,
    /// which is taken. What there is to tell is WAKE. false: nothing happened, look closer.
    #[inline(always)]
    pub fn start_at_once(&mut self, pool: &Pool, len: usize) -> bool {
        let idle = self.chain.is_empty() && self.is_plain();
        let fits = len.wrapping_sub(1) < pool.chunk_bytes() && self.pressure.stays_low(len as u64);
        if !idle || !fits {
            return false;
        }
        match pool.take_at_once() {
            Some(chunk) => self.chain.start(chunk),
            None => return false,
        }
        true
    }

    /// Nothing stands against an append, or changes what it has to tell.
    #[inline(always)]
    fn is_plain(&self) -> bool {
        !self.closed && self.reserved == 0 && !self.chain.is_corked()
    }

    /// Copies `bytes`, for which [`Queue::fits`] or [`Queue::start_at_once`] said yes.
    #[inline(always)]
    pub fn append_fitting(&mut self, bytes: &[u8]) {
        self.pressure.rise_low(bytes.len() as u64);
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
        Ok(self.rise(total as u64))
    }

    /// Puts `segment` behind what waits. It becomes the queue's to tell, unless this fails. Errors as
    /// for [`Queue::append`].
    #[inline]
    pub fn append_segment(&mut self, pool: &Pool, segment: Segment) -> Result<Hints> {
        self.admit(segment.len())?;
        if self.chain.room() < SEGMENT {
            self.chain.push(pool.take()?);
        }
        self.chain.insert(segment);
        self.segments += 1;
        if segment.len() > 0 {
            return Ok(self.rise(segment.len()));
        }
        self.pass_marks(pool);
        Ok(Hints::NONE)
    }

    /// The common cases of [`Queue::append_segment`], in a few instructions: others wait and there is
    /// room behind them, or nothing does and a warm chunk is at hand. None: nothing happened.
    #[inline(always)]
    pub fn append_segment_at_once(&mut self, pool: &Pool, segment: Segment) -> Option<Hints> {
        if !self.pressure.stays_low(segment.len()) || segment.len() == 0 {
            return None;
        }
        let mut hints = Hints::NONE;
        if self.chain.room() < SEGMENT {
            if !self.chain.is_empty() || !self.is_plain() {
                return None;
            }
            self.chain.start(pool.take_at_once()?);
            hints = Hints::WAKE;
        }
        self.chain.insert(segment);
        self.segments += 1;
        self.pressure.rise_low(segment.len());
        Some(hints)
    }

    /// `len > 0` bytes came.
    #[inline]
    fn rise(&mut self, len: u64) -> Hints {
        let hints = self.pressure.rise(len);
        if self.chain.is_corked() { hints.without(Hints::WAKE) } else { hints }
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
        let memory = if len <= self.chain.room() {
            self.chain.spare()
        } else {
            let chunk = pool.take_contiguous(len)?;
            self.lent.insert(chunk).spare()
        };
        self.chain.seal();
        self.reserved = len;
        Ok(memory)
    }

    /// The first `used` reserved bytes wait from now on; the reservation ends.
    ///
    /// INVALID: nothing is reserved, or less than `used`; the reservation stays. A closed or failed
    /// queue gives its error, and the reservation ends.
    pub fn commit(&mut self, pool: &Pool, used: usize) -> Result<Hints> {
        let refusal = self.refusal();
        if refusal.is_none() && (used > self.reserved || self.reserved == 0) {
            return Err(Errno::INVALID);
        }
        self.reserved = 0;
        let lent = self.lent.take();
        let used = if refusal.is_none() { used } else { 0 };
        if !self.closed {
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
        let hints = if used > 0 { self.rise(used as u64) } else { Hints::NONE };
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
        if self.flushing {
            return Err(Errno::BUSY);
        }
        if let Some(errno) = self.failure {
            return Err(errno);
        }
        if len > self.available() {
            return Err(Errno::INVALID);
        }
        Ok(self.leave(pool, len))
    }

    /// The common case of a consume, in a few instructions: all that waits leaves, it is in one chunk,
    /// and there will be no hint. None: nothing happened, look closer. Otherwise a segment that has
    /// left, if there was one alone, or else [`Queue::has_gone`] tells whether there were more.
    #[inline(always)]
    pub fn consume_at_once(&mut self, pool: &Pool, len: u64) -> Option<Option<Gone>> {
        let plain = !self.flushing && self.reserved == 0 && !self.pressure.is_high();
        if len != self.waiting() || !plain || self.chain.is_corked() || self.untold > 0 {
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
            pool.give_at_once(chunk);
        }
        self.sent += len;
        self.pressure.fall(len);
        Some(gone)
    }

    /// Starts a flush. BUSY: one is under way. A failed queue gives its error.
    #[inline]
    pub fn begin_flush(&mut self) -> Result<()> {
        if let Some(errno) = self.failure {
            return Err(errno);
        }
        if self.flushing {
            return Err(Errno::BUSY);
        }
        self.flushing = true;
        Ok(())
    }

    /// Ends the flush that [`Queue::begin_flush`] started.
    #[inline]
    pub fn end_flush(&mut self) {
        self.flushing = false;
    }

    /// The first `len` bytes have left; at least as many may.
    #[inline]
    pub fn leave(&mut self, pool: &Pool, len: u64) -> Hints {
        self.sent += len;
        self.drop_front(pool, len, None)
    }

    /// Drops all that waits, corked or not. BUSY: a flush is under way. RESUME as for a flush.
    pub fn discard(&mut self, pool: &Pool) -> Result<Hints> {
        if self.flushing {
            return Err(Errno::BUSY);
        }
        Ok(self.drop_all(pool, Errno::CANCELED))
    }

    /// No more appends; what waits still leaves.
    pub fn close(&mut self) {
        self.closed = true;
        self.chain.seal();
    }

    /// The connection ended with `errno`: nothing is kept, and the error stays.
    #[cold]
    pub fn fail(&mut self, pool: &Pool, errno: Errno) {
        (self.failure, self.closed) = (Some(errno), true);
        self.drop_all(pool, errno);
    }

    /// Drops everything, reserved memory too. For the end of the queue.
    pub fn clear(&mut self, pool: &Pool) {
        self.reserved = 0;
        if let Some(chunk) = self.lent.take() {
            pool.give(chunk);
        }
        self.closed = true;
        self.drop_all(pool, Errno::CANCELED);
    }

    /// A segment that has left, and whose owner does not know yet: now is the time. The memory that
    /// only waited for that is given back before.
    #[inline(always)]
    pub fn next_gone(&mut self, pool: &Pool) -> Option<Gone> {
        if self.untold == 0 {
            return None;
        }
        let gone = self.chain.next_gone(|chunk| pool.give(chunk));
        self.untold -= 1;
        self.segments -= 1;
        if self.untold == 0 {
            if self.waiting() == 0 && self.reserved == 0 && self.segments == 0 {
                self.give_all(pool);
            } else {
                self.give_passed(pool);
            }
        }
        gone
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
        self.visible = self.waiting();
        self.chain.cork();
        Ok(())
    }

    /// Lets go what was held back. WAKE: that made something available.
    ///
    /// INVALID: not corked. BUSY: memory is reserved. A failed queue gives its error.
    pub fn uncork(&mut self, pool: &Pool) -> Result<Hints> {
        let held = self.take_held()?;
        if let Some(copied) = self.chain.absorb(held) {
            pool.give(copied);
        }
        let idle = self.visible == 0;
        if idle {
            self.untold += self.chain.advance(0, 0, |chunk| pool.give(chunk));
        }
        self.settle(pool);
        Ok(if idle && self.waiting() > 0 { Hints::WAKE } else { Hints::NONE })
    }

    /// Takes back what was held back, as if it had never been appended: its chunks come to the
    /// caller, who has to tell the owners and give the memory back. Errors as for
    /// [`Queue::uncork`]. RESUME as for a flush.
    pub fn rollback(&mut self, pool: &Pool) -> Result<(Hints, Chain)> {
        let mut held = self.take_held()?;
        let len = self.waiting() - self.visible;
        let before = held.untold();
        let gone = held.advance(len, Errno::CANCELED.negated(), |chunk| pool.give(chunk));
        self.segments -= before + gone;
        self.untold -= before;
        self.discarded += len;
        let hints = self.pressure.fall(len);
        self.settle(pool);
        Ok((hints, held))
    }

    /// Ends the cork and takes out what it held back.
    fn take_held(&mut self) -> Result<Chain> {
        if let Some(errno) = self.failure {
            return Err(errno);
        }
        if !self.chain.is_corked() {
            return Err(Errno::INVALID);
        }
        if self.reserved > 0 {
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
        if let Some(errno) = from.failure {
            return Err(errno);
        }
        if from.flushing || from.reserved > 0 || from.chain.is_corked() || from.untold > 0 {
            return Err(Errno::BUSY);
        }
        let len = from.waiting();
        self.admit(len)?;
        if len == 0 {
            return Ok(Hints::NONE);
        }
        pool.adopt(from_pool, from.chain.footprint())?;
        if let Some(copied) = self.chain.absorb(std::mem::take(&mut from.chain)) {
            pool.give(copied);
        }
        self.segments += std::mem::take(&mut from.segments);
        from.sent += len;
        from.pressure.fall(len);
        let hints = self.rise(len);
        self.settle(pool);
        Ok(hints)
    }

    /// Other watermarks from now on. What waits stays, also above a new cap.
    pub fn set_watermarks(&mut self, marks: Watermarks) -> Hints {
        self.pressure.set_watermarks(marks)
    }

    fn drop_all(&mut self, pool: &Pool, errno: Errno) -> Hints {
        let waiting = self.waiting();
        self.discarded += waiting;
        let corked = self.chain.is_corked();
        self.chain.reveal();
        let hints = self.drop_front(pool, waiting, Some(errno));
        if corked {
            self.visible = 0;
            if self.reserved > 0 && self.lent.is_none() {
                self.chain.cork_before_tail();
            } else {
                self.chain.cork();
            }
        }
        hints
    }

    /// The first `len` bytes are gone: sent, or dropped because of `errno`.
    #[inline]
    fn drop_front(&mut self, pool: &Pool, len: u64, errno: Option<Errno>) -> Hints {
        let hints = self.pressure.fall(len);
        if self.chain.is_corked() {
            self.visible -= len;
        }
        if self.waiting() > 0 || self.segments > 0 || self.reserved > 0 {
            let reason = errno.map_or(0, Errno::negated);
            self.untold += self.chain.advance(len, reason, |chunk| pool.give(chunk));
        }
        self.settle(pool);
        hints
    }

    /// Restores what the fields promise after the chain has changed.
    #[inline]
    fn settle(&mut self, pool: &Pool) {
        if self.waiting() > 0 && !self.closed && self.reserved == 0 {
            self.chain.unseal();
        } else {
            self.chain.seal();
            self.give_idle(pool);
        }
    }

    /// Gives the chunks back if nothing is in them.
    #[inline]
    fn give_idle(&mut self, pool: &Pool) {
        if self.waiting() == 0 && self.reserved == 0 && self.segments == 0 {
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
    fn admit(&self, len: u64) -> Result<()> {
        match self.refusal() {
            Some(errno) => Err(errno),
            None if self.reserved > 0 => Err(Errno::BUSY),
            None if !self.pressure.admits(len) => Err(Errno::NO_BUFFERS),
            None => Ok(()),
        }
    }

    /// Why nothing may be appended any more, if so.
    fn refusal(&self) -> Option<Errno> {
        self.failure.or(self.closed.then_some(Errno::PIPE))
    }
}
