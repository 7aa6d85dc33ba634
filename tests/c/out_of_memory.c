/* The heap: every allocation that can fail does, in every operation; and how little is held when
 * nothing waits.
 *
 * The allocator's functions, and mmap, are defined here, in front of the C library's, so that those
 * of libsendq.so are caught too. */
#include <malloc.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "pieces.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__GLIBC__)

int main(void) {
    return 77; /* the allocator is the sanitizer's, or not that of glibc */
}

#else

void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* old, size_t size);
void* __libc_memalign(size_t alignment, size_t size);
void __libc_free(void* memory);

/* An idle queue takes 256 bytes, and 16 of them are of the table of its pool, which grows by 256
 * places. A debug build takes more, because it also keeps which thread is in a call. */
#ifdef NDEBUG
enum { IDLE = 240 };
#else
enum { IDLE = 256 };
#endif
enum { BLOCK_HEADER = 8, RARE = 500, PLACE = 16, PLACES = 256 };

static uint64_t live_bytes;  /* what the allocator takes for all that is allocated */
static uint64_t allocations; /* in total */
static uint64_t fail_at;     /* fails when `allocations` gets there; 0: never */
static bool failed;

static void count(void* memory, bool allocated) {
    if (memory != NULL) {
        uint64_t size = malloc_usable_size(memory) + BLOCK_HEADER;
        live_bytes += allocated ? size : -size;
    }
}

static bool fails(void) {
    allocations++;
    if (fail_at == 0 || allocations != fail_at) {
        return false;
    }
    failed = true;
    errno = ENOMEM;
    return true;
}

void* malloc(size_t size) {
    void* memory = fails() ? NULL : __libc_malloc(size);
    count(memory, true);
    return memory;
}

void* calloc(size_t number, size_t size) {
    void* memory = fails() ? NULL : __libc_calloc(number, size);
    count(memory, true);
    return memory;
}

void* realloc(void* old, size_t size) {
    if (fails()) {
        return NULL;
    }
    count(old, false);
    void* memory = __libc_realloc(old, size);
    count(memory != NULL ? memory : old, true);
    return memory;
}

/* What is mapped is not counted as live: pages without memory behind them may stay mapped. */
void* mmap(void* at, size_t size, int protection, int flags, int fd, off_t offset) {
    if (fails()) {
        return MAP_FAILED;
    }
    return (void*)syscall(SYS_mmap, at, size, protection, flags, fd, offset);
}

void* aligned_alloc(size_t alignment, size_t size) {
    void* memory = fails() ? NULL : __libc_memalign(alignment, size);
    count(memory, true);
    return memory;
}

int posix_memalign(void** out, size_t alignment, size_t size) {
    void* memory = aligned_alloc(alignment, size);
    if (memory == NULL) {
        return ENOMEM;
    }
    *out = memory;
    return 0;
}

void free(void* memory) {
    int saved = errno;
    count(memory, false);
    __libc_free(memory);
    errno = saved;
}

static unsigned char bytes[1 << 20];

static uint64_t from;    /* where in the test stream an operation goes on */
static piece borrowed;   /* what it borrows */
static sendq_buf_t* buf; /* what it shares: the test stream */
static int file;         /* holds the test stream, too */

/* An operation that allocates; returns what sendq returned. */
typedef int (*operation)(sendq_t* q);

static int append_small(sendq_t* q) {
    return sendq_append(q, bytes + from, 10);
}

static int append_large(sendq_t* q) {
    return sendq_append(q, bytes + from, 10000);
}

static int append_vector(sendq_t* q) {
    struct iovec iov[10];
    for (size_t i = 0; i < 10; i++) {
        iov[i] = (struct iovec){bytes + from + i * 700, 700};
    }
    return sendq_appendv(q, iov, 10);
}

static int reserve(sendq_t* q, size_t len) {
    void* memory = bytes;
    int result = sendq_reserve(q, len, &memory);
    if (result < 0) {
        CHECK(memory == NULL);
        return result;
    }
    stream_fill(memory, from, len);
    return sendq_commit(q, len);
}

static int reserve_small(sendq_t* q) {
    return reserve(q, 10);
}

static int reserve_large(sendq_t* q) {
    return reserve(q, 20000);
}

static int borrow(sendq_t* q) {
    return piece_append(q, &borrowed, bytes + from, 10000);
}

static int borrow_little(sendq_t* q) {
    return piece_append(q, &borrowed, bytes + from, 40); /* copied */
}

static int share(sendq_t* q) {
    return sendq_append_buf(q, buf, from, 10000);
}

static int send_file(sendq_t* q) {
    return piece_append_file(q, &borrowed, file, from, 10000);
}

static int notify(sendq_t* q) {
    return piece_notify(q, &borrowed);
}

/* Two appends that are held back: both or none. */
static int corked(sendq_t* q) {
    int cork = sendq_cork(q);
    if (cork < 0) {
        return cork;
    }
    int first = piece_append(q, &borrowed, bytes + from, 500);
    if (first < 0) {
        CHECK_IS(sendq_rollback(q), 0);
        return first;
    }
    int second = sendq_append(q, bytes + from + 500, 5000);
    CHECK_IS(borrowed.times, 0);
    if (second < 0) {
        CHECK_IS(sendq_rollback(q), 0);
        CHECK_IS(borrowed.reason, -ECANCELED);
        borrowed.times--;
        return second;
    }
    CHECK(sendq_uncork(q) >= 0);
    return second;
}

/* Its release says how many bytes were sent. */
static int message(sendq_t* q) {
    borrowed = (piece){.len = 5524};
    sendq_part_t parts[] = {
        sendq_part_copy(bytes + from, 24),
        sendq_part_ref(bytes + from + 24, 500),
        sendq_part_copy(bytes + from + 524, 5000),
    };
    return sendq_append_message(q, parts, 3, piece_release, &borrowed);
}

static int with_hole(sendq_t* q) {
    sendq_hole_t hole;
    int result = sendq_hole(q, 30, &hole);
    if (result < 0) {
        CHECK_IS(hole.id, 0);
        return result;
    }
    result = sendq_append(q, bytes + from + 20, 5000);
    CHECK(sendq_fill(q, hole, bytes + from, result < 0 ? 0 : 20) >= 0);
    return result;
}

/* What was borrowed is released after the operation's bytes have left, if it was accepted. */
static void check_borrowed(operation run, bool accepted) {
    bool borrows = run == borrow || run == borrow_little || run == send_file || run == notify ||
                   run == corked || run == message;
    CHECK_IS(borrowed.times, accepted && borrows);
}

/* A queue that borrows what is as long as 100 bytes, and counts messages. */
static sendq_t* new_messenger(sendq_pool_t* pool) {
    sendq_config_t config = {.size = sizeof config, .flags = SENDQ_MESSAGES, .copy_below = 100};
    return new_queue(pool, &config);
}

static void* allocate(void* arg, size_t size) {
    (void)arg;
    return malloc(size);
}

static void deallocate(void* arg, void* block, size_t size) {
    (void)arg, (void)size;
    free(block);
}

/* A pool of which every block is an allocation that can fail. */
static sendq_pool_t* new_allocating(sendq_pool_config_t config) {
    config.alloc = allocate;
    config.dealloc = deallocate;
    return new_pool(config);
}

/* A queue that holds pages until the next one has to be mapped. */
static sendq_t* new_hog(void) {
    enum { PAGE = 4096, HEADER = 56, SLAB_PAGES = 255 };
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){.chunk_bytes = PAGE, .keep_bytes = 1});
    sendq_t* q = new_borrower(pool, 1);
    sendq_pool_free(pool);
    uint64_t before;
    do { /* until some are mapped */
        before = allocations;
        CHECK(sendq_append(q, bytes, PAGE - HEADER) >= 0);
    } while (before == allocations);
    before = allocations;
    for (int i = 1; i < SLAB_PAGES; i++) {
        CHECK(sendq_append(q, bytes, PAGE - HEADER) >= 0);
    }
    CHECK_IS(allocations, before);
    return q;
}

/* Runs the operation with its first, second, ... allocation failing until none is left to fail,
 * on a queue of `waiting` bytes, with blocks that are allocated or mapped, and cached in
 * the pool or not. */
static void fail_each(operation run, size_t waiting, uint64_t chunk_bytes, uint64_t keep_bytes) {
    sendq_pool_config_t config = {.chunk_bytes = chunk_bytes, .keep_bytes = keep_bytes};
    bool maps = chunk_bytes == 4096;
    sendq_pool_t* pool = maps ? new_pool(config) : new_allocating(config);
    sendq_t* hog = maps ? new_hog() : NULL;
    for (uint64_t nth = 1;; nth++) {
        sendq_t* q = new_messenger(pool);
        from = waiting;
        borrowed = (piece){0};
        CHECK_IS(sendq_append(q, bytes, waiting), waiting ? SENDQ_WAKE : 0);
        uint64_t live_before = live_bytes;
        failed = false;
        fail_at = allocations + nth;
        int result = run(q);
        fail_at = 0;
        if (failed) {
            CHECK_IS(result, -ENOMEM);
            CHECK_IS(sendq_queued_bytes(q), waiting);
            CHECK_IS(sendq_error(q), 0);
            CHECK_IS(borrowed.times, 0);
            /* What is counted of files, corks, holes and boundaries have a place of their own,
             * which stays once it is there. */
            bool is_plain = run != send_file && run != corked && run != with_hole && run != message;
            uint64_t stays = is_plain ? 0 : RARE;
            /* The block of a hole that was filled with nothing is the last one, which goes on. */
            CHECK(keep_bytes > 1 || run == with_hole || live_bytes - live_before <= stays);
        } else {
            CHECK(result >= 0);
            CHECK(run == notify || sendq_queued_bytes(q) > waiting);
        }
        check_delivers(q, 0);
        check_usable(q);
        check_borrowed(run, !failed);
        sendq_free(q);
        if (!failed) {
            break;
        }
        CHECK(nth < 1000);
    }
    sendq_free(hog);
    sendq_pool_free(pool);
}

/* The same with a pool whose budget is more each time, until it is enough. */
static void spend_each(operation run, size_t waiting) {
    int result = -ENOBUFS;
    for (uint64_t budget = 1400; result < 0; budget += 300) {
        sendq_pool_t* pool =
            new_pool((sendq_pool_config_t){.chunk_bytes = 56 + 1024, .max_bytes = budget});
        sendq_t* q = new_borrower(pool, 100);
        from = waiting;
        borrowed = (piece){0};
        CHECK_IS(sendq_append(q, bytes, waiting), waiting ? SENDQ_WAKE : 0);
        uint64_t before = allocations;
        result = run(q);
        if (result < 0) {
            CHECK_IS(result, -ENOBUFS);
            CHECK_IS(sendq_queued_bytes(q), waiting);
            CHECK_IS(borrowed.times, 0);
            CHECK(allocations - before < 100);
        }
        check_delivers(q, 0);
        check_usable(q);
        check_borrowed(run, result >= 0);
        sendq_free(q);
        sendq_pool_free(pool);
        CHECK(budget < 100000);
    }
}

static void appends_fail(void) {
    static const operation operations[] = {
        append_small, append_large,  append_vector, reserve_small, reserve_large,
        borrow,       borrow_little, share,         send_file,     notify,
        corked,       message,       with_hole};
    static const size_t waiting[] = {0, 100, 1000}; /* with room behind it, and with too little */
    uint64_t live_before = live_bytes;
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
        for (size_t j = 0; j < sizeof waiting / sizeof *waiting; j++) {
            static const uint64_t chunk_bytes[] = {56 + 1024, 4096, 8192};
            for (size_t k = 0; k < sizeof chunk_bytes / sizeof *chunk_bytes; k++) {
                fail_each(operations[i], waiting[j], chunk_bytes[k], 1);
                fail_each(operations[i], waiting[j], chunk_bytes[k], 8192);
            }
            spend_each(operations[i], waiting[j]);
        }
    }
    CHECK_IS(live_bytes, live_before);
}

/* Ten messages of a header and a borrowed body; 100 bytes of the first have left. */
static sendq_t* new_sender(sendq_pool_t* pool) {
    sendq_t* q = new_messenger(pool);
    for (size_t at = 0; at < 5240; at += 524) {
        sendq_part_t parts[] = {sendq_part_copy(bytes + at, 24),
                                sendq_part_ref(bytes + at + 24, 500)};
        CHECK(sendq_append_message(q, parts, 2, NULL, NULL) >= 0);
    }
    CHECK_IS(sendq_consume(q, 100), 0);
    return q;
}

/* A queue that cannot be divided stays as it is. */
static void splits_fail(void) {
    sendq_pool_t* pool =
        new_allocating((sendq_pool_config_t){.chunk_bytes = 56 + 1024, .keep_bytes = 1});
    for (int what = 0; what < 2; what++) {
        int result = -ENOMEM;
        for (uint64_t nth = 1; result < 0; nth++) {
            sendq_t *q = new_sender(pool), *to = new_messenger(pool);
            fail_at = allocations + nth;
            result = what == 0 ? sendq_discard_unstarted(q) : sendq_splice_n(to, q, 2000);
            fail_at = 0;
            if (result < 0) {
                CHECK_IS(result, -ENOMEM);
                CHECK_IS(sendq_queued_bytes(q), 5140);
                CHECK_IS(sendq_queued_messages(q), 10);
                CHECK_IS(sendq_queued_bytes(to), 0);
            }
            CHECK(nth > 1 || result < 0);
            if (what == 1 && result >= 0) {
                check_delivers(to, 100);
                check_delivers(q, 2100);
            } else {
                check_delivers(q, 100);
            }
            sendq_free(q);
            sendq_free(to);
        }
    }
    sendq_pool_free(pool);
}

/* A message of which no byte has left is refused; one that has lost its rest ends the connection.
 */
static void sends_fail(size_t body, int error) {
    sendq_pool_t* pool =
        new_allocating((sendq_pool_config_t){.chunk_bytes = 56 + 1024, .keep_bytes = 1});
    int result = -ENOMEM;
    for (uint64_t nth = 1; result < 0; nth++) {
        ends e = ends_unix();
        ends_least_buffer(e);
        sendq_t* q = new_messenger(pool);
        borrowed = (piece){.len = body};
        sendq_part_t part = sendq_part_ref(bytes, body);
        fail_at = allocations + nth;
        result = sendq_send(q, e.queue, &part, 1, piece_release, &borrowed, 0);
        fail_at = 0;
        CHECK(result >= 0 || result == -ENOMEM);
        CHECK(result >= 0 || borrowed.times == 0);
        CHECK_IS(sendq_error(q), result < 0 ? error : 0);
        borrowed.len = (size_t)sendq_sent_bytes(q);
        CHECK(nth < 100);
        sendq_free(q);
        CHECK(result < 0 || borrowed.times == 1);
        ends_close(e);
    }
    sendq_pool_free(pool);
}

static void handles_fail(void) {
    uint64_t live_before = live_bytes;
    sendq_pool_t* pool = (sendq_pool_t*)bytes;
    sendq_t* q = (sendq_t*)bytes;
    fail_at = allocations + 1;
    CHECK_IS(sendq_pool_new(NULL, &pool), -ENOMEM);
    CHECK(pool == NULL);
    fail_at = allocations + 1;
    CHECK_IS(sendq_new(NULL, NULL, &q), -ENOMEM);
    CHECK(q == NULL);
    fail_at = 0;

    CHECK_IS(sendq_pool_new(NULL, &pool), 0);
    fail_at = allocations + 1;
    CHECK_IS(sendq_new(pool, NULL, &q), -ENOMEM);
    CHECK(q == NULL);
    fail_at = 0;

    int result = -ENOMEM;
    for (uint64_t nth = 1; result < 0; nth++) {
        sendq_buf_t* copy = (sendq_buf_t*)bytes;
        fail_at = allocations + nth;
        result = sendq_buf_copy(pool, bytes, 1000, &copy);
        fail_at = 0;
        CHECK(result == 0 || result == -ENOMEM);
        CHECK(nth > 1 || result < 0); /* it takes one at least */
        CHECK((result == 0) == (copy != NULL));
        sendq_buf_unref(copy);
    }
    sendq_buf_t* wrapped = (sendq_buf_t*)bytes;
    borrowed = (piece){0};
    fail_at = allocations + 1;
    CHECK_IS(sendq_buf_wrap(pool, bytes, 1000, piece_release, &borrowed, &wrapped), -ENOMEM);
    fail_at = 0;
    CHECK(wrapped == NULL);
    CHECK_IS(borrowed.times, 0);
    sendq_pool_free(pool);
    CHECK_IS(live_bytes, live_before);
}

/* What is not an append, and takes memory when it is first asked for. */

static int set_rate(sendq_t* q) {
    return sendq_set_rate(q, 1000, 10);
}

static int set_min_rate(sendq_t* q) {
    return sendq_set_min_rate(q, 1000, 1000000000);
}

static int set_low(sendq_t* q) {
    return sendq_set_watermarks(q, 1, 10, 20);
}

static int close_within(sendq_t* q) {
    return sendq_close_within(q, UINT64_MAX);
}

/* On failure nothing has changed; the second time it succeeds. */
static void setting_fails(operation set) {
    uint64_t live_before = live_bytes;
    for (size_t waiting = 0; waiting <= 15; waiting += 15) {
        sendq_t* q = new_borrower(NULL, 100);
        CHECK_IS(sendq_append(q, bytes, waiting), waiting ? SENDQ_WAKE : 0);
        uint64_t before = allocations;
        fail_at = allocations + 1;
        failed = false;
        int result = set(q);
        fail_at = 0;
        if (set == close_within && waiting == 0) {
            CHECK_IS(result, 0); /* it needs no time */
            CHECK_IS(allocations, before);
            sendq_free(q);
            continue;
        }
        CHECK(failed);
        CHECK_IS(result, -ENOMEM);
        CHECK_IS(sendq_error(q), 0);
        CHECK_IS(sendq_queued_bytes(q), waiting);
        CHECK_IS(sendq_retry_after_ns(q), waiting ? 0 : SENDQ_NEVER);
        CHECK(sendq_append(q, bytes + waiting, 500) >= 0); /* neither closed, nor limited */
        from = 0;
        check_delivers(q, 0);
        CHECK(sendq_append(q, bytes, waiting) >= 0);
        before = allocations;
        CHECK(set(q) >= 0);
        CHECK_IS(allocations, before + 1);
        CHECK(set(q) >= 0); /* the memory is there now */
        CHECK_IS(allocations, before + 1);
        sendq_free(q);
    }
    CHECK_IS(live_bytes, live_before);
}

static void queue_with_a_low_mark_fails(void) {
    sendq_config_t config = {.size = sizeof config, .low = 1, .high = 10};
    uint64_t live_before = live_bytes;
    int result = -ENOMEM;
    uint64_t nth = 0;
    while (result < 0) {
        sendq_t* q = (sendq_t*)bytes;
        fail_at = allocations + ++nth;
        result = sendq_new(NULL, &config, &q);
        fail_at = 0;
        CHECK(result == 0 || (result == -ENOMEM && q == NULL));
        sendq_free(q);
        CHECK_IS(live_bytes, live_before);
    }
    CHECK_IS(nth, 3); /* two allocations, and then none that fails */
}

/* A queue for which the pool's table has no place and gets none is not made. */
static void table_fails(uint32_t flags) {
    uint64_t live_before = live_bytes;
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){.flags = flags});
    sendq_config_t config = {.size = sizeof config, .flags = flags};
    sendq_t* queues[2 * PLACES + 1];
    int failures = 0;
    for (int i = 0; i < 2 * PLACES + 1; i++) {
        int result = -ENOMEM;
        for (uint64_t nth = 1; result < 0; nth++) {
            uint64_t live = live_bytes;
            fail_at = allocations + nth;
            result = sendq_new(pool, &config, &queues[i]);
            fail_at = 0;
            CHECK(result == 0 || (result == -ENOMEM && queues[i] == NULL));
            CHECK(result == 0 || live_bytes - live <= 96); /* a longer list of tables may stay */
            failures += result < 0;
        }
        CHECK_IS(sendq_append(queues[i], bytes, 1), SENDQ_WAKE);
    }
    CHECK(failures >= 2 * PLACES + 1 + 3); /* each queue, and each of three tables */
    for (int i = 0; i < 2 * PLACES + 1; i++) {
        CHECK(sendq_pool_next(pool) == queues[i]);
    }
    CHECK(sendq_pool_next(pool) == NULL);
    for (int i = 0; i < 2 * PLACES + 1; i++) {
        sendq_free(queues[i]);
    }
    sendq_pool_free(pool);
    CHECK_IS(live_bytes, live_before);
}

static void heaviest_fails(void) {
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){0});
    sendq_t* out[2] = {(sendq_t*)bytes, (sendq_t*)bytes};
    sendq_t* q = new_borrower(pool, 100);
    CHECK(sendq_append(q, bytes, 10) >= 0);
    uint64_t live_before = live_bytes;
    fail_at = allocations + 1;
    CHECK_IS(sendq_pool_heaviest(pool, out, 2), -ENOMEM);
    fail_at = 0;
    CHECK(out[0] == (sendq_t*)bytes);
    CHECK_IS(sendq_pool_heaviest(pool, out, 2), 1);
    CHECK(out[0] == q);
    CHECK_IS(live_bytes, live_before);
    check_delivers(q, 0);
    sendq_free(q);
    sendq_pool_free(pool);
}

/* A count that outgrows 32 bits without memory for more: the rest stays right, and nothing fails.
 */
static void counts_fail(void) {
    sendq_t* q = new_borrower(NULL, 1);
    sendq_stats_t stats;
    CHECK(sendq_append(q, bytes, 1) >= 0);
    for (int i = 0; i < 3; i++) {
        fail_at = allocations + 1;
        CHECK(sendq_append_ref(q, bytes, 3ULL << 30, NULL, NULL) >= 0);
        fail_at = 0;
    }
    CHECK_IS(sendq_stats(q, &stats, sizeof stats), 0);
    CHECK_IS(stats.waiting, 1 + 3 * (3ULL << 30));
    CHECK_IS(stats.copied + stats.borrowed + stats.shared + stats.file,
             stats.sent + stats.discarded + stats.waiting);
    fail_at = allocations + 1;
    CHECK(sendq_consume(q, 5ULL << 30) >= 0);
    fail_at = 0;
    CHECK_IS(sendq_queued_bytes(q), 1 + 3 * (3ULL << 30) - (5ULL << 30));
    CHECK_IS(sendq_sent_bytes(q), 5ULL << 30);
    CHECK(sendq_discard(q) >= 0);
    check_usable(q);
    sendq_free(q);
}

static void others_fail(void) {
    static const operation settings[] = {set_rate, set_min_rate, set_low, close_within};
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        setting_fails(settings[i]);
    }
    queue_with_a_low_mark_fails();
    heaviest_fails();
    table_fails(0);
    table_fails(SENDQ_THREADSAFE);
    counts_fail();
}

/* What takes memory nowhere: sending, dropping and ending must work when there is none. */
static void nothing_else_allocates(void) {
    sendq_t* q = new_borrower(NULL, 100);
    sendq_t* other = new_borrower(NULL, 100);
    ends e = ends_unix();
    struct iovec iov[4];
    piece pieces[4];
    CHECK(sendq_append(other, bytes, 10000) >= 0);
    CHECK(piece_append(other, &pieces[0], bytes, 10000) >= 0);
    CHECK(piece_append_file(other, &pieces[1], file, 0, 10000) >= 0);
    CHECK(piece_notify(other, &pieces[2]) >= 0);
    CHECK(sendq_append(q, bytes, 100000) >= 0);
    CHECK(sendq_append_buf(q, buf, 0, 10000) >= 0);
    CHECK(sendq_append_file(q, file, 0, 10000, NULL, NULL) >=
          0); /* what it counts of files has its place */
    CHECK_IS(sendq_cork(q), 0);
    CHECK(sendq_uncork(q) >= 0); /* and so have corks */
    uint64_t before = allocations;
    CHECK(sendq_flush(q, e.queue, 50000) >= 0);
    CHECK(sendq_peek(q, iov, 4) > 0);
    CHECK(sendq_consume(q, 10000) >= 0);
    CHECK(sendq_set_watermarks(q, 1, 2, 0) >= 0);
    CHECK(sendq_splice(q, other) >= 0);
    CHECK_IS(sendq_cork(q), 0);
    CHECK(sendq_uncork(q) >= 0);
    CHECK_IS(sendq_cork(q), 0);
    CHECK(sendq_rollback(q) >= 0);
    CHECK(sendq_flush(q, e.queue, 60000) >= 0);
    CHECK(sendq_discard(q) >= 0);
    CHECK_IS(pieces[1].times, 1);
    CHECK_IS(pieces[2].times, 1);
    sendq_stats_t stats;
    char text[1024];
    CHECK_IS(sendq_stats(q, &stats, sizeof stats), 0);
    CHECK(sendq_stats_json(q, e.queue, text, sizeof text) > 0);
    CHECK_IS(sendq_stalled_ns(q), 0);
    CHECK_IS(sendq_retry_after_ns(q), SENDQ_NEVER);
    CHECK_IS(sendq_set_logger(NULL, NULL, 0), 0);
    CHECK_IS(sendq_close(q), 0);
    close(e.peer);
    sendq_free(q);
    sendq_free(other);
    CHECK_IS(allocations, before);
    close(e.queue);
}

static sendq_pool_stats_t figures(const sendq_pool_t* pool) {
    sendq_pool_stats_t stats;
    CHECK_IS(sendq_pool_stats(pool, &stats, sizeof stats), 0);
    return stats;
}

/* At most so much for an empty queue, and no block. */
static void idle(void) {
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){.keep_bytes = 1});
    uint64_t before = live_bytes;
    sendq_free(new_queue(pool, NULL));
    CHECK(live_bytes - before <= PLACES * PLACE + 96); /* the table stays */
    before = live_bytes;
    sendq_t* q = new_queue(pool, NULL);
    CHECK(live_bytes - before <= IDLE);
    CHECK(sendq_append(q, bytes, sizeof bytes) >= 0);
    CHECK(figures(pool).used > sizeof bytes);
    check_delivers(q, 0);
    CHECK_IS(figures(pool).used + figures(pool).free, 0);
    CHECK(live_bytes - before <= IDLE);
    sendq_free(q);
    CHECK_IS(live_bytes, before);
    sendq_pool_free(pool);
}

static void nothing(void* arg, const void* data, size_t len, int reason) {
    (void)arg, (void)data, (void)len, (void)reason;
}

/* 1 MiB waits as references of 100 bytes: they take no more than a half of that. */
static void many_references(void) {
    enum { PIECE = 100, PIECES = (1 << 20) / PIECE };
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){.keep_bytes = 1});
    sendq_t* q = new_borrower(pool, 1);
    for (size_t i = 0; i < PIECES; i++) {
        CHECK(sendq_append_ref(q, bytes + i * PIECE, PIECE, nothing, NULL) >= 0);
    }
    CHECK(figures(pool).used <= PIECES * PIECE / 2);
    CHECK_IS(figures(pool).pinned, PIECES * PIECE);
    check_delivers(q, 0);
    CHECK_IS(figures(pool).used + figures(pool).pinned, 0);
    sendq_free(q);
    sendq_pool_free(pool);
}

static void steady_state(void) {
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){0});
    sendq_t* q = new_queue(pool, NULL);
    uint64_t before = 0;
    for (int i = 0; i < 10000; i++) {
        if (i == 1) {
            before = allocations; /* the first block is there */
        }
        CHECK_IS(sendq_append(q, bytes, 24), SENDQ_WAKE);
        CHECK_IS(sendq_append(q, bytes, 10000), 0);
        CHECK_IS(piece_append(q, &borrowed, bytes, 10000), 0);
        CHECK_IS(sendq_append_buf(q, buf, 0, 10000), 0);
        CHECK_IS(sendq_notify(q, nothing, NULL), 0);
        CHECK_IS(sendq_consume(q, 30024), 0);
        CHECK_IS(borrowed.times, 1);
    }
    CHECK_IS(allocations, before);
    sendq_free(q);
    sendq_pool_free(pool);
}

/* After a burst the pool keeps a part of keep_bytes, and no queue has more than 256 and
 * its place in the table. */
static void burst(void) {
    enum { QUEUES = 1000, EACH = 256 << 10, KEEP = 512 << 10 };
    static sendq_t* queues[QUEUES];
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){.keep_bytes = KEEP});
    sendq_free(new_queue(pool, NULL)); /* the beginning of the table stays */
    uint64_t before = live_bytes;
    for (int i = 0; i < QUEUES; i++) {
        queues[i] = new_queue(pool, NULL);
        CHECK_IS(sendq_append(queues[i], bytes, EACH), SENDQ_WAKE);
    }
    CHECK(figures(pool).used > QUEUES * EACH);
    for (int i = 0; i < QUEUES; i++) {
        CHECK_IS(sendq_consume(queues[i], EACH), 0);
    }
    CHECK_IS(figures(pool).used, 0);
    CHECK_IS(figures(pool).free, KEEP / 32);
    CHECK(live_bytes - before <= QUEUES * (IDLE + PLACE) + PLACES * PLACE);
    for (int i = 0; i < QUEUES; i++) {
        sendq_free(queues[i]);
    }
    CHECK_IS(live_bytes, before);
    sendq_pool_free(pool);
}

int main(void) {
    sendq_free(new_queue(NULL, NULL));
    if (allocations == 0) {
        return 77; /* valgrind puts its own in front of these */
    }
    stream_fill(bytes, 0, sizeof bytes);
    CHECK_IS(sendq_buf_wrap(NULL, bytes, sizeof bytes, NULL, NULL, &buf), 0);
    FILE* stream = file_of(bytes, sizeof bytes);
    file = fileno(stream);
    handles_fail();
    appends_fail();
    splits_fail();
    sends_fail(100, 0);
    sends_fail(sizeof bytes, -ENOMEM);
    others_fail();
    nothing_else_allocates();
    idle();
    many_references();
    steady_state();
    burst();
    sendq_buf_unref(buf);
    CHECK_IS(fclose(stream), 0);
    return 0;
}

#endif
