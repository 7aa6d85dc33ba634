/* Nobody else pays: a connection with much to send, or that writes whenever it is drained, takes
 * turns with the others; and who is held back by a rate comes back by a timer. */
#include "loop.h"

enum { ROUNDS = 50, BUDGET = 100 };

static connection greedy;
static connection other;

/* The peer takes all it can get: the socket is never full. */
static void read_greedily(void) {
    while (connection_read(&greedy, SIZE_MAX) > 0) {
    }
}

/* In each turn of the loop the other one's byte leaves, and the greedy one sends no more than this.
 */
static void check_turns(size_t at_most) {
    connection_open(&other);
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t sent = sendq_sent_bytes(sendq_bev_get_queue(greedy.b));
        CHECK_IS(connection_write(&other, 1), 0);
        turn();
        uint64_t more = sendq_sent_bytes(sendq_bev_get_queue(greedy.b)) - sent;
        CHECK(more > 0 && more <= at_most);
        CHECK_IS(connection_read(&other, SIZE_MAX), 1);
        read_greedily();
    }
    connection_close(&other);
}

static void a_budget(void) {
    connection_open(&greedy);
    CHECK_IS(sendq_bev_set_max_single_write(greedy.b, BUDGET), 0);
    CHECK_IS(connection_write(&greedy, 2 * BUDGET * ROUNDS), 0);
    epoll_ctls = 0;
    check_turns(BUDGET);
    CHECK_IS(epoll_ctls, 0);
    connection_drain(&greedy);
    CHECK_IS(event_base_dispatch(base), 1);
    connection_close(&greedy);
}

static int64_t take_all(void* arg, const void* data, size_t len) {
    (void)arg, (void)data;
    return (int64_t)len;
}

static void default_budget(void) {
    connection_open(&greedy);
    CHECK_IS(sendq_bev_set_writer(greedy.b, take_all, NULL), 0);
    CHECK_IS(sendq_bev_set_max_single_write(greedy.b, 1), 0);
    CHECK_IS(sendq_bev_set_max_single_write(greedy.b, 0), 0);
    CHECK_IS(connection_write(&greedy, SENDQ_BEV_MAX_SINGLE_WRITE + 1000), SENDQ_HIGH);
    turn();
    CHECK_IS(sendq_bev_get_length(greedy.b), 1000);
    turn();
    CHECK_IS(sendq_bev_get_length(greedy.b), 0);
    connection_close(&greedy);
}

static void write_again(connection* c) {
    CHECK_IS(connection_write(c, BUDGET), 0);
    read_greedily();
}

static void a_producer(void) {
    connection_open(&greedy);
    greedy.then = write_again;
    CHECK_IS(connection_write(&greedy, BUDGET), 0);
    check_turns(BUDGET);
    connection_close(&greedy);
}

/* The timers are real and the rate's clock is not: time passes when the test says so. */
static void a_rate(void) {
    sendq_pool_t* pool = new_simulated((sendq_pool_config_t){0});
    now_ns = SECOND;
    connection_open_with(&greedy, ends_unix(), pool, NULL);
    sendq_t* q = sendq_bev_get_queue(greedy.b);
    CHECK_IS(sendq_set_rate(q, 1000 * 1000, 1000), 0);
    CHECK_IS(connection_write(&greedy, 10000), 0);
    epoll_ctls = 0;
    turn();
    CHECK_IS(sendq_bev_get_length(greedy.b), 9000);
    for (int i = 0; sendq_bev_get_length(greedy.b) > 0; i++) {
        CHECK(i < 20);
        uint64_t left = sendq_bev_get_length(greedy.b);
        uint64_t wait = sendq_retry_after_ns(q);
        CHECK(wait > 0);
        turn(); /* too early: nothing happens */
        CHECK_IS(sendq_bev_get_length(greedy.b), left);
        now_ns += wait;
        CHECK_IS(event_base_loop(base, EVLOOP_ONCE), 0); /* until the timer */
        CHECK(sendq_bev_get_length(greedy.b) < left);
    }
    CHECK_IS(epoll_ctls, 0);
    connection_drain(&greedy);
    CHECK_IS(event_base_dispatch(base), 1);
    connection_close(&greedy);
    sendq_pool_free(pool);
}

int main(void) {
    base = event_base_new();
    CHECK(base != NULL);
    a_budget();
    default_budget();
    a_producer();
    a_rate();
    event_base_free(base);
    return 0;
}
