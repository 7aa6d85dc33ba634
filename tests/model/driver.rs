//! How a run reaches the queues: through the C ABI or through the core alone. The sequences are the same.
//! Results are as the C ABI returns them.

use super::ops::Setting;
use super::script::Script;
use libc::{c_int, c_void};
use sendq::capi::sendq_part_t;
use sendq::iovec::IoVec;
use sendq::sink::writer::Write;
use sendq::slot::Owner;
use sendq::stats::{PoolStats, Stats};
use std::cell::Cell;

/// The host's clock, and how often it was asked.
#[derive(Default)]
pub struct HostClock {
    pub now: Cell<u64>,
    pub asked: Cell<u64>,
}

/// One queue. After `free` nothing is called any more.
pub trait Driver {
    /// What it is known by in the pool, and to splice.
    fn address(&self) -> *const c_void;
    fn append(&self, bytes: &[u8]) -> c_int;
    fn appendv(&self, iovecs: &[IoVec]) -> c_int;
    fn append_ref(&self, data: *const u8, len: usize, owner: Owner) -> c_int;
    /// Of the run's one shared payload.
    fn append_buf(&self, offset: usize, len: usize) -> c_int;
    fn append_file(&self, fd: c_int, offset: u64, len: u64, owner: Owner) -> c_int;
    fn notify(&self, owner: Owner) -> c_int;
    fn reserve(&self, len: usize) -> Result<*mut u8, c_int>;
    fn commit(&self, used: usize) -> c_int;
    fn cork(&self) -> c_int;
    fn uncork(&self) -> c_int;
    fn rollback(&self) -> c_int;
    /// At most so many bytes of `from`, which is another one's address.
    fn splice(&self, from: *const c_void, most: u64) -> c_int;
    /// Parts of the run's one shared payload have no address.
    fn append_message(&self, parts: &[sendq_part_t], owner: Owner) -> c_int;
    fn send_message(
        &self,
        sink: &mut Script,
        parts: &[sendq_part_t],
        owner: Owner,
        max_bytes: usize,
    ) -> c_int;
    fn end_message(&self) -> c_int;
    fn discard_unstarted(&self) -> c_int;
    /// The id of the hole.
    fn hole(&self, len: usize) -> Result<u64, c_int>;
    fn fill(&self, id: u64, bytes: &[u8]) -> c_int;
    fn reset(&self) -> c_int;
    fn fail(&self, errno: c_int) -> c_int;
    fn flush(&self, sink: &mut Script, max_bytes: usize) -> c_int;
    fn flush_with(&self, write: Write, arg: *mut c_void, max_bytes: usize) -> c_int;
    /// A negative errno where sendmsg(2) gives -1.
    fn sendmsg(&self, sink: &mut Script, iovecs: &[IoVec]) -> isize;
    /// The result, and where the first byte differs, if one does.
    fn verify(&self, iovecs: &[IoVec], bytes: usize) -> (c_int, Option<u64>);
    fn consume(&self, len: usize) -> c_int;
    fn discard(&self) -> c_int;
    fn close(&self) -> c_int;
    fn close_within(&self, timeout: u64) -> c_int;
    fn set_watermarks(&self, low: u64, high: u64, max: u64) -> c_int;
    fn set_rate(&self, rate: u64, burst: u64) -> c_int;
    fn set_min_rate(&self, rate: u64, window: u64) -> c_int;
    /// None: it cannot.
    fn schedule(&self) -> Option<c_int>;
    fn free(&self);

    fn peek(&self, room: &mut [IoVec]) -> usize;
    /// As peek, with parts of files, if it can.
    fn peek_parts(&self) -> Option<Vec<sendq_part_t>>;
    fn queued_messages(&self) -> u64;
    fn sent_messages(&self) -> u64;
    fn queued_bytes(&self) -> u64;
    fn queued_memory(&self) -> u64;
    fn memory(&self) -> u64;
    fn room(&self) -> u64;
    fn sent_bytes(&self) -> u64;
    fn error(&self) -> c_int;
    fn state(&self) -> c_int;
    fn stalled_ns(&self) -> u64;
    fn retry_after_ns(&self) -> u64;
    fn stats(&self) -> Stats;
}

/// One pool.
pub trait PoolDriver {
    fn stats(&self) -> PoolStats;
    /// The addresses of the heaviest queues, if it can tell.
    fn heaviest(&self) -> Option<Vec<*const c_void>>;
    /// The address of the next queue that is ready, if there is one, and if it can tell.
    fn next(&self) -> Option<Option<*const c_void>>;
}

/// What a run is made of: two pools, and a queue of each, or two of the first. The shared payload is charged to
/// the first pool.
pub struct World {
    pub pools: [Box<dyn PoolDriver>; 2],
    pub queues: [Box<dyn Driver>; 2],
}

pub fn world(setting: &Setting, clock: &HostClock, shared: &[u8]) -> World {
    #[cfg(unix)]
    if !setting.core {
        return super::c_abi::world(setting, clock, shared);
    }
    super::core::world(setting, clock, shared)
}
