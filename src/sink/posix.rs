//! Sockets and files of POSIX. A stream socket: `send(2)` for one iovec, `sendmsg(2)` for several, `sendfile(2)`
//! for files.

#![allow(unsafe_code)]

use super::file::read_and_send;
#[cfg(target_os = "linux")]
use super::socket_info::set_option;
use super::{Promises, Sink};
use crate::errno::{Errno, Result, uninterrupted};
use crate::iovec::IoVec;
use libc::{c_int, ssize_t};
use std::mem::MaybeUninit;

/// A socket, or a file.
pub type Fd = c_int;

/// A connected stream socket of the host. It is never closed here.
pub struct Socket {
    pub(super) fd: Fd,
    pub(super) calls: u32,
    // FreeBSD has flags of send(2) for both, and no other call that needs them.
    #[cfg_attr(target_os = "freebsd", allow(dead_code))]
    promises: Promises,
}

/// The error of the system call that has just failed on this thread.
pub(super) fn last_error() -> Errno {
    Errno::new(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
}

/// Reads from the file `fd` at `offset`, as much as fits into `room`, which is not empty: pread(2).
///
/// NO_DATA: the file ends before.
pub fn read_at(fd: c_int, offset: u64, room: &mut [MaybeUninit<u8>]) -> Result<&[u8]> {
    let offset = libc::off_t::try_from(offset).map_err(|_| Errno::OVERFLOW)?;
    // SAFETY: `room` has that length, and pread checks fd.
    let mut pread = || unsafe { libc::pread(fd, room.as_mut_ptr().cast(), room.len(), offset) };
    let read = uninterrupted(|| usize::try_from(pread()).map_err(|_| last_error()))?;
    if read == 0 {
        return Err(Errno::NO_DATA);
    }
    // SAFETY: so many were read.
    Ok(unsafe { std::slice::from_raw_parts(room.as_ptr().cast(), read) })
}

/// Closes the file `fd`, which the caller owns.
pub fn close(fd: c_int) {
    // SAFETY: as the caller says.
    unsafe { libc::close(fd) };
}

/// Never wait and never raise SIGPIPE, whatever the socket's own mode (send(2)).
const FLAGS: c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// With it the kernel delays a segment that is not full (send(2)).
#[cfg(target_os = "linux")]
pub const MORE: c_int = libc::MSG_MORE;
/// No other kernel has such a flag.
#[cfg(not(target_os = "linux"))]
pub const MORE: c_int = 0;

/// The most bytes of one call. Linux takes no more than about so many, and XNU refuses more (EINVAL). No socket
/// has room for them.
const MOST: usize = c_int::MAX as usize;

/// Where sends without a copy are not known, all is copied.
#[cfg(not(target_os = "linux"))]
pub type ZerocopySocket = Socket;
#[cfg(target_os = "linux")]
pub use super::zerocopy_socket::ZerocopySocket;

#[cfg(target_os = "linux")]
pub use super::error_queue::cookie;
/// No socket has a number of its own here.
#[cfg(not(target_os = "linux"))]
pub fn cookie(_: Fd) -> Result<u64> {
    Err(Errno::NOT_SUPPORTED)
}

fn flags(more: bool) -> c_int {
    if more { FLAGS | MORE } else { FLAGS }
}

impl Socket {
    /// The socket `fd`. A number that is no socket fails when written to.
    pub fn new(fd: Fd, promises: Promises) -> Socket {
        Socket { fd, calls: 0, promises }
    }
}

impl Sink for Socket {
    #[inline(always)]
    fn write(&mut self, iovecs: &[IoVec], more: bool) -> Result<usize> {
        self.send(iovecs, flags(more))
    }

    fn send_file(&mut self, fd: c_int, offset: u64, len: usize, more: bool) -> Result<usize> {
        #[cfg(target_os = "linux")]
        match self.sendfile(fd, offset, len) {
            // The file cannot be mapped, the offset is not valid for it, or the socket would block. The slow
            // path works, or finds the right error.
            Err(errno) if errno == Errno::INVALID || errno == Errno::OVERFLOW => {}
            outcome => return outcome,
        }
        read_and_send(self, fd, offset, len, more)
    }

    /// After MSG_MORE, a segment that is not full leaves with the next acknowledgement, or after 200 ms if none
    /// is due. Removing the cork of a socket that has none sends it now (tcp(7), TCP_CORK).
    fn push(&mut self) {
        #[cfg(target_os = "linux")]
        {
            self.calls += 1;
            // Sockets that are not TCP refuse, and hold nothing back.
            set_option(self.fd, libc::IPPROTO_TCP, libc::TCP_CORK, 0);
        }
    }

    fn calls(&self) -> u32 {
        self.calls
    }
}

impl Socket {
    /// [`Sink::write`] without a copy.
    #[cfg(target_os = "linux")]
    pub(super) fn send_zerocopy(&mut self, iovecs: &[IoVec], more: bool) -> Result<usize> {
        self.send(iovecs, flags(more) | libc::MSG_ZEROCOPY)
    }

    /// Sends `iovecs` by one call.
    #[inline(always)]
    fn send(&mut self, iovecs: &[IoVec], flags: c_int) -> Result<usize> {
        #[cfg(target_vendor = "apple")]
        let iovecs = self.prepare(iovecs)?;
        self.calls += 1;
        // send(2) for a single iovec: the kernel does not have to copy an iovec array (2-4 % of the call).
        let taken: ssize_t = if let [iovec] = iovecs {
            // SAFETY: what is offered is readable memory of that length.
            unsafe { libc::send(self.fd, iovec.base().cast(), iovec.len().min(MOST), flags) }
        } else {
            // SAFETY: msghdr is plain data for which all zeroes mean "none".
            let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
            message.msg_iov = iovecs.as_ptr().cast_mut().cast();
            message.msg_iovlen = iovecs.len() as _;
            // SAFETY: an IoVec is laid out as an iovec, and each is readable memory of its length.
            // sendmsg only reads them.
            unsafe { libc::sendmsg(self.fd, &message, flags) }
        };
        usize::try_from(taken).map_err(|_| last_error())
    }

    /// INVALID: the socket is blocking.
    #[cfg(any(target_os = "linux", target_vendor = "apple"))]
    fn check_nonblocking(&mut self) -> Result<()> {
        if self.promises.nonblocking {
            return Ok(());
        }
        self.calls += 1;
        // SAFETY: fcntl checks the descriptor.
        match unsafe { libc::fcntl(self.fd, libc::F_GETFL) } {
            mode if mode < 0 => Err(last_error()),
            mode if mode & libc::O_NONBLOCK == 0 => Err(Errno::INVALID),
            _ => Ok(()),
        }
    }

    /// Does before send(2) what its flags do elsewhere. XNU heeds only the socket's own mode, not MSG_DONTWAIT
    /// (sosendcheck), and older versions do not know MSG_NOSIGNAL. Returns how much of `iovecs` one call takes.
    ///
    /// INVALID: the socket is blocking.
    #[cfg(target_vendor = "apple")]
    fn prepare<'a>(&mut self, iovecs: &'a [IoVec]) -> Result<&'a [IoVec]> {
        self.check_nonblocking()?;
        if !self.promises.sigpipe_ignored {
            self.set_nosigpipe()?;
        }
        Ok(crate::iovec::up_to(iovecs, MOST))
    }

    /// PIPE: the socket can send no more.
    #[cfg(target_vendor = "apple")]
    fn set_nosigpipe(&mut self) -> Result<()> {
        let on: c_int = 1;
        let len = size_of::<c_int>() as libc::socklen_t;
        self.calls += 1;
        // SAFETY: setsockopt checks the descriptor, and reads an int.
        let result = unsafe {
            let on = (&raw const on).cast();
            libc::setsockopt(self.fd, libc::SOL_SOCKET, libc::SO_NOSIGPIPE, on, len)
        };
        match result {
            0 => Ok(()),
            // A socket that is shut down in both directions takes no options. A send(2) would raise the signal.
            _ if last_error() == Errno::INVALID => Err(Errno::PIPE),
            _ => Err(last_error()),
        }
    }

    /// sendfile(2). It has no MSG_DONTWAIT, MSG_NOSIGNAL or MSG_MORE. So, unless the host has made its
    /// promises, it is called only on a non-blocking socket (else INVALID), and with SIGPIPE blocked during
    /// the call.
    #[cfg(target_os = "linux")]
    fn sendfile(&mut self, fd: c_int, offset: u64, len: usize) -> Result<usize> {
        self.check_nonblocking()?;
        self.calls += 1;
        let socket = self.fd;
        let send = || {
            let mut at = offset as libc::off_t;
            // SAFETY: sendfile checks the descriptors and writes only to `at`.
            match usize::try_from(unsafe { libc::sendfile(socket, fd, &raw mut at, len) }) {
                Err(_) => Err(last_error()),
                Ok(0) => Err(Errno::NO_DATA),
                Ok(taken) => Ok(taken),
            }
        };
        if self.promises.sigpipe_ignored { send() } else { self.without_sigpipe(send) }
    }

    /// Runs `call` with SIGPIPE blocked on this thread, and removes the pending signal if `call` raised one.
    #[cfg(target_os = "linux")]
    fn without_sigpipe(&mut self, call: impl FnOnce() -> Result<usize>) -> Result<usize> {
        // SAFETY: sigset_t is plain data, filled by sigemptyset and sigpending before it is read; the
        // mask is this thread's own and restored below. sigtimedwait takes a zero time: no waiting.
        unsafe {
            let mut pipe: libc::sigset_t = std::mem::zeroed();
            let (mut before, mut pending) = (pipe, pipe);
            libc::sigemptyset(&mut pipe);
            libc::sigaddset(&mut pipe, libc::SIGPIPE);
            libc::sigpending(&mut pending);
            let was_pending = libc::sigismember(&pending, libc::SIGPIPE) == 1;
            libc::pthread_sigmask(libc::SIG_BLOCK, &pipe, &mut before);
            let outcome = call();
            // Also after a success: the peer may have closed the connection after a part was sent.
            if !was_pending {
                let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
                libc::sigtimedwait(&pipe, std::ptr::null_mut(), &now);
            }
            libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
            // sigpending, twice sigprocmask, and sigtimedwait.
            self.calls += 3 + u32::from(!was_pending);
            outcome
        }
    }
}
