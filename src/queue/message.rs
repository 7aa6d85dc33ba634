//! Messages: what the host counts, and what is discarded as a whole.

use super::{CONTINUING, FLUSHING, Piece, Queue, RESERVED, Size};
use crate::errno::{Errno, Result};
use crate::messages::Messages;
use crate::policy::{Hints, UNBOUNDED};
use crate::pool::Pool;
use crate::try_box::try_box;

impl Queue {
    /// Counts messages from now on, of which at most `max` may be queued; 0: any number. NO_MEMORY.
    pub fn count_messages(&mut self, max: u64) -> Result<()> {
        self.messages = Some(try_box(Messages::new(max))?);
        Ok(())
    }

    /// Messages that are not wholly sent; 0 if they are not counted.
    pub fn queued_messages(&self) -> u64 {
        self.messages.as_ref().map_or(0, |messages| messages.queued(self.waiting()))
    }

    /// Messages that are wholly sent.
    pub fn sent_messages(&self) -> u64 {
        self.messages.as_ref().map_or(0, |messages| messages.sent())
    }

    /// Whether the next byte would begin a message that is one too many.
    pub(super) fn is_full(&self, waiting: u64) -> bool {
        self.messages.as_ref().is_some_and(|messages| messages.is_full(waiting))
    }

    /// Whether `len` bytes may be appended. NO_BUFFERS: they would begin a message that is one too many.
    #[inline(always)]
    pub(super) fn admit_message(&self, len: u64) -> Result<()> {
        let is_admitted = len == 0 || !self.is_full(self.waiting());
        if is_admitted { Ok(()) } else { Err(Errno::NO_BUFFERS) }
    }

    /// Allocates what [`Queue::end_message`] needs. NO_MEMORY.
    #[inline(always)]
    pub fn reserve_boundary(&mut self) -> Result<()> {
        self.messages.as_mut().map_or(Ok(()), |messages| messages.reserve())
    }

    /// What was appended since the last boundary is a message.
    pub fn end_message(&mut self) {
        let (waiting, has_holes) = (self.waiting(), self.stream.has_holes());
        if let Some(messages) = &mut self.messages {
            messages.end(waiting, has_holes);
        }
    }

    /// Appends a copy of `slices`, at most [`Queue::room`] bytes and at least one, as the end of a message.
    /// There is no hint to return. false: there is no memory for a boundary.
    #[inline(always)]
    pub fn write_message<'a>(&mut self, slices: impl Iterator<Item = &'a [u8]>) -> bool {
        if self.reserve_boundary().is_err() {
            return false;
        }
        slices.for_each(|bytes| self.write(bytes));
        if self.messages.is_some() {
            self.end_message();
            self.update_room();
        }
        true
    }

    /// Appends `pieces`, of which `size` is the sum, as the end of a message. Errors as for
    /// [`Queue::append_pieces`].
    #[inline(always)]
    pub fn append_message<'a>(
        &mut self,
        pool: &Pool,
        size: &Size,
        pieces: impl Iterator<Item = Piece<'a>>,
    ) -> Result<Hints> {
        // A message of which nothing is queued needs none: all of it was sent.
        if self.waiting() + size.bytes > 0 || self.stream.has_holes() {
            self.reserve_boundary()?;
        }
        let hints = self.append_pieces(pool, size, pieces)?;
        self.end_message();
        Ok(hints)
    }

    /// [`Queue::append_message`] for the rest of a message whose first `sent` bytes were sent. If some were, the
    /// pool's budget does not refuse it, and an error ends the connection, because it cannot be continued.
    pub fn append_rest<'a>(
        &mut self,
        pool: &Pool,
        sent: u64,
        size: &Size,
        pieces: impl Iterator<Item = Piece<'a>>,
    ) -> Result<Hints> {
        self.flags.set(CONTINUING, sent > 0);
        let result = self.append_message(pool, size, pieces);
        self.flags.set(CONTINUING, false);
        result.inspect_err(|errno| {
            if sent > 0 {
                self.fail(pool, *errno);
            }
        })
    }

    /// The last bytes were taken out.
    pub(super) fn on_messages_cut(&mut self) {
        let (waiting, set) = (self.waiting(), self.stream.set_before_hole().unwrap_or(UNBOUNDED));
        if let Some(messages) = &mut self.messages {
            messages.on_cut(waiting, set);
        }
    }

    /// The first `len` bytes of `from` are moved behind those of this queue, whose messages have space for those of
    /// `from`.
    pub(super) fn splice_messages(&mut self, from: &mut Queue, len: u64) {
        let waiting = self.waiting();
        if let (Some(messages), Some(others)) = (&mut self.messages, &from.messages) {
            messages.join(others, len, waiting);
        }
        if let Some(others) = &mut from.messages {
            others.on_removed(len, true, UNBOUNDED);
        }
    }

    /// Discards the messages of which no byte was sent, or offered to a sink that needs the same bytes again.
    /// RESUME as for a flush.
    ///
    /// INVALID: messages are not counted. BUSY: a flush is in progress, or memory is reserved. NO_MEMORY.
    pub fn discard_unstarted(&mut self, pool: &Pool) -> Result<Hints> {
        let messages = self.messages.as_ref().ok_or(Errno::INVALID)?;
        if self.flags.any(FLUSHING | RESERVED) {
            return Err(Errno::BUSY);
        }
        let offered = self.policy.cold().and_then(|cold| cold.offered.as_ref());
        let offered = offered.map_or(0, |offered| offered.len as u64);
        if !messages.is_begun(offered) {
            return self.discard(pool);
        }
        let end = messages.end_of_begun(offered);
        if let Some((len, set)) = end
            && let Some(rest) = self.split_off(pool, len, set)?
        {
            self.discard_rest(pool, rest, Errno::CANCELED);
            self.on_messages_cut();
            self.give_spare(pool);
            self.cork_again();
        }
        Ok(self.policy.on_consume(self.waiting()))
    }
}
