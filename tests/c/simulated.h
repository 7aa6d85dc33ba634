/* A clock that stands where the test puts it, and the figures of queues and pools. */
#ifndef SENDQ_TESTS_SIMULATED_H
#define SENDQ_TESTS_SIMULATED_H

#include "pieces.h"

enum { MILLISECOND = 1000000, SECOND = 1000000000 };

static uint64_t now_ns; /* what the clock shows */

static inline uint64_t simulated_now(void* arg) {
    return *(uint64_t*)arg;
}

/* A pool with that clock. */
static inline sendq_pool_t* new_simulated(sendq_pool_config_t config) {
    config.now = simulated_now;
    config.now_arg = &now_ns;
    return new_pool(config);
}

/* A borrower of everything in a pool of its own with that clock. */
static inline sendq_t* new_simulated_queue(void) {
    sendq_pool_t* pool = new_simulated((sendq_pool_config_t){0});
    sendq_t* q = new_borrower(pool, 1);
    sendq_pool_free(pool);
    return q;
}

/* Appends these bytes and flushes, again and again, to a connection that nobody reads, until the
 * socket takes no more. */
static inline void fill_up(sendq_t* q, ends e, const void* data, size_t len) {
    int hints = 0;
    for (int i = 0; !(hints & SENDQ_BLOCKED) && i < 10000; i++) {
        CHECK(sendq_append_ref(q, data, len, NULL, NULL) >= 0);
        hints = sendq_flush(q, e.queue, 0);
        CHECK(hints >= 0);
    }
    CHECK(hints & SENDQ_BLOCKED);
}

/* Of a queue that other threads may be using. */
static inline sendq_stats_t figures_any_time(const sendq_t* q) {
    sendq_stats_t stats;
    memset(&stats, 0xEE, sizeof stats);
    CHECK_IS(sendq_stats(q, &stats, sizeof stats), 0);
    CHECK_IS(stats.copied + stats.borrowed + stats.shared + stats.file,
             stats.sent + stats.discarded + stats.waiting);
    CHECK(stats.peak_waiting >= stats.waiting);
    return stats;
}

static inline sendq_stats_t figures(const sendq_t* q) {
    sendq_stats_t stats = figures_any_time(q);
    CHECK_IS(sendq_memory(q), stats.allocated + stats.pinned);
    return stats;
}

static inline sendq_pool_stats_t pool_figures(const sendq_pool_t* pool) {
    sendq_pool_stats_t stats;
    memset(&stats, 0xEE, sizeof stats);
    CHECK_IS(sendq_pool_stats(pool, &stats, sizeof stats), 0);
    uint64_t held = stats.used + stats.free + stats.pinned + stats.shared;
    CHECK(held <= stats.peak);
    CHECK(stats.max == 0 || stats.peak <= stats.max);
    return stats;
}

#endif
