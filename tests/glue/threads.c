/* With SENDQ_THREADSAFE, and libevent's locks, any thread writes while the loop flushes: every
 * frame arrives whole, those of one thread in their order, and no wake-up is lost. */
#include <event2/buffer.h>
#include <event2/thread.h>
#include <pthread.h>
#include <sched.h>

#include "loop.h"

enum { PRODUCERS = 3, FRAMES = 5000, MAX_WAITING = 64 << 10, VERBS = 4 };

typedef struct {
    uint32_t producer;
    uint32_t number;
} frame;

static connection it;
static frame frames[PRODUCERS][FRAMES];

static int write_frame(const frame* f, struct evbuffer* buffer) {
    switch (f->number % VERBS) {
        case 0:
            return sendq_bev_write(it.b, f, sizeof *f);
        case 1:
            return sendq_bev_write_reference(it.b, f, sizeof *f, NULL, NULL);
        case 2: {
            if (evbuffer_get_length(buffer) == 0) {
                CHECK_IS(evbuffer_add(buffer, f, sizeof *f), 0);
            }
            return sendq_bev_write_buffer(it.b, buffer);
        }
        default: {
            struct iovec iov = {(void*)(uintptr_t)f, sizeof *f};
            return sendq_bev_wake(it.b, sendq_appendv(sendq_bev_get_queue(it.b), &iov, 1));
        }
    }
}

/* Lets it drain now and then, so that there are wake-ups to lose. */
static void* produce(void* arg) {
    uint32_t producer = (uint32_t)(uintptr_t)arg;
    struct evbuffer* buffer = evbuffer_new();
    CHECK(buffer != NULL);
    for (uint32_t i = 0; i < FRAMES; i++) {
        frame* f = &frames[producer][i];
        *f = (frame){producer, i};
        int result;
        while ((result = write_frame(f, buffer)) == -ENOBUFS) {
            sched_yield();
        }
        CHECK(result == 0 || result == SENDQ_HIGH);
        for (int k = 0; i % 8 == 0 && k < 1000 && sendq_bev_get_length(it.b) > 0; k++) {
            sched_yield();
        }
    }
    evbuffer_free(buffer);
    return NULL;
}

static void* receive(void* arg) {
    (void)arg;
    uint32_t next[PRODUCERS] = {0};
    for (int i = 0; i < PRODUCERS * FRAMES; i++) {
        frame f;
        wait_for(it.e.peer, POLLIN); /* a lost wake-up ends here */
        CHECK_IS(recv(it.e.peer, &f, sizeof f, MSG_WAITALL), sizeof f);
        CHECK(f.producer < PRODUCERS);
        CHECK_IS(f.number, next[f.producer]);
        next[f.producer]++;
    }
    shutdown(it.e.peer, SHUT_WR);
    return NULL;
}

/* Nothing else would keep the loop from ending while the producers pause. */
static void on_received(evutil_socket_t fd, short what, void* arg) {
    (void)fd, (void)what;
    CHECK_IS(event_base_loopbreak(arg), 0);
}

int main(void) {
    CHECK_IS(evthread_use_pthreads(), 0);
    base = event_base_new();
    CHECK(base != NULL);
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){.flags = SENDQ_THREADSAFE});
    sendq_config_t config = {
        .size = sizeof config, .flags = SENDQ_THREADSAFE, .max = MAX_WAITING, .copy_below = 1};
    connection_open_with(&it, ends_unix(), pool, &config);
    ends_least_buffer(it.e);
    CHECK_IS(sendq_bev_set_max_single_write(it.b, 1000), 0);
    struct event* end = event_new(base, it.e.queue, EV_READ, on_received, base);
    CHECK(end != NULL);
    CHECK_IS(event_add(end, NULL), 0);

    pthread_t threads[PRODUCERS + 1];
    CHECK_IS(pthread_create(&threads[PRODUCERS], NULL, receive, NULL), 0);
    for (uintptr_t i = 0; i < PRODUCERS; i++) {
        CHECK_IS(pthread_create(&threads[i], NULL, produce, (void*)i), 0);
    }
    CHECK_IS(event_base_dispatch(base), 0);
    for (int i = 0; i <= PRODUCERS; i++) {
        CHECK_IS(pthread_join(threads[i], NULL), 0);
    }
    CHECK(it.sent > 0);
    CHECK_IS(sendq_bev_get_length(it.b), 0);
    event_free(end);
    connection_close(&it);
    sendq_pool_free(pool);
    event_base_free(base);
    libevent_global_shutdown();
    return 0;
}
