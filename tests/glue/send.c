/* sendq_bev_send: a message leaves before the call returns, or waits in its place, and the loop
 * goes on with it. */
#include "loop.h"

static connection it;
static unsigned char bytes[1 << 20];

/* Of a message, not of a piece: `len` is how much of it was sent. */
static void message_release(void* arg, const void* data, size_t len, int reason) {
    piece* p = arg;
    CHECK(data == NULL);
    CHECK(len <= p->len);
    CHECK_IS(p->times++, 0);
    p->reason = reason;
}

/* A message of three parts, of the next len bytes of the test stream. */
static int send_message(size_t len, piece* owner) {
    CHECK(len >= 20 && len <= sizeof bytes);
    stream_fill(bytes, it.written, len);
    const sendq_part_t parts[] = {sendq_part_copy(bytes, 10), sendq_part_ref(bytes + 10, len - 20),
                                  sendq_part_copy(bytes + len - 10, 10)};
    *owner = (piece){.data = NULL, .len = len};
    int result = sendq_bev_send(it.b, parts, 3, message_release, owner);
    it.written += SENDQ_FAILED(result) ? 0 : len;
    return result;
}

static void at_once(void) {
    piece p;
    connection_open(&it);
    CHECK_IS(send_message(1000, &p), 0);
    CHECK_IS(p.times, 1);
    CHECK_IS(it.sent, 0); /* not from inside the call */
    CHECK_IS(connection_read(&it, SIZE_MAX), 1000);
    turn();
    CHECK_IS(it.sent, 1);
    CHECK_IS(event_base_dispatch(base), 1); /* nothing is armed */

    /* Behind what is queued. */
    CHECK_IS(connection_write(&it, 100), 0);
    CHECK_IS(send_message(1000, &p), 0);
    CHECK_IS(connection_read(&it, SIZE_MAX), 1100);
    connection_close(&it);
}

static void when_full(void) {
    piece p, q;
    connection_open(&it);
    CHECK(send_message(sizeof bytes, &p) & SENDQ_BLOCKED);
    CHECK_IS(p.times, 0);
    CHECK_IS(it.b->armed, EV_WRITE);
    for (int i = 0; p.times == 0; i++) {
        CHECK(i < TURNS);
        turn();
        connection_read(&it, SIZE_MAX);
    }
    CHECK_IS(p.reason, 0);
    connection_drain(&it);
    CHECK_IS(is_armed(&it), false);

    /* Refused: what waited goes on waiting. */
    CHECK_IS(sendq_bev_setwatermark(it.b, 0, 60000, 100000), 0);
    CHECK(connection_write(&it, 80000) & SENDQ_HIGH);
    turn();
    CHECK_IS(send_message(90000, &q), -ENOBUFS);
    CHECK_IS(q.times, 0);
    CHECK_IS(it.b->armed, EV_WRITE);
    connection_drain(&it);
    connection_close(&it);
}

static void disabled_and_closed(void) {
    piece p;
    connection_open(&it);
    CHECK_IS(sendq_bev_disable(it.b, EV_WRITE), 0);
    CHECK_IS(send_message(1000, &p), 0);
    turn();
    CHECK_IS(connection_read(&it, SIZE_MAX), 0);
    CHECK_IS(sendq_bev_enable(it.b, EV_WRITE), 0);
    connection_drain(&it);
    CHECK_IS(sendq_bev_close(it.b, 0), 0);
    CHECK_IS(send_message(1000, &p), -EPIPE);
    CHECK_IS(p.times, 0);
    turn();
    CHECK_IS(it.what, BEV_EVENT_EOF | BEV_EVENT_WRITING);
    CHECK_IS(send_message(1000, &p), -EPIPE);
    connection_close(&it);
}

static void failed(void) {
    piece p;
    connection_open(&it);
    close(it.e.peer);
    it.e.peer = -1;
    int result = send_message(100000, &p);
    CHECK(result == -EPIPE || result == SENDQ_CLOSED);
    CHECK_IS(p.times, result == SENDQ_CLOSED);
    CHECK_IS(it.ended, false);
    turn();
    CHECK_IS(it.ended, true);
    CHECK_IS(it.what, BEV_EVENT_ERROR | BEV_EVENT_WRITING);
    CHECK_IS(it.error, EPIPE);
    connection_close(&it);
}

static int64_t writer_answer;

static int64_t take(void* arg, const void* data, size_t len) {
    (void)arg;
    return writer_answer != 0 ? writer_answer : send(it.e.queue, data, len, MSG_DONTWAIT);
}

static void by_a_writer(void) {
    piece p;
    connection_open(&it);
    CHECK_IS(sendq_bev_set_writer(it.b, take, NULL), 0);
    CHECK_IS(send_message(1000, &p), 0);
    CHECK_IS(connection_read(&it, SIZE_MAX), 1000);
    writer_answer = SENDQ_WRITE_WANT_READ;
    CHECK_IS(send_message(1000, &p), SENDQ_WANT_READ);
    CHECK_IS(it.b->armed, EV_READ);
    writer_answer = -EPROTO;
    CHECK_IS(send_message(10000, &p), SENDQ_CLOSED);
    CHECK_IS(p.times, 1);
    CHECK_IS(p.reason, -EPROTO);
    turn();
    CHECK_IS(it.error, EPROTO);
    CHECK_IS(send_message(1000, &p), -EPROTO);
    writer_answer = 0;
    connection_close(&it);
}

static void free_it(void* arg, const void* data, size_t len, int reason) {
    (void)arg, (void)data, (void)len, (void)reason;
    sendq_bev_free(it.b);
}

static void freed_by_its_release(void) {
    for (int how = 0; how < 4; how++) {
        connection_open(&it);
        if (how & 1) {
            CHECK_IS(sendq_bev_set_writer(it.b, take, NULL), 0);
        }
        const sendq_part_t part =
            how & 2 ? sendq_part_ref(bytes, sizeof bytes / 100) : sendq_part_copy(bytes, 10);
        sendq_bev_send(it.b, &part, 1, free_it, NULL);
        for (int i = 0; close(dup(it.e.queue)) == 0; i++) {
            CHECK(i < TURNS);
            static unsigned char sink[65536];
            if (recv(it.e.peer, sink, sizeof sink, MSG_DONTWAIT) == 0) {
                break;
            }
            turn();
        }
        close(it.e.peer);
    }
}

static void misuse(void) {
    const sendq_part_t part = sendq_part_copy("x", 1);
    connection_open(&it);
    CHECK_IS(sendq_bev_send(NULL, &part, 1, NULL, NULL), -EINVAL);
    CHECK_IS(sendq_bev_send(it.b, NULL, 1, NULL, NULL), -EINVAL);
    CHECK_IS(sendq_bev_send(it.b, &part, -1, NULL, NULL), -EINVAL);
    CHECK_IS(sendq_bev_send(it.b, NULL, 0, NULL, NULL), 0);
    turn();
    CHECK_IS(it.sent, 0);
    connection_close(&it);
}

int main(void) {
    base = event_base_new();
    CHECK(base != NULL);
    at_once();
    when_full();
    disabled_and_closed();
    failed();
    by_a_writer();
    freed_by_its_release();
    misuse();
    event_base_free(base);
    return 0;
}
