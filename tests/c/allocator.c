/* The host's allocator: every block comes from it and goes back to it, with its own size, also when
 * it has gone to a queue of another pool. An allocator that fails refuses the append, and nothing
 * has changed. */
#include "simulated.h"

static unsigned char bytes[1 << 20];

/* An arena that counts, and that fails or misplaces at random. */
typedef struct {
    uint64_t live_bytes;
    uint64_t live_blocks;
    uint64_t calls;
    uint64_t failures;
    uint64_t rnd;
    unsigned fails;      /* one in so many; 0: none */
    unsigned misaligned; /* likewise */
} arena;

enum { FRONT = 32 }; /* room for the size, and for a misplaced block */

static void* arena_alloc(void* arg, size_t size) {
    arena* a = arg;
    a->calls++;
    if (a->fails > 0 && random_next(&a->rnd) % a->fails == 0) {
        a->failures++;
        return NULL;
    }
    unsigned char* memory = malloc(FRONT + size);
    CHECK(memory != NULL);
    memcpy(memory, &size, sizeof size);
    a->live_bytes += size;
    a->live_blocks++;
    if (a->misaligned > 0 && random_next(&a->rnd) % a->misaligned == 0) {
        a->failures++;
        return memory + FRONT - 4;
    }
    return memory + FRONT;
}

static void arena_dealloc(void* arg, void* block, size_t size) {
    arena* a = arg;
    unsigned char* memory = block;
    size_t allocated;
    memory -= (uintptr_t)block % 16 == 0 ? FRONT : FRONT - 4;
    memcpy(&allocated, memory, sizeof allocated);
    CHECK_IS(size, allocated);
    CHECK(a->live_blocks > 0);
    a->live_bytes -= size;
    a->live_blocks--;
    free(memory);
}

static sendq_pool_t* pool_of(arena* a, sendq_pool_config_t config) {
    config.alloc = arena_alloc;
    config.dealloc = arena_dealloc;
    config.alloc_arg = a;
    return new_simulated(config);
}

/* Both or none. */
static void half(void) {
    sendq_pool_t* pool = (sendq_pool_t*)bytes;
    sendq_pool_config_t config = {.size = sizeof config, .alloc = arena_alloc};
    CHECK_IS(sendq_pool_new(&config, &pool), -EINVAL);
    CHECK(pool == NULL);
    config = (sendq_pool_config_t){.size = sizeof config, .dealloc = arena_dealloc};
    CHECK_IS(sendq_pool_new(&config, &pool), -EINVAL);
    config = (sendq_pool_config_t){.size = sizeof config, .alloc_arg = bytes};
    CHECK_IS(sendq_pool_new(&config, &pool), 0);
    sendq_pool_free(pool);
}

static void check_counts(const sendq_pool_t* pool, const arena* a) {
    sendq_pool_stats_t s = pool_figures(pool);
    CHECK_IS(s.used + s.free, a->live_bytes);
}

/* One append, of a kind and length; returns the result of sendq. */
static int append(sendq_t* q, unsigned kind, size_t len) {
    void* memory;
    struct iovec two[] = {{bytes, len / 3}, {bytes, len - len / 3}};
    int result;
    switch (kind) {
        case 0:
            return sendq_append(q, bytes, len);
        case 1:
            return sendq_appendv(q, two, 2);
        case 2:
            return sendq_append_ref(q, bytes, len, NULL, NULL);
        case 3:
            return sendq_notify(q, piece_release, &(piece){0}); /* released before it is gone */
        default:
            result = sendq_reserve(q, len, &memory);
            if (result < 0) {
                CHECK(memory == NULL);
                return result;
            }
            memset(memory, 1, len);
            return sendq_commit(q, len);
    }
}

/* At random; what fails has changed nothing. */
static void at_random(arena a, uint32_t flags, uint64_t chunk_bytes, uint64_t keep_bytes) {
    sendq_pool_config_t config = {
        .flags = flags, .chunk_bytes = chunk_bytes, .keep_bytes = keep_bytes};
    sendq_pool_t* pool = pool_of(&a, config);
    sendq_t* q = new_borrower(pool, 1);
    uint64_t refused = 0;
    for (int i = 0; i < 20000; i++) {
        size_t len = random_up_to(&a.rnd, random_next(&a.rnd) % 4 ? 500 : 50000);
        unsigned kind = (unsigned)(random_next(&a.rnd) % 5);
        uint64_t waiting = sendq_queued_bytes(q);
        uint64_t failures = a.failures;
        if (kind == 3 && waiting > 0) {
            kind = 0;
        }
        int result = append(q, kind, len);
        if (result < 0) {
            CHECK_IS(result, -ENOMEM);
            CHECK(a.failures > failures);
            CHECK_IS(sendq_queued_bytes(q), waiting);
            refused++;
        } else {
            CHECK(a.failures == failures);
        }
        check_counts(pool, &a);
        figures(q);
        if (random_next(&a.rnd) % 3 == 0) {
            CHECK(sendq_consume(q, random_next(&a.rnd) % (sendq_queued_bytes(q) + 1)) >= 0);
        }
    }
    CHECK(a.calls > 0);
    CHECK((refused > 100) == (a.fails + a.misaligned > 0));
    sendq_free(q);
    check_counts(pool, &a);
    sendq_pool_free(pool);
    CHECK_IS(a.live_blocks, 0);
}

/* A record for TLS comes from it, too. */
static int64_t take_some(void* arg, const void* data, size_t len) {
    (void)data;
    return *(int*)arg ? -EAGAIN : (int64_t)len;
}

static void records(void) {
    arena a = {.rnd = 3};
    sendq_pool_t* pool = pool_of(&a, (sendq_pool_config_t){.keep_bytes = 1});
    sendq_t* q = new_borrower(pool, 1);
    int full = 1;
    for (int i = 0; i < 10; i++) {
        CHECK(sendq_append(q, bytes, 100) >= 0);
        CHECK(sendq_append_ref(q, bytes, 100, NULL, NULL) >= 0);
    }
    uint64_t before = a.live_bytes;
    CHECK_IS(sendq_flush_with(q, take_some, &full, 0), SENDQ_BLOCKED);
    CHECK(a.live_bytes > before);
    check_counts(pool, &a);
    full = 0;
    CHECK_IS(sendq_flush_with(q, take_some, &full, 0), 0);
    CHECK_IS(a.live_blocks, 0);
    sendq_free(q);
    sendq_pool_free(pool);
}

/* Blocks that outlive their pool in a queue of another, which does not keep them. */
static void outlives(arena* other, bool to_arena) {
    arena a = {.rnd = 5};
    sendq_pool_t* from_pool = pool_of(&a, (sendq_pool_config_t){0});
    sendq_pool_t* to_pool = to_arena ? pool_of(other, (sendq_pool_config_t){0}) : NULL;
    sendq_t* from = new_borrower(from_pool, 1);
    sendq_t* to = new_borrower(to_pool, 1);
    stream_fill(bytes, 0, 30000);
    CHECK(sendq_append(from, bytes, 10000) >= 0);
    CHECK(sendq_append_ref(from, bytes + 10000, 10000, NULL, NULL) >= 0);
    CHECK(sendq_append(from, bytes + 20000, 10000) >= 0);
    CHECK(sendq_splice(to, from) >= 0);
    sendq_free(from);
    sendq_pool_free(from_pool);
    CHECK(a.live_blocks > 0);
    check_delivers(to, 0);
    CHECK_IS(a.live_blocks, 0);
    /* What came from elsewhere is not used for what comes next, nor the other way round. */
    CHECK(sendq_append(to, bytes, 5000) >= 0);
    CHECK_IS(a.live_blocks, 0);
    CHECK(!to_arena || other->live_blocks > 0);
    sendq_free(to);
    sendq_pool_free(to_pool);
}

int main(void) {
    half();
    static const uint64_t chunks[] = {256, 1000, 4096, 65536};
    for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
        for (uint32_t flags = 0; flags <= SENDQ_THREADSAFE; flags++) {
            at_random((arena){.rnd = 11}, flags, chunks[i], 0);
            at_random((arena){.rnd = 12, .fails = 5}, flags, chunks[i], 1);
            at_random((arena){.rnd = 13, .misaligned = 5}, flags, chunks[i], 1);
            at_random((arena){.rnd = 14, .fails = 3, .misaligned = 3}, flags, chunks[i], 1);
        }
    }
    records();
    arena other = {.rnd = 6};
    outlives(&other, false);
    outlives(&other, true);
    CHECK_IS(other.live_blocks, 0);
    return 0;
}
