//! The error queue of a socket, from which the acknowledgements of what was sent with MSG_ZEROCOPY come
//! (Documentation/networking/msg_zerocopy.rst, recvmsg(2)).

#![allow(unsafe_code)]

use super::platform::{Fd, last_error};
use super::socket_info::{option, set_option};
use crate::errno::{Errno, Result};
use crate::zerocopy::{Ack, Acks, Connection};
use libc::{c_int, c_void};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;

/// How long the kernel goes on, in milliseconds, with a connection that its host has given up and whose peer takes
/// nothing (TCP_USER_TIMEOUT, tcp(7)): as long as it waits for the peer's end otherwise (tcp_fin_timeout).
const ABANDONED_MS: c_int = 60_000;

/// The error queue of one connection, by a descriptor of its own, so that it stays what it is when the host
/// closes its own.
pub struct ErrorQueue {
    socket: OwnedFd,
    cookie: u64,
}

impl ErrorQueue {
    /// That of the socket `fd`, if it can send without a copy. It is prepared for that, unless it was already: then
    /// others use it so, and the numbers are not those of one queue alone. `last`: the connection that the queue has
    /// used last. `calls` counts system calls.
    ///
    /// NOT_SUPPORTED: it cannot. AGAIN: the last connection is not done yet. Otherwise as for fcntl(2): there is no
    /// descriptor left.
    pub fn of(fd: Fd, last: Connection, calls: &mut u32) -> Result<Arc<dyn Acks>> {
        *calls += 1;
        let cookie = cookie(fd).map_err(|_| Errno::NOT_SUPPORTED)?;
        let is_known = last.id == Some(cookie);
        if let Some(acks) = last.acks {
            return if is_known { Ok(acks) } else { Err(Errno::AGAIN) };
        }
        *calls += 3;
        let ask = |name| option::<c_int>(fd, libc::SOL_SOCKET, name).ok_or(Errno::NOT_SUPPORTED);
        // Other families acknowledge by other control messages, or not at all.
        let is_internet = [libc::AF_INET, libc::AF_INET6].contains(&ask(libc::SO_DOMAIN)?);
        let is_prepared = ask(libc::SO_ZEROCOPY)? != 0;
        if !is_internet || is_prepared != is_known {
            return Err(Errno::NOT_SUPPORTED);
        }
        // SAFETY: fcntl checks the descriptor, and what it returns belongs to nobody else.
        let socket = unsafe {
            match libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) {
                own if own < 0 => return Err(last_error()),
                own => OwnedFd::from_raw_fd(own),
            }
        };
        *calls += u32::from(!is_prepared);
        if !is_prepared && !set_option(fd, libc::SOL_SOCKET, libc::SO_ZEROCOPY, 1) {
            return Err(Errno::NOT_SUPPORTED);
        }
        Ok(Arc::new(ErrorQueue { socket, cookie }))
    }
}

/// The number of the socket `fd`, which no other socket has. Errors as for getsockopt(2).
pub fn cookie(fd: Fd) -> Result<u64> {
    option(fd, libc::SOL_SOCKET, libc::SO_COOKIE).ok_or_else(last_error)
}

impl Acks for ErrorQueue {
    fn id(&self) -> u64 {
        self.cookie
    }

    /// What else is on the error queue is dropped: it cannot be put back.
    fn next(&self) -> Option<Ack> {
        // Others may queue without end, so each call looks at no more than this.
        (0..64).map_while(|_| receive(self.socket.as_raw_fd())).flatten().next()
    }

    fn abandon(&self) {
        let fd = self.socket.as_raw_fd();
        let known = option::<c_int>(fd, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT);
        if known.is_none_or(|timeout| timeout == 0 || timeout > ABANDONED_MS) {
            set_option(fd, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, ABANDONED_MS);
        }
        // SAFETY: shutdown checks the descriptor. A socket that is not connected any more refuses.
        unsafe { libc::shutdown(fd, libc::SHUT_WR) };
    }

    /// connect(2) to no address: TCP resets the connection and forgets what was not sent.
    fn abort(&self) {
        let nowhere = libc::sockaddr { sa_family: libc::AF_UNSPEC as _, sa_data: [0; 14] };
        let len = size_of_val(&nowhere) as libc::socklen_t;
        // SAFETY: connect checks the descriptor, and reads an address of that length.
        unsafe { libc::connect(self.socket.as_raw_fd(), &nowhere, len) };
    }
}

/// Takes a message from the error queue of `fd`. None: it is empty, or fails. Some(None): it is no acknowledgement.
fn receive(fd: c_int) -> Option<Option<Ack>> {
    // sock_extended_err with an address of either family, and what timestamps bring along.
    let mut control = [MaybeUninit::<u64>::uninit(); 64];
    // SAFETY: msghdr is plain data for which all zeroes mean "none". recvmsg writes only to `control` and to the
    // header. The control messages are walked as cmsg(3) says; the error is read from bytes that were written.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_control = control.as_mut_ptr().cast::<c_void>();
        message.msg_controllen = size_of_val(&control) as _;
        if libc::recvmsg(fd, &mut message, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT) < 0 {
            return None;
        }
        let mut next = libc::CMSG_FIRSTHDR(&message);
        while let Some(header) = next.as_ref() {
            let is_error = [(libc::SOL_IP, libc::IP_RECVERR), (libc::SOL_IPV6, libc::IPV6_RECVERR)]
                .contains(&(header.cmsg_level, header.cmsg_type));
            let len = libc::CMSG_LEN(size_of::<libc::sock_extended_err>() as _);
            if is_error && header.cmsg_len >= len as _ {
                let error = libc::CMSG_DATA(header).cast::<libc::sock_extended_err>();
                return Some(ack(&error.read_unaligned()));
            }
            next = libc::CMSG_NXTHDR(&message, header);
        }
    }
    Some(None)
}

fn ack(error: &libc::sock_extended_err) -> Option<Ack> {
    (error.ee_errno == 0 && error.ee_origin == SO_EE_ORIGIN_ZEROCOPY).then_some(Ack {
        first: error.ee_info,
        last: error.ee_data,
        is_copied: error.ee_code & SO_EE_CODE_ZEROCOPY_COPIED != 0,
    })
}

/// linux/errqueue.h.
const SO_EE_ORIGIN_ZEROCOPY: u8 = 5;
const SO_EE_CODE_ZEROCOPY_COPIED: u8 = 1;
