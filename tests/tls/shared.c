/* An SSL that a bufferevent reads with and a queue writes with: neither disturbs the other, whoever
 * goes first, whatever is refused, and whatever the protocol does by itself. */
#include "shared.h"

/* Attached before the handshake, with bytes queued at any stage of it. Whoever goes first ends it,
 * also a flush outside of the loop, and the bufferevent says so once. */
static void handshakes_with(kind k, int stage, short events, bool flushes) {
    make(k, ends_tcp(), BUFFEREVENT_SSL_ACCEPTING, 0);
    bufferevent_enable(it.bev, events);
    attach();
    for (int i = 0; it.connected == 0 || it.t.received < SMALL; i++) {
        CHECK(i < ENOUGH);
        if (i == stage) {
            write_stream(SMALL);
        }
        if (flushes) {
            CHECK(sendq_bev_flush(it.b) >= 0);
        }
        turn();
        CHECK_IS(tls_read(&it.t), SSL_ERROR_WANT_READ);
    }
    CHECK_IS(bufferevent_enable(it.bev, EV_READ), 0);
    peer_writes(SMALL);
    settle();
    CHECK_IS(it.connected, 1);
    CHECK(it.sent > 0);
    close_it();
}

static void handshakes(kind k) {
    for (int stage = 0; stage < 6; stage++) {
        for (int how = 0; how < 4; how++) {
            handshakes_with(k, stage, how & 1 ? EV_READ | EV_WRITE : 0, how & 2);
        }
    }
}

/* The host calls it open, and lets it do the handshake when it writes. */
static void handshake_by_writing(kind k) {
    make(k, ends_tcp(), BUFFEREVENT_SSL_OPEN, 0);
    attach();
    write_stream(SMALL);
    for (int i = 0; it.t.received < it.written; i++) {
        CHECK(i < ENOUGH);
        turn();
        CHECK_IS(tls_read(&it.t), SSL_ERROR_WANT_READ);
    }
    CHECK_IS(bufferevent_enable(it.bev, EV_READ), 0);
    peer_writes(SMALL);
    settle();
    close_it();
}

/* The peer has stopped reading: a record is refused, and what the peer sends is still read. */
static void reading_while_refused(kind k) {
    open_it(k);
    fill();
    for (int i = 0; i < 100; i++) {
        peer_writes(SMALL);
        ERR_raise(ERR_LIB_SSL, SSL_R_BAD_LENGTH); /* of another connection */
        turns(2);
    }
    read_all();
    CHECK_IS(it.b->armed, EV_WRITE);
    settle();
    close_it();
}

static void key_update(SSL* ssl, int type) {
    CHECK(SSL_key_update(ssl, type));
}

static void peer_updates_keys(int type) {
    key_update(it.t.client, type);
    CHECK_IS(SSL_do_handshake(it.t.client), 1);
}

static void key_updates(kind k) {
    open_unix(k);
    for (int i = 0; i < 20; i++) {
        int type = i % 2 ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED;
        if (i % 3 != 0) {
            peer_updates_keys(type);
        }
        if (i % 3 != 1) {
            key_update(it.t.server, type); /* sent by whichever half comes first */
        }
        write_stream(i % 4 < 2 ? SMALL : 50000);
        if (i % 4 != 3) {
            peer_writes(SMALL);
        }
        settle();
        write_stream(1); /* which an answer goes in front of */
        settle();
        CHECK_IS(SSL_get_key_update_type(it.t.server), SSL_KEY_UPDATE_NONE);
    }

    /* One while a record is refused; the answer goes behind the record. Of this side's own OpenSSL
     * says that it comes too early. */
    fill();
    CHECK_IS(SSL_key_update(it.t.server, SSL_KEY_UPDATE_REQUESTED), 0);
    ERR_clear_error();
    peer_updates_keys(SSL_KEY_UPDATE_REQUESTED);
    peer_writes(SMALL);
    read_all();
    CHECK_IS(SSL_get_key_update_type(it.t.server), SSL_KEY_UPDATE_NOT_REQUESTED);
    settle();
    write_stream(SMALL);
    settle();
    CHECK_IS(SSL_get_key_update_type(it.t.server), SSL_KEY_UPDATE_NONE);
    close_it();
}

static void provoke(kind k) {
    if (k.version == TLS1_3_VERSION) {
        peer_updates_keys(SSL_KEY_UPDATE_REQUESTED);
        peer_writes(SMALL);
    } else {
        CHECK(SSL_renegotiate(it.t.client));
        CHECK(SSL_do_handshake(it.t.client) <= 0);
    }
}

/* What OpenSSL does not survive while a record is refused: a second KeyUpdate that wants an answer,
 * and a renegotiation, even one that it refuses, if the socket is full again when it says so. Not
 * because two share the SSL: that of a bufferevent alone ends as well. */
static void ended_by_openssl(kind k, uint64_t option) {
    for (int alone = 0; alone <= 1; alone++) {
        open_on(k, ends_unix(), option);
        if (alone) {
            static const char bytes[1 << 20];
            sendq_bev_free(it.b);
            it.b = NULL;
            CHECK_IS(bufferevent_enable(it.bev, EV_WRITE), 0);
            CHECK_IS(bufferevent_write(it.bev, bytes, sizeof bytes), 0);
            turns(20);
        } else {
            fill();
        }
        for (int i = k.version == TLS1_3_VERSION ? 0 : 1; i < 2; i++) {
            CHECK_IS(it.events, 0);
            provoke(k);
            turns(3);
        }
        for (int i = 0; it.events == 0; i++) {
            CHECK(i < ENOUGH);
            tls_receive(&it.t, SIZE_MAX); /* which the server may need to find it out */
            turn();
        }
        CHECK(it.what & BEV_EVENT_ERROR);
        unsigned long error = it.what & BEV_EVENT_READING || alone
                                  ? bufferevent_get_openssl_error(it.bev)
                                  : ERR_peek_error();
        int reason = ERR_GET_REASON(error);
        CHECK(reason == SSL_R_BAD_WRITE_RETRY || reason == SSL_R_BAD_LENGTH);
        close_it();
    }
}

/* Bytes that are no TLS, until the socket is full; the peer is to take them off. */
static size_t flood(void) {
    size_t sent = 0;
    while (send(it.t.e.queue, "x", 1, MSG_DONTWAIT) == 1) {
        sent++;
    }
    CHECK(sent > 0);
    return sent;
}

static void mop_up(size_t len) {
    char byte;
    while (len > 0) {
        len -= ends_read(it.t.e, &byte, 1);
    }
}

/* SSL_read has to send first, and the socket is full: libevent waits until it is writable, and so
 * does the queue, which waits for the same. */
static void reading_wants_to_write(kind k, bool queued) {
    open_unix(k);
    size_t len = flood();
    key_update(it.t.server, SSL_KEY_UPDATE_REQUESTED);
    peer_writes(SMALL);
    turns(3);
    CHECK_IS(it.read, 0);
    CHECK(event_pending(&it.bev->ev_write, EV_WRITE, NULL) != 0);
    if (queued) {
        write_stream(SMALL);
        turns(3);
        CHECK_IS(it.b->armed, EV_WRITE);
    }
    mop_up(len);
    settle();
    CHECK_IS(SSL_get_key_update_type(it.t.server), SSL_KEY_UPDATE_NONE);
    write_stream(50000);
    peer_writes(SMALL);
    settle();
    close_it();
}

static void let_the_peer_answer(evutil_socket_t fd, short what, void* arg) {
    (void)fd, (void)what, (void)arg;
    CHECK_IS(tls_read(&it.t), SSL_ERROR_WANT_READ);
}

/* The bufferevent waits until the socket is writable, and then reads what the queue waits for: that
 * came so late that nobody was told that the socket is readable. */
static void read_by_the_other(kind k) {
    make(k, ends_unix(), BUFFEREVENT_SSL_ACCEPTING, 0);
    attach();
    CHECK_IS(bufferevent_enable(it.bev, EV_READ), 0);
    size_t len = flood();
    CHECK(SSL_do_handshake(it.t.client) <= 0);
    turns(3);
    write_stream(SMALL);
    turns(3);
    mop_up(len);
    for (int i = 0; SSL_want_write(it.t.server); i++) {
        CHECK(i < ENOUGH);
        CHECK(sendq_bev_flush(it.b) >= 0);
        if (SSL_want_write(it.t.server)) {
            tls_receive(&it.t, SIZE_MAX);
        }
    }
    CHECK_IS(SSL_want_read(it.t.server), 1);
    CHECK(event_pending(&it.bev->ev_write, EV_WRITE, NULL) != 0);
    struct event* first = event_new(base, -1, 0, let_the_peer_answer, NULL);
    event_active(first, EV_READ, 0);
    turn();
    CHECK_IS(it.connected, 1);
    settle(); /* though the peer sends no more */
    event_free(first);
    close_it();
}

/* In the middle of a renegotiation SSL_write has to read first. With EV_READ disabled the queue
 * does that alone. */
static void writing_wants_to_read(kind k, bool alone, bool by_server) {
    open_on(k, ends_unix(), SSL_OP_ALLOW_CLIENT_RENEGOTIATION);
    write_stream(SMALL);
    settle();
    if (by_server) {
        CHECK(bufferevent_ssl_renegotiate(it.bev) >= 0);
    } else {
        CHECK(SSL_renegotiate(it.t.client));
        CHECK(SSL_do_handshake(it.t.client) <= 0);
    }
    for (int i = 0; SSL_get_state(it.t.server) == TLS_ST_OK; i++) {
        CHECK(i < ENOUGH);
        if (by_server) {
            CHECK_IS(tls_read(&it.t), SSL_ERROR_WANT_READ);
        }
        turn(); /* its part of the handshake is on its way */
    }
    if (alone) {
        CHECK_IS(bufferevent_disable(it.bev, EV_READ), 0);
    }
    write_stream(SMALL);
    turn();
    CHECK_IS(it.b->armed & EV_READ, EV_READ);
    for (int i = 0; it.t.received < it.written; i++) {
        CHECK(i < ENOUGH);
        CHECK_IS(tls_read(&it.t), SSL_ERROR_WANT_READ);
        turn();
    }
    CHECK_IS(bufferevent_enable(it.bev, EV_READ), 0);
    peer_writes(SMALL);
    settle();
    CHECK_IS(it.connected, by_server ? 2 : 1);
    CHECK_IS(SSL_num_renegotiations(it.t.client), 1);
    close_it();
}

/* The peer gives up then, and this side does not. */
static void renegotiation_refused(kind k, uint64_t option) {
    open_on(k, ends_unix(), option);
    CHECK(SSL_renegotiate(it.t.client));
    CHECK(SSL_do_handshake(it.t.client) <= 0);
    turns(3);
    CHECK_IS(it.events, 0);
    write_stream(SMALL);
    for (int i = 0; sendq_bev_get_length(it.b) > 0; i++) {
        CHECK(i < ENOUGH);
        tls_receive(&it.t, SIZE_MAX);
        turn();
    }
    CHECK_IS(it.events, 0);
    while (tls_receive(&it.t, SIZE_MAX) > 0) {
    }
    CHECK_IS(tls_decrypt(&it.t), SSL_ERROR_SSL);
    CHECK_IS(ERR_GET_REASON(ERR_peek_error()), SSL_R_NO_RENEGOTIATION);
    close_it();
}

/* The peer has said that it sends no more, and still reads. */
static void half_closed(kind k) {
    open_it(k);
    fill();
    CHECK_IS(SSL_shutdown(it.t.client), 0);
    turns(3);
    CHECK_IS(it.events, 1);
    CHECK_IS(it.what, BEV_EVENT_EOF | BEV_EVENT_READING);
    write_stream(SMALL);
    CHECK_IS(sendq_bev_close(it.b, 0), 0);
    for (int i = 0; it.events < 2; i++) {
        CHECK(i < ENOUGH);
        turn();
        CHECK_IS(tls_read(&it.t), SSL_ERROR_WANT_READ);
    }
    CHECK_IS(it.what, BEV_EVENT_EOF | BEV_EVENT_READING | BEV_EVENT_WRITING);
    CHECK_IS(SSL_shutdown(it.t.server), 1);
    int error;
    while ((error = tls_read(&it.t)) == SSL_ERROR_WANT_READ) {
        wait_for(it.t.e.peer, POLLIN);
    }
    CHECK_IS(error, SSL_ERROR_ZERO_RETURN);
    CHECK_IS(it.t.received, it.written);
    close_it();
}

/* The same without a word of it: an attack, for OpenSSL, unless the host says otherwise. */
static void half_closed_unsaid(kind k, bool is_tolerated) {
    open_on(k, ends_tcp(), is_tolerated ? SSL_OP_IGNORE_UNEXPECTED_EOF : 0);
    CHECK_IS(shutdown(it.t.e.peer, SHUT_WR), 0);
    turns(3);
    CHECK_IS(it.events, 1);
    CHECK_IS(it.what, (is_tolerated ? BEV_EVENT_EOF : BEV_EVENT_ERROR) | BEV_EVENT_READING);
    write_stream(SMALL);
    turns(3);
    if (is_tolerated) {
        tls_expect(&it.t, it.written);
        CHECK_IS(it.events, 1);
    } else {
        CHECK_IS(it.events, 2);
        CHECK_IS(it.what, BEV_EVENT_ERROR | BEV_EVENT_READING | BEV_EVENT_WRITING);
        CHECK_IS(sendq_error(it.t.q), -EPROTO);
    }
    close_it();
}

/* Gone in the middle of a record: one error of the half that finds it, and all is given back. */
static void peer_vanishes(kind k, bool reads, bool flushes) {
    piece p;
    static unsigned char bytes[100000];
    open_it(k);
    fill();
    CHECK(piece_append(it.t.q, &p, bytes, sizeof bytes) >= 0);
    if (!reads) {
        CHECK_IS(bufferevent_disable(it.bev, EV_READ), 0);
    }
    struct linger none = {.l_onoff = 1};
    CHECK_IS(setsockopt(it.t.e.peer, SOL_SOCKET, SO_LINGER, &none, sizeof none), 0);
    close(it.t.e.peer);
    if (flushes) {
        wait_for(it.t.e.queue, POLLIN);
        CHECK(sendq_bev_flush(it.b) < 0);
    }
    for (int i = 0; !(it.what & BEV_EVENT_WRITING); i++) {
        CHECK(i < ENOUGH);
        CHECK(event_base_loop(base, EVLOOP_ONCE) >= 0);
    }
    turns(3);
    CHECK_IS(it.what & ~BEV_EVENT_READING, BEV_EVENT_ERROR | BEV_EVENT_WRITING);
    CHECK_IS(it.events, it.what & BEV_EVENT_READING ? 2 : 1);
    if (!reads || flushes) {
        CHECK_IS(it.events, 1);
    }
    CHECK_IS(p.times, 1);
    CHECK_IS(p.reason, sendq_error(it.t.q));
    CHECK(p.reason == -ECONNRESET || p.reason == -EPIPE);
    it.t.e.peer = dup(it.t.e.queue);
    close_it();
}

/* The peer talks nonsense in place of a handshake. */
static void no_handshake(kind k) {
    make(k, ends_unix(), BUFFEREVENT_SSL_ACCEPTING, 0);
    attach();
    CHECK_IS(bufferevent_enable(it.bev, EV_READ), 0);
    write_stream(SMALL);
    CHECK_IS(send(it.t.e.peer, "GET / HTTP/1.0\r\n\r\n", 18, 0), 18);
    turns(5);
    CHECK(it.events > 0);
    CHECK(it.what & BEV_EVENT_ERROR);
    CHECK_IS(it.connected, 0);
    CHECK_IS(sendq_error(it.t.q), -EPROTO);
    close_it();
}

/* The bufferevent writes again, on the same session; but not what OpenSSL would take for the rest
 * of a record of the queue. */
static void back(kind k) {
    unsigned char bytes[SMALL];
    open_unix(k);
    fill();
    settle();
    sendq_bev_free(it.b);
    CHECK_IS(bufferevent_enable(it.bev, EV_WRITE), 0);
    stream_fill(bytes, it.written, sizeof bytes);
    CHECK_IS(bufferevent_write(it.bev, bytes, sizeof bytes), 0);
    it.b = NULL;
    CHECK_IS(sendq_bev_attach_bufferevent(it.bev, it.t.q, &it.b), -EBUSY);
    turns(3);
    tls_expect(&it.t, it.written + sizeof bytes);
    it.written += sizeof bytes;
    attach();
    write_stream(SMALL);
    settle();
    fill();
    sendq_bev_free(it.b);
    it.b = NULL;
    CHECK_IS(bufferevent_write(it.bev, bytes, sizeof bytes), -1);
    close_it();
}

static void refused(kind k) {
    open_it(k);
    sendq_bev_t* b = it.b;
    CHECK_IS(sendq_bev_attach_bufferevent(it.bev, it.t.q, &b), -EBUSY);
    CHECK(b == NULL);
    b = it.b;
    CHECK_IS(attach_without_openssl(it.bev, it.t.q, &b), -ENOTSUP);
    CHECK(b == NULL);
    CHECK_IS(sendq_bev_attach_bufferevent(NULL, it.t.q, &b), -EINVAL);
    CHECK_IS(sendq_bev_attach_bufferevent(it.bev, NULL, &b), -EINVAL);
    CHECK_IS(sendq_bev_attach_bufferevent(it.bev, it.t.q, NULL), -EINVAL);
    CHECK_IS(sendq_bev_set_writer(it.b, NULL, NULL), -EINVAL);
    struct event_base* other = event_base_new();
    CHECK_IS(sendq_bev_base_set(other, it.b), -EINVAL);
    event_base_free(other);

    /* TLS on top of another bufferevent; and one without TLS, which is taken. */
    sendq_t* q = new_queue(NULL, NULL);
    ends e = ends_unix();
    CHECK_IS(evutil_make_socket_nonblocking(e.queue), 0);
    struct bufferevent* plain = bufferevent_socket_new(base, e.queue, 0);
    SSL* ssl = tls_new_ssl(TLS_client_method(), k.version);
    struct bufferevent* filter =
        bufferevent_openssl_filter_new(base, plain, ssl, BUFFEREVENT_SSL_CONNECTING, 0);
    CHECK(filter != NULL);
    b = it.b;
    CHECK_IS(sendq_bev_attach_bufferevent(filter, q, &b), -ENOTSUP);
    CHECK(b == NULL);
    bufferevent_free(filter);
    turns(3);
    SSL_free(ssl);
    bufferevent_free(plain);
    turns(3);
    plain = bufferevent_socket_new(base, e.queue, 0);
    CHECK_IS(sendq_bev_attach_bufferevent(plain, q, &b), 0);
    CHECK_IS(sendq_bev_write(b, "x", 1), 0);
    turns(2);
    char byte;
    while (ends_read(e, &byte, 1) == 1 && byte != 'x') {
    }
    CHECK_IS(byte, 'x');
    sendq_bev_free(b);
    bufferevent_free(plain);
    sendq_free(q);
    turns(2);
    ends_close(e);
    close_it();
}

/* Freed in the wrong order, with a record refused. */
static void freed(kind k) {
    for (int order = 0; order <= 1; order++) {
        open_it(k);
        fill();
        if (order) {
            bufferevent_free(it.bev);
            turns(3);
            sendq_bev_free(it.b);
        } else {
            sendq_free(it.t.q);
            it.t.q = NULL;
            bufferevent_free(it.bev);
            sendq_bev_free(it.b);
        }
        turns(3);
        tls_free(&it.t);
    }
}

/* Anything in any order, both ways. */
static void at_random(kind k, uint64_t seed) {
    open_it(k);
    bool has_updated = false; /* keys, since a time when no record was refused */
    for (int step = 0; step < 2000; step++) {
        switch (random_up_to(&seed, 9)) {
            case 0:
                if (sendq_bev_get_length(it.b) < 200000) {
                    write_stream(random_up_to(&seed, 60000));
                    send_message(1 + random_up_to(&seed, 40000));
                }
                break;
            case 1:
                if (it.peer_written - it.read < 10 * SMALL) {
                    peer_writes(1 + random_up_to(&seed, SMALL - 1));
                }
                break;
            case 2:
                tls_receive(&it.t, 1 + random_up_to(&seed, 30000));
                CHECK_IS(tls_decrypt(&it.t), SSL_ERROR_WANT_READ);
                break;
            case 3:
                if (k.version == TLS1_3_VERSION && !has_updated) {
                    peer_updates_keys(SSL_KEY_UPDATE_REQUESTED);
                    has_updated = true;
                }
                break;
            case 4:
                if (k.version == TLS1_3_VERSION && SSL_key_update(it.t.server, 0) == 0) {
                    ERR_clear_error();
                }
                break;
            case 5:
                bufferevent_disable(it.bev, EV_READ | EV_WRITE);
                break;
            case 6:
                bufferevent_enable(it.bev, EV_READ | EV_WRITE);
                break;
            default:
                turn();
        }
        if (step % 500 == 499) {
            bufferevent_enable(it.bev, EV_READ);
            settle();
            write_stream(1);
            settle();
            has_updated = false;
        }
    }
    close_it();
}

int main(void) {
    tls_prepare();
    signal(SIGPIPE, SIG_IGN); /* for libevent's BIO */
    base = event_base_new();
    CHECK(base != NULL);
    for (int i = 0; i < 8; i++) {
        kind k = {i & 1 ? TLS1_3_VERSION : TLS1_2_VERSION, (i & 2) != 0, (i & 4) != 0};
        handshakes(k);
        handshake_by_writing(k);
        if (!k.is_client) {
            read_by_the_other(k);
        }
        reading_while_refused(k);
        if (k.version == TLS1_3_VERSION) {
            key_updates(k);
            reading_wants_to_write(k, false);
            reading_wants_to_write(k, true);
        } else if (!k.is_client) {
            for (int how = 0; how < 4; how++) {
                writing_wants_to_read(k, how & 1, how & 2);
            }
            renegotiation_refused(k, 0);
            renegotiation_refused(k, SSL_OP_NO_RENEGOTIATION);
        }
        if (k.version == TLS1_3_VERSION || !k.is_client) {
            ended_by_openssl(k, 0);
            ended_by_openssl(k, SSL_OP_NO_RENEGOTIATION);
        }
        half_closed(k);
        half_closed_unsaid(k, false);
        half_closed_unsaid(k, true);
        peer_vanishes(k, true, false);
        peer_vanishes(k, true, true);
        peer_vanishes(k, false, false);
        no_handshake(k);
        back(k);
        refused(k);
        freed(k);
        for (uint64_t seed = 1; seed <= 5; seed++) {
            at_random(k, seed);
        }
    }
    event_base_free(base);
    tls_clean_up();
    return 0;
}
