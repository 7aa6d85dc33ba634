//! Fields that few queues need, allocated on first use.

use super::min_rate::MinRate;
use super::token_bucket::TokenBucket;
use crate::block::Block;
use crate::errno::{Errno, Result};

/// Allocated when the first of its fields is set. It stays until the queue is freed.
#[derive(Default)]
pub struct Cold {
    /// A low watermark other than half of the high one.
    pub low: Option<u64>,
    /// Bytes queued in files.
    pub file_bytes: u64,
    /// The rate limit.
    pub bucket: Option<TokenBucket>,
    /// The minimum rate.
    pub min_rate: Option<MinRate>,
    /// When what is still queued is discarded.
    pub deadline: Option<u64>,
    /// What a sink was offered last and has refused, if it needs the same bytes at the same address again.
    pub offered: Option<Offered>,
}

/// The first queued bytes, as they were offered to a sink.
pub struct Offered {
    /// How many bytes.
    pub len: usize,
    /// A copy of them, and the offset of the first in it. None: they were offered from where they are.
    pub copy: Option<(Block, usize)>,
}

/// A [`Cold`], if it is allocated. It is a boxed array, because a slice is what can be allocated without a
/// panic when memory is short.
#[derive(Default)]
pub struct ColdBox(Option<Box<[Cold; 1]>>);

impl ColdBox {
    /// Not allocated.
    pub const NONE: ColdBox = ColdBox(None);

    /// The fields, if they are allocated.
    pub fn get(&self) -> Option<&Cold> {
        self.0.as_ref().map(|cold| &cold[0])
    }

    /// The fields, if they are allocated.
    pub fn get_mut(&mut self) -> Option<&mut Cold> {
        self.0.as_mut().map(|cold| &mut cold[0])
    }

    /// The fields, allocated now if they were not. NO_MEMORY.
    pub fn make(&mut self) -> Result<&mut Cold> {
        if self.0.is_none() {
            let mut room = Vec::new();
            room.try_reserve_exact(1).map_err(|_| Errno::NO_MEMORY)?;
            room.push(Cold::default());
            let boxed = room.into_boxed_slice().try_into();
            self.0 = Some(boxed.map_err(|_| Errno::NO_MEMORY)?);
        }
        self.get_mut().ok_or(Errno::NO_MEMORY)
    }
}
