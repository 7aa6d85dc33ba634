//! Nanoseconds that only grow, as the pool's owner reads them.

use std::sync::atomic::{AtomicU64, Ordering};

/// The system's clock, or one of the host's.
pub struct Clock {
    /// None: the host's.
    read: Option<fn() -> u64>,
    /// The most that the host's has shown when it was asked.
    shown: AtomicU64,
}

impl Clock {
    /// One that is read whenever the time matters.
    pub const fn system(read: fn() -> u64) -> Clock {
        Clock { read: Some(read), shown: AtomicU64::new(0) }
    }

    /// One that is asked by others, while nothing is locked or lent, because it may call anything.
    pub const fn host() -> Clock {
        Clock { read: None, shown: AtomicU64::new(0) }
    }

    /// It is the host's.
    pub fn is_host(&self) -> bool {
        self.read.is_none()
    }

    /// What the host's clock shows now. If that is less than before, time stands still meanwhile: what
    /// is measured never shrinks.
    pub fn show(&self, now: u64) {
        self.shown.fetch_max(now, Ordering::Relaxed);
    }

    /// Nanoseconds.
    #[inline]
    pub fn now(&self) -> u64 {
        match self.read {
            Some(read) => read(),
            None => self.shown.load(Ordering::Relaxed),
        }
    }
}
