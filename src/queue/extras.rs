//! What few queues have, so that the others need not have room for it.

use crate::errno::{Errno, Result};
use crate::pressure::floor::Floor;
use crate::pressure::rate::Rate;
use crate::tally::Carried;

/// Made when the first of it is asked for; it stays.
#[derive(Default)]
pub struct Extras {
    /// A low watermark that is not the half of the high one.
    pub low: Option<u64>,
    /// No faster than.
    pub rate: Option<Rate>,
    /// No slower than.
    pub floor: Option<Floor>,
    /// When what still waits is given up.
    pub deadline: Option<u64>,
    /// How many bytes a sink has refused that wants the same again. While the queue is BLOCKED.
    pub refused: usize,
    /// Counts that 32 bits have become too few for.
    pub carried: Carried,
}

/// On the heap: an array, because a slice is what can be allocated without a panic.
pub type Boxed = Box<[Extras; 1]>;

impl Extras {
    /// None of it yet. NO_MEMORY.
    pub fn boxed() -> Result<Boxed> {
        let mut room = Vec::new();
        room.try_reserve_exact(1).map_err(|_| Errno::NO_MEMORY)?;
        room.push(Extras::default());
        room.into_boxed_slice().try_into().map_err(|_| Errno::NO_MEMORY)
    }

    /// The time matters to what may be appended or flushed.
    pub fn is_paced(&self) -> bool {
        self.rate.is_some() || self.floor.is_some() || self.deadline.is_some()
    }
}
