//! A stream socket: `send(2)` for one piece, `sendmsg(2)` for several, `sendfile(2)` for files.

#![allow(unsafe_code)]

use super::Sink;
use crate::errno::{Errno, Result};
use crate::segment::Piece;
use libc::{c_int, ssize_t};
use std::mem::MaybeUninit;

/// A connected stream socket of the host. Borrowed for one flush, never closed.
pub struct Socket {
    fd: c_int,
    calls: u32,
}

/// Whatever the socket's own mode: never wait, never raise SIGPIPE (send(2)).
const FLAGS: c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

impl Socket {
    /// The socket `fd`. Any number will do: one that is no socket fails when written to.
    pub fn new(fd: c_int) -> Socket {
        Socket { fd, calls: 0 }
    }
}

impl Sink for Socket {
    #[inline]
    fn write(&mut self, pieces: &[Piece]) -> Result<usize> {
        self.calls += 1;
        // One contiguous piece by send: the kernel copies in no iovec array (2-4 % of the call).
        let taken: ssize_t = if let [piece] = pieces {
            // SAFETY: a peeked piece is readable memory of that length.
            unsafe { libc::send(self.fd, piece.base().cast(), piece.len(), FLAGS) }
        } else {
            // SAFETY: msghdr is plain data for which all zeroes mean "none".
            let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
            message.msg_iov = pieces.as_ptr().cast_mut().cast();
            message.msg_iovlen = pieces.len() as _;
            // SAFETY: pieces are laid out as iovecs, and each is readable memory of its length.
            // sendmsg only reads them.
            unsafe { libc::sendmsg(self.fd, &message, FLAGS) }
        };
        usize::try_from(taken).map_err(|_| Errno::last())
    }

    fn send_file(&mut self, fd: c_int, offset: u64, len: usize) -> Result<usize> {
        #[cfg(target_os = "linux")]
        match self.sendfile(fd, offset, len) {
            // Not a file that can be mapped, an offset that it cannot have, or a socket that would
            // wait: the long way will do, or finds the right error.
            Err(errno) if errno == Errno::INVALID || errno == Errno::OVERFLOW => {}
            outcome => return outcome,
        }
        self.read_and_send(fd, offset, len)
    }

    fn socket(&self) -> c_int {
        self.fd
    }

    fn calls(&self) -> u32 {
        self.calls
    }
}

/// Bytes of a file that are read at a time where sendfile(2) does not serve.
pub(super) const READ_BYTES: usize = 16 * 1024;

impl Socket {
    fn read_and_send(&mut self, fd: c_int, offset: u64, len: usize) -> Result<usize> {
        let mut room = [MaybeUninit::<u8>::uninit(); READ_BYTES];
        let mut taken = 0;
        while taken < len {
            let want = READ_BYTES.min(len - taken);
            let outcome = match read_at(fd, offset + taken as u64, &mut room[..want]) {
                Err(errno) => Err(errno),
                Ok([]) => Err(Errno::IO),
                Ok(read) => {
                    let piece = Piece::new(read.as_ptr(), read.len());
                    self.write(&[piece]).map(|sent| (sent, read.len()))
                }
            };
            match outcome {
                Ok((sent, read)) => {
                    taken += sent;
                    if sent < read {
                        break;
                    }
                }
                // What was sent counts; the next call meets the error again.
                Err(_) if taken > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(taken)
    }

    /// sendfile(2), which knows no MSG_DONTWAIT and no MSG_NOSIGNAL: so it is only called on a socket
    /// that does not wait (else INVALID), and with SIGPIPE held back for the time of the call.
    #[cfg(target_os = "linux")]
    fn sendfile(&mut self, fd: c_int, offset: u64, len: usize) -> Result<usize> {
        // SAFETY: fcntl checks the descriptor.
        let mode = unsafe { libc::fcntl(self.fd, libc::F_GETFL) };
        if mode < 0 {
            return Err(Errno::last());
        }
        if mode & libc::O_NONBLOCK == 0 {
            return Err(Errno::INVALID);
        }
        self.calls += 1;
        without_sigpipe(|| {
            let mut at = offset as libc::off_t;
            // SAFETY: sendfile checks the descriptors and writes only to `at`.
            match usize::try_from(unsafe { libc::sendfile(self.fd, fd, &mut at, len) }) {
                Err(_) => Err(Errno::last()),
                Ok(0) => Err(Errno::IO),
                Ok(taken) => Ok(taken),
            }
        })
    }
}

/// Reads of the file `fd` from `offset`, as much as there is and fits: pread(2).
pub(super) fn read_at(fd: c_int, offset: u64, room: &mut [MaybeUninit<u8>]) -> Result<&[u8]> {
    let offset = libc::off_t::try_from(offset).map_err(|_| Errno::OVERFLOW)?;
    // SAFETY: room of that length; whatever fd is, pread checks it.
    let read = unsafe { libc::pread(fd, room.as_mut_ptr().cast(), room.len(), offset) };
    let read = usize::try_from(read).map_err(|_| Errno::last())?;
    // SAFETY: so many were read.
    Ok(unsafe { std::slice::from_raw_parts(room.as_ptr().cast(), read) })
}

/// What the kernel knows about a socket, as far as it can tell.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts {
    /// The size of its send buffer: SO_SNDBUF, socket(7).
    pub so_sndbuf: Option<u64>,
    /// What is in it, not sent yet or not acknowledged: SIOCOUTQ, tcp(7).
    pub outq: Option<u64>,
    /// TCP_INFO: segments that were sent and not acknowledged.
    pub tcp_unacked: Option<u64>,
    /// TCP_INFO: segments that were sent again, ever.
    pub tcp_total_retrans: Option<u64>,
}

impl Facts {
    /// By name.
    pub fn fields(&self) -> [(&'static str, Option<u64>); 4] {
        [
            ("so_sndbuf", self.so_sndbuf),
            ("outq", self.outq),
            ("tcp_unacked", self.tcp_unacked),
            ("tcp_total_retrans", self.tcp_total_retrans),
        ]
    }

    /// Asks the kernel about `fd`. Whatever that is, what it is not is left out.
    #[cfg(target_os = "linux")]
    pub fn of(fd: c_int) -> Facts {
        let info = option::<libc::tcp_info>(fd, libc::IPPROTO_TCP, libc::TCP_INFO);
        Facts {
            so_sndbuf: option::<c_int>(fd, libc::SOL_SOCKET, libc::SO_SNDBUF)
                .and_then(|bytes| u64::try_from(bytes).ok()),
            outq: outq(fd),
            tcp_unacked: info.map(|info| info.tcpi_unacked.into()),
            tcp_total_retrans: info.map(|info| info.tcpi_total_retrans.into()),
        }
    }

    /// Asks the kernel about `fd`: there is nothing that it would tell on every platform.
    #[cfg(not(target_os = "linux"))]
    pub fn of(_: c_int) -> Facts {
        Facts::default()
    }
}

/// Bytes in the send buffer of the socket `fd`, if it is one that can tell.
#[cfg(target_os = "linux")]
pub fn outq(fd: c_int) -> Option<u64> {
    let mut bytes: c_int = 0;
    // SAFETY: ioctl checks the descriptor; SIOCOUTQ, which is TIOCOUTQ by another name, writes an int.
    let result = unsafe { libc::ioctl(fd, libc::TIOCOUTQ, &raw mut bytes) };
    if result == 0 { u64::try_from(bytes).ok() } else { None }
}

/// Bytes in the send buffer of the socket `fd`: not to be told on every platform.
#[cfg(not(target_os = "linux"))]
pub fn outq(_: c_int) -> Option<u64> {
    None
}

/// An option of a socket whose value is a `T`, any bytes of which are one.
#[cfg(target_os = "linux")]
fn option<T: Copy>(fd: c_int, level: c_int, name: c_int) -> Option<T> {
    let mut value = MaybeUninit::<T>::zeroed();
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: getsockopt checks the descriptor, and writes at most `length` bytes. An older kernel
    // writes fewer, and leaves the rest zero; both callers ask for plain integers.
    unsafe {
        let result = libc::getsockopt(fd, level, name, value.as_mut_ptr().cast(), &raw mut length);
        (result == 0).then(|| value.assume_init())
    }
}

/// Runs `call` with SIGPIPE blocked on this thread, and takes the one it raised, if any, away.
#[cfg(target_os = "linux")]
fn without_sigpipe(call: impl FnOnce() -> Result<usize>) -> Result<usize> {
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
        // Also after a success: the peer may have gone when a part was sent already.
        if !was_pending {
            let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            libc::sigtimedwait(&pipe, std::ptr::null_mut(), &now);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
        outcome
    }
}
