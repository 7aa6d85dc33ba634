/* A bufferevent with TLS, whose output half is a queue, in an event loop; and its peer, as in
 * tls.h. */
#ifndef SENDQ_TESTS_SHARED_H
#define SENDQ_TESTS_SHARED_H

#include <signal.h>

#include "../glue/loop.h"
/* The two headers know each other in any order: here the second makes the first know TLS. */
static int attach_without_openssl(struct bufferevent* bev, sendq_t* q, sendq_bev_t** out) {
    return sendq_bev_attach_bufferevent(bev, q, out);
}
#include "tls.h"

enum { SMALL = 1000 };

typedef struct {
    int version;
    bool libevents_bio; /* not that of sendq_ssl_set_fd */
    bool is_client;     /* the bufferevent is; then `client` of tls.h is the server */
} kind;

typedef struct {
    tls t;
    struct bufferevent* bev;
    sendq_bev_t* b;
    uint64_t written;      /* of the test stream, to the peer */
    uint64_t peer_written; /* of the test stream, by the peer */
    uint64_t read;         /* of that, by bev */
    unsigned sent;         /* calls of the write callback */
    unsigned connected;
    unsigned events; /* other than BEV_EVENT_CONNECTED */
    short what;      /* all of theirs */
} shared;

static shared it;

static void on_readable(struct bufferevent* bev, void* arg) {
    static unsigned char bytes[65536];
    CHECK(arg == &it);
    for (size_t got; (got = bufferevent_read(bev, bytes, sizeof bytes)) > 0;) {
        stream_check(bytes, it.read, got);
        it.read += got;
    }
}

static void on_writable(struct bufferevent* bev, void* arg) {
    CHECK(arg == &it && bev == it.bev);
    it.sent++;
}

static void on_event(struct bufferevent* bev, short what, void* arg) {
    CHECK(arg == &it && bev == it.bev);
    if (what == BEV_EVENT_CONNECTED) {
        it.connected++;
    } else {
        it.events++;
        it.what = (short)(it.what | what);
    }
}

/* Each takes the place of the other. */
static void swap_roles(tls* t) {
    SSL* client = t->client;
    CHECK(BIO_up_ref(t->wire));
    CHECK_IS(sendq_ssl_set_fd(client, t->e.queue), 0);
    SSL_set_bio(t->server, t->wire, BIO_new_socket(t->e.peer, BIO_NOCLOSE));
    t->client = t->server;
    t->server = client;
}

/* Before the handshake, and not attached. */
static void make(kind k, ends e, enum bufferevent_ssl_state state, uint64_t options) {
    it = (shared){.t = tls_connect(e, k.version)};
    if (k.is_client) {
        swap_roles(&it.t);
        state = state == BUFFEREVENT_SSL_ACCEPTING ? BUFFEREVENT_SSL_CONNECTING : state;
    }
    SSL_set_options(it.t.server, options);
    CHECK_IS(evutil_make_socket_nonblocking(e.queue), 0);
    int on = 1; /* Unix sockets have no such delay */
    setsockopt(e.queue, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(e.peer, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    int room = 65536; /* or the kernel takes ever more */
    CHECK_IS(setsockopt(e.peer, SOL_SOCKET, SO_RCVBUF, &room, sizeof room), 0);
    if (k.libevents_bio) {
        SSL_set_bio(it.t.server, NULL, NULL);
    }
    it.bev = bufferevent_openssl_socket_new(base, e.queue, it.t.server, state, 0);
    CHECK(it.bev != NULL);
    if (k.libevents_bio && state == BUFFEREVENT_SSL_OPEN) {
        CHECK_IS(SSL_get_fd(it.t.server), e.queue);
    }
    bufferevent_setcb(it.bev, on_readable, on_writable, on_event, &it);
}

static void attach(void) {
    CHECK_IS(sendq_bev_attach_bufferevent(it.bev, it.t.q, &it.b), 0);
}

static void write_stream(size_t len) {
    static unsigned char bytes[1 << 20];
    CHECK(len <= sizeof bytes);
    stream_fill(bytes, it.written, len);
    CHECK(sendq_bev_write(it.b, bytes, len) >= 0);
    it.written += len;
}

static void send_message(size_t len) {
    static unsigned char bytes[65536];
    CHECK(len <= sizeof bytes);
    stream_fill(bytes, it.written, len);
    const sendq_part_t part = sendq_part_copy(bytes, len);
    CHECK(sendq_bev_send(it.b, &part, 1, NULL, NULL) >= 0);
    it.written += len;
}

static void peer_writes(size_t len) {
    unsigned char bytes[SMALL];
    CHECK(len <= sizeof bytes);
    stream_fill(bytes, it.peer_written, len);
    CHECK_IS(SSL_write(it.t.client, bytes, (int)len), (int)len);
    it.peer_written += len;
}

static void turns(int count) {
    for (int i = 0; i < count; i++) {
        turn();
    }
}

/* The kernel may hold small segments back for a while. */
static void let_it_come(void) {
    struct pollfd one = {it.t.e.queue, POLLIN, 0};
    CHECK(poll(&one, 1, 1) >= 0);
}

static void read_all(void) {
    for (int i = 0; it.read < it.peer_written; i++) {
        CHECK(i < ENOUGH);
        turn();
        let_it_come();
    }
}

static void handshake(void) {
    for (int i = 0; it.connected == 0 || !SSL_is_init_finished(it.t.client); i++) {
        CHECK(i < ENOUGH);
        turn();
        CHECK_IS(tls_read(&it.t), SSL_ERROR_WANT_READ);
    }
}

/* All has arrived, on both sides. */
static void settle(void) {
    for (int i = 0; it.t.received < it.written || it.read < it.peer_written; i++) {
        CHECK(i < ENOUGH);
        turn();
        CHECK_IS(tls_read(&it.t), SSL_ERROR_WANT_READ);
        let_it_come();
    }
    turns(3);
    CHECK_IS(tls_read(&it.t), SSL_ERROR_WANT_READ);
    CHECK_IS(it.t.received, it.written);
    CHECK_IS(it.read, it.peer_written);
    CHECK_IS(sendq_bev_get_length(it.b), 0);
    CHECK_IS(it.events, 0);
}

/* The peer does not read: a record is refused, for as long as that. */
static void fill(void) {
    uint64_t sent = 0;
    for (int calm = 0; calm < 10; calm++) {
        if (sendq_bev_get_length(it.b) < 100000) {
            write_stream(100000);
        }
        turns(3);
        let_it_come();
        calm = sent != sendq_sent_bytes(it.t.q) ? 0 : calm;
        sent = sendq_sent_bytes(it.t.q);
    }
    CHECK_IS(it.b->armed, EV_WRITE);
}

static void open_on(kind k, ends e, uint64_t options) {
    make(k, e, BUFFEREVENT_SSL_ACCEPTING, options);
    ends_least_buffer(it.t.e);
    attach();
    CHECK_IS(bufferevent_enable(it.bev, EV_READ), 0);
    handshake();
}

static void open_it(kind k) {
    open_on(k, ends_tcp(), 0);
}

/* What TCP refuses, it may take a little later though nobody reads. */
static void open_unix(kind k) {
    open_on(k, ends_unix(), 0);
}

static void close_it(void) {
    sendq_bev_free(it.b);
    bufferevent_free(it.bev);
    turns(2);
    tls_free(&it.t);
    CHECK_IS(event_base_dispatch(base), 1); /* nothing is armed */
}

#endif
