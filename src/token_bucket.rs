//! A rate limit: a token bucket.

const SECOND: u64 = 1_000_000_000;

/// A bucket of tokens, one per byte, which fills at a constant rate.
#[derive(Clone, Copy, Debug)]
pub struct TokenBucket {
    per_second: u64,
    /// The most tokens that the bucket holds.
    burst: u64,
    tokens: u64,
    /// The time up to which tokens were added, rounded up to a nanosecond. Later time has not become tokens
    /// yet.
    filled: u64,
}

impl TokenBucket {
    /// A full bucket. `per_second` is not 0. A `burst` of 0 means the tokens of one second.
    pub fn new(per_second: u64, burst: u64, now: u64) -> TokenBucket {
        let burst = if burst == 0 { per_second } else { burst };
        TokenBucket { per_second, burst, tokens: burst, filled: now }
    }

    /// What takes the place of `bucket` for another rate; None if `per_second` is 0. The tokens stay, up to
    /// the new burst.
    pub fn replace(
        bucket: Option<TokenBucket>,
        per_second: u64,
        burst: u64,
        now: u64,
    ) -> Option<TokenBucket> {
        if per_second == 0 {
            return None;
        }
        let full = TokenBucket::new(per_second, burst, now);
        let tokens = bucket.map_or(full.tokens, |mut bucket| bucket.allows(now));
        Some(TokenBucket { tokens: full.tokens.min(tokens), ..full })
    }

    /// How many bytes may leave now.
    pub fn allows(&mut self, now: u64) -> u64 {
        let elapsed = now.saturating_sub(self.filled);
        let earned = scale(elapsed, self.per_second, SECOND);
        if earned >= self.burst - self.tokens {
            (self.tokens, self.filled) = (self.burst, now);
        } else {
            self.tokens += earned;
            // Rounded up, or each call would earn the rest of a nanosecond again. The sum is at most `now`:
            // `elapsed` is whole, and earned no less than this.
            self.filled += scale_up(earned, SECOND, self.per_second);
        }
        self.tokens
    }

    /// Takes the tokens of `len` bytes that were sent, allowed or not.
    pub fn spend(&mut self, len: u64, now: u64) {
        self.tokens = self.allows(now).saturating_sub(len);
    }

    /// Nanoseconds until a call is worthwhile: until all of `waiting` may be sent, or the bucket is full, or
    /// 1/128 of a second's tokens are there. 0 if the last flush left tokens: then something else ended it.
    pub fn wait(mut self, waiting: u64, now: u64) -> u64 {
        if self.tokens > 0 {
            return 0;
        }
        let worth = waiting.min(self.burst).min((self.per_second / 128).max(1));
        let lacking = worth.saturating_sub(self.allows(now));
        if lacking == 0 {
            return 0;
        }
        // Rounded up: a call that comes too early would send nothing.
        let after = scale_up(lacking, SECOND, self.per_second);
        after.saturating_sub(now.saturating_sub(self.filled)).max(1)
    }
}

/// `value * times / over`, saturating.
fn scale(value: u64, times: u64, over: u64) -> u64 {
    let scaled = u128::from(value) * u128::from(times) / u128::from(over);
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

/// The same rounded up.
fn scale_up(value: u64, times: u64, over: u64) -> u64 {
    let scaled = (u128::from(value) * u128::from(times)).div_ceil(u128::from(over));
    u64::try_from(scaled).unwrap_or(u64::MAX)
}
