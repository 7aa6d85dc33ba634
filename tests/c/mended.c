/* What once was wrong, and is not to come back. */
#include <signal.h>

#include "simulated.h"

static unsigned char bytes[1 << 20];

/* A clock that jumps back while the socket is full must not make blocked_ns 584 years. */
static void blocked_ns_wraps(void) {
    sendq_t* q = new_simulated_queue();
    ends e = ends_unix();
    now_ns = 100;
    fill_up(q, e, bytes, sizeof bytes);
    now_ns = 50;
    CHECK(figures(q).blocked_ns < 100);
    CHECK(sendq_consume(q, 1) >= 0);
    CHECK(figures(q).blocked_ns < 100);
    sendq_free(q);
    ends_close(e);
    now_ns = 0;
}

/* What left never exceeds burst + rate * t: the time that tokens were made of is rounded down. */
static void rate_is_exceeded(void) {
    sendq_t* q = new_simulated_queue();
    ends e = ends_unix();
    CHECK_IS(sendq_set_rate(q, 127, 2), 0);
    CHECK(sendq_append(q, bytes, 1000) >= 0);
    CHECK_IS(sendq_flush(q, e.queue, 0), SENDQ_MORE);
    for (int i = 0; i < 900; i++) {
        now_ns += sendq_retry_after_ns(q);
        CHECK_IS(sendq_flush(q, e.queue, 0), SENDQ_MORE);
        ends_read(e, bytes, sizeof bytes);
        CHECK(sendq_sent_bytes(q) <= 2 + now_ns * 127 / SECOND);
    }
    sendq_free(q);
    ends_close(e);
    now_ns = 0;
}

/* The same above 10^9 bytes a second: every flush gets a nanosecond's worth while the clock stands
 * still. */
static void rate_while_the_clock_stands_still(void) {
    sendq_t* q = new_simulated_queue();
    ends e = ends_unix();
    CHECK_IS(sendq_set_rate(q, 1999999999, 100), 0);
    CHECK(sendq_append(q, bytes, 1000) >= 0);
    CHECK_IS(sendq_flush(q, e.queue, 0), SENDQ_MORE);
    now_ns++;
    for (int i = 0; i < 100; i++) {
        CHECK_IS(sendq_flush(q, e.queue, 0), SENDQ_MORE);
    }
    CHECK(sendq_sent_bytes(q) <= 100 + 2);
    sendq_free(q);
    ends_close(e);
    now_ns = 0;
}

static void free_it(void* arg, int level, sendq_t* q, const char* message) {
    (void)arg, (void)level, (void)message;
    sendq_free(q);
}

/* A logger that frees the queue, as the header allows, when sendq_free logs. */
static void logger_frees_in_free(void) {
    sendq_pool_t* pool = new_simulated((sendq_pool_config_t){0});
    sendq_t* q = new_borrower(pool, 1);
    sendq_t* other = new_borrower(pool, 1);
    ends e = ends_unix();
    CHECK_IS(sendq_set_logger(free_it, NULL, SENDQ_LOG_INFO), 0);
    fill_up(q, e, bytes, sizeof bytes);
    sendq_free(q);
    CHECK_IS(pool_figures(pool).queues, 1);
    sendq_free(other);
    CHECK_IS(pool_figures(pool).queues, 0);
    CHECK_IS(sendq_set_logger(NULL, NULL, 0), 0);
    sendq_pool_free(pool);
    ends_close(e);
}

static sendq_t* asked;
static bool asking;

/* A clock that asks a queue, as the header allows. */
static uint64_t asking_now(void* arg) {
    (void)arg;
    if (asked != NULL && !asking) {
        asking = true;
        (void)sendq_queued_bytes(asked);
        asking = false;
    }
    return now_ns;
}

/* sendq_splice looks at the clock of one queue while the other is locked. */
static void clock_under_a_lock(void) {
    sendq_pool_t* pool =
        new_pool((sendq_pool_config_t){.flags = SENDQ_THREADSAFE, .now = asking_now});
    sendq_config_t config = {.size = sizeof config, .flags = SENDQ_THREADSAFE};
    sendq_t* a = new_queue(pool, &config);
    sendq_t* b = new_queue(pool, &config);
    CHECK(sendq_append(a, bytes, 100) >= 0);
    asked = a;
    CHECK(sendq_splice(b, a) >= 0);
    asked = b;
    CHECK(sendq_splice(a, b) >= 0);
    asked = NULL;
    sendq_free(a);
    sendq_free(b);
    sendq_pool_free(pool);
}

/* A block that a splice gave back holds the slots of its last life. As the block of a reservation,
 * behind another, it was asked for what it holds: a payload that was freed. */
static void reserved_block_of_another_life(void) {
    enum { BLOCK = 4096 };
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){.chunk_bytes = BLOCK});
    sendq_t* from = new_borrower(pool, 1);
    sendq_t* to = new_borrower(pool, 1);
    sendq_t* q = new_borrower(pool, 1);
    sendq_t* other = new_borrower(pool, 1);
    sendq_t* heaviest[4];
    sendq_buf_t* buf = NULL;
    void* memory;
    CHECK(sendq_append(to, bytes, 10) >= 0);
    CHECK(sendq_append(q, bytes, BLOCK - 100) >= 0);
    CHECK_IS(sendq_buf_copy(pool, bytes, 879, &buf), 0);
    CHECK(sendq_append_buf(from, buf, 0, 879) >= 0);
    sendq_buf_unref(buf);
    CHECK(sendq_splice(to, from) >= 0); /* copied: the block of from is free */
    CHECK(sendq_discard(to) >= 0);
    CHECK(sendq_append(other, bytes, 10) >= 0); /* in the block of to */
    CHECK_IS(sendq_reserve(q, 3000, &memory), 0);
    CHECK_IS(figures(q).pinned, 0);
    CHECK_IS(sendq_pool_heaviest(pool, heaviest, 4), 2);
    CHECK(heaviest[0] == q && heaviest[1] == other);
    sendq_free(from);
    sendq_free(to);
    sendq_free(q);
    sendq_free(other);
    sendq_pool_free(pool);
}

int main(void) {
    alarm(60); /* one of them hung */
    blocked_ns_wraps();
    rate_is_exceeded();
    rate_while_the_clock_stands_still();
    logger_frees_in_free();
    clock_under_a_lock();
    reserved_block_of_another_life();
    return 0;
}
