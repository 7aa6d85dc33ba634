/* Memory fits what is queued: a small block for little, a larger one for a queue whose bursts are
 * larger; and short parts of shared buffers are copied. */
#include "simulated.h"

enum { PAIR = 124, DEEP = 16, SMALL_BLOCK = 256, BLOCK = 4096 };

static unsigned char bytes[1 << 20];

/* Appends `depth` responses of a header and a body, and returns in how many pieces they are. */
static int burst(sendq_t* q, int depth) {
    struct iovec pieces[64];
    for (int i = 0; i < depth; i++) {
        CHECK(sendq_append(q, bytes, 24) >= 0);
        CHECK(sendq_append(q, bytes, PAIR - 24) >= 0);
    }
    int count = sendq_peek(q, pieces, 64);
    CHECK_IS(figures(q).waiting, (uint64_t)depth * PAIR);
    return count;
}

static void drain(sendq_t* q) {
    CHECK(sendq_consume(q, sendq_queued_bytes(q)) >= 0);
    CHECK_IS(sendq_memory(q), 0);
}

static void little(uint32_t flags) {
    sendq_pool_t* pool = new_simulated((sendq_pool_config_t){.flags = flags});
    sendq_t* q = new_borrower(pool, 1);
    for (int round = 0; round < 3; round++) {
        CHECK_IS(burst(q, 1), 1);
        CHECK_IS(sendq_memory(q), SMALL_BLOCK);
        drain(q);
    }
    sendq_free(q);
    sendq_pool_free(pool);
}

/* From the second burst on it is one piece; and when bursts become small again, so do blocks. */
static void deep(uint32_t flags) {
    sendq_pool_t* pool = new_simulated((sendq_pool_config_t){.flags = flags});
    sendq_t* q = new_borrower(pool, 1);
    for (int round = 0; round < 5; round++) {
        int pieces = burst(q, DEEP);
        CHECK(round == 0 ? pieces <= 4 : pieces == 1);
        CHECK(sendq_memory(q) <= (round == 0 ? BLOCK + 2048 : BLOCK));
        drain(q);
    }
    for (int round = 0; round < 3; round++) {
        CHECK_IS(burst(q, 1), 1);
        CHECK(round < 2 || sendq_memory(q) == SMALL_BLOCK);
        drain(q);
    }
    sendq_free(q);
    sendq_pool_free(pool);
}

/* Each block is at most four times as large as the one before, and the sum is within a few
 * percent of what waits, if that is much. */
static void grows(uint64_t chunk_bytes) {
    sendq_pool_t* pool = new_simulated((sendq_pool_config_t){.chunk_bytes = chunk_bytes});
    sendq_t* q = new_borrower(pool, 1);
    uint64_t last = SMALL_BLOCK;
    uint64_t before = 0;
    while (sendq_queued_bytes(q) < 8 * chunk_bytes) {
        CHECK(sendq_append(q, bytes, 50) >= 0);
        uint64_t added = sendq_memory(q) - before;
        CHECK(added <= chunk_bytes);
        if (added > 0) {
            CHECK(before == 0 ? added == SMALL_BLOCK : added <= 4 * last);
            last = added;
            before += added;
        }
    }
    CHECK_IS(last, chunk_bytes);
    drain(q);
    /* An append that is larger than the block it would get has one that fits. */
    sendq_t* other = new_borrower(pool, 1);
    size_t most = chunk_bytes - 48;
    CHECK(sendq_append(other, bytes, most < 700 ? most : 700) >= 0);
    CHECK(sendq_memory(other) <= 1024);
    sendq_free(other);
    sendq_free(q);
    sendq_pool_free(pool);
}

/* Many short messages share blocks, also when each was made in a queue of its own. */
static void splices(void) {
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){.max_bytes = 256 << 10});
    sendq_t* to = new_borrower(pool, 1);
    sendq_t* from = new_borrower(pool, 1);
    for (int i = 0; i < 1000; i++) {
        CHECK(sendq_append(from, bytes, 100) >= 0);
        CHECK(sendq_splice(to, from) >= 0);
    }
    CHECK_IS(sendq_queued_bytes(to), 1000 * 100);
    sendq_free(from);
    sendq_free(to);
    sendq_pool_free(pool);
}

/* A part of a shared buffer that was copied needs the buffer no more. */
static void shares(void) {
    sendq_t* q = new_queue(NULL, NULL);
    sendq_buf_t* buf;
    piece p = {.data = bytes, .len = 5000};
    stream_fill(bytes, 0, 5000);
    CHECK_IS(sendq_buf_wrap(NULL, bytes, 5000, piece_release, &p, &buf), 0);
    CHECK_IS(sendq_append_buf(q, buf, 0, 100), SENDQ_WAKE);
    sendq_buf_unref(buf);
    CHECK_IS(p.times, 1);
    check_delivers(q, 0);
    sendq_free(q);
}

int main(void) {
    static const uint64_t chunks[] = {256, 1024, 4096, 8192, 65536};
    for (uint32_t flags = 0; flags <= SENDQ_THREADSAFE; flags++) {
        little(flags);
        deep(flags);
    }
    for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
        grows(chunks[i]);
    }
    splices();
    shares();
    return 0;
}
