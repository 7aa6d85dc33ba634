//! A flush for a sink that takes one contiguous range at a time and needs the same range again after it
//! refused it: TLS. Small pieces are gathered into full records beside the queue. Large ones are offered from
//! where they are.

use crate::errno::{Errno, Result};
use crate::flush::{WithLocked, begin, peek_through};
use crate::iovec::{Extent, IoVec};
use crate::policy::Hints;
use crate::policy::cold::Offered;
use crate::pool::Pool;
use crate::queue::{Flushed, Queue};
use crate::sink::Sink;
use crate::sink::gather::Gather;

/// The most bytes of one offer: the plaintext of a TLS record (RFC 8446, 5.1).
pub const RECORD: usize = 16 * 1024;

/// The state of a flush.
struct FlushState {
    /// Bytes that it may still send.
    budget: usize,
    /// What the sink was offered last, or has to be offered again.
    offered: Option<Offered>,
    hints: Hints,
    flushed: Flushed,
}

/// [`crate::flush::flush`], record by record. After a refusal, the next call offers the same bytes at the
/// same address first, whatever its budget.
///
/// Errors and hints as for a flush; WANT_READ in place of BLOCKED if the sink asked for it. CANCELED: the
/// sink has freed the queue. NO_MEMORY: none for a record, and nothing was sent.
pub fn flush_records<S: Sink>(
    q: &impl WithLocked,
    sink: &mut S,
    max_bytes: usize,
) -> Result<Hints> {
    let mut state = q.with_locked(|queue, pool| {
        queue.may_offer()?;
        let budget = begin(queue, pool, max_bytes)?;
        let offered = queue.take_offered();
        Ok(FlushState { budget, offered, hints: Hints::NONE, flushed: Flushed::default() })
    })?;
    let calls_before = sink.calls();
    // What was refused is offered again in full.
    let mut again = state.offered.as_ref().map_or(0, |offered| offered.len);
    loop {
        let iovec = match state.next(q, again) {
            Ok(Some(iovec)) => iovec,
            Ok(None) => return q.with_locked(|queue, pool| Ok(state.end(queue, pool))),
            Err(errno) => return q.with_locked(|queue, pool| state.give_up(queue, pool, errno)),
        };
        again = 0;
        // Not repeated after EINTR: the host's function may have freed the queue, and with it the bytes.
        let outcome = sink.write(&[iovec], false);
        state.flushed.calls = sink.calls() - calls_before;
        let goes_on =
            q.with_locked(|queue, pool| state.account(queue, pool, iovec.len(), outcome))?;
        if !goes_on {
            return Ok(state.hints);
        }
    }
}

/// What to offer next.
enum Next {
    Nothing,
    IoVec(IoVec),
    /// This many bytes have to be gathered first.
    Gather(usize),
}

impl FlushState {
    /// Finds what to offer next: `again` bytes that were refused; or else the rest of the last offer; or else
    /// a new record. The latter two are limited by the budget. The rest of a record is not gathered into a
    /// new one: with a sink that takes little at a time, every byte would be copied again and again.
    fn next(&mut self, q: &impl WithLocked, again: usize) -> Result<Option<IoVec>> {
        let most = if again > 0 { again } else { self.budget };
        let next = q.with_locked(|queue, _| match &self.offered {
            Some(Offered { len, copy: Some((block, offset)) }) => {
                Next::IoVec(block.written(*offset, most.min(*len)))
            }
            Some(Offered { len, copy: None }) => offer_in_place(queue, most.min(*len)),
            None => offer_in_place(queue, most.min(RECORD)),
        });
        let iovec = match next {
            Next::Nothing => return Ok(None),
            Next::IoVec(iovec) if iovec.len() == 0 => return Ok(None),
            Next::IoVec(iovec) => iovec,
            Next::Gather(len) => return self.gather(q, len).map(Some),
        };
        match &mut self.offered {
            // A budget may have cut an offer that was longer. What is refused now is offered again as it is
            // now.
            Some(offered) => offered.len = iovec.len(),
            None => self.offered = Some(Offered { len: iovec.len(), copy: None }),
        }
        Ok(Some(iovec))
    }

    /// Copies the first `len` bytes to contiguous memory. Without memory for that, the first extent is
    /// offered instead, unless it is a file.
    fn gather(&mut self, q: &impl WithLocked, len: usize) -> Result<IoVec> {
        let mut block = match q.with_locked(|queue, pool| queue.take_record(pool, len)) {
            Ok(block) => block,
            Err(errno) => {
                return q.with_locked(|queue, _| match queue.first_extent() {
                    Some(Extent::Memory(iovec)) => {
                        let iovec = iovec.first(len);
                        self.offered = Some(Offered { len: iovec.len(), copy: None });
                        Ok(iovec)
                    }
                    _ => Err(errno),
                });
            }
        };
        let mut record = Gather::new(&mut block.memory()[..len]);
        let gathered = peek_through(q, |extent| record.take(extent));
        let iovec = block.written(0, len);
        self.offered = Some(Offered { len, copy: Some((block, 0)) });
        gathered.map(|_| iovec)
    }

    /// Accounts for what the sink took of the `offered` bytes. Returns whether to offer more. Only what ends
    /// the connection is an error.
    fn account(
        &mut self,
        queue: &mut Queue,
        pool: &Pool,
        offered: usize,
        outcome: Result<usize>,
    ) -> Result<bool> {
        if !queue.is_flushing() {
            self.forget(queue, pool);
            return Err(Errno::CANCELED);
        }
        let taken = match outcome {
            Ok(taken) => taken,
            Err(errno) if errno.is_refusal() => {
                self.flushed.short_writes += 1;
                self.refuse(queue, pool, errno);
                return Ok(false);
            }
            Err(errno) => return self.fail(queue, pool, errno).map(|_| false),
        };
        self.hints |= queue.on_sent(pool, taken as u64);
        self.flushed.sent += taken as u64;
        self.budget = self.budget.saturating_sub(taken);
        self.flushed.short_writes += u32::from(taken < offered);
        self.advance(queue, pool, taken);
        if self.budget == 0 || queue.available() == 0 {
            self.end(queue, pool);
            return Ok(false);
        }
        Ok(true)
    }

    /// The first `taken` bytes of the offer were sent.
    fn advance(&mut self, queue: &mut Queue, pool: &Pool, taken: usize) {
        let Some(offered) = &mut self.offered else { return };
        offered.len -= taken;
        if let Some((_, offset)) = &mut offered.copy {
            *offset += taken;
        }
        if offered.len == 0 {
            self.forget(queue, pool);
        }
    }

    fn forget(&mut self, queue: &mut Queue, pool: &Pool) {
        if let Some((block, _)) = self.offered.take().and_then(|offered| offered.copy) {
            queue.give(pool, block);
        }
    }

    fn end(&mut self, queue: &mut Queue, pool: &Pool) -> Hints {
        self.forget(queue, pool);
        queue.end_flush(pool, self.flushed);
        self.hints |= Hints::MORE.when(queue.available() > 0);
        self.hints
    }

    /// The sink takes nothing now, and will be offered the same bytes again.
    fn refuse(&mut self, queue: &mut Queue, pool: &Pool, errno: Errno) {
        self.flushed.is_blocked = errno != Errno::INTERRUPTED;
        self.flushed.wants_read = errno == Errno::WANT_READ;
        if let Some(offered) = self.offered.take() {
            queue.set_offered(offered);
        }
        queue.end_flush(pool, self.flushed);
        self.hints |= match errno {
            Errno::WANT_READ => Hints::WANT_READ,
            Errno::INTERRUPTED => Hints::MORE,
            _ => Hints::BLOCKED,
        };
    }

    /// The next offer could not be made. Without memory for a record, the flush ends: what was sent counts,
    /// and the next call meets the error again. A file that cannot be read ends the connection.
    fn give_up(&mut self, queue: &mut Queue, pool: &Pool, errno: Errno) -> Result<Hints> {
        if !errno.is_transient() {
            return self.fail(queue, pool, errno);
        }
        let hints = self.end(queue, pool);
        if self.flushed.calls > 0 { Ok(hints) } else { Err(errno) }
    }

    fn fail(&mut self, queue: &mut Queue, pool: &Pool, errno: Errno) -> Result<Hints> {
        self.forget(queue, pool);
        queue.end_flush(pool, self.flushed);
        queue.fail(pool, errno);
        Err(errno)
    }
}

/// The first `most` queued bytes from where they are, or how many of them to gather because they are
/// scattered or in a file.
fn offer_in_place(queue: &Queue, most: usize) -> Next {
    let available = usize::try_from(queue.available()).unwrap_or(usize::MAX);
    let want = most.min(available);
    match queue.first_extent() {
        None => Next::Nothing,
        _ if want == 0 => Next::Nothing,
        Some(Extent::Memory(iovec)) if iovec.len() >= want => Next::IoVec(iovec.first(want)),
        Some(_) => Next::Gather(want.min(before_large(queue, available))),
    }
}

/// How many bytes precede an extent that fills a record by itself, if it costs no record more to send these
/// bytes separately. Otherwise no limit.
fn before_large(queue: &Queue, available: usize) -> usize {
    let (mut before, mut limit) = (0_usize, usize::MAX);
    queue.each_extent(|extent| {
        let len = usize::try_from(extent.len()).unwrap_or(usize::MAX);
        if matches!(extent, Extent::Memory(_)) && len >= RECORD {
            let apart = 1 + (available - before).div_ceil(RECORD);
            if apart <= available.div_ceil(RECORD) {
                limit = before;
            }
            return false;
        }
        before = before.saturating_add(len);
        before < RECORD
    });
    limit
}
