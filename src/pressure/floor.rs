//! No slower than: a client that takes a byte a minute is told apart from one that reads.

/// What has to leave within a window of time, while anything waits.
#[derive(Clone, Copy, Debug)]
pub struct Floor {
    quota: u64,
    window: u64,
    /// The last time that a whole quota had left, or that bytes began to wait, and what had left by
    /// then.
    since: u64,
    sent: u64,
}

impl Floor {
    /// `per_second` bytes for each second of `window` nanoseconds, which is not 0.
    pub fn new(per_second: u64, window: u64, now: u64, sent: u64) -> Floor {
        let quota = u128::from(per_second) * u128::from(window) / 1_000_000_000;
        let quota = u64::try_from(quota).unwrap_or(u64::MAX).max(1);
        Floor { quota, window, since: now, sent }
    }

    /// Bytes begin to wait: until now nothing could leave.
    pub fn start(&mut self, now: u64, sent: u64) {
        (self.since, self.sent) = (now, sent);
    }

    /// `sent` bytes have left by now.
    pub fn progress(&mut self, now: u64, sent: u64) {
        if sent - self.sent >= self.quota {
            self.start(now, sent);
        }
    }

    /// How long the connection has been too slow; None if it is not.
    pub fn slow_for(&self, now: u64) -> Option<u64> {
        let elapsed = now.saturating_sub(self.since);
        (elapsed > self.window).then_some(elapsed)
    }
}
