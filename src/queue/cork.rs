//! Cork: bytes that are held back until they are uncorked or rolled back.

use super::{CORKED, Queue, RESERVED};
use crate::errno::{Errno, Result};
use crate::policy::Hints;
use crate::pool::Pool;

impl Queue {
    /// Holds back what is appended from here on.
    ///
    /// ALREADY: it is corked. Errors as for [`Queue::append`].
    pub fn cork(&mut self) -> Result<()> {
        self.admit(0)?;
        if self.flags.any(CORKED) {
            return Err(Errno::ALREADY);
        }
        self.flags.set(CORKED, true);
        self.stream.cork();
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
        if before > 0 {
            return Ok(Hints::NONE);
        }
        self.remove_front(pool, 0, 0);
        if self.waiting() == 0 {
            return Ok(Hints::NONE);
        }
        // The corked bytes could not be sent until now, so their stall clock starts later.
        self.policy.on_available();
        Ok(Hints::WAKE)
    }

    /// Discards the corked bytes, and completes their slots. Errors as for [`Queue::uncork`]. RESUME as for a
    /// flush.
    pub fn rollback(&mut self, pool: &Pool) -> Result<Hints> {
        self.admit_end_of_cork()?;
        self.note_peak();
        self.flags.set(CORKED, false);
        self.counters.discarded += self.waiting() - self.available();
        let consumed = self.stream.take_back(Errno::CANCELED.negated());
        self.on_consumed(pool, consumed);
        Ok(self.policy.on_consume(self.waiting()))
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
