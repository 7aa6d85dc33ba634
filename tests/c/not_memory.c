/* Files are not memory: neither the watermarks nor the cap nor the pool's budget look at their
 * bytes. What slots without memory take themselves has a limit all the same. */
#include "simulated.h"

enum { MIB = 1 << 20, HUGE_FILE = 50 * MIB, FREE_SLOTS = 64 };

static unsigned char bytes[8 * MIB];
static int file; /* of HUGE_FILE bytes */

static sendq_t* limited(sendq_pool_t* pool, uint64_t low, uint64_t high, uint64_t max) {
    sendq_config_t config = {
        .size = sizeof config, .low = low, .high = high, .max = max, .copy_below = 1, .reserve = 1};
    return new_queue(pool, &config);
}

static void check_waits(const sendq_t* q, uint64_t memory, uint64_t files) {
    CHECK_IS(sendq_queued_memory(q), memory);
    CHECK_IS(sendq_queued_bytes(q), memory + files);
}

/* A 50 MB file where 4 MiB may wait, and where the pool has 8 KiB. */
static void larger_than_any_limit(void) {
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){.max_bytes = 8192});
    sendq_t* q = limited(pool, 0, 0, 4 * MIB);
    piece p;
    CHECK_IS(piece_append_file(q, &p, file, 0, HUGE_FILE), SENDQ_WAKE);
    CHECK_IS(sendq_append_file(q, file, 0, HUGE_FILE, NULL, NULL), 0);
    check_waits(q, 0, 2 * HUGE_FILE);
    CHECK_IS(sendq_state(q), SENDQ_MORE);
    CHECK_IS(sendq_append(q, bytes, 100), 0);
    check_waits(q, 100, 2 * HUGE_FILE);
    CHECK_IS(pool_figures(pool).pinned, 0);
    CHECK_IS(sendq_append(q, bytes, 2 * MIB), -ENOBUFS); /* that is memory */
    CHECK_IS(sendq_consume(q, HUGE_FILE - 1), 0);
    check_waits(q, 100, HUGE_FILE + 1);
    CHECK_IS(p.times, 0);
    CHECK_IS(sendq_consume(q, 1), 0);
    CHECK_IS(p.times, 1);
    CHECK_IS(sendq_discard(q), 0);
    check_waits(q, 0, 0);
    sendq_free(q);
    sendq_pool_free(pool);
}

/* max counts what is memory, to the byte, whatever files wait before, between and behind it. */
static void cap(void) {
    sendq_t* q = limited(NULL, 0, 0, 4 * MIB);
    CHECK_IS(sendq_append_file(q, file, 0, HUGE_FILE, NULL, NULL), SENDQ_WAKE);
    CHECK_IS(sendq_append(q, bytes, MIB - 1), 0);
    CHECK_IS(sendq_append_ref(q, bytes, 3 * MIB, NULL, NULL), SENDQ_HIGH);
    CHECK(sendq_append_file(q, file, 0, HUGE_FILE, NULL, NULL) >= 0);
    CHECK_IS(sendq_append(q, bytes, 2), -ENOBUFS);
    CHECK_IS(sendq_append(q, bytes, 1), SENDQ_HIGH);
    CHECK_IS(sendq_append(q, bytes, 1), -ENOBUFS);
    check_waits(q, 4 * MIB, 2ULL * HUGE_FILE);
    CHECK(sendq_consume(q, HUGE_FILE) >= 0);
    CHECK_IS(sendq_append(q, bytes, 1), -ENOBUFS); /* no memory has left */
    CHECK(sendq_consume(q, 1) >= 0);
    CHECK_IS(sendq_append(q, bytes, 1), SENDQ_HIGH);
    sendq_free(q);
}

/* HIGH comes of memory, and so does RESUME. */
static void watermarks(void) {
    enum { LOW = 100, HIGH = 1000 };
    sendq_t* q = limited(NULL, LOW, HIGH, 0);
    for (int i = 0; i < 10; i++) {
        CHECK_IS(sendq_append_file(q, file, 0, HUGE_FILE, NULL, NULL), i == 0 ? SENDQ_WAKE : 0);
    }
    CHECK_IS(sendq_append(q, bytes, HIGH - 1), 0);
    CHECK_IS(sendq_state(q) & SENDQ_HIGH, 0);
    CHECK_IS(sendq_append(q, bytes, 1), SENDQ_HIGH);
    CHECK_IS(sendq_consume(q, 10ULL * HUGE_FILE), 0); /* of files: the producer stays paused */
    CHECK_IS(sendq_state(q) & SENDQ_HIGH, SENDQ_HIGH);
    CHECK(sendq_append_file(q, file, 0, HUGE_FILE, NULL, NULL) >= 0);
    CHECK_IS(sendq_consume(q, HIGH - LOW - 1), 0);
    CHECK_IS(sendq_consume(q, 1), SENDQ_RESUME); /* 50 MB wait, but little memory */
    check_waits(q, LOW, HUGE_FILE);
    CHECK_IS(sendq_set_watermarks(q, 1, LOW, LOW), SENDQ_HIGH);
    CHECK_IS(sendq_set_watermarks(q, 1, LOW + 1, 0), 0);
    CHECK_IS(sendq_set_watermarks(q, LOW, LOW + 1, 0), SENDQ_RESUME);
    sendq_free(q);
}

/* Memory that is counted is the same on every way out. */
static void ways_out(void) {
    for (int way = 0; way < 5; way++) {
        sendq_t* q = limited(NULL, 0, 0, 0);
        sendq_t* to = limited(NULL, 0, 0, 200);
        ends e = ends_unix();
        CHECK_IS(sendq_append(q, bytes, 100), SENDQ_WAKE);
        CHECK_IS(sendq_append_file(q, file, 0, 1000, NULL, NULL), 0);
        switch (way) {
            case 0:
                CHECK_IS(sendq_discard(q), 0);
                break;
            case 1:
                CHECK_IS(sendq_flush(q, e.queue, 0), 0);
                break;
            case 2:
                CHECK_IS(sendq_flush(q, -1, 0), -EBADF);
                break;
            case 3: /* to where less may wait than the file has */
                CHECK_IS(sendq_splice(to, q), SENDQ_WAKE);
                check_waits(to, 100, 1000);
                CHECK_IS(sendq_append(to, bytes, 101), -ENOBUFS);
                CHECK_IS(sendq_append(to, bytes, 100), SENDQ_HIGH);
                break;
            default:
                CHECK_IS(sendq_cork(q), 0);
                CHECK_IS(sendq_append(q, bytes, 10), 0);
                CHECK_IS(sendq_append_file(q, file, 0, 500, NULL, NULL), 0);
                check_waits(q, 110, 1500);
                CHECK_IS(sendq_rollback(q), 0);
                check_waits(q, 100, 1000);
                CHECK_IS(sendq_discard(q), 0);
        }
        check_waits(q, 0, 0);
        if (sendq_error(q) == 0) {
            check_usable(q);
        }
        sendq_free(q);
        sendq_free(to);
        ends_close(e);
    }
}

typedef int (*append_slot)(sendq_t* q, piece* p);

static int a_file(sendq_t* q, piece* p) {
    return piece_append_file(q, p, file, 0, 1);
}

static int a_notification(sendq_t* q, piece* p) {
    return piece_notify(q, p);
}

/* 64 are free of the cap, however low that is; the next one is refused, and nobody is released. */
static void few_slots(append_slot give) {
    piece pieces[FREE_SLOTS + 1];
    sendq_t* q = limited(NULL, 0, 0, 1);
    CHECK(sendq_append(q, bytes, 1) >= 0);
    for (int i = 0; i < FREE_SLOTS; i++) {
        CHECK(give(q, &pieces[i]) >= 0);
    }
    for (int i = 0; i < 3; i++) {
        CHECK_IS(give(q, &pieces[FREE_SLOTS]), -ENOBUFS);
        pieces_check(pieces, FREE_SLOTS + 1, 0, 0);
    }
    CHECK_IS(sendq_queued_memory(q), 1);
    CHECK(sendq_consume(q, give == a_file ? 2 : 1) >= 0);
    CHECK(give(q, &pieces[FREE_SLOTS]) >= 0);
    CHECK(sendq_discard(q) >= 0);
    CHECK(sendq_append(q, bytes, 1) >= 0);
    sendq_free(q);
}

/* More of them may wait where more memory may: as much as they take. Without a cap there is no end.
 */
static void many_slots(append_slot give) {
    enum { MOST = 50000 };
    static piece pieces[MOST];
    static const uint64_t caps[] = {20000, 200000, 0};
    unsigned last = FREE_SLOTS;
    for (size_t i = 0; i < sizeof caps / sizeof *caps; i++) {
        sendq_t* q = limited(NULL, 0, 0, caps[i]);
        CHECK(sendq_append(q, bytes, 1) >= 0);
        unsigned count = 0;
        int result = 0;
        while (count < MOST && (result = give(q, &pieces[count])) >= 0) {
            count++;
        }
        CHECK(count > last);
        last = count;
        if (caps[i] == 0) {
            CHECK_IS(count, MOST);
        } else {
            CHECK_IS(result, -ENOBUFS);
            uint64_t allocated = figures(q).allocated;
            CHECK(allocated > caps[i] / 2 && allocated < caps[i] * 2);
        }
        CHECK(sendq_discard(q) >= 0);
        pieces_check(pieces, count, count, -ECANCELED);
        sendq_free(q);
    }
}

/* Where the pool has no memory for the slot, nothing was appended, and nothing counts. */
static void no_memory_for_a_slot(void) {
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){.max_bytes = 4096, .keep_bytes = 1});
    sendq_t* hog = limited(pool, 0, 0, 0);
    sendq_t* q = limited(pool, 0, 0, 100);
    piece p;
    void* all;
    CHECK(sendq_reserve(hog, 3000, &all) == 0);
    CHECK_IS(piece_append_file(q, &p, file, 0, 1000), -ENOBUFS);
    CHECK_IS(p.times, 0);
    check_waits(q, 0, 0);
    sendq_free(hog);
    CHECK_IS(sendq_append(q, bytes, 100), SENDQ_WAKE | SENDQ_HIGH);
    CHECK_IS(sendq_append(q, bytes, 1), -ENOBUFS);
    check_waits(q, 100, 0);
    sendq_free(q);
    sendq_pool_free(pool);
}

/* The sum of what waits does not wrap around, however long files claim to be. */
static void no_wrap(void) {
    sendq_t* q = limited(NULL, 0, 0, 0);
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

int main(void) {
    FILE* stream = tmpfile();
    CHECK(stream != NULL);
    file = fileno(stream);
    CHECK_IS(ftruncate(file, HUGE_FILE), 0);
    stream_fill(bytes, 0, sizeof bytes);
    larger_than_any_limit();
    cap();
    watermarks();
    ways_out();
    few_slots(a_file);
    few_slots(a_notification);
    many_slots(a_file);
    many_slots(a_notification);
    no_memory_for_a_slot();
    no_wrap();
    CHECK_IS(fclose(stream), 0);
    return 0;
}
