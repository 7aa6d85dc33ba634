//! How fast bytes may leave and how slowly, in numbers that nothing is rounded in.

const SECOND: u128 = 1_000_000_000;

/// sendq_set_rate. Tokens are billionths of a byte: what comes in a nanosecond is a whole number of
/// them. What the manual leaves open, which is parts of bytes and of nanoseconds, lies between two
/// bounds.
#[derive(Clone, Copy)]
pub struct Bucket {
    rate: u64,
    full: u128,
    most: u128,
    least: u128,
    at: u64,
}

impl Bucket {
    pub fn new(rate: u64, burst: u64, now: u64) -> Option<Bucket> {
        let full = u128::from(if burst == 0 { rate } else { burst }) * SECOND;
        (rate > 0).then_some(Bucket { rate, full, most: full, least: full, at: now })
    }

    /// Another bucket takes its place: what was in that one is in this, as far as it fits. A part of a
    /// byte may be lost.
    pub fn filled_from(self, mut other: Bucket, now: u64) -> Bucket {
        other.fill(now);
        let least = other.least.saturating_sub(SECOND).min(self.full);
        Bucket { most: other.most.min(self.full), least, ..self }
    }

    /// Somebody looks: a part of a nanosecond may be lost. A clock that jumps back takes nothing away but
    /// a part of a byte, and earns from where it is.
    pub fn fill(&mut self, now: u64) {
        let rate = u128::from(self.rate);
        let earned = u128::from(now.saturating_sub(self.at)) * rate;
        let lost = if now < self.at { SECOND } else { 0 };
        self.most = self.most.saturating_add(earned).min(self.full);
        let sum = self.least.saturating_add(earned);
        self.least = if sum >= self.full { self.full } else { sum.saturating_sub(rate + lost) };
        self.at = now;
    }

    /// Bytes left. When they are more than there was, a part of a byte may stay.
    pub fn spend(&mut self, bytes: u64, now: u64) {
        self.fill(now);
        let tokens = u128::from(bytes) * SECOND;
        self.most = self.most.saturating_sub(tokens);
        if self.least < tokens {
            self.most = self.most.max(SECOND - 1);
        }
        self.least = self.least.saturating_sub(tokens);
    }

    /// How many bytes may leave at most.
    pub fn most(mut self, now: u64) -> u128 {
        self.fill(now);
        self.most / SECOND
    }

    /// How many may leave in any case.
    pub fn least(mut self, now: u64) -> u128 {
        self.fill(now);
        self.least / SECOND
    }

    /// It is worth a call now to send more of so many bytes, or not.
    pub fn check_now(mut self, is_worth: bool, bytes: u64, now: u64) {
        self.fill(now);
        if is_worth {
            assert!(self.most >= SECOND, "nothing may leave");
        } else {
            assert!(self.least < (u128::from(bytes) * SECOND).min(self.full), "all may leave");
        }
    }

    /// `wait` is how long to wait with so many bytes: no longer than until they may all leave or the
    /// bucket is full, long enough for one of them, and not at all if that may leave now.
    pub fn check_wait(mut self, wait: u64, bytes: u64, now: u64) {
        self.fill(now);
        let later = self.most(now.saturating_add(wait));
        assert!(later > 0, "in {wait} ns, and nothing may leave then");
        let lacking = (u128::from(bytes) * SECOND).min(self.full).saturating_sub(self.least);
        let longest = lacking.div_ceil(u128::from(self.rate)) + 1;
        assert!(u128::from(wait) <= longest, "in {wait} ns, and {longest} would do for all");
    }
}

/// sendq_set_min_rate.
#[derive(Clone, Copy)]
pub struct Floor {
    quota: u64,
    window: u64,
    /// When the window began, and what has left in it.
    began: u64,
    left: u64,
    /// When the first of the windows in a row began that were too slow.
    slow: Option<u64>,
}

impl Floor {
    pub fn new(rate: u64, window: u64, now: u64) -> Option<Floor> {
        let quota = u128::from(rate) * u128::from(window) / SECOND;
        let quota = quota.clamp(1, u64::MAX.into()) as u64;
        (rate > 0).then_some(Floor { quota, window, began: now, left: 0, slow: None })
    }

    pub fn begin(&mut self, now: u64) {
        (self.began, self.left, self.slow) = (now, 0, None);
    }

    /// Window after window, with what has left in each: in the first, so much; in the others, nothing.
    fn pass(&mut self, now: u64) {
        if self.window > 0 && now > self.began.saturating_add(self.window) {
            let windows = (now - self.began - 1) / self.window;
            self.slow = self.slow.or(Some(self.began));
            (self.began, self.left) = (self.began + windows * self.window, 0);
        }
    }

    pub fn leave(&mut self, bytes: u64, now: u64) {
        self.pass(now);
        self.left += bytes;
        if self.left >= self.quota {
            self.begin(now);
        }
    }

    /// For how long it has been too slow; 0 if it is not.
    pub fn stalled(mut self, now: u64) -> u64 {
        self.pass(now);
        self.slow.map_or(0, |slow| now - slow)
    }
}
