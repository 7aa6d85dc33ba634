//! What may happen, in any order, and what must hold.

use super::host::{Cause, Connection, Producer};
use libc::c_void;
use sendq::block::HEADER;
use sendq::capi::*;
use std::cell::Cell;
use std::ptr::null_mut;

#[derive(Clone, Debug, Default)]
pub struct Setting {
    pub marks: (u64, u64, u64),
    /// The pool's budget; 0: none.
    pub max_bytes: u64,
    /// The budget of each flush; 0: none.
    pub call_bytes: usize,
    pub rate: (u64, u64),
    /// What each producer has to append.
    pub messages: Vec<usize>,
    /// How much room a sink may have when it opens.
    pub rooms: Vec<usize>,
    /// Messages are borrowed, not copied.
    pub borrow: bool,
    /// The host also discards, consumes, corks, splices, closes, and sets watermarks and rates.
    pub interferes: bool,
    /// Nanoseconds that pass between any two calls.
    pub tick: u64,
}

impl Setting {
    fn depends_on_time(&self) -> bool {
        self.tick > 0 || self.rate.0 > 0 || self.interferes
    }
}

/// What happens next, where several things may: drawn at random, or all of them one after another.
#[derive(Default)]
pub struct Choices {
    /// The choice, and of how many.
    digits: Vec<(usize, usize)>,
    at: usize,
}

impl Choices {
    pub fn drawn(digits: &[u32]) -> Choices {
        let digits = digits.iter().map(|digit| (*digit as usize, usize::MAX)).collect();
        Choices { digits, at: 0 }
    }

    fn choose(&mut self, count: usize) -> usize {
        if self.at == self.digits.len() {
            self.digits.push((0, count));
        }
        self.at += 1;
        self.digits[self.at - 1].0 % count
    }

    /// Goes on to the next sequence of choices, if there is one.
    pub fn next(&mut self) -> bool {
        while let Some((digit, count)) = self.digits.pop() {
            if digit + 1 < count {
                self.digits.push((digit + 1, count));
                self.at = 0;
                return true;
            }
        }
        false
    }
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Produce,
    Flush,
    Open(usize),
    Timer,
    Discard,
    Consume,
    Cork,
    Uncork,
    Rollback,
    /// Everything of the other queue comes here.
    Splice,
    SetWatermarks(u64, u64, u64),
    SetRate(u64, u64),
    CloseWithin(u64),
}

pub struct World {
    setting: Setting,
    /// Boxed, so that it stays where it is: the pool holds its address.
    clock: Box<Cell<u64>>,
    pool: *mut sendq_pool_t,
    connections: [Connection; 2],
    /// In this order they happened: to be read when something fails.
    history: Vec<(usize, Event)>,
}

unsafe extern "C-unwind" fn simulated_now(arg: *mut c_void) -> u64 {
    // SAFETY: the world's clock, which outlives its pool.
    unsafe { (*arg.cast::<Cell<u64>>()).get() }
}

impl World {
    pub fn new(setting: &Setting) -> World {
        let clock = Box::new(Cell::new(1_000_000_000_000));
        let pool_config = sendq_pool_config_t {
            size: size_of::<sendq_pool_config_t>(),
            flags: 0,
            reserved: 0,
            max_bytes: setting.max_bytes,
            chunk_bytes: 256,
            keep_bytes: 0,
            // Without a clock of its own the pool is on the short ways.
            now: setting.depends_on_time().then_some(simulated_now),
            now_arg: (&raw const *clock).cast_mut().cast(),
            alloc: None,
            dealloc: None,
            alloc_arg: null_mut(),
            wake: None,
            wake_arg: std::ptr::null_mut(),
        };
        let (low, high, max) = setting.marks;
        let config = sendq_config_t {
            size: size_of::<sendq_config_t>(),
            flags: 0,
            reserved: 0,
            zerocopy_from: 0,
            user: null_mut(),
            low,
            high,
            max,
            copy_below: 1,
            max_messages: 0,
            share_below: 1,
            reserve: 1,
        };
        let mut pool = null_mut();
        // SAFETY: configs and places of this function.
        let connections = unsafe {
            assert_eq!(sendq_pool_new(&pool_config, &mut pool), 0);
            [0, 1].map(|_| {
                let mut queue = null_mut();
                assert_eq!(sendq_new(pool, &config, &mut queue), 0);
                let (rate, burst) = setting.rate;
                assert!(rate == 0 || sendq_set_rate(queue, rate, burst) == 0);
                Connection::new(queue, &setting.messages, setting.rooms[0])
            })
        };
        World { setting: setting.clone(), clock, pool, connections, history: Vec::new() }
    }

    fn events(&self) -> Vec<(usize, Event)> {
        let mut events = Vec::new();
        for (i, connection) in self.connections.iter().enumerate() {
            let mut may = |event, enabled| events.extend(Some((i, event)).filter(|_| enabled));
            may(Event::Produce, connection.may_produce());
            may(Event::Flush, connection.pending.is_some());
            may(Event::Timer, connection.timer.is_some());
            for room in &self.setting.rooms {
                may(Event::Open(*room), connection.wants_writable);
            }
            if self.setting.interferes && connection.failed == 0 {
                self.interferences(connection, may);
            }
        }
        events
    }

    fn interferences(&self, connection: &Connection, mut may: impl FnMut(Event, bool)) {
        let (open, waits) = (!connection.closed, connection.waiting() > 0);
        may(Event::Discard, waits);
        may(Event::Consume, connection.available() > 0);
        may(Event::Cork, open && !connection.corked);
        may(Event::Uncork, connection.corked);
        may(Event::Rollback, connection.corked);
        may(Event::Splice, open);
        may(Event::SetWatermarks(1, 1, 1), true);
        may(Event::SetWatermarks(2, 2, 0), true);
        may(Event::SetWatermarks(0, 5, 5), true);
        may(Event::SetRate(1, 1), true);
        may(Event::SetRate(0, 0), true);
        may(Event::CloseWithin(4), open);
        may(Event::CloseWithin(3_000_000_000), open);
    }

    /// One of the things that may happen does.
    pub fn step(&mut self, choices: &mut Choices) {
        let events = self.events();
        if events.is_empty() {
            return;
        }
        let (i, event) = events[choices.choose(events.len())];
        self.happen(i, event);
    }

    fn happen(&mut self, i: usize, event: Event) {
        self.history.push((i, event));
        let held_before = self.held();
        match event {
            Event::Produce => self.produce(i),
            Event::Flush => {
                let cause = self.connections[i].pending.expect("it was enabled");
                self.flush(i, cause);
            }
            Event::Timer => {
                let at = self.connections[i].timer.expect("it was enabled");
                self.clock.set(self.clock.get().max(at));
                self.flush(i, Cause::More);
            }
            Event::Open(room) => {
                self.connections[i].room = room;
                self.flush(i, Cause::Writable);
            }
            Event::Splice => self.splice(i),
            _ => self.interfere(i, event),
        }
        // Whoever waits for the pool tries again when another has given something back.
        if self.held() < held_before {
            for connection in &mut self.connections {
                if connection.producer == Producer::ForPool {
                    connection.producer = Producer::Runs;
                }
            }
        }
        self.clock.set(self.clock.get() + self.setting.tick);
        self.check();
    }

    /// What waits in both.
    fn held(&self) -> u64 {
        self.connections.iter().map(Connection::waiting).sum()
    }

    fn produce(&mut self, i: usize) {
        let alone = self.held() == 0;
        let connection = &mut self.connections[i];
        let may_fit = connection.produce(self.setting.borrow);
        let len = connection.messages.front().copied().unwrap_or(0);
        let max = connection.max(self.setting.marks.2);
        if !may_fit && (alone || max > 0 && len as u64 > max) {
            // Too large for the queue, or for the whole pool: a host had better not try.
            let blocks = len as u64 / (256 - HEADER as u64) + 2;
            let needs = 256 * blocks + if self.setting.borrow { len as u64 } else { 0 };
            let budget = self.setting.max_bytes;
            assert!(max > 0 && len as u64 > max || budget > 0 && needs > budget);
            connection.messages.pop_front();
            connection.producer = Producer::Runs;
        }
    }

    fn flush(&mut self, i: usize, cause: Cause) {
        let (clock, tick) = (&self.clock, self.setting.tick);
        let now = || {
            clock.set(clock.get() + tick);
            clock.get()
        };
        self.connections[i].flush(cause, self.setting.call_bytes, &now);
    }

    fn interfere(&mut self, i: usize, event: Event) {
        let connection = &mut self.connections[i];
        let queue = connection.queue;
        // SAFETY: a live queue.
        let result = unsafe {
            match event {
                Event::Discard => sendq_discard(queue),
                Event::Consume => {
                    connection.left += 1;
                    sendq_consume(queue, 1)
                }
                Event::Cork => {
                    connection.corked = true;
                    sendq_cork(queue)
                }
                Event::Uncork => {
                    connection.corked = false;
                    sendq_uncork(queue)
                }
                Event::Rollback => {
                    connection.corked = false;
                    sendq_rollback(queue)
                }
                Event::SetWatermarks(low, high, max) => {
                    connection.new_max = Some(max);
                    sendq_set_watermarks(queue, low, high, max)
                }
                Event::SetRate(rate, burst) => sendq_set_rate(queue, rate, burst),
                Event::CloseWithin(timeout) => {
                    let result = sendq_close_within(queue, timeout);
                    connection.closed = true;
                    // That is one time more at which to flush.
                    let wait = sendq_retry_after_ns(queue);
                    let at = self.clock.get().saturating_add(wait);
                    match wait {
                        0 => connection.pending = Some(Cause::Wake),
                        SENDQ_NEVER => (),
                        _ => {
                            let timer = connection.timer.unwrap_or(at);
                            connection.timer = Some(timer.min(at));
                        }
                    }
                    result
                }
                _ => unreachable!("{event:?} is not for here"),
            }
        };
        if result == -libc::ETIMEDOUT {
            (connection.failed, connection.producer) = (result, Producer::Runs);
        } else {
            assert!(result >= 0, "{event:?}: {result}");
        }
        connection.touched = true;
        connection.obey(result);
    }

    fn splice(&mut self, i: usize) {
        let [first, second] = &mut self.connections;
        let (to, from) = if i == 0 { (first, second) } else { (second, first) };
        let moved = from.waiting();
        // SAFETY: live queues.
        let result = unsafe { sendq_splice(to.queue, from.queue) };
        if result >= 0 {
            (from.left, to.appended) = (from.left + moved, to.appended + moved);
            to.obey(result);
            // No hint says so.
            if from.producer == Producer::Paused {
                from.producer = Producer::Runs;
            }
        }
        (to.touched, from.touched) = (true, true);
    }

    /// At no moment do bytes wait, or is a producer paused, with nothing scheduled.
    fn check(&mut self) {
        self.connections.iter_mut().for_each(Connection::look_again);
        for (i, connection) in self.connections.iter().enumerate() {
            let waiting = connection.waiting();
            // A peer may never read again. Then the end of its time is what a closed connection waits for.
            let on_its_own = connection.pending.is_some() || connection.timer.is_some();
            let scheduled = on_its_own || connection.wants_writable && !connection.closed;
            let moves = scheduled || connection.corked && !connection.closed;
            assert!(connection.available() == 0 || scheduled, "{i}: nothing sends: {self}");
            assert!(waiting == 0 || moves, "{i}: bytes wait for ever: {self}");
            match connection.producer {
                Producer::Runs => (),
                Producer::Paused | Producer::Refused(_) => {
                    assert!(waiting > 0 && moves, "{i}: paused for ever: {self}")
                }
                Producer::ForPool => assert!(self.held() > 0, "{i}: no room for ever: {self}"),
            }
            let stats = connection.stats();
            assert_eq!(stats.waiting + stats.discarded + connection.left, connection.appended);
        }
    }

    /// A fair world from now on: what is scheduled happens, sinks open, and the host does not interfere.
    pub fn end(&mut self) {
        let room = self.setting.rooms.iter().copied().max().unwrap_or(0).max(1);
        let limit = self.calls_at_most(room);
        let calls = |world: &World| -> u64 {
            world.connections.iter().map(|connection| connection.flushes).sum()
        };
        let before = calls(self);
        loop {
            let next = (0..2).find_map(|i| {
                let connection = &self.connections[i];
                let event = match connection {
                    _ if connection.corked => Event::Uncork,
                    _ if connection.pending.is_some() => Event::Flush,
                    _ if connection.may_produce() => Event::Produce,
                    _ if connection.wants_writable && !connection.closed => Event::Open(room),
                    _ => return None,
                };
                Some((i, event))
            });
            let timer = (0..2)
                .filter(|i| self.connections[*i].timer.is_some())
                .min_by_key(|i| self.connections[*i].timer);
            match next.or(timer.map(|i| (i, Event::Timer))) {
                Some((i, event)) => self.happen(i, event),
                None => break,
            }
            assert!(calls(self) - before <= limit, "more than {limit} calls: {self}");
        }
        for connection in &self.connections {
            assert_eq!(connection.waiting(), 0);
            assert!(connection.messages.is_empty() || connection.closed, "{self}");
        }
    }

    /// A flush sends all there is, or as much as there is room or a budget for, or what the rate has
    /// saved up: a part of a second's worth. Then an append, or that much more, makes for another.
    fn calls_at_most(&self, room: usize) -> u64 {
        let messages = self.connections.iter().flat_map(|connection| &connection.messages);
        let (count, bytes) = messages.fold((0, 0), |(n, sum), len| (n + 1, sum + *len as u64));
        let bytes = bytes + self.held();
        let mut step = room as u64;
        if self.setting.call_bytes > 0 {
            step = step.min(self.setting.call_bytes as u64);
        }
        let mut rates = vec![self.setting.rate];
        if self.setting.interferes {
            rates.push((1, 1));
        }
        for (rate, burst) in rates.into_iter().filter(|(rate, _)| *rate > 0) {
            let burst = if burst == 0 { rate } else { burst };
            step = step.min((rate / 128).max(1)).min(burst);
        }
        // Each of these may find a sink that is full, or a bucket that has just been emptied.
        2 * (count + bytes.div_ceil(step)) + 8
    }
}

impl std::fmt::Display for World {
    fn fmt(&self, to: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(to, "{:?}, after {:?}", self.setting, self.history)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{self}");
        }
        // SAFETY: for the last time.
        unsafe {
            for connection in &self.connections {
                sendq_free(connection.queue);
            }
            sendq_pool_free(self.pool);
        }
    }
}
