//! How much waits, and when that is too much: watermarks and the hard cap. Below: how fast it may
//! leave, and how slowly.

pub mod floor;
pub mod rate;

use crate::errno::{Errno, Result};

/// What a call tells the host to do next: bits that the C ABI returns as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hints(u32);

impl Hints {
    /// Nothing is left to do.
    pub const NONE: Hints = Hints(0);
    /// The queue was empty: see that a flush gets scheduled.
    pub const WAKE: Hints = Hints(1);
    /// At or over the high watermark: pause the producer.
    pub const HIGH: Hints = Hints(2);
    /// Bytes remain, the sink takes no more.
    pub const BLOCKED: Hints = Hints(4);
    /// Bytes remain, the budget of the call is spent.
    pub const MORE: Hints = Hints(8);
    /// Fell to the low watermark after having been high.
    pub const RESUME: Hints = Hints(16);
    /// Bytes remain, the sink goes on once its connection is readable.
    pub const WANT_READ: Hints = Hints(32);

    /// As the C ABI returns them.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// These if `condition` holds, else none.
    #[inline]
    pub fn when(self, condition: bool) -> Hints {
        Hints(self.0 * u32::from(condition))
    }
}

impl std::ops::BitOr for Hints {
    type Output = Hints;
    fn bitor(self, other: Hints) -> Hints {
        Hints(self.0 | other.0)
    }
}

impl std::ops::BitOrAssign for Hints {
    fn bitor_assign(&mut self, other: Hints) {
        *self = *self | other;
    }
}

/// No cap: half the range, so that a sum of two counts never wraps around.
const UNBOUNDED: u64 = i64::MAX as u64;

/// The high watermark unless the configuration says otherwise.
pub const HIGH_BYTES: u64 = 1024 * 1024;

/// When to pause, when to go on, when to refuse. `low <= high <= max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    low: u64,
    high: u64,
    max: u64,
}

impl Watermarks {
    /// 0 means the default: no cap, 1 MiB (or the cap, if that is less), and half of high.
    ///
    /// INVALID: low is above high, or high above max.
    pub fn new(low: u64, high: u64, max: u64) -> Result<Watermarks> {
        let mark = |given: u64, default| if given == 0 { default } else { given.min(UNBOUNDED) };
        let max = mark(max, UNBOUNDED);
        let high = mark(high, HIGH_BYTES.min(max));
        let low = mark(low, high / 2);
        if low <= high && high <= max {
            Ok(Watermarks { low, high, max })
        } else {
            Err(Errno::INVALID)
        }
    }

    /// The low mark, if it is not what follows from the high one.
    pub fn own_low(&self) -> Option<u64> {
        (self.low != self.high / 2).then_some(self.low)
    }
}

/// How much waits, held against the watermarks. The low one, and whether the high one was reached,
/// are the queue's to keep.
pub struct Pressure {
    waiting: u64,
    high: u64,
    max: u64,
}

impl Pressure {
    /// Nothing waits.
    pub fn new(marks: Watermarks) -> Pressure {
        Pressure { waiting: 0, high: marks.high, max: marks.max }
    }

    /// Bytes that wait.
    #[inline]
    pub fn waiting(&self) -> u64 {
        self.waiting
    }

    /// What low is unless the configuration says otherwise.
    #[inline]
    pub fn usual_low(&self) -> u64 {
        self.high / 2
    }

    /// As much waits as the high watermark, or more.
    #[inline]
    pub fn is_high(&self) -> bool {
        self.waiting >= self.high
    }

    /// `len` more bytes stay within the cap.
    #[inline]
    pub fn admits(&self, len: u64) -> bool {
        // What waits may be above a cap that was lowered.
        len <= self.max.saturating_sub(self.waiting)
    }

    /// `len` bytes are within the cap, whatever waits.
    pub fn admits_in_all(&self, len: u64) -> bool {
        len <= self.max
    }

    /// `len` more bytes stay below the high watermark, and with it below the cap: nothing to tell.
    #[inline]
    pub fn stays_low(&self, len: u64) -> bool {
        // Both are at most i64::MAX: memory, files and caps are. Their sum does not overflow.
        self.waiting + len < self.high
    }

    /// `len` bytes came.
    #[inline]
    pub fn rise(&mut self, len: u64) {
        self.waiting += len;
    }

    /// `len` bytes went.
    #[inline]
    pub fn fall(&mut self, len: u64) {
        self.waiting -= len;
    }

    /// Other watermarks from now on; what waits stays, also above the new cap.
    pub fn set_watermarks(&mut self, marks: Watermarks) {
        (self.high, self.max) = (marks.high, marks.max);
    }
}
