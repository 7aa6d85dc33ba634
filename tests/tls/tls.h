/* A TLS connection: on one side a queue with its SSL, on the other a client that reads when it is
 * told to, checks what it decrypts against the test stream, and counts the records on the wire. */
#ifndef SENDQ_TESTS_TLS_H
#define SENDQ_TESTS_TLS_H

#include <openssl/x509.h>
#include <sendq/openssl.h>

#include "pieces.h"

enum { RECORD = 16384, RECORD_HEADER = 5, APPLICATION_DATA = 23, ENOUGH = 100000 };

/* What of a record header has come, and how much of its record is to come. */
typedef struct {
    unsigned char header[RECORD_HEADER];
    size_t have;
    size_t left;
} record_parser;

typedef struct {
    int version; /* TLS1_2_VERSION or TLS1_3_VERSION */
    ends e;
    SSL* server;
    sendq_t* q;
    SSL* client;
    BIO* wire; /* what the client has received and not decrypted yet */
    record_parser parser;
    unsigned records;  /* of application data on the wire; with TLS 1.3, and of all else, since
                          tls_establish */
    uint64_t received; /* bytes, decrypted and checked */
} tls;

static EVP_PKEY* tls_key;
static X509* tls_certificate;

/* A key and a certificate signed by itself. */
static inline void tls_prepare(void) {
    tls_key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    tls_certificate = X509_new();
    CHECK(tls_key != NULL && tls_certificate != NULL);
    CHECK(ASN1_INTEGER_set(X509_get_serialNumber(tls_certificate), 1));
    CHECK(X509_gmtime_adj(X509_getm_notBefore(tls_certificate), 0) != NULL);
    CHECK(X509_gmtime_adj(X509_getm_notAfter(tls_certificate), 3600) != NULL);
    CHECK(X509_set_pubkey(tls_certificate, tls_key));
    CHECK(X509_sign(tls_certificate, tls_key, EVP_sha256()));
}

static inline void tls_clean_up(void) {
    X509_free(tls_certificate);
    EVP_PKEY_free(tls_key);
}

static inline SSL* tls_new_ssl(const SSL_METHOD* method, int version) {
    SSL_CTX* ctx = SSL_CTX_new(method);
    CHECK(ctx != NULL);
    CHECK(SSL_CTX_set_min_proto_version(ctx, version));
    CHECK(SSL_CTX_set_max_proto_version(ctx, version));
    SSL* ssl = SSL_new(ctx);
    CHECK(ssl != NULL);
    SSL_CTX_free(ctx); /* lives on in its SSL */
    return ssl;
}

/* Both sides, before the handshake. */
static inline tls tls_connect(ends e, int version) {
    tls t = {.version = version, .e = e, .wire = BIO_new(BIO_s_mem())};
    t.server = tls_new_ssl(TLS_server_method(), version);
    CHECK(SSL_use_certificate(t.server, tls_certificate));
    CHECK(SSL_use_PrivateKey(t.server, tls_key));
    SSL_set_accept_state(t.server);
    CHECK_IS(sendq_ssl_set_fd(t.server, e.queue), 0);

    t.client = tls_new_ssl(TLS_client_method(), version);
    BIO* out = BIO_new_socket(e.peer, BIO_NOCLOSE);
    CHECK(t.wire != NULL && out != NULL);
    BIO_set_mem_eof_return(t.wire, -1);
    SSL_set_bio(t.client, t.wire, out);
    SSL_set_connect_state(t.client);
    t.q = new_borrower(NULL, 8192);
    return t;
}

static inline void tls_free(tls* t) {
    sendq_free(t->q);
    SSL_free(t->server);
    SSL_free(t->client);
    ends_close(t->e);
}

static inline void record_parse(tls* t, const unsigned char* bytes, size_t len) {
    record_parser* p = &t->parser;
    while (len > 0) {
        size_t take = p->left > 0 ? p->left : 1;
        take = take < len ? take : len;
        if (p->left > 0) {
            p->left -= take;
        } else {
            p->header[p->have++] = *bytes;
            if (p->have == RECORD_HEADER) {
                p->have = 0;
                p->left = (size_t)p->header[3] << 8 | p->header[4];
                t->records += p->header[0] == APPLICATION_DATA;
            }
        }
        bytes += take;
        len -= take;
    }
}

/* The client takes up to max bytes off the wire, without decrypting them. Returns how many. */
static inline size_t tls_receive(tls* t, size_t max) {
    static unsigned char bytes[65536];
    size_t got = ends_read(t->e, bytes, max < sizeof bytes ? max : sizeof bytes);
    record_parse(t, bytes, got);
    CHECK(got == 0 || BIO_write(t->wire, bytes, (int)got) == (int)got);
    return got;
}

/* The client decrypts what it has, and checks it. Returns what SSL_get_error says at the end. */
static inline int tls_decrypt(tls* t) {
    static unsigned char bytes[RECORD];
    size_t got = 0;
    ERR_clear_error();
    int result;
    while ((result = SSL_read_ex(t->client, bytes, sizeof bytes, &got)) > 0) {
        stream_check(bytes, t->received, got);
        t->received += got;
    }
    return SSL_get_error(t->client, result);
}

/* The client reads all that has arrived. Returns what SSL_get_error says at the end. */
static inline int tls_read(tls* t) {
    while (tls_receive(t, SIZE_MAX) > 0) {
    }
    return tls_decrypt(t);
}

/* Waits until the client can read, or the queue's side can do this. */
static inline void tls_wait(const tls* t, short events) {
    struct pollfd both[] = {{.fd = t->e.queue, .events = events},
                            {.fd = t->e.peer, .events = POLLIN}};
    CHECK(poll(both, 2, 30000) > 0);
}

/* One turn of the handshake. It is over on both sides. */
static inline bool tls_handshake_step(tls* t) {
    SSL_do_handshake(t->server);
    CHECK_IS(tls_read(t), SSL_ERROR_WANT_READ); /* which does its part of it */
    return SSL_is_init_finished(t->client) && SSL_is_init_finished(t->server);
}

/* Both sides, after the handshake. */
static inline tls tls_establish(ends e, int version) {
    tls t = tls_connect(e, version);
    CHECK(SSL_set_num_tickets(t.server,
                              0)); /* or they come in their own time, and count as records */
    for (int i = 0; !tls_handshake_step(&t); i++) {
        CHECK(i < 1000);
        tls_wait(&t, POLLIN);
    }
    t.records = 0;
    return t;
}

/* The same over TCP with the least send buffer: a mebibyte fills it up. */
static inline tls tls_establish_tight(int version) {
    tls t = tls_establish(ends_tcp(), version);
    ends_least_buffer(t.e);
    return t;
}

/* The client reads until it has that many bytes in all. */
static inline void tls_expect(tls* t, uint64_t total) {
    while (t->received < total) {
        wait_for(t->e.peer, POLLIN);
        CHECK_IS(tls_read(t), SSL_ERROR_WANT_READ);
    }
    CHECK_IS(t->received, total);
}

/* Flushes until no hint is left, while the client reads. All arrives. */
static inline void tls_drain(tls* t) {
    int hints = SENDQ_MORE;
    for (int i = 0; hints & (SENDQ_BLOCKED | SENDQ_MORE); i++) {
        CHECK(i < ENOUGH);
        hints = sendq_ssl_flush(t->q, t->server, 0);
        CHECK(hints >= 0);
        if (hints & SENDQ_BLOCKED) {
            tls_wait(t, POLLOUT);
        }
        CHECK_IS(tls_read(t), SSL_ERROR_WANT_READ);
    }
    CHECK_IS(sendq_queued_bytes(t->q), 0);
    tls_expect(t, sendq_sent_bytes(t->q));
}

#endif
