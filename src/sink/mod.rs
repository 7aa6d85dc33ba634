//! Where bytes go.

pub mod compare;
pub mod record;
pub mod socket;
pub mod writer;

use crate::errno::Result;
use crate::segment::{NO_FD, Piece};
use libc::c_int;

/// Takes bytes in order, as many as it can without waiting.
pub trait Sink {
    /// Offers `pieces`, at least one and none of them empty; returns how many of their bytes were
    /// taken. Fewer than offered says that the sink is full: nobody asks again to learn it.
    ///
    /// A transient error ([`crate::errno::Errno::is_transient`]) says that it was full before;
    /// INTERRUPTED that it may be asked again at once; any other ends the connection.
    fn write(&mut self, pieces: &[Piece]) -> Result<usize>;

    /// Offers `len` bytes of the file `fd` from `offset`; returns how many were taken. Fewer than offered
    /// says nothing: it is asked again. Errors as for [`Sink::write`]; IO: the file is shorter.
    fn send_file(&mut self, fd: c_int, offset: u64, len: usize) -> Result<usize>;

    /// The socket, if it is one that the kernel can be asked about.
    fn socket(&self) -> c_int {
        NO_FD
    }

    /// How often it has called on whatever takes the bytes: the system calls that could have sent
    /// some.
    fn calls(&self) -> u32;
}
