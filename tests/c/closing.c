/* sendq_close_within on a real connection that is stuck, to the nanosecond, and with times that
 * would wrap around. */
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
    CHECK_IS(look(&s), -ETIMEDOUT);
    pieces_check(s.pieces, 2, 2, -ETIMEDOUT);
    CHECK_IS(sendq_error(s.q), -ETIMEDOUT);
    CHECK_IS(figures(s.q).waiting, 0);
    CHECK_IS(sendq_retry_after_ns(s.q), SENDQ_NEVER);
    unstick(&s);
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

int main(void) {
    static int (*const looks[])(stuck*) = {by_flush, by_consume, by_close};
    for (size_t i = 0; i < sizeof looks / sizeof *looks; i++) {
        at_the_deadline(1, looks[i]);
        at_the_deadline(SECOND, looks[i]);
        at_the_deadline(UINT64_MAX / 8, looks[i]);
        now_ns = 0;
    }
    huge();
    return 0;
}
