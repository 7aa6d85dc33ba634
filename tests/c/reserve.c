/* A pool's budget starves nobody: what a queue has reserved is admitted whatever others hold, and
 * no more than that. sendq_room says what will be admitted. */
#include "simulated.h"

enum { BUDGET = 64 << 10, SMALL_BLOCK = 256 };

static unsigned char bytes[1 << 20];

static sendq_t* reserving(sendq_pool_t* pool, uint64_t reserve) {
    sendq_config_t config = {.size = sizeof config, .copy_below = 1, .reserve = reserve};
    return new_queue(pool, &config);
}

static uint64_t in_use(const sendq_pool_t* pool) {
    sendq_pool_stats_t s;
    CHECK_IS(sendq_pool_stats(pool, &s, sizeof s), 0);
    CHECK_IS(s.max, BUDGET);
    return s.used + s.pinned + s.shared;
}

/* A client that does not read, and has spent the budget to the last byte. */
static sendq_t* stuck(sendq_pool_t* pool) {
    sendq_t* q = reserving(pool, 1);
    while (sendq_append(q, bytes, 100) >= 0) {
    }
    CHECK(sendq_append_ref(q, bytes, BUDGET - in_use(pool), NULL, NULL) >= 0);
    CHECK_IS(in_use(pool), BUDGET);
    CHECK_IS(sendq_append_ref(q, bytes, 1, NULL, NULL), -ENOBUFS);
    return q;
}

/* A healthy client is not refused four bytes, time and again. */
static void nobody_starves(uint32_t flags) {
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){.max_bytes = BUDGET, .flags = flags});
    sendq_t* healthy = new_borrower(pool, 1);
    sendq_t* none = reserving(pool, 1);
    stream_fill(bytes, 0, 1000);
    CHECK_IS(sendq_append(healthy, bytes, 1000), SENDQ_WAKE); /* its blocks have grown */
    check_delivers(healthy, 0);
    sendq_t* hog = stuck(pool);
    for (int i = 0; i < 100; i++) {
        stream_fill(bytes, 0, 1000);
        CHECK_IS(sendq_append(none, bytes, 4), -ENOBUFS);
        CHECK_IS(sendq_append(healthy, bytes, 4), SENDQ_WAKE);
        CHECK_IS(sendq_memory(healthy), SMALL_BLOCK);
        CHECK_IS(in_use(pool), BUDGET + SMALL_BLOCK);
        CHECK_IS(sendq_append(healthy, bytes + 4, 100), 0);
        CHECK_IS(sendq_append(healthy, bytes, 1000), -ENOBUFS);
        CHECK_IS(sendq_append_ref(healthy, bytes, 1, NULL, NULL), -ENOBUFS);
        CHECK_IS(sendq_queued_bytes(healthy), 104);
        check_delivers(healthy, 0);
        /* What was beyond the budget is not kept. */
        sendq_pool_stats_t s;
        CHECK_IS(sendq_pool_stats(pool, &s, sizeof s), 0);
        CHECK_IS(s.used + s.free + s.pinned + s.shared, BUDGET);
        CHECK_IS(s.peak, BUDGET + SMALL_BLOCK);
    }
    sendq_free(hog);
    CHECK_IS(in_use(pool), 0);
    /* And then blocks are cached again. */
    CHECK(sendq_append(healthy, bytes, 4) >= 0);
    CHECK(sendq_consume(healthy, 4) >= 0);
    CHECK(sendq_append(healthy, bytes, 4) >= 0);
    CHECK(sendq_consume(healthy, 4) >= 0);
    sendq_pool_stats_t s;
    CHECK_IS(sendq_pool_stats(pool, &s, sizeof s), 0);
    CHECK(s.free > 0);
    sendq_free(healthy);
    sendq_free(none);
    sendq_pool_free(pool);
}

/* As much as sendq_room says is taken, and not a byte more without a hint or a refusal. */
static void room(uint64_t reserve, uint64_t high, size_t others) {
    sendq_config_t config = {.size = sizeof config, .high = high, .reserve = reserve};
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){.max_bytes = BUDGET});
    sendq_t* q = new_queue(pool, &config);
    sendq_t* other = new_borrower(pool, 1);
    uint64_t rnd = 7 + others;
    void* memory;
    CHECK(others == 0 || sendq_append_ref(other, bytes, others, NULL, NULL) >= 0);
    for (int i = 0; i < 3000; i++) {
        uint64_t left = sendq_room(q);
        CHECK(left <= BUDGET);
        CHECK(left <= (high > 0 ? high : 1 << 20) - sendq_queued_bytes(q));
        int paused = sendq_state(q) & SENDQ_HIGH;
        CHECK(!paused || left == 0);
        if (left == 0 || random_next(&rnd) % 3 == 0) {
            size_t waiting = sendq_queued_bytes(q);
            int one = paused ? 0 : sendq_append(q, bytes, left + 1);
            CHECK(paused || one == -ENOBUFS || one & SENDQ_HIGH);
            CHECK(sendq_consume(q, one >= 0 ? waiting / 2 : waiting) >= 0);
        } else {
            size_t len = random_next(&rnd) % 2 ? left : random_up_to(&rnd, left);
            int result = sendq_append(q, bytes, len);
            CHECK(result >= 0);
            CHECK(!(result & SENDQ_HIGH) || len == left);
        }
    }
    CHECK(sendq_discard(q) >= 0);
    CHECK_IS(sendq_room(q) == 0, reserve == 1 && others == BUDGET - SMALL_BLOCK);
    CHECK(sendq_discard(other) >= 0);
    CHECK_IS(sendq_reserve(q, 10, &memory), 0);
    CHECK_IS(sendq_room(q), 0);
    CHECK_IS(sendq_commit(q, 0), 0);
    CHECK_IS(sendq_close(q), 0);
    CHECK_IS(sendq_room(q), 0);
    CHECK_IS(sendq_room(NULL), 0);
    sendq_free(q);
    sendq_free(other);
    sendq_pool_free(pool);
}

int main(void) {
    nobody_starves(0);
    nobody_starves(SENDQ_THREADSAFE);
    static const uint64_t reserves[] = {0, 1, 5000};
    static const uint64_t marks[] = {0, 1000, 50000};
    static const size_t taken[] = {0, 30000, BUDGET - 1024, BUDGET - 256};
    for (size_t i = 0; i < 3; i++) {
        for (size_t j = 0; j < 3; j++) {
            for (size_t k = 0; k < 4; k++) {
                room(reserves[i], marks[j], taken[k]);
            }
        }
    }
    return 0;
}
