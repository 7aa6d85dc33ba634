//! No slower than: a client that takes a byte a minute is told apart from one that reads.

/// What has to leave in each window of time, while anything waits.
#[derive(Clone, Copy, Debug)]
pub struct Floor {
    quota: u64,
    window: u64,
    /// When the window began that is open now, and what had left by then.
    opened: u64,
    sent: u64,
    /// The beginning of the first of the windows that were too slow, if the last one was.
    slow_since: Option<u64>,
}

impl Floor {
    /// `per_second` bytes for each second of `window` nanoseconds, which is not 0.
    pub fn new(per_second: u64, window: u64, now: u64, sent: u64) -> Floor {
        let quota = u128::from(per_second) * u128::from(window) / 1_000_000_000;
        let quota = u64::try_from(quota).unwrap_or(u64::MAX).max(1);
        Floor { quota, window, opened: now, sent, slow_since: None }
    }

    /// Bytes begin to wait: until now nothing could leave.
    pub fn start(&mut self, now: u64, sent: u64) {
        (self.opened, self.sent, self.slow_since) = (now, sent, None);
    }

    /// `sent` bytes have left by now, the last `len` of them at once. As soon as a window has its quota,
    /// the next one begins.
    pub fn progress(&mut self, now: u64, sent: u64, len: u64) {
        self.turn(now, sent - len);
        if sent - self.sent >= self.quota {
            self.start(now, sent);
        }
    }

    /// How long the connection, of which `sent` bytes have left, has been too slow; None if it is not.
    pub fn slow_for(mut self, now: u64, sent: u64) -> Option<u64> {
        self.turn(now, sent);
        self.slow_since.map(|since| now.saturating_sub(since))
    }

    /// Closes the windows that are over: none of them had its quota.
    fn turn(&mut self, now: u64, sent: u64) {
        // The last instant of a window still counts: what leaves just in time is in time.
        let over = now.saturating_sub(self.opened).saturating_sub(1) / self.window;
        if over > 0 {
            self.slow_since.get_or_insert(self.opened);
            self.opened += over * self.window;
            self.sent = sent;
        }
    }
}
