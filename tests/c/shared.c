/* One payload in many queues: each sends it, whatever the others do, and it is released once, when
 * the last has done with it, by whichever thread that is. */
#include <pthread.h>
#include <stdatomic.h>

#include "pieces.h"

enum { QUEUES = 1000, LEN = 10000, THREADS = 4, ROUNDS = 2000 };

static unsigned char bytes[LEN];
static sendq_t* queues[QUEUES];

static sendq_buf_t* wrap(piece* p) {
    sendq_buf_t* buf = NULL;
    *p = (piece){.data = bytes, .len = LEN};
    CHECK_IS(sendq_buf_wrap(NULL, bytes, LEN, piece_release, p, &buf), 0);
    CHECK(buf != NULL);
    return buf;
}

/* Sent by most, dropped, taken back, failed in or freed with the others; the host's own hold goes
 * first or last. */
static void many_queues(bool unref_first, bool copy) {
    piece p = {0};
    sendq_buf_t* buf = NULL;
    if (copy) {
        unsigned char source[LEN];
        memcpy(source, bytes, LEN);
        CHECK_IS(sendq_buf_copy(NULL, source, LEN, &buf), 0);
        memset(source, 0xff, LEN);
    } else {
        buf = wrap(&p);
    }
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){.chunk_bytes = 256});
    for (int i = 0; i < QUEUES; i++) {
        queues[i] = new_sharer(pool, 1);
        if (i % 10 == 1) {
            CHECK_IS(sendq_cork(queues[i]), 0);
        }
        CHECK_IS(sendq_append_buf(queues[i], buf, 0, LEN), i % 10 == 1 ? 0 : SENDQ_WAKE);
    }
    if (unref_first) {
        sendq_buf_unref(buf);
    }
    for (int i = 0; i < QUEUES; i++) {
        CHECK_IS(p.times, 0);
        switch (i % 10) {
            case 0:
                CHECK_IS(sendq_discard(queues[i]), 0);
                break;
            case 1:
                CHECK_IS(sendq_rollback(queues[i]), 0);
                break;
            case 2:
                CHECK_IS(sendq_flush(queues[i], -1, 0), -EBADF);
                break;
            case 3:
                CHECK_IS(sendq_consume(queues[i], LEN / 2), 0);
                break;
            default:
                check_delivers(queues[i], 0);
        }
        if (i < QUEUES - 1) {
            sendq_free(queues[i]);
        }
    }
    sendq_free(queues[QUEUES - 1]);
    if (!unref_first) {
        CHECK_IS(p.times, 0);
        sendq_buf_unref(buf);
    }
    CHECK_IS(p.times, !copy);
    CHECK_IS(p.reason, 0);
    sendq_pool_free(pool);
}

static void ranges(void) {
    piece p;
    sendq_buf_t* buf = wrap(&p);
    sendq_t* q = new_sharer(NULL, 1);
    for (size_t at = 0; at < LEN; at += 100) { /* one after the other, as short as they are */
        CHECK_IS(sendq_append_buf(q, buf, at, 100), at > 0 ? 0 : SENDQ_WAKE);
    }
    check_delivers(q, 0);
    CHECK_IS(sendq_append_buf(q, buf, LEN - 1, 1), SENDQ_WAKE);
    check_delivers(q, LEN - 1);
    CHECK_IS(sendq_append_buf(q, buf, 0, LEN), SENDQ_WAKE);
    check_delivers(q, 0);

    /* Outside. */
    CHECK_IS(sendq_append_buf(q, buf, LEN + 1, 0), -EINVAL);
    CHECK_IS(sendq_append_buf(q, buf, 0, LEN + 1), -EINVAL);
    CHECK_IS(sendq_append_buf(q, buf, LEN, 1), -EINVAL);
    CHECK_IS(sendq_append_buf(q, buf, 1, LEN), -EINVAL);
    CHECK_IS(sendq_append_buf(q, buf, 1, SIZE_MAX), -EINVAL); /* the sum wraps around */
    CHECK_IS(sendq_append_buf(q, buf, SIZE_MAX, 1), -EINVAL);
    CHECK_IS(sendq_append_buf(q, buf, SIZE_MAX, SIZE_MAX), -EINVAL);
    CHECK_IS(sendq_append_buf(q, NULL, 0, 1), -EINVAL);
    CHECK_IS(sendq_append_buf(NULL, buf, 0, 1), -EINVAL);
    CHECK_IS(sendq_queued_bytes(q), 0);
    check_usable(q);
    CHECK_IS(p.times, 0);
    sendq_buf_unref(buf);
    CHECK_IS(p.times, 1);
    sendq_free(q);
}

static void holds(void) {
    piece p;
    sendq_buf_t* buf = wrap(&p);
    CHECK(sendq_buf_ref(buf) == buf);
    CHECK(sendq_buf_ref(buf) == buf);
    sendq_buf_unref(buf);
    sendq_buf_unref(buf);
    CHECK_IS(p.times, 0);
    sendq_buf_unref(buf);
    CHECK_IS(p.times, 1);
    CHECK(sendq_buf_ref(NULL) == NULL);
    sendq_buf_unref(NULL);

    CHECK_IS(sendq_buf_wrap(NULL, bytes, LEN, NULL, NULL, &buf), 0); /* immortal */
    sendq_t* q = new_sharer(NULL, 1);
    CHECK_IS(sendq_append_buf(q, buf, 0, LEN), SENDQ_WAKE);
    sendq_buf_unref(buf);
    check_delivers(q, 0);
    sendq_free(q);

    static const size_t wrong[] = {SIZE_MAX, SIZE_MAX / 2 + 1};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        buf = (sendq_buf_t*)bytes;
        CHECK_IS(sendq_buf_copy(NULL, bytes, wrong[i], &buf), -EINVAL);
        CHECK(buf == NULL);
        buf = (sendq_buf_t*)bytes;
        CHECK_IS(sendq_buf_wrap(NULL, bytes, wrong[i], piece_release, &p, &buf), -EINVAL);
        CHECK(buf == NULL);
    }
    CHECK_IS(sendq_buf_copy(NULL, NULL, 1, &buf), -EINVAL);
    CHECK_IS(sendq_buf_wrap(NULL, NULL, 1, piece_release, &p, &buf), -EINVAL);
    CHECK_IS(sendq_buf_copy(NULL, bytes, 1, NULL), -EINVAL);
    CHECK_IS(sendq_buf_wrap(NULL, bytes, 1, piece_release, &p, NULL), -EINVAL);
    CHECK_IS(p.times, 1);
}

/* The payload outlives the pool that it was made in, and goes to queues of others. */
static void pools(void) {
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){0});
    sendq_buf_t* buf = NULL;
    CHECK_IS(sendq_buf_copy(pool, bytes, LEN, &buf), 0);
    sendq_pool_free(pool);
    pool = new_pool((sendq_pool_config_t){.flags = SENDQ_THREADSAFE});
    sendq_t* q = new_sharer(pool, 1);
    CHECK_IS(sendq_append_buf(q, buf, 0, LEN), SENDQ_WAKE);
    sendq_buf_unref(buf);
    check_delivers(q, 0);
    sendq_free(q);
    sendq_pool_free(pool);
}

/* Four threads at once; each payload is released once, by somebody. */
static atomic_int released[ROUNDS];
static sendq_buf_t* bufs[ROUNDS];
static sendq_t* common[THREADS];

static void count_release(void* arg, const void* data, size_t len, int reason) {
    CHECK(data == bytes && len == LEN);
    CHECK_IS(reason, 0);
    CHECK_IS(atomic_fetch_add((atomic_int*)arg, 1), 0);
}

static void* confined_queues(void* arg) {
    uint64_t random = 88172645463325252U + (uintptr_t)arg;
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){.chunk_bytes = 256});
    sendq_t* q = new_sharer(pool, 1);
    for (int i = 0; i < ROUNDS; i++) {
        size_t at = random_next(&random) % LEN;
        CHECK_IS(sendq_append_buf(q, bufs[i], at, LEN - at), SENDQ_WAKE);
        sendq_buf_unref(sendq_buf_ref(bufs[i]));
        sendq_buf_unref(bufs[i]); /* each thread has a hold of its own */
        struct iovec iov;
        CHECK_IS(sendq_peek(q, &iov, 1), 1);
        CHECK_IS(iov.iov_len, LEN - at);
        stream_check(iov.iov_base, at, iov.iov_len < 64 ? iov.iov_len : 64);
        if (random_next(&random) % 4 == 0) {
            CHECK_IS(sendq_discard(q), 0);
        } else {
            CHECK_IS(sendq_consume(q, LEN - at), 0);
        }
    }
    sendq_free(q);
    sendq_pool_free(pool);
    return NULL;
}

/* Each thread drains its own queue and appends to that of all. */
static void* shared_queues(void* arg) {
    uintptr_t self = (uintptr_t)arg;
    for (int i = 0; i < ROUNDS; i++) {
        for (int to = 0; to < THREADS; to++) {
            CHECK(sendq_append_buf(common[to], bufs[i], 0, LEN) >= 0);
        }
        sendq_buf_unref(bufs[i]);
        CHECK(sendq_consume(common[self], (size_t)sendq_queued_bytes(common[self])) >= 0);
    }
    return NULL;
}

static void threads(void* (*run)(void*)) {
    pthread_t ids[THREADS];
    sendq_config_t config = {.size = sizeof config, .flags = SENDQ_THREADSAFE, .share_below = 1};
    for (int i = 0; i < ROUNDS; i++) {
        atomic_store(&released[i], 0);
        CHECK_IS(sendq_buf_wrap(NULL, bytes, LEN, count_release, &released[i], &bufs[i]), 0);
        for (int hold = 1; hold < THREADS; hold++) {
            sendq_buf_ref(bufs[i]);
        }
    }
    for (int i = 0; i < THREADS; i++) {
        common[i] = new_queue(NULL, &config);
    }
    for (uintptr_t i = 0; i < THREADS; i++) {
        CHECK_IS(pthread_create(&ids[i], NULL, run, (void*)i), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK_IS(pthread_join(ids[i], NULL), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        sendq_free(common[i]); /* what waits there is dropped */
    }
    for (int i = 0; i < ROUNDS; i++) {
        CHECK_IS(atomic_load(&released[i]), 1);
    }
}

int main(void) {
    stream_fill(bytes, 0, sizeof bytes);
    many_queues(false, false);
    many_queues(true, false);
    many_queues(false, true);
    many_queues(true, true);
    ranges();
    holds();
    pools();
    threads(confined_queues);
    threads(shared_queues);
    return 0;
}
