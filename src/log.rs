//! What is worth a word: how connections end. Nothing is logged per byte, or per call that goes well.

use crate::errno::Errno;
use crate::queue::Report;

/// The key under which a record says which queue it is about: its address.
pub const QUEUE: &str = "queue";

/// Logs how the connection of the queue at address `queue` ended.
#[cold]
pub fn report(queue: usize, report: &Report) {
    let Report { failure, lost, sent, stalled } = *report;
    let idle = stalled as f64 / 1e9;
    let Some(errno) = failure else {
        log::warn!(
            queue;
            "given up while the peer did not read: {sent} bytes sent, {lost} not, \
             none for {idle:.3} s"
        );
        return;
    };
    let level = match errno {
        // Peers come and go.
        Errno::PIPE | Errno::RESET => log::Level::Info,
        Errno::NOT_RECOVERABLE => log::Level::Error,
        _ => log::Level::Warn,
    };
    // By number: the system's words for it would need memory, which may be what there is none of.
    let error = -errno.negated();
    log::log!(
        level,
        queue;
        "connection ended, errno {error}: {sent} bytes sent, {lost} not, none for {idle:.3} s"
    );
}
