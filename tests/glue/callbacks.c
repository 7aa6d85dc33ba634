/* writecb comes when a bufferevent's would; eventcb comes once; both from the loop only, and from
 * both, and from a release, the glue can be freed. */
#include <event2/bufferevent.h>
#include <signal.h>

#include "loop.h"

static connection it;

static const struct timeval shortly = {.tv_usec = 20000}, late = {.tv_sec = 60};

/* The loop runs so many times as long as it takes. */
static void go_on_for(int times) {
    for (int i = 0; i < times; i++) {
        CHECK_IS(event_base_loopexit(base, &shortly), 0);
        CHECK_IS(event_base_dispatch(base), 0);
    }
}

/* A bufferevent and the glue, each with its own connection, get the same orders. */
typedef struct {
    struct bufferevent* bev;
    ends e;
    unsigned sent;
    unsigned ended;
    short what;
} other;

static other libevents;

static void on_bufferevent_sent(struct bufferevent* bev, void* arg) {
    (void)bev;
    ((other*)arg)->sent++;
}

static void on_bufferevent_end(struct bufferevent* bev, short what, void* arg) {
    (void)bev;
    other* o = arg;
    o->ended++;
    o->what = what;
}

static void both_open(void) {
    connection_open(&it);
    libevents = (other){.e = ends_unix()};
    ends_least_buffer(libevents.e);
    CHECK_IS(evutil_make_socket_nonblocking(libevents.e.queue), 0);
    libevents.bev = bufferevent_socket_new(base, libevents.e.queue, 0);
    CHECK(libevents.bev != NULL);
    bufferevent_setcb(libevents.bev, NULL, on_bufferevent_sent, on_bufferevent_end, &libevents);
}

static void both_write(size_t len) {
    static char bytes[100000];
    CHECK(connection_write(&it, len) >= 0);
    CHECK_IS(bufferevent_write(libevents.bev, bytes, len), 0);
}

/* Both have called as often. A bufferevent writes 16 KiB a turn, one turn after the order.
 */
static void both_settle(void) {
    for (int i = 0; i < 20; i++) {
        turn();
    }
    CHECK_IS(it.sent > 0, libevents.sent > 0);
    CHECK_IS(it.ended, libevents.ended > 0);
}

static void both_read_all(void) {
    static char bytes[65536];
    for (int i = 0; i < 100; i++) {
        turn();
        connection_read(&it, SIZE_MAX);
        ends_read(libevents.e, bytes, sizeof bytes);
    }
}

static void both_close(void) {
    connection_close(&it);
    bufferevent_free(libevents.bev);
    ends_close(libevents.e);
}

static void as_bufferevents(void) {
    both_open();
    both_settle(); /* neither calls for an empty output */
    CHECK_IS(it.sent, 0);
    for (unsigned i = 1; i <= 5; i++) {
        both_write(100);
        CHECK_IS(it.sent, i - 1); /* not from inside the write */
        both_write(100);
        both_settle();
        CHECK_IS(it.sent, i);
        CHECK_IS(libevents.sent, i);
        both_read_all();
    }

    it.sent = libevents.sent = 0;
    both_write(100000); /* stays above the watermark of 0 */
    both_settle();
    CHECK_IS(it.sent, 0);
    both_read_all();
    both_settle();
    CHECK_IS(it.sent, 1);
    CHECK_IS(libevents.sent, 1);

    /* Above low: no call. At low, and below: one for each write that sent something. */
    CHECK_IS(sendq_bev_setwatermark(it.b, 99999, 0, 0), 0);
    bufferevent_setwatermark(libevents.bev, EV_WRITE, 99999, 0);
    it.sent = libevents.sent = 0;
    both_write(100000);
    both_settle();
    CHECK_IS(it.sent, libevents.sent);
    CHECK_IS(it.sent, 1);
    both_close();
}

static void reset(void) {
    both_open();
    both_write(100000);
    both_settle();
    close(it.e.peer);
    close(libevents.e.peer);
    it.e.peer = libevents.e.peer = -1;
    both_settle();
    CHECK_IS(it.ended, true);
    CHECK_IS(it.what, BEV_EVENT_ERROR | BEV_EVENT_WRITING);
    CHECK_IS(it.what, libevents.what);
    CHECK_IS(it.error, -sendq_error(sendq_bev_get_queue(it.b)));
    CHECK(it.error == ECONNRESET || it.error == EPIPE);
    CHECK_IS(sendq_bev_write(it.b, "x", 1), -it.error);
    CHECK_IS(sendq_bev_close(it.b, 0), 0); /* there is no second end */
    CHECK_IS(sendq_bev_enable(it.b, EV_WRITE), 0);
    both_settle();
    both_close();
}

/* Found by a flush of the host's own: the callback still comes from the loop. */
static void error_at_once(void) {
    connection_open(&it);
    close(it.e.peer);
    it.e.peer = -1;
    CHECK_IS(connection_write(&it, 10), 0);
    CHECK_IS(sendq_bev_flush(it.b), -EPIPE);
    CHECK_IS(it.ended, false);
    turn();
    CHECK_IS(it.ended, true);
    CHECK_IS(it.error, EPIPE);
    connection_close(&it);
}

static void close_when_drained(void) {
    connection_open(&it);
    connection_fill(&it);
    unsigned sent = it.sent;
    CHECK_IS(sendq_bev_disable(it.b, EV_WRITE), 0);
    CHECK_IS(sendq_bev_close(it.b, 0), 0);
    CHECK_IS(sendq_bev_disable(it.b, EV_WRITE), -EPIPE);
    CHECK_IS(sendq_bev_write(it.b, "x", 1), -EPIPE);
    turn();
    CHECK_IS(it.ended, false);
    connection_drain(&it);
    CHECK_IS(it.ended, true);
    CHECK_IS(it.what, BEV_EVENT_EOF | BEV_EVENT_WRITING);
    CHECK_IS(it.error, 0);
    CHECK_IS(it.sent, sent);
    CHECK_IS(event_base_dispatch(base), 1); /* nothing is armed */
    connection_close(&it);

    /* Nothing waits; with a deadline, which does not come. */
    connection_open(&it);
    CHECK_IS(sendq_bev_close(it.b, UINT64_MAX), 0);
    CHECK_IS(it.ended, false);
    turn();
    CHECK_IS(it.ended, true);
    CHECK_IS(it.what, BEV_EVENT_EOF | BEV_EVENT_WRITING);
    connection_close(&it);

    /* What waits is discarded. */
    connection_open(&it);
    connection_fill(&it);
    CHECK_IS(sendq_bev_close(it.b, 0), 0);
    CHECK(sendq_discard(sendq_bev_get_queue(it.b)) >= 0);
    CHECK(sendq_bev_flush(it.b) >= 0);
    turn();
    CHECK_IS(it.what, BEV_EVENT_EOF | BEV_EVENT_WRITING);
    connection_close(&it);
}

static void close_in_time(void) {
    sendq_pool_t* pool = new_simulated((sendq_pool_config_t){0});
    connection_open_with(&it, ends_unix(), pool, NULL);
    ends_least_buffer(it.e);
    connection_fill(&it);
    CHECK_IS(sendq_bev_close(it.b, 2 * MILLISECOND), 0);
    turn();
    CHECK_IS(it.ended, false);
    now_ns += 2 * MILLISECOND;
    turn_until(&it.ended); /* by the timer: nobody reads */
    CHECK_IS(it.what, BEV_EVENT_TIMEOUT | BEV_EVENT_WRITING);
    CHECK_IS(it.error, ETIMEDOUT);
    connection_close(&it);

    /* Put off, and then for good. */
    connection_open_with(&it, ends_unix(), pool, NULL);
    ends_least_buffer(it.e);
    connection_fill(&it);
    CHECK_IS(sendq_bev_close(it.b, SECOND), 0);
    now_ns += SECOND;
    CHECK_IS(sendq_bev_close(it.b, SECOND), 0);
    turn();
    CHECK_IS(it.ended, false);
    now_ns += SECOND;
    CHECK_IS(sendq_bev_close(it.b, 0), 0);
    now_ns += UINT64_C(1000) * SECOND;
    turn();
    CHECK_IS(it.ended, false);
    for (int i = 0; !it.ended; i++) {
        CHECK(i < TURNS);
        connection_read(&it, SIZE_MAX);
        turn();
    }
    CHECK_IS(it.what, BEV_EVENT_EOF | BEV_EVENT_WRITING);
    connection_close(&it);
    sendq_pool_free(pool);
}

static bool freed;

static void free_it(connection* c) {
    CHECK(!freed);
    freed = true;
    sendq_bev_free(c->b);
}

static void free_on_release(void* arg, const void* data, size_t len, int reason) {
    (void)data, (void)len, (void)reason;
    free_it(arg);
}

static void check_freed(void) {
    CHECK_IS(freed, true);
    CHECK(close(it.e.queue) != 0);
    close(it.e.peer);
    freed = false;
    turn();
}

/* As a bufferevent that may wait to write for so long. */
static void timeout(void) {
    both_open();
    bufferevent_set_timeouts(libevents.bev, NULL, &shortly);
    CHECK_IS(sendq_bev_set_timeout(it.b, &shortly), 0);
    go_on_for(3);
    CHECK_IS(it.ended, false); /* nothing waits */
    both_write(100000);
    both_write(100000);
    turn_until(&it.ended);
    for (int i = 0; libevents.ended == 0; i++) {
        CHECK(i < TURNS);
        CHECK_IS(event_base_loop(base, EVLOOP_ONCE), 0);
    }
    CHECK_IS(it.what, BEV_EVENT_TIMEOUT | BEV_EVENT_WRITING);
    CHECK_IS(it.what, libevents.what);
    CHECK_IS(it.error, ETIMEDOUT);
    both_close();
}

/* Reads again and again, for longer than the timeout, and returns whether the connection lives on.
 */
static bool outlives_its_timeout(void) {
    connection_open(&it);
    CHECK_IS(sendq_bev_set_timeout(it.b, &(struct timeval){.tv_usec = 80000}), 0);
    connection_fill(&it);
    for (int i = 0; i < 10 && !it.ended; i++) {
        CHECK(connection_write(&it, 200000) >= 0);
        go_on_for(1);
        while (connection_read(&it, SIZE_MAX) > 0) {
        }
    }
    if (it.ended) {
        connection_close(&it);
        return false;
    }
    return true;
}

/* Each time that the socket takes something, it starts anew. On a busy machine this process may not
 * have run for as long as that: then it is tried again. */
static void timeout_of_a_reader(void) {
    for (int i = 0; !outlives_its_timeout(); i++) {
        CHECK(i < 50);
    }
    /* Also when the loop comes so late that the time is over as well. */
    CHECK_IS(poll(NULL, 0, 100), 0);
    while (connection_read(&it, SIZE_MAX) > 0) {
    }
    turn();
    CHECK_IS(it.ended, false);
    CHECK(is_armed(&it));
    turn_until(&it.ended);
    connection_close(&it);
}

static void timeout_set_and_unset(void) {
    connection_open(&it);
    CHECK_IS(sendq_bev_set_timeout(it.b, &shortly), 0);
    connection_fill(&it);
    CHECK_IS(sendq_bev_set_timeout(it.b, NULL), 0);
    go_on_for(3);
    CHECK_IS(it.ended, false);
    CHECK_IS(sendq_bev_set_timeout(it.b, &late), 0);
    CHECK_IS(sendq_bev_set_timeout(it.b, &shortly), 0);
    CHECK_IS(sendq_bev_disable(it.b, EV_WRITE), 0);
    go_on_for(3);
    CHECK_IS(it.ended, false);
    CHECK_IS(sendq_bev_enable(it.b, EV_WRITE), 0);
    turn_until(&it.ended);
    CHECK_IS(it.what, BEV_EVENT_TIMEOUT | BEV_EVENT_WRITING);
    connection_close(&it);
}

static void free_from_callbacks(void) {
    static char bytes[1 << 20];
    connection_open(&it);
    it.then = free_it;
    CHECK_IS(connection_write(&it, 10), 0);
    turn(); /* in writecb */
    CHECK_IS(it.sent, 1);
    check_freed();

    connection_open(&it);
    it.then = free_it;
    CHECK_IS(connection_write(&it, 10), 0);
    CHECK_IS(sendq_bev_close(it.b, 0), 0);
    turn(); /* in eventcb */
    CHECK_IS(it.what, BEV_EVENT_EOF | BEV_EVENT_WRITING);
    check_freed();

    connection_open(&it);
    connection_fill(&it);
    it.then = free_it;
    close(it.e.peer);
    turn(); /* in eventcb, because of an error */
    CHECK_IS(it.what, BEV_EVENT_ERROR | BEV_EVENT_WRITING);
    check_freed();

    for (int flushes = 0; flushes <= 1; flushes++) {
        connection_open_with(&it, ends_unix(), NULL, NULL);
        sendq_bev_write_reference(it.b, bytes, 10000, free_on_release, &it);
        CHECK(sendq_bev_write(it.b, bytes, sizeof bytes) >= 0);
        if (flushes) {
            sendq_bev_flush(it.b);
        } else {
            turn(); /* in a release */
        }
        check_freed();
    }
}

/* Asks for all that could call the freed glue back. */
static void use_on_release(void* arg, const void* data, size_t len, int reason) {
    (void)data, (void)len;
    connection* c = arg;
    CHECK_IS(reason, -ECANCELED);
    /* Who is freeing it, further out, still has it: NOLINTBEGIN(clang-analyzer-unix.Malloc) */
    CHECK_IS(sendq_bev_write(c->b, "x", 1), -EINVAL);
    CHECK_IS(sendq_bev_flush(c->b), -EINVAL);
    CHECK_IS(sendq_bev_close(c->b, 0), -EINVAL);
    CHECK_IS(sendq_bev_enable(c->b, EV_WRITE), 0);
    sendq_bev_free(c->b);
    /* NOLINTEND(clang-analyzer-unix.Malloc) */
    freed = true;
}

static void use_while_freed(void) {
    static char bytes[10000];
    connection_open(&it);
    CHECK_IS(sendq_bev_write_reference(it.b, bytes, sizeof bytes, use_on_release, &it), 0);
    sendq_bev_free(it.b);
    check_freed();
}

/* It was scheduled, blocked or waiting for a timer when it was freed. */
static void free_any_time(void) {
    connection_open(&it);
    CHECK_IS(connection_write(&it, 10), 0);
    connection_close(&it);
    turn();

    connection_open(&it);
    connection_fill(&it);
    connection_close(&it);
    turn();

    connection_open(&it);
    CHECK_IS(sendq_bev_set_max_single_write(it.b, 10), 0);
    CHECK_IS(connection_write(&it, 100), 0);
    turn();
    connection_close(&it);
    CHECK_IS(event_base_dispatch(base), 1);
}

int main(void) {
    base = event_base_new();
    CHECK(base != NULL);
    signal(SIGPIPE, SIG_IGN); /* for the bufferevent */
    as_bufferevents();
    reset();
    error_at_once();
    close_when_drained();
    close_in_time();
    timeout();
    timeout_of_a_reader();
    timeout_set_and_unset();
    free_from_callbacks();
    use_while_freed();
    free_any_time();
    event_base_free(base);
    return 0;
}
