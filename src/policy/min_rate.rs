//! A minimum rate: it exposes a client that takes a byte a minute.

/// How many bytes have to be sent in each window of time while bytes are queued.
#[derive(Clone, Copy, Debug)]
pub struct MinRate {
    quota: u64,
    window: u64,
    /// When the current window began, and how many bytes had been sent by then.
    opened: u64,
    sent: u64,
    /// When the first of the latest windows that were too slow began; None if the last window was not.
    slow_since: Option<u64>,
}

impl MinRate {
    /// `per_second` bytes for each second of `window` nanoseconds. `window` is not 0.
    pub fn new(per_second: u64, window: u64, now: u64, sent: u64) -> MinRate {
        let quota = u128::from(per_second) * u128::from(window) / 1_000_000_000;
        let quota = u64::try_from(quota).unwrap_or(u64::MAX).max(1);
        MinRate { quota, window, opened: now, sent, slow_since: None }
    }

    /// Begins a window: there was nothing to send before.
    pub fn start(&mut self, now: u64, sent: u64) {
        (self.opened, self.sent, self.slow_since) = (now, sent, None);
    }

    /// `sent` bytes have been sent in total, the last `len` of them just now. A window ends as soon as its
    /// quota is sent.
    pub fn on_sent(&mut self, now: u64, sent: u64, len: u64) {
        self.close_windows(now, sent - len);
        if sent - self.sent >= self.quota {
            self.start(now, sent);
        }
    }

    /// `len` bytes were moved to another queue. They are in the total, but the quota is what the socket takes.
    pub fn on_splice(&mut self, len: u64) {
        self.sent += len;
    }

    /// For how many nanoseconds the connection has been too slow, with `sent` bytes sent in total. None if it
    /// is not.
    pub fn slow_for(mut self, now: u64, sent: u64) -> Option<u64> {
        self.close_windows(now, sent);
        self.slow_since.map(|since| now.saturating_sub(since))
    }

    /// Ends the windows that are over. None of them reached its quota, else [`MinRate::on_sent`] had ended
    /// it.
    fn close_windows(&mut self, now: u64, sent: u64) {
        // Bytes that are sent at the last instant of a window count for it.
        let over = now.saturating_sub(self.opened).saturating_sub(1) / self.window;
        if over > 0 {
            self.slow_since.get_or_insert(self.opened);
            self.opened += over * self.window;
            self.sent = sent;
        }
    }
}
