//! No faster than: a token bucket.

const SECOND: u64 = 1_000_000_000;

/// A bucket of tokens, a byte each, that fills by and by.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    per_second: u64,
    /// What the bucket holds at most.
    burst: u64,
    tokens: u64,
    /// When the last of the tokens had come, or up to a nanosecond later: younger time has not been turned
    /// into tokens yet.
    filled: u64,
}

impl Rate {
    /// A full bucket. `per_second` is not 0; a `burst` of 0 is what comes in a second.
    pub fn new(per_second: u64, burst: u64, now: u64) -> Rate {
        let burst = if burst == 0 { per_second } else { burst };
        Rate { per_second, burst, tokens: burst, filled: now }
    }

    /// Another rate from now on: what may leave at once stays, but for what is above the new burst.
    pub fn change(&mut self, per_second: u64, burst: u64, now: u64) {
        let tokens = self.allows(now);
        *self = Rate::new(per_second, burst, now);
        self.tokens = self.tokens.min(tokens);
    }

    /// How many bytes may leave now.
    pub fn allows(&mut self, now: u64) -> u64 {
        let elapsed = now.saturating_sub(self.filled);
        let earned = scale(elapsed, self.per_second, SECOND);
        if earned >= self.burst - self.tokens {
            (self.tokens, self.filled) = (self.burst, now);
        } else {
            self.tokens += earned;
            // Rounded up, or what is left of a nanosecond would be earned again by each call. It is at
            // most `elapsed`, which is whole and earned no less.
            self.filled += scale_up(earned, SECOND, self.per_second);
        }
        self.tokens
    }

    /// `len` bytes have left by now, allowed or not.
    pub fn spend(&mut self, len: u64, now: u64) {
        self.tokens = self.allows(now).saturating_sub(len);
    }

    /// How long until it is worth a call to send more of `waiting`: until it may all leave, or the
    /// bucket is full, or what comes in 1/128 of a second is there. When the last one left tokens, it was
    /// not this that ended it, and no time.
    pub fn wait(mut self, waiting: u64, now: u64) -> u64 {
        if self.tokens > 0 {
            return 0;
        }
        let worth = waiting.min(self.burst).min((self.per_second / 128).max(1));
        let lacking = worth.saturating_sub(self.allows(now));
        if lacking == 0 {
            return 0;
        }
        // Rounded up: a call that comes too early would find nothing.
        let after = scale_up(lacking, SECOND, self.per_second);
        after.saturating_sub(now.saturating_sub(self.filled)).max(1)
    }
}

/// `value * times / over`, as far as 64 bits go.
fn scale(value: u64, times: u64, over: u64) -> u64 {
    let scaled = u128::from(value) * u128::from(times) / u128::from(over);
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

/// The same rounded up.
fn scale_up(value: u64, times: u64, over: u64) -> u64 {
    let scaled = (u128::from(value) * u128::from(times)).div_ceil(u128::from(over));
    u64::try_from(scaled).unwrap_or(u64::MAX)
}
