//! A clock in nanoseconds that never goes back, as the pool's owner reads it.

use crate::sync::atomic::{AtomicU64, Ordering};

/// The system's clock, or the host's.
pub struct Clock {
    is_host: bool,
    /// The latest time that the host's clock has returned.
    shown: AtomicU64,
}

impl Clock {
    /// The system's clock, read whenever the time is needed.
    pub const fn system() -> Clock {
        Clock { is_host: false, shown: AtomicU64::new(0) }
    }

    /// The host's clock. The caller reads it while nothing is locked, because it may call anything, and
    /// passes the time to [`Clock::show`].
    pub const fn host() -> Clock {
        Clock { is_host: true, shown: AtomicU64::new(0) }
    }

    /// Sets the time of the host's clock. A time before the last one is ignored, so that no duration is
    /// negative.
    pub fn show(&self, now: u64) {
        self.shown.fetch_max(now, Ordering::Relaxed);
    }

    /// The time in nanoseconds.
    pub fn now(&self) -> u64 {
        if self.is_host { self.shown.load(Ordering::Relaxed) } else { system_now() }
    }
}

/// CLOCK_MONOTONIC_COARSE (clock_gettime(2)): the cheapest clock, exact to a tick of the kernel.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn system_now() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes a timespec. It cannot fail: every Linux has this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The platform's monotonic clock.
#[cfg(not(target_os = "linux"))]
fn system_now() -> u64 {
    use std::sync::OnceLock;
    use std::time::Instant;
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}
