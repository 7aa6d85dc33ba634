/* Law 7 where the model does not get: a real connection that is as full as ever while it drains is
 * not stalled; and clocks at their ends. */
#include "simulated.h"

static unsigned char bytes[1 << 20];

static uint64_t stalled(const sendq_t* q) {
    uint64_t ns = sendq_stalled_ns(q);
    CHECK_IS(figures(q).stalled_ns, ns);
    return ns;
}

/* As much comes as leaves, for a minute: the size never changes, nobody is stuck.
 */
static void constant_size_that_drains(ends e, size_t each) {
    sendq_t* q = new_simulated_queue();
    ends_least_buffer(e);
    fill_up(q, e, bytes, sizeof bytes);
    uint64_t size = sendq_queued_bytes(q);
    uint64_t sent = sendq_sent_bytes(q);
    for (int i = 0; i < 60; i++) {
        now_ns += SECOND;
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
    }
    sendq_free(q);
    ends_close(e);
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

/* What another queue has taken is not what a minimum rate asks for. */
static void spliced(void) {
    sendq_t* q = new_simulated_queue();
    sendq_t* other = new_simulated_queue();
    CHECK_IS(sendq_set_min_rate(q, 10, SECOND), 0);
    CHECK(sendq_append(q, bytes, 100) >= 0);
    CHECK_IS(stalled(q), 0);
    now_ns += 2 * SECOND;
    CHECK(sendq_consume(q, 1) >= 0);
    CHECK(sendq_splice_n(other, q, 50) >= 0);
    CHECK(sendq_consume(q, 1) >= 0);
    CHECK_IS(stalled(q), 2 * SECOND);
    CHECK(sendq_consume(q, 9) >= 0);
    CHECK_IS(stalled(q), 0);
    sendq_free(other);
    sendq_free(q);
}

int main(void) {
    constant_size_that_drains(ends_unix(), 100);
    constant_size_that_drains(ends_tcp(), 50000);
    clocks();
    spliced();
    return 0;
}
