//! Many queues: which of them are ready, which are stuck, which hold the most, and what limits all of them
//! together.

use super::boundary::guard;
use super::handle::{during_pool, enter_unlocked, sendq_pool_t, sendq_t};
use super::ready;
use super::state::SENDQ_NEVER;
use crate::errno::{Errno, Result};
use crate::policy::Hints;
use crate::queue::Deferred;
use libc::c_int;
use std::ptr::null_mut;

/// Returns the next queue of the pool that is ready, for the end of a turn of the host's loop:
///
///     sendq_t *q;
///     while ((q = sendq_pool_next(pool)))
///         on_flushed(q, sendq_flush(q, fd_of(sendq_user(q)), 1 << 20));
///
/// So the host keeps no list of what to flush. Queues come in the order in which they became ready, each once
/// a turn. NULL ends the turn; what becomes ready during a turn comes in the next one.
///
/// A queue becomes ready when bytes become available (an append, sendq_uncork, sendq_splice), unless it is
/// BLOCKED; when a flush returns SENDQ_MORE; when its rate lets go again, never before; and by
/// sendq_schedule. It is ready no longer when it was returned; when nothing is available any more, because it
/// was flushed, consumed, discarded or spliced, or has failed; when a flush returns SENDQ_BLOCKED, after
/// which the host flushes it once the socket is writable; and when it is freed. So a queue that the host
/// ignores comes again only after such an event, and never twice in a turn.
///
/// Sleep when this has returned NULL, until an event of a socket, until sendq_pool_retry_after_ns, or until wake
/// (see sendq_pool_config_t) is called. While the rate of sendq_pool_set_rate holds all queues back, this
/// returns NULL.
///
/// One thread at a time calls this. In a thread-safe pool, other threads may append meanwhile. Queues that are
/// not thread-safe in a pool that is are never returned. The host has to make sure that no other thread frees
/// a queue that this has returned. The first call in a pool without wake looks at all queues; until then,
/// appends and flushes do not keep track of what is ready. O(1) after that, and at the beginning of a turn one
/// step for each queue that its rate holds back, if one of them may be ready.
///
/// NULL also if pool is NULL: this needs a pool of your own, not the default pool. A host that consumes bytes itself
/// (sendq_consume) calls sendq_schedule when it wants a queue again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_pool_next(pool: *mut sendq_pool_t) -> *mut sendq_t {
    let mut next = null_mut();
    let find = || {
        // SAFETY: NULL or alive.
        if let Some(pool) = unsafe { pool.as_ref() } {
            next = pool.next_ready().cast_mut();
        }
        Ok(Hints::NONE)
    };
    // SAFETY: NULL or alive.
    unsafe { during_pool(pool, || guard(find, || ())) };
    next
}

/// Makes the queue ready, for the next turn of sendq_pool_next: for a host that did not flush it after
/// sendq_pool_next has returned it, or that learns that a BLOCKED one is writable. If nothing is available,
/// nothing changes. If its rate holds the queue back, it is ready when the rate lets go. If sendq_pool_next was
/// never called, nothing changes: its first call returns the queue.
///
/// -EINVAL: q is NULL, or q is not thread-safe and its pool is, as the default pool is.
/// Another -errno: the connection has failed with it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_schedule(q: *mut sendq_t) -> c_int {
    // SAFETY: NULL or the caller's live queue.
    unsafe {
        enter_unlocked(q, true, |call| {
            let handle = call.handle();
            if !handle.is_visible() {
                return Err(Errno::INVALID);
            }
            handle.update_time();
            let wakes = handle.inspect(|queue, pool| match queue.failure() {
                Some(errno) => Err(errno),
                None => Ok(queue.is_tracked()
                    && ready::schedule(handle.pool().queues(), handle, queue, pool)),
            })?;
            if wakes {
                call.defer(Deferred::WAKE);
            }
            Ok(Hints::NONE)
        })
    }
}

/// Returns in how many nanoseconds a queue of the pool is ready, for the timer of the loop that calls
/// sendq_pool_next. 0: a queue is ready now. SENDQ_NEVER: none is, and none is held back by a rate, or pool is
/// NULL. Any other value is the time until a rate, of a queue or of the pool, lets go. The deadlines of
/// sendq_close_within are not among them, unless a rate holds the queue back. The time is measured by the
/// pool's clock, which may be a step behind the clock of the timer. Reads the clock. O(1), or one step for each
/// queue that its rate holds back, if some have left since.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_pool_retry_after_ns(pool: *const sendq_pool_t) -> u64 {
    let mut wait = SENDQ_NEVER;
    let ask = || {
        // SAFETY: NULL or alive.
        if let Some(pool) = unsafe { pool.as_ref() } {
            wait = pool.next_ready_after_ns().unwrap_or(SENDQ_NEVER);
        }
        Ok(Hints::NONE)
    };
    // SAFETY: NULL or alive.
    unsafe { during_pool(pool, || guard(ask, || ())) };
    wait
}

/// Limits the rate of all queues of the pool together to bytes_per_second; 0: no limit. burst, and what
/// counts, are as for sendq_set_rate. A queue with a rate of its own is limited by both. A flush that this rate
/// holds back returns SENDQ_MORE. sendq_retry_after_ns and sendq_state of each queue take it into account. Flushes
/// of several threads at the same moment may each use what the rate allows then.
///
/// -EINVAL: pool is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_pool_set_rate(
    pool: *mut sendq_pool_t,
    bytes_per_second: u64,
    burst: u64,
) -> c_int {
    let set = || {
        // SAFETY: NULL or alive.
        let pool = unsafe { pool.as_ref() }.ok_or(Errno::INVALID)?;
        pool.set_rate(bytes_per_second, burst);
        Ok(Hints::NONE)
    };
    // SAFETY: NULL or alive.
    unsafe { during_pool(pool, || guard(set, || ())) }
}

/// Returns how many bytes the pool holds now, all of which count against its budget: blocks, including those
/// that are cached; borrowed memory, until its owner is released; and shared buffers. These are used, free,
/// pinned and shared of sendq_pool_stats_t together. 0 if pool is NULL. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_pool_bytes(pool: *const sendq_pool_t) -> u64 {
    // SAFETY: NULL or alive.
    unsafe { during_pool(pool, || pool.as_ref().map_or(0, |pool| pool.pool().usage().sum())) }
}

/// Finds the queues that hold most memory, by sendq_memory: blocks of the pool, borrowed memory, and shared
/// buffers, of which each queue counts the whole length of its parts. Fills out with at most n queues, the
/// heaviest first, and returns how many. Queues that hold nothing are left out. A host that is over its budget
/// can thus drop the few queues that cause it. Costs one short step for each queue of the pool, whatever it
/// holds.
///
/// In a thread-safe pool, queues that are not thread-safe are left out, because only their own threads may
/// look at them. The host has to make sure that no other thread frees a queue that this has returned.
/// -EINVAL: pool is NULL, or out is NULL and n is not 0. -ENOMEM: out of memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_pool_heaviest(
    pool: *const sendq_pool_t,
    out: *mut *mut sendq_t,
    n: usize,
) -> c_int {
    let find = |pool: &sendq_pool_t, found: &mut Found| {
        let held = |queue: &sendq_t| queue.inspect(|queue, _| queue.held());
        let heaviest = pool.queues().heaviest(found.most(), held).ok_or(Errno::NO_MEMORY)?;
        heaviest.into_iter().for_each(|queue| found.push(queue.0.1));
        Ok(Hints::NONE)
    };
    // SAFETY: NULL or alive; the caller's array.
    unsafe { find_queues(pool, out, n, find) }
}

/// Finds the queues that have stalled for more than older_than_ns nanoseconds, by sendq_stalled_ns: from a timer
/// of the host, because a connection that is stuck causes no events. Fills out with at most n queues, in no
/// particular order, and returns how many. The time of a queue that was empty counts from the first flush after
/// the append, or the first look at it, such as this one. Reads the clock once. Costs one short step for each
/// queue of the pool until n are found.
///
/// In a thread-safe pool, queues that are not thread-safe are left out, as by sendq_pool_heaviest. The host has
/// to make sure that no other thread frees a queue that this has returned.
/// -EINVAL: pool is NULL, or out is NULL and n is not 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendq_pool_stalled(
    pool: *const sendq_pool_t,
    older_than_ns: u64,
    out: *mut *mut sendq_t,
    n: usize,
) -> c_int {
    let find = |pool: &sendq_pool_t, found: &mut Found| {
        pool.update_time();
        let now = pool.pool().now();
        pool.queues().each(|queue| {
            if queue.inspect(|queue, _| queue.stalled_ns(now)) > older_than_ns {
                found.push(queue);
            }
            found.has_room()
        });
        Ok(Hints::NONE)
    };
    // SAFETY: NULL or alive; the caller's array.
    unsafe { find_queues(pool, out, n, find) }
}

/// The caller's array of queues.
struct Found {
    out: *mut *mut sendq_t,
    most: usize,
    count: usize,
}

impl Found {
    fn most(&self) -> usize {
        self.most
    }

    fn has_room(&self) -> bool {
        self.count < self.most
    }

    /// Adds a queue, if there is room.
    fn push(&mut self, queue: *const sendq_t) {
        if self.has_room() {
            // SAFETY: the caller's array has room for `most`.
            unsafe { self.out.add(self.count).write(queue.cast_mut()) };
            self.count += 1;
        }
    }
}

/// Runs `find` for `pool`, and returns how many queues it has found. INVALID: NULL.
///
/// # Safety
/// `pool` is NULL or alive; `out` is NULL or the caller's array of `n`.
unsafe fn find_queues(
    pool: *const sendq_pool_t,
    out: *mut *mut sendq_t,
    n: usize,
    find: impl FnOnce(&sendq_pool_t, &mut Found) -> Result<Hints>,
) -> c_int {
    let mut found = Found { out, most: n.min(c_int::MAX as usize), count: 0 };
    let look = || {
        // SAFETY: NULL or alive, as the caller says.
        let pool = unsafe { pool.as_ref() }.ok_or(Errno::INVALID)?;
        if out.is_null() && n > 0 {
            return Err(Errno::INVALID);
        }
        if n == 0 { Ok(Hints::NONE) } else { find(pool, &mut found) }
    };
    // SAFETY: NULL or alive, as the caller says.
    match unsafe { during_pool(pool, || guard(look, || ())) } {
        0 => found.count as c_int,
        error => error,
    }
}
