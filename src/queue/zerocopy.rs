//! Sends without a copy: which bytes, and how their owners wait until they are acknowledged.

use super::{Queue, RELEASE};
use crate::block::chain::carried::Place;
use crate::errno::Result;
use crate::iovec::MAX_IOVECS;
use crate::joint::Joint;
use crate::policy::Hints;
use crate::pool::Pool;
use crate::slot::{CARRIED, Owner, Slot};
use crate::try_box::try_box;
use crate::zerocopy::{Ack, Acks, Connection, Zerocopy};
use std::sync::Arc;

/// The first bytes that a flush offers in one way.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// How many bytes, at most.
    pub bytes: usize,
    /// In how many slots, if they are to be sent without a copy; else 0.
    pub slots: usize,
    /// Some of these are of messages, whose owners are other slots.
    pub has_messages: bool,
}

impl Run {
    /// The first `bytes` bytes, copied by the sink.
    pub fn copied(bytes: usize) -> Run {
        Run { bytes, slots: 0, has_messages: false }
    }
}

impl Queue {
    /// Lets borrowed and shared pieces of at least `from` bytes be sent without a copy. NO_MEMORY.
    pub fn set_zerocopy(&mut self, from: u64) -> Result<()> {
        self.policy.make_cold()?.zerocopy = Some(try_box(Zerocopy::new(from))?);
        Ok(())
    }

    /// What is sent without a copy, if anything may be.
    pub fn zerocopy(&self) -> Option<&Zerocopy> {
        self.policy.cold()?.zerocopy.as_deref()
    }

    pub(super) fn zerocopy_mut(&mut self) -> Option<&mut Zerocopy> {
        self.policy.cold_mut()?.zerocopy.as_deref_mut()
    }

    /// UNACKED, if a send without a copy is not acknowledged.
    pub fn unacked(&self) -> Hints {
        Hints::UNACKED.when(self.zerocopy().is_some_and(Zerocopy::is_unacked))
    }

    /// Of the first `budget` available bytes, those that are offered in one way.
    pub fn next_run(&mut self, budget: usize) -> Run {
        let from = match self.zerocopy() {
            Some(zerocopy) if !zerocopy.is_off() => zerocopy.from(),
            _ => return Run::copied(budget),
        };
        let (mut run, mut pieces, mut is_large) = (Run::copied(0), 0, None);
        self.stream.each_piece(|extent, slot| {
            let len = extent.len().min((budget - run.bytes) as u64);
            let is_like = slot.is_some_and(Slot::is_in_memory) && len >= from;
            pieces += 1;
            if pieces > MAX_IOVECS || *is_large.get_or_insert(is_like) != is_like {
                return false;
            }
            run.slots += usize::from(is_like);
            run.has_messages |= is_like && slot.is_some_and(|slot| slot.owner().release.is_none());
            run.bytes += len as usize;
            run.bytes < budget
        });
        let is_next = run.slots > 0 && self.zerocopy_mut().is_some_and(Zerocopy::is_next);
        if is_next { run } else { Run::copied(run.bytes) }
    }

    /// The connection that was used last.
    pub fn connection(&self) -> Connection {
        self.zerocopy().map_or_else(Connection::default, Zerocopy::connection)
    }

    /// Begins to send the first `slots` slots to `acks`, without a copy. false: they have to be copied.
    pub fn begin_send(&mut self, acks: Result<Arc<dyn Acks>>, slots: usize) -> bool {
        let pending = self.unreleased as usize;
        self.zerocopy_mut().is_some_and(|zerocopy| zerocopy.begin_send(acks, slots, pending))
    }

    /// The send that was begun has ended with `outcome`. Returns whether the bytes have to be copied.
    pub fn end_send(&mut self, outcome: Result<usize>) -> bool {
        // What waited for this one waits no longer if it has failed.
        self.flags.set(RELEASE, true);
        self.zerocopy_mut().is_some_and(|zerocopy| zerocopy.end_send(outcome))
    }

    /// The first `len` bytes, of messages or not, were sent without a copy: [`Queue::on_sent`].
    pub fn on_carried(&mut self, pool: &Pool, len: u64, has_messages: bool) -> Hints {
        if len == 0 {
            // Refused: the slot at the front, of which other sends may have taken some, was not carried.
            return Hints::NONE;
        }
        self.counters.sent += len;
        let has_begun = self.stream.ends_inside(len);
        self.remove_front(pool, len, CARRIED);
        self.stream.mark_carried(has_begun, has_messages);
        if let Some(zerocopy) = self.zerocopy_mut().filter(|_| has_messages) {
            zerocopy.on_message();
        }
        self.on_sent_slow(pool, len)
    }

    /// Where acknowledgements come from, if any are to come.
    pub fn acks(&self) -> Option<Arc<dyn Acks>> {
        self.zerocopy().and_then(Zerocopy::acks)
    }

    /// Takes an acknowledgement that came from `acks`.
    pub fn acknowledge(&mut self, pool: &Pool, acks: &Arc<dyn Acks>, ack: Ack) {
        let Some(zerocopy) = self.zerocopy_mut() else { return };
        if zerocopy.acknowledge(acks, ack) {
            self.flags.set(RELEASE, true);
        }
        if self.waiting() > 0 {
            self.policy.on_progress(pool.now());
        }
    }

    /// Of a carried slot that is completed: the slot to release. None: it is held until it is acknowledged.
    #[cold]
    pub(super) fn land(&mut self, slot: Slot) -> Option<Slot> {
        match self.zerocopy_mut() {
            Some(zerocopy) => zerocopy.land(slot),
            None => Some(slot.landed().0),
        }
    }

    /// The next slot that was held and is acknowledged.
    #[inline(always)]
    pub(super) fn next_acked(&mut self) -> Option<Slot> {
        self.zerocopy_mut()?.next_released()
    }

    /// Before what is queued is moved to another queue, which does not know what this one has sent: what of it was
    /// carried in part gets a joint owner, who waits for the acknowledgement here as well. NO_MEMORY.
    pub(super) fn part_with_carried(&mut self) -> Result<()> {
        if !self.unacked().any(Hints::UNACKED) {
            return Ok(());
        }
        let has_messages = self.zerocopy().is_some_and(Zerocopy::has_messages);
        let [piece, message] = self.stream.carried(has_messages);
        let owned = |slot: &Slot| slot.owner().release.is_some();
        let joint = |carried: Option<(Place, Slot)>| match carried {
            Some((_, slot)) if owned(&slot) => Joint::new(slot, 2).map(Some),
            _ => Ok(None),
        };
        let (of_piece, of_message) = (joint(piece)?, joint(message)?);
        if let Some((place, slot)) = piece {
            // A part of a message has no owner of its own.
            let owner = of_piece.map_or(*slot.owner(), Joint::into_owner);
            self.stream.unmark(place, owner);
            self.hold_joint(owner);
        }
        if let (Some((place, _)), Some(joint)) = (message, of_message) {
            let (whole, part) = joint.into_owners_of_message();
            self.stream.unmark(place, whole);
            self.hold_joint(part);
        }
        Ok(())
    }

    fn hold_joint(&mut self, owner: Owner) {
        if let Some(zerocopy) = self.zerocopy_mut().filter(|_| owner.release.is_some()) {
            zerocopy.hold(Slot::notification(owner));
        }
    }

    /// All is completed, and the queue is used for another connection, or not at all. Returns what was sent and is
    /// not acknowledged.
    pub fn take_unacked(&mut self) -> Option<Box<Zerocopy>> {
        let cold = self.policy.cold_mut()?;
        let mut zerocopy = cold.zerocopy.take()?;
        if !zerocopy.is_unacked() {
            zerocopy.reset();
            cold.zerocopy = Some(zerocopy);
            return None;
        }
        // Without memory, this queue copies from now on.
        cold.zerocopy = try_box(Zerocopy::new(zerocopy.from())).ok();
        self.stream.take_carried(|slot| zerocopy.land(slot));
        self.held -= zerocopy.held_bytes();
        Some(zerocopy)
    }
}
