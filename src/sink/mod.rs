//! Where bytes go.

pub mod compare;
#[cfg(target_os = "linux")]
pub mod error_queue;
pub mod file;
pub mod gather;
/// The platform's sockets and files.
#[cfg_attr(windows, path = "windows.rs")]
#[cfg_attr(not(windows), path = "posix.rs")]
pub mod platform;
pub mod socket_info;
pub mod writer;
#[cfg(target_os = "linux")]
pub mod zerocopy_socket;

use crate::errno::{Errno, Result};
use crate::iovec::IoVec;
use crate::zerocopy::{Acks, Connection};
use libc::c_int;
use std::sync::Arc;

/// What the host promises about all its sockets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Promises {
    /// They are non-blocking (O_NONBLOCK).
    pub nonblocking: bool,
    /// The process ignores SIGPIPE.
    pub sigpipe_ignored: bool,
}

/// Takes bytes in order, as many as it can without waiting. `more`: others follow at once, so that it may
/// delay these.
pub trait Sink {
    /// Offers `iovecs`, at least one and none of them empty. Returns how many of their bytes were taken.
    /// Fewer than offered means that the sink is full; it is not called again to find out.
    ///
    /// A transient error ([`crate::errno::Errno::is_transient`]) means that it was full before; INTERRUPTED
    /// that it may be called again at once. Any other error ends the connection.
    fn write(&mut self, iovecs: &[IoVec], more: bool) -> Result<usize>;

    /// Offers `len` bytes of the file `fd` from `offset`. Returns how many were taken. Fewer than offered
    /// does not mean that the sink is full. Errors as for [`Sink::write`]; NO_DATA: the file is shorter.
    fn send_file(&mut self, fd: c_int, offset: u64, len: usize, more: bool) -> Result<usize>;

    /// Whether it may be asked to send without a copy: [`Sink::acks`], [`Sink::write_zerocopy`].
    fn knows_zerocopy(&self) -> bool {
        false
    }

    /// Where acknowledgements come from, if it can send without a copy. `last` is the connection that the queue has
    /// used last; as long as something sent there is not acknowledged, no other one is used. NOT_SUPPORTED: it always
    /// copies. Any other error: it copies for now.
    fn acks(&mut self, _last: Connection) -> Result<Arc<dyn Acks>> {
        Err(Errno::NOT_SUPPORTED)
    }

    /// [`Sink::write`] without a copy: the bytes stay unchanged until they are acknowledged. [`Sink::acks`] has just
    /// returned the connection. NOT_SUPPORTED, INVALID, FAULT, NO_BUFFERS, NO_MEMORY: they have to be copied.
    fn write_zerocopy(&mut self, _iovecs: &[IoVec], _more: bool) -> Result<usize> {
        Err(Errno::NOT_SUPPORTED)
    }

    /// Sends what was held back because more was to come.
    fn push(&mut self) {}

    /// How many system calls it has made, or how often it has called the host's function.
    fn calls(&self) -> u32;
}
