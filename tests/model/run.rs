//! Does each operation to the queues and to the models, and compares.

use super::driver::{Driver, HostClock, PoolDriver, World, world};
use super::letter::{Given, Planned};
use super::memory;
use super::ops::{COPY_BELOW, Claim, Letter, Op, PartOf, Reaction, SHARED_BYTES, Setting};
use super::pace::{Bucket, Floor};
use super::queue::{Byte, Kind, MISSING, Model, Part, Release};
use super::script::{Answer, FILE_BYTES, Script, file, file_byte};
use super::sending::Trace;
use libc::{c_int, c_void};
use sendq::block::HEADER;
use sendq::capi::*;
use sendq::iovec::IoVec;
use sendq::records::RECORD;
use sendq::sink::Sink;
use sendq::slot::Owner;
use sendq::stats::PoolStats;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

/// A queue as its host keeps it.
struct Host {
    driver: Box<dyn Driver>,
    freed: Cell<bool>,
    /// Of the flushes within callbacks, in the order of their beginnings: what their sinks were offered.
    flushes: RefCell<VecDeque<Script>>,
    /// The ids of all holes that were made.
    holes: RefCell<Vec<u64>>,
}

impl Host {
    fn new(driver: Box<dyn Driver>) -> Host {
        Host {
            driver,
            freed: Cell::new(false),
            flushes: RefCell::default(),
            holes: RefCell::default(),
        }
    }

    /// One of the holes, the last ones first.
    fn hole(&self, which: usize) -> Option<u64> {
        let holes = self.holes.borrow();
        holes.iter().rev().nth(which % holes.len().max(1)).copied()
    }

    /// What an owner, or a writer, does. `id` is whose doing it is, `heir` is who owns what is appended.
    fn react(&self, then: Reaction, id: usize, heir: *const Person) -> c_int {
        match then {
            Reaction::Nothing => 0,
            Reaction::Free if self.freed.replace(true) => 0,
            Reaction::Free => {
                self.driver.free();
                0
            }
            _ if self.freed.get() => -libc::EINVAL,
            Reaction::Append(len) => self.driver.append(&reply(id, len)),
            Reaction::Discard => self.driver.discard(),
            Reaction::Consume(len) => self.driver.consume(len),
            Reaction::Cork => self.driver.cork(),
            Reaction::Uncork => self.driver.uncork(),
            Reaction::Close => self.driver.close(),
            Reaction::Rollback => self.driver.rollback(),
            Reaction::EndMessage => self.driver.end_message(),
            Reaction::DiscardUnstarted => self.driver.discard_unstarted(),
            Reaction::Reset => self.driver.reset(),
            Reaction::Fail => self.driver.fail(-libc::EIO),
            Reaction::Fill(which, len) => {
                self.hole(which).map_or(0, |hole| self.driver.fill(hole, &reply(id, len)))
            }
            Reaction::Ref(len) => {
                // SAFETY: a Person of the run.
                let heir = unsafe { &*heir };
                self.driver.append_ref(heir.address(), len, heir.owner())
            }
            Reaction::Message(len) => {
                // SAFETY: a Person of the run.
                let heir = unsafe { &*heir };
                let head = reply(id, HEAD);
                let parts = [
                    part(SENDQ_PART_COPY, head.as_ptr(), 0, HEAD),
                    part(SENDQ_PART_REF, heir.memory.as_ptr(), 0, len),
                ];
                self.driver.append_message(&parts, heir.owner())
            }
            Reaction::Flush => {
                let at = self.flushes.borrow().len();
                self.flushes.borrow_mut().push_back(Script::default());
                let mut sink = Script::default();
                let result = self.driver.flush(&mut sink, 0);
                self.flushes.borrow_mut()[at] = sink;
                result
            }
        }
    }
}

/// How many bytes to copy a message has that is appended in a callback.
const HEAD: usize = 10;

/// A part of a message, without an owner of its own.
fn part(kind: u32, data: *const u8, offset: u64, len: usize) -> sendq_part_t {
    let (fd, len) = (if kind == SENDQ_PART_FILE { file() } else { -1 }, len as u64);
    let (fd, arg) = (fd as sendq_fd_t, std::ptr::null_mut());
    sendq_part_t { kind, fd, data: data.cast(), offset, len, release: None, arg }
}

/// An owner: which queue it calls back into, and what it does there. Released at most once.
struct Person {
    host: *const Host,
    q: usize,
    then: Reaction,
    id: usize,
    /// NULL for a file, a notification or a message.
    data: Option<Vec<u8>>,
    /// None: a message.
    len: Option<usize>,
    /// What else is borrowed until it is released.
    memory: Vec<u8>,
    /// Who owns what it appends.
    heir: *const Person,
    /// It has a slot in the queue.
    is_kept: bool,
    log: *const RefCell<Vec<Released>>,
}

impl Person {
    fn owner(&self) -> Owner {
        Owner { release: Some(release), arg: (&raw const *self).cast_mut().cast() }
    }

    /// Of its memory.
    fn address(&self) -> *const u8 {
        self.data.as_ref().map_or(std::ptr::null(), |data| data.as_ptr())
    }
}

/// Who was released, with which length, why, and what became of what was done then.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Released {
    id: usize,
    len: usize,
    reason: c_int,
    result: c_int,
}

thread_local! {
    /// How many releases of slots are under way.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// What a reaction appends.
fn reply(id: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| (i ^ id) as u8).collect()
}

unsafe extern "C-unwind" fn release(
    arg: *mut c_void,
    data: *const c_void,
    len: usize,
    reason: c_int,
) {
    // SAFETY: the Person that was given with the slot, alive until the run ends.
    memory::outside(|| unsafe {
        let person = &*arg.cast::<Person>();
        assert_eq!(data.cast(), person.address());
        let at = (*person.log).borrow().len();
        (*person.log).borrow_mut().push(Released { id: person.id, len, reason, result: 0 });
        // One for each queue at most: what a release causes on the same queue waits for its return. Only an
        // append that keeps nothing releases at once.
        let depth = DEPTH.get();
        assert!(depth < 2 || !person.is_kept, "releases nest");
        DEPTH.set(depth + usize::from(person.is_kept));
        let result = (*person.host).react(person.then, person.id, person.heir);
        DEPTH.set(depth);
        (*person.log).borrow_mut()[at].result = result;
    });
}

/// A writer that follows a script, and does something else in one of its calls.
struct ScriptedWriter {
    script: Script,
    host: *const Host,
    at: usize,
    then: Reaction,
    heir: *const Person,
    result: Option<c_int>,
    log: *const RefCell<Vec<Released>>,
    /// How many were released when that call came back.
    released: usize,
}

/// Whose doing it is when a writer appends.
const WRITER: usize = usize::MAX - 77;

unsafe extern "C-unwind" fn write(arg: *mut c_void, data: *const c_void, len: usize) -> i64 {
    // SAFETY: the writer of the flush that calls this, and what it offers.
    let writer = unsafe { &mut *arg.cast::<ScriptedWriter>() };
    memory::outside(|| {
        let outcome = writer.script.write(&[IoVec::new(data.cast(), len)], false);
        if writer.script.offers.len() == writer.at + 1 {
            // SAFETY: it lives as long as the run.
            writer.result = Some(unsafe { &*writer.host }.react(writer.then, WRITER, writer.heir));
            // SAFETY: as above.
            writer.released = unsafe { &*writer.log }.borrow().len();
        }
        outcome.map_or_else(|errno| i64::from(errno.negated()), |taken| taken as i64)
    })
}

/// A message as it is given to a driver and to the model.
struct Message {
    parts: Vec<sendq_part_t>,
    given: Vec<Given>,
    owner: Owner,
    id: Option<usize>,
}

impl Default for Message {
    fn default() -> Message {
        Message { parts: Vec::new(), given: Vec::new(), owner: Owner::NONE, id: None }
    }
}

/// What a part shows.
///
/// # Safety
/// Its memory is there.
unsafe fn bytes_of(part: &sendq_part_t) -> Vec<Byte> {
    let len = part.len as usize;
    if part.kind == SENDQ_PART_FILE {
        let byte = |at| if at < FILE_BYTES { file_byte(at).into() } else { MISSING };
        return (part.offset..).take(len).map(byte).collect();
    }
    // SAFETY: as the caller says.
    let bytes = unsafe { std::slice::from_raw_parts(part.data.cast::<u8>(), len) };
    bytes.iter().copied().map(Byte::from).collect()
}

pub struct Run {
    setting: Setting,
    /// Boxed, so that it stays where it is: the pools hold its address.
    clock: Box<HostClock>,
    pools: [Box<dyn PoolDriver>; 2],
    /// What the pools may hold; 0: all there is.
    max: u64,
    /// The most that they held.
    peaks: [u64; 2],
    /// People hold their addresses.
    hosts: [Rc<Host>; 2],
    models: [Model; 2],
    shared_bytes: Vec<u8>,
    /// Boxed, so that they stay where they are: sendq holds their addresses.
    #[allow(clippy::vec_box)]
    people: Vec<Box<Person>>,
    /// What parts of messages borrow.
    memories: Vec<Vec<u8>>,
    log: Box<RefCell<Vec<Released>>>,
    expected: Vec<Released>,
    lent: [*mut u8; 2],
    /// What may have been taken of a pool beyond its budget.
    forced: u64,
    next: u32,
    /// Of each pool: a turn of sendq_pool_next is on.
    turns: [bool; 2],
    /// Of each pool: which queues are ready is tracked.
    tracks: [bool; 2],
    /// A queue had a rate once.
    had_rate: bool,
}

impl Run {
    pub fn new(setting: Setting) -> Run {
        let clock = Box::new(HostClock::default());
        let shared_bytes: Vec<u8> = (0..SHARED_BYTES).map(|i| (i * 7) as u8).collect();
        let World { pools, queues } = world(&setting, &clock, &shared_bytes);
        let mut run = Run {
            setting,
            clock,
            pools,
            max: setting.max_bytes(),
            peaks: [0; 2],
            hosts: queues.map(|driver| Rc::new(Host::new(driver))),
            models: setting.max_messages.map(|max| Model::new(setting.marks(), max)),
            shared_bytes,
            people: Vec::new(),
            memories: Vec::new(),
            log: Box::default(),
            expected: Vec::new(),
            lent: [std::ptr::null_mut(); 2],
            forced: 0,
            next: 0,
            turns: [false; 2],
            tracks: [setting.tracks; 2],
            had_rate: false,
        };
        run.set_clock(1_000_000_000_000);
        run
    }

    fn set_clock(&mut self, now: u64) {
        self.clock.now.set(now);
        // So that both pools have seen it.
        for host in self.hosts.iter().filter(|host| !host.freed.get()) {
            host.driver.retry_after_ns();
        }
        // Should it jump back, time stands still.
        self.models.iter_mut().for_each(|model| model.now = model.now.max(now));
    }

    fn payload(&mut self, len: usize) -> Vec<u8> {
        self.next += len as u32;
        (self.next - len as u32..self.next).map(|i| (i ^ i >> 8) as u8).collect()
    }

    fn person(
        &mut self,
        q: usize,
        then: Reaction,
        data: Option<Vec<u8>>,
        len: usize,
        is_kept: bool,
    ) -> Owner {
        let q = self.called_back(q);
        // So that the id of the person is the last one.
        let heir = self.heir(q, then, self.people.len() + 1);
        self.add_person(q, then, data, Some(len), is_kept, heir)
    }

    /// The owner of a message, of which `memory` is borrowed.
    fn owner(&mut self, q: usize, then: Reaction, memory: Vec<u8>) -> Owner {
        let q = self.called_back(q);
        let heir = self.heir(q, then, self.people.len() + 1);
        let owner = self.add_person(q, then, None, None, false, heir);
        self.people.last_mut().unwrap().memory = memory;
        owner
    }

    /// The queue that the owners of what is in the queue `q` call.
    fn called_back(&self, q: usize) -> usize {
        if self.setting.crosses { 1 - q } else { q }
    }

    fn add_person(
        &mut self,
        q: usize,
        then: Reaction,
        data: Option<Vec<u8>>,
        len: Option<usize>,
        is_kept: bool,
        heir: *const Person,
    ) -> Owner {
        let (id, log, host) = (self.people.len(), &raw const *self.log, &raw const *self.hosts[q]);
        let memory = Vec::new();
        let person = Person { host, q, then, id, data, len, memory, heir, is_kept, log };
        self.people.push(Box::new(person));
        self.people.last().unwrap().owner()
    }

    /// Who owns what the one with this id appends, if anybody has to.
    fn heir(&mut self, q: usize, then: Reaction, id: usize) -> *const Person {
        let none = std::ptr::null();
        let (data, len, memory) = match then {
            Reaction::Ref(len) => (Some(reply(id, len)), Some(len), Vec::new()),
            Reaction::Message(len) => (None, None, reply(id, len)),
            _ => {
                // Nobody: the place in line is kept all the same.
                self.add_person(q, Reaction::Nothing, None, None, false, none);
                return none;
            }
        };
        self.add_person(q, Reaction::Nothing, data, len, false, none);
        let heir = self.people.last_mut().unwrap();
        heir.memory = memory;
        &raw const **heir
    }

    /// The owners of what is gone are released, in order, and react. In a callback of one of them that is left to
    /// the call that released it.
    fn release(&mut self, q: usize) {
        if std::mem::replace(&mut self.models[q].releasing, true) {
            return;
        }
        loop {
            let next = self.log.borrow().get(self.expected.len()).map(|released| released.id);
            let Some(gone) = self.models[q].next_gone(next) else { break };
            if let Some(release) = gone.release() {
                self.release_one(release);
            }
        }
        self.models[q].releasing = false;
    }

    fn release_at_once(&mut self, id: usize, left: usize) {
        self.release_one(Release { id, reasons: vec![0], left: Some(Some(left)) });
    }

    fn release_one(&mut self, Release { id, reasons, left }: Release) {
        let at = self.expected.len();
        let person = &self.people[id];
        // A spliced piece still calls back into the queue that it was appended to.
        let (q, then) = (person.q, person.then);
        let got = self.log.borrow().get(at).copied().unwrap_or_default();
        let len = person.len.unwrap_or(left.flatten().unwrap_or(got.len));
        // If its parts ended differently, any of their reasons will do.
        let failed: Vec<c_int> = reasons.into_iter().filter(|reason| *reason != 0).collect();
        let first = failed.first().copied().unwrap_or(0);
        let reason = if failed.contains(&got.reason) { got.reason } else { first };
        self.expected.push(Released { id, len, reason, result: 0 });
        let defers = self.defers(q);
        let mut model = std::mem::take(&mut self.models[q]);
        let result = self.react(&mut model, q, then, id, got.result, defers);
        self.models[q] = model;
        self.expected[at].result = result;
        self.release(q);
    }

    /// Whether a call on this queue comes from a release callback of it, or of any thread-safe queue.
    fn defers(&self, q: usize) -> bool {
        let all = self.setting.threadsafe && !self.setting.core;
        self.models[q].releasing || all && self.models[1 - q].releasing
    }

    /// What an owner or a writer does to the model of the queue `q`. The pool may have refused what it appends.
    fn react(
        &mut self,
        model: &mut Model,
        q: usize,
        then: Reaction,
        id: usize,
        got: c_int,
        defers: bool,
    ) -> c_int {
        let is_refused = got == -libc::ENOBUFS && self.max > 0;
        let host = self.hosts[q].clone();
        // The heir of a writer is the last one that was made.
        let heir = if id == WRITER { self.people.len() - 1 } else { id.wrapping_sub(1) };
        match then {
            Reaction::Nothing => 0,
            Reaction::Free if model.freed => 0,
            _ if model.freed => -libc::EINVAL,
            Reaction::Flush => {
                let sink = host.flushes.borrow_mut().pop_front().expect("there was one");
                let mut trace = Trace::of(&sink);
                let hints = model.flush(&mut trace, 0);
                trace.end();
                hints
            }
            _ if out_of_memory(got) => got,
            Reaction::Append(len) => {
                let is_refused = is_refused && model.admit(len) == 0;
                if is_refused { got } else { model.append(&reply(id, len)) }
            }
            Reaction::Ref(len) => {
                let bytes = reply(id, len);
                let is_kept = defers || len >= COPY_BELOW;
                let admitted =
                    if is_kept && len == 0 { model.admit_slot(0) } else { model.admit(len) };
                match admitted {
                    0 if is_refused && (is_kept || len > 0) => got,
                    0 if is_kept => {
                        let bytes = bytes.into_iter().map(Byte::from);
                        model.rise(Part::new(Kind::Borrowed, bytes, Some(heir)))
                    }
                    errno if is_kept => errno,
                    _ => {
                        let hints = model.append(&bytes);
                        if hints >= 0 {
                            self.release_heir(model, q, heir, len);
                        }
                        hints
                    }
                }
            }
            Reaction::Message(len) => {
                let given = |kind, bytes: Vec<u8>| {
                    let bytes = bytes.into_iter().map(Byte::from).collect();
                    Given { kind, bytes, owner: None }
                };
                let parts =
                    [given(Kind::Copied, reply(id, HEAD)), given(Kind::Borrowed, reply(id, len))];
                let planned = Planned::new(&parts, Some(heir), 0, defers, 0);
                let is_at_once = !planned.at_once.is_empty();
                let hints = model.append_message(planned, || is_refused);
                if hints >= 0 && is_at_once {
                    self.release_heir(model, q, heir, 0);
                }
                hints
            }
            Reaction::EndMessage => model.end_message(),
            Reaction::DiscardUnstarted => {
                self.force(1);
                model.discard_unstarted()
            }
            Reaction::Fill(which, len) => {
                host.hole(which).map_or(0, |hole| model.fill(hole, &reply(id, len)))
            }
            Reaction::Reset => model.reset(),
            Reaction::Fail => model.end_with(-libc::EIO),
            Reaction::Discard => model.discard(),
            Reaction::Consume(len) => model.consume(len),
            Reaction::Cork => model.cork(),
            Reaction::Uncork => model.uncork(),
            Reaction::Close => model.close(),
            Reaction::Rollback => model.rollback(),
            Reaction::Free => {
                model.free();
                0
            }
        }
    }

    /// An heir is released at once, and does nothing.
    fn release_heir(&mut self, model: &mut Model, q: usize, id: usize, len: usize) {
        // The call may release those first that a flush has sent meanwhile.
        let next = self.log.borrow().get(self.expected.len()).map(|released| released.id);
        if next.is_some_and(|next| next != id) {
            std::mem::swap(model, &mut self.models[q]);
            self.release(q);
            std::mem::swap(model, &mut self.models[q]);
        }
        self.expected.push(Released { id, len, reason: 0, result: 0 });
    }

    /// So many blocks may have been taken beyond the budget.
    fn force(&mut self, blocks: u64) {
        self.forced += blocks * (self.setting.chunk_bytes + 8192);
    }

    /// What so many copied bytes take of a pool at most.
    fn blocks_for(&self, len: usize) -> u64 {
        let header = HEADER as u64;
        (len as u64).div_ceil(self.setting.chunk_bytes - header) * self.setting.chunk_bytes
    }

    /// A call for which the queue `q` had room came back with `got`. Whether the pool has room, only the
    /// pool can say; it may only refuse what could have taken it over its budget, or what there was no memory for.
    fn over_budget(&self, q: usize, got: c_int, needs: u64) -> bool {
        if out_of_memory(got) {
            return true;
        }
        if got != -libc::ENOBUFS || self.max == 0 {
            return false;
        }
        self.may_refuse(q, needs);
        true
    }

    fn may_refuse(&self, q: usize, needs: u64) {
        let stats = self.pools[self.setting.pool_of(q)].stats();
        let in_use = stats.used + stats.pinned + stats.shared;
        assert!(in_use + needs > self.max, "{in_use} and {needs} are within {}", self.max);
        let (held, reserve) = (self.hosts[q].driver.memory(), self.setting.reserve_bytes());
        assert!(held + needs > reserve, "{held} and {needs} are within {reserve}");
    }

    /// Does one operation, of which an allocation may fail ([`memory::fail`]).
    pub fn step(&mut self, q: usize, op: &Op, fails: u32) {
        let skipped = match op {
            Op::CloseWithin(_) | Op::SetRate(..) | Op::SetMinRate(..) => !self.setting.simulated,
            _ => false,
        };
        if self.models[q].freed || skipped {
            return;
        }
        let (asked, released) = (self.clock.asked.get(), self.log.borrow().len());
        memory::fail(fails);
        if let Some((got, want)) = self.apply(q, op) {
            self.release(q);
            assert_eq!(got, want, "{op:?}");
        }
        let nobody = self.log.borrow().len() == released;
        assert!(!op.needs_no_clock() || !nobody || self.clock.asked.get() == asked, "{op:?}");
        memory::fail(0);
    }

    /// What the operation gave, and what it should have given, if that was not compared yet.
    fn apply(&mut self, q: usize, op: &Op) -> Option<(c_int, c_int)> {
        let block = self.setting.chunk_bytes;
        let host = &*self.hosts[q].clone();
        let driver = &*host.driver;
        let result = match op {
            Op::Append(len) => {
                let bytes = self.payload(*len);
                let fits =
                    (1..=driver.room()).contains(&(*len as u64)) && !self.models[q].is_full();
                let got = driver.append(&bytes);
                assert!(!fits || got >= 0 || out_of_memory(got), "there was room");
                (got, self.append(q, got, &bytes))
            }
            Op::Appendv(lengths) => {
                let bytes = self.payload(lengths.iter().sum());
                let got = driver.appendv(&cut(&bytes, lengths));
                (got, self.append(q, got, &bytes))
            }
            Op::Ref(len, then) => {
                let bytes = self.payload(*len);
                let owner = self.person(q, *then, Some(bytes.clone()), *len, *len >= COPY_BELOW);
                let id = self.people.len() - 1;
                let data = self.people[id].data.as_ref().unwrap().as_ptr();
                let got = driver.append_ref(data, *len, owner);
                let want = if *len < COPY_BELOW {
                    let hints = self.append(q, got, &bytes);
                    if hints >= 0 {
                        self.release_at_once(id, 0);
                    }
                    hints
                } else {
                    match self.models[q].admit(*len) {
                        0 if self.over_budget(q, got, block + *len as u64) => got,
                        0 => {
                            let bytes = bytes.into_iter().map(Byte::from);
                            self.models[q].rise(Part::new(Kind::Borrowed, bytes, Some(id)))
                        }
                        errno => errno,
                    }
                };
                (got, want)
            }
            Op::Buf(offset, len) => {
                let got = driver.append_buf(*offset, *len);
                let want = match self.models[q].admit(*len) {
                    _ if offset + len > self.shared_bytes.len() => -libc::EINVAL,
                    _ if *len < self.setting.share_below => {
                        let bytes = self.shared_bytes[*offset..offset + len].to_vec();
                        self.append(q, got, &bytes)
                    }
                    0 if self.over_budget(q, got, block) => got,
                    0 => {
                        let bytes = self.shared_bytes[*offset..offset + len].iter();
                        let bytes = bytes.copied().map(Byte::from);
                        self.models[q].rise(Part::new(Kind::Shared, bytes, None))
                    }
                    errno => errno,
                };
                (got, want)
            }
            Op::File(len, then) => {
                let offset = u64::from(self.next) % (FILE_BYTES - *len as u64);
                self.file(q, driver, offset, *len, *then)
            }
            Op::ShortFile(has, len) => {
                self.file(q, driver, FILE_BYTES - *has as u64, *len, Reaction::Nothing)
            }
            Op::Notify(then) => self.notify(q, driver, *then),
            Op::NotifyMany(count) => {
                for _ in 0..*count {
                    let (got, want) = self.notify(q, driver, Reaction::Nothing);
                    self.release(q);
                    assert_eq!(got, want);
                }
                return None;
            }
            Op::Reserve(len) => {
                let reserved = driver.reserve(*len);
                let got = reserved.err().unwrap_or(0);
                // A block of its own, of whole pages, if the usual ones are too small.
                let needs = block.max((*len + HEADER) as u64 + 4096);
                let want = match self.models[q].admit(*len) {
                    0 if self.over_budget(q, got, needs) => got,
                    errno => errno,
                };
                if let Ok(memory) = reserved {
                    (self.lent[q], self.models[q].reserved) = (memory, Some(*len));
                    // SAFETY: lent for so many.
                    unsafe { memory.write_bytes(0xee, *len) };
                }
                (got, want)
            }
            Op::Commit(used) => {
                let valid = self.models[q].reserved.is_some_and(|reserved| *used <= reserved);
                let bytes = self.payload(if valid { *used } else { 0 });
                if valid {
                    // SAFETY: lent for as many at least.
                    unsafe {
                        self.lent[q].copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
                    }
                }
                let got = driver.commit(*used);
                let model = &mut self.models[q];
                if valid || model.refusal() != 0 {
                    model.reserved = None;
                }
                let want = match model.refusal() {
                    0 if !valid => -libc::EINVAL,
                    0 if bytes.is_empty() => 0,
                    // Room was promised: a cap that was lowered meanwhile does not take it back.
                    0 => model.rise(Part::copied(&bytes)),
                    errno => errno,
                };
                (got, want)
            }
            Op::Cork => {
                let got = driver.cork();
                unless_out_of_memory(got, || self.models[q].cork())
            }
            Op::Uncork => (driver.uncork(), self.models[q].uncork()),
            Op::Rollback => (driver.rollback(), self.models[q].rollback()),
            Op::Splice(most) => {
                let from = &self.hosts[1 - q];
                if from.freed.get() {
                    return None;
                }
                // All that the pool of the other queue has is that queue's, if it is another pool.
                let stats = self.pools[1 - q].stats();
                let moved = stats.used + stats.pinned;
                let most_bytes = if *most == usize::MAX { u64::MAX } else { *most as u64 };
                let held = from.driver.memory();
                let got = driver.splice(from.driver.address(), most_bytes);
                // Without memory, perhaps no piece was divided: a divided one takes a block more.
                let is_whole = out_of_memory(got) && from.driver.memory() == held;
                self.force(1);
                let want = self.splice(q, got, moved, *most);
                let from = &mut self.models[1 - q];
                let is_busy = from.reserved.is_some() || from.offered.is_some();
                let is_divided = !is_busy && from.corked.is_none();
                if want < 0 && is_divided && !is_whole && !from.has_holes() && *most > 0 {
                    from.divide(*most);
                }
                (got, want)
            }
            Op::Message(letter) => return self.append_message(q, driver, letter),
            Op::SendMessage { letter, budget, answers } => {
                return self.send_message(q, driver, letter, *budget, answers);
            }
            Op::EndMessage => {
                unless_out_of_memory(driver.end_message(), || self.models[q].end_message())
            }
            Op::DiscardUnstarted => {
                self.force(1);
                unless_out_of_memory(driver.discard_unstarted(), || {
                    self.models[q].discard_unstarted()
                })
            }
            Op::Hole(len) => {
                let made = driver.hole(*len);
                let got = made.err().unwrap_or(0);
                let needs = block.max((*len + HEADER) as u64 + 4096);
                let want = match self.models[q].admit(*len) {
                    0 if self.over_budget(q, got, needs) => got,
                    errno => errno,
                };
                if let Ok(id) = made {
                    host.holes.borrow_mut().push(id);
                    self.models[q].hole(id, *len);
                }
                (got, want)
            }
            Op::Fill(which, len) => {
                let hole = host.hole(*which)?;
                let bytes = self.payload(*len);
                (driver.fill(hole, &bytes), self.models[q].fill(hole, &bytes))
            }
            Op::Reset => (driver.reset(), self.models[q].reset()),
            Op::Fail(errno) => (driver.fail(*errno), self.models[q].end_with(*errno)),
            Op::Flush { budget, answers } => {
                let mut sink = Script::new(answers.iter().copied());
                let got = driver.flush(&mut sink, *budget);
                assert_eq!(sink.empty, 0);
                let mut trace = Trace::of(&sink);
                let want = self.models[q].flush(&mut trace, *budget);
                trace.end();
                (got, want)
            }
            Op::FlushWith { budget, answers, at, then } => {
                self.flush_with(q, host, *budget, answers, *at, *then)
            }
            Op::Send { lengths, answers } => return self.send(q, driver, lengths, answers),
            Op::Verify(claim) => self.verify(q, driver, *claim),
            Op::Consume(len) => (driver.consume(*len), self.models[q].consume(*len)),
            Op::Discard => (driver.discard(), self.models[q].discard()),
            Op::Close => (driver.close(), self.models[q].close()),
            Op::CloseWithin(timeout) => {
                let got = driver.close_within(*timeout);
                unless_out_of_memory(got, || self.models[q].close_within(*timeout))
            }
            Op::SetWatermarks(low, high, max) => {
                let got = driver.set_watermarks(*low, *high, *max);
                unless_out_of_memory(got, || self.models[q].set_watermarks(*low, *high, *max))
            }
            Op::SetRate(rate, burst) => {
                let got = driver.set_rate(*rate, *burst);
                if out_of_memory(got) {
                    return Some((got, got));
                }
                let now = self.models[q].now;
                let before = self.models[q].rate;
                self.had_rate |= *rate > 0;
                self.models[q].ready.is_now &= before.is_none();
                self.models[q].rate = Bucket::new(*rate, *burst, now)
                    .map(|bucket| before.map_or(bucket, |before| bucket.filled_from(before, now)));
                (got, 0)
            }
            Op::SetMinRate(rate, window) => {
                let got = driver.set_min_rate(*rate, *window);
                if out_of_memory(got) {
                    return Some((got, got));
                }
                let valid = *rate == 0 || *window > 0;
                if valid {
                    self.models[q].floor = Floor::new(*rate, *window, self.models[q].now);
                }
                (got, if valid { 0 } else { -libc::EINVAL })
            }
            Op::Schedule => {
                let got = driver.schedule()?;
                (got, self.models[q].schedule())
            }
            Op::Next(count) => {
                (0..*count).for_each(|_| self.next_ready(self.setting.pool_of(q)));
                return None;
            }
            Op::Pass(by) => {
                self.set_clock(self.clock.now.get().saturating_add_signed(*by));
                return None;
            }
        };
        Some(result)
    }

    /// sendq_pool_next. What a rate holds back comes later, so that the order is not known then.
    fn next_ready(&mut self, pool: usize) {
        let queues: Vec<usize> =
            (0..2).filter(|q| self.setting.pool_of(*q) == pool && !self.models[*q].freed).collect();
        let waits = [0, 1].map(|q| {
            let is_alive = !self.models[q].freed;
            if is_alive { self.hosts[q].driver.retry_after_ns() } else { SENDQ_NEVER }
        });
        let Some(next) = self.pools[pool].next() else { return };
        if !std::mem::replace(&mut self.tracks[pool], true) {
            for q in &queues {
                let model = &mut self.models[*q];
                model.ready.since = None;
                if model.blocked.is_none() {
                    model.ready.begin();
                    model.settle();
                }
            }
        }
        let held = [0, 1].map(|q| {
            let model = &self.models[q];
            model.rate.is_some() && model.blocked.is_none() && waits[q] > 0
        });
        if !std::mem::replace(&mut self.turns[pool], true) {
            queues.iter().for_each(|q| self.models[*q].ready.is_now = !held[*q]);
        }
        let due = queues.iter().copied().filter(|q| {
            let ready = self.models[*q].ready;
            ready.since.is_some() && ready.is_now && !held[*q]
        });
        let Some(next) = next else {
            assert_eq!(due.count(), 0, "a queue was forgotten");
            self.turns[pool] = false;
            return;
        };
        let place = |q: &&usize| self.hosts[**q].driver.address() == next;
        let next = *queues.iter().find(place).expect("a queue of this pool");
        let model = &self.models[next];
        assert!(model.available().next().is_some(), "nothing is available");
        assert!(!held[next], "its rate holds it back");
        if !self.had_rate {
            let first = due.min_by_key(|q| self.models[*q].ready.since);
            assert_eq!(first, Some(next), "another one is next, or none");
        }
        self.models[next].ready.since = None;
    }

    fn append(&mut self, q: usize, got: c_int, bytes: &[u8]) -> c_int {
        if !bytes.is_empty()
            && self.models[q].admit(bytes.len()) == 0
            && self.over_budget(q, got, self.blocks_for(bytes.len()))
        {
            return got;
        }
        self.models[q].append(bytes)
    }

    fn file(
        &mut self,
        q: usize,
        driver: &dyn Driver,
        offset: u64,
        len: usize,
        then: Reaction,
    ) -> (c_int, c_int) {
        let owner = self.person(q, then, None, len, len > 0);
        let id = self.people.len() - 1;
        let got = driver.append_file(file(), offset, len as u64, owner);
        let want = match self.models[q].admit_slot(len) {
            _ if len == 0 => {
                let refusal = self.models[q].refusal();
                if refusal == 0 {
                    self.release_at_once(id, 0);
                }
                refusal
            }
            0 if self.over_budget(q, got, self.setting.chunk_bytes) => got,
            0 => {
                let byte = |at| if at < FILE_BYTES { file_byte(at).into() } else { MISSING };
                let bytes = (offset..).take(len).map(byte);
                self.models[q].rise(Part::new(Kind::File, bytes, Some(id)))
            }
            errno => errno,
        };
        (got, want)
    }

    fn notify(&mut self, q: usize, driver: &dyn Driver, then: Reaction) -> (c_int, c_int) {
        let owner = self.person(q, then, None, 0, true);
        let id = self.people.len() - 1;
        let got = driver.notify(owner);
        let want = match self.models[q].admit_slot(0) {
            0 if self.over_budget(q, got, self.setting.chunk_bytes) => got,
            0 => self.models[q].rise(Part::notification(id)),
            errno => errno,
        };
        (got, want)
    }

    /// The letter as it is given to a driver, and to the model, with the number of those who own it.
    fn given(&mut self, q: usize, letter: &Letter) -> Message {
        let mut message = Message::default();
        for part_of in &letter.parts {
            let (len, kind, c_kind) = match *part_of {
                PartOf::Copy(len) => (len, Kind::Copied, SENDQ_PART_COPY),
                PartOf::Ref(len) => (len, Kind::Borrowed, SENDQ_PART_REF),
                PartOf::Own(len, _) => (len, Kind::Borrowed, SENDQ_PART_OWN),
                PartOf::Buf(offset, len) => {
                    (len.min(SHARED_BYTES - offset), Kind::Shared, SENDQ_PART_BUF)
                }
                PartOf::File(len) => (len, Kind::File, SENDQ_PART_FILE),
            };
            let mut given = part(c_kind, std::ptr::null(), 0, len);
            let mut owner = None;
            let bytes: Vec<Byte> = match *part_of {
                PartOf::Buf(offset, _) => {
                    given.offset = offset as u64;
                    self.shared_bytes[offset..][..len].iter().copied().map(Byte::from).collect()
                }
                PartOf::File(_) => {
                    given.offset = u64::from(self.next) % (FILE_BYTES - len as u64);
                    (given.offset..).take(len).map(|at| file_byte(at).into()).collect()
                }
                _ => {
                    let bytes = self.payload(len);
                    let copy = bytes.iter().copied().map(Byte::from).collect();
                    given.data = bytes.as_ptr().cast();
                    if let PartOf::Own(_, then) = *part_of {
                        let of = self.person(q, then, Some(bytes), len, false);
                        owner = Some(self.people.len() - 1);
                        (given.release, given.arg) = (of.release, of.arg);
                    } else {
                        self.memories.push(bytes);
                    }
                    copy
                }
            };
            message.parts.push(given);
            message.given.push(Given { kind, bytes, owner });
        }
        if let Some(then) = letter.owner {
            message.owner = self.owner(q, then, Vec::new());
            message.id = Some(self.people.len() - 1);
        }
        message
    }

    /// What so much of a message takes of a pool at most.
    fn memory_for(&self, planned: &Planned) -> u64 {
        let blocks = 2 * self.blocks_for(planned.copied);
        blocks + (planned.slots as u64 + 2) * self.setting.chunk_bytes + planned.borrowed as u64
    }

    fn append_message(
        &mut self,
        q: usize,
        driver: &dyn Driver,
        letter: &Letter,
    ) -> Option<(c_int, c_int)> {
        let message = self.given(q, letter);
        let got = driver.append_message(&message.parts, message.owner);
        if out_of_memory(got) {
            return Some((got, got));
        }
        let below = self.setting.share_below;
        let mut planned = Planned::new(&message.given, message.id, 0, false, below);
        let needs = self.memory_for(&planned);
        let at_once = std::mem::take(&mut planned.at_once);
        let mut model = std::mem::take(&mut self.models[q]);
        let want = model.append_message(planned, || self.over_budget(q, got, needs));
        self.models[q] = model;
        self.release(q);
        if want >= 0 {
            at_once.into_iter().for_each(|id| self.release_at_once(id, 0));
        }
        Some((got, want))
    }

    fn send_message(
        &mut self,
        q: usize,
        driver: &dyn Driver,
        letter: &Letter,
        budget: usize,
        answers: &[Answer],
    ) -> Option<(c_int, c_int)> {
        let message = self.given(q, letter);
        let mut sink = Script::new(answers.iter().copied());
        let got = driver.send_message(&mut sink, &message.parts, message.owner, budget);
        let below = self.setting.share_below;
        let all = Planned::new(&message.given, message.id, 0, false, below);
        let may_pass = !self.setting.core && !self.setting.threadsafe && all.file == 0;
        let bytes: Vec<Byte> =
            message.given.iter().flat_map(|given| &given.bytes).copied().collect();
        let mut trace = Trace::of(&sink);
        let mut model = std::mem::take(&mut self.models[q]);
        let (mut at_once, mut left) = (Vec::new(), 0);
        let needs = self.memory_for(&all);
        let (max, memory) = (self.max, all.memory());
        let want =
            model.send_message(&mut trace, budget, &bytes, memory, may_pass, |model, sent| {
                let mut rest = Planned::new(&message.given, message.id, sent, false, below);
                (at_once, left) = (std::mem::take(&mut rest.at_once), sent);
                // What was queued before is held until the call is over, so that the pool may be fuller than it
                // is now.
                let is_refused = || sent == 0 && max > 0 && got == -libc::ENOBUFS;
                let (_, kept) =
                    unless_out_of_memory(got, || model.append_message(rest, is_refused));
                if kept < 0 && sent > 0 {
                    model.fail(kept);
                }
                kept
            });
        self.models[q] = model;
        trace.end();
        self.forced += needs;
        self.release(q);
        if want >= 0 {
            at_once.into_iter().for_each(|id| self.release_at_once(id, left));
        }
        Some((got, want))
    }

    fn splice(&mut self, q: usize, got: c_int, moved: u64, most: usize) -> c_int {
        let (to, from) = (&self.models[q], &self.models[1 - q]);
        let len = from.waiting().min(most);
        let memory = from.memory_of_first(len);
        if from.failed != 0 {
            return from.failed;
        }
        if from.reserved.is_some() || from.corked.is_some() || from.has_holes() {
            return -libc::EBUSY;
        }
        if from.offered.is_some() && len < from.waiting() && most > 0 {
            return -libc::EBUSY;
        }
        match to.admit(memory) {
            // A piece may have to be divided before that is asked.
            _ if out_of_memory(got) => return got,
            0 if len == 0 => return 0,
            0 if to.is_full() => return -libc::ENOBUFS,
            0 if !self.setting.one_pool && self.over_budget(q, got, moved) => return got,
            0 => (),
            errno => return errno,
        }
        let [first, second] = &mut self.models;
        let (to, from) = if q == 0 { (first, second) } else { (second, first) };
        to.splice(from, most)
    }

    fn flush_with(
        &mut self,
        q: usize,
        host: &Host,
        budget: usize,
        answers: &[Answer],
        at: usize,
        then: Reaction,
    ) -> (c_int, c_int) {
        let script = Script::new(answers.iter().copied());
        let heir = self.heir(q, then, WRITER);
        let log = &raw const *self.log;
        let mut writer =
            ScriptedWriter { script, host, at, then, heir, result: None, log, released: 0 };
        let arg = (&raw mut writer).cast();
        let got = host.driver.flush_with(write, arg, budget);
        let mut trace = Trace::of(&writer.script);
        let mut model = std::mem::take(&mut self.models[q]);
        let want = model.flush_with(&mut trace, budget, got, |model, call| {
            if call != at {
                return;
            }
            let (slots, got) = (model.slots(), writer.result.expect("it was called"));
            assert_eq!(got, self.react(model, q, then, WRITER, got, false));
            // Whoever is released because of it is released at once, and those before, too. In a thread-safe
            // queue, any call may release those.
            if model.slots() < slots || self.expected.len() < writer.released {
                std::mem::swap(model, &mut self.models[q]);
                self.release(q);
                std::mem::swap(model, &mut self.models[q]);
            }
        });
        self.models[q] = model;
        trace.end();
        (got, want)
    }

    fn send(
        &mut self,
        q: usize,
        driver: &dyn Driver,
        lengths: &[usize],
        answers: &[Answer],
    ) -> Option<(c_int, c_int)> {
        let bytes = self.payload(lengths.iter().sum());
        let mut sink = Script::new(answers.iter().copied());
        let got = driver.sendmsg(&mut sink, &cut(&bytes, lengths));
        let mut trace = Trace::of(&sink);
        let mut model = std::mem::take(&mut self.models[q]);
        let is_single = !self.setting.threadsafe;
        // What is to be released when the call is over is held until then.
        let holds = model.slots() > 0;
        let refuses = |len: usize| {
            if self.max > 0 && !holds && !memory::has_failed() {
                self.may_refuse(q, self.blocks_for(len));
            }
            self.max > 0 || memory::has_failed()
        };
        let want = model.sendmsg(&mut trace, &bytes, is_single, got, refuses);
        self.models[q] = model;
        trace.end();
        self.release(q);
        assert_eq!(got, want);
        None
    }

    fn verify(&mut self, q: usize, driver: &dyn Driver, claim: Claim) -> (c_int, c_int) {
        let bytes = self.models[q].claimed(claim);
        let third = bytes.len() / 3;
        let got = driver.verify(&cut(&bytes, &[third, bytes.len() - third]), bytes.len());
        let (want, at) = self.models[q].verify(&bytes);
        assert_eq!(got.1, at);
        (got.0, want)
    }

    pub fn check(&mut self, looks: bool) {
        assert_eq!(*self.log.borrow(), self.expected);
        for q in 0..2 {
            assert_eq!(self.hosts[q].freed.get(), self.models[q].freed);
            if !self.models[q].freed {
                self.check_bytes(q);
            }
        }
        if looks {
            self.check_figures();
        }
    }

    fn check_bytes(&self, q: usize) {
        let (driver, model) = (&*self.hosts[q].driver, &self.models[q]);
        let mut iov = [IoVec::new(std::ptr::null(), 0); 256];
        let asked = self.clock.asked.get();
        assert_eq!(driver.queued_bytes(), model.waiting() as u64);
        assert_eq!(driver.queued_memory(), model.memory() as u64);
        assert_eq!(driver.sent_bytes(), model.counts.sent);
        assert_eq!(driver.queued_messages(), model.queued_messages());
        assert_eq!(driver.sent_messages(), model.sent_messages);
        assert_eq!(driver.error(), model.failed);
        assert_eq!(self.clock.asked.get(), asked, "what is known needs no clock");
        assert!(driver.room() == model.room() || self.max > 0 && driver.room() < model.room());
        model.check_state(driver.state());
        let count = driver.peek(&mut iov);
        // SAFETY: what was peeked stays while nothing is called.
        let peeked = iov[..count].iter().flat_map(|iov| unsafe { iov.bytes() });
        let mut peeked = peeked.copied().map(Byte::from);
        let parts = model.parts.iter().take(model.visible());
        let mut want = parts.take_while(|part| !part.is_file()).flat_map(Part::bytes);
        if count < iov.len() {
            assert!(peeked.eq(want));
        } else {
            assert!(peeked.all(|byte| want.next() == Some(byte)));
        }
        if let Some(parts) = driver.peek_parts() {
            // SAFETY: as above.
            let all: Vec<Byte> = parts.iter().flat_map(|part| unsafe { bytes_of(part) }).collect();
            assert!(parts.len() == 256 || all.len() == model.available().count());
            let first = model.available().take(all.len());
            assert!(all.iter().copied().eq(first));
        }
    }

    /// All figures. To ask for them is to look at the time.
    fn check_figures(&mut self) {
        let held = [0, 1].map(|q| {
            let freed = self.models[q].freed;
            if freed { (0, 0) } else { self.check_stats(q) }
        });
        if self.setting.one_pool {
            self.check_pool(0, &[0, 1], held);
            self.check_pool(1, &[], held);
        } else {
            self.check_pool(0, &[0], held);
            self.check_pool(1, &[1], held);
        }
    }

    /// The figures of a queue. Returns what it has allocated, and what it holds in all.
    fn check_stats(&mut self, q: usize) -> (u64, u64) {
        let driver = &*self.hosts[q].driver;
        if self.setting.simulated {
            let wait = driver.retry_after_ns();
            self.models[q].check_retry_after(wait);
        } else {
            assert!([0, SENDQ_NEVER].contains(&driver.retry_after_ns()));
        }
        let stats = driver.stats();
        self.models[q].look();
        let model = &self.models[q];
        let counts = &model.counts;
        let [copied, borrowed, shared, file] = counts.appended;
        let got = [stats.copied, stats.borrowed, stats.shared, stats.file];
        assert_eq!(got, [copied, borrowed, shared, file]);
        assert_eq!(copied + borrowed + shared + file, stats.sent + stats.discarded + stats.waiting);
        assert_eq!((stats.sent, stats.discarded), (counts.sent, counts.discarded));
        assert_eq!((stats.waiting, stats.peak_waiting), (model.waiting() as u64, counts.peak));
        assert_eq!(stats.pinned, model.pinned(&[Kind::Borrowed, Kind::Shared]));
        assert_eq!(driver.memory(), stats.allocated + stats.pinned);
        assert!(!model.is_idle() || stats.allocated == 0, "idle, with {}", stats.allocated);
        assert_eq!((stats.flushes, stats.system_calls), (counts.flushes, counts.calls));
        assert_eq!((stats.short_writes, stats.blocked), (counts.shorts, counts.blocked));
        if self.setting.simulated {
            let available = model.available().next().is_some();
            assert!(!available || Some(stats.last_progress_ns) == model.progress);
            assert_eq!(stats.stalled_ns, model.stalled_ns());
            assert_eq!(stats.blocked_ns, model.blocked_ns());
            assert_eq!(driver.stalled_ns(), model.stalled_ns());
        }
        (stats.allocated, stats.allocated + stats.pinned)
    }

    /// The figures of a pool with these queues, of which each has allocated and holds so much.
    fn check_pool(&mut self, pool: usize, queues: &[usize], held: [(u64, u64); 2]) {
        let stats = self.pools[pool].stats();
        let alive = queues.iter().filter(|q| !self.models[**q].freed);
        let models = queues.iter().map(|q| &self.models[*q]).filter(|model| !model.freed);
        assert_eq!(stats.queues, alive.count() as u64);
        let blocked = models.clone().filter(|model| model.blocked.is_some());
        assert_eq!(stats.blocked, blocked.count() as u64);
        assert_eq!(stats.waiting, models.clone().map(|model| model.waiting() as u64).sum::<u64>());
        let records = models.clone().filter(|model| model.offered.is_some()).count() as u64;
        assert_eq!(stats.pinned, models.map(|model| model.pinned(&[Kind::Borrowed])).sum::<u64>());
        assert_eq!(stats.used, queues.iter().map(|q| held[*q].0).sum::<u64>());
        assert_eq!(stats.shared, if pool == 0 { SHARED_BYTES as u64 } else { 0 });
        assert!(stats.free <= self.setting.keep_bytes);

        let all = stats.used + stats.free + stats.pinned + stats.shared;
        assert_eq!(stats.max, self.max);
        // Records that were refused may be beyond the budget.
        let record = (RECORD + 8192) as u64;
        let reserves = queues.len() as u64 * self.setting.reserve_bytes();
        let beyond = records * record + reserves + self.forced;
        assert!(self.max == 0 || all <= self.max + beyond, "{stats:?}, and {records} records");
        let flushing = queues.len() as u64 * record;
        assert!(
            self.max == 0 || stats.peak <= self.max + flushing + reserves + self.forced,
            "{stats:?}"
        );
        assert!(stats.peak >= all.max(self.peaks[pool]), "{stats:?}");
        self.peaks[pool] = stats.peak;

        let Some(heaviest) = self.pools[pool].heaviest() else { return };
        let weights: Vec<u64> = heaviest
            .iter()
            .map(|found| {
                let place = |q: &&usize| self.hosts[**q].driver.address() == *found;
                held[*queues.iter().find(place).expect("a queue of this pool")].1
            })
            .collect();
        let mut want: Vec<u64> = queues.iter().map(|q| held[*q].1).filter(|w| *w > 0).collect();
        want.sort_by_key(|weight| std::cmp::Reverse(*weight));
        assert_eq!(weights, want);
    }

    /// Frees both queues: every owner that was not released is released now.
    pub fn end(&mut self) {
        for q in 0..2 {
            if self.models[q].freed {
                continue;
            }
            for person in self.people.iter_mut() {
                person.then = Reaction::Nothing;
            }
            self.hosts[q].react(Reaction::Free, 0, std::ptr::null());
            self.models[q].free();
            self.release(q);
        }
        assert_eq!(*self.log.borrow(), self.expected);
        for pool in &self.pools {
            let PoolStats { queues, used, pinned, .. } = pool.stats();
            assert_eq!((queues, used, pinned), (0, 0, 0));
        }
    }
}

/// A call came back with `got`, because an allocation failed: nothing has changed.
pub fn out_of_memory(got: c_int) -> bool {
    got == -libc::ENOMEM && memory::has_failed()
}

/// What a call gave, and what it should have given.
fn unless_out_of_memory(got: c_int, model: impl FnOnce() -> c_int) -> (c_int, c_int) {
    (got, if out_of_memory(got) { got } else { model() })
}

/// The pieces of `bytes` that have these lengths.
fn cut(mut bytes: &[u8], lengths: &[usize]) -> Vec<IoVec> {
    let mut iovecs = Vec::new();
    for len in lengths {
        let (now, later) = bytes.split_at(*len);
        iovecs.push(IoVec::new(now.as_ptr(), now.len()));
        bytes = later;
    }
    iovecs
}
