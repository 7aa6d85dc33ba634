//! Gathers what is scattered.

#![allow(unsafe_code)]

use super::socket::read_at;
use crate::errno::{Errno, Result};
use crate::segment::Run;
use std::mem::MaybeUninit;

/// Copies the first `want` bytes of `runs` to the front of `room`, where they fit, and returns how many
/// there were. Whoever lends the runs holds them until this returns.
///
/// IO: a file is shorter than what was promised of it; otherwise its own error: pread(2).
pub fn gather(
    room: &mut [MaybeUninit<u8>],
    runs: impl Iterator<Item = Run>,
    want: usize,
) -> Result<usize> {
    let mut room = &mut room[..want];
    for run in runs {
        let len = usize::try_from(run.len()).unwrap_or(usize::MAX).min(room.len());
        let (mut now, later) = room.split_at_mut(len);
        match run {
            // SAFETY: held, as the caller says; `now` has room for that many, and nobody else has it.
            Run::Memory(piece) => unsafe {
                piece.base().copy_to_nonoverlapping(now.as_mut_ptr().cast(), len);
            },
            Run::File(fd, mut offset, _) => {
                while !now.is_empty() {
                    let read = read_at(fd, offset, now)?.len();
                    if read == 0 {
                        return Err(Errno::IO);
                    }
                    offset += read as u64;
                    now = &mut now[read..];
                }
            }
        }
        room = later;
        if room.is_empty() {
            break;
        }
    }
    Ok(want - room.len())
}
