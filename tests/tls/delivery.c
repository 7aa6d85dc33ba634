/* Bytes arrive complete and in order, whatever OpenSSL's modes, with a socket that is mostly full.
 */
#include <linux/sockios.h>
#include <sys/ioctl.h>

#include "tls.h"

enum { STREAM = 1 << 20 };

static unsigned char stream[STREAM];

/* sendq_ssl_write, and what SSL_write(3) asks of who calls it again. */
typedef struct {
    SSL* ssl;
    const void* refused;
    size_t refused_len;
    size_t in_place; /* bytes offered from where they lie in the stream */
} witness;

static int64_t watch(void* arg, const void* data, size_t len) {
    witness* w = arg;
    const unsigned char* at = data;
    if (w->refused != NULL) {
        CHECK(data == w->refused);
        CHECK_IS(len, w->refused_len);
    }
    int64_t taken = sendq_ssl_write(w->ssl, data, len);
    w->refused = taken < 0 ? data : NULL;
    w->refused_len = len;
    if (taken > 0 && at >= stream && at < stream + sizeof stream) {
        w->in_place += (size_t)taken;
    }
    return taken;
}

/* The client reads only when the queue is stuck, and not much then. */
static void with_mode(int version, long mode, long fragment) {
    tls t = tls_establish_tight(version);
    witness w = {.ssl = t.server};
    piece p;
    unsigned blocked = 0;
    SSL_set_mode(t.server, mode);
    CHECK(fragment == 0 || SSL_set_max_send_fragment(t.server, fragment));
    CHECK(sendq_append(t.q, stream, 24) >= 0);
    CHECK(piece_append(t.q, &p, stream + 24, STREAM - 24) >= 0);
    int hints = SENDQ_MORE;
    for (int i = 0; hints & (SENDQ_BLOCKED | SENDQ_MORE); i++) {
        CHECK(i < ENOUGH);
        hints = sendq_flush_with(t.q, watch, &w, 100000);
        CHECK(hints >= 0);
        if (hints & SENDQ_BLOCKED) {
            blocked++;
            tls_wait(&t, POLLOUT);
            tls_receive(&t, 20000);
            CHECK_IS(tls_decrypt(&t), SSL_ERROR_WANT_READ);
        }
    }
    tls_expect(&t, STREAM);
    CHECK(blocked > 1);
    CHECK(w.in_place >= STREAM - RECORD);
    CHECK_IS(p.times, 1);
    CHECK_IS(p.reason, 0);
    tls_free(&t);
}

/* Pieces of all sizes, by sendq_ssl_flush with budgets, also of a corked queue. */
static void pieces_of_all_sizes(int version) {
    tls t = tls_establish_tight(version);
    uint64_t rnd = 88172645463325252U;
    size_t at = 0;
    for (int i = 0; at < STREAM; i++) {
        CHECK(i < ENOUGH);
        size_t len = random_up_to(&rnd, i % 8 == 0 ? 60000 : 300);
        len = len < STREAM - at ? len : STREAM - at;
        CHECK_IS(sendq_cork(t.q), 0);
        CHECK(sendq_append_ref(t.q, stream + at, len, NULL, NULL) >= 0);
        if (i % 5 == 0) {
            int hints = sendq_ssl_flush(t.q, t.server, random_up_to(&rnd, 40000));
            CHECK(hints >= 0);
            CHECK_IS(tls_read(&t), SSL_ERROR_WANT_READ);
        }
        CHECK(sendq_uncork(t.q) >= 0);
        at += len;
    }
    tls_drain(&t);
    CHECK_IS(t.received, STREAM);
    tls_free(&t);
}

/* More was announced, and then held back: what has left does not wait for it in the kernel. */
static void nothing_is_held_back(int version) {
    tls t = tls_establish(ends_tcp(), version);
    int on = 1, unsent = 0;
    CHECK_IS(setsockopt(t.e.queue, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), 0);
    CHECK(sendq_append(t.q, stream, 100) >= 0);
    CHECK_IS(sendq_cork(t.q), 0);
    CHECK(sendq_append(t.q, stream + 100, 100) >= 0);
    CHECK_IS(sendq_ssl_flush(t.q, t.server, 0), 0);
    CHECK_IS(ioctl(t.e.queue, SIOCOUTQNSD, &unsent), 0);
    CHECK_IS(unsent, 0);
    CHECK(sendq_uncork(t.q) >= 0);
    tls_drain(&t);
    tls_free(&t);
}

/* What is appended before the handshake waits for it: WANT_READ, and a flush after each read. */
static void before_the_handshake(int version) {
    tls t = tls_connect(ends_tcp(), version);
    CHECK(sendq_append(t.q, stream, 1000) >= 0);
    CHECK_IS(sendq_ssl_flush(t.q, t.server, 0), SENDQ_WANT_READ);
    int hints = SENDQ_WANT_READ;
    for (int i = 0; hints & SENDQ_WANT_READ; i++) {
        CHECK(i < 1000);
        CHECK_IS(tls_read(&t), SSL_ERROR_WANT_READ);
        wait_for(t.e.queue, POLLIN);
        hints = sendq_ssl_flush(t.q, t.server, 0);
    }
    CHECK_IS(hints, 0);
    tls_expect(&t, 1000);
    tls_free(&t);
}

/* TLS 1.3: the peer wants new keys, and the answer leaves in between. The same for tickets. */
static void between_records(void) {
    tls t = tls_establish(ends_unix(), TLS1_3_VERSION);
    ends_least_buffer(t.e);
    unsigned char nothing;
    size_t got;
    for (size_t at = 0; at < STREAM; at += STREAM / 8) {
        CHECK(sendq_append_ref(t.q, stream + at, STREAM / 8, NULL, NULL) >= 0);
        CHECK(sendq_ssl_flush(t.q, t.server, 0) & SENDQ_BLOCKED);
        CHECK(SSL_key_update(t.client, SSL_KEY_UPDATE_REQUESTED));
        CHECK_IS(SSL_do_handshake(t.client), 1);
        wait_for(t.e.queue, POLLIN);
        CHECK_IS(SSL_read_ex(t.server, &nothing, 1, &got), 0);
        CHECK_IS(SSL_get_error(t.server, 0), SSL_ERROR_WANT_READ);
        CHECK(SSL_new_session_ticket(t.server));
        tls_drain(&t);
    }
    CHECK_IS(t.received, STREAM);
    tls_free(&t);
}

/* The peer has said that it sends no more: it still reads. */
static void after_the_peers_end(int version) {
    tls t = tls_establish_tight(version);
    unsigned char nothing;
    size_t got;
    CHECK_IS(SSL_shutdown(t.client), 0);
    wait_for(t.e.queue, POLLIN);
    CHECK_IS(SSL_read_ex(t.server, &nothing, 1, &got), 0);
    CHECK_IS(SSL_get_error(t.server, 0), SSL_ERROR_ZERO_RETURN);
    CHECK(sendq_append_ref(t.q, stream, STREAM, NULL, NULL) >= 0);
    int hints = SENDQ_BLOCKED;
    for (int i = 0; hints & SENDQ_BLOCKED; i++) {
        CHECK(i < ENOUGH);
        hints = sendq_ssl_flush(t.q, t.server, 0);
        CHECK(hints >= 0);
        if (hints & SENDQ_BLOCKED) {
            tls_wait(&t, POLLOUT);
            tls_receive(&t, SIZE_MAX);
        }
    }
    while (t.records < STREAM / RECORD || t.parser.left > 0) {
        wait_for(t.e.peer, POLLIN);
        tls_receive(&t, SIZE_MAX);
    }
    CHECK_IS(t.records, STREAM / RECORD);
    tls_free(&t);
}

int main(void) {
    tls_prepare();
    stream_fill(stream, 0, sizeof stream);
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        with_mode(version, 0, 0);
        with_mode(version, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_RELEASE_BUFFERS, 0);
        with_mode(version, 0, 1000);
        with_mode(version, SSL_MODE_ENABLE_PARTIAL_WRITE, 1000);
        pieces_of_all_sizes(version);
        nothing_is_held_back(version);
        before_the_handshake(version);
        after_the_peers_end(version);
    }
    between_records();
    tls_clean_up();
    return 0;
}
