/* sendq_flush_with: contiguous records, and after a refusal the same bytes at the same address. */
#include "simulated.h"

enum { RECORD = 16384, STREAM = 1 << 20 };

static unsigned char bytes[STREAM];
static int file;

/* What the writer has, and how it behaves. */
typedef struct {
    sendq_t* q;
    unsigned char taken[STREAM + 65536];
    size_t len;
    uint64_t rnd;
    unsigned refusals; /* of how many calls one is refused; 0: none */
    int64_t refusal;   /* by which; 0: by any */
    bool partly;       /* takes less than it is given, now and then */
    const void* refused;
    size_t refused_len;
    size_t calls;
    size_t full;
} writer;

static writer w;

static int64_t keep(void* arg, const void* data, size_t len) {
    static const int64_t reasons[] = {-EAGAIN, SENDQ_WRITE_WANT_READ, 0};
    writer* to = arg;
    CHECK(len > 0 && len <= RECORD);
    to->calls++;
    to->full += len == RECORD;
    if (to->refused != NULL) {
        CHECK(data == to->refused);
        CHECK(len >= to->refused_len);
        to->refused = NULL;
    }
    if (to->refusals > 0 && random_next(&to->rnd) % to->refusals == 0) {
        to->refused = data;
        to->refused_len = len;
        return to->refusal != 0 ? to->refusal : reasons[random_next(&to->rnd) % 3];
    }
    size_t take = to->partly && random_next(&to->rnd) % 2 ? random_up_to(&to->rnd, len) : len;
    memcpy(to->taken + to->len, data, take);
    to->len += take;
    return (int64_t)take;
}

static void begin(sendq_t* q, unsigned refusals, bool partly) {
    w = (writer){.q = q, .rnd = 88172645463325252U, .refusals = refusals, .partly = partly};
}

/* Appends from the stream in pieces of every kind, flushing now and then. */
static size_t append_all_sorts(sendq_t* q, piece* pieces, size_t count, size_t largest) {
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        size_t len = random_up_to(&w.rnd, largest);
        if (at + len > STREAM) {
            break;
        }
        pieces[i] = (piece){.times = 1};
        switch (random_next(&w.rnd) % 4) {
            case 0:
                CHECK(piece_append(q, &pieces[i], bytes + at, len) >= 0);
                break;
            case 1:
                CHECK(piece_append_file(q, &pieces[i], file, at, len) >= 0);
                break;
            default:
                CHECK(sendq_append(q, bytes + at, len) >= 0);
        }
        at += len;
        if (random_next(&w.rnd) % 16 == 0) {
            CHECK(sendq_flush_with(q, keep, &w, random_next(&w.rnd) % 50000) >= 0);
        }
    }
    return at;
}

static void everything_leaves(unsigned refusals, bool partly, size_t largest,
                              uint64_t chunk_bytes) {
    enum { PIECES = 500 };
    static piece pieces[PIECES];
    sendq_pool_t* pool = new_simulated((sendq_pool_config_t){.chunk_bytes = chunk_bytes});
    sendq_t* q = new_borrower(pool, 1);
    for (int round = 0; round < 10; round++) {
        memset(pieces, 0, sizeof pieces);
        for (size_t i = 0; i < PIECES; i++) {
            pieces[i].times = 1;
        }
        begin(q, refusals, partly);
        w.rnd += (uint64_t)round;
        size_t total = append_all_sorts(q, pieces, PIECES, largest);
        int hints = 1;
        for (int turns = 0; hints != 0; turns++) {
            size_t budget = random_next(&w.rnd) % 2 ? 0 : random_up_to(&w.rnd, 40000);
            size_t before = w.len;
            bool again = w.refused != NULL;
            hints = sendq_flush_with(q, keep, &w, budget);
            CHECK(hints >= 0 && turns < 100000);
            /* Exact, but for what has to be offered again whole. */
            CHECK(budget == 0 || again || w.len - before <= budget);
        }
        CHECK_IS(w.len, total);
        stream_check(w.taken, 0, total);
        for (size_t i = 0; i < PIECES; i++) {
            CHECK_IS(pieces[i].times, 1);
            CHECK_IS(pieces[i].reason, 0);
        }
        sendq_stats_t stats = figures(q);
        CHECK_IS(stats.waiting + stats.pinned + stats.allocated, 0);
    }
    sendq_free(q);
    sendq_pool_free(pool);
}

/* Small pieces leave in full records, and nothing is copied of a large one. */
static void records(void) {
    sendq_t* q = new_simulated_queue();
    begin(q, 0, false);
    for (size_t i = 0; i < 1000; i++) {
        CHECK(sendq_append_ref(q, bytes + i * 100, 100, NULL, NULL) >= 0);
    }
    CHECK_IS(sendq_flush_with(q, keep, &w, 0), 0);
    CHECK_IS(w.calls, (100000 + RECORD - 1) / RECORD);
    CHECK_IS(w.full, 100000 / RECORD);
    stream_check(w.taken, 0, 100000);

    begin(q, 1, false);
    w.refusal = -EAGAIN;
    CHECK(sendq_append_ref(q, bytes, 5 * RECORD, NULL, NULL) >= 0);
    CHECK_IS(sendq_flush_with(q, keep, &w, 0), SENDQ_BLOCKED);
    CHECK(w.refused == bytes); /* from where it lies */
    CHECK_IS(w.refused_len, RECORD);
    w.refusal = SENDQ_WRITE_WANT_READ;
    CHECK_IS(sendq_flush_with(q, keep, &w, 1), SENDQ_WANT_READ); /* whatever the budget */
    CHECK_IS(w.refused_len, RECORD);
    CHECK_IS(figures(q).blocked, 1);
    w.refusals = 0;
    CHECK_IS(sendq_flush_with(q, keep, &w, 0), 0);
    CHECK_IS(w.len, 5 * RECORD);
    sendq_free(q);
}

static int64_t take_little(void* arg, const void* data, size_t len) {
    size_t* taken = arg;
    const unsigned char* at = data;
    size_t take = len < 1000 ? len : 1000;
    *taken += at >= bytes && at < bytes + STREAM ? take : 0;
    return (int64_t)take;
}

/* How much of a large piece behind a head comes from where it lies, for a writer that takes a part
 * of each record: what is gathered once is not gathered again, and so does not drag along what is
 * behind it. */
static size_t in_place(size_t len) {
    sendq_t* q = new_simulated_queue();
    size_t taken = 0;
    CHECK(sendq_append(q, bytes, 24) >= 0);
    CHECK(sendq_append_ref(q, bytes + 24, len, NULL, NULL) >= 0);
    CHECK_IS(sendq_flush_with(q, take_little, &taken, 0), 0);
    sendq_free(q);
    return taken;
}

static void large_pieces(void) {
    CHECK_IS(in_place(20 * RECORD), 20 * RECORD); /* the head apart: 21 records in either case */
    CHECK_IS(in_place(20 * RECORD + 100), 20 * RECORD + 100 - (RECORD - 24)); /* it would take 22 */
}

/* Without memory for a record, pieces leave one by one. */
static void little_memory(void) {
    sendq_pool_t* pool = new_simulated((sendq_pool_config_t){.max_bytes = 12288});
    sendq_t* q = new_borrower(pool, 4096);
    begin(q, 0, false);
    CHECK(sendq_append(q, bytes, 10000) >= 0);
    CHECK_IS(sendq_flush_with(q, keep, &w, 0), 0);
    stream_check(w.taken, 0, 10000);
    CHECK_IS(w.len, 10000);
    sendq_free(q);
    sendq_pool_free(pool);
}

static int64_t answer(void* arg, const void* data, size_t len) {
    (void)data, (void)len;
    return *(int64_t*)arg;
}

static void failures(void) {
    static const struct {
        int64_t answer;
        int result;
    } cases[] = {{-EPIPE, -EPIPE}, {-ECONNRESET, -ECONNRESET}, {1000, -EIO}, {INT64_MIN, -EIO}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sendq_t* q = new_simulated_queue();
        piece p;
        int64_t it = cases[i].answer;
        CHECK(piece_append(q, &p, bytes, 100) >= 0);
        CHECK_IS(sendq_flush_with(q, answer, &it, 0), cases[i].result);
        CHECK_IS(p.times, 1);
        CHECK_IS(p.reason, cases[i].result);
        CHECK_IS(sendq_flush_with(q, answer, &it, 0), cases[i].result);
        CHECK_IS(sendq_error(q), cases[i].result);
        sendq_free(q);
    }
    sendq_t* q = new_simulated_queue();
    CHECK_IS(sendq_flush_with(NULL, keep, &w, 0), -EINVAL);
    CHECK_IS(sendq_flush_with(q, NULL, &w, 0), -EINVAL);
    CHECK_IS(sendq_flush_with(q, keep, &w, 0), 0); /* nothing waits */
    sendq_free(q);
}

/* A writer that calls back in. */
static int64_t meddle(void* arg, const void* data, size_t len) {
    sendq_t* q = arg;
    (void)data;
    CHECK_IS(sendq_discard(q), -EBUSY);
    CHECK_IS(sendq_consume(q, 1), -EBUSY);
    CHECK_IS(sendq_flush_with(q, keep, &w, 0), -EBUSY);
    CHECK_IS(sendq_flush(q, -1, 0), -EBUSY);
    CHECK(sendq_append(q, "more", 4) >= 0);
    return (int64_t)len;
}

static int64_t free_it(void* arg, const void* data, size_t len) {
    (void)data;
    sendq_free(arg);
    return (int64_t)len;
}

static void meddling(void) {
    sendq_t* q = new_simulated_queue();
    piece p;
    CHECK(sendq_append(q, bytes, 100) >= 0);
    CHECK_IS(sendq_flush_with(q, meddle, q, 0), SENDQ_MORE);
    CHECK_IS(sendq_queued_bytes(q), 4);
    CHECK(piece_append(q, &p, bytes, 20000) >= 0);
    CHECK_IS(sendq_flush_with(q, free_it, q, 0), -ECANCELED);
    CHECK_IS(p.times, 1);
    CHECK_IS(p.reason, -ECANCELED);
}

/* While many have left whose owners are not released yet, a writer appends, and holds back, and
 * takes back: what has been written in the end is what was not. */
static struct {
    sendq_t* q;
    unsigned char expected[STREAM];
    size_t len;
    size_t held_from; /* while corked */
    void* reserved;
    bool corked;
    size_t written;
    uint64_t rnd;
} busy;

static void busy_append(void) {
    size_t len = random_up_to(&busy.rnd, 300);
    if (busy.len + len > sizeof busy.expected) {
        return;
    }
    unsigned char* at = busy.expected + busy.len;
    stream_fill(at, busy.rnd % STREAM, len);
    int result = random_next(&busy.rnd) % 2 ? sendq_append(busy.q, at, len)
                                            : sendq_append_ref(busy.q, at, len, NULL, NULL);
    CHECK(result >= 0 || (result == -EBUSY && busy.reserved != NULL));
    busy.len += result >= 0 ? len : 0;
}

static void busy_step(void) {
    enum { RESERVED = 100 };
    switch (random_next(&busy.rnd) % 6) {
        case 0:
            CHECK_IS(sendq_cork(busy.q), busy.reserved != NULL ? -EBUSY
                                         : busy.corked         ? -EALREADY
                                                               : 0);
            if (!busy.corked && busy.reserved == NULL) {
                busy.corked = true;
                busy.held_from = busy.len;
            }
            break;
        case 1:
            if (busy.corked && busy.reserved == NULL) {
                bool takes_back = random_next(&busy.rnd) % 2;
                CHECK((takes_back ? sendq_rollback(busy.q) : sendq_uncork(busy.q)) >= 0);
                busy.len = takes_back ? busy.held_from : busy.len;
                busy.corked = false;
            }
            break;
        case 2:
            if (busy.reserved == NULL && busy.len + RESERVED <= sizeof busy.expected) {
                CHECK_IS(sendq_reserve(busy.q, RESERVED, &busy.reserved), 0);
            }
            break;
        case 3:
            if (busy.reserved != NULL) {
                stream_fill(busy.reserved, busy.len, RESERVED);
                stream_fill(busy.expected + busy.len, busy.len, RESERVED);
                CHECK(sendq_commit(busy.q, RESERVED) >= 0);
                busy.len += RESERVED;
                busy.reserved = NULL;
            }
            break;
        default:
            busy_append();
    }
}

static int64_t busy_write(void* arg, const void* data, size_t len) {
    (void)arg;
    busy_step();
    if (random_next(&busy.rnd) % 4 == 0) {
        return -EAGAIN;
    }
    size_t take = random_up_to(&busy.rnd, len < 1000 ? len : 1000);
    CHECK(busy.written + take <= busy.len);
    CHECK(memcmp(data, busy.expected + busy.written, take) == 0);
    busy.written += take;
    return (int64_t)take;
}

static void writer_that_holds_back(void) {
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){.chunk_bytes = 256});
    busy.rnd = 88172645463325252U;
    for (int round = 0; round < 200; round++) {
        busy.q = new_borrower(pool, 1);
        busy.len = busy.written = 0;
        busy.reserved = NULL;
        busy.corked = false;
        for (int i = 0; i < 200; i++) {
            for (uint64_t k = random_next(&busy.rnd) % 32; k > 0; k--) {
                busy_append();
            }
            busy_step();
            CHECK(sendq_flush_with(busy.q, busy_write, NULL, random_next(&busy.rnd) % 20000) >= 0);
            CHECK_IS(sendq_sent_bytes(busy.q), busy.written);
        }
        sendq_free(busy.q);
    }
    sendq_pool_free(pool);
}

/* Frees the queue, and was interrupted: it is not asked again for what is no more. */
static int64_t free_and_give_up(void* arg, const void* data, size_t len) {
    (void)data, (void)len;
    CHECK_IS(w.calls++, 0);
    sendq_free(arg);
    return -EINTR;
}

static void interrupted(void) {
    sendq_t* q = new_borrower(NULL, 1);
    piece borrowed;
    begin(q, 0, false);
    CHECK_IS(piece_append(q, &borrowed, bytes, 20000), SENDQ_WAKE);
    CHECK_IS(sendq_flush_with(q, free_and_give_up, q, 0), -ECANCELED);
    CHECK_IS(borrowed.times, 1);
}

/* What is gathered into a record has not left for that: its owners are released when the writer has
 * taken their bytes, and not before, each by the call that takes its last. */
static void released_when_taken(void) {
    enum { PIECES = 3, EACH = 1000 };
    piece pieces[PIECES];
    piece behind[PIECES]; /* a notification behind each */
    sendq_t* q = new_borrower(NULL, 1);
    for (size_t i = 0; i < PIECES; i++) {
        CHECK(piece_append(q, &pieces[i], bytes + i * 2 * EACH, EACH) >= 0);
        CHECK_IS(piece_notify(q, &behind[i]), 0);
    }
    for (int i = 0; i < 3; i++) {
        int64_t refusal = i == 1 ? SENDQ_WRITE_WANT_READ : -EAGAIN;
        CHECK(sendq_flush_with(q, answer, &refusal, 0) & (SENDQ_BLOCKED | SENDQ_WANT_READ));
        pieces_check(pieces, PIECES, 0, 0);
        pieces_check(behind, PIECES, 0, 0);
        CHECK_IS(sendq_queued_bytes(q), PIECES * EACH);
        CHECK_IS(figures(q).pinned, PIECES * EACH);
    }
    static const size_t taken[] = {EACH - 1, 1, EACH + 1, EACH - 1};
    static const size_t released[] = {0, 1, 2, 3};
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++) {
        int64_t takes = (int64_t)taken[i];
        CHECK(!SENDQ_FAILED(sendq_flush_with(q, answer, &takes, taken[i])));
        pieces_check(pieces, PIECES, released[i], 0);
        pieces_check(behind, PIECES, released[i], 0);
    }
    CHECK_IS(sendq_queued_bytes(q), 0);

    /* Refused, and then dropped: the reason says so. */
    for (size_t i = 0; i < PIECES; i++) {
        CHECK(piece_append(q, &pieces[i], bytes + i * 2 * EACH, EACH) >= 0);
    }
    int64_t refusal = -EAGAIN;
    CHECK_IS(sendq_flush_with(q, answer, &refusal, 0), SENDQ_BLOCKED);
    CHECK_IS(sendq_discard(q), 0);
    pieces_check(pieces, PIECES, PIECES, -ECANCELED);
    sendq_free(q);
}

/* A notification inside a record that was refused is not called before the bytes in front of it
 * have left. */
static void notified_when_taken(void) {
    sendq_t* q = new_borrower(NULL, 1);
    piece p[2];
    int64_t refusal = -EAGAIN;
    CHECK_IS(sendq_append(q, bytes, 4), SENDQ_WAKE);
    CHECK_IS(piece_notify(q, &p[0]), 0);
    CHECK_IS(piece_append(q, &p[1], bytes + 4, 4), 0);
    CHECK_IS(sendq_flush_with(q, answer, &refusal, 0), SENDQ_BLOCKED);
    pieces_check(p, 2, 0, 0);
    begin(q, 0, false);
    CHECK_IS(sendq_flush_with(q, keep, &w, 0), 0);
    CHECK_IS(w.len, 8);
    stream_check(w.taken, 0, 8);
    pieces_check(p, 2, 2, 0);
    sendq_free(q);
}

/* The record of a file may take more memory than the pool's budget leaves. */
static void file_beyond_the_budget(void) {
    enum { LEN = 9000 };
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){.max_bytes = 8192});
    sendq_t* q = new_borrower(pool, 1);
    piece p[2];
    for (int round = 0; round < 3; round++) {
        if (round > 0) { /* behind memory that has spent the budget */
            CHECK_IS(piece_append(q, &p[0], bytes, 4000), SENDQ_WAKE);
        }
        size_t before = round > 0 ? 4000 : 0;
        CHECK(piece_append_file(q, &p[1], file, before, LEN) >= 0);
        begin(q, 0, false);
        int64_t refusal = -EAGAIN;
        if (round == 2) {
            CHECK_IS(sendq_flush_with(q, answer, &refusal, 0), SENDQ_BLOCKED);
            CHECK_IS(p[1].times, 0);
        }
        CHECK_IS(sendq_flush_with(q, keep, &w, 0), 0);
        CHECK_IS(w.len, before + LEN);
        stream_check(w.taken, 0, w.len);
        CHECK_IS(p[1].times, 1);
        CHECK_IS(p[1].reason, 0);
    }
    sendq_free(q);
    sendq_pool_stats_t stats;
    CHECK_IS(sendq_pool_stats(pool, &stats, sizeof stats), 0);
    CHECK_IS(stats.used + stats.pinned, 0);
    CHECK(stats.free <= stats.max);
    sendq_pool_free(pool);
}

/* A file that is shorter than promised ends the connection, with the error that its owner hears. */
static void shorter_file(void) {
    sendq_t* q = new_borrower(NULL, 1);
    piece p;
    CHECK_IS(piece_append_file(q, &p, file, STREAM - 10, 11), SENDQ_WAKE);
    begin(q, 0, false);
    CHECK_IS(sendq_flush_with(q, keep, &w, 0), -ENODATA);
    CHECK_IS(w.calls, 0);
    pieces_check(&p, 1, 1, -ENODATA);
    CHECK_IS(sendq_error(q), -ENODATA);
    sendq_free(q);
}

int main(void) {
    stream_fill(bytes, 0, sizeof bytes);
    FILE* stream = file_of(bytes, sizeof bytes);
    file = fileno(stream);
    for (unsigned refusals = 0; refusals <= 3; refusals++) {
        if (refusals != 1) {
            everything_leaves(refusals, false, 300, 4096);
            everything_leaves(refusals, true, 300, 256);
            everything_leaves(refusals, true, 60000, 4096);
        }
    }
    records();
    large_pieces();
    little_memory();
    failures();
    meddling();
    interrupted();
    released_when_taken();
    notified_when_taken();
    file_beyond_the_budget();
    shorter_file();
    writer_that_holds_back();
    CHECK_IS(fclose(stream), 0);
    return 0;
}
