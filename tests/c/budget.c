/* A pool's budget counts to the byte: blocks, and borrowed and shared memory. An append
 * over it is refused as a whole, cached blocks are freed first, and all memory is returned. */
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

static sendq_t* spliced; /* into a queue of another pool */

static void end_by_consume(sendq_t* q) {
    CHECK(sendq_consume(q, sendq_queued_bytes(q)) >= 0);
}

static void end_by_flush(sendq_t* q) {
    check_delivers(q, 0);
}

static void end_by_discard(sendq_t* q) {
    CHECK(sendq_discard(q) >= 0);
}

static void end_by_failure(sendq_t* q) {
    CHECK_IS(sendq_flush(q, -1, 0), -EBADF);
}

static void end_by_deadline(sendq_t* q) {
    CHECK_IS(sendq_close_within(q, 0), -ETIMEDOUT);
}

static void end_by_splice(sendq_t* q) {
    CHECK(sendq_splice(spliced, q) >= 0);
}

static void end_by_free(sendq_t* q) {
    (void)q;
}

/* All of the budget is spent and all comes back, again and again. Corked: by a rollback. */
static void comes_back(uint64_t chunk_bytes) {
    static void (*const ways[])(sendq_t*) = {
        end_by_consume,  end_by_flush,  end_by_discard, end_by_failure,
        end_by_deadline, end_by_splice, end_by_free,    NULL};
    sendq_pool_t* pool = budgeted(chunk_bytes);
    stream_fill(bytes, 0, sizeof bytes);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        for (int round = 0; round < 3; round++) {
            sendq_t* q = new_unreserved(pool, 1);
            sendq_buf_t* buf;
            spliced = new_simulated_queue();
            if (ways[i] == NULL) {
                CHECK_IS(sendq_cork(q), 0);
            }
            CHECK_IS(sendq_buf_wrap(pool, bytes + 60000, 50000, NULL, NULL, &buf), 0);
            CHECK(sendq_append(q, bytes, 30000) >= 0);
            CHECK(sendq_append_ref(q, bytes + 30000, 30000, NULL, NULL) >= 0);
            CHECK(sendq_append_buf(q, buf, 0, 50000) >= 0);
            sendq_buf_unref(buf);
            size_t room = BUDGET - in_use(pool);
            CHECK(sendq_append_ref(q, bytes + 110000, room, NULL, NULL) >= 0);
            CHECK_IS(in_use(pool), BUDGET);
            CHECK_IS(sendq_append_ref(q, bytes, 1, NULL, NULL), -ENOBUFS);
            if (ways[i] == NULL) {
                CHECK(sendq_rollback(q) >= 0);
            } else {
                ways[i](q);
            }
            if (ways[i] == end_by_splice) { /* what is shared is still this pool's */
                CHECK_IS(in_use(pool), 50000);
            } else if (ways[i] != end_by_free) {
                CHECK_IS(in_use(pool), 0);
            }
            sendq_free(q);
            sendq_free(spliced);
            CHECK_IS(in_use(pool), 0);
        }
    }
    sendq_pool_free(pool);
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

/* At random: what is refused changes nothing, what is taken stays within. */
static void at_random(uint64_t chunk_bytes) {
    enum { QUEUES = 4, STEPS = 20000 };
    sendq_pool_t* pool = budgeted(chunk_bytes);
    sendq_t* queues[QUEUES];
    uint64_t rnd = 99;
    int refused = 0;
    for (int i = 0; i < QUEUES; i++) {
        queues[i] = new_unreserved(pool, 1000);
    }
    for (int i = 0; i < STEPS; i++) {
        sendq_t* q = queues[random_next(&rnd) % QUEUES];
        size_t len = random_up_to(&rnd, random_next(&rnd) % 2 ? 3000 : 100000);
        struct iovec two[] = {{bytes, len}, {bytes, len}};
        uint64_t before = in_use(pool);
        uint64_t waited = sendq_queued_bytes(q);
        sendq_buf_t* buf = NULL;
        void* memory;
        int result = 0;
        switch (random_next(&rnd) % 8) {
            case 0:
                result = sendq_append(q, bytes, len);
                break;
            case 1:
                result = sendq_appendv(q, two, 2);
                break;
            case 2:
                result = sendq_append_ref(q, bytes, len, NULL, NULL);
                break;
            case 3:
                result = sendq_buf_copy(pool, bytes, len, &buf);
                if (result == 0) {
                    int appended = sendq_append_buf(q, buf, 0, len);
                    CHECK(appended >= 0 || sendq_queued_bytes(q) == waited);
                    sendq_buf_unref(buf);
                }
                break;
            case 4:
                result = sendq_reserve(q, len, &memory);
                if (result == 0) {
                    CHECK(sendq_commit(q, len / 2) >= 0);
                }
                break;
            case 5:
                result = sendq_splice(queues[0], q);
                CHECK(result >= 0 || q == queues[0]); /* within one pool it costs nothing */
                result = 0;
                break;
            case 6:
                CHECK(sendq_consume(q, random_next(&rnd) % (waited + 1)) >= 0);
                break;
            default:
                CHECK(random_next(&rnd) % 4 || sendq_discard(q) >= 0);
        }
        if (result < 0) {
            CHECK_IS(result, -ENOBUFS);
            CHECK_IS(in_use(pool), before);
            CHECK_IS(sendq_queued_bytes(q), waited);
            refused++;
        }
        CHECK(in_use(pool) <= BUDGET);
    }
    CHECK(refused > STEPS / 100 && refused < STEPS / 2);
    for (int i = 0; i < QUEUES; i++) {
        sendq_free(queues[i]);
    }
    CHECK_IS(in_use(pool), 0);
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
        comes_back(block_sizes[i]);
        at_random(block_sizes[i]);
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
