/* The rate of a pool: all its queues together are no faster, none of them is left out, and each of
 * them can tell. */
#include "simulated.h"

enum { QUEUES = 4, RATE = 100000, BURST = 1000, STEP = 500 };

static unsigned char bytes[1 << 16];

static void drain(ends e) {
    while (ends_read(e, bytes, sizeof bytes) > 0) {
    }
}

/* A host that obeys sendq_pool_retry_after_ns: the sum keeps to the rate, and the shares are fair.
 */
static void together(uint32_t flags) {
    sendq_pool_t* pool = new_simulated((sendq_pool_config_t){.flags = flags});
    sendq_config_t config = {.size = sizeof config, .flags = flags};
    sendq_t* q[QUEUES];
    ends e[QUEUES];
    for (int i = 0; i < QUEUES; i++) {
        q[i] = new_queue(pool, &config);
        e[i] = ends_unix();
        CHECK(sendq_append(q[i], bytes, sizeof bytes) >= 0);
    }
    CHECK_IS(sendq_pool_set_rate(pool, RATE, BURST), 0);
    uint64_t start = now_ns;
    for (int turn = 0; turn < 200; turn++) {
        sendq_t* next;
        while ((next = sendq_pool_next(pool)) != NULL) {
            int i = 0;
            while (q[i] != next) {
                i++;
            }
            CHECK_IS(sendq_flush(next, e[i].queue, STEP), SENDQ_MORE);
            drain(e[i]);
        }
        uint64_t sent = 0;
        for (int i = 0; i < QUEUES; i++) {
            sent += sendq_sent_bytes(q[i]);
            CHECK(!(sendq_state(q[i]) & SENDQ_MORE));
            CHECK(sendq_retry_after_ns(q[i]) > 0);
        }
        CHECK(sent <= BURST + (now_ns - start) * RATE / SECOND);
        uint64_t wait = sendq_pool_retry_after_ns(pool);
        CHECK(wait > 0 && wait <= SECOND / 100);
        now_ns += wait;
        CHECK_IS(sendq_pool_retry_after_ns(pool), 0);
    }
    uint64_t least = UINT64_MAX;
    uint64_t most = 0;
    for (int i = 0; i < QUEUES; i++) {
        uint64_t sent = sendq_sent_bytes(q[i]);
        least = sent < least ? sent : least;
        most = sent > most ? sent : most;
    }
    CHECK(least > 0 && most <= 2 * least);
    CHECK_IS(sendq_pool_set_rate(pool, 0, 0), 0);
    for (int i = 0; i < QUEUES; i++) {
        CHECK_IS(sendq_retry_after_ns(q[i]), 0);
        CHECK_IS(sendq_discard(q[i]), 0);
        sendq_free(q[i]);
        ends_close(e[i]);
    }
    sendq_pool_free(pool);
}

/* Neither a direct write nor another queue's rate gets past it. */
static void nothing_passes(uint32_t flags) {
    sendq_pool_t* pool = new_simulated((sendq_pool_config_t){.flags = flags});
    sendq_config_t config = {.size = sizeof config, .flags = flags};
    sendq_t* q = new_queue(pool, &config);
    sendq_t* slow = new_queue(pool, &config);
    ends e = ends_unix();
    CHECK_IS(sendq_pool_set_rate(pool, RATE, BURST), 0);
    struct iovec iov = {bytes, 4 * BURST};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    CHECK_IS(sendq_sendmsg(q, e.queue, &msg, 0), 4 * BURST);
    CHECK_IS(sendq_sent_bytes(q), BURST);
    CHECK_IS(sendq_flush(q, e.queue, 0), SENDQ_MORE);
    CHECK_IS(sendq_sent_bytes(q), BURST);
    CHECK(!(sendq_state(q) & SENDQ_MORE));
    now_ns += SECOND;
    CHECK(sendq_state(q) & SENDQ_MORE);
    CHECK_IS(sendq_set_rate(slow, 10, 10), 0);
    CHECK(sendq_append(slow, bytes, 100) >= 0);
    CHECK_IS(sendq_flush(slow, e.queue, 0), SENDQ_MORE);
    CHECK_IS(sendq_sent_bytes(slow), 10);
    CHECK_IS(sendq_flush(q, e.queue, 0), SENDQ_MORE);
    CHECK_IS(sendq_sent_bytes(q), 2 * BURST - 10); /* of both together */
    now_ns += SECOND;
    CHECK_IS(sendq_consume(q, BURST), 0); /* counts, and is not held back */
    CHECK_IS(sendq_flush(q, e.queue, 0), SENDQ_MORE);
    CHECK_IS(sendq_sent_bytes(q), 3 * BURST - 10);
    CHECK(sendq_retry_after_ns(slow) > 0); /* held back by the pool alone */
    sendq_free(q);
    sendq_free(slow);
    ends_close(e);
    sendq_pool_free(pool);
}

/* The rate outlives the host's handle of the pool. */
static void freed(void) {
    sendq_pool_t* pool = new_simulated((sendq_pool_config_t){0});
    sendq_t* q = new_queue(pool, NULL);
    ends e = ends_unix();
    CHECK_IS(sendq_pool_set_rate(pool, RATE, 1), 0);
    sendq_pool_free(pool);
    CHECK(sendq_append(q, bytes, 10) >= 0);
    CHECK_IS(sendq_flush(q, e.queue, 0), SENDQ_MORE);
    CHECK_IS(sendq_sent_bytes(q), 1);
    CHECK_IS(sendq_retry_after_ns(q), SECOND / RATE);
    sendq_free(q);
    ends_close(e);
}

int main(void) {
    together(0);
    together(SENDQ_THREADSAFE);
    nothing_passes(0);
    nothing_passes(SENDQ_THREADSAFE);
    freed();
    return 0;
}
