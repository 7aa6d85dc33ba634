//! A socket that sends without a copy where the queue asks for it.

use super::error_queue::ErrorQueue;
use super::platform::{Fd, Socket};
use super::{Promises, Sink};
use crate::errno::Result;
use crate::iovec::IoVec;
use crate::zerocopy::{Acks, Connection};
use libc::c_int;
use std::sync::Arc;

/// A [`Socket`] of Linux that knows MSG_ZEROCOPY.
pub struct ZerocopySocket(Socket);

impl ZerocopySocket {
    /// The socket `fd`.
    pub fn new(fd: Fd, promises: Promises) -> ZerocopySocket {
        ZerocopySocket(Socket::new(fd, promises))
    }
}

impl Sink for ZerocopySocket {
    fn write(&mut self, iovecs: &[IoVec], more: bool) -> Result<usize> {
        self.0.write(iovecs, more)
    }

    fn send_file(&mut self, fd: c_int, offset: u64, len: usize, more: bool) -> Result<usize> {
        self.0.send_file(fd, offset, len, more)
    }

    fn knows_zerocopy(&self) -> bool {
        true
    }

    fn acks(&mut self, last: Connection) -> Result<Arc<dyn Acks>> {
        let Socket { fd, calls, .. } = &mut self.0;
        ErrorQueue::of(*fd, last, calls)
    }

    fn write_zerocopy(&mut self, iovecs: &[IoVec], more: bool) -> Result<usize> {
        self.0.send_zerocopy(iovecs, more)
    }

    fn push(&mut self) {
        self.0.push();
    }

    fn calls(&self) -> u32 {
        self.0.calls()
    }
}
