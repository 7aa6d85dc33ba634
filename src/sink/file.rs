//! Sends files by reading them, where no system call does both.

use super::Sink;
use super::platform::{Socket, read_at};
use crate::errno::Result;
use crate::iovec::IoVec;
use libc::c_int;
use std::mem::MaybeUninit;

/// How many bytes of a file are read at a time.
pub const READ_BYTES: usize = 16 * 1024;

/// Does what [`Sink::send_file`] says.
pub fn read_and_send(
    socket: &mut Socket,
    fd: c_int,
    offset: u64,
    len: usize,
    more: bool,
) -> Result<usize> {
    let mut room = [MaybeUninit::<u8>::uninit(); READ_BYTES];
    let mut taken = 0;
    while taken < len {
        let want = READ_BYTES.min(len - taken);
        socket.calls += 1;
        let read = read_at(fd, offset + taken as u64, &mut room[..want]);
        let outcome = read.and_then(|read| {
            let iovec = IoVec::new(read.as_ptr(), read.len());
            let more = more || taken + read.len() < len;
            socket.write(&[iovec], more).map(|sent| (sent, read.len()))
        });
        match outcome {
            Ok((sent, read)) => {
                taken += sent;
                if sent < read {
                    break;
                }
            }
            // What was sent counts. The next call meets the error again.
            Err(_) if taken > 0 => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(taken)
}
