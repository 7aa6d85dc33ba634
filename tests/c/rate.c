/* No faster than: what left in a time never exceeds the burst and what the rate gives in it, a host
 * that obeys sendq_retry_after_ns gets that much, with few calls, and never spins. */
#include <fcntl.h>

#include "simulated.h"

static unsigned char bytes[1 << 20];
static int file;

/* Takes what comes, so that the socket is never full. */
static void drain(ends e) {
    static unsigned char out[1 << 18];
    while (ends_read(e, out, sizeof out) > 0) {
    }
}

static uint64_t add(uint64_t a, uint64_t b) {
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

/* What the rate lets go of in so many nanoseconds. */
static uint64_t earned(uint64_t rate, uint64_t ns) {
    uint64_t whole = ns / SECOND;
    uint64_t part = ns % SECOND;
    if (rate > 0 && whole > UINT64_MAX / rate) {
        return UINT64_MAX;
    }
    uint64_t of_part = rate / SECOND * part + rate % SECOND * part / SECOND;
    return add(whole * rate, of_part);
}

enum { COPIED, BORROWED, FILED, MIXED, KINDS };

static void give(sendq_t* q, int kind, size_t len) {
    if (kind == MIXED) {
        give(q, COPIED, len / 3);
        give(q, BORROWED, len / 3);
        give(q, FILED, len - len / 3 * 2);
    } else if (len > 0) {
        CHECK((kind == COPIED     ? sendq_append(q, bytes, len)
               : kind == BORROWED ? sendq_append_ref(q, bytes, len, NULL, NULL)
                                  : sendq_append_file(q, file, 0, len, NULL, NULL)) >= 0);
    }
}

/* Sends `len` bytes as a host does that obeys: each flush after a pause sends something, the sum
 * keeps to the rate to the byte, and the calls are few. */
static void obey(uint64_t rate, uint64_t burst, int kind, size_t len, size_t max_bytes) {
    sendq_t* q = new_simulated_queue();
    ends e = ends_unix();
    CHECK_IS(fcntl(e.queue, F_SETFL, O_NONBLOCK), 0);
    uint64_t start = now_ns;
    uint64_t bucket = burst ? burst : rate;
    CHECK_IS(sendq_set_rate(q, rate, burst), 0);
    give(q, kind, len);
    uint64_t flushes = 0;
    uint64_t paused = 0;
    for (int hints = SENDQ_MORE; hints & SENDQ_MORE; flushes++) {
        uint64_t before = sendq_sent_bytes(q);
        hints = sendq_flush(q, e.queue, max_bytes);
        uint64_t sent = sendq_sent_bytes(q);
        CHECK_IS(hints & ~SENDQ_RESUME, sent < len ? SENDQ_MORE : 0);
        CHECK(sent > before);
        CHECK(max_bytes == 0 || sent - before <= max_bytes);
        CHECK(sent <= add(bucket, earned(rate, now_ns - start)));
        drain(e);
        uint64_t pause = sendq_retry_after_ns(q);
        if (pause == SENDQ_NEVER) {
            CHECK_IS(sent, len);
        } else if (pause > 0) {
            CHECK(hints & SENDQ_MORE);
            CHECK(pause <= SECOND + 1ULL);
            now_ns += pause - 1;
            CHECK(sendq_retry_after_ns(q) <= 2); /* rounded up */
            now_ns++;
            CHECK_IS(sendq_retry_after_ns(q), 0);
            paused++;
        } else {
            CHECK_IS(sent - before, max_bytes);
        }
    }
    CHECK_IS(sendq_sent_bytes(q), len);
    /* The rate was used: all came no later than it should have, but for a pause of rounding. */
    if (len > bucket) {
        CHECK(add(bucket, earned(rate, now_ns - start)) <= add(len, rate / 64 + 2));
    } else {
        CHECK_IS(now_ns, start);
    }
    /* Few calls: 256 a second at most, or as many as there are bursts. */
    uint64_t seconds = (now_ns - start) / SECOND + 1;
    CHECK(paused <= seconds * 256 || paused <= len / bucket + 1);
    CHECK(flushes <= paused + (max_bytes ? len / max_bytes : 0) + 1);
    CHECK_IS(figures(q).flushes, flushes); /* none that found nothing */
    sendq_free(q);
    ends_close(e);
}

static void obedient_hosts(void) {
    static const uint64_t rates[] = {1, 3, 127, 1000, 1000003, 1ULL << 30, 7ULL << 30, UINT64_MAX};
    static const uint64_t bursts[] = {0, 1, 1000, 4096, 30000, UINT64_MAX};
    for (size_t r = 0; r < sizeof rates / sizeof *rates; r++) {
        for (size_t b = 0; b < sizeof bursts / sizeof *bursts; b++) {
            for (int kind = 0; kind < KINDS; kind++) {
                uint64_t rate = rates[r];
                bool is_slow = rate < 10000 || (bursts[b] > 0 && bursts[b] < 1000);
                size_t len = rate < 200 ? 300 : is_slow ? 2000 : 50000;
                now_ns = r * 12345;
                obey(rate, bursts[b], kind, len, 0);
                obey(rate, bursts[b], kind, len, 1000);
                obey(rate, bursts[b], kind, len, len / 2);
            }
        }
    }
}

/* A host that does not wait gains nothing: flushes in between send nothing, and cost no call. */
static void impatient_host(void) {
    sendq_t* q = new_simulated_queue();
    ends e = ends_unix();
    uint64_t start = now_ns;
    uint64_t random = 7;
    CHECK_IS(sendq_set_rate(q, 100000, 5000), 0);
    give(q, BORROWED, sizeof bytes);
    CHECK_IS(sendq_flush(q, e.queue, 0), SENDQ_MORE);
    CHECK_IS(sendq_sent_bytes(q), 5000);
    for (int i = 0; i < 100; i++) {
        CHECK_IS(sendq_flush(q, e.queue, 0), SENDQ_MORE);
    }
    CHECK_IS(sendq_sent_bytes(q), 5000);
    CHECK_IS(figures(q).system_calls, 1);
    for (int i = 0; i < 20000 && sendq_queued_bytes(q) > 0; i++) {
        now_ns += random_up_to(&random, 3 * MILLISECOND);
        CHECK(sendq_flush(q, e.queue, 0) >= 0);
        CHECK(sendq_sent_bytes(q) <= 5000 + earned(100000, now_ns - start));
        CHECK(sendq_sent_bytes(q) + 1 >= 5000 + earned(100000, now_ns - start) ||
              sendq_queued_bytes(q) == 0);
        drain(e);
    }
    CHECK_IS(sendq_queued_bytes(q), 0);

    /* A pause of any length earns no more than a burst. */
    now_ns += 1000ULL * SECOND;
    give(q, BORROWED, sizeof bytes);
    uint64_t before = sendq_sent_bytes(q);
    CHECK_IS(sendq_flush(q, e.queue, 0), SENDQ_MORE);
    CHECK_IS(sendq_sent_bytes(q) - before, 5000);
    sendq_free(q);
    ends_close(e);
}

/* Full socket, empty bucket: whichever it is, the hint says it, and the time is for the bucket
 * only. */
static void full_socket(void) {
    sendq_t* q = new_simulated_queue();
    ends e = ends_unix();
    ends_least_buffer(e);
    CHECK_IS(sendq_set_rate(q, 1 << 20, 1 << 20), 0);
    give(q, BORROWED, sizeof bytes);
    give(q, BORROWED, sizeof bytes);
    CHECK_IS(sendq_flush(q, e.queue, 0), SENDQ_BLOCKED);
    CHECK_IS(sendq_retry_after_ns(q), SENDQ_NEVER); /* it waits for the socket */
    uint64_t took = sendq_sent_bytes(q);
    CHECK(took > 0 && took < sizeof bytes);
    CHECK_IS(sendq_consume(q, 1000), 0);
    for (int i = 0; i < 100000 && sendq_sent_bytes(q) < sizeof bytes; i++) {
        drain(e);
        int hints = sendq_flush(q, e.queue, 0);
        CHECK_IS(hints & ~SENDQ_RESUME,
                 sendq_sent_bytes(q) == sizeof bytes ? SENDQ_MORE : SENDQ_BLOCKED);
    }
    CHECK_IS(sendq_sent_bytes(q), sizeof bytes); /* what was consumed counts */
    CHECK(sendq_retry_after_ns(q) > 0);
    CHECK_IS(sendq_flush(q, e.queue, 0), SENDQ_MORE);
    CHECK_IS(sendq_sent_bytes(q), sizeof bytes);

    /* No rate any more: as fast as the socket. */
    CHECK_IS(sendq_set_rate(q, 0, 123), 0);
    CHECK_IS(sendq_retry_after_ns(q), 0);
    drain(e);
    CHECK(sendq_flush(q, e.queue, 0) & SENDQ_BLOCKED);
    CHECK(sendq_sent_bytes(q) > sizeof bytes);
    CHECK_IS(sendq_set_rate(NULL, 1, 1), -EINVAL);
    sendq_free(q);
    ends_close(e);
}

/* What the host sends by itself counts, and is not held back. */
static void consumed(void) {
    sendq_t* q = new_simulated_queue();
    ends e = ends_unix();
    CHECK_IS(sendq_set_rate(q, 1000, 1000), 0);
    give(q, COPIED, 5000);
    CHECK_IS(sendq_consume(q, 900), 0);
    CHECK_IS(sendq_flush(q, e.queue, 0), SENDQ_MORE);
    CHECK_IS(sendq_sent_bytes(q), 1000);
    CHECK_IS(sendq_consume(q, 4000), 0);
    CHECK_IS(sendq_retry_after_ns(q), SENDQ_NEVER); /* nothing waits */
    give(q, COPIED, 100);
    CHECK_IS(sendq_retry_after_ns(q), 7 * MILLISECOND); /* 7 bytes: a 128th of a second */
    CHECK_IS(sendq_flush(q, e.queue, 0), SENDQ_MORE);
    CHECK_IS(sendq_sent_bytes(q), 5000);
    sendq_free(q);
    ends_close(e);
}

/* What is corked is not seen by a flush: nothing to wait for. */
static void corked(void) {
    sendq_t* q = new_simulated_queue();
    ends e = ends_unix();
    CHECK_IS(sendq_set_rate(q, 1000, 10), 0);
    give(q, COPIED, 20);
    CHECK_IS(sendq_cork(q), 0);
    give(q, BORROWED, 1000);
    CHECK_IS(sendq_flush(q, e.queue, 0), SENDQ_MORE);
    CHECK_IS(sendq_retry_after_ns(q), 7 * MILLISECOND);
    now_ns += 10 * MILLISECOND;
    CHECK_IS(sendq_flush(q, e.queue, 0), 0);
    CHECK_IS(sendq_sent_bytes(q), 20);
    CHECK_IS(sendq_retry_after_ns(q), SENDQ_NEVER);
    CHECK_IS(sendq_uncork(q), SENDQ_WAKE);
    CHECK_IS(sendq_flush(q, e.queue, 0), SENDQ_MORE);
    CHECK(sendq_retry_after_ns(q) > 0);
    sendq_free(q);
    ends_close(e);
}

/* A clock that jumps back takes nothing away, and gives nothing before it has caught up. */
static void clock_jumps(void) {
    sendq_t* q = new_simulated_queue();
    ends e = ends_unix();
    now_ns = 1000ULL * SECOND;
    CHECK_IS(sendq_set_rate(q, 1000, 1000), 0);
    give(q, COPIED, 100000);
    CHECK_IS(sendq_flush(q, e.queue, 0), SENDQ_MORE);
    for (now_ns = 0; now_ns <= 1000ULL * SECOND; now_ns += 100ULL * SECOND) {
        CHECK_IS(sendq_flush(q, e.queue, 0), SENDQ_MORE);
        CHECK_IS(sendq_sent_bytes(q), 1000);
        CHECK_IS(sendq_retry_after_ns(q), 7 * MILLISECOND); /* never 0: no spin */
    }
    now_ns = 1000ULL * SECOND + SECOND / 2;
    CHECK_IS(sendq_flush(q, e.queue, 0), SENDQ_MORE);
    CHECK_IS(sendq_sent_bytes(q), 1500);
    now_ns = UINT64_MAX;
    CHECK_IS(sendq_flush(q, e.queue, 0), SENDQ_MORE);
    CHECK_IS(sendq_sent_bytes(q), 2500); /* a burst */
    CHECK(sendq_retry_after_ns(q) > 0);
    now_ns = 0;
    sendq_free(q);
    ends_close(e);
}

/* The budget of a call holds beside the rate: the lesser counts, to the byte. */
static void budgets(void) {
    for (int kind = 0; kind < KINDS; kind++) {
        sendq_t* q = new_simulated_queue();
        ends e = ends_unix();
        CHECK_IS(fcntl(e.queue, F_SETFL, O_NONBLOCK), 0);
        CHECK_IS(sendq_set_rate(q, 10000, 10000), 0);
        give(q, kind, 60000);
        CHECK_IS(sendq_flush(q, e.queue, 9999), SENDQ_MORE);
        CHECK_IS(sendq_sent_bytes(q), 9999);
        CHECK_IS(sendq_retry_after_ns(q), 0); /* it was the budget that ended it */
        CHECK_IS(sendq_flush(q, e.queue, 9999), SENDQ_MORE);
        CHECK_IS(sendq_sent_bytes(q), 10000);
        CHECK_IS(sendq_retry_after_ns(q), 78 * MILLISECOND / 10); /* 78 bytes, for a 128th */
        now_ns += SECOND;
        CHECK_IS(sendq_retry_after_ns(q), 0);
        CHECK_IS(sendq_flush(q, e.queue, 10001), SENDQ_MORE);
        CHECK_IS(sendq_sent_bytes(q), 20000);
        drain(e);
        sendq_free(q);
        ends_close(e);
    }
}

int main(void) {
    FILE* stream = tmpfile();
    CHECK(stream != NULL);
    file = fileno(stream);
    CHECK_IS(ftruncate(file, sizeof bytes), 0);
    obedient_hosts();
    impatient_host();
    full_socket();
    consumed();
    corked();
    clock_jumps();
    budgets();
    CHECK_IS(fclose(stream), 0);
    return 0;
}
