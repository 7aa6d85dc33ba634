/* SENDQ_THREADSAFE: while threads append, flush, read, discard, splice, make and free queues,
 * others ask for everything that can be asked. At each look the figures agree with each other, and
 * at the end with what was done. */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "simulated.h"

enum { APPENDERS = 2, ASKERS = 2, PIECES = 20000, MOST = 5000, MAX_WAITING = 1 << 20 };

static unsigned char bytes[MOST];
static sendq_pool_t* pool;
static sendq_t* queue;
static sendq_buf_t* buf;
static ends connection;
static atomic_bool appended; /* all that is to come has come */
static atomic_bool done;     /* and left */
static atomic_ullong copied, borrowed, shared, looks;
static atomic_llong unreleased;

static void give_back(void* arg, const void* data, size_t len, int reason) {
    (void)arg, (void)len;
    CHECK(data == bytes);
    CHECK(reason == 0 || reason == -ECANCELED);
    atomic_fetch_sub(&unreleased, 1);
}

static void* append(void* arg) {
    uint64_t rnd = (uintptr_t)arg;
    for (int i = 0; i < PIECES; i++) {
        size_t len = random_up_to(&rnd, MOST);
        int how = (int)(random_next(&rnd) % 3);
        int result;
        for (;;) {
            if (how == 0) {
                result = sendq_append(queue, bytes, len);
            } else if (how == 1) {
                atomic_fetch_add(&unreleased, 1);
                result = sendq_append_ref(queue, bytes, len, give_back, NULL);
                atomic_fetch_sub(&unreleased, result < 0);
            } else {
                result = sendq_append_buf(queue, buf, MOST - len, len);
            }
            if (result != -ENOBUFS) {
                break;
            }
            sched_yield();
        }
        CHECK(result >= 0);
        atomic_fetch_add(how == 0 ? &copied : how == 1 ? &borrowed : &shared, len);
    }
    return NULL;
}

static void* flush(void* arg) {
    uint64_t rnd = 77;
    (void)arg;
    while (!atomic_load(&appended) || sendq_queued_bytes(queue) > 0) {
        int hints = sendq_flush(queue, connection.queue, random_up_to(&rnd, 100000));
        CHECK(hints >= 0);
        struct pollfd one = {.fd = connection.queue, .events = POLLOUT};
        CHECK(poll(&one, 1, hints & SENDQ_BLOCKED ? 10 : 0) >= 0);
    }
    atomic_store(&done, true);
    return NULL;
}

/* Drops what waits, now and then. */
static void* discard(void* arg) {
    (void)arg;
    while (!atomic_load(&done)) {
        int result = sendq_discard(queue);
        CHECK(result >= 0 || result == -EBUSY);
        usleep(3000);
    }
    return NULL;
}

static void look_at(sendq_stats_t* last) {
    sendq_stats_t s = figures_any_time(queue); /* they add up */
    CHECK(s.waiting <= MAX_WAITING);
    CHECK(s.peak_waiting <= MAX_WAITING);
    CHECK((s.waiting == 0) <= (s.stalled_ns == 0));
    CHECK(s.stalled_ns < 600ULL * SECOND);
    CHECK(s.blocked_ns < 600ULL * SECOND);
    CHECK(s.system_calls >= s.flushes);
    CHECK(s.short_writes <= s.system_calls);
    CHECK(s.blocked <= s.flushes);
    /* What only grows. */
    CHECK(s.copied >= last->copied && s.borrowed >= last->borrowed && s.shared >= last->shared);
    CHECK(s.sent >= last->sent && s.discarded >= last->discarded);
    CHECK(s.peak_waiting >= last->peak_waiting && s.flushes >= last->flushes);
    CHECK(s.system_calls >= last->system_calls && s.short_writes >= last->short_writes);
    CHECK(s.blocked >= last->blocked && s.blocked_ns >= last->blocked_ns);
    CHECK(s.last_progress_ns == 0 || s.last_progress_ns >= last->last_progress_ns);
    CHECK_IS(s.file, 0);
    *last = s;
}

static void* ask(void* arg) {
    sendq_stats_t last = {0};
    char text[1024];
    sendq_t* heaviest[8];
    while (!atomic_load(&done)) {
        look_at(&last);
        CHECK(sendq_stalled_ns(queue) < 600ULL * SECOND);
        uint64_t retry = sendq_retry_after_ns(queue);
        CHECK(retry == SENDQ_NEVER || retry <= SECOND + 1ULL);
        CHECK_IS(sendq_state(queue) & (SENDQ_CORKED | SENDQ_CLOSED | SENDQ_WANT_READ), 0);
        CHECK(sendq_queued_memory(queue) <= MAX_WAITING);
        CHECK(sendq_sent_bytes(queue) >= last.sent);
        CHECK(sendq_queued_bytes(queue) <= MAX_WAITING);
        CHECK_IS(sendq_error(queue), 0);
        int len = sendq_stats_json(queue, connection.queue, text, sizeof text);
        CHECK(len > 2 && len < (int)sizeof text);
        CHECK(text[0] == '{' && text[len - 1] == '}');
        sendq_pool_stats_t s = pool_figures(pool);
        CHECK(s.queues >= 3 && s.queues <= 3 + 16);
        int count = sendq_pool_heaviest(pool, heaviest, 8);
        CHECK(count >= 0 && count <= 8);
        for (int i = 0; i < count; i++) {
            CHECK(heaviest[i] != NULL);
            CHECK(i == 0 || heaviest[i] != heaviest[i - 1]);
        }
        if (arg != NULL) { /* one of them also changes what does no harm */
            CHECK_IS(sendq_set_rate(queue, 1ULL << 40, 0), 0);
            CHECK_IS(sendq_set_min_rate(queue, 1, SECOND), 0);
            CHECK(sendq_set_watermarks(queue, 3, 1 << 16, MAX_WAITING) >= 0);
            CHECK_IS(sendq_set_rate(queue, 0, 0), 0);
            CHECK_IS(sendq_set_min_rate(queue, 0, 0), 0);
            CHECK(sendq_set_watermarks(queue, 0, 1 << 16, MAX_WAITING) >= 0);
        }
        atomic_fetch_add(&looks, 1);
    }
    return NULL;
}

/* Other queues of the pool come and go, and splice to and fro. */
static void* neighbours(void* arg) {
    sendq_t* const* two = arg;
    sendq_config_t config = {
        .size = sizeof config, .flags = SENDQ_THREADSAFE, .copy_below = 1, .share_below = 1};
    uint64_t rnd = 3;
    while (!atomic_load(&done)) {
        sendq_t* q[16];
        for (int i = 0; i < 16; i++) {
            q[i] = new_queue(pool, &config);
            CHECK(sendq_append(q[i], bytes, random_up_to(&rnd, MOST)) >= 0);
            CHECK(sendq_append_ref(q[i], bytes, random_up_to(&rnd, MOST), NULL, NULL) >= 0);
        }
        for (int i = 0; i < 16; i++) {
            CHECK(sendq_splice(two[i % 2], q[i]) >= 0);
            CHECK(sendq_splice(two[1 - i % 2], two[i % 2]) >= 0);
            sendq_free(q[i]);
        }
        CHECK(sendq_discard(two[0]) >= 0);
        CHECK(sendq_discard(two[1]) >= 0);
    }
    return NULL;
}

static void* receive(void* arg) {
    static unsigned char out[65536];
    uint64_t* received = arg;
    for (size_t got = 1; got > 0 || !atomic_load(&done);) {
        struct pollfd one = {.fd = connection.peer, .events = POLLIN};
        CHECK(poll(&one, 1, atomic_load(&done) ? 0 : 10) >= 0);
        got = ends_read(connection, out, sizeof out);
        *received += got;
    }
    return NULL;
}

static pthread_t start(void* (*run)(void*), void* arg) {
    pthread_t thread;
    CHECK_IS(pthread_create(&thread, NULL, run, arg), 0);
    return thread;
}

int main(void) {
    pool = new_pool((sendq_pool_config_t){.flags = SENDQ_THREADSAFE, .max_bytes = 64 << 20});
    sendq_config_t config = {.size = sizeof config,
                             .flags = SENDQ_THREADSAFE,
                             .high = 1 << 16,
                             .max = MAX_WAITING,
                             .copy_below = 1,
                             .share_below = 1};
    queue = new_queue(pool, &config);
    sendq_t* two[] = {new_queue(pool, &config), new_queue(pool, &config)};
    CHECK(sendq_set_watermarks(two[0], 0, 0, 0) >= 0);
    CHECK(sendq_set_watermarks(two[1], 0, 0, 0) >= 0);
    CHECK_IS(sendq_buf_wrap(pool, bytes, sizeof bytes, NULL, NULL, &buf), 0);
    connection = ends_unix();
    ends_least_buffer(connection);

    uint64_t received = 0;
    pthread_t appenders[APPENDERS];
    pthread_t others[4 + ASKERS];
    for (uintptr_t i = 0; i < APPENDERS; i++) {
        appenders[i] = start(append, (void*)(i + 1));
    }
    others[0] = start(flush, NULL);
    others[1] = start(discard, NULL);
    others[2] = start(neighbours, two);
    others[3] = start(receive, &received);
    for (int i = 0; i < ASKERS; i++) {
        others[4 + i] = start(ask, i ? queue : NULL);
    }
    for (int i = 0; i < APPENDERS; i++) {
        CHECK_IS(pthread_join(appenders[i], NULL), 0);
    }
    atomic_store(&appended, true);
    for (int i = 0; i < 4 + ASKERS; i++) {
        CHECK_IS(pthread_join(others[i], NULL), 0);
    }

    sendq_stats_t s = figures_any_time(queue);
    CHECK_IS(s.copied, atomic_load(&copied));
    CHECK_IS(s.borrowed, atomic_load(&borrowed));
    CHECK_IS(s.shared, atomic_load(&shared));
    CHECK_IS(s.sent, received);
    CHECK_IS(s.waiting + s.pinned + s.allocated, 0);
    CHECK_IS(atomic_load(&unreleased), 0);
    printf("%llu looks, %llu flushes, %llu bytes sent, %llu discarded\n",
           (unsigned long long)atomic_load(&looks), (unsigned long long)s.flushes,
           (unsigned long long)s.sent, (unsigned long long)s.discarded);
    sendq_free(queue);
    sendq_free(two[0]);
    sendq_free(two[1]);
    sendq_buf_unref(buf);
    sendq_pool_stats_t of_pool = pool_figures(pool);
    CHECK_IS(of_pool.queues + of_pool.used + of_pool.pinned + of_pool.shared, 0);
    sendq_pool_free(pool);
    ends_close(connection);
    return 0;
}
