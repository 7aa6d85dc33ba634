/* What it costs to encrypt responses of 24 bytes and a value onto a TCP socket, by several ways in
 * turn. Usage: tls SIZE DEPTH ROUNDS. Prints a line a round: nanoseconds of CPU and TLS records per
 * response, two columns a way. Who reads is another thread, which decrypts nothing. */
#include <event2/buffer.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <fcntl.h>
#include <openssl/x509.h>
#include <poll.h>
#include <pthread.h>
#include <sendq/openssl.h>
#include <stdatomic.h>
#include <string.h>

#include "loopback.h"

enum { HEAD = 24, MAX_SIZE = 1 << 20, MAX_DEPTH = 64, RECORD_HEADER = 5 };
/* Bytes between two readings of the clock: they fit into the socket's buffers. */
enum { BURST = 512 << 10, BURSTS = 16 };

static char head[HEAD];
static char value[MAX_SIZE];
static size_t size;

/* One way of sending, with a connection of its own. */
typedef struct {
    int fd;
    SSL* ssl;
    int peer;
    _Atomic size_t arrived; /* bytes, as the reader counts them */
    _Atomic size_t records;
    sendq_t* queue;
    struct event_base* base;
    struct bufferevent* bufferevent;
} connection;

static void must(int ok) {
    if (!ok) {
        ERR_print_errors_fp(stderr);
        abort();
    }
}

static void wait_writable(int fd) {
    struct pollfd one = {.fd = fd, .events = POLLOUT};
    must(poll(&one, 1, 30000) == 1);
}

static void write_piece(connection* c, const void* data, size_t len) {
    size_t written;
    while (SSL_write_ex(c->ssl, data, len, &written) <= 0) {
        must(SSL_get_error(c->ssl, 0) == SSL_ERROR_WANT_WRITE);
        wait_writable(c->fd);
    }
}

static void by_ssl_write(connection* c, int depth) {
    for (int i = 0; i < depth; i++) {
        write_piece(c, head, HEAD);
        write_piece(c, value, size);
    }
}

/* As it is tuned: what is small is copied, the rest referenced. */
static void by_bufferevent(connection* c, int depth) {
    struct evbuffer* output = bufferevent_get_output(c->bufferevent);
    for (int i = 0; i < depth; i++) {
        evbuffer_add(output, head, HEAD);
        if (size < 4096) {
            evbuffer_add(output, value, size);
        } else {
            evbuffer_add_reference(output, value, size, NULL, NULL);
        }
    }
    while (evbuffer_get_length(output) > 0) {
        event_base_loop(c->base, EVLOOP_ONCE);
    }
}

static void by_sendq(connection* c, int depth) {
    for (int i = 0; i < depth; i++) {
        must(sendq_append(c->queue, head, HEAD) >= 0 &&
             sendq_append_ref(c->queue, value, size, NULL, NULL) >= 0);
    }
    int hints;
    while ((hints = sendq_ssl_flush(c->queue, c->ssl, 0)) & SENDQ_BLOCKED) {
        must(hints >= 0);
        wait_writable(c->fd);
    }
    must((hints & ~SENDQ_RESUME) == 0);
}

static void for_ssl_write(connection* c) {
    must(SSL_set_fd(c->ssl, c->fd));
}

static void for_bufferevent(connection* c) {
    c->base = event_base_new();
    c->bufferevent =
        bufferevent_openssl_socket_new(c->base, c->fd, c->ssl, BUFFEREVENT_SSL_OPEN, 0);
    must(c->bufferevent != NULL);
    bufferevent_set_max_single_write(c->bufferevent, 1 << 20);
    bufferevent_disable(c->bufferevent, EV_READ);
}

static void for_sendq(connection* c) {
    must(sendq_ssl_set_fd(c->ssl, c->fd) == 0 && sendq_new(NULL, NULL, &c->queue) == 0);
}

static const struct {
    const char* name;
    void (*prepare)(connection* c);
    void (*send)(connection* c, int depth);
} ways[] = {{"SSL_write", for_ssl_write, by_ssl_write},
            {"bufferevent", for_bufferevent, by_bufferevent},
            {"sendq", for_sendq, by_sendq}};

enum { WAYS = sizeof ways / sizeof *ways };

static SSL* new_ssl(const SSL_METHOD* method) {
    SSL_CTX* ctx = SSL_CTX_new(method);
    must(ctx != NULL && SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) &&
         SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256") &&
         SSL_CTX_set_num_tickets(ctx, 0));
    SSL* ssl = SSL_new(ctx);
    must(ssl != NULL);
    SSL_CTX_free(ctx);
    return ssl;
}

static void present_certificate(SSL* ssl) {
    EVP_PKEY* key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    X509* certificate = X509_new();
    must(X509_gmtime_adj(X509_getm_notBefore(certificate), 0) != NULL &&
         X509_gmtime_adj(X509_getm_notAfter(certificate), 3600) != NULL &&
         X509_set_pubkey(certificate, key) && X509_sign(certificate, key, EVP_sha256()) &&
         SSL_use_certificate(ssl, certificate) && SSL_use_PrivateKey(ssl, key));
    X509_free(certificate);
    EVP_PKEY_free(key);
}

/* Reads and counts until the connection ends. */
static void* reader(void* arg) {
    static _Thread_local unsigned char bytes[1 << 18];
    connection* c = arg;
    size_t have = 0, left = 0, len = 0;
    ssize_t got;
    while ((got = recv(c->peer, bytes, sizeof bytes, 0)) > 0) {
        for (ssize_t i = 0; i < got;) {
            if (left == 0) {
                len = (len << 8 | bytes[i++]) & 0xFFFF;
                have = (have + 1) % RECORD_HEADER;
                left = have == 0 ? len : 0;
                c->records += have == 0;
            } else {
                size_t take = left < (size_t)(got - i) ? left : (size_t)(got - i);
                left -= take;
                i += (ssize_t)take;
            }
        }
        c->arrived += (size_t)got;
    }
    return NULL;
}

static void connect_tls(connection* c) {
    connect_pair(&c->fd, &c->peer);
    must(fcntl(c->fd, F_SETFL, O_NONBLOCK) == 0 && fcntl(c->peer, F_SETFL, O_NONBLOCK) == 0);
    SSL* client = new_ssl(TLS_client_method());
    c->ssl = new_ssl(TLS_server_method());
    present_certificate(c->ssl);
    must(SSL_set_fd(c->ssl, c->fd) && SSL_set_fd(client, c->peer));
    for (int done = 0; !done;) {
        int connected = SSL_connect(client);
        done = SSL_accept(c->ssl) == 1 && connected == 1;
    }
    SSL_free(client);
    must(fcntl(c->peer, F_SETFL, 0) == 0);
}

/* Some turns of `depth` responses: nanoseconds of CPU for all. */
static double burst(size_t way, connection* c, int depth, int turns) {
    double start = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    for (int i = 0; i < turns; i++) {
        ways[way].send(c, depth);
    }
    double spent = clock_ns(CLOCK_THREAD_CPUTIME_ID) - start;
    while (c->arrived < BIO_number_written(SSL_get_wbio(c->ssl))) {
        sched_yield();
    }
    return spent;
}

int main(int argc, char** argv) {
    size = argc == 4 ? (size_t)atoi(argv[1]) : 0;
    int depth = argc == 4 ? atoi(argv[2]) : 0;
    int rounds = argc == 4 ? atoi(argv[3]) : 0;
    if (size < 1 || size > MAX_SIZE || depth < 1 || depth > MAX_DEPTH || rounds < 1) {
        fprintf(stderr, "usage: tls SIZE(1..%d) DEPTH(1..%d) ROUNDS\n", MAX_SIZE, MAX_DEPTH);
        return 2;
    }
    static connection connections[WAYS];
    pthread_t readers[WAYS];
    for (size_t i = 0; i < WAYS; i++) {
        connect_tls(&connections[i]);
        ways[i].prepare(&connections[i]);
        connections[i].arrived = BIO_number_written(SSL_get_wbio(connections[i].ssl));
        must(pthread_create(&readers[i], NULL, reader, &connections[i]) == 0);
        printf("%s%c", ways[i].name, i + 1 < WAYS ? ' ' : '\n');
    }
    int turns = (int)(BURST / ((HEAD + size) * (size_t)depth)) + 1;
    double responses = (double)turns * depth * BURSTS;
    for (int round = -1; round < rounds; round++) { /* the first warms up and is not printed */
        double spent[WAYS] = {0};
        size_t before[WAYS];
        for (size_t i = 0; i < WAYS; i++) {
            before[i] = connections[i].records;
        }
        for (size_t i = 0; i < BURSTS * WAYS; i++) {
            spent[i % WAYS] += burst(i % WAYS, &connections[i % WAYS], depth, turns);
        }
        for (size_t i = 0; i < WAYS && round >= 0; i++) {
            double records = (double)(connections[i].records - before[i]);
            printf("%.1f %.2f%c", spent[i] / responses, records / responses,
                   i + 1 < WAYS ? ' ' : '\n');
        }
    }
    for (size_t i = 0; i < WAYS; i++) {
        shutdown(connections[i].fd, SHUT_RDWR);
        pthread_join(readers[i], NULL);
    }
    return 0;
}
