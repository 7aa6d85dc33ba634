/* sendq_pool_heaviest with more queues than the model has: those that hold the most, in order; only
 * those that hold anything, and only those that are there. */
#include "simulated.h"

enum { QUEUES = 50 };

static unsigned char bytes[1 << 20];

static uint64_t held(const sendq_t* q) {
    sendq_stats_t s = figures(q);
    return s.allocated + s.pinned;
}

/* The list of all, and of every shorter length, is in order and complete. */
static int check_order(const sendq_pool_t* pool, sendq_t* const* queues, int count) {
    sendq_t* out[QUEUES + 2];
    int holding = 0;
    for (int i = 0; i < count; i++) {
        holding += held(queues[i]) > 0;
    }
    for (size_t n = 0; n <= QUEUES + 1; n++) {
        memset(out, 0xEE, sizeof out);
        sendq_t* untouched = out[0];
        int expected = n < (size_t)holding ? (int)n : holding;
        CHECK_IS(sendq_pool_heaviest(pool, n ? out : NULL, n), expected);
        for (int i = 0; i < expected; i++) {
            bool known = false;
            for (int j = 0; j < count; j++) {
                known |= out[i] == queues[j];
            }
            CHECK(known);
            CHECK(held(out[i]) > 0);
            CHECK(i == 0 || (held(out[i]) <= held(out[i - 1]) && out[i] != out[i - 1]));
        }
        for (size_t i = (size_t)expected; i < QUEUES + 2; i++) {
            CHECK(out[i] == untouched);
        }
        /* Nobody else holds more than the last of them. */
        for (int j = 0; j < count && expected > 0; j++) {
            bool listed = false;
            for (int i = 0; i < expected; i++) {
                listed |= out[i] == queues[j];
            }
            CHECK(listed || held(queues[j]) <= held(out[expected - 1]));
        }
    }
    return holding;
}

static void hold_something(sendq_t* q, uint64_t* rnd) {
    size_t len = random_up_to(rnd, 50000);
    switch (random_next(rnd) % 4) {
        case 0:
            CHECK(sendq_append(q, bytes, len) >= 0);
            break;
        case 1:
            CHECK(sendq_append_ref(q, bytes, len, NULL, NULL) >= 0);
            break;
        case 2:
            CHECK(sendq_discard(q) >= 0);
            break;
        default:
            CHECK(sendq_consume(q, sendq_queued_bytes(q) / 2) >= 0);
    }
}

/* In order after every step, with queues that come and go. */
static void order(uint32_t flags) {
    sendq_pool_t* pool = new_simulated((sendq_pool_config_t){.flags = flags});
    sendq_config_t config = {.size = sizeof config, .flags = flags, .copy_below = 1};
    sendq_t* queues[QUEUES];
    uint64_t rnd = 5;
    int count = 0;
    CHECK_IS(check_order(pool, queues, 0), 0);
    int most = 0;
    for (int i = 0; i < 1500; i++) {
        if (count < QUEUES && random_next(&rnd) % 4 == 0) {
            queues[count++] = new_queue(pool, &config);
        } else if (count > 0 && random_next(&rnd) % 8 == 0) {
            size_t which = random_next(&rnd) % (size_t)count;
            sendq_free(queues[which]); /* the first, the last, one between */
            queues[which] = queues[--count];
        } else if (count > 0) {
            hold_something(queues[random_next(&rnd) % (size_t)count], &rnd);
        }
        CHECK_IS(pool_figures(pool).queues, count);
        int holding = i % 10 ? 0 : check_order(pool, queues, count);
        most = holding > most ? holding : most;
    }
    CHECK(most > QUEUES / 2);
    while (count > 0) {
        sendq_free(queues[--count]);
    }
    CHECK_IS(check_order(pool, queues, 0), 0);
    CHECK_IS(sendq_pool_heaviest(NULL, queues, QUEUES), -EINVAL);
    CHECK_IS(sendq_pool_heaviest(pool, NULL, 1), -EINVAL);
    CHECK_IS(sendq_pool_heaviest(pool, NULL, 0), 0);
    sendq_pool_free(pool);
}

/* In a thread-safe pool a confined queue is counted, but nobody looks at it. */
static void confined_queues(void) {
    sendq_pool_t* pool = new_simulated((sendq_pool_config_t){.flags = SENDQ_THREADSAFE});
    sendq_config_t safe = {.size = sizeof safe, .flags = SENDQ_THREADSAFE};
    sendq_t* out[4];
    sendq_t* confined[2] = {new_borrower(pool, 1), new_borrower(pool, 1)};
    sendq_t* shared = new_queue(pool, &safe);
    CHECK(sendq_append(confined[0], bytes, 100000) >= 0);
    CHECK(sendq_append(shared, bytes, 10) >= 0);
    CHECK_IS(sendq_pool_heaviest(pool, out, 4), 1);
    CHECK(out[0] == shared);
    sendq_pool_stats_t s = pool_figures(pool);
    CHECK_IS(s.queues, 3);
    CHECK_IS(s.waiting, 10);
    CHECK(s.used > 100000); /* the pool's own figures are whole */
    sendq_free(confined[1]);
    CHECK_IS(pool_figures(pool).queues, 2);
    sendq_free(shared);
    CHECK_IS(sendq_pool_heaviest(pool, out, 4), 0);
    CHECK_IS(pool_figures(pool).queues, 1);
    sendq_free(confined[0]);
    CHECK_IS(pool_figures(pool).queues, 0);
    sendq_pool_free(pool);
}

static sendq_pool_t* asked;
static sendq_t* telling;
static int expected;

static void ask(void* arg, const void* data, size_t len, int reason) {
    sendq_t* out[4];
    (void)arg, (void)data, (void)len, (void)reason;
    CHECK_IS(sendq_pool_heaviest(asked, out, 4), expected);
    for (int i = 0; i < expected; i++) {
        (void)figures(out[i]);
    }
    (void)pool_figures(asked);
}

static void ask_and_free(void* arg, const void* data, size_t len, int reason) {
    sendq_t* out[4];
    CHECK_IS(sendq_pool_heaviest(asked, out, 4), 2);
    CHECK(out[0] == telling);
    sendq_free(telling); /* no longer there, though its last call is under way */
    CHECK_IS(pool_figures(asked).queues, 1);
    ask(arg, data, len, reason);
}

/* Asked from within callbacks, of which one frees the queue. */
static void within_callbacks(uint32_t flags) {
    asked = new_simulated((sendq_pool_config_t){.flags = flags});
    sendq_config_t config = {.size = sizeof config, .flags = flags, .copy_below = 1};
    telling = new_queue(asked, &config);
    sendq_t* other = new_queue(asked, &config);
    CHECK(sendq_append(other, bytes, 10) >= 0);
    expected = 2;
    CHECK(sendq_append_ref(telling, bytes, 100, ask, NULL) >= 0);
    CHECK(sendq_append(telling, bytes, 100000) >= 0);
    CHECK(sendq_consume(telling, 100) >= 0);
    CHECK_IS(sendq_notify(other, ask, NULL), 0);
    CHECK_IS(sendq_consume(other, 5), 0);
    CHECK(sendq_append_ref(telling, bytes, 200, ask_and_free, NULL) >= 0);
    CHECK(sendq_append(telling, bytes, 100000) >= 0);
    expected = 1;
    CHECK(sendq_consume(telling, 100200) >= 0);
    CHECK_IS(pool_figures(asked).queues, 1);
    expected = 0;
    CHECK_IS(sendq_consume(other, 5), 0);
    sendq_free(other);
    CHECK_IS(pool_figures(asked).queues + pool_figures(asked).used, 0);
    sendq_pool_free(asked);
}

int main(void) {
    order(0);
    order(SENDQ_THREADSAFE);
    confined_queues();
    within_callbacks(0);
    within_callbacks(SENDQ_THREADSAFE);
    return 0;
}
