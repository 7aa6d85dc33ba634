//! The kernel as a script: send, sendmsg and recvmsg in place of those of libc, for real sockets that are not
//! connected. A send without a copy keeps reading the memory that it was given until the test acknowledges it, late
//! and in any order. What an executable defines comes before what its libraries do.
//!
//! Nothing here may panic, because C calls it: faults are noted down, and the run looks at them.

use super::memory::{self, Range};
use libc::{c_int, c_void, iovec, msghdr, size_t, ssize_t};
use sendq::capi::{sendq_discard, sendq_free, sendq_reset, sendq_t};
use std::cell::RefCell;
use std::collections::VecDeque;

/// Shorter pieces are copied (zerocopy_from).
pub const FROM: usize = 64;

/// What a send does.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    All,
    /// Takes this many bytes, at least 1, or all if there are fewer.
    Some(usize),
    No(c_int),
}

/// What a release callback does to a queue.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    Discard,
    Reset,
    Free,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum State {
    /// The kernel reads the memory.
    Flies,
    /// The kernel does not read it any more, and has queued a message that says so.
    Acked,
    /// That message was taken.
    Reaped,
}

/// A send without a copy.
pub struct Flight {
    pub socket: usize,
    pub number: u32,
    ranges: Vec<Range>,
    pub state: State,
    /// The kernel has copied the memory after all.
    pub is_copied: bool,
}

/// What happened during a call.
pub enum Event {
    /// The socket took bytes, from these places in memory, without a copy or with one.
    Sent { ranges: Vec<Range>, bytes: Vec<u8>, flight: Option<usize> },
    /// The connection failed.
    Failed(c_int),
    /// A release callback ran.
    Released { owner: usize, reason: c_int },
    /// It did this to that queue.
    Acted(Act, usize),
}

/// A message on the error queue of a socket.
struct Message {
    first: u32,
    last: u32,
    is_copied: bool,
    /// 0: it is an acknowledgement. Another number: which kind of foreign message.
    foreign: u8,
}

#[derive(Default)]
struct Socket {
    cookie: u64,
    next: u32,
    errors: VecDeque<Message>,
}

#[derive(Default)]
pub struct Kernel {
    sockets: Vec<Socket>,
    pub flights: Vec<Flight>,
    pub answers: VecDeque<Answer>,
    pub events: Vec<Event>,
    /// What was refused without a copy has to be offered again, to be copied.
    pub owes_copy: bool,
    /// What the next release callback does, and to which queue.
    pub act: Option<(Act, usize, *mut sendq_t)>,
    /// What each owner has lent.
    pub lent: Vec<Vec<Range>>,
    pub faults: Vec<String>,
}

thread_local! {
    static KERNEL: RefCell<Kernel> = RefCell::default();
}

pub fn with<R>(f: impl FnOnce(&mut Kernel) -> R) -> R {
    KERNEL.with_borrow_mut(f)
}

impl Kernel {
    /// Makes a socket: its number here, and its descriptor.
    pub fn socket(&mut self) -> (usize, c_int) {
        // SAFETY: makes a descriptor.
        let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
        assert!(fd >= 0);
        let cookie = cookie(fd).expect("it is a socket");
        self.sockets.push(Socket { cookie, ..Socket::default() });
        (self.sockets.len() - 1, fd)
    }

    /// The socket behind a descriptor.
    pub fn find(&self, fd: c_int) -> Option<usize> {
        let cookie = cookie(fd)?;
        self.sockets.iter().position(|socket| socket.cookie == cookie)
    }

    /// Acknowledges the sends `first` to `last` of a socket, none of which may fly on. They are told as one.
    pub fn acknowledge(&mut self, socket: usize, first: u32, last: u32, is_copied: bool) {
        let flights = self.flights.iter_mut();
        let acked = flights
            .filter(|flight| flight.socket == socket && (first..=last).contains(&flight.number));
        for flight in acked.filter(|flight| flight.state == State::Flies) {
            (flight.state, flight.is_copied) = (State::Acked, is_copied);
            if let Some(range) = flight.ranges.iter().find(|range| !memory::is_intact(**range)) {
                self.faults.push(format!("{range:?} has changed while the kernel read it"));
            }
        }
        self.sockets[socket].errors.push_back(Message { first, last, is_copied, foreign: 0 });
    }

    /// Queues a message that is no acknowledgement, and looks like one of all that was ever sent.
    pub fn distract(&mut self, socket: usize, foreign: u8) {
        let message = Message { first: 0, last: u32::MAX, is_copied: false, foreign };
        self.sockets[socket].errors.push_back(message);
    }

    /// Takes up to `len` bytes of `iov`.
    fn send(&mut self, fd: c_int, iov: &[iovec], flags: c_int) -> Result<usize, c_int> {
        let Some(socket) = self.find(fd) else { return Err(libc::EBADF) };
        let is_carried = flags & libc::MSG_ZEROCOPY != 0;
        if is_carried && iov.iter().any(|iov| iov.iov_len < FROM) {
            self.faults.push("too short to be sent without a copy".into());
        }
        if std::mem::take(&mut self.owes_copy) && is_carried {
            self.faults.push("offered without a copy again".into());
        }
        let offered: usize = iov.iter().map(|iov| iov.iov_len).sum();
        let taken = match self.answers.pop_front().unwrap_or(Answer::All) {
            Answer::All => offered,
            Answer::Some(bytes) => bytes.min(offered),
            // A socket that is not asked for it does not refuse it.
            Answer::No(libc::EOPNOTSUPP) if !is_carried => offered,
            Answer::No(errno) => {
                self.owes_copy = is_carried && [libc::ENOBUFS, libc::EOPNOTSUPP].contains(&errno);
                return Err(errno);
            }
        };
        let (mut ranges, mut bytes, mut left) = (Vec::new(), Vec::new(), taken);
        for iov in iov {
            let len = iov.iov_len.min(left);
            left -= len;
            // SAFETY: offered memory of at least that length.
            bytes.extend_from_slice(unsafe {
                std::slice::from_raw_parts(iov.iov_base.cast::<u8>(), len)
            });
            let range = memory::range(iov.iov_base.cast(), len);
            if is_carried && len > 0 && range.is_none() {
                self.faults.push("sent without a copy from memory that nobody has lent".into());
            }
            ranges.extend(range.filter(|_| len > 0));
        }
        let flight = is_carried.then(|| {
            let number = self.sockets[socket].next;
            self.sockets[socket].next += 1;
            let ranges = ranges.clone();
            self.flights.push(Flight {
                socket,
                number,
                ranges,
                state: State::Flies,
                is_copied: false,
            });
            self.flights.len() - 1
        });
        self.events.push(Event::Sent { ranges, bytes, flight });
        Ok(taken)
    }

    /// Whether the kernel may read what `owner` has lent, as far as anybody was told.
    fn reads(&self, owner: usize) -> bool {
        let flights = self.flights.iter().filter(|flight| flight.state != State::Reaped);
        let mut ranges = flights.flat_map(|flight| &flight.ranges);
        ranges.any(|range| self.lent[owner].iter().any(|lent| range.overlaps(lent)))
    }
}

fn cookie(fd: c_int) -> Option<u64> {
    let (mut cookie, mut len) = (0_u64, size_of::<u64>() as libc::socklen_t);
    let place = (&raw mut cookie).cast();
    // SAFETY: getsockopt writes at most that many bytes.
    let result =
        unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_COOKIE, place, &mut len) };
    (result == 0).then_some(cookie)
}

/// The release callback of everything: `owner` is a number.
pub unsafe extern "C-unwind" fn release(
    owner: *mut c_void,
    data: *const c_void,
    len: usize,
    reason: c_int,
) {
    with(|kernel| {
        let owner = owner as usize;
        if kernel.reads(owner) {
            kernel.faults.push(format!("{owner} is released while the kernel reads it"));
        }
        let lent = &kernel.lent[owner];
        // The owner of a message or a notification has no memory of its own.
        if !data.is_null() && lent.first().copied() != memory::range(data.cast(), len) {
            kernel.faults.push(format!("{owner} is released with other memory"));
        }
        lent.iter().for_each(|range| memory::scribble(*range));
        kernel.events.push(Event::Released { owner, reason });
    });
    let Some((act, i, q)) = with(|kernel| kernel.act.take()) else { return };
    with(|kernel| kernel.events.push(Event::Acted(act, i)));
    // SAFETY: a live queue, of this thread.
    unsafe {
        match act {
            Act::Discard => _ = sendq_discard(q),
            Act::Reset => _ = sendq_reset(q),
            Act::Free => sendq_free(q),
        }
    }
}

fn answer(outcome: Result<usize, c_int>) -> ssize_t {
    outcome.map_or_else(
        |errno| {
            // SAFETY: the thread's own errno.
            unsafe { *libc::__errno_location() = errno };
            -1
        },
        |taken| taken as ssize_t,
    )
}

fn send_iov(fd: c_int, iov: &[iovec], flags: c_int) -> ssize_t {
    answer(with(|kernel| {
        let outcome = kernel.send(fd, iov, flags);
        let failure = outcome.err().filter(|errno| [libc::EBADF, libc::ECONNRESET].contains(errno));
        kernel.events.extend(failure.map(Event::Failed));
        outcome
    }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn send(fd: c_int, data: *const c_void, len: size_t, flags: c_int) -> ssize_t {
    send_iov(fd, &[iovec { iov_base: data.cast_mut(), iov_len: len }], flags)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn sendmsg(fd: c_int, msg: *const msghdr, flags: c_int) -> ssize_t {
    // SAFETY: as the caller says.
    let iov = unsafe { std::slice::from_raw_parts((*msg).msg_iov, (*msg).msg_iovlen as _) };
    send_iov(fd, iov, flags)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn recvmsg(fd: c_int, msg: *mut msghdr, flags: c_int) -> ssize_t {
    let message = with(|kernel| {
        if flags != libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT {
            kernel.faults.push("that is not the error queue".into());
        }
        let socket = kernel.find(fd).ok_or(libc::EBADF)?;
        let message = kernel.sockets[socket].errors.pop_front().ok_or(libc::EAGAIN)?;
        let numbers = message.first..=message.last;
        for flight in &mut kernel.flights {
            let is_told = flight.socket == socket && numbers.contains(&flight.number);
            if is_told && message.foreign == 0 {
                flight.state = State::Reaped;
            }
        }
        Ok(message)
    });
    // SAFETY: the caller's header, with room for a control message.
    answer(message.map(|message| unsafe { fill(&mut *msg, &message) }))
}

/// # Safety
/// `msg` has room for a control message.
unsafe fn fill(msg: &mut msghdr, message: &Message) -> usize {
    let error = libc::sock_extended_err {
        ee_errno: if message.foreign == 1 { libc::ENOMSG as u32 } else { 0 },
        // linux/errqueue.h: zero-copy, and timestamps.
        ee_origin: if message.foreign == 2 { 4 } else { 5 },
        ee_type: 0,
        ee_code: message.is_copied.into(),
        ee_pad: 0,
        ee_info: message.first,
        ee_data: message.last,
    };
    let is_v6 = message.first % 2 == 1;
    let (level, kind) = match message.foreign {
        3 => (libc::SOL_SOCKET, libc::SCM_TIMESTAMP),
        _ if is_v6 => (libc::SOL_IPV6, libc::IPV6_RECVERR),
        _ => (libc::SOL_IP, libc::IP_RECVERR),
    };
    // SAFETY: as the caller says.
    unsafe {
        let len = size_of_val(&error) as u32;
        if message.foreign == 4 {
            msg.msg_controllen = 0;
            return 0;
        }
        let header = &mut *libc::CMSG_FIRSTHDR(msg);
        (header.cmsg_level, header.cmsg_type) = (level, kind);
        header.cmsg_len = libc::CMSG_LEN(len) as _;
        libc::CMSG_DATA(header).cast::<libc::sock_extended_err>().write_unaligned(error);
        msg.msg_controllen = libc::CMSG_SPACE(len) as _;
    }
    0
}
