//! Moving from sendmsg(2): shadow mode.

use super::boundary::iovecs;
use super::handle::{enter_unlocked, sendq_t};
use crate::errno::Errno;
use crate::iovec::IoVec;
use crate::verify::{Verdict, verify};
use libc::c_int;

/// Shadow mode: checks the queue against the path that it will replace. The old path has sent the first bytes
/// bytes of iov, and the same data was appended to the queue. If these are the next bytes of the queue, they
/// are consumed, as by sendq_consume. If not, the call returns -EILSEQ and consumes nothing, and *mismatch_at
/// is the offset in the stream of the first byte that differs or that the queue does not have. The stream
/// begins at offset 0; sendq_sent_bytes is the offset of the first queued byte. mismatch_at may be NULL.
/// Parts of files are read and compared, too.
///
/// Hint: SENDQ_RESUME.
/// -EINVAL: q is NULL, as for sendq_appendv, or iov has fewer than bytes bytes. -EBUSY: another thread is
/// flushing the queue.
/// Another -errno: the connection has failed with it, or a file could not be read: an error of pread(2), or
/// -ENODATA if it has become shorter.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_verify(
    q: *mut sendq_t,
    iov: *const IoVec,
    iovcnt: c_int,
    bytes: usize,
    mismatch_at: *mut u64,
) -> c_int {
    // SAFETY: NULL or the caller's live queue; its array.
    unsafe {
        enter_unlocked(q, true, |call| {
            let iovecs = iovecs(iov, iovcnt)?;
            if bytes > iovecs.total() {
                return Err(Errno::INVALID);
            }
            match verify(call, iovecs, bytes)? {
                Verdict::Same(hints) => Ok(hints),
                Verdict::DiffersAt(offset) => {
                    if !mismatch_at.is_null() {
                        mismatch_at.write(offset);
                    }
                    Err(Errno::ILLEGAL_SEQUENCE)
                }
            }
        })
    }
}
