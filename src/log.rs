//! Log records: how connections ended. Nothing is logged per byte, or per call that succeeds.

use crate::errno::Errno;
use crate::queue::Report;

/// The key of the address of the queue that a record is about.
pub const QUEUE: &str = "queue";

/// Logs how the connection of the queue at address `queue` ended.
#[cold]
pub fn report(queue: usize, report: &Report) {
    let Report { failure, lost, sent, stalled } = *report;
    let idle = stalled as f64 / 1e9;
    let Some(errno) = failure else {
        log::warn!(
            queue;
            "discarded while the peer did not read: {sent} bytes sent, {lost} lost, \
             no progress for {idle:.3} s"
        );
        return;
    };
    let level = match errno {
        // A peer that disconnects is no fault.
        Errno::PIPE | Errno::RESET => log::Level::Info,
        Errno::NOT_RECOVERABLE => log::Level::Error,
        _ => log::Level::Warn,
    };
    // By number: strerror(3) may need memory, which may be what is missing.
    let error = -errno.negated();
    log::log!(
        level,
        queue;
        "connection ended, errno {error}: {sent} bytes sent, {lost} lost, \
         no progress for {idle:.3} s"
    );
}
