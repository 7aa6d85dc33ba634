//! Fields that few queues need, allocated on first use.

use super::Watermarks;
use super::min_rate::MinRate;
use crate::block::Block;
use crate::token_bucket::TokenBucket;
use crate::zerocopy::Zerocopy;

/// Allocated when the first of its fields is set. It stays until the queue is freed.
#[derive(Default)]
pub struct Cold {
    /// A low watermark other than half of the high one.
    pub low: Option<u64>,
    /// The watermarks of the configuration, if others have replaced them.
    pub configured: Option<Watermarks>,
    /// Bytes queued in files.
    pub file_bytes: u64,
    /// Bytes of files appended in total.
    pub appended_file: u64,
    /// The rate limit.
    pub bucket: Option<TokenBucket>,
    /// The minimum rate.
    pub min_rate: Option<MinRate>,
    /// When what is still queued is discarded.
    pub deadline: Option<u64>,
    /// Parts of shared payloads shorter than this are copied. None: the default.
    pub share_below: Option<u64>,
    /// Bytes that the pool's budget does not refuse. None: the default.
    pub reserve: Option<u64>,
    /// What is sent without a copy. None: nothing may be.
    pub zerocopy: Option<Box<Zerocopy>>,
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
