/* sendq_ssl_send: a message is encrypted and sent before the call returns, or waits in its place.
 */
#include "tls.h"

enum { STREAM = 1 << 20, SMALL = 1000 };

static unsigned char stream[STREAM];

typedef struct {
    int times;
    int reason;
} owner;

static void release(void* arg, const void* data, size_t len, int reason) {
    (void)data, (void)len;
    owner* o = arg;
    CHECK_IS(o->times++, 0);
    o->reason = reason;
}

/* The next len bytes of the test stream, in two parts. */
static int send_message(tls* t, size_t len, owner* o, size_t budget) {
    uint64_t at = sendq_sent_bytes(t->q) + sendq_queued_bytes(t->q);
    CHECK(at + len <= STREAM);
    const sendq_part_t parts[] = {sendq_part_copy(stream + at, 10),
                                  sendq_part_ref(stream + at + 10, len - 10)};
    *o = (owner){0};
    return sendq_ssl_send(t->q, t->server, parts, 2, release, o, budget);
}

static void at_once(int version) {
    tls t = tls_establish(ends_unix(), version);
    owner o;
    for (int i = 1; i <= 10; i++) {
        CHECK_IS(send_message(&t, SMALL, &o, 0), 0);
        CHECK_IS(o.times, 1);
        tls_expect(&t, (uint64_t)i * SMALL);
    }
    CHECK_IS(t.records, 10); /* each message is one */
    CHECK_IS(send_message(&t, 30000, &o, 10000), SENDQ_MORE);
    CHECK_IS(o.times, 0);
    tls_drain(&t);
    CHECK_IS(o.times, 1);
    CHECK_IS(o.reason, 0);
    tls_free(&t);
}

static void when_full(int version) {
    tls t = tls_establish(ends_unix(), version);
    ends_least_buffer(t.e);
    owner first, second;
    CHECK_IS(sendq_set_watermarks(t.q, 0, 250000, 400000), 0);
    CHECK_IS(send_message(&t, 200000, &first, 0), SENDQ_BLOCKED);
    CHECK_IS(send_message(&t, 100000, &second, 0), SENDQ_BLOCKED | SENDQ_HIGH);
    owner third;
    CHECK_IS(send_message(&t, 200000, &third, 0), -ENOBUFS);
    CHECK_IS(first.times + second.times + third.times, 0);
    tls_drain(&t);
    CHECK_IS(t.received, 300000);
    CHECK_IS(first.times + second.times, 2);
    CHECK_IS(third.times, 0);
    tls_free(&t);
}

static void failed(int version) {
    tls t = tls_establish(ends_unix(), version);
    owner o;
    CHECK_IS(shutdown(t.e.queue, SHUT_WR), 0);
    CHECK_IS(send_message(&t, 100000, &o, 0), SENDQ_CLOSED);
    CHECK_IS(sendq_error(t.q), -EPIPE);
    CHECK_IS(o.times, 1);
    CHECK_IS(o.reason, -EPIPE);
    CHECK_IS(send_message(&t, 100000, &o, 0), -EPIPE);
    CHECK_IS(o.times, 0);
    tls_free(&t);
}

static void misuse(int version) {
    tls t = tls_establish(ends_unix(), version);
    const sendq_part_t part = sendq_part_copy("x", 1);
    CHECK_IS(sendq_ssl_send(NULL, t.server, &part, 1, NULL, NULL, 0), -EINVAL);
    CHECK_IS(sendq_ssl_send(t.q, NULL, &part, 1, NULL, NULL, 0), -EINVAL);
    CHECK_IS(sendq_ssl_send(t.q, t.server, NULL, 1, NULL, NULL, 0), -EINVAL);
    CHECK_IS(sendq_ssl_send(t.q, t.server, &part, -1, NULL, NULL, 0), -EINVAL);
    CHECK_IS(sendq_ssl_send(t.q, t.server, NULL, 0, NULL, NULL, 0), 0);
    CHECK_IS(sendq_queued_bytes(t.q) + sendq_sent_bytes(t.q), 0);
    tls_free(&t);
}

int main(void) {
    tls_prepare();
    stream_fill(stream, 0, sizeof stream);
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        at_once(version);
        when_full(version);
        failed(version);
        misuse(version);
    }
    tls_clean_up();
    return 0;
}
