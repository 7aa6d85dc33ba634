//! Sockets and files of Windows. A stream socket: `WSASend`, which has no flag against waiting, so that the
//! socket has to be non-blocking. It has none for MSG_MORE either.

#![allow(unsafe_code)]

use super::file::read_and_send;
use super::{Promises, Sink};
use crate::errno::{Errno, Result};
use crate::iovec::{IoVec, MAX_IOVECS};
use libc::c_int;
use std::ffi::c_void;
use std::fs::File;
use std::io::Error;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::os::windows::fs::FileExt;
use std::os::windows::io::FromRawHandle;
use std::ptr::{null, null_mut};

/// A SOCKET, or the HANDLE of a file.
pub type Fd = usize;

/// A connected stream socket of the host. It is never closed here.
pub struct Socket {
    fd: Fd,
    pub(super) calls: u32,
}

/// Winsock's iovec.
#[repr(C)]
#[derive(Clone, Copy)]
struct WSABUF {
    len: u32,
    buf: *const u8,
}

const NO_BUFFER: WSABUF = WSABUF { len: 0, buf: null() };

/// The most bytes of one call. A socket that is not full takes all of a call into the kernel's memory, however
/// large its send buffer is.
const MAX_SEND: usize = 64 * 1024;

#[link(name = "ws2_32")]
unsafe extern "system" {
    fn WSASend(
        socket: usize,
        buffers: *const WSABUF,
        count: u32,
        sent: *mut u32,
        flags: u32,
        overlapped: *mut c_void,
        completion: *mut c_void,
    ) -> c_int;
}

impl Socket {
    /// The socket `fd`. A number that is no socket fails when written to.
    pub fn new(fd: Fd, _: Promises) -> Socket {
        Socket { fd, calls: 0 }
    }

    fn send(&mut self, buffers: &[WSABUF]) -> Result<usize> {
        if self.fd == Fd::MAX {
            // INVALID_SOCKET: Winsock says of it only that it is no socket.
            return Err(Errno::new(libc::EBADF));
        }
        let (count, mut sent) = (buffers.len() as u32, 0);
        self.calls += 1;
        // SAFETY: each buffer is readable memory of its length. Without an OVERLAPPED, the call is over when it
        // returns.
        let result = unsafe {
            WSASend(self.fd, buffers.as_ptr(), count, &raw mut sent, 0, null_mut(), null_mut())
        };
        if result == 0 { Ok(sent as usize) } else { Err(last_error()) }
    }
}

/// Sends without a copy are not known here.
pub type ZerocopySocket = Socket;

/// No socket has a number of its own here.
pub fn cookie(_: Fd) -> Result<u64> {
    Err(Errno::NOT_SUPPORTED)
}

impl Sink for Socket {
    /// Asks until the socket refuses: only then does it report later that it is writable (FD_WRITE,
    /// WSAEventSelect).
    fn write(&mut self, iovecs: &[IoVec], _: bool) -> Result<usize> {
        let mut buffers = [NO_BUFFER; MAX_IOVECS];
        let total: usize = iovecs.iter().map(IoVec::len).sum();
        let mut taken = 0;
        while taken < total {
            match self.send(fill(&mut buffers, iovecs, taken)) {
                Ok(0) => break,
                Ok(sent) => taken += sent,
                // What was sent counts. The next call meets the error again.
                Err(_) if taken > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(taken)
    }

    fn send_file(&mut self, fd: c_int, offset: u64, len: usize, more: bool) -> Result<usize> {
        read_and_send(self, fd, offset, len, more)
    }

    fn calls(&self) -> u32 {
        self.calls
    }
}

/// Describes what follows the first `skip` bytes of `iovecs`, at most MAX_SEND bytes of it.
fn fill<'a>(buffers: &'a mut [WSABUF], iovecs: &[IoVec], mut skip: usize) -> &'a [WSABUF] {
    let (mut count, mut left) = (0, MAX_SEND);
    for iovec in iovecs {
        let skipped = skip.min(iovec.len());
        let len = left.min(iovec.len() - skipped);
        skip -= skipped;
        if len > 0 && count < buffers.len() {
            buffers[count] = WSABUF { len: len as u32, buf: iovec.base().wrapping_add(skipped) };
            count += 1;
            left -= len;
        }
    }
    &buffers[..count]
}

/// The file whose handle is `fd`. A handle has 32 bits that count, and is sign-extended ("Interprocess
/// Communication Between 32-bit and 64-bit Applications").
fn file(fd: c_int) -> File {
    // SAFETY: an open file of the host, as it promises. Any other handle is found by the kernel.
    unsafe { File::from_raw_handle(fd as isize as *mut c_void) }
}

/// Reads from the file `fd` at `offset`, as much as fits into `room`, which is not empty: ReadFile, which moves
/// the file's position.
///
/// NO_DATA: the file ends before.
pub fn read_at(fd: c_int, offset: u64, room: &mut [MaybeUninit<u8>]) -> Result<&[u8]> {
    room.fill(MaybeUninit::new(0));
    // SAFETY: filled just now.
    let room = unsafe { std::slice::from_raw_parts_mut(room.as_mut_ptr().cast(), room.len()) };
    // Not closed here.
    match ManuallyDrop::new(file(fd)).seek_read(room, offset) {
        Ok(0) => Err(Errno::NO_DATA),
        Ok(read) => Ok(&room[..read]),
        Err(error) => Err(errno_of(&error)),
    }
}

/// Closes the file `fd`, which the caller owns.
pub fn close(fd: c_int) {
    drop(file(fd));
}

/// The error of the call that has just failed on this thread. Winsock leaves its own where the system does.
fn last_error() -> Errno {
    errno_of(&Error::last_os_error())
}

/// The errno of the C runtime for an error of the system or of Winsock (winerror.h).
fn errno_of(error: &Error) -> Errno {
    Errno::new(match error.raw_os_error().unwrap_or(0) {
        5 => libc::EACCES,      // ERROR_ACCESS_DENIED
        6 => libc::EBADF,       // ERROR_INVALID_HANDLE
        8 | 14 => libc::ENOMEM, // ERROR_NOT_ENOUGH_MEMORY, ERROR_OUTOFMEMORY
        87 => libc::EINVAL,     // ERROR_INVALID_PARAMETER
        10004 => libc::EINTR,
        10013 => libc::EACCES,
        10014 => libc::EFAULT,
        10022 => libc::EINVAL,
        10035 => libc::EWOULDBLOCK,
        10038 => libc::ENOTSOCK,
        10040 => libc::EMSGSIZE,
        10045 => libc::EOPNOTSUPP,
        10050 => libc::ENETDOWN,
        10051 => libc::ENETUNREACH,
        10052 => libc::ENETRESET,
        10053 => libc::ECONNABORTED,
        10054 => libc::ECONNRESET,
        10055 => libc::ENOBUFS,
        10057 => libc::ENOTCONN,
        10058 => libc::EPIPE, // WSAESHUTDOWN: as send(2) has it
        10060 => libc::ETIMEDOUT,
        10065 => libc::EHOSTUNREACH,
        // WSANOTINITIALISED, too: no process without Winsock has a socket.
        _ => libc::EIO,
    })
}
