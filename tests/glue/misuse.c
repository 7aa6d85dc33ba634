/* NULL, what cannot be asked for, what libevent or memory does not give: an error, and nothing
 * taken. */
#include <event2/buffer.h>

#include "loop.h"

static connection it;

static int release_never_called;

static void never(void* arg, const void* data, size_t len, int reason) {
    (void)arg, (void)data, (void)len, (void)reason;
    release_never_called++;
}

static void null_handles(void) {
    struct evbuffer* buffer = evbuffer_new();
    CHECK_IS(evbuffer_add(buffer, "x", 1), 0);
    sendq_bev_free(NULL);
    sendq_bev_setcb(NULL, NULL, NULL, NULL);
    CHECK(sendq_bev_get_queue(NULL) == NULL);
    CHECK_IS(sendq_bev_getfd(NULL), -1);
    CHECK_IS(sendq_bev_get_length(NULL), 0);
    CHECK_IS(sendq_bev_write(NULL, "x", 1), -EINVAL);
    CHECK_IS(sendq_bev_write_reference(NULL, "x", 1, never, NULL), -EINVAL);
    CHECK_IS(sendq_bev_write_buffer(NULL, buffer), -EINVAL);
    CHECK_IS(evbuffer_get_length(buffer), 1);
    CHECK_IS(sendq_bev_printf(NULL, "%d", 1), -EINVAL);
    CHECK_IS(sendq_bev_wake(NULL, SENDQ_WAKE), -EINVAL);
    CHECK_IS(sendq_bev_setwatermark(NULL, 0, 0, 0), -EINVAL);
    CHECK_IS(sendq_bev_set_max_single_write(NULL, 0), -EINVAL);
    CHECK_IS(sendq_bev_set_timeout(NULL, NULL), -EINVAL);
    CHECK_IS(sendq_bev_set_writer(NULL, NULL, NULL), -EINVAL);
    CHECK_IS(sendq_bev_priority_set(NULL, 0), -EINVAL);
    CHECK_IS(sendq_bev_enable(NULL, EV_WRITE), -EINVAL);
    CHECK_IS(sendq_bev_disable(NULL, EV_WRITE), -EINVAL);
    CHECK_IS(sendq_bev_flush(NULL), -EINVAL);
    CHECK_IS(sendq_bev_close(NULL, 0), -EINVAL);
    CHECK_IS(sendq_bev_trigger(NULL, EV_WRITE, 0), -EINVAL);
    CHECK_IS(sendq_bev_base_set(base, NULL), -EINVAL);
    evbuffer_free(buffer);
}

static void bad_arguments(void) {
    connection_open(&it);
    CHECK_IS(sendq_bev_write(it.b, NULL, 1), -EINVAL);
    CHECK_IS(sendq_bev_write_reference(it.b, NULL, 1, never, NULL), -EINVAL);
    CHECK_IS(sendq_bev_write_buffer(it.b, NULL), -EINVAL);
    CHECK_IS(sendq_bev_setwatermark(it.b, 2, 1, 0), -EINVAL);
    CHECK_IS(it.b->low, 0);
    const struct timeval no_times[] = {{-1, 0}, {0, -1}, {0, 1000000}};
    for (int i = 0; i < 3; i++) {
        CHECK_IS(sendq_bev_set_timeout(it.b, &no_times[i]), -EINVAL);
    }
    CHECK_IS(sendq_bev_priority_set(it.b, 100), -EINVAL);
    CHECK_IS(sendq_bev_priority_set(it.b, 0), 0);
    CHECK_IS(sendq_bev_getfd(it.b), it.e.queue);
    CHECK_IS(sendq_queued_bytes(sendq_bev_get_queue(it.b)), 0);
    connection_close(&it);
}

/* A reference of no bytes is a success, and its owner is released at once. */
static void an_empty_reference(void) {
    piece p = {0};
    connection_open(&it);
    CHECK_IS(sendq_bev_write_reference(it.b, NULL, 0, piece_release, &p), 0);
    CHECK_IS(p.times, 1);
    CHECK_IS(p.reason, 0);
    CHECK_IS(sendq_bev_write(it.b, NULL, 0), 0);
    turn();
    CHECK_IS(it.sent, 0);
    CHECK_IS(event_base_dispatch(base), 1); /* nothing is armed */
    connection_close(&it);
}

static void refuses(struct event_base* in, sendq_fd_t fd, int options, sendq_pool_t* pool,
                    const sendq_config_t* config, int expected) {
    sendq_bev_t* b = it.b;
    CHECK_IS(sendq_bev_new(in, fd, options, pool, config, &b), expected);
    CHECK(b == NULL);
}

static void not_made(void) {
    ends e = ends_unix();
    sendq_pool_t* confined = new_pool((sendq_pool_config_t){0});
    sendq_config_t shared = {.size = sizeof shared, .flags = SENDQ_THREADSAFE};
    CHECK_IS(sendq_bev_new(base, e.queue, 0, NULL, NULL, NULL), -EINVAL);
    refuses(NULL, e.queue, 0, NULL, NULL, -EINVAL);
    refuses(base, -1, 0, NULL, NULL, -EINVAL);
    refuses(base, e.queue, BEV_OPT_THREADSAFE, NULL, NULL, -EINVAL);
    refuses(base, e.queue, BEV_OPT_CLOSE_ON_FREE, confined, &shared, -EINVAL);
    sendq_bev_t* b = it.b;
    CHECK_IS(sendq_bev_attach(base, e.queue, 0, NULL, &b), -EINVAL);
    CHECK(b == NULL);
    CHECK_IS(write(e.queue, "x", 1), 1); /* still the caller's */
    sendq_pool_free(confined);
    ends_close(e);
}

/* The end of a connection for which libevent cannot wait; the next is none the worse. */
static void cannot_wait(void) {
    static unsigned char bytes[50000];
    piece borrowed;
    connection_open(&it);
    epoll_ctl_fails = ENOSPC; /* fs.epoll.max_user_watches */
    CHECK_IS(sendq_bev_write(it.b, bytes, sizeof bytes), 0);
    borrowed = (piece){.data = bytes, .len = sizeof bytes};
    CHECK_IS(sendq_bev_write_reference(it.b, bytes, sizeof bytes, piece_release, &borrowed), 0);
    turn();
    CHECK_IS(epoll_ctl_fails, 0);
    CHECK_IS(it.ended, true);
    CHECK_IS(it.what, BEV_EVENT_ERROR | BEV_EVENT_WRITING);
    CHECK_IS(it.error, ENOMEM);
    CHECK_IS(borrowed.times, 1);
    CHECK_IS(borrowed.reason, -ECANCELED);
    CHECK_IS(sendq_bev_write(it.b, "x", 1), -EPIPE);
    CHECK_IS(event_base_dispatch(base), 1);
    connection_close(&it);

    connection_open(&it);
    connection_fill(&it);
    connection_drain(&it);
    connection_close(&it);
}

/* A way of writing of the host's own. */
typedef struct {
    unsigned calls;
    int64_t answer; /* 0: what the socket takes */
} writer;

static int64_t take(void* arg, const void* data, size_t len) {
    writer* w = arg;
    w->calls++;
    if (w->answer != 0) {
        return w->answer;
    }
    return send(it.e.queue, data, len, MSG_DONTWAIT);
}

static void a_writer(void) {
    connection_open(&it);
    writer w = {.answer = SENDQ_WRITE_WANT_READ};
    CHECK_IS(sendq_bev_set_writer(it.b, take, &w), 0);
    CHECK_IS(connection_write(&it, 1000), 0);
    turn();
    CHECK_IS(w.calls, 1);
    CHECK_IS(it.b->armed, EV_READ);
    turn();
    CHECK_IS(w.calls, 1);
    CHECK_IS(write(it.e.peer, "x", 1), 1);
    turn();
    CHECK_IS(w.calls, 2);
    w.answer = -EAGAIN;
    turn();
    CHECK_IS(w.calls, 3);
    CHECK_IS(it.b->armed, EV_WRITE);
    w.answer = 0;
    turn();
    CHECK_IS(w.calls, 4);
    CHECK_IS(connection_read(&it, SIZE_MAX), 1000);
    CHECK_IS(is_armed(&it), false);
    CHECK_IS(connection_write(&it, 1000), 0);
    w.answer = -EPROTO;
    turn();
    CHECK_IS(it.error, EPROTO);
    connection_close(&it);
}

/* A writer that says "again" without an end costs a call now and then, not every turn. */
static void an_interrupted_writer(void) {
    connection_open(&it);
    writer w = {.answer = -EINTR};
    CHECK_IS(sendq_bev_set_writer(it.b, take, &w), 0);
    CHECK_IS(connection_write(&it, 1000), 0);
    unsigned turns = 1000;
    for (unsigned i = 0; i < turns; i++) {
        turn();
    }
    CHECK(w.calls > 0 && w.calls < turns);
    w.answer = 0;
    CHECK_IS(event_base_loop(base, EVLOOP_ONCE), 0);
    CHECK_IS(connection_read(&it, SIZE_MAX), 1000);

    /* The same after it was refused: the socket stays as it is, so that only a timer helps. */
    w.answer = SENDQ_WRITE_WANT_READ;
    CHECK_IS(connection_write(&it, 1000), 0);
    turn();
    CHECK_IS(it.b->armed, EV_READ);
    w.answer = -EINTR;
    CHECK(sendq_bev_flush(it.b) & SENDQ_MORE);
    w.answer = 0;
    CHECK_IS(event_base_loop(base, EVLOOP_ONCE), 0);
    CHECK_IS(connection_read(&it, SIZE_MAX), 1000);
    connection_close(&it);
}

/* Of an attached queue, which lives on: the writer is not called any more. */
static int64_t free_and_take(void* arg, const void* data, size_t len) {
    (void)data;
    writer* w = arg;
    w->calls++;
    sendq_bev_free(it.b);
    return len > 10 ? 10 : (int64_t)len;
}

static void freed_by_its_writer(void) {
    static unsigned char bytes[1000];
    it = (connection){.e = ends_unix()};
    sendq_t* q = NULL;
    writer w = {0};
    CHECK_IS(sendq_new(NULL, NULL, &q), 0);
    CHECK_IS(sendq_bev_attach(base, it.e.queue, 0, q, &it.b), 0);
    CHECK_IS(sendq_bev_set_writer(it.b, free_and_take, &w), 0);
    CHECK_IS(sendq_bev_write(it.b, bytes, sizeof bytes), 0);
    turn();
    CHECK_IS(w.calls, 1);
    CHECK_IS(sendq_queued_bytes(q), sizeof bytes - 10);
    sendq_free(q);
    ends_close(it.e);
}

/* Attached when its connection has failed already: that is reported. */
static void failed_before(void) {
    it = (connection){.e = ends_unix()};
    sendq_t* q = NULL;
    CHECK_IS(sendq_new(NULL, NULL, &q), 0);
    CHECK_IS(sendq_append(q, "x", 1), SENDQ_WAKE);
    CHECK_IS(sendq_flush(q, -1, 0), -EBADF);
    CHECK_IS(sendq_bev_attach(base, it.e.queue, 0, q, &it.b), 0);
    sendq_bev_setcb(it.b, on_sent, on_end, &it);
    turn();
    CHECK_IS(it.ended, true);
    CHECK_IS(it.error, EBADF);
    sendq_bev_free(it.b);
    sendq_free(q);
    ends_close(it.e);
}

int main(void) {
    base = event_base_new();
    CHECK(base != NULL);
    null_handles();
    bad_arguments();
    an_empty_reference();
    not_made();
    cannot_wait();
    a_writer();
    an_interrupted_writer();
    freed_by_its_writer();
    failed_before();
    CHECK_IS(release_never_called, 0);
    event_base_free(base);
    return 0;
}
