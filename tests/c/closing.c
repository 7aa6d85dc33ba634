/* sendq_close_within: what has left by then has left; what has not is dropped, released and
 * counted; and the host learns when to call. */
#include "simulated.h"

static unsigned char bytes[1 << 20];

/* A connection that nobody reads, with two pieces of `bytes` waiting behind a full socket. */
typedef struct {
    sendq_t* q;
    ends e;
    piece pieces[2];
} stuck;

static void stick(stuck* s) {
    s->q = new_simulated_queue();
    s->e = ends_unix();
    ends_least_buffer(s->e);
    CHECK_IS(piece_append(s->q, &s->pieces[0], bytes, sizeof bytes), SENDQ_WAKE | SENDQ_HIGH);
    CHECK_IS(piece_append(s->q, &s->pieces[1], bytes, sizeof bytes), SENDQ_HIGH);
    CHECK_IS(sendq_flush(s->q, s->e.queue, 0), SENDQ_BLOCKED);
}

static void unstick(stuck* s) {
    sendq_free(s->q);
    ends_close(s->e);
}

/* All is as after any failure, with -ETIMEDOUT; `sent` had left. */
static void check_timed_out(sendq_t* q, uint64_t appended, uint64_t sent) {
    sendq_stats_t f = figures(q);
    void* memory;
    piece refused;
    CHECK_IS(f.sent, sent);
    CHECK_IS(f.discarded, appended - sent);
    CHECK_IS(f.waiting + f.pinned + f.stalled_ns, 0);
    CHECK_IS(sendq_error(q), -ETIMEDOUT);
    CHECK_IS(sendq_append(q, bytes, 1), -ETIMEDOUT);
    CHECK_IS(piece_append(q, &refused, bytes, 1), -ETIMEDOUT);
    CHECK_IS(refused.times, 0);
    CHECK_IS(sendq_reserve(q, 1, &memory), -ETIMEDOUT);
    CHECK_IS(sendq_flush(q, -1, 0), -ETIMEDOUT);
    CHECK_IS(sendq_consume(q, 0), -ETIMEDOUT);
    CHECK_IS(sendq_retry_after_ns(q), SENDQ_NEVER);
    CHECK_IS(sendq_close_within(q, 0), 0); /* it is over already */
    CHECK_IS(sendq_close(q), 0);
    CHECK_IS(sendq_discard(q), 0);
    CHECK_IS(figures(q).discarded, appended - sent);
}

static int by_flush(stuck* s) {
    return sendq_flush(s->q, s->e.queue, 0);
}

static int by_consume(stuck* s) {
    return sendq_consume(s->q, 0);
}

static int by_close(stuck* s) {
    return sendq_close_within(s->q, 0);
}

/* Not a nanosecond before the deadline, and not one after, by each of the calls that look. */
static void at_the_deadline(uint64_t timeout, int (*look)(stuck*)) {
    stuck s;
    stick(&s);
    CHECK_IS(sendq_close_within(s.q, timeout), 0);
    CHECK_IS(sendq_append(s.q, bytes, 1), -EPIPE);
    CHECK_IS(sendq_retry_after_ns(s.q), timeout); /* it is blocked: nothing else helps */
    now_ns += timeout - 1;
    CHECK_IS(sendq_retry_after_ns(s.q), 1);
    CHECK_IS(by_flush(&s), SENDQ_BLOCKED);
    CHECK_IS(by_consume(&s), 0);
    CHECK_IS(sendq_error(s.q), 0);
    now_ns++;
    CHECK_IS(sendq_retry_after_ns(s.q), 0); /* now: also however late it is */
    CHECK_IS(sendq_error(s.q), 0);          /* nothing happens by itself */
    uint64_t sent = sendq_sent_bytes(s.q);
    CHECK_IS(look(&s), -ETIMEDOUT);
    pieces_check(s.pieces, 2, 2, -ETIMEDOUT);
    check_timed_out(s.q, 2 * sizeof bytes, sent);
    unstick(&s);
}

/* What leaves in time has left, and then nothing times out. */
static void in_time(void) {
    stuck s;
    stick(&s);
    CHECK_IS(sendq_close_within(s.q, SECOND), 0);
    for (int i = 0; sendq_queued_bytes(s.q) > 0 && i < 100000; i++) {
        ends_read(s.e, bytes, sizeof bytes);
        CHECK(by_flush(&s) >= 0);
    }
    pieces_check(s.pieces, 2, 2, 0);
    CHECK_IS(sendq_retry_after_ns(s.q), SENDQ_NEVER);
    now_ns += 2ULL * SECOND;
    CHECK_IS(by_flush(&s), 0);
    CHECK_IS(by_consume(&s), 0);
    CHECK_IS(by_close(&s), 0);
    CHECK_IS(sendq_error(s.q), 0);
    CHECK_IS(figures(s.q).discarded, 0);
    CHECK_IS(sendq_append(s.q, bytes, 1), -EPIPE);
    unstick(&s);
}

/* A time of 0 is over at once; none is needed where nothing waits. */
static void at_once(void) {
    stuck s;
    stick(&s);
    uint64_t sent = sendq_sent_bytes(s.q);
    CHECK_IS(sendq_close_within(s.q, 0), -ETIMEDOUT);
    pieces_check(s.pieces, 2, 2, -ETIMEDOUT);
    check_timed_out(s.q, 2 * sizeof bytes, sent);
    unstick(&s);

    sendq_t* q = new_simulated_queue();
    CHECK_IS(sendq_close_within(q, 0), 0);
    CHECK_IS(sendq_error(q), 0);
    CHECK_IS(sendq_append(q, bytes, 1), -EPIPE);
    sendq_free(q);
    CHECK_IS(sendq_close_within(NULL, 0), -EINVAL);
    CHECK_IS(sendq_close_within(NULL, SECOND), -EINVAL);
}

/* The largest time, from any time on, does not wrap around. */
static void huge(void) {
    static const uint64_t starts[] = {0, 1, SECOND, UINT64_MAX / 2, UINT64_MAX - 2};
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
        stuck s;
        now_ns = starts[i];
        stick(&s);
        CHECK_IS(sendq_close_within(s.q, UINT64_MAX), 0);
        CHECK_IS(sendq_retry_after_ns(s.q), UINT64_MAX - starts[i]);
        CHECK_IS(by_flush(&s), SENDQ_BLOCKED);
        now_ns = UINT64_MAX - 1;
        CHECK_IS(by_flush(&s), SENDQ_BLOCKED);
        now_ns = 0; /* back: time stands still */
        CHECK_IS(by_flush(&s), SENDQ_BLOCKED);
        CHECK_IS(sendq_retry_after_ns(s.q), 1);
        CHECK(sendq_discard(s.q) >= 0);
        pieces_check(s.pieces, 2, 2, -ECANCELED);
        unstick(&s);
    }
    now_ns = 0;
}

/* A later call sets another time: sooner or later, from then on. sendq_close changes nothing. */
static void another_time(void) {
    stuck s;
    stick(&s);
    CHECK_IS(sendq_close_within(s.q, SECOND), 0);
    now_ns += SECOND / 2;
    CHECK_IS(sendq_close_within(s.q, 10ULL * SECOND), 0);
    CHECK_IS(sendq_close(s.q), 0);
    CHECK_IS(sendq_retry_after_ns(s.q), 10ULL * SECOND);
    now_ns += 9ULL * SECOND;
    CHECK_IS(by_flush(&s), SENDQ_BLOCKED);
    CHECK_IS(sendq_close_within(s.q, 1), 0);
    CHECK_IS(sendq_retry_after_ns(s.q), 1);
    now_ns++;
    CHECK_IS(by_flush(&s), -ETIMEDOUT);
    unstick(&s);

    /* Also on one that is closed already. */
    stick(&s);
    CHECK_IS(sendq_close(s.q), 0);
    CHECK_IS(sendq_retry_after_ns(s.q), SENDQ_NEVER);
    CHECK_IS(sendq_close_within(s.q, SECOND), 0);
    now_ns += SECOND;
    CHECK_IS(by_flush(&s), -ETIMEDOUT);
    unstick(&s);
}

/* What is corked waits too; the reservation ends with the commit. */
static void corked_and_reserved(void) {
    for (int reserved = 0; reserved < 2; reserved++) {
        for (int first = 0; first < 2; first++) {
            sendq_t* q = new_simulated_queue();
            piece pieces[2];
            void* memory;
            size_t waits = 100;
            if (first) {
                CHECK_IS(piece_append(q, &pieces[0], bytes, 50), SENDQ_WAKE);
                waits += 50;
            }
            CHECK_IS(sendq_cork(q), 0);
            CHECK(piece_append(q, &pieces[1], bytes, 100) >= 0);
            if (reserved) {
                CHECK_IS(sendq_reserve(q, 5000, &memory), 0);
            }
            CHECK_IS(sendq_close_within(q, SECOND), 0);
            if (first) {
                CHECK_IS(sendq_retry_after_ns(q), 0); /* what may leave does */
                CHECK_IS(sendq_consume(q, 50), 0);
            }
            CHECK_IS(sendq_retry_after_ns(q), SECOND); /* the cork holds back the rest */
            now_ns += SECOND;
            CHECK_IS(sendq_flush(q, -1, 0), -ETIMEDOUT);
            pieces_check(&pieces[1], 1, 1, -ETIMEDOUT);
            if (reserved) {
                memset(memory, 7, 5000); /* until the commit it is the caller's */
                CHECK_IS(sendq_commit(q, 5000), -ETIMEDOUT);
            }
            CHECK_IS(sendq_uncork(q), -ETIMEDOUT);
            CHECK_IS(sendq_rollback(q), -ETIMEDOUT);
            check_timed_out(q, waits, first ? 50 : 0);
            CHECK_IS(figures(q).allocated, 0);
            sendq_free(q);
        }
    }
}

/* Let go, or taken back, before the time is over. */
static void corked_in_time(void) {
    sendq_t* q = new_simulated_queue();
    CHECK_IS(sendq_cork(q), 0);
    CHECK(sendq_append(q, bytes, 100) >= 0);
    CHECK_IS(sendq_close_within(q, SECOND), 0);
    CHECK_IS(sendq_uncork(q), SENDQ_WAKE);
    stream_fill(bytes, 0, sizeof bytes);
    CHECK_IS(sendq_consume(q, 100), 0);
    now_ns += SECOND;
    CHECK_IS(sendq_consume(q, 0), 0);
    sendq_free(q);

    q = new_simulated_queue();
    CHECK_IS(sendq_cork(q), 0);
    CHECK(sendq_append(q, bytes, 100) >= 0);
    CHECK_IS(sendq_close_within(q, SECOND), 0);
    CHECK_IS(sendq_rollback(q), 0);
    CHECK_IS(sendq_retry_after_ns(q), SENDQ_NEVER);
    now_ns += SECOND;
    CHECK_IS(sendq_flush(q, -1, 0), 0);
    sendq_free(q);

    /* Reserved only: nothing waits, nothing times out, and nothing more comes. */
    void* memory;
    q = new_simulated_queue();
    CHECK_IS(sendq_reserve(q, 5000, &memory), 0);
    CHECK_IS(sendq_close_within(q, 0), 0);
    memset(memory, 7, 5000);
    CHECK_IS(sendq_commit(q, 5000), -EPIPE);
    CHECK_IS(figures(q).allocated, 0);
    sendq_free(q);
}

/* Every way to fail first; and a failure that comes before the deadline keeps its error. */
static void after_failure(void) {
    stuck s;
    stick(&s);
    CHECK_IS(sendq_close_within(s.q, SECOND), 0);
    close(s.e.peer);
    s.e.peer = -1;
    CHECK_IS(by_flush(&s), -EPIPE);
    pieces_check(s.pieces, 2, 2, -EPIPE);
    now_ns += SECOND;
    CHECK_IS(by_flush(&s), -EPIPE);
    CHECK_IS(sendq_close_within(s.q, 0), 0);
    CHECK_IS(sendq_error(s.q), -EPIPE);
    CHECK_IS(sendq_retry_after_ns(s.q), SENDQ_NEVER);
    unstick(&s);
}

/* The deadline and a rate: the nearer of the two. */
static void beside_a_rate(void) {
    sendq_t* q = new_simulated_queue();
    ends e = ends_unix();
    CHECK_IS(sendq_set_rate(q, 1000, 1000), 0);
    CHECK(sendq_append(q, bytes, 5000) >= 0);
    CHECK_IS(sendq_flush(q, e.queue, 0), SENDQ_MORE);
    uint64_t by_rate = sendq_retry_after_ns(q);
    CHECK_IS(sendq_close_within(q, 2ULL * SECOND), 0);
    CHECK_IS(sendq_retry_after_ns(q), by_rate);
    CHECK_IS(sendq_close_within(q, 5), 0);
    CHECK_IS(sendq_retry_after_ns(q), 5);
    CHECK_IS(sendq_close_within(q, 2ULL * SECOND), 0);
    for (int i = 0; sendq_error(q) == 0 && i < 1000; i++) {
        uint64_t pause = sendq_retry_after_ns(q);
        CHECK(pause > 0);
        now_ns += pause;
        ends_read(e, bytes, sizeof bytes);
        int hints = sendq_flush(q, e.queue, 0);
        CHECK_IS(hints, sendq_error(q) ? -ETIMEDOUT : SENDQ_MORE);
    }
    sendq_stats_t f = figures(q);
    CHECK(f.sent <= 3000 && f.sent >= 2980); /* a burst, and what came in two seconds */
    CHECK_IS(f.discarded, 5000 - f.sent);
    CHECK_IS(sendq_error(q), -ETIMEDOUT);
    sendq_free(q);
    ends_close(e);
}

static sendq_t* of_callback;
static int released;

/* Owners that close and ask while they are released; the last one frees. */
static void ask_and_free(void* arg, const void* data, size_t len, int reason) {
    (void)arg, (void)data, (void)len;
    CHECK_IS(reason, -ETIMEDOUT);
    CHECK_IS(sendq_error(of_callback), -ETIMEDOUT);
    CHECK_IS(sendq_close_within(of_callback, 0), 0);
    CHECK_IS(sendq_retry_after_ns(of_callback), SENDQ_NEVER);
    CHECK_IS(sendq_stalled_ns(of_callback), 0);
    CHECK_IS(figures(of_callback).waiting, 0);
    if (++released == 2) {
        sendq_free(of_callback);
    }
}

static void freed_by_its_owners(void) {
    for (uint64_t timeout = 0; timeout <= SECOND; timeout += SECOND) {
        released = 0;
        of_callback = new_simulated_queue();
        CHECK(sendq_append_ref(of_callback, bytes, 100, ask_and_free, NULL) >= 0);
        CHECK(sendq_append_ref(of_callback, bytes, 100, ask_and_free, NULL) >= 0);
        int closed = sendq_close_within(of_callback, timeout);
        CHECK_IS(closed, timeout ? 0 : -ETIMEDOUT);
        now_ns += timeout;
        if (timeout > 0) {
            CHECK_IS(sendq_flush(of_callback, -1, 0), -ETIMEDOUT);
        }
        CHECK_IS(released, 2);
    }
}

int main(void) {
    static int (*const looks[])(stuck*) = {by_flush, by_consume, by_close};
    for (size_t i = 0; i < sizeof looks / sizeof *looks; i++) {
        at_the_deadline(1, looks[i]);
        at_the_deadline(SECOND, looks[i]);
        at_the_deadline(UINT64_MAX / 8, looks[i]);
        now_ns = 0;
    }
    in_time();
    at_once();
    huge();
    another_time();
    corked_and_reserved();
    corked_in_time();
    after_failure();
    beside_a_rate();
    freed_by_its_owners();
    return 0;
}
