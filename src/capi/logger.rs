//! Where the log records go: to a function of the host's.

use super::boundary::guard;
use super::queue::sendq_t;
use crate::errno::Errno;
use crate::log::QUEUE;
use crate::pressure::Hints;
use crate::stats::Text;
use libc::{c_char, c_int};
use log::kv::Key;
use log::{LevelFilter, Log, Metadata, Record};
use parking_lot::Mutex;
use std::cell::Cell;
use std::ffi::c_void;
use std::fmt::Write;
use std::mem::MaybeUninit;

/// Levels of sendq_set_logger: a bug in sendq was caught.
pub const SENDQ_LOG_ERROR: c_int = 1;
/// A connection was given up, or failed for other reasons than its peer's going.
pub const SENDQ_LOG_WARN: c_int = 2;
/// A peer went away.
pub const SENDQ_LOG_INFO: c_int = 3;
/// Nothing is logged at this level yet.
pub const SENDQ_LOG_DEBUG: c_int = 4;
/// Nothing is logged at this level yet.
pub const SENDQ_LOG_TRACE: c_int = 5;

/// Is told what sendq logs: one line without an end, NUL-terminated, and valid during the call. q is the
/// queue it is about, alive, or NULL. It runs on the thread whose call caused it, with no lock held,
/// before that call returns, and may call anything, sendq_free(q) included; what that logs in turn is
/// dropped. It must not throw: an exception ends the process.
pub type sendq_log_fn = Option<
    unsafe extern "C-unwind" fn(
        arg: *mut c_void,
        level: c_int,
        q: *mut sendq_t,
        message: *const c_char,
    ),
>;

/// The host's function and its argument.
struct HostLogger(Mutex<(sendq_log_fn, *mut c_void)>);

// SAFETY: the argument is only handed to the host's function, which any thread may call: the contract
// that its user took on.
unsafe impl Send for HostLogger {}
// SAFETY: as above; the pair itself is locked.
unsafe impl Sync for HostLogger {}

static LOGGER: HostLogger = HostLogger(Mutex::new((None, std::ptr::null_mut())));

/// A message longer than this is cut off.
const MESSAGE_BYTES: usize = 512;

thread_local! {
    /// The host's function is running on this thread.
    static LOGGING: Cell<bool> = const { Cell::new(false) };
}

impl Log for HostLogger {
    fn enabled(&self, _: &Metadata) -> bool {
        true
    }

    fn log(&self, record: &Record) {
        let (function, arg) = *self.0.lock();
        let Some(function) = function.filter(|_| !LOGGING.get()) else {
            return;
        };
        let queue = record.key_values().get(Key::from_str(QUEUE)).and_then(|value| value.to_u64());
        let mut room = [MaybeUninit::uninit(); MESSAGE_BYTES];
        let mut text = Text::new(&mut room);
        // Text takes whatever is written to it.
        let _ = text.write_fmt(*record.args());
        text.finish();
        LOGGING.set(true);
        // SAFETY: the host's own function with its own argument; the message ends with a NUL; the queue
        // is kept alive while what befell it is logged.
        unsafe {
            let queue = queue.unwrap_or(0) as usize as *mut sendq_t;
            function(arg, record.level() as c_int, queue, room.as_ptr().cast());
        }
        LOGGING.set(false);
    }

    fn flush(&self) {}
}

/// Has function told, with arg, what sendq logs up to max_level (SENDQ_LOG_ERROR to SENDQ_LOG_TRACE): how
/// connections ended, once each, with figures. Nothing is logged for what goes well. One function per
/// process: another takes its place, and NULL, or a max_level of 0, ends it. A call of the old one that
/// is under way on another thread may still go on when this returns.
///
/// -EINVAL: max_level is below 0 or above SENDQ_LOG_TRACE. -EALREADY: the process has a logger of
/// Rust's log crate, to which the records go.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_set_logger(
    function: sendq_log_fn,
    arg: *mut c_void,
    max_level: c_int,
) -> c_int {
    let set = || {
        let level = usize::try_from(max_level).map_err(|_| Errno::INVALID)?;
        let level = LevelFilter::iter().nth(level).ok_or(Errno::INVALID)?;
        let is_ours =
            log::set_logger(&LOGGER).is_ok() || std::ptr::addr_eq(log::logger(), &raw const LOGGER);
        if !is_ours {
            return Err(Errno::ALREADY);
        }
        *LOGGER.0.lock() = (function, arg);
        log::set_max_level(if function.is_some() { level } else { LevelFilter::Off });
        Ok(Hints::NONE)
    };
    guard(set, || ())
}
