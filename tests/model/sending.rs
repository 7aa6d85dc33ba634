//! What a flush has to do with each answer of its sink: the calls that it made are followed one by one.

use super::memory;
use super::ops::Claim;
use super::queue::{Byte, Kind, MISSING, Model, Part};
use super::run::out_of_memory;
use super::script::{Offer, Script};
use libc::c_int;
use sendq::capi::*;
use sendq::errno::Errno;
use sendq::records::RECORD;

/// A signal may come so often in a row before the host gets its turn.
const MAX_INTERRUPTS: u32 = 16;

/// The calls that a sink was made, in order, and what it took by each.
pub struct Trace<'a> {
    offers: &'a [Offer],
    taken: &'a [u8],
    at: usize,
}

impl<'a> Trace<'a> {
    pub fn of(script: &'a Script) -> Trace<'a> {
        Trace { offers: &script.offers, taken: &script.taken, at: 0 }
    }

    fn next(&mut self) -> Option<&'a Offer> {
        self.at += 1;
        self.offers.get(self.at - 1)
    }

    fn is_over(&self) -> bool {
        self.at >= self.offers.len()
    }

    fn take(&mut self, len: usize) -> &'a [u8] {
        let (now, later) = self.taken.split_at(len);
        self.taken = later;
        now
    }

    /// All calls were expected.
    pub fn end(&self) {
        assert!(self.is_over(), "there was a call too many");
    }
}

/// How much a flush may send: where there is a rate, the model knows it up to a byte or so.
#[derive(Clone, Copy)]
struct Budget {
    most: usize,
    least: usize,
}

impl Budget {
    fn spend(&mut self, len: usize) {
        self.most = self.most.saturating_sub(len);
        self.least = self.least.saturating_sub(len);
    }
}

impl Model {
    /// Why no flush begins, or how much it may send.
    fn begin_flush(&mut self, max_bytes: usize) -> Result<Budget, c_int> {
        if self.failed != 0 {
            return Err(self.failed);
        }
        if self.flushing {
            return Err(-libc::EBUSY);
        }
        if self.meet_deadline() {
            return Err(self.failed);
        }
        let available = self.available().count();
        let most = if max_bytes == 0 { available } else { available.min(max_bytes) };
        let mut budget = Budget { most, least: most };
        if self.is_paced() {
            self.look();
        }
        if available > 0
            && let Some(rate) = &mut self.rate
        {
            rate.fill(self.now);
            budget.most = most.min(usize::try_from(rate.most(self.now)).unwrap_or(most));
            budget.least = most.min(usize::try_from(rate.least(self.now)).unwrap_or(most));
        }
        Ok(budget)
    }

    fn end_flush(&mut self, calls: u64, shorts: u64, blocked: Option<bool>) {
        self.count_flush(calls, shorts);
        let flushed = std::mem::take(&mut self.flushed);
        self.count_for_floor(flushed);
        self.look();
        if self.available().next().is_some() {
            match blocked {
                Some(wants_read) => self.block(wants_read),
                // It is to be called again, whatever the sink said before.
                None => self.unblock(),
            }
        }
        self.rest();
    }

    /// A flush of at most `max_bytes` (0: any number) that made these calls.
    pub fn flush(&mut self, trace: &mut Trace, max_bytes: usize) -> c_int {
        let mut budget = match self.begin_flush(max_bytes) {
            Ok(budget) => budget,
            Err(errno) => return errno,
        };
        let (mut calls, mut shorts, mut hints, mut interrupts) = (0, 0, 0, 0);
        let (mut blocked, mut is_held_back) = (None, false);
        while budget.most > 0 {
            let Some(offer) = trace.next() else {
                assert_eq!(budget.least, 0, "nothing was in the way");
                break;
            };
            calls += 1;
            assert!(offer.len > 0 && offer.len <= budget.most);
            assert_eq!(offer.is_file(), self.starts_with_file());
            let exact = budget.most == budget.least && self.rate.is_none();
            let is_train = |more| !exact || more == (offer.len < budget.most);
            assert!(offer.more.is_none_or(is_train), "{offer:?} of {}", budget.most);
            // What was held back for more to come is pushed by a call of its own when no more can.
            let holds_back = offer.more == Some(true) || offer.is_file();
            let was_held_back = std::mem::replace(&mut is_held_back, holds_back);
            calls += u64::from(offer.outcome.is_err() && was_held_back);
            let taken = match offer.outcome {
                Err(Errno::INTERRUPTED) => {
                    interrupts += 1;
                    if interrupts < MAX_INTERRUPTS {
                        continue;
                    }
                    shorts += 1;
                    break;
                }
                Err(errno) if !errno.is_refusal() => {
                    self.check_end(errno);
                    self.end_flush(calls, shorts, None);
                    self.fail(errno.negated());
                    return errno.negated();
                }
                Err(_) => 0,
                Ok(taken) => taken,
            };
            interrupts = 0;
            hints |= self.leave(trace.take(taken));
            budget.spend(taken);
            if taken < offer.len {
                shorts += 1;
                if taken == 0 || !offer.is_file() {
                    blocked = Some(false);
                    break;
                }
            }
        }
        self.end_flush(calls, shorts, blocked);
        let remain = self.available().next().is_some();
        let what = if blocked.is_some() { SENDQ_BLOCKED } else { SENDQ_MORE };
        hints | if remain { what } else { 0 }
    }

    fn starts_with_file(&self) -> bool {
        self.parts.iter().find(|part| part.bytes().next().is_some()).is_some_and(Part::is_file)
    }

    /// A file may only be too short where it is.
    fn check_end(&self, errno: Errno) {
        let missing = self.available().next() == Some(MISSING);
        assert!(missing || errno != Errno::NO_DATA);
    }

    /// A flush in records that made these calls. `during` is called for each, with its number, before what it
    /// took is accounted for: the writer may have done anything meanwhile.
    pub fn flush_with(
        &mut self,
        trace: &mut Trace,
        max_bytes: usize,
        got: c_int,
        mut during: impl FnMut(&mut Model, usize),
    ) -> c_int {
        let mut budget = match self.begin_flush(max_bytes) {
            Ok(budget) => budget,
            Err(errno) => return errno,
        };
        let (mut calls, mut shorts, mut hints) = (0, 0, 0);
        let mut blocked = None;
        // What was refused is offered again in full, and what is left of a record before the next is gathered.
        let mut again = self.offered.is_some();
        let mut rest = self.offered;
        while again || budget.most > 0 {
            if rest.is_none() && self.gathers_missing(&budget, got, trace) {
                self.end_flush(calls, shorts, None);
                self.fail(Errno::NO_DATA.negated());
                return self.failed;
            }
            let Some(offer) = trace.next() else {
                if out_of_memory(got) {
                    self.end_flush(calls, shorts, None);
                    return got;
                }
                assert!(budget.least == 0 || memory::has_failed(), "nothing was in the way");
                break;
            };
            calls += 1;
            self.check_record(offer, &budget, rest, again);
            again = false;
            self.flushing = true;
            during(self, calls as usize - 1);
            self.flushing = false;
            if self.freed {
                return -libc::ECANCELED;
            }
            let taken = match offer.outcome {
                Ok(0) => Err(Errno::AGAIN),
                outcome => outcome,
            };
            match taken {
                Err(errno) if errno.is_refusal() => {
                    shorts += 1;
                    self.offered = Some((offer.base, offer.len));
                    let is_interrupted = errno == Errno::INTERRUPTED;
                    let wants_read = errno == Errno::WANT_READ;
                    blocked = (!is_interrupted).then_some(wants_read);
                    break;
                }
                Err(errno) => {
                    self.end_flush(calls, shorts, None);
                    self.fail(errno.negated());
                    return self.failed;
                }
                Ok(taken) => {
                    hints |= self.leave(trace.take(taken));
                    budget.spend(taken);
                    shorts += u64::from(taken < offer.len);
                    let next = offer.base.wrapping_add(taken);
                    rest = Some((next, offer.len - taken)).filter(|(_, left)| *left > 0);
                }
            }
        }
        self.end_flush(calls, shorts, blocked);
        let remain = self.available().next().is_some();
        hints
            | match blocked {
                _ if !remain => 0,
                Some(true) => SENDQ_WANT_READ,
                Some(false) => SENDQ_BLOCKED,
                None => SENDQ_MORE,
            }
    }

    /// What is offered is what was, or what is left of it, or else a full record, or all that may leave.
    fn check_record(
        &self,
        offer: &Offer,
        budget: &Budget,
        rest: Option<(*const u8, usize)>,
        again: bool,
    ) {
        if let Some((base, len)) = rest {
            assert_eq!(offer.base, base, "not where it was");
            if again {
                assert_eq!(offer.len, len, "not as much as it was");
            } else {
                assert!(offer.len <= len.min(budget.most) && offer.len >= len.min(budget.least));
            }
            return;
        }
        assert!(offer.len > 0 && offer.len <= budget.most.min(RECORD));
        if !self.has_large_run() && !memory::has_failed() {
            assert!(offer.len >= budget.least.min(RECORD), "{} of {}", offer.len, budget.least);
        }
    }

    /// There is perhaps a run that fills a record, and is sent from where it lies.
    fn has_large_run(&self) -> bool {
        let mut run = 0;
        self.parts.iter().any(|part| {
            let len = part.bytes().count();
            run = if part.kind() == Kind::Copied { run + len } else { len };
            run >= RECORD && !part.is_file()
        })
    }

    /// What would be read for the next record is not all there. Where nobody can say how much of it is read, the
    /// result tells.
    fn gathers_missing(&self, budget: &Budget, got: c_int, trace: &Trace) -> bool {
        let misses = |len: usize| self.available().take(len.min(RECORD)).any(|b| b == MISSING);
        if self.has_large_run() || budget.most != budget.least || memory::has_failed() {
            return got == Errno::NO_DATA.negated() && trace.is_over() && misses(budget.most);
        }
        misses(budget.most)
    }

    /// sendq_sendmsg of `message` came back with `got`, after these calls. `refuses` says whether the pool may
    /// have refused so many bytes.
    pub fn sendmsg(
        &mut self,
        trace: &mut Trace,
        message: &[u8],
        is_single: bool,
        got: isize,
        refuses: impl Fn(usize) -> bool,
    ) -> isize {
        if message.is_empty() {
            return self.flush(trace, 0).min(0) as isize;
        }
        let refusal = self.admit(0);
        if refusal != 0 {
            return refusal as isize;
        }
        if self.waiting() > 0 {
            let hints = self.flush(trace, 0);
            if hints < 0 {
                return hints as isize;
            }
        }
        if is_single && self.is_passable() {
            return self.write_through(trace, message, got, refuses);
        }
        let until_high = self.marks.1.saturating_sub(self.memory() as u64);
        let kept = message.len().min(usize::try_from(until_high).unwrap_or(usize::MAX));
        if kept == 0 {
            return -libc::EAGAIN as isize;
        }
        let refusal = self.admit(kept);
        if refusal != 0 {
            let is_full = refusal == -libc::ENOBUFS;
            return if is_full { -libc::EAGAIN } else { refusal } as isize;
        }
        let is_refusal = [-libc::EAGAIN, -libc::ENOMEM].contains(&(got as c_int));
        if is_refusal && refuses(kept) {
            return got;
        }
        let is_first = self.available().next().is_none();
        assert!(self.append(&message[..kept]) >= 0);
        if is_first {
            let hints = self.flush(trace, 0);
            if hints < 0 {
                return hints as isize;
            }
        }
        kept as isize
    }

    fn write_through(
        &mut self,
        trace: &mut Trace,
        message: &[u8],
        got: isize,
        refuses: impl Fn(usize) -> bool,
    ) -> isize {
        let mut calls = 0;
        let offer = loop {
            let offer = trace.next().expect("nothing was in the way");
            calls += 1;
            assert_eq!((offer.len, offer.more), (message.len(), Some(false)));
            if !offer.is_interrupted() || calls == u64::from(MAX_INTERRUPTS) {
                break offer;
            }
        };
        let taken = match offer.outcome {
            Err(errno) if !errno.is_refusal() => {
                self.end_flush(calls, 0, None);
                self.fail(errno.negated());
                return errno.negated() as isize;
            }
            outcome => outcome.unwrap_or(0),
        };
        assert_eq!(trace.take(taken), &message[..taken]);
        self.leave_past(taken);
        let kept = (message.len() - taken).min(usize::try_from(self.marks.1).unwrap_or(usize::MAX));
        let is_refused = kept > 0 && got < (taken + kept) as isize && refuses(kept);
        if !is_refused && kept > 0 {
            assert!(self.append(&message[taken..taken + kept]) >= 0);
        }
        self.progress_by(taken);
        let is_short = taken < message.len();
        let blocked = (is_short && !offer.is_interrupted()).then_some(false);
        self.end_flush(calls, u64::from(is_short), blocked);
        match taken {
            _ if !is_refused => (taken + kept) as isize,
            0 if out_of_memory(got as c_int) => got,
            0 => -libc::EAGAIN as isize,
            _ => taken as isize,
        }
    }

    /// Nothing is queued, and nothing holds back what comes.
    fn is_passable(&self) -> bool {
        let is_held = self.corked.is_some() || self.has_holes();
        self.waiting() == 0 && !is_held && self.rate.is_none()
    }

    /// sendq_send of a message that made these calls: a flush, then an offer of `len` bytes from where they are,
    /// if `may_pass`, or else an append and a flush. `memory` of its bytes are not in files. `keep` appends it
    /// without those that have left; it fails if the pool refuses it.
    pub fn send_message(
        &mut self,
        trace: &mut Trace,
        max_bytes: usize,
        message: &[Byte],
        memory: usize,
        may_pass: bool,
        keep: impl FnOnce(&mut Model, usize) -> c_int,
    ) -> c_int {
        let refusal = self.admit(0);
        if refusal != 0 {
            return refusal;
        }
        let (mut hints, before) = (0, self.counts.sent);
        if self.waiting() > 0 {
            hints = self.flush(trace, max_bytes);
            if hints < 0 {
                return hints;
            }
        }
        let left = (self.counts.sent - before) as usize;
        let budget = if max_bytes == 0 { usize::MAX } else { max_bytes - left };
        let budget = if hints & SENDQ_MORE != 0 { 0 } else { budget };
        if may_pass && budget > 0 && !message.is_empty() && self.is_passable() {
            let refusal = self.admit(memory);
            if refusal != 0 {
                return refusal;
            }
            let result = self.pass_by(trace, message, budget, keep);
            return if result < 0 { result } else { hints | result };
        }
        let kept = keep(self, 0);
        if kept < 0 {
            return kept;
        }
        hints |= kept & !SENDQ_WAKE;
        let rest = match budget {
            0 if self.available().next().is_none() => 0,
            0 => SENDQ_MORE,
            _ if hints & SENDQ_BLOCKED != 0 => 0,
            usize::MAX => self.flush(trace, 0),
            budget => self.flush(trace, budget),
        };
        hints | if rest < 0 { SENDQ_CLOSED } else { rest }
    }

    /// A message is offered from where it is.
    fn pass_by(
        &mut self,
        trace: &mut Trace,
        message: &[Byte],
        budget: usize,
        keep: impl FnOnce(&mut Model, usize) -> c_int,
    ) -> c_int {
        let (len, mut calls) = (message.len().min(budget), 0);
        let offer = loop {
            let offer = trace.next().expect("nothing was in the way");
            calls += 1;
            assert_eq!(offer.len, len);
            if !offer.is_interrupted() || calls == u64::from(MAX_INTERRUPTS) {
                break offer;
            }
        };
        let taken = match offer.outcome {
            Err(errno) if !errno.is_refusal() => {
                self.end_flush(calls, 0, None);
                self.fail(errno.negated());
                return self.failed;
            }
            outcome => outcome.unwrap_or(0),
        };
        let bytes = trace.take(taken).iter().copied().map(Byte::from);
        assert!(bytes.eq(message[..taken].iter().copied()));
        self.leave_past(taken);
        let kept = keep(self, taken);
        self.progress_by(taken);
        let blocked = (taken < len && !offer.is_interrupted()).then_some(false);
        self.end_flush(calls, u64::from(taken < len), blocked);
        let remain = self.available().next().is_some();
        match blocked {
            _ if kept < 0 => kept,
            _ if !remain => kept & !SENDQ_WAKE,
            Some(_) => kept & !SENDQ_WAKE | SENDQ_BLOCKED,
            None => kept & !SENDQ_WAKE | SENDQ_MORE,
        }
    }

    /// The bytes that the old path claims to have sent, and how many of them.
    pub fn claimed(&self, claim: Claim) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.available().map(|byte| byte as u8).collect();
        match claim {
            Claim::Right(len) => bytes.truncate(len),
            Claim::Wrong(len, at) => {
                bytes.truncate(len);
                let place = at % bytes.len().max(1);
                bytes.get_mut(place).into_iter().for_each(|byte| *byte ^= 0x55);
            }
            Claim::TooMany(more) => bytes.extend(std::iter::repeat_n(7, more)),
        }
        bytes
    }

    /// sendq_verify of `bytes`: the result, and where the first byte differs.
    pub fn verify(&mut self, bytes: &[u8]) -> (c_int, Option<u64>) {
        if let Err(errno) = self.begin_flush(0) {
            return (errno, None);
        }
        // No sink was asked: if it was full, it is.
        self.look();
        let claimed = bytes.iter().copied().map(Byte::from).map(Some);
        let mut waiting = self.available();
        let differs = claimed.map(|byte| (byte, waiting.next())).position(|(a, b)| a != b);
        drop(waiting);
        let Some(at) = differs else {
            let hints = self.send(bytes.len());
            self.rest();
            return (hints, None);
        };
        let next = self.available().nth(at);
        self.pass_marks();
        self.rest();
        match next {
            Some(MISSING) => (Errno::NO_DATA.negated(), None),
            _ => (-libc::EILSEQ, Some(self.counts.sent + at as u64)),
        }
    }
}
