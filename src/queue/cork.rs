//! Cork: bytes that are held back until they are uncorked or rolled back.

use super::{CORKED, Queue, RESERVED};
use crate::errno::{Errno, Result};
use crate::policy::Hints;
use crate::pool::Pool;

impl Queue {
    /// Holds back what is appended from here on.
    ///
    /// ALREADY: it is corked. NO_MEMORY. Errors as for [`Queue::append`].
    pub fn cork(&mut self) -> Result<()> {
        self.admit(0)?;
        if self.flags.any(CORKED) {
            return Err(Errno::ALREADY);
        }
        self.stream.cork()?;
        self.flags.set(CORKED, true);
        Ok(())
    }

    /// Makes the corked bytes available. WAKE: nothing was available before.
    ///
    /// INVALID: not corked. BUSY: memory is reserved. A failed queue returns its error.
    pub fn uncork(&mut self, pool: &Pool) -> Result<Hints> {
        self.admit_end_of_cork()?;
        let before = self.available();
        self.flags.set(CORKED, false);
        self.stream.uncork();
        self.give_spare(pool);
        Ok(self.on_revealed(pool, before))
    }

    /// Bytes may have become available where only `before` were. WAKE: none was.
    pub(super) fn on_revealed(&mut self, pool: &Pool, before: u64) -> Hints {
        self.policy.on_uncork();
        if before > 0 {
            return Hints::NONE;
        }
        self.remove_front(pool, 0, 0);
        if self.available() == 0 {
            return Hints::NONE;
        }
        // They could not be sent until now, so their stall clock starts later.
        self.policy.on_available();
        Hints::WAKE
    }

    /// Discards the corked bytes, and completes their slots. Errors as for [`Queue::uncork`]. RESUME as for a
    /// flush.
    pub fn rollback(&mut self, pool: &Pool) -> Result<Hints> {
        self.admit_end_of_cork()?;
        self.note_peak();
        self.flags.set(CORKED, false);
        if let Some((rest, dropped)) = self.stream.cut_at_cork() {
            self.counters.discarded += rest.waiting();
            let consumed = self.stream.discard(rest, dropped, Errno::CANCELED.negated());
            self.on_consumed(pool, consumed);
        }
        self.give_spare(pool);
        self.on_messages_cut();
        Ok(self.policy.on_consume(self.waiting()))
    }

    /// Corks again, after the cork was discarded with what was behind it.
    pub(super) fn cork_again(&mut self) {
        if self.flags.any(CORKED) && !self.stream.is_corked() {
            // There is memory: it was corked before.
            let corked = self.stream.cork();
            debug_assert!(corked.is_ok());
        }
    }

    pub(super) fn admit_end_of_cork(&self) -> Result<()> {
        if let Some(errno) = self.failure() {
            return Err(errno);
        }
        if !self.flags.any(CORKED) {
            return Err(Errno::INVALID);
        }
        if self.flags.any(RESERVED) { Err(Errno::BUSY) } else { Ok(()) }
    }
}
