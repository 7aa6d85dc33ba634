/* The output half of a plain bufferevent: the bufferevent reads and has its callbacks called, and
 * whatever it was when it was attached, no byte is lost, doubled or out of order. */
#include <fcntl.h>
#include <signal.h>

#include "loop.h"

/* A bufferevent, and what its callbacks were told. */
typedef struct {
    struct bufferevent* bev;
    sendq_t* q;
    sendq_bev_t* b;
    ends e;
    uint64_t written; /* of the test stream */
    uint64_t received;
    size_t read; /* bytes, by bev */
    unsigned sent;
    unsigned events;
    short what; /* of the last */
    int error;
    void (*then)(void); /* at the end of the event callback, if it is set */
} half;

static half it;
static unsigned char bytes[1 << 20];

static void on_readable(struct bufferevent* bev, void* arg) {
    CHECK(arg == &it && bev == it.bev);
    it.read += evbuffer_get_length(bufferevent_get_input(bev));
    evbuffer_drain(bufferevent_get_input(bev), SIZE_MAX);
}

static void on_writable(struct bufferevent* bev, void* arg) {
    CHECK(arg == &it && bev == it.bev);
    it.sent++;
}

static void on_event(struct bufferevent* bev, short what, void* arg) {
    CHECK(arg == &it && bev == it.bev);
    it.error = EVUTIL_SOCKET_ERROR();
    it.events++;
    it.what = what;
    if (it.then != NULL) {
        it.then();
    }
}

/* Before it is attached. */
static void make(ends e, int options) {
    it = (half){.e = e, .q = new_queue(NULL, NULL)};
    CHECK_IS(evutil_make_socket_nonblocking(e.queue), 0);
    it.bev = bufferevent_socket_new(base, e.queue, options);
    CHECK(it.bev != NULL);
    bufferevent_setcb(it.bev, on_readable, on_writable, on_event, &it);
    CHECK_IS(bufferevent_enable(it.bev, EV_READ), 0);
}

static void attach(void) {
    CHECK_IS(sendq_bev_attach_bufferevent(it.bev, it.q, &it.b), 0);
    CHECK(it.b != NULL);
    CHECK_IS(sendq_bev_getfd(it.b), it.e.queue);
}

static void open_it(void) {
    make(ends_unix(), BEV_OPT_CLOSE_ON_FREE);
    ends_least_buffer(it.e);
    attach();
}

/* bev closes its socket in the next turn of the loop. */
static void close_it(void) {
    sendq_bev_free(it.b);
    sendq_free(it.q);
    bufferevent_free(it.bev);
    turn();
    CHECK(close(it.e.queue) != 0);
    close(it.e.peer);
}

static void write_stream(size_t len) {
    CHECK(len <= sizeof bytes);
    stream_fill(bytes, it.written, len);
    CHECK(sendq_bev_write(it.b, bytes, len) >= 0);
    it.written += len;
}

static void read_stream(void) {
    static unsigned char buffer[65536];
    for (size_t got; (got = ends_read(it.e, buffer, sizeof buffer)) > 0;) {
        stream_check(buffer, it.received, got);
        it.received += got;
    }
}

static void drain(void) {
    for (int i = 0; it.received < it.written; i++) {
        CHECK(i < TURNS);
        turn();
        read_stream();
    }
    turn();
    CHECK_IS(sendq_bev_get_length(it.b), 0);
}

static void fill(void) {
    for (int i = 0; sendq_bev_get_length(it.b) == 0; i++) {
        CHECK(i < TURNS);
        write_stream(50000);
        turn();
    }
}

static void turns(int count) {
    for (int i = 0; i < count; i++) {
        turn();
    }
}

static void both_halves(void) {
    open_it();
    write_stream(10);
    CHECK_IS(it.sent, 0); /* not from inside the write */
    turn();
    CHECK_IS(it.sent, 1);
    CHECK_IS(write(it.e.peer, "request", 7), 7);
    turn();
    CHECK_IS(it.read, 7);
    fill();
    unsigned sent = it.sent;
    CHECK_IS(write(it.e.peer, "request", 7), 7); /* while output waits */
    turns(3);
    CHECK_IS(it.read, 14);
    CHECK_IS(it.sent, sent);
    drain();
    CHECK_IS(it.sent, sent + 1);
    CHECK_IS(it.events, 0);
    close_it();
}

/* Nothing gets past the queue. */
static void output_is_shut(void) {
    struct evbuffer* other = evbuffer_new();
    CHECK(other != NULL);
    open_it();
    struct evbuffer* output = bufferevent_get_output(it.bev);
    for (int enabled = 0; enabled <= 1; enabled++) {
        CHECK_IS(evbuffer_add(other, "x", 1), 0);
        CHECK_IS(bufferevent_write(it.bev, "x", 1), -1);
        CHECK_IS(bufferevent_write_buffer(it.bev, other), -1);
        CHECK_IS(evbuffer_add_reference(output, "x", 1, NULL, NULL), -1);
        CHECK_IS(evbuffer_add_printf(output, "x"), -1);
        CHECK_IS(evbuffer_get_length(output), 0);
        CHECK_IS(bufferevent_disable(it.bev, EV_WRITE), 0);
        write_stream(1000); /* whether or not that is enabled */
        turns(3);
        read_stream();
        CHECK_IS(it.received, it.written);
        CHECK_IS(bufferevent_enable(it.bev, EV_WRITE), 0);
        turns(3);
    }
    CHECK_IS(bufferevent_write(it.bev, "x", 1), -1);
    close_it();
    evbuffer_free(other);
}

/* What the bufferevent has been given for writing holds. */
static void settings(void) {
    make(ends_unix(), BEV_OPT_CLOSE_ON_FREE);
    ends_least_buffer(it.e);
    bufferevent_setwatermark(it.bev, EV_WRITE, sizeof bytes, 0);
    bufferevent_set_timeouts(it.bev, NULL, &(struct timeval){.tv_usec = 20000});
    attach();
    fill();
    unsigned sent = it.sent;
    CHECK(sent > 0); /* at less than the low watermark */
    for (int i = 0; it.events == 0; i++) {
        CHECK(i < TURNS);
        CHECK_IS(event_base_loop(base, EVLOOP_ONCE), 0);
    }
    CHECK_IS(it.what, BEV_EVENT_TIMEOUT | BEV_EVENT_WRITING);
    CHECK_IS(it.error, ETIMEDOUT);
    CHECK_IS(sendq_bev_get_length(it.b), 0);
    close_it();
}

static void error(int options) {
    make(ends_unix(), options | BEV_OPT_CLOSE_ON_FREE);
    ends_least_buffer(it.e);
    attach();
    fill();
    CHECK_IS(bufferevent_disable(it.bev, EV_READ), 0);
    close(it.e.peer);
    it.e.peer = -1;
    turns(3);
    CHECK_IS(it.events, 1);
    CHECK_IS(it.what, BEV_EVENT_ERROR | BEV_EVENT_WRITING);
    CHECK_IS(it.error, -sendq_error(it.q));
    CHECK(it.error == EPIPE || it.error == ECONNRESET);
    CHECK_IS(sendq_bev_write(it.b, "x", 1), -it.error);
    CHECK_IS(bufferevent_get_enabled(it.bev) & EV_WRITE, 0);
    turns(3);
    CHECK_IS(it.events, 1);
    close_it();
}

/* The peer sends no more, and still reads. */
static void half_closed(void) {
    open_it();
    CHECK_IS(shutdown(it.e.peer, SHUT_WR), 0);
    turns(3);
    CHECK_IS(it.events, 1);
    CHECK_IS(it.what, BEV_EVENT_EOF | BEV_EVENT_READING);
    fill();
    drain();
    CHECK_IS(sendq_bev_close(it.b, 0), 0);
    turn();
    CHECK_IS(it.events, 2);
    CHECK_IS(it.what, BEV_EVENT_EOF | BEV_EVENT_WRITING);
    close_it();
}

static connection own;

static void callbacks_of_its_own(void) {
    open_it();
    own = (connection){.b = it.b, .e = it.e};
    sendq_bev_setcb(it.b, on_sent, NULL, &own);
    write_stream(10);
    turn();
    CHECK_IS(own.sent, 1);
    CHECK_IS(it.sent, 0);
    CHECK_IS(sendq_bev_close(it.b, 0), 0);
    turn();
    CHECK_IS(it.what, BEV_EVENT_EOF | BEV_EVENT_WRITING); /* still bev's */
    close_it();

    open_it();
    own = (connection){.b = it.b, .e = it.e};
    sendq_bev_setcb(it.b, NULL, on_end, &own);
    write_stream(10);
    turn();
    CHECK_IS(it.sent, 1);
    CHECK_IS(sendq_bev_close(it.b, 0), 0);
    turn();
    CHECK_IS(own.what, BEV_EVENT_EOF | BEV_EVENT_WRITING);
    CHECK_IS(it.events, 0);
    close_it();
}

/* Written before the connection is there. */
static void while_connecting(bool is_refused) {
    struct sockaddr_in address;
    int listener = tcp_listen(&address);
    if (is_refused) {
        close(listener);
    }
    make((ends){socket(AF_INET, SOCK_STREAM, 0), -1}, BEV_OPT_CLOSE_ON_FREE);
    CHECK_IS(bufferevent_socket_connect(it.bev, (struct sockaddr*)&address, sizeof address), 0);
    attach();
    write_stream(100000);
    for (int i = 0; it.events == 0; i++) {
        CHECK(i < TURNS);
        CHECK(event_base_loop(base, EVLOOP_ONCE) >= 0);
    }
    if (is_refused) {
        CHECK(it.what & BEV_EVENT_ERROR);
    } else {
        CHECK_IS(it.what, BEV_EVENT_CONNECTED);
        it.e.peer = accept(listener, NULL, NULL);
        close(listener);
        drain();
    }
    close_it();
}

/* The bufferevent writes again, but not into the middle of what was refused. */
static void back(void) {
    open_it();
    fill();
    drain();
    sendq_bev_free(it.b);
    CHECK_IS(bufferevent_enable(it.bev, EV_WRITE), 0);
    CHECK_IS(bufferevent_write(it.bev, "by libevent", 11), 0);
    turns(3);
    char text[11];
    CHECK_IS(ends_read(it.e, text, sizeof text), 11);
    CHECK_IS(memcmp(text, "by libevent", 11), 0);
    attach(); /* and once more */
    fill();
    close_it();

    open_it();
    fill();
    sendq_bev_free(it.b);
    CHECK_IS(bufferevent_write(it.bev, "x", 1), -1);
    it.b = NULL;
    close_it();
}

static void free_all(void) {
    sendq_bev_free(it.b);
    sendq_free(it.q);
    bufferevent_free(it.bev);
}

static void free_bev_first(void) {
    bufferevent_free(it.bev);
    sendq_bev_free(it.b);
    sendq_free(it.q);
}

static void free_queue_first(void) {
    sendq_free(it.q);
    bufferevent_free(it.bev);
    sendq_bev_free(it.b);
}

/* In the event callback, in any order. */
static void freed_from_callbacks(void) {
    void (*const orders[])(void) = {free_all, free_bev_first, free_queue_first};
    for (int how = 0; how < 6; how++) {
        open_it();
        it.then = orders[how / 2];
        fill();
        if (how % 2) {
            CHECK_IS(sendq_bev_close(it.b, 0), 0);
            for (int i = 0; it.events == 0; i++) {
                CHECK(i < TURNS);
                read_stream();
                turn();
            }
        } else {
            close(it.e.peer);
            it.e.peer = -1;
            turns(3);
        }
        CHECK_IS(it.events, 1);
        turns(2);
        CHECK(close(it.e.queue) != 0);
        close(it.e.peer);
    }
}

/* The bufferevent lives until its output half is freed, but calls nobody any more. */
static void bev_freed_first(void) {
    open_it();
    write_stream(100);
    bufferevent_free(it.bev);
    turns(3);
    read_stream();
    CHECK_IS(it.received, 100);
    CHECK_IS(it.sent, 0);
    CHECK_IS(fcntl(it.e.queue, F_GETFD) >= 0, true);
    close(it.e.peer);
    it.e.peer = -1;
    CHECK(sendq_bev_write(it.b, bytes, 1000) >= 0);
    turns(3);
    CHECK_IS(it.events, 0);
    sendq_bev_free(it.b);
    turns(2);
    CHECK(close(it.e.queue) != 0);
    sendq_free(it.q);
}

static void refuses(struct bufferevent* bev, sendq_t* q, int expected) {
    sendq_bev_t* b = it.b;
    CHECK_IS(sendq_bev_attach_bufferevent(bev, q, &b), expected);
    CHECK(b == NULL);
    turn();
}

static void misuse(void) {
    open_it();
    CHECK_IS(sendq_bev_attach_bufferevent(it.bev, it.q, NULL), -EINVAL);
    refuses(NULL, it.q, -EINVAL);
    refuses(it.bev, NULL, -EINVAL);
    refuses(it.bev, it.q, -EBUSY); /* twice */
    CHECK_IS(sendq_bev_set_writer(it.b, NULL, NULL), -EINVAL);
    struct bufferevent* no_socket = bufferevent_socket_new(base, -1, 0);
    refuses(no_socket, it.q, -EINVAL);
    CHECK_IS(bufferevent_write(no_socket, "x", 1), 0);
    refuses(no_socket, it.q, -EBUSY);
    bufferevent_free(no_socket);
    struct bufferevent* pair[2];
    CHECK_IS(bufferevent_pair_new(base, 0, pair), 0);
    refuses(pair[0], it.q, -ENOTSUP);
    struct bufferevent* filter =
        bufferevent_filter_new(pair[1], NULL, NULL, BEV_OPT_CLOSE_ON_FREE, NULL, NULL);
    CHECK(filter != NULL);
    refuses(filter, it.q, -ENOTSUP);
    bufferevent_free(filter);
    bufferevent_free(pair[0]);
    close_it();

    make(ends_unix(), BEV_OPT_CLOSE_ON_FREE);
    CHECK_IS(bufferevent_write(it.bev, "x", 1), 0);
    refuses(it.bev, it.q, -EBUSY);
    turns(3);
    char byte;
    CHECK_IS(ends_read(it.e, &byte, 1), 1); /* bev still writes */
    attach();
    close_it();
}

/* Attached late: what is queued already is sent, and what has ended already is reported. */
static void late(void) {
    make(ends_unix(), BEV_OPT_CLOSE_ON_FREE);
    stream_fill(bytes, 0, 100);
    CHECK_IS(sendq_append(it.q, bytes, 100), SENDQ_WAKE);
    it.written = 100;
    attach();
    drain();
    close_it();

    make(ends_unix(), BEV_OPT_CLOSE_ON_FREE);
    CHECK_IS(sendq_append(it.q, bytes, 100), SENDQ_WAKE);
    CHECK_IS(sendq_flush(it.q, -1, 0), -EBADF);
    attach();
    turn();
    CHECK_IS(it.what, BEV_EVENT_ERROR | BEV_EVENT_WRITING);
    CHECK_IS(it.error, EBADF);
    close_it();
}

int main(void) {
    base = event_base_new();
    CHECK(base != NULL);
    signal(SIGPIPE, SIG_IGN); /* for the bufferevents */
    both_halves();
    output_is_shut();
    settings();
    error(0);
    error(BEV_OPT_DEFER_CALLBACKS);
    half_closed();
    callbacks_of_its_own();
    while_connecting(false);
    while_connecting(true);
    back();
    freed_from_callbacks();
    bev_freed_first();
    misuse();
    late();
    event_base_free(base);
    return 0;
}
