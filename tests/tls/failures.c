/* How connections fail: once, with an errno that says how, with all given back, and without
 * SIGPIPE, which nobody here ignores. */
#include "tls.h"

enum { STREAM = 1 << 20 };

static unsigned char stream[STREAM];

/* q has failed with this, and has released what it had borrowed. */
static void check_over(sendq_t* q, const piece* p, int error) {
    CHECK_IS(sendq_error(q), error);
    CHECK_IS(sendq_append(q, "", 1), error);
    CHECK_IS(sendq_queued_bytes(q), 0);
    CHECK_IS(p->times, 1);
    CHECK_IS(p->reason, error);
}

/* The peer goes in the middle of a record, with bytes unread: a reset. */
static void reset(int version) {
    tls t = tls_establish_tight(version);
    piece p;
    CHECK(piece_append(t.q, &p, stream, STREAM) >= 0);
    CHECK(sendq_ssl_flush(t.q, t.server, 0) & SENDQ_BLOCKED);
    struct linger none = {.l_onoff = 1};
    CHECK_IS(setsockopt(t.e.peer, SOL_SOCKET, SO_LINGER, &none, sizeof none), 0);
    close(t.e.peer);
    wait_for(t.e.queue, POLLOUT);
    CHECK_IS(sendq_ssl_flush(t.q, t.server, 0), -ECONNRESET);
    check_over(t.q, &p, -ECONNRESET);
    CHECK_IS(sendq_ssl_close(t.q, t.server), -ECONNRESET);
    t.e.peer = dup(t.e.queue);
    tls_free(&t);
}

/* This side's own end of the socket is shut: the case in which write(2) raises SIGPIPE. */
static void broken_pipe(int version) {
    tls t = tls_establish(ends_unix(), version);
    piece p;
    CHECK_IS(shutdown(t.e.queue, SHUT_WR), 0);
    CHECK(piece_append(t.q, &p, stream, STREAM) >= 0);
    CHECK_IS(sendq_ssl_flush(t.q, t.server, 0), -EPIPE);
    check_over(t.q, &p, -EPIPE);
    tls_free(&t);

    t = tls_establish(ends_unix(), version);
    CHECK_IS(shutdown(t.e.queue, SHUT_WR), 0);
    CHECK_IS(sendq_ssl_close(t.q, t.server), -EPIPE);
    tls_free(&t);
}

/* The peer goes, or talks nonsense, before the handshake is over. */
static void no_handshake(int version) {
    tls t = tls_connect(ends_unix(), version);
    piece p;
    CHECK(piece_append(t.q, &p, stream, STREAM) >= 0);
    CHECK_IS(shutdown(t.e.peer, SHUT_WR), 0);
    CHECK_IS(sendq_ssl_flush(t.q, t.server, 0), -ECONNRESET);
    check_over(t.q, &p, -ECONNRESET);
    tls_free(&t);

    t = tls_connect(ends_unix(), version);
    CHECK(piece_append(t.q, &p, stream, STREAM) >= 0);
    CHECK_IS(send(t.e.peer, "GET / HTTP/1.0\r\n\r\n", 18, 0), 18);
    CHECK_IS(sendq_ssl_flush(t.q, t.server, 0), -EPROTO);
    check_over(t.q, &p, -EPROTO);
    CHECK_IS(ERR_GET_REASON(ERR_peek_error()), SSL_R_HTTP_REQUEST);
    tls_free(&t);
}

/* The peer breaks the connection off by an alert, which the host's SSL_read has met. */
static void alert(int version) {
    tls t = tls_establish(ends_unix(), version);
    piece p;
    unsigned char byte;
    size_t got;
    CHECK_IS(BIO_write(t.wire, "\x17\x03\x03\x00\x20 This was encrypted by nobody.....", 37), 37);
    CHECK_IS(tls_decrypt(&t), SSL_ERROR_SSL);
    CHECK_IS(SSL_read_ex(t.server, &byte, 1, &got), 0);
    CHECK_IS(SSL_get_error(t.server, 0), SSL_ERROR_SSL);
    CHECK(piece_append(t.q, &p, stream, STREAM) >= 0);
    CHECK_IS(sendq_ssl_flush(t.q, t.server, 0), -EPIPE);
    check_over(t.q, &p, -EPIPE);
    tls_free(&t);
}

/* The errors of another connection are not those of this one. */
/* What comes is no TLS: SSL_read says so, and the flush after it. */
static void garbage(int version) {
    tls t = tls_establish(ends_tcp(), version);
    unsigned char byte;
    size_t got;
    CHECK_IS(send(t.e.peer, "no record at all", 16, 0), 16);
    wait_for(t.e.queue, POLLIN);
    CHECK_IS(SSL_read_ex(t.server, &byte, 1, &got), 0);
    CHECK_IS(SSL_get_error(t.server, 0), SSL_ERROR_SSL);
    CHECK(sendq_append(t.q, stream, 1000) >= 0);
    CHECK_IS(sendq_ssl_flush(t.q, t.server, 0), -EPROTO);
    tls_free(&t);
}

static void polluted(int version) {
    tls t = tls_establish_tight(version);
    CHECK(sendq_append_ref(t.q, stream, STREAM, NULL, NULL) >= 0);
    ERR_raise(ERR_LIB_SSL, SSL_R_BAD_LENGTH);
    errno = ECONNRESET;
    CHECK(sendq_ssl_flush(t.q, t.server, 0) & SENDQ_BLOCKED);
    ERR_raise(ERR_LIB_SYS, EPIPE);
    CHECK(sendq_ssl_close(t.q, t.server) & SENDQ_BLOCKED);
    CHECK_IS(ERR_peek_error(), 0);
    tls_drain(&t);
    tls_free(&t);
}

/* What OpenSSL has refused was discarded: it wants the same again, and says so. */
static void discarded(int version) {
    tls t = tls_establish_tight(version);
    piece p;
    CHECK(sendq_append_ref(t.q, stream, STREAM, NULL, NULL) >= 0);
    CHECK(sendq_ssl_flush(t.q, t.server, 0) & SENDQ_BLOCKED);
    CHECK(sendq_discard(t.q) >= 0);
    CHECK(piece_append(t.q, &p, stream, 9000) >= 0);
    CHECK_IS(sendq_ssl_flush(t.q, t.server, 0), -EPROTO);
    check_over(t.q, &p, -EPROTO);
    tls_free(&t);
}

static void misuse(int version) {
    tls t = tls_connect(ends_unix(), version);
    CHECK_IS(sendq_ssl_set_fd(NULL, t.e.queue), -EINVAL);
    CHECK_IS(sendq_ssl_set_fd(t.server, -1), -EINVAL);
    CHECK_IS(SSL_get_fd(t.server), t.e.queue);
    CHECK_IS(sendq_ssl_flush(NULL, t.server, 0), -EINVAL);
    CHECK_IS(sendq_ssl_flush(t.q, NULL, 0), -EINVAL);
    CHECK_IS(sendq_ssl_close(NULL, t.server), -EINVAL);
    CHECK_IS(sendq_ssl_close(t.q, NULL), -EINVAL);
    CHECK(sendq_append(t.q, "open", 4) >= 0); /* it is, still */
    sendq_t* q = new_borrower(NULL, 1);
    CHECK_IS(sendq_ssl_close(q, t.server), 0); /* nobody was spoken to */
    CHECK_IS(ends_read(t.e, stream, 1), 0);
    sendq_free(q);

    SSL_CTX* ctx = SSL_CTX_new(TLS_method());
    SSL* neither = SSL_new(ctx); /* client nor server */
    CHECK_IS(sendq_ssl_flush(t.q, neither, 0), -EPROTO);
    SSL_free(neither);
    SSL_CTX_free(ctx);
    tls_free(&t);

    t = tls_establish(ends_unix(), version);
    CHECK_IS(SSL_shutdown(t.server), 0);
    CHECK(sendq_append(t.q, "too late", 8) >= 0);
    CHECK_IS(sendq_ssl_flush(t.q, t.server, 0), -EPIPE);
    tls_free(&t);
}

/* The owner of the last piece drops the connection when that has left. */
static void drop(void* arg, const void* data, size_t len, int reason) {
    tls* t = arg;
    (void)data, (void)len, (void)reason;
    sendq_free(t->q);
    SSL_free(t->server);
}

static void dropped(int version) {
    tls t = tls_establish(ends_tcp(), version);
    CHECK(sendq_append_ref(t.q, stream, 3 * RECORD, drop, &t) >= 0);
    CHECK(sendq_append_ref(t.q, stream, STREAM, NULL, NULL) >= 0);
    CHECK(sendq_ssl_flush(t.q, t.server, 3 * RECORD) & SENDQ_MORE);
    SSL_free(t.client);
    ends_close(t.e);
}

int main(void) {
    tls_prepare();
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        stream_fill(stream, 0, sizeof stream);
        reset(version);
        broken_pipe(version);
        no_handshake(version);
        alert(version);
        garbage(version);
        polluted(version);
        discarded(version);
        misuse(version);
        dropped(version);
    }
    tls_clean_up();
    return 0;
}
