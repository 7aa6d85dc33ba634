/* Law 2 where the model does not get: releases with the error of a real connection, releases that
 * splice, reserve or notify, and so many of them that a stack would not hold them. */
#include "pieces.h"

enum { COUNT = 6, EACH = 3000 };

static unsigned char bytes[COUNT * EACH];

/* The peer has closed: all is released with the error that flush returns, before it returns. */
static void failed(ends e, bool reset) {
    sendq_t* q = new_borrower(NULL, 1);
    piece pieces[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        CHECK(piece_append(q, &pieces[i], bytes + i * EACH, EACH) >= 0);
    }
    if (reset) {
        struct linger none = {.l_onoff = 1, .l_linger = 0};
        CHECK_IS(setsockopt(e.peer, SOL_SOCKET, SO_LINGER, &none, sizeof none), 0);
    }
    close(e.peer);
    wait_for(e.queue, POLLOUT);
    int result = sendq_flush(q, e.queue, 0);
    CHECK(result == -ECONNRESET || (!reset && result == -EPIPE));
    pieces_check(pieces, COUNT, COUNT, result);
    CHECK_IS(sendq_error(q), result);
    CHECK_IS(sendq_queued_bytes(q), 0);
    sendq_free(q);
    close(e.queue);
}

/* What the first release of a set does, once. */
static struct {
    void (*act)(sendq_t* q);
    sendq_t* q;
    sendq_t* other;
    ends e;
    piece late; /* what it is told of later */
} inside;

static void act_notify(sendq_t* q) {
    if (piece_notify(q, &inside.late) < 0) {
        inside.late.times = 1;
    }
}

static void act_reserve(sendq_t* q) {
    void* memory;
    if (sendq_reserve(q, EACH, &memory) == 0) {
        memset(memory, 1, EACH);
        CHECK(sendq_commit(q, EACH) >= 0);
    }
}

static void act_splice_away(sendq_t* q) {
    sendq_splice(inside.other, q);
}

static void act_splice_here(sendq_t* q) {
    sendq_splice(q, inside.other);
}

static void act_release(void* arg, const void* data, size_t len, int reason) {
    void (*act)(sendq_t*) = inside.act;
    piece_release(arg, data, len, reason);
    inside.act = NULL;
    if (act != NULL) {
        act(inside.q);
    }
}

/* What releases them. */

static void by_flush(sendq_t* q) {
    CHECK(sendq_flush(q, inside.e.queue, 0) >= 0);
}

static void by_flush_of_one(sendq_t* q) {
    CHECK_IS(sendq_flush(q, inside.e.queue, EACH), SENDQ_MORE);
}

static void by_failure(sendq_t* q) {
    CHECK_IS(sendq_flush(q, -1, 0), -EBADF);
}

static void by_consume(sendq_t* q) {
    CHECK_IS(sendq_consume(q, 2 * EACH + 100), 0);
}

static void by_discard(sendq_t* q) {
    CHECK_IS(sendq_discard(q), 0);
}

static void by_rollback(sendq_t* q) {
    CHECK_IS(sendq_rollback(q), 0);
}

/* Each piece is released once, in order, and the queue is usable. */
static void call_back(void (*cause)(sendq_t*), void (*act)(sendq_t*)) {
    piece pieces[COUNT];
    piece other;
    inside.act = act;
    inside.e = ends_unix();
    inside.q = new_borrower(NULL, 100);
    inside.other = new_borrower(NULL, 100);
    inside.late = (piece){.times = 1};
    sendq_t* q = inside.q;
    CHECK_IS(piece_append(inside.other, &other, bytes, EACH), SENDQ_WAKE);
    if (cause == by_rollback) {
        CHECK_IS(sendq_cork(q), 0);
    }
    for (size_t i = 0; i < COUNT; i++) {
        pieces[i] = (piece){.data = bytes + i, .len = EACH};
        CHECK(sendq_append_ref(q, bytes + i, EACH, act_release, &pieces[i]) >= 0);
    }
    cause(q);
    CHECK(inside.act == NULL);
    if (cause != sendq_free) {
        if (cause != by_failure) {
            CHECK_IS(sendq_discard(q), 0);
            check_usable(q);
        }
        sendq_free(q);
    }
    sendq_free(inside.other);
    for (size_t i = 0; i < COUNT; i++) {
        CHECK_IS(pieces[i].times, 1);
        CHECK(i == 0 || pieces[i].place > pieces[i - 1].place);
    }
    CHECK_IS(other.times, 1);
    CHECK_IS(inside.late.times, 1);
    ends_close(inside.e);
}

static void call_back_in(void) {
    static void (*const causes[])(sendq_t*) = {by_flush,   by_flush_of_one, by_failure, by_consume,
                                               by_discard, by_rollback,     sendq_free};
    static void (*const acts[])(sendq_t*) = {act_notify, act_reserve, act_splice_away,
                                             act_splice_here};
    for (size_t i = 0; i < sizeof causes / sizeof *causes; i++) {
        for (size_t j = 0; j < sizeof acts / sizeof *acts; j++) {
            call_back(causes[i], acts[j]);
        }
    }
}

static struct {
    sendq_t* q;
    int left;
    int depth;
} chain;

/* A release that appends the next piece and consumes it, again and again: the stack does not grow.
 */
static void pumping_release(void* arg, const void* data, size_t len, int reason) {
    (void)arg, (void)data, (void)len;
    CHECK_IS(reason, 0);
    if (--chain.left > 0) {
        CHECK(sendq_append_ref(chain.q, bytes, EACH, pumping_release, NULL) >= 0);
        CHECK_IS(sendq_consume(chain.q, EACH), 0);
    }
}

static void pump(uint32_t flags) {
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){.flags = flags});
    sendq_config_t config = {.size = sizeof config, .flags = flags, .copy_below = 1};
    chain.q = new_queue(pool, &config);
    chain.left = 300000;
    CHECK_IS(sendq_append_ref(chain.q, bytes, EACH, pumping_release, NULL), SENDQ_WAKE);
    CHECK_IS(sendq_consume(chain.q, EACH), 0);
    CHECK_IS(chain.left, 0);
    CHECK_IS(sendq_queued_bytes(chain.q), 0);
    sendq_free(chain.q);
    sendq_pool_free(pool);
}

/* The first of many to be released discards the rest while memory is reserved in what is corked,
 * and rolls it back: what comes next is behind blocks whose owners are not released yet.
 */
static void discarding_release(void* arg, const void* data, size_t len, int reason) {
    (void)data, (void)len, (void)reason;
    if (chain.depth++ != 0) {
        return;
    }
    sendq_t* q = arg;
    void* room = NULL;
    CHECK_IS(sendq_append(q, bytes, 150), SENDQ_WAKE);
    CHECK_IS(sendq_cork(q), 0);
    CHECK_IS(sendq_append(q, bytes, 50), 0);
    CHECK_IS(sendq_reserve(q, 100, &room), 0);
    CHECK_IS(sendq_discard(q), 0);
    CHECK_IS(sendq_commit(q, 60), 0);
    CHECK_IS(sendq_rollback(q), 0);
    CHECK_IS(sendq_append(q, bytes, 200), SENDQ_WAKE);
    struct iovec iov[4];
    size_t seen = 0;
    for (int i = 0, count = sendq_peek(q, iov, 4); i < count; i++) {
        stream_check(iov[i].iov_base, seen, iov[i].iov_len);
        seen += iov[i].iov_len;
    }
    CHECK_IS(seen, 200);
}

static void discard_while_released(void) {
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){.chunk_bytes = 256, .keep_bytes = 1});
    sendq_t* q = new_borrower(pool, 1);
    chain.depth = 0;
    for (int i = 0; i < 40; i++) {
        CHECK(sendq_append_ref(q, bytes, EACH, discarding_release, q) >= 0);
    }
    CHECK_IS(sendq_consume(q, 40 * EACH), 0);
    CHECK_IS(chain.depth, 40);
    CHECK_IS(sendq_queued_bytes(q), 200);
    CHECK_IS(sendq_consume(q, 200), 0);
    sendq_free(q);
    sendq_pool_free(pool);
}

int main(void) {
    stream_fill(bytes, 0, sizeof bytes);
    failed(ends_unix(), false);
    failed(ends_tcp(), true);
    call_back_in();
    discard_while_released();
    pump(0);
    pump(SENDQ_THREADSAFE);
    return 0;
}
