//! The end of a queue: close, discard, fail.

use super::memory::BurstSize;
use super::{CLOSED, CORKED, FLUSHING, Queue, REPORT, RESERVED, Report};
use crate::counters::Counters;
use crate::errno::{Errno, Result};
use crate::policy::Hints;
use crate::pool::Pool;
use crate::zerocopy::Zerocopy;

impl Queue {
    /// Discards all that is queued, corked or not. BUSY: a flush is in progress. RESUME as for a flush.
    pub fn discard(&mut self, pool: &Pool) -> Result<Hints> {
        if self.flags.any(FLUSHING) {
            return Err(Errno::BUSY);
        }
        self.report_giving_up();
        Ok(self.drop_all(pool, Errno::CANCELED))
    }

    /// No more appends. What is queued is still sent.
    pub fn close(&mut self) {
        self.flags.set(CLOSED, true);
    }

    /// No more appends. What has not been sent after `timeout` nanoseconds is discarded.
    ///
    /// TIMED_OUT: bytes were queued, and the timeout is 0. BUSY: a flush is in progress. NO_MEMORY. After the
    /// latter two nothing has changed.
    pub fn close_within(&mut self, pool: &Pool, timeout: u64) -> Result<()> {
        if self.failure().is_none() && self.waiting() > 0 {
            if self.flags.any(FLUSHING) {
                return Err(Errno::BUSY);
            }
            self.policy.set_deadline(pool.now().saturating_add(timeout))?;
        }
        self.close();
        if self.failure().is_some() { Ok(()) } else { self.check_deadline(pool) }
    }

    /// Fails the connection with TIMED_OUT if bytes are queued and the deadline has passed.
    pub(super) fn check_deadline(&mut self, pool: &Pool) -> Result<()> {
        if !self.policy.check_deadline(|| pool.now()) || self.waiting() == 0 {
            return Ok(());
        }
        self.fail(pool, Errno::TIMED_OUT);
        Err(Errno::TIMED_OUT)
    }

    /// The connection failed with `errno`: everything is discarded, and the error stays.
    #[cold]
    pub fn fail(&mut self, pool: &Pool, errno: Errno) {
        if self.failure == 0 {
            self.flags.set(REPORT, true);
        }
        self.failure = errno.number();
        self.flags.set(CLOSED, true);
        self.drop_all(pool, errno);
    }

    /// Discards everything, reserved memory too, before the queue is freed.
    pub fn clear(&mut self, pool: &Pool) {
        self.report_giving_up();
        self.flags.set(RESERVED | FLUSHING, false);
        if let Some(block) = self.stream.commit(0) {
            self.give(pool, block);
        }
        self.flags.set(CLOSED, true);
        self.drop_all(pool, Errno::CANCELED);
    }

    /// As it was made: nothing queued, corked or reserved, no failure, no figures, and the settings of its
    /// configuration. Returns what was sent without a copy and is not acknowledged. BUSY: a flush is in progress.
    pub fn reset(&mut self, pool: &Pool) -> Result<Option<Box<Zerocopy>>> {
        if self.flags.any(FLUSHING) {
            return Err(Errno::BUSY);
        }
        self.clear(pool);
        self.flags.set(CLOSED | CORKED, false);
        self.stream.remove_gates();
        self.failure = 0;
        self.counters = Counters::default();
        self.burst = BurstSize::SMALLEST;
        self.policy.reset();
        if let Some(messages) = &mut self.messages {
            messages.reset();
        }
        Ok(self.take_unacked())
    }

    /// The host ends the connection with `errno`. BUSY: a flush is in progress.
    pub fn fail_unless_busy(&mut self, pool: &Pool, errno: Errno) -> Result<()> {
        if self.flags.any(FLUSHING) {
            return Err(Errno::BUSY);
        }
        if self.failure().is_none() {
            self.fail(pool, errno);
        }
        Ok(())
    }

    /// The host discards what is queued. That is logged if the sink was full.
    pub(super) fn report_giving_up(&mut self) {
        if self.policy.is_blocked() {
            self.flags.set(REPORT, true);
        }
    }

    /// The report of how this connection ended, once.
    pub fn take_report(&mut self, pool: &Pool) -> Option<Report> {
        if !self.flags.any(REPORT) {
            return None;
        }
        self.flags.set(REPORT, false);
        let progress = self.policy.progress();
        let stalled = if progress == 0 { 0 } else { pool.now().saturating_sub(progress) };
        let Counters { discarded, sent, .. } = self.counters;
        Some(Report { failure: self.failure(), lost: discarded, sent, stalled })
    }

    pub(super) fn drop_all(&mut self, pool: &Pool, errno: Errno) -> Hints {
        let waiting = self.waiting();
        self.counters.discarded += waiting;
        self.stream.remove_gates();
        self.give_spare(pool);
        self.forget_offered(pool);
        self.remove_front(pool, waiting, errno.negated());
        if self.policy.is_blocked() {
            self.policy.unblock(pool.now());
        }
        self.cork_again();
        self.policy.on_consume(self.waiting())
    }
}
