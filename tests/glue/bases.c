/* sendq_bev_base_set moves a connection to another loop, when libevent would move its events: while
 * nothing is due or waited for. */
#include "loop.h"

static connection it;
static struct event_base *here, *there;

static void swap(void) {
    struct event_base* other = base == here ? there : here;
    CHECK_IS(sendq_bev_base_set(other, it.b), 0);
    base = other;
}

static void stays(void) {
    struct event_base* other = base == here ? there : here;
    CHECK_IS(sendq_bev_base_set(other, it.b), -EBUSY);
}

static void stay_now(connection* c) {
    (void)c;
    stays();
}

static void moves(void) {
    connection_open(&it);
    it.then = stay_now;
    for (int i = 0; i < 4; i++) {
        swap();
        CHECK_IS(connection_write(&it, 100), 0);
        stays(); /* a flush is due */
        turn();
        CHECK_IS(connection_read(&it, SIZE_MAX), 100);
        connection_fill(&it);
        stays(); /* the socket is waited for */
        CHECK_IS(sendq_bev_disable(it.b, EV_WRITE), 0);
        swap(); /* bytes wait, but for nothing */
        CHECK_IS(sendq_bev_enable(it.b, EV_WRITE), 0);
        connection_drain(&it);
        CHECK_IS(sendq_set_rate(sendq_bev_get_queue(it.b), 1, 1), 0);
        CHECK(connection_write(&it, 10) >= 0);
        turn();
        stays(); /* a timer is waited for */
        CHECK_IS(sendq_set_rate(sendq_bev_get_queue(it.b), 0, 0), 0);
        CHECK(sendq_bev_flush(it.b) >= 0);
        connection_drain(&it);
    }
    CHECK_IS(sendq_bev_close(it.b, 0), 0);
    stays();
    turn();
    CHECK_IS(it.what, BEV_EVENT_EOF | BEV_EVENT_WRITING);
    connection_close(&it);
}

/* Behind its bufferevent only. */
static void attached(void) {
    ends e = ends_unix();
    sendq_t* q = new_queue(NULL, NULL);
    sendq_bev_t* b = NULL;
    struct bufferevent* bev = bufferevent_socket_new(here, e.queue, BEV_OPT_CLOSE_ON_FREE);
    CHECK_IS(sendq_bev_attach_bufferevent(bev, q, &b), 0);
    CHECK_IS(sendq_bev_base_set(there, b), -EINVAL);
    CHECK_IS(bufferevent_base_set(there, bev), 0);
    CHECK_IS(sendq_bev_base_set(there, b), 0);
    CHECK_IS(sendq_bev_base_set(here, b), -EINVAL);
    CHECK_IS(sendq_bev_write(b, "x", 1), 0);
    base = there;
    turn();
    char byte;
    CHECK_IS(ends_read(e, &byte, 1), 1);
    sendq_bev_free(b);
    bufferevent_free(bev);
    turn();
    sendq_free(q);
    close(e.peer);
}

int main(void) {
    here = base = event_base_new();
    there = event_base_new();
    CHECK(here != NULL && there != NULL);
    CHECK_IS(sendq_bev_base_set(here, NULL), -EINVAL);
    moves();
    connection_open(&it);
    CHECK_IS(sendq_bev_base_set(NULL, it.b), -EINVAL);
    connection_close(&it);
    attached();
    event_base_free(here);
    event_base_free(there);
    return 0;
}
