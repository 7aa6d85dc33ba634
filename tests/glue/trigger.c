/* sendq_bev_trigger calls writecb when bufferevent_trigger would call that of a bufferevent. */
#include "loop.h"

static connection it;
static struct bufferevent* bev;
static unsigned libevents; /* calls of bev's write callback */

static void on_writable(struct bufferevent* of, void* arg) {
    (void)of, (void)arg;
    libevents++;
}

/* The same for both; returns whether they called back before this returned. */
static bool trigger(short iotype, int options) {
    unsigned before = it.sent;
    CHECK_IS(sendq_bev_trigger(it.b, iotype, options), 0);
    bufferevent_trigger(bev, iotype, options);
    CHECK_IS(it.sent, libevents);
    return it.sent != before;
}

static void settle(void) {
    for (int i = 0; i < 3; i++) {
        turn();
    }
    CHECK_IS(it.sent, libevents);
}

static void as_bufferevents(void) {
    ends e = ends_unix();
    connection_open(&it);
    bev = bufferevent_socket_new(base, e.queue, BEV_OPT_CLOSE_ON_FREE);
    CHECK(bev != NULL);
    bufferevent_setcb(bev, NULL, on_writable, NULL, NULL);

    CHECK_IS(trigger(EV_WRITE, 0), true); /* nothing waits */
    CHECK_IS(trigger(EV_READ, 0), false);
    CHECK_IS(trigger(EV_WRITE, BEV_TRIG_DEFER_CALLBACKS), false);
    CHECK_IS(trigger(EV_WRITE, BEV_TRIG_DEFER_CALLBACKS), false);
    settle();
    CHECK_IS(it.sent, 2); /* both at once */
    settle();
    CHECK_IS(it.sent, 2);

    CHECK_IS(sendq_bev_disable(it.b, EV_WRITE), 0);
    CHECK_IS(bufferevent_disable(bev, EV_WRITE), 0);
    CHECK_IS(connection_write(&it, 10), 0);
    CHECK_IS(bufferevent_write(bev, "0123456789", 10), 0);
    CHECK_IS(trigger(EV_WRITE, 0), false); /* more than the low watermark waits */
    CHECK_IS(trigger(EV_WRITE, BEV_TRIG_DEFER_CALLBACKS), false);
    settle();
    CHECK_IS(it.sent, 2);
    CHECK_IS(trigger(EV_WRITE, BEV_TRIG_IGNORE_WATERMARKS), true);
    CHECK_IS(trigger(EV_WRITE, BEV_TRIG_IGNORE_WATERMARKS | BEV_TRIG_DEFER_CALLBACKS), false);
    settle();
    CHECK_IS(it.sent, 4); /* though writing is disabled */
    bufferevent_setwatermark(bev, EV_WRITE, 10, 0);
    CHECK_IS(sendq_bev_setwatermark(it.b, 10, 0, 0), 0);
    CHECK_IS(trigger(EV_WRITE, 0), true);

    CHECK_IS(sendq_bev_close(it.b, 0), 0);
    CHECK_IS(sendq_bev_trigger(it.b, EV_WRITE, BEV_TRIG_IGNORE_WATERMARKS), 0);
    CHECK_IS(it.sent, 5);
    turn();
    CHECK_IS(it.what, BEV_EVENT_EOF | BEV_EVENT_WRITING);
    CHECK_IS(sendq_bev_trigger(it.b, EV_WRITE, BEV_TRIG_DEFER_CALLBACKS), 0);
    turn();
    CHECK_IS(it.sent, 5);
    connection_close(&it);
    bufferevent_free(bev);
    close(e.peer);
}

static void free_it(connection* c) {
    sendq_bev_free(c->b);
}

/* From inside the call, and between that and the callback. */
static void freed(void) {
    for (int deferred = 0; deferred <= 1; deferred++) {
        connection_open(&it);
        it.then = free_it;
        if (deferred) {
            CHECK_IS(sendq_bev_trigger(it.b, EV_WRITE, BEV_TRIG_DEFER_CALLBACKS), 0);
            sendq_bev_free(it.b);
        } else {
            CHECK_IS(sendq_bev_trigger(it.b, EV_WRITE, 0), 0);
        }
        CHECK_IS(it.sent, !deferred);
        turn();
        CHECK_IS(it.sent, !deferred);
        close(it.e.peer);
    }
}

int main(void) {
    base = event_base_new();
    CHECK(base != NULL);
    CHECK_IS(sendq_bev_trigger(NULL, EV_WRITE, 0), -EINVAL);
    as_bufferevents();
    freed();
    event_base_free(base);
    return 0;
}
