/* Limits hold to the byte, an append over one is refused as a whole, and the hints say so. */
#include "check.h"

enum { MAX = 1000, BUDGET = 64 << 10 };

static unsigned char bytes[1 << 20];

/* len bytes of the test stream from what q has been given so far, as `pieces` pieces. */
static int give(sendq_t* q, uint64_t offset, size_t len, int pieces) {
    struct iovec iov[8];
    stream_fill(bytes, offset, len);
    CHECK(pieces <= 8);
    if (pieces == 0) {
        void* memory;
        int result = sendq_reserve(q, len, &memory);
        if (result < 0) {
            return result;
        }
        memcpy(memory, bytes, len);
        return sendq_commit(q, len);
    }
    if (pieces == 1) {
        return sendq_append(q, bytes, len);
    }
    size_t each = len / (size_t)pieces;
    for (int i = 0; i < pieces; i++) {
        iov[i] = (struct iovec){bytes + (size_t)i * each, each};
    }
    iov[pieces - 1].iov_len = len - (size_t)(pieces - 1) * each;
    return sendq_appendv(q, iov, pieces);
}

/* Around the cap of a queue, from every side, by every kind of append. */
static void cap(void) {
    sendq_config_t config = {.size = sizeof config, .max = MAX};
    for (int pieces = 0; pieces <= 4; pieces++) {
        for (size_t waiting = 1; waiting <= MAX; waiting += 333) {
            sendq_t* q = new_queue(NULL, &config);
            size_t room = MAX - waiting;
            CHECK(give(q, 0, waiting, pieces) >= 0);
            CHECK_IS(give(q, waiting, room + 1, pieces), -ENOBUFS);
            CHECK_IS(give(q, waiting, sizeof bytes, pieces), -ENOBUFS);
            CHECK_IS(sendq_queued_bytes(q), waiting);
            if (room > 0) {
                CHECK_IS(give(q, waiting, room, pieces), SENDQ_HIGH); /* high is max if less */
            }
            CHECK_IS(give(q, MAX, 1, pieces), -ENOBUFS);
            CHECK_IS(sendq_append(q, NULL, 0), 0);
            CHECK_IS(sendq_consume(q, 1), 0);
            CHECK_IS(give(q, MAX, 2, pieces), -ENOBUFS);
            CHECK_IS(give(q, MAX, 1, pieces), SENDQ_HIGH);
            CHECK_IS(sendq_queued_bytes(q), MAX);
            check_delivers(q, 1);
            check_usable(q);
            sendq_free(q);
        }
    }
}

/* What is reserved counts against the cap, what of it is not committed no longer. */
static void cap_of_reservation(void) {
    sendq_config_t config = {.size = sizeof config, .max = MAX};
    sendq_t* q = new_queue(NULL, &config);
    void* memory;
    CHECK_IS(give(q, 0, 400, 1), SENDQ_WAKE);
    CHECK_IS(sendq_reserve(q, 601, &memory), -ENOBUFS);
    CHECK(memory == NULL);
    CHECK_IS(sendq_reserve(q, 600, &memory), 0);
    stream_fill(memory, 400, 100);
    CHECK_IS(sendq_commit(q, 100), 0);
    CHECK_IS(give(q, 500, 501, 1), -ENOBUFS);
    CHECK_IS(give(q, 500, 500, 1), SENDQ_HIGH);
    check_delivers(q, 0);
    sendq_free(q);
}

/* A new cap below what waits takes nothing away. */
static void cap_lowered(void) {
    sendq_t* q = new_queue(NULL, NULL);
    CHECK_IS(give(q, 0, MAX, 1), SENDQ_WAKE);
    CHECK_IS(sendq_set_watermarks(q, 1, 10, 100), SENDQ_HIGH);
    CHECK_IS(sendq_queued_bytes(q), MAX);
    CHECK_IS(give(q, MAX, 1, 1), -ENOBUFS);
    CHECK_IS(sendq_consume(q, MAX - 100), 0);
    CHECK_IS(give(q, MAX, 1, 1), -ENOBUFS);
    CHECK_IS(sendq_consume(q, 1), 0);
    CHECK_IS(give(q, MAX, 1, 1), SENDQ_HIGH);
    check_delivers(q, MAX - 99);
    sendq_free(q);
}

/* Fills q with appends of len bytes until it is refused; returns how much it then holds. */
static uint64_t fill(sendq_t* q, size_t len, int pieces) {
    uint64_t filled = 0;
    int result = 0;
    while ((result = give(q, filled, len, pieces)) >= 0) {
        filled += len;
        CHECK_IS(sendq_queued_bytes(q), filled);
        CHECK(filled <= BUDGET);
    }
    CHECK_IS(result, -ENOBUFS);
    CHECK_IS(sendq_queued_bytes(q), filled);
    return filled;
}

static void budget_of_pool(void) {
    static const size_t chunk_bytes[] = {256, 4096, 16384, BUDGET - 64};
    static const size_t lens[] = {1, 100, 1000, 10000, 60000};
    for (size_t c = 0; c < sizeof chunk_bytes / sizeof *chunk_bytes; c++) {
        sendq_pool_t* pool =
            new_pool((sendq_pool_config_t){.max_bytes = BUDGET, .chunk_bytes = chunk_bytes[c]});
        sendq_config_t config = {.size = sizeof config, .reserve = 1};
        sendq_t* q = new_queue(pool, &config);
        sendq_t* other = new_queue(pool, &config);
        for (size_t l = 0; l < sizeof lens / sizeof *lens; l++) {
            fill(q, lens[l], 3); /* blocks grow in the first burst */
            check_delivers(q, 0);
            uint64_t first = fill(q, lens[l], 3);
            /* A refusal costs nothing: smaller ones still find room, to the same end each time. */
            CHECK_IS(give(q, first, BUDGET + 1, 1), -ENOBUFS);
            CHECK_IS(give(q, first, sizeof bytes, 3), -ENOBUFS);
            uint64_t end = first;
            for (int r; (r = give(q, end, 1, 1)) != -ENOBUFS; end++) {
                CHECK(r >= 0);
            }
            CHECK(end <= BUDGET);
            CHECK(end >= BUDGET / 2);
            check_delivers(q, 0);
            CHECK_IS(fill(q, lens[l], 3), first);

            /* The budget is the pool's: what one queue holds, another has not. */
            CHECK_IS(give(other, 0, BUDGET - first + 1, 1), -ENOBUFS);
            CHECK_IS(sendq_queued_bytes(other), 0);
            CHECK_IS(sendq_consume(q, first) & ~SENDQ_RESUME, 0);
            CHECK_IS(give(other, 0, BUDGET / 2, 1), SENDQ_WAKE);
            check_delivers(other, 0);
        }
        void* memory;
        CHECK_IS(sendq_reserve(q, BUDGET + 1, &memory), -ENOBUFS);
        CHECK_IS(sendq_reserve(q, BUDGET - 256, &memory), 0);
        CHECK_IS(give(other, 0, BUDGET / 2, 1), -ENOBUFS);
        memset(memory, 0, BUDGET - 256);
        CHECK_IS(sendq_commit(q, 0), 0);
        CHECK_IS(give(other, 0, BUDGET / 2, 1), SENDQ_WAKE);
        sendq_free(q);
        sendq_free(other);
        sendq_pool_free(pool);
    }
}

static void wake(void) {
    sendq_t* q = new_queue(NULL, NULL);
    void* memory;
    for (int round = 0; round < 3; round++) {
        CHECK_IS(sendq_append(q, NULL, 0), 0);
        CHECK_IS(give(q, 0, 10, round), SENDQ_WAKE);
        CHECK_IS(give(q, 10, 10, round), 0);
        CHECK_IS(sendq_consume(q, 19), 0);
        CHECK_IS(give(q, 20, 10, round), 0); /* one byte still waited */
        CHECK_IS(sendq_consume(q, 11), 0);
    }
    CHECK_IS(give(q, 0, 10, 1), SENDQ_WAKE);
    CHECK_IS(sendq_discard(q), 0);
    CHECK_IS(give(q, 0, 10, 1), SENDQ_WAKE);
    check_delivers(q, 0);
    CHECK_IS(give(q, 0, 10, 1), SENDQ_WAKE);
    CHECK_IS(sendq_discard(q), 0);

    CHECK_IS(sendq_reserve(q, 10, &memory), 0);
    CHECK_IS(sendq_commit(q, 0), 0); /* nothing was said: nobody to wake */
    CHECK_IS(give(q, 0, 10, 0), SENDQ_WAKE);
    sendq_free(q);
}

static void high_and_resume(void) {
    sendq_config_t config = {.size = sizeof config, .low = 100, .high = 300};
    sendq_t* q = new_queue(NULL, &config);
    CHECK_IS(give(q, 0, 299, 1), SENDQ_WAKE);
    CHECK_IS(sendq_consume(q, 299), 0); /* never was high: nothing to resume */
    CHECK_IS(give(q, 0, 300, 1), SENDQ_WAKE | SENDQ_HIGH);
    CHECK_IS(give(q, 300, 1, 1), SENDQ_HIGH);
    CHECK_IS(sendq_consume(q, 200), 0); /* 101 wait */
    CHECK_IS(sendq_consume(q, 1), SENDQ_RESUME);
    CHECK_IS(sendq_consume(q, 1), 0); /* once */
    CHECK_IS(give(q, 301, 201, 0), SENDQ_HIGH);
    CHECK_IS(sendq_discard(q), SENDQ_RESUME);
    CHECK_IS(sendq_discard(q), 0);

    CHECK_IS(give(q, 0, 400, 4), SENDQ_WAKE | SENDQ_HIGH);
    ends e = ends_unix();
    CHECK_IS(sendq_flush(q, e.queue, 299), SENDQ_MORE);
    CHECK_IS(sendq_flush(q, e.queue, 1), SENDQ_MORE | SENDQ_RESUME);
    CHECK_IS(sendq_flush(q, e.queue, 0), 0);
    ends_close(e);

    /* Marks that move past what waits. */
    CHECK_IS(give(q, 0, 400, 1), SENDQ_WAKE | SENDQ_HIGH);
    CHECK_IS(sendq_set_watermarks(q, 399, 500, 0), 0);
    CHECK_IS(sendq_set_watermarks(q, 400, 500, 0), SENDQ_RESUME);
    CHECK_IS(sendq_set_watermarks(q, 100, 300, 0), SENDQ_HIGH);
    CHECK_IS(sendq_consume(q, 299), 0);
    CHECK_IS(sendq_consume(q, 1), SENDQ_RESUME); /* 400 were high under the new mark */
    CHECK_IS(sendq_discard(q), 0);

    /* The defaults: 1 MiB, and a half of it. */
    CHECK_IS(sendq_set_watermarks(q, 0, 0, 0), 0);
    CHECK_IS(give(q, 0, (1 << 20) - 1, 1), SENDQ_WAKE);
    CHECK_IS(give(q, 0, 1, 1), SENDQ_HIGH);
    CHECK_IS(sendq_consume(q, (1 << 19) - 1), 0);
    CHECK_IS(sendq_consume(q, 1), SENDQ_RESUME);
    sendq_free(q);
}

int main(void) {
    cap();
    cap_of_reservation();
    cap_lowered();
    budget_of_pool();
    wake();
    high_and_resume();
    return 0;
}
