/* The log: silence while all is well, one record for each connection that ends badly, about the
 * right queue; and loggers that do what loggers should not. */
#include <pthread.h>
#include <stdatomic.h>

#include "simulated.h"

enum { MOST = 64 };

static unsigned char bytes[1 << 20];

/* What was logged. */
typedef struct {
    int level;
    sendq_t* q;
    char message[600];
} entry;

static entry entries[MOST];
static size_t logged;

static void keep(void* arg, int level, sendq_t* q, const char* message) {
    CHECK(arg == entries);
    CHECK(logged < MOST);
    entry* e = &entries[logged++];
    size_t len = strlen(message);
    CHECK(len > 0 && len < sizeof e->message);
    CHECK(strchr(message, '\n') == NULL);
    *e = (entry){.level = level, .q = q};
    memcpy(e->message, message, len + 1);
}

static void listen_to(int level) {
    logged = 0;
    CHECK_IS(sendq_set_logger(keep, entries, level), 0);
}

/* One record since the last look, of this level about this queue, with these figures. */
static void check_logged(int level, const sendq_t* q, const char* first, const char* second) {
    CHECK_IS(logged, 1);
    CHECK_IS(entries[0].level, level);
    CHECK(entries[0].q == q);
    CHECK(strstr(entries[0].message, first) != NULL);
    CHECK(strstr(entries[0].message, second) != NULL);
    logged = 0;
}

static void block(sendq_t* q, ends e) {
    ends_least_buffer(e);
    CHECK(sendq_append_ref(q, bytes, sizeof bytes, NULL, NULL) >= 0);
    CHECK_IS(sendq_flush(q, e.queue, 0), SENDQ_BLOCKED);
}

static void arguments(void) {
    CHECK_IS(sendq_set_logger(keep, entries, -1), -EINVAL);
    CHECK_IS(sendq_set_logger(keep, entries, SENDQ_LOG_INFO + 1), -EINVAL);
    CHECK_IS(sendq_set_logger(keep, entries, INT32_MAX), -EINVAL);
    CHECK_IS(sendq_set_logger(keep, entries, INT32_MIN), -EINVAL);
    CHECK_IS(sendq_set_logger(NULL, NULL, -1), -EINVAL);
    for (int level = 0; level <= SENDQ_LOG_INFO; level++) {
        CHECK_IS(sendq_set_logger(keep, entries, level), 0);
        CHECK_IS(sendq_set_logger(NULL, NULL, level), 0);
    }
}

/* All that a healthy connection does logs nothing, even at the highest level. Full sockets,
 * limits that are reached, misuse, rollbacks and closing belong to it. */
static void silence(void) {
    listen_to(SENDQ_LOG_INFO);
    sendq_pool_t* pool = new_simulated((sendq_pool_config_t){.max_bytes = 8 << 20});
    for (int round = 0; round < 50; round++) {
        sendq_t* q = new_borrower(pool, 1);
        ends e = ends_unix();
        void* memory;
        CHECK_IS(sendq_set_rate(q, 1ULL << 40, 0), 0);
        CHECK_IS(sendq_set_min_rate(q, 1000, SECOND), 0);
        block(q, e);
        CHECK_IS(sendq_flush(q, e.queue, 0), SENDQ_BLOCKED);
        CHECK_IS(sendq_append_ref(q, bytes, 9 << 20, NULL, NULL), -ENOBUFS);
        CHECK_IS(sendq_append(q, NULL, 1), -EINVAL);
        CHECK_IS(sendq_cork(q), 0);
        CHECK_IS(sendq_append(q, bytes, 100) & ~SENDQ_HIGH, 0);
        CHECK_IS(sendq_rollback(q) & ~SENDQ_RESUME, 0);
        CHECK_IS(sendq_reserve(q, 5000, &memory), 0);
        CHECK_IS(sendq_commit(q, 0), 0);
        now_ns += 100ULL * SECOND; /* stuck, but nobody gives up */
        CHECK(sendq_stalled_ns(q) > 0);
        for (int i = 0; i < 100000 && sendq_queued_bytes(q) > 0; i++) {
            ends_read(e, bytes, sizeof bytes);
            CHECK(sendq_flush(q, e.queue, 50000) >= 0);
        }
        CHECK(sendq_append(q, bytes, 1000) >= 0);
        CHECK(sendq_discard(q) >= 0); /* nobody waited for the peer */
        CHECK(sendq_append(q, bytes, 1000) >= 0);
        if (round % 2) {
            CHECK_IS(sendq_close_within(q, SECOND), 0);
            CHECK_IS(sendq_flush(q, e.queue, 0), 0);
        }
        sendq_free(q);
        ends_close(e);
    }
    sendq_pool_free(pool);
    CHECK_IS(logged, 0);
}

static int by_deadline(sendq_t* q) {
    CHECK_IS(sendq_close_within(q, 0), -ETIMEDOUT);
    return 0;
}

/* What is blocked for so long is said to be given up by such a call, and not again at its end. */
static void given_up(int (*give_up)(sendq_t*), uint64_t after, const char* figure) {
    sendq_t* q = new_simulated_queue();
    ends e = ends_unix();
    block(q, e);
    now_ns += after;
    CHECK(give_up(q) >= 0);
    check_logged(SENDQ_LOG_WARN, q, " lost, no progress", figure);
    sendq_free(q);
    ends_close(e);
    CHECK_IS(logged, 0);
}

/* Whatever ends a connection is said once, however often it is met again. */
static void once_each(void) {
    listen_to(SENDQ_LOG_INFO);
    sendq_t* q = new_simulated_queue();
    CHECK(sendq_append(q, bytes, 12) >= 0);
    CHECK_IS(sendq_consume(q, 2), 0);
    CHECK_IS(sendq_flush(q, -1, 0), -EBADF);
    check_logged(SENDQ_LOG_WARN, q, "2 bytes sent", "10 lost");
    CHECK_IS(sendq_flush(q, -1, 0), -EBADF);
    CHECK_IS(sendq_append(q, bytes, 1), -EBADF);
    CHECK_IS(sendq_consume(q, 0), -EBADF);
    CHECK_IS(sendq_close_within(q, 0), 0);
    CHECK_IS(sendq_discard(q), 0);
    sendq_free(q);
    CHECK_IS(logged, 0);

    /* The peer has closed: no warning, because that is no fault. */
    q = new_simulated_queue();
    ends e = ends_unix();
    block(q, e);
    now_ns += 1500 * MILLISECOND;
    close(e.peer);
    CHECK_IS(sendq_flush(q, e.queue, 0), -EPIPE);
    check_logged(SENDQ_LOG_INFO, q, " lost, no progress", "1.500 s");
    sendq_free(q);
    close(e.queue);

    /* Given up for its slowness: by a deadline, a discard, or the end. */
    given_up(by_deadline, 0, "0.000 s");
    given_up(sendq_discard, 61ULL * SECOND, "61.000 s");
    q = new_simulated_queue();
    e = ends_unix();
    block(q, e);
    sendq_free(q);
    check_logged(SENDQ_LOG_WARN, q, " lost, no progress", "0.000 s");
    ends_close(e);
}

/* Only what is as grave as asked for. */
static void levels(void) {
    for (int level = 0; level <= SENDQ_LOG_INFO; level++) {
        listen_to(level);
        sendq_t* q = new_simulated_queue();
        ends e = ends_unix();
        block(q, e);
        close(e.peer);
        CHECK_IS(sendq_flush(q, e.queue, 0), -EPIPE);
        CHECK_IS(logged, level >= SENDQ_LOG_INFO);
        sendq_free(q);
        logged = 0;
        q = new_simulated_queue();
        CHECK(sendq_append(q, bytes, 1) >= 0);
        CHECK_IS(sendq_flush(q, -1, 0), -EBADF);
        CHECK_IS(logged, level >= SENDQ_LOG_WARN);
        sendq_free(q);
        close(e.queue);
    }
    listen_to(SENDQ_LOG_INFO);
    CHECK_IS(sendq_set_logger(NULL, entries, SENDQ_LOG_INFO), 0);
    sendq_t* q = new_simulated_queue();
    CHECK(sendq_append(q, bytes, 1) >= 0);
    CHECK_IS(sendq_flush(q, -1, 0), -EBADF);
    CHECK_IS(logged, 0);
    sendq_free(q);
}

static int busy_calls;
static piece borrowed[2];

/* Uses the library, lets another queue fail (which is not logged), and sets another logger. */
static void busy(void* arg, int level, sendq_t* q, const char* message) {
    (void)level, (void)message;
    busy_calls++;
    CHECK(figures(q).waiting == 0);
    CHECK(sendq_error(q) < 0);
    CHECK(sendq_flush(q, -1, 0) < 0);
    CHECK(sendq_append(q, bytes, 1) < 0);
    char text[1024];
    CHECK(sendq_stats_json(q, -1, text, sizeof text) > 0);
    sendq_t* other = new_simulated_queue();
    CHECK(sendq_append(other, bytes, 1) >= 0);
    CHECK_IS(sendq_flush(other, -1, 0), -EBADF);
    sendq_free(other);
    check_usable(*(sendq_t**)arg);
    CHECK_IS(sendq_set_logger(busy, arg, SENDQ_LOG_INFO), 0);
}

static void busy_logger(void) {
    sendq_t* healthy = new_simulated_queue();
    CHECK_IS(sendq_set_logger(busy, &healthy, SENDQ_LOG_INFO), 0);
    for (int i = 1; i <= 3; i++) {
        sendq_t* q = new_simulated_queue();
        CHECK(piece_append(q, &borrowed[0], bytes, 10) >= 0);
        CHECK_IS(sendq_flush(q, -1, 0), -EBADF);
        CHECK_IS(busy_calls, i);
        CHECK_IS(borrowed[0].times, 1);
        sendq_free(q);
    }
    sendq_free(healthy);
}

static int frees;

static void free_it(void* arg, int level, sendq_t* q, const char* message) {
    (void)arg, (void)level;
    frees++;
    sendq_free(q);
    CHECK(strlen(message) > 0); /* still valid */
}

/* A logger that frees the queue: its owners are released all the same, once each. */
static void freeing_logger(void) {
    sendq_pool_t* pool = new_simulated((sendq_pool_config_t){0});
    CHECK_IS(sendq_set_logger(free_it, NULL, SENDQ_LOG_INFO), 0);
    for (int way = 0; way < 4; way++) {
        sendq_t* q = new_borrower(pool, 1);
        ends e = ends_unix();
        ends_least_buffer(e);
        CHECK(piece_append(q, &borrowed[0], bytes, sizeof bytes) >= 0);
        CHECK(piece_append(q, &borrowed[1], bytes, 10) >= 0);
        CHECK_IS(sendq_flush(q, e.queue, 0), SENDQ_BLOCKED);
        int reason = -ETIMEDOUT;
        switch (way) {
            case 0:
                CHECK_IS(sendq_close_within(q, 0), -ETIMEDOUT);
                break;
            case 1:
                CHECK_IS(sendq_close_within(q, 1), 0);
                now_ns++;
                CHECK_IS(sendq_consume(q, 0), -ETIMEDOUT);
                break;
            case 2:
                CHECK_IS(sendq_flush(q, -1, 0), reason = -EBADF);
                break;
            default:
                CHECK(sendq_discard(q) >= 0);
                reason = -ECANCELED;
        }
        CHECK_IS(frees, way + 1);
        pieces_check(borrowed, 2, 2, reason);
        CHECK_IS(pool_figures(pool).queues + pool_figures(pool).used, 0);
        ends_close(e);
    }
    sendq_pool_free(pool);
}

/* Two threads whose connections fail, while a third sets one logger after the other. */
enum { FAILURES = 2000 };

static atomic_int counts[2];
static atomic_bool done;

static void count_up(void* arg, int level, sendq_t* q, const char* message) {
    CHECK_IS(level, SENDQ_LOG_WARN);
    CHECK(q != NULL);
    CHECK_IS(sendq_error(q), -EBADF); /* it is this thread's, and alive */
    CHECK(strstr(message, " 5 lost") != NULL);
    atomic_fetch_add((atomic_int*)arg, 1);
}

static void* fail_often(void* arg) {
    (void)arg;
    for (int i = 0; i < FAILURES; i++) {
        sendq_t* q = new_borrower(NULL, 1);
        CHECK(sendq_append(q, bytes, 5) >= 0);
        CHECK_IS(sendq_flush(q, -1, 0), -EBADF);
        sendq_free(q);
    }
    return NULL;
}

static void* set_often(void* arg) {
    (void)arg;
    for (int i = 0; !atomic_load(&done); i++) {
        CHECK_IS(sendq_set_logger(count_up, &counts[i % 2], SENDQ_LOG_INFO), 0);
    }
    return NULL;
}

static void threads(void) {
    pthread_t failing[2];
    pthread_t setting;
    CHECK_IS(sendq_set_logger(count_up, &counts[0], SENDQ_LOG_INFO), 0);
    CHECK_IS(pthread_create(&setting, NULL, set_often, NULL), 0);
    for (int i = 0; i < 2; i++) {
        CHECK_IS(pthread_create(&failing[i], NULL, fail_often, NULL), 0);
    }
    for (int i = 0; i < 2; i++) {
        CHECK_IS(pthread_join(failing[i], NULL), 0);
    }
    atomic_store(&done, true);
    CHECK_IS(pthread_join(setting, NULL), 0);
    CHECK_IS(atomic_load(&counts[0]) + atomic_load(&counts[1]), 2 * FAILURES);
    CHECK_IS(sendq_set_logger(NULL, NULL, 0), 0);
}

int main(void) {
    arguments();
    silence();
    once_each();
    levels();
    busy_logger();
    freeing_logger();
    threads();
    return 0;
}
