/* What the process really holds: after a burst the memory is back with the system, whatever lies
 * between; and a steady load, once it is warm, costs no page faults. */
#include <sys/resource.h>

#include "simulated.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)

int main(void) {
    return 77; /* the sanitizer's own memory comes and goes with it */
}

#else

enum { QUEUES = 1000, EACH = 256 << 10, KIB = 1024 };

static unsigned char bytes[1 << 20];

/* Kernels count in batches per processor: some dozens of pages may be missing or too many. */
enum { SLACK = 512 * KIB };

static uint64_t resident(void) {
    unsigned long all;
    unsigned long pages;
    FILE* statm = fopen("/proc/self/statm", "re");
    CHECK(statm != NULL);
    CHECK_IS(fscanf(statm, "%lu %lu", &all, &pages), 2); /* NOLINT(cert-err34-c) */
    CHECK_IS(fclose(statm), 0);
    return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t page_faults(void) {
    struct rusage usage;
    CHECK_IS(getrusage(RUSAGE_SELF, &usage), 0);
    return (uint64_t)usage.ru_minflt;
}

/* What may be between the blocks, and stay. */
typedef struct {
    const char* name;
    uint64_t chunk_bytes;
    uint64_t keep_bytes;
    size_t step;     /* bytes of an append */
    size_t stays;    /* bytes that are left waiting in each queue */
    bool in_turn;    /* one queue after the other; or a step of each by turns */
    bool mallocs;    /* a small allocation for each step */
    bool other_pool; /* a block of another pool for each 16 steps */
    uint32_t flags;
} burst;

enum { MALLOCS = QUEUES * 32, OTHERS = MALLOCS / 16, SMALL_BYTES = 80, QUEUE_BYTES = 192 };

static sendq_t* queues[QUEUES];
static sendq_t* others[OTHERS];
static void* small[MALLOCS];

/* One step of the load of queue i; number of the step. */
static void load(const burst* b, sendq_pool_t* other, int i, size_t step) {
    CHECK(sendq_append(queues[i], bytes, b->step) >= 0);
    if (step >= MALLOCS) {
        return;
    }
    if (b->mallocs) {
        small[step] = malloc(64);
        CHECK(small[step] != NULL);
    }
    if (b->other_pool && step % 16 == 0) {
        others[step / 16] = new_borrower(other, 1);
        CHECK(sendq_append(others[step / 16], bytes, 10) >= 0);
    }
}

static void back_to_the_system(const burst* b) {
    sendq_pool_config_t config = {
        .chunk_bytes = b->chunk_bytes, .keep_bytes = b->keep_bytes, .flags = b->flags};
    sendq_pool_t* pool = new_simulated(config);
    sendq_pool_t* other = new_simulated(config);
    size_t steps = EACH / b->step;
    for (int i = 0; i < QUEUES; i++) {
        queues[i] = new_borrower(pool, 1);
    }
    memset(small, 0, sizeof small);
    memset(others, 0, sizeof others);
    uint64_t before = resident();
    size_t step = 0;
    for (size_t outer = 0; outer < (b->in_turn ? QUEUES : steps); outer++) {
        for (size_t inner = 0; inner < (b->in_turn ? steps : QUEUES); inner++) {
            load(b, other, (int)(b->in_turn ? outer : inner), step++);
        }
    }
    uint64_t full = resident();
    CHECK(full - before > (uint64_t)QUEUES * EACH);
    for (int i = 0; i < QUEUES; i++) {
        CHECK(sendq_consume(queues[i], EACH - b->stays) >= 0);
    }
    uint64_t after = resident();
    sendq_pool_stats_t of_pool = pool_figures(pool);
    sendq_pool_stats_t of_other = pool_figures(other);
    uint64_t held = of_pool.used + of_pool.free + of_other.used + of_other.free;
    uint64_t between = 0;
    between += b->mallocs ? MALLOCS * SMALL_BYTES : 0;
    between += b->other_pool ? OTHERS * QUEUE_BYTES : 0;
    printf("%-34s before %6lu, full %6lu, after %6lu, held %6lu KiB\n", b->name,
           (unsigned long)before / KIB, (unsigned long)full / KIB, (unsigned long)after / KIB,
           (unsigned long)held / KIB);
    CHECK(of_pool.waiting == QUEUES * b->stays);
    /* What is queued takes a block per queue, and beside each such block one may be free. */
    CHECK(after <= before + before / 10 + 2 * held + between + SLACK);
    for (int i = 0; i < QUEUES; i++) {
        sendq_free(queues[i]);
    }
    for (size_t i = 0; i < OTHERS; i++) {
        sendq_free(others[i]);
    }
    for (size_t i = 0; i < MALLOCS; i++) {
        free(small[i]);
    }
    sendq_pool_free(pool);
    sendq_pool_free(other);
    CHECK(resident() <= before + before / 10 + between + SLACK);
}

/* A load that stays below what is kept. */
typedef struct {
    sendq_pool_config_t config;
    size_t each;        /* bytes, copied, borrowed and shared */
    size_t reserves[2]; /* bytes that the first two queues reserve */
    int queues;
} steady;

enum { MOST = 16 };

static void reserve_and_commit(sendq_t* q, size_t len) {
    void* memory;
    if (len > 0) {
        CHECK_IS(sendq_reserve(q, len, &memory), 0);
        memset(memory, 1, len);
        CHECK(sendq_commit(q, len) >= 0);
    }
}

/* One round; every byte of it leaves. */
static void steady_round(const steady* s, sendq_t** q, sendq_buf_t* buf) {
    for (int i = 0; i < s->queues; i++) {
        CHECK(sendq_append(q[i], bytes, 24) >= 0);
        CHECK(sendq_append(q[i], bytes, s->each) >= 0);
        CHECK(sendq_append_ref(q[i], bytes, s->each, NULL, NULL) >= 0);
        CHECK(sendq_append_buf(q[i], buf, 0, s->each) >= 0);
        reserve_and_commit(q[i], i < 2 ? s->reserves[i] : 0);
    }
    for (int i = 0; i < s->queues; i++) {
        CHECK(sendq_consume(q[i], sendq_queued_bytes(q[i]) / 2) >= 0);
        CHECK(sendq_consume(q[i], sendq_queued_bytes(q[i])) >= 0);
    }
}

static void no_page_faults(const steady* s) {
    enum { WARM = 20, ROUNDS = 500 };
    sendq_pool_t* pool = new_simulated(s->config);
    sendq_t* q[MOST] = {NULL};
    sendq_buf_t* buf;
    CHECK(s->queues <= MOST);
    CHECK_IS(sendq_buf_wrap(pool, bytes, sizeof bytes, NULL, NULL, &buf), 0);
    for (int i = 0; i < s->queues; i++) {
        q[i] = new_borrower(pool, 1);
    }
    uint64_t warm = 0;
    for (int i = 0; i < WARM + ROUNDS; i++) {
        if (i == WARM) {
            warm = page_faults();
        }
        steady_round(s, q, buf);
    }
    uint64_t faults = page_faults() - warm;
    printf("%2d queues, %6zu bytes each, %6zu and %6zu reserved: %lu page faults in %d rounds\n",
           s->queues, s->each, s->reserves[0], s->reserves[1], (unsigned long)faults, ROUNDS);
    CHECK(faults <= 8); /* of the C library's or the stack's, if any */
    for (int i = 0; i < s->queues; i++) {
        sendq_free(q[i]);
    }
    sendq_buf_unref(buf);
    sendq_pool_free(pool);
}

/* Also after a burst, when the load grows again. */
static void no_page_faults_after_a_burst(void) {
    sendq_pool_t* pool = new_simulated((sendq_pool_config_t){0});
    sendq_t* q = new_borrower(pool, 1);
    for (int i = 0; i < 100; i++) {
        CHECK(sendq_append(q, bytes, sizeof bytes) >= 0); /* 100 MiB */
    }
    CHECK(sendq_consume(q, sendq_queued_bytes(q)) >= 0);
    uint64_t warm = 0;
    for (int i = 0; i < 1000; i++) {
        if (i == 20) {
            warm = page_faults();
        }
        for (int j = 0; j < 3; j++) {
            CHECK(sendq_append(q, bytes, sizeof bytes) >= 0); /* 3 MiB of the 4 that are kept */
        }
        CHECK(sendq_consume(q, sendq_queued_bytes(q)) >= 0);
    }
    uint64_t faults = page_faults() - warm;
    printf("after a burst: %lu page faults\n", (unsigned long)faults);
    CHECK(faults <= 8);
    sendq_free(q);
    sendq_pool_free(pool);
}

/* Many clients with little waiting each, on which other small memory follows: what they hold while
 * it waits, the handles included, and what is left of it when it has gone. */
enum { CLIENTS = 5000, MANY = 100000, LITTLE = 124 };

/* Every so many of them, none if 0, do not read. Each of these keeps its page
 * and that of its slab at most. */
static void little_each(size_t clients, bool mallocs, size_t stuck, uint64_t most_full) {
    static sendq_t* q[MANY];
    static void* between[MANY];
    sendq_pool_t* pool = new_simulated((sendq_pool_config_t){0});
    memset(q, 0, sizeof q);
    memset(between, 0, sizeof between);
    uint64_t start = resident();
    for (size_t i = 0; i < clients; i++) {
        q[i] = new_borrower(pool, 1);
    }
    uint64_t before = resident();
    for (size_t i = 0; i < clients; i++) {
        CHECK(sendq_append(q[i], bytes, LITTLE) >= 0);
        between[i] = mallocs ? malloc(64) : NULL;
    }
    uint64_t full = resident();
    uint64_t stay = 0;
    for (size_t i = 0; i < clients; i++) {
        if (stuck > 0 && i % stuck == 0) {
            stay += 8 * (uint64_t)KIB;
        } else {
            CHECK(sendq_consume(q[i], LITTLE) >= 0);
        }
    }
    uint64_t after = resident();
    sendq_pool_stats_t s = pool_figures(pool);
    printf("%6zu x %d bytes: handles %lu, full %lu, after %lu, held %lu KiB\n", clients, LITTLE,
           (unsigned long)(before - start) / KIB, (unsigned long)(full - start) / KIB,
           (unsigned long)(after - start) / KIB, (unsigned long)(s.used + s.free) / KIB);
    CHECK(full - start <= most_full);
    CHECK(after <= before + s.free + stay + (mallocs ? clients * SMALL_BYTES : 0) + SLACK);
    for (size_t i = 0; i < clients; i++) {
        sendq_free(q[i]);
        free(between[i]);
    }
    sendq_pool_free(pool);
}

static const burst bursts[] = {
    {.name = "in one piece", .step = EACH, .in_turn = true},
    {.name = "in steps", .step = 8192, .in_turn = true},
    {.name = "in steps, by turns", .step = 8192},
    {.name = "thread-safe", .step = 8192, .flags = SENDQ_THREADSAFE},
    {.name = "none kept", .step = 8192, .keep_bytes = 1},
    {.name = "small mallocs between", .step = 8192, .mallocs = true},
    {.name = "small mallocs, in turn", .step = 8192, .mallocs = true, .in_turn = true},
    {.name = "another pool between", .step = 8192, .other_pool = true},
    {.name = "another pool, in turn", .step = 8192, .other_pool = true, .in_turn = true},
    {.name = "a byte stays", .step = 8192, .stays = 1},
    {.name = "a byte stays, in turn", .step = 8192, .stays = 1, .in_turn = true},
    {.name = "a byte stays, all between",
     .step = 8192,
     .stays = 1,
     .mallocs = true,
     .other_pool = true},
    {.name = "chunks of 16 KiB", .step = 8192, .chunk_bytes = 16384},
    {.name = "chunks of 64 KiB, a byte stays", .step = 8192, .chunk_bytes = 65536, .stays = 1},
    {.name = "chunks of 256 KiB", .step = 8192, .chunk_bytes = 256 * KIB},
};

static const steady loads[] = {
    {.queues = 1, .each = 100},
    {.queues = 1, .each = 100, .reserves = {100 * KIB}},
    {.queues = 8, .each = 256 * KIB},
    {.queues = 8, .each = 256 * KIB, .reserves = {100 * KIB}},
    {{.flags = SENDQ_THREADSAFE}, .queues = 8, .each = 256 * KIB, .reserves = {100 * KIB}},
    {{.keep_bytes = 256 * KIB}, .queues = 4, .each = 30 * KIB},
    {{.keep_bytes = 512 * KIB}, .queues = 4, .each = 30 * KIB, .reserves = {100 * KIB}},
    {{.chunk_bytes = 65536}, .queues = 8, .each = 256 * KIB, .reserves = {100 * KIB}},
    {.queues = 2, .each = 100, .reserves = {100 * KIB, 100 * KIB}},
    {.queues = 2, .each = 100, .reserves = {100 * KIB, 20 * KIB}},
};

int main(void) {
    const char* preload = getenv("LD_PRELOAD");
    if (preload != NULL && strstr(preload, "vgpreload") != NULL) {
        return 77; /* valgrind's memory comes and goes with it */
    }
    memset(bytes, 1, sizeof bytes);
    little_each(CLIENTS, false, 0, 3200 * KIB);
    for (size_t i = 0; i < sizeof loads / sizeof *loads; i++) {
        no_page_faults(&loads[i]);
    }
    no_page_faults_after_a_burst();
    for (size_t i = 0; i < sizeof bursts / sizeof *bursts; i++) {
        back_to_the_system(&bursts[i]);
    }
    little_each(MANY, false, 0, MANY * 640ULL);
    little_each(MANY, false, 200, MANY * 640ULL);
    little_each(MANY, true, 0, MANY * (640ULL + SMALL_BYTES));
    return 0;
}

#endif
