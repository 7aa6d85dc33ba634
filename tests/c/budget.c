/* A pool's budget to the byte, with shared memory and sums that would wrap around, with releases
 * that append again, and on two threads. */
#include <pthread.h>
#include <stddef.h>

#include "simulated.h"

enum { BUDGET = 256 << 10, CHUNK = 4096 };

static unsigned char bytes[1 << 20];

static sendq_pool_t* budgeted(uint64_t chunk_bytes) {
    return new_simulated((sendq_pool_config_t){.max_bytes = BUDGET, .chunk_bytes = chunk_bytes});
}

/* What is held, without cached blocks. */
static uint64_t in_use(const sendq_pool_t* pool) {
    sendq_pool_stats_t s = pool_figures(pool);
    CHECK_IS(s.max, BUDGET);
    return s.used + s.pinned + s.shared;
}

/* To the byte, whatever else takes a part of it; immortal memory counts like any other. */
static void exact(uint64_t chunk_bytes) {
    for (int shares = 0; shares < 2; shares++) {
        for (size_t copied = 1; copied < 100000; copied *= 7) {
            sendq_pool_t* pool = budgeted(chunk_bytes);
            sendq_t* q = new_unreserved(pool, 1);
            sendq_t* other = new_unreserved(pool, 1);
            sendq_buf_t* buf = NULL;
            sendq_buf_t* none;
            piece p;
            CHECK(sendq_append(q, bytes, copied) >= 0);
            if (shares) {
                CHECK_IS(sendq_buf_wrap(pool, bytes, 12345, NULL, NULL, &buf), 0);
            }
            /* Up to a new block, with space for the slot of the next piece. */
            uint64_t used = pool_figures(pool).used;
            while (pool_figures(pool).used == used) {
                CHECK(sendq_append_ref(q, bytes, 1, NULL, NULL) >= 0);
            }
            uint64_t waiting = sendq_queued_bytes(q);
            size_t room = BUDGET - in_use(pool);
            CHECK_IS(piece_append(q, &p, bytes, room + 1), -ENOBUFS);
            CHECK_IS(p.times, 0);
            CHECK_IS(sendq_append_ref(q, bytes, room + 1, NULL, NULL), -ENOBUFS);
            CHECK_IS(sendq_buf_wrap(pool, bytes, room + 1, NULL, NULL, &none), -ENOBUFS);
            CHECK_IS(sendq_buf_copy(pool, bytes, room + 1, &none), -ENOBUFS);
            CHECK(none == NULL);
            CHECK_IS(in_use(pool), BUDGET - room);
            CHECK_IS(figures(q).waiting, waiting);
            CHECK(piece_append(q, &p, bytes, room) >= 0);
            CHECK_IS(in_use(pool), BUDGET);
            CHECK_IS(sendq_append_ref(q, bytes, 1, NULL, NULL), -ENOBUFS);
            CHECK_IS(sendq_append(other, bytes, 1), -ENOBUFS);
            CHECK_IS(sendq_append_file(other, 0, 0, 1, NULL, NULL), -ENOBUFS);
            CHECK_IS(sendq_buf_wrap(pool, bytes, 1, NULL, NULL, &none), -ENOBUFS);
            CHECK_IS(p.times, 0);
            if (shares) { /* what is shared counts once */
                CHECK(sendq_append_buf(q, buf, 1, 12344) >= 0);
                CHECK(sendq_append_buf(q, buf, 0, 12345) >= 0);
                CHECK_IS(in_use(pool), BUDGET);
                sendq_buf_unref(buf);
                CHECK_IS(in_use(pool), BUDGET); /* the queue holds it */
            }
            CHECK(sendq_discard(q) >= 0);
            CHECK_IS(in_use(pool), 0);
            sendq_free(q);
            sendq_free(other);
            sendq_pool_free(pool);
        }
    }
}

static void end_by_consume(sendq_t* q) {
    CHECK(sendq_consume(q, sendq_queued_bytes(q)) >= 0);
}

/* Chunks that are kept are in nobody's way. */
static void cached_blocks_give_way(void) {
    sendq_pool_t* pool = budgeted(CHUNK);
    sendq_t* q = new_unreserved(pool, 1);
    sendq_buf_t* buf;
    void* memory;
    for (int round = 0; round < 3; round++) {
        CHECK(sendq_append(q, bytes, BUDGET / 8 * 7) >= 0);
        end_by_consume(q);
        CHECK(pool_figures(pool).free > BUDGET / 2);
        CHECK_IS(sendq_buf_wrap(pool, bytes, BUDGET, NULL, NULL, &buf), 0);
        CHECK_IS(pool_figures(pool).free, 0);
        sendq_buf_unref(buf);

        CHECK(sendq_append(q, bytes, BUDGET / 8 * 7) >= 0);
        end_by_consume(q);
        CHECK(sendq_append_ref(q, bytes, BUDGET - CHUNK, NULL, NULL) >= 0);
        CHECK(in_use(pool) > BUDGET - CHUNK);
        CHECK(in_use(pool) + pool_figures(pool).free <= BUDGET);
        end_by_consume(q);

        /* The one that a large reservation left behind, too. */
        CHECK_IS(sendq_reserve(q, BUDGET / 2, &memory), 0);
        CHECK_IS(sendq_commit(q, 0), 0);
        CHECK(sendq_append_ref(q, bytes, BUDGET - CHUNK, NULL, NULL) >= 0);
        CHECK(in_use(pool) > BUDGET - CHUNK);
        CHECK(in_use(pool) + pool_figures(pool).free <= BUDGET);
        end_by_consume(q);
    }
    sendq_free(q);
    sendq_pool_free(pool);
}

/* Sums of lengths that no machine has: refused, not wrapped around. */
static void no_wrap(sendq_pool_t* pool) {
    sendq_t* q = new_unreserved(pool, 1);
    sendq_t* other = new_unreserved(pool, 1);
    sendq_buf_t* buf;
    size_t most = PTRDIFF_MAX;
    int first = sendq_append_ref(q, bytes, most, NULL, NULL);
    CHECK(first >= 0 || first == -ENOBUFS);
    if (first < 0) {
        CHECK_IS(sendq_queued_bytes(q), 0);
        CHECK(sendq_append_ref(q, bytes, most - (1 << 20), NULL, NULL) >= 0);
    }
    for (int i = 0; i < 3; i++) {
        CHECK_IS(sendq_append_ref(q, bytes, most, NULL, NULL), -ENOBUFS);
        CHECK_IS(sendq_append_ref(other, bytes, most, NULL, NULL), -ENOBUFS);
        CHECK_IS(sendq_append_ref(other, bytes, most - (1 << 20), NULL, NULL), -ENOBUFS);
        CHECK_IS(sendq_buf_wrap(pool, bytes, most, NULL, NULL, &buf), -ENOBUFS);
        CHECK(buf == NULL);
        CHECK_IS(sendq_queued_bytes(other), 0);
    }
    CHECK(sendq_append(other, bytes, 100) >= 0); /* 1 MiB is left */
    CHECK(sendq_discard(q) >= 0);
    CHECK_IS(pool_figures(pool).pinned, 0);
    CHECK_IS(sendq_buf_wrap(pool, bytes, most - (1 << 20), NULL, NULL, &buf), 0);
    CHECK_IS(sendq_append_ref(q, bytes, most - (1 << 20), NULL, NULL), -ENOBUFS);
    CHECK(sendq_append_buf(q, buf, 0, most - (1 << 20)) >= 0);
    CHECK(sendq_append_buf(q, buf, 0, most - (1 << 20)) == -ENOBUFS); /* no queue is that long */
    CHECK(sendq_append_buf(other, buf, 0, most - (1 << 20)) >= 0);
    CHECK_IS(pool_figures(pool).shared, most - (1 << 20));
    sendq_free(q);
    sendq_free(other);
    sendq_buf_unref(buf);
    CHECK_IS(pool_figures(pool).shared, 0);
}

static sendq_t* again_queue;
static int again;

/* When the owner is released, the budget is back: as much goes in again. */
static void lend_again(void* arg, const void* data, size_t len, int reason) {
    (void)arg, (void)reason;
    if (again-- > 0) {
        CHECK(sendq_append_ref(again_queue, data, len, lend_again, NULL) >= 0);
    }
}

static void back_when_released(void) {
    sendq_pool_t* pool = budgeted(CHUNK);
    again_queue = new_unreserved(pool, 1);
    again = 100;
    CHECK(sendq_append_ref(again_queue, bytes, BUDGET - 2 * CHUNK, lend_again, NULL) >= 0);
    for (int i = 0; i < 50; i++) {
        CHECK(sendq_consume(again_queue, BUDGET - 2 * CHUNK) >= 0);
        CHECK(sendq_discard(again_queue) >= 0);
    }
    CHECK(sendq_discard(again_queue) >= 0);
    CHECK_IS(again, -1);
    CHECK_IS(in_use(pool), 0);
    sendq_free(again_queue);
    sendq_pool_free(pool);
}

/* Buffers that a thread gives up while the confined pool that they count against is in use. */
enum { BUFS = 20000, BUF_BYTES = 100 };

static sendq_buf_t* bufs[BUFS];

static void* give_up(void* arg) {
    for (size_t i = 0; i < BUFS; i++) {
        sendq_buf_unref(bufs[i]);
    }
    sendq_pool_free(arg); /* not the last holder, or it: as it comes */
    return NULL;
}

static void released_elsewhere(void) {
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){.max_bytes = 4 << 20});
    sendq_t* q = new_unreserved(pool, 1);
    for (size_t i = 0; i < BUFS; i++) {
        CHECK_IS(sendq_buf_copy(pool, bytes, BUF_BYTES, &bufs[i]), 0);
    }
    CHECK_IS(pool_figures(pool).shared, BUFS * BUF_BYTES);
    pthread_t thread;
    CHECK_IS(pthread_create(&thread, NULL, give_up, NULL), 0);
    uint64_t shared = BUFS * BUF_BYTES;
    for (int i = 0; i < 2000 || shared > 0; i++) {
        CHECK(sendq_append(q, bytes, 5000) >= 0);
        CHECK(sendq_append_ref(q, bytes, 5000, NULL, NULL) >= 0);
        CHECK(sendq_append_ref(q, bytes, 4 << 20, NULL, NULL) == -ENOBUFS);
        sendq_pool_stats_t s;
        CHECK_IS(sendq_pool_stats(pool, &s, sizeof s), 0);
        CHECK(s.shared <= shared); /* only less */
        shared = s.shared;
        end_by_consume(q);
    }
    CHECK_IS(pthread_join(thread, NULL), 0);
    CHECK_IS(pool_figures(pool).shared, 0);
    sendq_free(q);
    sendq_pool_free(pool);
}

/* The pool goes with the last buffer, on whichever thread that is. */
static void pool_goes_first(void) {
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){.max_bytes = 4 << 20});
    for (size_t i = 0; i < BUFS; i++) {
        CHECK_IS(sendq_buf_copy(pool, bytes, BUF_BYTES, &bufs[i]), 0);
    }
    pthread_t thread;
    CHECK_IS(pthread_create(&thread, NULL, give_up, pool), 0);
    CHECK_IS(pthread_join(thread, NULL), 0);

    /* Held by queues of another pool only. */
    pool = new_pool((sendq_pool_config_t){0});
    sendq_t* q = new_unreserved(NULL, 1);
    CHECK_IS(sendq_buf_copy(pool, bytes, BUF_BYTES, &bufs[0]), 0);
    CHECK(sendq_append_buf(q, bufs[0], 0, BUF_BYTES) >= 0);
    sendq_buf_unref(bufs[0]);
    sendq_pool_free(pool);
    CHECK(sendq_discard(q) >= 0);
    sendq_free(q);
}

int main(void) {
    static const uint64_t block_sizes[] = {256, 1000, CHUNK, 16384};
    for (size_t i = 0; i < sizeof block_sizes / sizeof *block_sizes; i++) {
        exact(block_sizes[i]);
    }
    cached_blocks_give_way();
    for (uint64_t max = 0; max <= UINT64_MAX / 2; max += UINT64_MAX / 2) {
        sendq_pool_t* pool = new_pool((sendq_pool_config_t){.max_bytes = max});
        no_wrap(pool);
        sendq_pool_free(pool);
    }
    back_when_released();
    released_elsewhere();
    pool_goes_first();
    return 0;
}
