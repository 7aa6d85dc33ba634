//! The errors of all modules: the platform's errno numbers.

use libc::c_int;
use std::num::NonZero;

/// A positive errno. The C ABI returns it negated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(NonZero<c_int>);

/// The result of a fallible function.
pub type Result<T> = core::result::Result<T, Errno>;

/// How often a system call is repeated after EINTR before control returns to the host.
const MAX_INTERRUPTS: u32 = 16;

/// Makes `attempt`, and repeats it after EINTR.
#[inline(always)]
pub fn uninterrupted<T>(mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let mut left = MAX_INTERRUPTS;
    loop {
        let outcome = attempt();
        left -= 1;
        if !matches!(outcome, Err(Errno::INTERRUPTED)) || left == 0 {
            return outcome;
        }
    }
}

impl Errno {
    /// Invalid argument.
    pub const INVALID: Errno = Errno::known(libc::EINVAL);
    /// An address that is not the caller's, or that the kernel cannot map.
    pub const FAULT: Errno = Errno::known(libc::EFAULT);
    /// Out of memory.
    pub const NO_MEMORY: Errno = Errno::known(libc::ENOMEM);
    /// A cap or a budget is exceeded.
    pub const NO_BUFFERS: Errno = Errno::known(libc::ENOBUFS);
    /// The stream was closed, by the host or by its peer.
    pub const PIPE: Errno = Errno::known(libc::EPIPE);
    /// The peer has reset the connection.
    pub const RESET: Errno = Errno::known(libc::ECONNRESET);
    /// Try again later.
    pub const AGAIN: Errno = Errno::known(libc::EAGAIN);
    /// Not supported.
    pub const NOT_SUPPORTED: Errno = Errno::known(libc::EOPNOTSUPP);
    /// The bytes differ.
    pub const ILLEGAL_SEQUENCE: Errno = Errno::known(libc::EILSEQ);
    /// The sink cannot continue before its connection is readable. No platform uses this number.
    pub const WANT_READ: Errno = Errno::known(4096);
    /// A signal interrupted the call.
    pub const INTERRUPTED: Errno = Errno::known(libc::EINTR);
    /// A flush is in progress, or memory is reserved.
    pub const BUSY: Errno = Errno::known(libc::EBUSY);
    /// It is in that state already.
    pub const ALREADY: Errno = Errno::known(libc::EALREADY);
    /// Discarded by the host.
    pub const CANCELED: Errno = Errno::known(libc::ECANCELED);
    /// The deadline has passed.
    pub const TIMED_OUT: Errno = Errno::known(libc::ETIMEDOUT);
    /// A callback of the host returned something invalid.
    pub const IO: Errno = Errno::known(libc::EIO);
    /// A file is shorter than promised.
    #[cfg(not(target_os = "freebsd"))]
    pub const NO_DATA: Errno = Errno::known(libc::ENODATA);
    /// A file is shorter than promised. FreeBSD has no ENODATA; this is what Linux calls ENODATA for attributes.
    #[cfg(target_os = "freebsd")]
    pub const NO_DATA: Errno = Errno::known(libc::ENOATTR);
    /// A number is too large for what it counts.
    pub const OVERFLOW: Errno = Errno::known(libc::EOVERFLOW);
    /// A configuration uses what this version does not know.
    pub const TOO_BIG: Errno = Errno::known(libc::E2BIG);
    /// A bug in sendq was caught.
    pub const NOT_RECOVERABLE: Errno = Errno::known(libc::ENOTRECOVERABLE);

    const fn known(errno: c_int) -> Errno {
        match NonZero::new(errno) {
            Some(errno) => Errno(errno),
            None => panic!("no errno is 0"),
        }
    }

    /// The error with the number `errno`. A number that is not positive becomes NOT_RECOVERABLE.
    pub fn new(errno: c_int) -> Errno {
        match NonZero::new(errno) {
            Some(errno) if errno.get() > 0 => Errno(errno),
            _ => Errno::NOT_RECOVERABLE,
        }
    }

    /// The number in 16 bits. No platform has larger ones.
    pub fn number(self) -> i16 {
        i16::try_from(self.0.get()).unwrap_or(Errno::NOT_RECOVERABLE.0.get() as i16)
    }

    /// As the C ABI returns it.
    pub fn negated(self) -> c_int {
        -self.0.get()
    }

    /// The sink took nothing, and has to be offered the same bytes again.
    pub fn is_refusal(self) -> bool {
        self.is_transient() || self == Errno::INTERRUPTED || self == Errno::WANT_READ
    }

    /// The sink is full for now, and nothing has failed. The kernel reports its own memory shortage as
    /// ENOBUFS or ENOMEM (send(2)), which ends like a full socket does.
    pub fn is_transient(self) -> bool {
        let again = [libc::EAGAIN, libc::EWOULDBLOCK].contains(&self.0.get());
        again || self == Errno::NO_BUFFERS || self == Errno::NO_MEMORY
    }
}
