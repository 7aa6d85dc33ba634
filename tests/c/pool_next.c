/* sendq_pool_next with more queues than the model has: each once a turn, in order; and when the
 * host is woken. */
#include <pthread.h>
#include <stdatomic.h>

#include "simulated.h"

enum { QUEUES = 5 };

static unsigned char bytes[1 << 20];
static int wakes;

static void count_wake(void* arg) {
    CHECK(arg == &wakes);
    wakes++;
}

typedef struct {
    sendq_pool_t* pool;
    sendq_t* q[QUEUES];
} world;

/* A pool that wakes, and queues in it that borrow everything. */
static world open_world(uint32_t flags) {
    world w = {.pool = new_simulated(
                   (sendq_pool_config_t){.flags = flags, .wake = count_wake, .wake_arg = &wakes})};
    sendq_config_t config = {.size = sizeof config, .flags = flags, .copy_below = 1};
    for (int i = 0; i < QUEUES; i++) {
        w.q[i] = new_queue(w.pool, &config);
    }
    wakes = 0;
    return w;
}

static void close_world(world* w) {
    for (int i = 0; i < QUEUES; i++) {
        sendq_free(w->q[i]);
    }
    sendq_pool_free(w->pool);
}

/* The rest of the turn returns these, in order, by their numbers, and then NULL. */
static void check_turn_at(world* w, const char* expected, int line) {
    for (const char* c = expected;; c++) {
        sendq_t* q = sendq_pool_next(w->pool);
        int i = 0;
        while (i < QUEUES && w->q[i] != q) {
            i++;
        }
        int got = q != NULL ? '0' + i : 0;
        if (got != *c) {
            fprintf(stderr, "line %d: %d instead of '%s'\n", line, got, c);
            exit(1);
        }
        if (got == '\0') {
            return;
        }
    }
}

#define check_turn(w, expected) check_turn_at(w, expected, __LINE__)

static void append(world* w, int i, size_t len) {
    CHECK(sendq_append(w->q[i], bytes, len) >= 0);
}

static void drain(world* w, int i) {
    CHECK(sendq_consume(w->q[i], sendq_queued_bytes(w->q[i])) >= 0);
}

/* In the order in which they became ready; what becomes ready in a turn is for the next. */
static void order(uint32_t flags) {
    world w = open_world(flags);
    check_turn(&w, "");
    append(&w, 3, 10);
    append(&w, 1, 10);
    append(&w, 3, 10);
    append(&w, 0, 10);
    CHECK(sendq_pool_next(w.pool) == w.q[3]);
    append(&w, 3, 10); /* again, for the next turn */
    append(&w, 4, 10);
    append(&w, 1, 10); /* is still to come in this one */
    check_turn(&w, "10");
    check_turn(&w, "34");
    check_turn(&w, "");
    close_world(&w);
}

/* Whatever takes the bytes away, takes the queue out at once. */
static void leaves(uint32_t flags) {
    world w = open_world(flags);
    ends e = ends_unix();
    for (int turn = 0; turn < 2; turn++) { /* waiting for the turn, and in it */
        for (int i = 0; i < QUEUES; i++) {
            append(&w, i, 10);
        }
        CHECK(turn == 0 || sendq_pool_next(w.pool) == w.q[0]);
        CHECK_IS(sendq_flush(w.q[1], e.queue, 0), 0);
        CHECK_IS(sendq_discard(w.q[2]), 0);
        CHECK(sendq_splice(w.q[3], w.q[4]) >= 0);
        check_turn(&w, turn == 0 ? "03" : "3");
        drain(&w, 0);
        drain(&w, 3);
    }
    append(&w, 0, 10);
    append(&w, 1, 10);
    CHECK_IS(sendq_flush(w.q[0], -1, 0), -EBADF);
    CHECK_IS(sendq_schedule(w.q[0]), -EBADF);
    append(&w, 2, 10);
    append(&w, 3, 10);
    CHECK(sendq_pool_next(w.pool) == w.q[1]);
    sendq_free(w.q[2]);
    check_turn(&w, "3");
    append(&w, 1, 10);
    sendq_free(w.q[1]); /* of the next turn */
    check_turn(&w, "");
    sendq_config_t config = {.size = sizeof config, .flags = flags};
    w.q[1] = new_queue(w.pool, &config);
    w.q[2] = new_queue(w.pool, &config);
    check_turn(&w, "");
    append(&w, 2, 10);
    check_turn(&w, "2");
    ends_close(e);
    close_world(&w);
}

/* Once for the first that becomes ready; again when none was; and at the end of a turn for the
 * next.
 */
static void waking(uint32_t flags) {
    world w = open_world(flags);
    append(&w, 0, 10);
    CHECK_IS(wakes, 1);
    append(&w, 1, 10);
    append(&w, 0, 10);
    CHECK_IS(wakes, 1);
    drain(&w, 0);
    append(&w, 0, 10);
    CHECK_IS(wakes, 1);
    drain(&w, 0);
    drain(&w, 1);
    append(&w, 0, 10);
    CHECK_IS(wakes, 2);
    append(&w, 1, 10);
    CHECK(sendq_pool_next(w.pool) == w.q[0]);
    append(&w, 0, 10); /* 1 is still ready */
    CHECK_IS(wakes, 2);
    check_turn(&w, "1");
    CHECK_IS(wakes, 3); /* by the end of the turn, for 0 */
    check_turn(&w, "0");
    CHECK_IS(wakes, 3);
    append(&w, 2, 10);
    CHECK_IS(wakes, 4);
    CHECK(sendq_pool_next(w.pool) == w.q[2]);
    append(&w, 2, 10); /* none was ready */
    CHECK_IS(wakes, 5);
    check_turn(&w, "");
    CHECK_IS(wakes, 5); /* the host was woken since the turn began */
    check_turn(&w, "2");
    CHECK_IS(sendq_schedule(w.q[2]), 0);
    CHECK_IS(wakes, 6);
    CHECK_IS(sendq_schedule(w.q[2]), 0);
    CHECK_IS(wakes, 6);
    sendq_free(w.q[2]);
    append(&w, 3, 10);
    CHECK_IS(wakes, 7);
    w.q[2] = new_queue(w.pool, NULL);
    close_world(&w);
}

/* wake may append, to the same queue and to others, and may free the queue. */
static world* woken;
static int what;

static void wake_and_act(void* arg) {
    (void)arg;
    wakes++;
    if (what == 0) {
        append(woken, 0, 10);
        append(woken, 1, 10);
    } else if (what == 1) {
        sendq_free(woken->q[0]);
        woken->q[0] = NULL;
    } else {
        CHECK(sendq_pool_next(woken->pool) == woken->q[0]);
    }
}

static void waking_acts(uint32_t flags) {
    for (what = 0; what < 3; what++) {
        sendq_pool_config_t pool_config = {.flags = flags, .wake = wake_and_act};
        sendq_config_t config = {.size = sizeof config, .flags = flags};
        world w = {.pool = new_simulated(pool_config)};
        w.q[0] = new_queue(w.pool, &config);
        w.q[1] = new_queue(w.pool, &config);
        woken = &w;
        wakes = 0;
        CHECK_IS(sendq_append(w.q[0], bytes, 10), SENDQ_WAKE);
        CHECK_IS(wakes, 1);
        check_turn(&w, what == 0 ? "01" : "");
        close_world(&w);
    }
}

/* A pool without wake: the first call finds what is there. */
static void first_call(uint32_t flags) {
    ends e = ends_unix();
    world w = {.pool = new_simulated((sendq_pool_config_t){.flags = flags})};
    sendq_config_t config = {.size = sizeof config, .flags = flags, .copy_below = 1};
    for (int i = 0; i < QUEUES; i++) {
        w.q[i] = new_queue(w.pool, &config);
    }
    append(&w, 4, 10);
    append(&w, 0, 10);
    fill_up(w.q[1], e, bytes, sizeof bytes);
    append(&w, 2, 10);
    drain(&w, 2);
    CHECK_IS(sendq_schedule(w.q[4]), 0);
    check_turn(&w, "04");
    append(&w, 4, 10);
    append(&w, 1, 10);
    check_turn(&w, "4");
    check_turn(&w, "");
    ends_close(e);
    close_world(&w);
}

/* From a release: of a flush, of a queue that is freed there. */
static world* within;
static int act;

static void act_within(void* arg, const void* data, size_t len, int reason) {
    (void)arg, (void)data, (void)len, (void)reason;
    if (act == 0) {
        CHECK(sendq_pool_next(within->pool) == within->q[1]);
        append(within, 1, 10);
    } else {
        sendq_free(within->q[0]);
        within->q[0] = NULL;
        append(within, 2, 10);
        check_turn(within, act == 1 ? "1" : "");
        check_turn(within, "2");
    }
}

static void releases_act(uint32_t flags) {
    ends e = ends_unix();
    for (act = 0; act < 3; act++) {
        world w = open_world(flags);
        within = &w;
        CHECK(sendq_append_ref(w.q[0], bytes, 10, act_within, NULL) >= 0);
        append(&w, 0, 10);
        append(&w, 1, 10);
        CHECK(sendq_pool_next(w.pool) == w.q[0]);
        if (act == 2) {
            drain(&w, 1);
        }
        CHECK_IS(sendq_flush(w.q[0], e.queue, 10), SENDQ_MORE);
        check_turn(&w, ""); /* 0 is for the next turn, or gone */
        check_turn(&w, act == 0 ? "01" : "");
        close_world(&w);
    }
    ends_close(e);
}

/* A rate holds it back for as long as sendq_retry_after_ns says, and no longer. */
static void paced(uint32_t flags) {
    world w = open_world(flags);
    ends e = ends_unix();
    CHECK_IS(sendq_pool_retry_after_ns(w.pool), SENDQ_NEVER);
    CHECK_IS(sendq_set_rate(w.q[0], 1000, 100), 0);
    append(&w, 0, 1000);
    CHECK_IS(sendq_pool_retry_after_ns(w.pool), 0);
    for (int i = 0; i < 20; i++) {
        CHECK(sendq_pool_next(w.pool) == w.q[0]);
        CHECK_IS(sendq_flush(w.q[0], e.queue, 0), SENDQ_MORE);
        uint64_t wait = sendq_retry_after_ns(w.q[0]);
        CHECK(wait > 0 && wait < SECOND);
        check_turn(&w, "");
        CHECK_IS(sendq_pool_retry_after_ns(w.pool), wait);
        now_ns += wait - 1;
        check_turn(&w, "");
        append(&w, 0, 1); /* is held back, too */
        append(&w, 1, 1);
        check_turn(&w, "1");
        CHECK_IS(sendq_pool_retry_after_ns(w.pool), 1);
        now_ns += 1;
        CHECK_IS(sendq_pool_retry_after_ns(w.pool), 0);
    }
    CHECK(sendq_pool_next(w.pool) == w.q[0]);
    CHECK_IS(sendq_flush(w.q[0], e.queue, 0), SENDQ_MORE);
    check_turn(&w, "");
    wakes = 0;
    CHECK_IS(sendq_set_rate(w.q[0], 0, 0), 0); /* it is free now */
    CHECK_IS(wakes, 1);
    check_turn(&w, "0");
    CHECK_IS(sendq_set_rate(w.q[0], 1000, 1), 0);
    CHECK_IS(sendq_consume(w.q[0], 1), 0);
    CHECK(sendq_pool_retry_after_ns(w.pool) < SECOND);
    CHECK_IS(sendq_discard(w.q[0]), 0);
    CHECK_IS(sendq_pool_retry_after_ns(w.pool), SENDQ_NEVER);
    now_ns += SECOND;
    check_turn(&w, "");
    ends_close(e);
    close_world(&w);
}

/* Who sleeps until a time is woken when a queue is paced for less. */
static void paced_earlier(uint32_t flags) {
    world w = open_world(flags);
    for (int i = 0; i < 3; i++) {
        CHECK_IS(sendq_set_rate(w.q[i], i == 1 ? 100 : 10, 1), 0);
        append(&w, i, 10);
        CHECK_IS(sendq_consume(w.q[i], 1), 0);
        CHECK_IS(sendq_discard(w.q[i]), 0);
    }
    check_turn(&w, "");
    CHECK_IS(sendq_pool_retry_after_ns(w.pool), SENDQ_NEVER);
    wakes = 0;
    append(&w, 0, 10);
    CHECK_IS(wakes, 1);
    CHECK_IS(sendq_pool_retry_after_ns(w.pool), SECOND / 10);
    append(&w, 2, 10); /* for as long */
    CHECK_IS(wakes, 1);
    append(&w, 1, 10);
    CHECK_IS(wakes, 2);
    CHECK_IS(sendq_pool_retry_after_ns(w.pool), SECOND / 100);
    sendq_free(w.q[1]);
    w.q[1] = NULL;
    CHECK_IS(sendq_pool_retry_after_ns(w.pool), SECOND / 10);
    now_ns += SECOND / 10;
    check_turn(&w, "02");
    close_world(&w);
}

/* Only queues that any thread may use. */
static void confined_queues(void) {
    world w = open_world(SENDQ_THREADSAFE);
    sendq_t* confined = new_queue(w.pool, NULL);
    CHECK(sendq_append(confined, bytes, 10) >= 0);
    CHECK_IS(wakes, 0);
    CHECK_IS(sendq_schedule(confined), -EINVAL);
    append(&w, 0, 10);
    check_turn(&w, "0");
    check_usable(w.q[1]);
    sendq_free(confined);
    close_world(&w);
}

/* Stalled for more than that long, without any event. */
static void stalled(uint32_t flags) {
    world w = open_world(flags);
    sendq_t* out[QUEUES + 1];
    now_ns += SECOND;
    append(&w, 1, 10);
    CHECK_IS(sendq_pool_stalled(w.pool, 0, out, QUEUES), 0); /* the first look */
    now_ns += SECOND;
    append(&w, 3, 10);
    CHECK_IS(sendq_pool_stalled(w.pool, SECOND, out, QUEUES), 0);
    CHECK_IS(sendq_pool_stalled(w.pool, SECOND - 1, out, QUEUES), 1);
    CHECK(out[0] == w.q[1]);
    now_ns += SECOND;
    CHECK_IS(sendq_pool_stalled(w.pool, 0, out, QUEUES), 2);
    CHECK_IS(sendq_pool_stalled(w.pool, 0, out, 1), 1);
    CHECK_IS(sendq_pool_stalled(w.pool, 0, NULL, 0), 0);
    CHECK_IS(sendq_pool_stalled(w.pool, 0, NULL, 1), -EINVAL);
    CHECK_IS(sendq_consume(w.q[1], 9), 0); /* it moves, and the size does not matter */
    append(&w, 1, 100);
    CHECK_IS(sendq_pool_stalled(w.pool, 0, out, QUEUES), 1);
    CHECK(out[0] == w.q[3]);
    close_world(&w);
}

/* Four threads append, this one flushes when it is woken: nothing is forgotten. */
enum { THREADS = 4, APPENDS = 20000 };

static atomic_int is_woken;
static atomic_int running;

static void wake_thread(void* arg) {
    (void)arg;
    atomic_store(&is_woken, 1);
}

static void* append_many(void* arg) {
    world* w = arg;
    uint64_t random = (uint64_t)(uintptr_t)&random | 1;
    for (int i = 0; i < APPENDS; i++) {
        int which = (int)(random_next(&random) % QUEUES);
        CHECK(sendq_append(w->q[which], bytes, 100) >= 0);
    }
    atomic_fetch_sub(&running, 1);
    return NULL;
}

static void threads(void) {
    sendq_pool_config_t pool_config = {.flags = SENDQ_THREADSAFE, .wake = wake_thread};
    world w = {.pool = new_pool(pool_config)};
    sendq_config_t config = {.size = sizeof config, .flags = SENDQ_THREADSAFE};
    for (int i = 0; i < QUEUES; i++) {
        w.q[i] = new_queue(w.pool, &config);
    }
    atomic_store(&running, THREADS);
    pthread_t appenders[THREADS];
    for (int i = 0; i < THREADS; i++) {
        CHECK_IS(pthread_create(&appenders[i], NULL, append_many, &w), 0);
    }
    uint64_t sent = 0;
    for (bool last = false; !last;) {
        last = atomic_load(&running) == 0;
        if (!atomic_exchange(&is_woken, 0)) {
            continue;
        }
        last = false;
        sendq_t* q;
        while ((q = sendq_pool_next(w.pool)) != NULL) {
            uint64_t len = sendq_queued_bytes(q);
            CHECK(sendq_consume(q, len) >= 0);
            sent += len;
        }
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK_IS(pthread_join(appenders[i], NULL), 0);
    }
    CHECK_IS(sent, (uint64_t)THREADS * APPENDS * 100);
    close_world(&w);
}

int main(void) {
    static const uint32_t kinds[] = {0, SENDQ_THREADSAFE};
    for (int i = 0; i < 2; i++) {
        order(kinds[i]);
        leaves(kinds[i]);
        waking(kinds[i]);
        waking_acts(kinds[i]);
        first_call(kinds[i]);
        releases_act(kinds[i]);
        paced(kinds[i]);
        paced_earlier(kinds[i]);
        stalled(kinds[i]);
    }
    confined_queues();
    threads();
    return 0;
}
