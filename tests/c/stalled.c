/* Who is stuck and who is not: what leaves counts, not how much waits; too slow counts as stuck
 * where there is a minimum rate; and whatever the clock does, nobody is judged for longer than it
 * showed.
 */
#include "simulated.h"

enum { LIMIT = 30 }; /* seconds */

static unsigned char bytes[1 << 20];

static uint64_t stalled(const sendq_t* q) {
    uint64_t ns = sendq_stalled_ns(q);
    CHECK_IS(figures(q).stalled_ns, ns);
    return ns;
}

static bool is_stuck(const sendq_t* q) {
    return stalled(q) > (uint64_t)LIMIT * SECOND;
}

static void pass(uint64_t seconds) {
    now_ns += seconds * SECOND;
}

/* As much comes as leaves, for far longer than the limit: the size never changes, nobody is stuck.
 */
static void constant_size_that_drains(ends e, size_t each) {
    sendq_t* q = new_simulated_queue();
    ends_least_buffer(e);
    fill_up(q, e, bytes, sizeof bytes);
    uint64_t size = sendq_queued_bytes(q);
    uint64_t sent = sendq_sent_bytes(q);
    for (int i = 0; i < 2 * LIMIT; i++) {
        pass(1);
        while (sendq_sent_bytes(q) == sent) {
            struct pollfd both[] = {{e.queue, POLLOUT, 0}, {e.peer, POLLIN, 0}};
            CHECK(poll(both, 2, 30000) > 0);
            ends_read(e, bytes, each);
            CHECK(sendq_flush(q, e.queue, 0) >= 0);
        }
        uint64_t left = sendq_sent_bytes(q) - sent;
        CHECK(left > 0);
        sent += left;
        CHECK(sendq_append(q, bytes, left) >= 0);
        CHECK_IS(sendq_queued_bytes(q), size);
        CHECK_IS(stalled(q), 0);
        CHECK(!is_stuck(q));
    }
    sendq_free(q);
    ends_close(e);
}

/* The same size, and nothing leaves: stuck when its time is up, with flushes or without, and
 * however much is appended. */
static void full_and_stuck(bool flushes, bool appends) {
    sendq_t* q = new_simulated_queue();
    ends e = ends_unix();
    fill_up(q, e, bytes, sizeof bytes);
    for (uint64_t i = 1; i <= 2 * LIMIT; i++) {
        pass(1);
        CHECK_IS(stalled(q), i * SECOND);
        CHECK_IS(is_stuck(q), i > LIMIT);
        if (flushes) {
            CHECK_IS(sendq_flush(q, e.queue, 0), SENDQ_BLOCKED);
        }
        if (appends) {
            CHECK(sendq_append(q, bytes, 1000) >= 0);
        }
        CHECK_IS(stalled(q), i * SECOND);
    }
    ends_close(e);
    sendq_free(q);
}

/* What waits without having been flushed counts from the first look; what is appended
 * behind, what is peeked and what is refused change nothing. An empty queue is never stuck. */
static void since_the_first_look(void) {
    sendq_t* q = new_simulated_queue();
    struct iovec iov;
    piece p;
    pass(1000);
    CHECK_IS(stalled(q), 0);
    CHECK_IS(sendq_append(q, bytes, 10), SENDQ_WAKE);
    CHECK_IS(stalled(q), 0);
    CHECK_IS(figures(q).last_progress_ns, now_ns);
    pass(1);
    CHECK(sendq_append(q, bytes, 10) >= 0);
    CHECK(piece_append(q, &p, bytes, 10) >= 0);
    CHECK(sendq_consume(q, 0) >= 0);
    CHECK_IS(sendq_consume(q, 31), -EINVAL);
    CHECK_IS(sendq_peek(q, &iov, 1), 1);
    CHECK(sendq_set_watermarks(q, 1, 2, 0) >= 0);
    CHECK_IS(stalled(q), SECOND);
    CHECK(sendq_consume(q, 1) >= 0);
    CHECK_IS(stalled(q), 0);
    pass(2);
    CHECK_IS(stalled(q), 2ULL * SECOND);
    CHECK(sendq_consume(q, 29) >= 0);
    CHECK_IS(stalled(q), 0); /* empty */
    pass(1000);
    CHECK_IS(stalled(q), 0);

    /* It fills again, in every way. */
    void* memory;
    CHECK_IS(sendq_reserve(q, 10, &memory), 0);
    pass(10);
    CHECK_IS(stalled(q), 0); /* reserved is not waiting */
    memset(memory, 0, 10);
    CHECK_IS(sendq_commit(q, 10), SENDQ_WAKE | SENDQ_HIGH);
    CHECK_IS(stalled(q), 0);
    pass(1);
    CHECK_IS(stalled(q), SECOND);
    CHECK(sendq_discard(q) >= 0);
    CHECK_IS(stalled(q), 0);
    pass(100);
    CHECK(piece_append(q, &p, bytes, 10) >= 0);
    CHECK_IS(stalled(q), 0);
    pass(100);
    sendq_t* other = new_simulated_queue();
    CHECK_IS(sendq_splice(other, q), SENDQ_WAKE);
    CHECK_IS(stalled(q), 0);
    CHECK_IS(stalled(other), 0); /* it only came there now */
    pass(3);
    CHECK_IS(stalled(other), 3ULL * SECOND);
    CHECK_IS(sendq_stalled_ns(NULL), 0);
    CHECK_IS(sendq_retry_after_ns(NULL), SENDQ_NEVER);
    sendq_free(q);
    sendq_free(other);
}

/* A failed connection has nothing that could be stuck. */
static void failed(void) {
    sendq_t* q = new_simulated_queue();
    CHECK_IS(sendq_append(q, bytes, 10), SENDQ_WAKE);
    pass(100);
    CHECK_IS(sendq_flush(q, -1, 0), -EBADF);
    CHECK_IS(stalled(q), 0);
    CHECK_IS(sendq_set_min_rate(q, 1000, SECOND), 0);
    pass(100);
    CHECK_IS(stalled(q), 0);
    CHECK_IS(sendq_retry_after_ns(q), SENDQ_NEVER);
    sendq_free(q);
}

/* `each` bytes leave every `pause` seconds, for an hour. Returns for how long it seemed stalled at
 * most. */
static uint64_t trickle(uint64_t min_rate, uint64_t window, size_t each, uint64_t pause) {
    sendq_t* q = new_simulated_queue();
    CHECK_IS(sendq_set_min_rate(q, min_rate, window * SECOND), 0);
    CHECK(sendq_append_ref(q, bytes, 1ULL << 40, NULL, NULL) >= 0);
    uint64_t most = 0;
    for (uint64_t t = 0; t < 3600; t++) {
        pass(1);
        if (t % pause == 0) {
            CHECK(sendq_consume(q, each) >= 0);
        }
        most = stalled(q) > most ? stalled(q) : most;
        CHECK(stalled(q) <= (t + 1) * SECOND);
    }
    sendq_free(q);
    return most / SECOND;
}

/* A byte a minute is as good as none; a client at the minimum rate or above it is left alone. */
static void min_rates(void) {
    CHECK_IS(trickle(0, 0, 1, 60), 59); /* no minimum rate: a byte a minute is progress */
    CHECK(trickle(1000, 10, 1, 60) >= 3500);
    CHECK(trickle(1000, 10, 1, 1) >= 3500);
    CHECK(trickle(1000, 10, 300, 1) > 30); /* a third of it, for as long as the limit */
    CHECK(trickle(1000, 10, 900, 1) > 10);
    CHECK(trickle(1000, 10, 1000, 1) <= 10);
    CHECK(trickle(1000, 10, 5000, 5) <= 10);
    CHECK(trickle(1000, 10, 10000, 10) <= 10);
    CHECK(trickle(1000, 10, 100000, 11) <= 11); /* much, with pauses just over the window */
    CHECK(trickle(1, 60, 1, 60) >= 3500);       /* a byte a minute, where 60 are due */
    CHECK(trickle(1, 3600, 1, 1) == 0);         /* exactly the minimum rate, never a whole window */
    CHECK_IS(trickle(UINT64_MAX, UINT64_MAX / SECOND, 1000, 1), 0); /* no window passes */
    CHECK(trickle(UINT64_MAX, 1, 1000, 1) >= 3500);
}

/* A slow connection is judged so until as much leaves in a window as is owed; then it starts anew.
 */
static void min_rate_recovers(void) {
    sendq_t* q = new_simulated_queue();
    CHECK_IS(sendq_set_min_rate(q, 100, 10ULL * SECOND), 0);
    CHECK(sendq_append_ref(q, bytes, sizeof bytes, NULL, NULL) >= 0);
    CHECK_IS(stalled(q), 0); /* the first look starts the clock */
    for (int i = 0; i < 20; i++) {
        pass(1);
        CHECK(sendq_consume(q, 1) >= 0);
    }
    CHECK_IS(stalled(q), 20ULL * SECOND);
    CHECK(sendq_consume(q, 989) >= 0);    /* ten in this window before */
    CHECK_IS(stalled(q), 20ULL * SECOND); /* one byte is missing */
    CHECK(sendq_consume(q, 1) >= 0);
    CHECK_IS(stalled(q), 0);
    pass(10);
    CHECK_IS(stalled(q), 10ULL * SECOND); /* none has left */
    CHECK(sendq_consume(q, 1) >= 0);
    CHECK_IS(stalled(q), 0); /* the window is not over yet */
    now_ns++;
    CHECK_IS(stalled(q), 10ULL * SECOND + 1);

    /* Nothing is owed for the time in which nothing waits. */
    CHECK(sendq_consume(q, sendq_queued_bytes(q)) >= 0);
    CHECK_IS(stalled(q), 0);
    pass(1000);
    CHECK_IS(sendq_append(q, bytes, 1000), SENDQ_WAKE);
    CHECK_IS(stalled(q), 0);
    pass(5);
    CHECK(sendq_consume(q, 1) >= 0);
    CHECK_IS(stalled(q), 0);
    pass(6);
    CHECK_IS(stalled(q), 11ULL * SECOND);

    /* Another minimum rate begins anew; none leaves the time since the last byte. */
    CHECK_IS(sendq_set_min_rate(q, 100, 10ULL * SECOND), 0);
    CHECK_IS(stalled(q), 6ULL * SECOND);
    CHECK_IS(sendq_set_min_rate(q, 0, 0), 0);
    pass(1);
    CHECK_IS(stalled(q), 7ULL * SECOND);
    CHECK_IS(sendq_set_min_rate(q, 1, 0), -EINVAL);
    CHECK_IS(sendq_set_min_rate(NULL, 1, 1), -EINVAL);
    CHECK_IS(sendq_set_min_rate(q, UINT64_MAX, UINT64_MAX), 0);
    CHECK_IS(sendq_set_min_rate(q, 1, 1), 0); /* less than a byte is due: one is */
    CHECK_IS(sendq_set_min_rate(q, 0, 1), 0);
    sendq_free(q);
}

/* A clock that starts, ends, stands still, and jumps to and fro. */
static void clocks(void) {
    static const uint64_t starts[] = {0, 1, UINT64_MAX / 2, UINT64_MAX - SECOND, UINT64_MAX};
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
        for (int paced = 0; paced < 2; paced++) {
            now_ns = starts[i];
            sendq_t* q = new_simulated_queue();
            ends e = ends_unix();
            if (paced) {
                CHECK_IS(sendq_set_min_rate(q, 1000, SECOND), 0);
            }
            fill_up(q, e, bytes, sizeof bytes);
            CHECK_IS(stalled(q), 0);
            CHECK_IS(figures(q).blocked_ns, 0); /* it stands still */
            CHECK_IS(sendq_flush(q, e.queue, 0), SENDQ_BLOCKED);
            now_ns = UINT64_MAX;
            CHECK_IS(stalled(q), UINT64_MAX - starts[i]);
            CHECK_IS(figures(q).blocked_ns, UINT64_MAX - starts[i]);
            now_ns = starts[i] / 2; /* back: time stands still */
            CHECK_IS(stalled(q), UINT64_MAX - starts[i]);
            CHECK(sendq_consume(q, 1) >= 0);
            /* A byte is progress, but not what a minimum rate asks for. */
            bool slow = paced && UINT64_MAX - starts[i] > SECOND;
            CHECK_IS(stalled(q), slow ? UINT64_MAX - starts[i] : 0);
            now_ns += SECOND / 2;
            CHECK_IS(stalled(q), slow ? UINT64_MAX - starts[i] : 0);
            ends_close(e);
            sendq_free(q);
        }
    }
    now_ns = 0;
}

int main(void) {
    constant_size_that_drains(ends_unix(), 100);
    constant_size_that_drains(ends_unix(), sizeof bytes);
    constant_size_that_drains(ends_tcp(), 50000);
    for (int i = 0; i < 4; i++) {
        full_and_stuck(i % 2, i / 2);
    }
    since_the_first_look();
    failed();
    min_rates();
    min_rate_recovers();
    clocks();
    return 0;
}
