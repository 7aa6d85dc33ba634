/* sendq_flush_with: from where a record comes, in how few calls, and writers that are wrong. */
#include "simulated.h"

enum { RECORD = 16384, STREAM = 1 << 20 };

static unsigned char bytes[STREAM];

/* What the writer was given, and what it answers. */
typedef struct {
    int64_t refusal; /* 0: it takes all */
    const void* refused;
    size_t refused_len;
    size_t calls;
    size_t full;
    size_t len;
} writer;

static int64_t take(void* arg, const void* data, size_t len) {
    writer* w = arg;
    if (w->refusal != 0) {
        w->refused = data;
        w->refused_len = len;
        return w->refusal;
    }
    stream_check(data, w->len, len);
    w->calls++;
    w->full += len == RECORD;
    w->len += len;
    return (int64_t)len;
}

/* Small pieces leave in full records, and nothing is copied of a large one. */
static void records(void) {
    sendq_t* q = new_simulated_queue();
    writer w = {0};
    for (size_t i = 0; i < 1000; i++) {
        CHECK(sendq_append_ref(q, bytes + i * 100, 100, NULL, NULL) >= 0);
    }
    CHECK_IS(sendq_flush_with(q, take, &w, 0), 0);
    CHECK_IS(w.calls, (100000 + RECORD - 1) / RECORD);
    CHECK_IS(w.full, 100000 / RECORD);
    CHECK_IS(w.len, 100000);

    w = (writer){.refusal = -EAGAIN};
    CHECK(sendq_append_ref(q, bytes, 5 * RECORD, NULL, NULL) >= 0);
    CHECK_IS(sendq_flush_with(q, take, &w, 0), SENDQ_BLOCKED);
    CHECK(w.refused == bytes); /* from where it lies */
    CHECK_IS(w.refused_len, RECORD);
    w.refusal = SENDQ_WRITE_WANT_READ;
    CHECK_IS(sendq_flush_with(q, take, &w, 1), SENDQ_WANT_READ); /* whatever the budget */
    CHECK_IS(w.refused_len, RECORD);
    CHECK_IS(figures(q).blocked, 1);
    w.refusal = 0;
    CHECK_IS(sendq_flush_with(q, take, &w, 0), 0);
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
}

/* Frees the queue, and was interrupted: it is not asked again for what is no more. */
static sendq_t* freed;

static int64_t free_and_give_up(void* arg, const void* data, size_t len) {
    (void)data, (void)len;
    CHECK_IS((*(int*)arg)++, 0);
    sendq_free(freed);
    return -EINTR;
}

static void interrupted(void) {
    piece borrowed;
    int calls = 0;
    freed = new_borrower(NULL, 1);
    CHECK_IS(piece_append(freed, &borrowed, bytes, 20000), SENDQ_WAKE);
    CHECK_IS(sendq_flush_with(freed, free_and_give_up, &calls, 0), -ECANCELED);
    CHECK_IS(borrowed.times, 1);
}

int main(void) {
    stream_fill(bytes, 0, sizeof bytes);
    records();
    large_pieces();
    failures();
    interrupted();
    return 0;
}
