/* What the model does not say of a rate: a host that obeys sendq_retry_after_ns uses all of it,
 * with few calls, at any rate and burst. */
#include "simulated.h"

static unsigned char bytes[1 << 20];

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

/* Sends `len` bytes as a host does that obeys: each flush after a pause sends something, the sum
 * keeps to the rate to the byte, and the calls are few. */
static void obey(uint64_t rate, uint64_t burst, size_t len, size_t max_bytes) {
    sendq_t* q = new_simulated_queue();
    ends e = ends_unix();
    uint64_t start = now_ns;
    uint64_t bucket = burst ? burst : rate;
    CHECK_IS(sendq_set_rate(q, rate, burst), 0);
    CHECK(sendq_append_ref(q, bytes, len, NULL, NULL) >= 0);
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

int main(void) {
    static const uint64_t rates[] = {1, 3, 127, 1000, 1000003, 1ULL << 30, 7ULL << 30, UINT64_MAX};
    static const uint64_t bursts[] = {0, 1, 1000, 4096, 30000, UINT64_MAX};
    for (size_t r = 0; r < sizeof rates / sizeof *rates; r++) {
        for (size_t b = 0; b < sizeof bursts / sizeof *bursts; b++) {
            uint64_t rate = rates[r];
            bool is_slow = rate < 10000 || (bursts[b] > 0 && bursts[b] < 1000);
            size_t len = rate < 200 ? 300 : is_slow ? 2000 : 50000;
            now_ns = r * 12345;
            obey(rate, bursts[b], len, 0);
            obey(rate, bursts[b], len, 1000);
        }
    }
    return 0;
}
