//! Passes log records to a function of the host.

use super::boundary::guard;
use super::handle::sendq_t;
use crate::errno::Errno;
use crate::log::QUEUE;
use crate::policy::Hints;
use crate::stats::Text;
use crate::sync::thread_local;
use libc::{c_char, c_int};
use log::kv::Key;
use log::{LevelFilter, Log, Metadata, Record};
use parking_lot::Mutex;
use std::cell::Cell;
use std::ffi::c_void;
use std::fmt::Write;
use std::mem::MaybeUninit;

/// A level of sendq_set_logger: a bug in sendq was caught.
pub const SENDQ_LOG_ERROR: c_int = 1;
/// A level of sendq_set_logger: a connection failed, but not because its peer closed or reset it; or the host
/// discarded what was queued while the socket was full.
pub const SENDQ_LOG_WARN: c_int = 2;
/// A level of sendq_set_logger: a peer has closed or reset its connection.
pub const SENDQ_LOG_INFO: c_int = 3;

/// A log callback. message is one line without a line end, NUL-terminated, and valid during the call. q is
/// the queue that the message is about, which is alive, or NULL. The callback runs on the thread whose call
/// caused it, with no lock held, before that call returns. It may call any function, including sendq_free(q);
/// what such a call logs is dropped. It must not throw: an exception ends the process.
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

// SAFETY: the argument is only passed to the host's function, which any thread may call, by contract.
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
        let Some(function) = function.filter(|_| !LOGGING.with(Cell::get)) else {
            return;
        };
        let queue = record.key_values().get(Key::from_str(QUEUE)).and_then(|value| value.to_u64());
        let mut room = [MaybeUninit::uninit(); MESSAGE_BYTES];
        let mut text = Text::new(&mut room);
        // Text takes whatever is written to it.
        let _ = text.write_fmt(*record.args());
        text.finish();
        LOGGING.with(|logging| logging.set(true));
        // SAFETY: the host's own function with its own argument; the message ends with a NUL; the queue is
        // kept alive while its record is logged.
        unsafe {
            let queue = queue.unwrap_or(0) as usize as *mut sendq_t;
            function(arg, record.level() as c_int, queue, room.as_ptr().cast());
        }
        LOGGING.with(|logging| logging.set(false));
    }

    fn flush(&self) {}
}

/// Sets the log callback of the process, which is called with arg for each message up to max_level
/// (SENDQ_LOG_ERROR to SENDQ_LOG_INFO). sendq logs how each connection ended, once, with statistics. It does
/// not log calls that succeed. A later call replaces the callback; NULL, or a max_level of 0, removes it. A
/// call of the old callback that is in progress on another thread may continue after this returns.
///
/// -EINVAL: max_level is below 0 or above SENDQ_LOG_INFO. -EALREADY: the process has a logger of Rust's log
/// crate, which gets the records.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_set_logger(
    function: sendq_log_fn,
    arg: *mut c_void,
    max_level: c_int,
) -> c_int {
    let set = || {
        let level = match max_level {
            0 => LevelFilter::Off,
            SENDQ_LOG_ERROR => LevelFilter::Error,
            SENDQ_LOG_WARN => LevelFilter::Warn,
            SENDQ_LOG_INFO => LevelFilter::Info,
            _ => return Err(Errno::INVALID),
        };
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
