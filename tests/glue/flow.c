/* What is written arrives, in order, with as few system calls as can be: one send for what is
 * written in one turn, and EV_WRITE armed only while the socket is full. */
#include <event2/buffer.h>

#include "loop.h"

static connection it;

/* The figures of epoll_ctl count for what follows. */
static void open_it(void) {
    connection_open(&it);
    epoll_ctls = 0;
}

static void one_send_a_turn(void) {
    open_it();
    uint64_t calls = figures(sendq_bev_get_queue(it.b)).system_calls;
    for (int i = 0; i < 100; i++) {
        for (int k = 0; k < 10; k++) {
            CHECK_IS(connection_write(&it, 20), 0);
        }
        turn();
        CHECK_IS(sendq_bev_get_length(it.b), 0);
        CHECK_IS(connection_read(&it, SIZE_MAX), 200);
    }
    CHECK_IS(figures(sendq_bev_get_queue(it.b)).system_calls - calls, 100);
    CHECK_IS(epoll_ctls, 0);
    connection_close(&it);
}

/* Before the loop runs for the first time, and with nothing else in it: it does not end before. */
static void first_of_all(void) {
    open_it();
    CHECK_IS(connection_write(&it, 1000), 0);
    CHECK_IS(event_base_dispatch(base), 1);
    CHECK_IS(connection_read(&it, SIZE_MAX), 1000);
    connection_close(&it);
}

static void armed_while_blocked(void) {
    open_it();
    for (unsigned stall = 1; stall <= 3; stall++) {
        CHECK_IS(is_armed(&it), false);
        connection_fill(&it);
        CHECK_IS(is_armed(&it), true);
        CHECK_IS(epoll_ctls, 2 * stall - 1);
        for (int i = 0; i < 10; i++) {
            CHECK(connection_write(&it, 50000) >= 0);
            turn();
        }
        CHECK_IS(epoll_ctls, 2 * stall - 1);
        connection_drain(&it);
        CHECK_IS(is_armed(&it), false);
        CHECK_IS(epoll_ctls, 2 * stall);
    }
    connection_close(&it);
}

/* While the socket is full, no turn of the loop is spent on it. */
static void no_spin(void) {
    open_it();
    connection_fill(&it);
    turn();
    uint64_t flushes = figures(sendq_bev_get_queue(it.b)).flushes;
    for (int i = 0; i < 100; i++) {
        turn();
    }
    CHECK_IS(figures(sendq_bev_get_queue(it.b)).flushes, flushes);
    connection_close(&it);
}

/* Pieces of all kinds, and a reader that stops. */
static void all_kinds(ends e) {
    static piece borrowed[400];
    static unsigned char bytes[1 << 20];
    stream_fill(bytes, 0, sizeof bytes);
    connection_open_with(&it, e, NULL, NULL);
    ends_least_buffer(it.e);
    struct evbuffer* buffer = evbuffer_new();
    CHECK(buffer != NULL);
    uint64_t random = 88172645463325252U;
    unsigned count = 0;
    int kinds = 0;
    for (bool reads = false; it.written < sizeof bytes; reads ^= random_next(&random) % 8 == 0) {
        size_t len = random_up_to(&random, random_next(&random) % 4 ? 1000 : 30000);
        len = len < sizeof bytes - it.written ? len : sizeof bytes - it.written;
        const unsigned char* at = bytes + it.written;
        int result = -1;
        switch (kinds++ % 3) {
            case 0:
                result = sendq_bev_write(it.b, at, len);
                break;
            case 1:
                CHECK(count < 400);
                borrowed[count] = (piece){.data = at, .len = len};
                result = sendq_bev_write_reference(it.b, at, len, piece_release, &borrowed[count]);
                count++;
                break;
            default:
                for (size_t i = 0; i < len; i += 700) { /* in many pieces */
                    size_t part = len - i < 700 ? len - i : 700;
                    CHECK_IS(evbuffer_add_reference(buffer, at + i, part, NULL, NULL), 0);
                }
                result = sendq_bev_write_buffer(it.b, buffer);
                CHECK_IS(evbuffer_get_length(buffer), 0);
        }
        CHECK_IS(result & ~SENDQ_HIGH, 0);
        it.written += len;
        turn();
        if (reads) {
            connection_read(&it, random_up_to(&random, 50000));
        }
    }
    connection_drain(&it);
    for (unsigned i = 0; i < count; i++) {
        CHECK_IS(borrowed[i].times, 1);
        CHECK_IS(borrowed[i].reason, 0);
    }
    evbuffer_free(buffer);
    connection_close(&it);
}

/* An evbuffer is taken whole or left as it is. */
static void evbuffer_all_or_nothing(void) {
    open_it();
    struct evbuffer* buffer = evbuffer_new();
    CHECK_IS(sendq_bev_write_buffer(it.b, buffer), 0); /* empty */
    CHECK_IS(evbuffer_add(buffer, "hello", 5), 0);
    CHECK_IS(sendq_bev_setwatermark(it.b, 0, 0, 4), 0);
    CHECK_IS(sendq_bev_write_buffer(it.b, buffer), -ENOBUFS);
    CHECK_IS(evbuffer_get_length(buffer), 5);
    CHECK_IS(sendq_bev_get_length(it.b), 0);
    CHECK_IS(sendq_bev_setwatermark(it.b, 0, 0, 5), 0);
    CHECK_IS(sendq_bev_write_buffer(it.b, buffer), SENDQ_HIGH);
    CHECK_IS(evbuffer_get_length(buffer), 0);
    turn();
    char received[10];
    CHECK_IS(ends_read(it.e, received, sizeof received), 5);
    CHECK(memcmp(received, "hello", 5) == 0);
    evbuffer_free(buffer);
    connection_close(&it);
}

static void printf_of_any_length(void) {
    open_it();
    for (int width = 500; width < 530; width++) {
        char expected[600];
        char received[600];
        snprintf(expected, sizeof expected, "<%*d>", width, 7);
        CHECK_IS(sendq_bev_printf(it.b, "<%*d>", width, 7), 0);
        turn();
        CHECK_IS(ends_read(it.e, received, sizeof received), width + 2);
        CHECK(memcmp(expected, received, (size_t)width + 2) == 0);
    }
    CHECK_IS(sendq_bev_printf(it.b, "%s", ""), 0);
    connection_close(&it);
}

/* What the glue has no verb for. */
static void any_append(void) {
    open_it();
    sendq_t* q = sendq_bev_get_queue(it.b);
    CHECK_IS(sendq_cork(q), 0);
    CHECK_IS(connection_write(&it, 100), 0);
    turn();
    CHECK_IS(connection_read(&it, SIZE_MAX), 0);
    CHECK_IS(sendq_bev_wake(it.b, sendq_uncork(q)), 0);
    turn();
    CHECK_IS(connection_read(&it, SIZE_MAX), 100);
    CHECK_IS(sendq_bev_wake(it.b, -ENOBUFS), -ENOBUFS);
    CHECK_IS(sendq_bev_wake(it.b, SENDQ_WAKE | SENDQ_HIGH), SENDQ_HIGH);
    connection_close(&it);
}

static void write_on_release(void* arg, const void* data, size_t len, int reason) {
    (void)data, (void)len;
    CHECK_IS(reason, 0);
    CHECK_IS(connection_write(arg, 100), 0);
}

/* Another write that comes when all has left, and the flush is not yet over. */
static void write_within_flush(void) {
    static unsigned char bytes[1000];
    sendq_config_t config = {.size = sizeof config, .copy_below = 1};
    stream_fill(bytes, 0, sizeof bytes);
    connection_open_with(&it, ends_unix(), NULL, &config);
    CHECK_IS(sendq_bev_write_reference(it.b, bytes, sizeof bytes, write_on_release, &it), 0);
    it.written = sizeof bytes;
    CHECK_IS(event_base_dispatch(base), 1);
    CHECK_IS(connection_read(&it, SIZE_MAX), sizeof bytes + 100);
    connection_close(&it);
}

static void at_once(void) {
    open_it();
    CHECK_IS(connection_write(&it, 100), 0);
    CHECK_IS(sendq_bev_flush(it.b), 0);
    CHECK_IS(connection_read(&it, SIZE_MAX), 100);
    CHECK_IS(it.sent, 0); /* from the loop only */
    turn();
    CHECK_IS(it.sent, 1);
    turn();
    CHECK_IS(it.sent, 1);
    while (sendq_bev_flush(it.b) == 0) {
        CHECK(connection_write(&it, 50000) >= 0);
    }
    CHECK_IS(is_armed(&it), true);
    connection_drain(&it);
    connection_close(&it);
}

static void disabled(void) {
    open_it();
    connection_fill(&it);
    CHECK_IS(sendq_bev_disable(it.b, EV_READ), 0);
    CHECK_IS(is_armed(&it), true);
    CHECK_IS(sendq_bev_disable(it.b, EV_WRITE), 0);
    CHECK_IS(is_armed(&it), false);
    while (connection_read(&it, SIZE_MAX) > 0) {
    }
    CHECK(connection_write(&it, 10) >= 0);
    CHECK_IS(sendq_bev_flush(it.b), 0);
    turn();
    CHECK_IS(connection_read(&it, SIZE_MAX), 0);
    CHECK_IS(event_base_dispatch(base), 1); /* nothing is armed */
    CHECK_IS(sendq_bev_enable(it.b, EV_READ), 0);
    CHECK_IS(event_base_dispatch(base), 1);
    CHECK_IS(sendq_bev_enable(it.b, EV_READ | EV_WRITE), 0);
    connection_drain(&it);
    connection_close(&it);
}

/* A queue that was there before, with what waits, and is there afterwards. */
static void queue_of_its_own(void) {
    it = (connection){.e = ends_unix()};
    sendq_t* q = NULL;
    unsigned char bytes[100];
    stream_fill(bytes, 0, sizeof bytes);
    CHECK_IS(sendq_new(NULL, NULL, &q), 0);
    CHECK_IS(sendq_append(q, bytes, 20), SENDQ_WAKE);
    CHECK_IS(sendq_flush(q, it.e.queue, 0), 0);
    CHECK_IS(sendq_bev_attach(base, it.e.queue, 0, q, &it.b), 0);
    sendq_bev_setcb(it.b, on_sent, on_end, &it);
    CHECK_IS(sendq_bev_enable(it.b, EV_WRITE), 0);
    turn();
    CHECK_IS(it.sent, 0); /* nothing by it */
    sendq_bev_free(it.b);

    CHECK_IS(sendq_append(q, bytes + 20, 40), SENDQ_WAKE);
    CHECK_IS(sendq_bev_attach(base, it.e.queue, 0, q, &it.b), 0);
    CHECK(sendq_bev_get_queue(it.b) == q);
    turn();
    CHECK_IS(connection_read(&it, SIZE_MAX), 60);
    CHECK_IS(sendq_bev_write(it.b, bytes + 60, 40), 0);
    sendq_bev_free(it.b);
    turn();
    CHECK_IS(connection_read(&it, SIZE_MAX), 0);
    CHECK_IS(sendq_queued_bytes(q), 40);
    CHECK_IS(sendq_flush(q, it.e.queue, 0), 0);
    CHECK_IS(connection_read(&it, SIZE_MAX), 40);
    sendq_free(q);
    ends_close(it.e);
}

int main(void) {
    base = event_base_new();
    CHECK(base != NULL);
    first_of_all();
    one_send_a_turn();
    armed_while_blocked();
    no_spin();
    all_kinds(ends_unix());
    all_kinds(ends_tcp());
    evbuffer_all_or_nothing();
    printf_of_any_length();
    any_append();
    write_within_flush();
    at_once();
    disabled();
    queue_of_its_own();
    event_base_free(base);
    return 0;
}
