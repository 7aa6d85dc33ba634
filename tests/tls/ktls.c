/* Files by SSL_sendfile, where the kernel encrypts. Where it does not, a kernel is played here: it
 * takes bytes of files and sends them as records, or refuses as a socket does. */
#define _GNU_SOURCE
#include <openssl/bio.h>
#include <openssl/ssl.h>

/* What the played kernel does. */
static int has_ktls;
static int refuses;             /* with this errno, if not 0 */
static unsigned long long most; /* of what one call takes; 0: all */
static unsigned calls;

static ossl_ssize_t played_sendfile(SSL* ssl, int fd, off_t offset, size_t size, int flags);

#undef BIO_get_ktls_send
#define BIO_get_ktls_send(bio) (has_ktls)
#define SSL_sendfile played_sendfile
#include "tls.h"
#undef SSL_sendfile

enum { STREAM = 3 << 20, HEAD = 24 };

static unsigned char stream[STREAM];

static ossl_ssize_t played_sendfile(SSL* ssl, int fd, off_t offset, size_t size, int flags) {
    static unsigned char bytes[RECORD];
    CHECK_IS(flags, 0);
    calls++;
    if (refuses != 0) {
        errno = refuses;
        return -1;
    }
    size_t sent = 0;
    while (sent < size && (most == 0 || sent < most)) {
        size_t part = size - sent < sizeof bytes ? size - sent : sizeof bytes;
        ssize_t got = pread(fd, bytes, part, offset + (off_t)sent);
        CHECK(got >= 0);
        if (got == 0) {
            break;
        }
        size_t written = 0;
        CHECK(SSL_write_ex(ssl, bytes, (size_t)got, &written));
        sent += written;
    }
    return (ossl_ssize_t)sent;
}

/* A connection whose socket never fills up, because the client reads while the queue is flushed. */
static tls start(void) {
    tls t = tls_establish(ends_tcp(), TLS1_3_VERSION);
    int size = 8 << 20;
    CHECK_IS(setsockopt(t.e.queue, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) == 0 ||
                 setsockopt(t.e.queue, SOL_SOCKET, SO_SNDBUF, &size, sizeof size) == 0,
             1);
    has_ktls = 1;
    refuses = 0;
    most = 0;
    calls = 0;
    return t;
}

static void stop(tls* t) {
    has_ktls = 0;
    tls_free(t);
}

/* Flushes as long as a hint says that it is of use; the client reads all. */
static void drain(tls* t) {
    int hints = SENDQ_MORE;
    for (int i = 0; hints & (SENDQ_BLOCKED | SENDQ_MORE); i++) {
        CHECK(i < ENOUGH);
        hints = sendq_ssl_flush(t->q, t->server, 0);
        CHECK(hints >= 0);
        CHECK_IS(tls_read(t), SSL_ERROR_WANT_READ);
    }
    CHECK_IS(sendq_queued_bytes(t->q), 0);
    tls_expect(t, sendq_sent_bytes(t->q));
}

/* Memory, a file, memory: in order, and only the file by SSL_sendfile. */
static void between(void) {
    tls t = start();
    piece file;
    FILE* content = file_of(stream, STREAM);
    int fd = fileno(content);
    CHECK(sendq_append(t.q, stream, HEAD) >= 0);
    CHECK(piece_append_file(t.q, &file, fd, HEAD, 100000) >= 0);
    CHECK(sendq_append(t.q, stream + HEAD + 100000, HEAD) >= 0);
    CHECK_IS(sendq_ssl_flush(t.q, t.server, 0), SENDQ_MORE);
    CHECK_IS(sendq_sent_bytes(t.q), HEAD); /* what is in front of the file, and none of it */
    CHECK_IS(calls, 0);
    CHECK_IS(sendq_ssl_flush(t.q, t.server, 0), SENDQ_MORE);
    CHECK_IS(sendq_sent_bytes(t.q), HEAD + 100000);
    CHECK_IS(calls, 1);
    CHECK_IS(file.times, 1);
    CHECK_IS(file.reason, 0);
    CHECK_IS(sendq_ssl_flush(t.q, t.server, 0), 0);
    drain(&t);
    fclose(content);
    stop(&t);
}

/* No more than a mebibyte, or the budget, in one call. */
static void budgets(void) {
    tls t = start();
    piece file;
    FILE* content = file_of(stream, STREAM);
    int fd = fileno(content);
    CHECK(piece_append_file(t.q, &file, fd, 0, STREAM) >= 0);
    CHECK_IS(sendq_ssl_flush(t.q, t.server, 1000), SENDQ_MORE);
    CHECK_IS(sendq_sent_bytes(t.q), 1000);
    CHECK_IS(tls_read(&t), SSL_ERROR_WANT_READ);
    drain(&t);
    CHECK_IS(calls, 1 + 3);
    CHECK_IS(file.times, 1);
    fclose(content);
    stop(&t);
}

/* A full socket takes a part, and then nothing. */
static void full(void) {
    tls t = start();
    piece file;
    FILE* content = file_of(stream, STREAM);
    int fd = fileno(content);
    CHECK(piece_append_file(t.q, &file, fd, 0, STREAM) >= 0);
    most = RECORD;
    CHECK_IS(sendq_ssl_flush(t.q, t.server, 0), SENDQ_BLOCKED);
    CHECK_IS(sendq_sent_bytes(t.q), RECORD);
    refuses = EAGAIN;
    CHECK_IS(sendq_ssl_flush(t.q, t.server, 0), SENDQ_BLOCKED);
    refuses = EBUSY;
    CHECK_IS(sendq_ssl_flush(t.q, t.server, 0), SENDQ_BLOCKED);
    CHECK_IS(sendq_sent_bytes(t.q), RECORD);
    CHECK_IS(file.times, 0);
    refuses = 0;
    most = 0;
    drain(&t);
    CHECK_IS(file.times, 1);
    fclose(content);
    stop(&t);
}

/* Such a file cannot be sent so. It is read. */
static void unsuitable(int error) {
    tls t = start();
    piece file;
    FILE* content = file_of(stream, 100000);
    int fd = fileno(content);
    refuses = error;
    CHECK(piece_append_file(t.q, &file, fd, 0, 100000) >= 0);
    drain(&t);
    CHECK_IS(t.received, 100000);
    CHECK_IS(file.times, 1);
    CHECK_IS(file.reason, 0);
    fclose(content);
    stop(&t);
}

/* The connection ends, and says why. */
static void ends_with(int fault, size_t has, int error) {
    tls t = start();
    piece file;
    FILE* content = file_of(stream, has);
    int fd = fileno(content);
    CHECK(piece_append_file(t.q, &file, fd, 0, 100000) >= 0);
    refuses = fault;
    int hints = 0;
    for (int i = 0; hints >= 0; i++) {
        CHECK(i < 3);
        hints = sendq_ssl_flush(t.q, t.server, 0);
    }
    CHECK_IS(hints, error);
    CHECK_IS(sendq_error(t.q), error);
    CHECK_IS(file.times, 1);
    CHECK_IS(file.reason, error);
    fclose(content);
    stop(&t);
}

/* What OpenSSL has refused it gets again, before any file: also if that was of the file. */
static void after_a_refusal(void) {
    tls t = tls_establish_tight(TLS1_3_VERSION);
    piece file;
    FILE* content = file_of(stream, STREAM);
    int fd = fileno(content);
    CHECK(piece_append_file(t.q, &file, fd, 0, STREAM) >= 0);
    CHECK(sendq_ssl_flush(t.q, t.server, 0) & SENDQ_BLOCKED); /* the kernel does not encrypt yet */
    has_ktls = 1;
    refuses = EAGAIN;
    calls = 0;
    most = 0;
    CHECK_IS(sendq_ssl_flush(t.q, t.server, 0), SENDQ_BLOCKED);
    CHECK_IS(calls, 0);
    for (int i = 0; calls == 0; i++) {
        CHECK(i < ENOUGH);
        CHECK_IS(tls_read(&t), SSL_ERROR_WANT_READ);
        CHECK(sendq_ssl_flush(t.q, t.server, 0) > 0);
    }
    has_ktls = 0;
    tls_drain(&t);
    CHECK_IS(t.received, STREAM);
    fclose(content);
    stop(&t);
}

/* The owner of the file drops the connection when that has left. */
static void drop(void* arg, const void* data, size_t len, int reason) {
    tls* t = arg;
    (void)data, (void)len, (void)reason;
    sendq_free(t->q);
    SSL_free(t->server);
}

static void dropped(void) {
    tls t = start();
    FILE* content = file_of(stream, 1000);
    int fd = fileno(content);
    CHECK(sendq_append_file(t.q, fd, 0, 1000, drop, &t) >= 0);
    CHECK(sendq_append(t.q, stream + 1000, HEAD) >= 0);
    CHECK(sendq_ssl_flush(t.q, t.server, 0) & SENDQ_MORE);
    CHECK_IS(calls, 1);
    SSL_free(t.client);
    ends_close(t.e);
    fclose(content);
}

/* A rate holds a file back, too, but for what one call sends. */
static uint64_t now_ns = 1;
static uint64_t clock_now(void* arg) {
    (void)arg;
    return now_ns;
}

static void rated(void) {
    tls t = start();
    sendq_pool_config_t config = {.size = sizeof config, .now = clock_now};
    sendq_pool_t* pool = NULL;
    CHECK_IS(sendq_pool_new(&config, &pool), 0);
    sendq_free(t.q);
    t.q = new_borrower(pool, 1);
    sendq_pool_free(pool);
    CHECK_IS(sendq_set_rate(t.q, 1000, 1000), 0);
    piece file;
    FILE* content = file_of(stream, STREAM);
    int fd = fileno(content);
    CHECK(piece_append_file(t.q, &file, fd, 0, STREAM) >= 0);
    CHECK_IS(sendq_ssl_flush(t.q, t.server, 10000), SENDQ_MORE);
    CHECK_IS(sendq_sent_bytes(t.q), 10000);
    CHECK_IS(sendq_ssl_flush(t.q, t.server, 10000), SENDQ_MORE);
    CHECK_IS(sendq_sent_bytes(t.q), 10000);
    CHECK_IS(calls, 1);
    now_ns += 20000000000;
    CHECK_IS(sendq_ssl_flush(t.q, t.server, 10000), SENDQ_MORE);
    CHECK_IS(sendq_sent_bytes(t.q), 20000);
    CHECK_IS(tls_read(&t), SSL_ERROR_WANT_READ);
    fclose(content);
    stop(&t);
}

/* What this machine says itself: with the BIO of sendq_ssl_set_fd never, with that of SSL_set_fd if
 * it can. */
#undef BIO_get_ktls_send
#define BIO_get_ktls_send(bio) (BIO_ctrl(bio, BIO_CTRL_GET_KTLS_SEND, 0, NULL) > 0)

static void nothing_is_replaced(void) {
    tls t = tls_connect(ends_tcp(), TLS1_3_VERSION);
    BIO* own = SSL_get_wbio(t.server);
    SSL_set_options(t.server, SSL_OP_ENABLE_KTLS);
    for (int i = 0; !tls_handshake_step(&t); i++) {
        CHECK(i < 1000);
        tls_wait(&t, POLLIN);
    }
    CHECK_IS(BIO_get_ktls_send(SSL_get_wbio(t.server)), 0);
    CHECK(SSL_get_wbio(t.server) == own);
    CHECK_IS(sendq_ssl_sends_files(NULL), 0);
    piece file;
    FILE* content = file_of(stream, STREAM);
    int fd = fileno(content);
    CHECK(piece_append_file(t.q, &file, fd, 0, STREAM) >= 0);
    tls_drain(&t);
    CHECK(SSL_get_wbio(t.server) == own);
    fclose(content);
    stop(&t);
}

int main(void) {
    tls_prepare();
    stream_fill(stream, 0, sizeof stream);
    between();
    budgets();
    full();
    unsuitable(EINVAL);
    unsuitable(EOPNOTSUPP);
    ends_with(0, 1000, -ENODATA);
    ends_with(EPIPE, 100000, -EPIPE);
    ends_with(EIO, 100000, -EIO);
    after_a_refusal();
    dropped();
    rated();
    nothing_is_replaced();
    tls_clean_up();
    return 0;
}
