/* The figures of a queue and of a pool where the model does not get: past 32 bits, and in structs
 * of other sizes. */
#include "simulated.h"

enum { FILE_BYTES = 1 << 16 };

static unsigned char bytes[1 << 16];
static int file;

/* Lengths that are only counted: nothing reads the memory, nor the file. */
static void beyond_32_bits(void) {
    static const uint64_t big = 3ULL << 30;
    enum { TIMES = 7 };
    sendq_t* q = new_simulated_queue();
    sendq_buf_t* buf;
    CHECK_IS(sendq_buf_wrap(NULL, bytes, big, NULL, NULL, &buf), 0);
    uint64_t sums[3] = {0};
    uint64_t sent = 0;
    uint64_t discarded = 0;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < TIMES; i++) {
            CHECK(sendq_append_ref(q, bytes, big, NULL, NULL) >= 0);
            sums[0] += big;
            CHECK(sendq_append_buf(q, buf, i == 0, big - (i == 0)) >= 0);
            sums[1] += big - (i == 0);
            CHECK(sendq_append_file(q, file, (uint64_t)i, big + 1, NULL, NULL) >= 0);
            sums[2] += big + 1;
            CHECK(sendq_append(q, bytes, 5) >= 0);
        }
        sendq_stats_t s = figures(q);
        uint64_t all = TIMES * (3 * big + 5 + 1) - 1;
        CHECK_IS(s.borrowed, sums[0]);
        CHECK_IS(s.shared, sums[1]);
        CHECK_IS(s.file, sums[2]);
        CHECK_IS(s.copied, (round + 1) * TIMES * 5);
        CHECK_IS(s.waiting, all);
        CHECK_IS(s.peak_waiting, all);
        CHECK_IS(s.pinned, TIMES * 2 * big - 1);
        CHECK(sendq_consume(q, big + 1) >= 0); /* a piece, and the first byte of the next */
        sent += big + 1;
        CHECK_IS(figures(q).pinned, TIMES * 2 * big - 1 - big);
        if (round == 1) {
            CHECK_IS(sendq_cork(q), 0);
            CHECK(sendq_append_ref(q, bytes, big, NULL, NULL) >= 0);
            CHECK(sendq_rollback(q) >= 0);
            sums[0] += big;
            discarded += big;
        }
        CHECK(sendq_discard(q) >= 0);
        discarded += all - big - 1;
        s = figures(q);
        CHECK_IS(s.waiting + s.pinned + s.allocated, 0);
        CHECK_IS(s.sent, sent);
        CHECK_IS(s.discarded, discarded);
        CHECK(s.peak_waiting >= all);
    }
    sendq_buf_unref(buf);
    check_usable(q);
    sendq_free(q);
}

/* Spliced, what is beyond 32 bits stays so; also in a pool with a budget. */
static void splice_beyond_32_bits(void) {
    static const uint64_t big = 5ULL << 30;
    sendq_pool_t* pool = new_simulated((sendq_pool_config_t){.max_bytes = big + (1 << 20)});
    sendq_t* to = new_borrower(pool, 1);
    sendq_t* from = new_simulated_queue();
    CHECK(sendq_append_ref(from, bytes, big, NULL, NULL) >= 0);
    CHECK_IS(sendq_consume(from, 1) & ~SENDQ_RESUME, 0);
    CHECK(sendq_splice(to, from) >= 0);
    CHECK_IS(figures(to).borrowed, big - 1);
    CHECK_IS(figures(to).pinned, big);
    CHECK_IS(pool_figures(pool).pinned, big);
    CHECK_IS(figures(from).sent, big);
    CHECK_IS(figures(from).pinned, 0);
    CHECK_IS(figures(from).peak_waiting, big);
    CHECK(sendq_append_ref(from, bytes, big, NULL, NULL) >= 0);
    CHECK_IS(sendq_splice(to, from), -ENOBUFS);
    CHECK_IS(figures(from).waiting, big);
    sendq_free(from);
    sendq_free(to);
    CHECK_IS(pool_figures(pool).pinned, 0);
    sendq_pool_free(pool);
}

/* The sum of what waits does not wrap around, however long files claim to be. */
static void no_wrap(void) {
    sendq_t* q = new_simulated_queue();
    uint64_t last = 0;
    for (int i = 0; i < 5; i++) {
        int result = sendq_append_file(q, file, 0, INT64_MAX, NULL, NULL);
        CHECK(result >= 0 || result == -ENOBUFS || result == -EINVAL);
        CHECK(sendq_queued_bytes(q) >= last);
        last = sendq_queued_bytes(q);
        CHECK_IS(sendq_queued_memory(q), 0);
    }
    CHECK_IS(figures(q).waiting, last);
    sendq_free(q);
}

/* As much as there is room for, and nothing behind that. */
static void sizes(void) {
    sendq_pool_t* pool = new_simulated((sendq_pool_config_t){.max_bytes = 1 << 20});
    sendq_t* q = new_borrower(pool, 1);
    CHECK_IS(sendq_append(q, bytes, 100), SENDQ_WAKE);
    sendq_stats_t whole = figures(q);
    sendq_pool_stats_t of_pool = pool_figures(pool);
    unsigned char out[sizeof whole + 64];
    for (size_t size = 0; size < sizeof out; size++) {
        size_t filled = size < sizeof whole ? size : sizeof whole;
        memset(out, 0xAB, sizeof out);
        CHECK_IS(sendq_stats(q, (sendq_stats_t*)(void*)out, size), 0);
        CHECK_IS(memcmp(out, &whole, filled), 0);
        for (size_t i = filled; i < sizeof out; i++) {
            CHECK_IS(out[i], 0xAB);
        }
        filled = size < sizeof of_pool ? size : sizeof of_pool;
        memset(out, 0xAB, sizeof out);
        CHECK_IS(sendq_pool_stats(pool, (sendq_pool_stats_t*)(void*)out, size), 0);
        CHECK_IS(memcmp(out, &of_pool, filled), 0);
        for (size_t i = filled; i < sizeof out; i++) {
            CHECK_IS(out[i], 0xAB);
        }
    }
    CHECK_IS(sendq_stats(NULL, &whole, sizeof whole), -EINVAL);
    CHECK_IS(sendq_stats(q, NULL, sizeof whole), -EINVAL);
    CHECK_IS(sendq_stats(q, NULL, 0), -EINVAL);
    CHECK_IS(sendq_pool_stats(NULL, &of_pool, sizeof of_pool), -EINVAL);
    CHECK_IS(sendq_pool_stats(pool, NULL, sizeof of_pool), -EINVAL);
    sendq_free(q);
    sendq_pool_free(pool);
}

int main(void) {
    FILE* stream = tmpfile();
    CHECK(stream != NULL);
    file = fileno(stream);
    CHECK_IS(ftruncate(file, FILE_BYTES), 0);
    beyond_32_bits();
    splice_beyond_32_bits();
    no_wrap();
    sizes();
    CHECK_IS(fclose(stream), 0);
    return 0;
}
