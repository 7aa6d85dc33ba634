/* sendq_ssl_close: what waits, then the close_notify, and then nothing. */
#include "tls.h"

enum { STREAM = 1 << 20 };

static unsigned char stream[STREAM];

/* Closes as a host would, while the client reads now and then. The client finds the end in order.
 */
static void close_in_order(tls* t) {
    int hints = SENDQ_MORE;
    for (int i = 0; hints & (SENDQ_BLOCKED | SENDQ_MORE | SENDQ_WANT_READ); i++) {
        CHECK(i < ENOUGH);
        hints = sendq_ssl_close(t->q, t->server);
        CHECK(hints >= 0);
        if (hints & SENDQ_BLOCKED) {
            tls_wait(t, POLLOUT);
            tls_read(t);
        }
    }
    CHECK_IS(sendq_queued_bytes(t->q), 0);
    int error = SSL_ERROR_WANT_READ;
    for (int i = 0; error == SSL_ERROR_WANT_READ; i++) {
        CHECK(i < ENOUGH);
        wait_for(t->e.peer, POLLIN);
        error = tls_read(t);
    }
    CHECK_IS(error, SSL_ERROR_ZERO_RETURN);
    CHECK_IS(t->received, sendq_sent_bytes(t->q));
    CHECK_IS(sendq_append(t->q, "", 1), -EPIPE);
    CHECK_IS(sendq_error(t->q), 0);
}

/* Bytes that are no TLS, until the socket takes no more; and away with them. */
static size_t fill(int fd) {
    size_t sent = 0;
    while (send(fd, stream, 1000, MSG_DONTWAIT) == 1000) {
        sent += 1000;
    }
    while (send(fd, stream, 1, MSG_DONTWAIT) == 1) {
        sent++;
    }
    return sent;
}

static void empty(int fd) {
    while (recv(fd, stream, sizeof stream, MSG_DONTWAIT) > 0) {
    }
    stream_fill(stream, 0, sizeof stream);
}

static void after_all_that_waits(int version, size_t len) {
    tls t = tls_establish_tight(version);
    piece p;
    CHECK(len == 0 || piece_append(t.q, &p, stream, len) >= 0);
    close_in_order(&t);
    CHECK_IS(t.received, len);
    CHECK(len == 0 || (p.times == 1 && p.reason == 0));
    tls_free(&t);
}

/* Corked bytes are not cut off. */
static void while_corked(int version) {
    tls t = tls_establish(ends_tcp(), version);
    CHECK_IS(sendq_cork(t.q), 0);
    CHECK(sendq_append(t.q, stream, 100) >= 0);
    CHECK_IS(sendq_ssl_close(t.q, t.server), -EBUSY);
    CHECK_IS(SSL_get_shutdown(t.server), 0);
    CHECK(sendq_uncork(t.q) >= 0);
    close_in_order(&t);
    CHECK_IS(t.received, 100);
    tls_free(&t);
}

/* The socket is full when nothing but the close_notify is left: it waits in OpenSSL, and says so.
 */
static void close_notify_blocked(int version) {
    tls t = tls_establish(ends_unix(), version);
    CHECK_IS(fill(t.e.queue) > 0, true);
    int hints = sendq_ssl_close(t.q, t.server);
    CHECK_IS(hints, SENDQ_BLOCKED);
    CHECK_IS(sendq_ssl_close(t.q, t.server), SENDQ_BLOCKED);
    CHECK_IS(sendq_queued_bytes(t.q), 0);
    empty(t.e.peer);
    close_in_order(&t);
    tls_free(&t);
}

/* New keys, or a ticket, are under way: no handshake that would have to be over first. */
static void behind_a_ticket(void) {
    tls t = tls_establish(ends_tcp(), TLS1_3_VERSION);
    CHECK(SSL_new_session_ticket(t.server));
    close_in_order(&t);
    tls_free(&t);

    t = tls_establish(ends_tcp(), TLS1_3_VERSION);
    CHECK(SSL_key_update(t.server, SSL_KEY_UPDATE_NOT_REQUESTED));
    close_in_order(&t);
    tls_free(&t);
}

/* The time is over: nothing more is said, and the peer can tell that bytes are missing. */
static void too_late(int version) {
    tls t = tls_establish_tight(version);
    piece p;
    CHECK(piece_append(t.q, &p, stream, STREAM) >= 0);
    CHECK(sendq_ssl_close(t.q, t.server) & SENDQ_BLOCKED);
    CHECK_IS(sendq_close_within(t.q, 0), -ETIMEDOUT);
    CHECK_IS(sendq_ssl_close(t.q, t.server), -ETIMEDOUT);
    CHECK_IS(SSL_get_shutdown(t.server), 0);
    CHECK(p.times == 1 && p.reason == -ETIMEDOUT);
    tls_free(&t);
}

int main(void) {
    tls_prepare();
    stream_fill(stream, 0, sizeof stream);
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        after_all_that_waits(version, 0);
        after_all_that_waits(version, 100);
        after_all_that_waits(version, STREAM);
        while_corked(version);
        close_notify_blocked(version);
        too_late(version);
    }
    behind_a_ticket();
    tls_clean_up();
    return 0;
}
