//! What the kernel knows about a socket.

#![allow(unsafe_code)]

use super::platform::Fd;
#[cfg(target_os = "linux")]
use libc::c_int;
#[cfg(target_os = "linux")]
use std::mem::MaybeUninit;

/// What the kernel reports about a socket; None where it does not.
#[derive(Clone, Copy, Debug, Default)]
pub struct SocketInfo {
    /// The size of its send buffer: SO_SNDBUF, socket(7).
    pub so_sndbuf: Option<u64>,
    /// Bytes in it, not sent yet or not acknowledged: SIOCOUTQ, tcp(7).
    pub outq: Option<u64>,
    /// TCP_INFO: segments sent and not acknowledged.
    pub tcp_unacked: Option<u64>,
    /// TCP_INFO: segments sent again, in total.
    pub tcp_total_retrans: Option<u64>,
}

impl SocketInfo {
    /// The fields and their names.
    pub fn fields(&self) -> [(&'static str, Option<u64>); 4] {
        [
            ("so_sndbuf", self.so_sndbuf),
            ("outq", self.outq),
            ("tcp_unacked", self.tcp_unacked),
            ("tcp_total_retrans", self.tcp_total_retrans),
        ]
    }

    /// Asks the kernel about `fd`. What does not apply to `fd` is None.
    #[cfg(target_os = "linux")]
    pub fn of(fd: Fd) -> SocketInfo {
        let info = option::<libc::tcp_info>(fd, libc::IPPROTO_TCP, libc::TCP_INFO);
        SocketInfo {
            so_sndbuf: option::<c_int>(fd, libc::SOL_SOCKET, libc::SO_SNDBUF)
                .and_then(|bytes| u64::try_from(bytes).ok()),
            outq: outq(fd),
            tcp_unacked: info.map(|info| info.tcpi_unacked.into()),
            tcp_total_retrans: info.map(|info| info.tcpi_total_retrans.into()),
        }
    }

    /// No other platform reports these.
    #[cfg(not(target_os = "linux"))]
    pub fn of(_: Fd) -> SocketInfo {
        SocketInfo::default()
    }
}

/// Bytes in the send buffer of the socket `fd`; None if it does not report them.
#[cfg(target_os = "linux")]
fn outq(fd: c_int) -> Option<u64> {
    let mut bytes: c_int = 0;
    // SAFETY: ioctl checks the descriptor; SIOCOUTQ, which is TIOCOUTQ by another name, writes an int.
    let result = unsafe { libc::ioctl(fd, libc::TIOCOUTQ, &raw mut bytes) };
    if result == 0 { u64::try_from(bytes).ok() } else { None }
}

/// Sets a socket option of type int. Returns whether the socket has taken it.
#[cfg(target_os = "linux")]
pub(super) fn set_option(fd: c_int, level: c_int, name: c_int, value: c_int) -> bool {
    let len = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: setsockopt checks the descriptor, and reads an int.
    unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), len) == 0 }
}

/// A socket option of type `T`, for which any bytes are valid.
#[cfg(target_os = "linux")]
pub(super) fn option<T: Copy>(fd: c_int, level: c_int, name: c_int) -> Option<T> {
    let mut value = MaybeUninit::<T>::zeroed();
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: getsockopt checks the descriptor, and writes at most `length` bytes. An older kernel
    // writes fewer, and leaves the rest zero; both callers ask for plain integers.
    unsafe {
        let result = libc::getsockopt(fd, level, name, value.as_mut_ptr().cast(), &raw mut length);
        (result == 0).then(|| value.assume_init())
    }
}
