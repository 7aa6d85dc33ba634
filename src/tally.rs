//! What a queue counts: 64 bit numbers that take 32 bits as long as they are small, because most
//! connections are idle and each counter is theirs.

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Bytes appended as borrowed memory.
    Borrowed,
    /// Bytes appended as parts of shared payloads.
    Shared,
    /// Bytes appended as parts of files.
    File,
    /// Bytes dropped.
    Discarded,
    /// Flushes that had something to send.
    Flushes,
    /// Calls of the sink.
    Calls,
    /// Calls that took less than they were offered.
    Shorts,
    /// Times that the sink was full.
    Blocked,
    /// The most bytes that ever waited.
    Peak,
}

const COUNTS: usize = Count::Peak as usize + 1;

/// The lower halves.
#[derive(Default)]
pub struct Tally([u32; COUNTS]);

/// The upper halves, which only a queue has that needs them.
#[derive(Default)]
pub struct Carried([u32; COUNTS]);

impl Tally {
    /// Adds `n`. What it returns, if not 0, is to be added to the upper half.
    #[inline(always)]
    #[must_use]
    pub fn add(&mut self, count: Count, n: u64) -> u32 {
        let low = &mut self.0[count as usize];
        let sum = u64::from(*low) + n;
        *low = sum as u32;
        (sum >> 32) as u32
    }

    /// Adds `n`, if the upper half does not change by it.
    #[inline(always)]
    #[must_use]
    pub fn add_low(&mut self, count: Count, n: u64) -> bool {
        let low = &mut self.0[count as usize];
        let sum = u64::from(*low) + n;
        if sum >> 32 != 0 {
            return false;
        }
        *low = sum as u32;
        true
    }

    /// The upper half has no memory: the count stays where it can go no further.
    pub fn saturate(&mut self, count: Count) {
        self.0[count as usize] = u32::MAX;
    }

    /// The count, with its upper half.
    pub fn get(&self, count: Count, carried: Option<&Carried>) -> u64 {
        let high = carried.map_or(0, |carried| carried.0[count as usize]);
        u64::from(high) << 32 | u64::from(self.0[count as usize])
    }

    /// At most as much as the lower half of the count says, whatever the upper is.
    #[inline(always)]
    pub fn reaches(&self, count: Count, value: u64) -> bool {
        value <= u64::from(self.0[count as usize])
    }
}

impl Carried {
    /// Adds what [`Tally::add`] carried.
    pub fn add(&mut self, count: Count, carry: u32) {
        let high = &mut self.0[count as usize];
        *high = high.saturating_add(carry);
    }
}
