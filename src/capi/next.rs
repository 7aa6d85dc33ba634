//! Which queue of a pool is ready next, and when.

use super::handle::{sendq_pool_t, sendq_t};
use super::registry::Next;
use std::ptr::null;

impl sendq_pool_t {
    /// The next queue that is ready; NULL: the turn is over.
    pub(super) fn next_ready(&self) -> *const sendq_t {
        let queues = self.queues();
        if !queues.is_tracking() {
            queues.start_tracking();
        }
        let held_ns = self.held_ns();
        if queues.with_turn(|turn, _| turn.is_over() && turn.has_paced()) {
            self.ask_paced();
        }
        match queues.with_turn(|turn, table| turn.next(table, held_ns > 0)) {
            Next::Queue(next) => {
                if !self.pool().is_shared() {
                    // So that the next append does not go unnoticed. Thread-safe queues have no room.
                    // SAFETY: it was listed, and so is alive: this thread alone uses a confined pool.
                    unsafe { (*next).inspect(|queue, _| queue.clear_room()) };
                }
                next
            }
            Next::Over(wakes) => {
                if wakes {
                    self.wake();
                }
                null()
            }
        }
    }

    /// Nanoseconds until a queue is ready; None: only an append or a sink can make one ready.
    pub(super) fn next_ready_after_ns(&self) -> Option<u64> {
        let queues = self.queues();
        if !queues.is_tracking() {
            queues.start_tracking();
        }
        self.update_time();
        let held_ns = self.held_ns();
        self.ask_paced();
        let now = self.pool().now();
        let at = queues.with_turn(|turn, _| turn.retry_at(now, held_ns))?;
        Some(at.saturating_sub(now))
    }

    /// Limits the rate of all queues together; 0: no limit.
    pub(super) fn set_rate(&self, per_second: u64, burst: u64) {
        self.update_time();
        self.pool().set_rate(per_second, burst);
        // The old rate may have held them back.
        if self.queues().with_turn(|turn, _| turn.has_ready()) {
            self.wake();
        }
    }

    /// For how long the pool's rate holds all queues back.
    fn held_ns(&self) -> u64 {
        if !self.pool().has_rate() {
            return 0;
        }
        self.update_time();
        self.pool().rate_wait_ns(u64::MAX)
    }

    /// Makes the paced queues ready whose rates let go.
    fn ask_paced(&self) {
        self.update_time();
        let (queues, now) = (self.queues(), self.pool().now());
        if !queues.with_turn(|turn, _| turn.has_to_ask(now)) {
            return;
        }
        queues.ask_paced(|handle| {
            handle.inspect(|queue, pool| {
                let wait = queue.paced_ns(pool);
                let due = (wait > 0).then(|| pool.now().saturating_add(wait));
                queues.with_turn(|turn, table| turn.answer(table, handle, due));
            });
        });
    }
}
