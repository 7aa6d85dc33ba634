/* sendq_bev_close from another thread than that of the loop, which sleeps, flushes, or is about to:
 * what is queued is sent, eventcb comes once and from the loop, and no close is lost. */
#include <event2/thread.h>
#include <pthread.h>

#include "loop.h"

enum { ROUNDS = 200, CLOSERS = 3, LEN = 200000 };

static connection it;
static pthread_t loops;
static sendq_pool_t* pool;
static uint64_t timeout_ns;

static void* close_it(void* arg) {
    (void)arg;
    CHECK_IS(sendq_bev_close(it.b, timeout_ns), 0);
    CHECK_IS(sendq_bev_write(it.b, "x", 1), -EPIPE);
    return NULL;
}

static void* receive(void* arg) {
    static unsigned char buffer[65536];
    (void)arg;
    while (it.received < LEN) {
        ssize_t got = recv(it.e.peer, buffer, sizeof buffer, 0);
        CHECK(got > 0);
        stream_check(buffer, it.received, (size_t)got);
        it.received += (uint64_t)got;
    }
    return NULL;
}

static void in_the_loop(connection* c) {
    (void)c;
    CHECK(pthread_equal(loops, pthread_self()));
}

static void open_it(void) {
    sendq_config_t config = {.size = sizeof config, .flags = SENDQ_THREADSAFE};
    connection_open_with(&it, ends_unix(), pool, &config);
    ends_least_buffer(it.e);
    it.then = in_the_loop;
    CHECK_IS(sendq_bev_set_max_single_write(it.b, 1000), 0); /* many flushes to meet */
}

/* Keeps the loop from ending while nothing is queued. */
static void never(evutil_socket_t fd, short what, void* arg) {
    (void)fd, (void)what, (void)arg;
    CHECK(false);
}

static void round_of(int closers, size_t len) {
    pthread_t threads[CLOSERS + 1];
    open_it();
    struct event* pause = evtimer_new(base, never, NULL);
    CHECK_IS(event_add(pause, &(struct timeval){.tv_sec = 60}), 0);
    if (len > 0) {
        CHECK(connection_write(&it, len) >= 0);
        CHECK_IS(pthread_create(&threads[CLOSERS], NULL, receive, NULL), 0);
    }
    for (int i = 0; i < closers; i++) {
        CHECK_IS(pthread_create(&threads[i], NULL, close_it, NULL), 0);
    }
    turn_until(&it.ended); /* a lost close ends here, by `never` */
    for (int i = 0; i < closers; i++) {
        CHECK_IS(pthread_join(threads[i], NULL), 0);
    }
    CHECK_IS(it.what, BEV_EVENT_EOF | BEV_EVENT_WRITING);
    if (len > 0) {
        CHECK_IS(pthread_join(threads[CLOSERS], NULL), 0);
        CHECK_IS(it.received, len);
    }
    turn();
    event_free(pause);
    connection_close(&it);
}

/* Nobody reads: the time that another thread has set is over at some time. */
static void deadline(void) {
    pthread_t closer;
    open_it();
    it.then = NULL;
    connection_fill(&it);
    timeout_ns = 5 * MILLISECOND;
    CHECK_IS(pthread_create(&closer, NULL, close_it, NULL), 0);
    turn_until(&it.ended);
    CHECK_IS(pthread_join(closer, NULL), 0);
    CHECK_IS(it.what, BEV_EVENT_TIMEOUT | BEV_EVENT_WRITING);
    CHECK_IS(it.error, ETIMEDOUT);
    connection_close(&it);
}

int main(void) {
    CHECK_IS(evthread_use_pthreads(), 0);
    base = event_base_new();
    CHECK(base != NULL);
    loops = pthread_self();
    pool = new_pool((sendq_pool_config_t){.flags = SENDQ_THREADSAFE});
    for (int i = 0; i < ROUNDS; i++) {
        timeout_ns = i % 2 ? UINT64_C(60) * SECOND : 0;
        round_of(1 + i % CLOSERS, i % 4 ? LEN : 0);
    }
    deadline();
    sendq_pool_free(pool);
    event_base_free(base);
    libevent_global_shutdown();
    return 0;
}
