/* An event loop, and connections in it whose output is sendq's glue. */
#ifndef SENDQ_TESTS_LOOP_H
#define SENDQ_TESTS_LOOP_H

#include <sendq/libevent.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

#include "../c/simulated.h"

enum { TURNS = 100000 };

/* What libevent asks of epoll(7): all of its calls come here, in front of the C library's. */
static unsigned epoll_ctls;
static int epoll_ctl_fails; /* the errno of the next, once */

int epoll_ctl(int epoll, int operation, int fd, struct epoll_event* event) {
    epoll_ctls++;
    if (epoll_ctl_fails != 0) {
        errno = epoll_ctl_fails;
        epoll_ctl_fails = 0;
        return -1;
    }
    return (int)syscall(SYS_epoll_ctl, epoll, operation, fd, event);
}

static struct event_base* base;

/* One turn of the loop, which does not wait. */
static inline void turn(void) {
    CHECK(event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK) >= 0);
}

/* Turns of a loop that waits for its events, until it is so. */
static inline void turn_until(const bool* it_is_so) {
    for (int i = 0; !*it_is_so; i++) {
        CHECK(i < TURNS);
        CHECK_IS(event_base_loop(base, EVLOOP_ONCE), 0);
    }
}

typedef struct connection connection;

struct connection {
    sendq_bev_t* b;
    ends e;
    uint64_t written;  /* of the test stream */
    uint64_t received; /* of it, by the peer */
    unsigned sent;     /* calls of writecb */
    bool ended;        /* eventcb was called */
    short what;        /* with this */
    int error;
    void (*then)(connection* c); /* at the end of both callbacks, if it is set */
};

static inline void on_sent(sendq_bev_t* b, void* arg) {
    connection* c = arg;
    CHECK(b == c->b);
    CHECK(!c->ended);
    c->sent++;
    if (c->then != NULL) {
        c->then(c);
    }
}

static inline void on_end(sendq_bev_t* b, short what, void* arg) {
    connection* c = arg;
    CHECK(b == c->b);
    CHECK(!c->ended);
    c->ended = true;
    c->what = what;
    c->error = EVUTIL_SOCKET_ERROR();
    CHECK_IS(sendq_bev_get_length(b), 0);
    if (c->then != NULL) {
        c->then(c);
    }
}

/* With a pool and a config of its queue, or NULL. */
static inline void connection_open_with(connection* c, ends e, sendq_pool_t* pool,
                                        const sendq_config_t* config) {
    *c = (connection){.e = e};
    CHECK_IS(sendq_bev_new(base, e.queue, BEV_OPT_CLOSE_ON_FREE, pool, config, &c->b), 0);
    CHECK(c->b != NULL);
    sendq_bev_setcb(c->b, on_sent, on_end, c);
}

static inline void connection_open(connection* c) {
    connection_open_with(c, ends_unix(), NULL, NULL);
    ends_least_buffer(c->e);
}

static inline void connection_close(connection* c) {
    sendq_bev_free(c->b);
    CHECK(close(c->e.queue) != 0); /* it was closed */
    close(c->e.peer);
}

/* Writes the next len bytes of the test stream; returns what the glue says. */
static inline int connection_write(connection* c, size_t len) {
    unsigned char* bytes = malloc(len);
    CHECK(bytes != NULL);
    stream_fill(bytes, c->written, len);
    int result = sendq_bev_write(c->b, bytes, len);
    free(bytes);
    c->written += result >= 0 ? len : 0;
    return result;
}

/* The peer reads what has arrived, up to limit bytes, and finds the test stream. */
static inline size_t connection_read(connection* c, size_t limit) {
    static unsigned char buffer[65536];
    size_t got = ends_read(c->e, buffer, limit < sizeof buffer ? limit : sizeof buffer);
    stream_check(buffer, c->received, got);
    c->received += got;
    return got;
}

static inline bool is_armed(const connection* c) {
    return c->b->armed != 0;
}

/* The peer reads, and the loop turns, until all has arrived. */
static inline void connection_drain(connection* c) {
    for (int i = 0; c->received < c->written; i++) {
        CHECK(i < TURNS);
        turn();
        struct pollfd both[] = {{c->e.queue, is_armed(c) ? POLLOUT : 0, 0}, {c->e.peer, POLLIN, 0}};
        CHECK(poll(both, 2, 30000) > 0);
        connection_read(c, SIZE_MAX);
    }
    turn();
    CHECK_IS(sendq_bev_get_length(c->b), 0);
}

/* Writes until the socket is full and bytes wait. */
static inline void connection_fill(connection* c) {
    for (int i = 0; sendq_bev_get_length(c->b) == 0; i++) {
        CHECK(i < TURNS);
        CHECK(connection_write(c, 50000) >= 0);
        turn();
    }
}

#endif
