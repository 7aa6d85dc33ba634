/* Moving what waits from queue to queue, and holding back what is appended: the bytes stay in
 * order, count where they are, and what was refused or taken back has never been. */
#include "pieces.h"

enum { BIG = 1 << 20, EACH = 3000 };

static unsigned char bytes[BIG];

/* Puts len bytes of the test stream, from at on, behind what waits: copied, borrowed, mixed. */
static void fill(sendq_t* q, uint64_t at, size_t len, int how) {
    size_t half = len / 2;
    stream_fill(bytes + at, at, len);
    switch (how) {
        case 0:
            CHECK(sendq_append(q, bytes + at, len) >= 0);
            break;
        case 1:
            CHECK(sendq_append_ref(q, bytes + at, len, NULL, NULL) >= 0);
            break;
        case 2:
            CHECK(sendq_append(q, bytes + at, half) >= 0);
            CHECK(sendq_append_ref(q, bytes + at + half, len - half, NULL, NULL) >= 0);
            break;
        default:
            CHECK(sendq_append_ref(q, bytes + at, half, NULL, NULL) >= 0);
            CHECK(sendq_append(q, bytes + at + half, len - half) >= 0);
    }
}

/* Every mixture, short and long, into a queue in which something waits or nothing, a part of either
 * having left already. */
static void splice_pair(sendq_pool_t* to_pool, sendq_pool_t* from_pool) {
    static const size_t lens[] = {2, 100, 1024, 1025, 5000, 100000};
    enum { LENS = sizeof lens / sizeof *lens };
    for (int how = 0; how < 4; how++) {
        for (size_t i = 0; i <= LENS; i++) {
            for (size_t j = 0; j < LENS; j++) {
                for (size_t left = 0; left < 2; left++) {
                    sendq_t* to = new_borrower(to_pool, 1);
                    sendq_t* from = new_borrower(from_pool, 1);
                    size_t first = i < LENS ? lens[i] : 0;
                    if (first > 0) {
                        fill(to, 0, first, (how + 1) % 4);
                    }
                    fill(from, first, lens[j], how);
                    size_t gone = 0;
                    if (left > 0 && first > 0) {
                        gone = first / 2;
                        CHECK_IS(sendq_consume(to, gone), 0);
                    } else if (left > 0) {
                        gone = lens[j] / 2 + 1 < lens[j] ? lens[j] / 2 + 1 : 1;
                        CHECK_IS(sendq_consume(from, gone), 0);
                    }
                    uint64_t moves = sendq_queued_bytes(from);
                    uint64_t sent = sendq_sent_bytes(from);
                    CHECK_IS(sendq_splice(to, from), first > 0 ? 0 : SENDQ_WAKE);
                    CHECK_IS(sendq_queued_bytes(from), 0);
                    CHECK_IS(sendq_sent_bytes(from), sent + moves);
                    CHECK_IS(sendq_queued_bytes(to), first + lens[j] - gone);
                    CHECK_IS(sendq_splice(to, from), 0); /* from empty: nothing */
                    check_usable(from);
                    fill(to, first + lens[j], 700, how);
                    if (i % 2) {
                        sendq_free(from);
                        from = NULL;
                    }
                    check_delivers(to, gone);
                    check_usable(to);
                    sendq_free(to);
                    sendq_free(from);
                }
            }
        }
    }
}

static void splice(void) {
    sendq_pool_t* one = new_pool((sendq_pool_config_t){.chunk_bytes = 4096});
    sendq_pool_t* other = new_pool((sendq_pool_config_t){.chunk_bytes = 1024, .keep_bytes = 1});
    sendq_pool_t* shared = new_pool((sendq_pool_config_t){.flags = SENDQ_THREADSAFE});
    splice_pair(one, one);
    splice_pair(one, other);
    splice_pair(other, one);
    splice_pair(shared, other);
    splice_pair(NULL, one);
    sendq_pool_free(one);
    sendq_pool_free(other);
    sendq_pool_free(shared);

    /* Thread-safe ones, to and fro. */
    sendq_config_t config = {.size = sizeof config, .flags = SENDQ_THREADSAFE, .copy_below = 1};
    sendq_t* a = new_queue(NULL, &config);
    sendq_t* b = new_queue(NULL, &config);
    fill(a, 0, 5000, 2);
    fill(b, 5000, 5000, 3);
    CHECK_IS(sendq_splice(a, b), 0);
    CHECK_IS(sendq_splice(b, a), SENDQ_WAKE);
    check_delivers(b, 0);
    sendq_free(a);
    sendq_free(b);
}

/* Many short messages share memory, also when each was made in a queue of its own. */
static void splice_many(void) {
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){.max_bytes = 256 << 10});
    sendq_t* to = new_borrower(pool, 1);
    sendq_t* from = new_borrower(pool, 1);
    for (uint64_t at = 0; at < 1000 * 100; at += 100) {
        fill(from, at, 100, 0);
        CHECK_IS(sendq_splice(to, from), at > 0 ? 0 : SENDQ_WAKE);
    }
    check_delivers(to, 0);
    sendq_free(from);
    sendq_free(to);
    sendq_pool_free(pool);
}

static void splice_refused(void) {
    sendq_t* q = new_borrower(NULL, 1);
    sendq_t* other = new_borrower(NULL, 1);
    void* memory;
    CHECK_IS(sendq_splice(q, q), -EINVAL);
    CHECK_IS(sendq_splice(q, NULL), -EINVAL);
    CHECK_IS(sendq_splice(NULL, q), -EINVAL);
    CHECK_IS(sendq_splice(NULL, NULL), -EINVAL);
    CHECK_IS(sendq_splice(q, other), 0); /* nothing waits */

    fill(other, 0, EACH, 2);
    CHECK_IS(sendq_reserve(q, 10, &memory), 0);
    CHECK_IS(sendq_splice(q, other), -EBUSY);
    CHECK_IS(sendq_splice(other, q), -EBUSY);
    CHECK_IS(sendq_commit(q, 0), 0);
    CHECK_IS(sendq_reserve(other, 10, &memory), 0);
    CHECK_IS(sendq_splice(q, other), -EBUSY);
    CHECK_IS(sendq_commit(other, 0), 0);
    CHECK_IS(sendq_cork(other), 0);
    CHECK_IS(sendq_splice(q, other), -EBUSY);
    CHECK_IS(sendq_uncork(other), 0);

    CHECK_IS(sendq_set_watermarks(q, 0, 0, EACH - 1), 0);
    CHECK_IS(sendq_splice(q, other), -ENOBUFS);
    CHECK_IS(sendq_queued_bytes(q), 0);
    CHECK_IS(sendq_set_watermarks(q, 0, 0, EACH), 0);
    CHECK_IS(sendq_splice(q, other), SENDQ_WAKE | SENDQ_HIGH); /* high is max if less */
    CHECK_IS(sendq_splice(other, q), SENDQ_WAKE);
    check_delivers(other, 0);
    CHECK_IS(sendq_set_watermarks(q, 0, 0, 0), 0);

    /* Into a closed one: no; out of one: yes. */
    fill(other, 0, EACH, 3);
    CHECK_IS(sendq_close(q), 0);
    CHECK_IS(sendq_splice(q, other), -EPIPE);
    CHECK_IS(sendq_queued_bytes(other), EACH);
    sendq_free(q);
    q = new_borrower(NULL, 1);
    CHECK_IS(sendq_close(other), 0);
    CHECK_IS(sendq_splice(q, other), SENDQ_WAKE);
    CHECK_IS(sendq_append(other, bytes, 1), -EPIPE);
    CHECK_IS(sendq_queued_bytes(other), 0);

    /* A failed one. */
    sendq_free(other);
    other = new_borrower(NULL, 1);
    fill(other, 0, EACH, 0);
    CHECK_IS(sendq_flush(other, -1, 0), -EBADF);
    CHECK_IS(sendq_splice(q, other), -EBADF);
    CHECK_IS(sendq_splice(other, q), -EBADF);
    CHECK_IS(sendq_queued_bytes(q), EACH);
    check_delivers(q, 0);
    check_usable(q);
    sendq_free(q);
    sendq_free(other);
}

/* The memory counts against the pool that it is in now. */
static void splice_budget(void) {
    enum { HEADER = 56, CHUNK = 4096 - HEADER, ROOM = 4 };
    sendq_pool_config_t little = {.chunk_bytes = HEADER + CHUNK, .max_bytes = ROOM * 4096};
    sendq_pool_t* one = new_pool(little);
    sendq_pool_t* other = new_pool(little);
    sendq_t* from = new_borrower(one, 1);
    sendq_t* to = new_borrower(other, 1);
    for (int round = 0; round < 20; round++) { /* a leak of budget would show */
        fill(from, 0, ROOM * CHUNK, 0);
        CHECK_IS(sendq_append(from, bytes, CHUNK), -ENOBUFS);
        fill(to, 0, 2 * CHUNK, 0);
        CHECK_IS(sendq_splice(to, from), -ENOBUFS);
        CHECK_IS(sendq_queued_bytes(from), ROOM * CHUNK);
        CHECK_IS(sendq_queued_bytes(to), 2 * CHUNK);
        check_delivers(to, 0);
        CHECK_IS(sendq_splice(to, from), SENDQ_WAKE);
        CHECK_IS(sendq_append(to, bytes, CHUNK), -ENOBUFS);
        fill(from, 0, ROOM * CHUNK, 0); /* its budget is free again */
        CHECK_IS(sendq_append(from, bytes, CHUNK), -ENOBUFS);
        check_delivers(from, 0);
        check_delivers(to, 0);
    }
    sendq_free(from);
    sendq_pool_free(one);
    fill(to, 0, ROOM * CHUNK, 0);
    check_delivers(to, 0);

    /* What came from a pool that was freed. */
    one = new_pool(little);
    from = new_borrower(one, 1);
    sendq_pool_free(one);
    fill(from, 0, 2 * CHUNK, 2);
    CHECK_IS(sendq_splice(to, from), SENDQ_WAKE);
    sendq_free(from);
    check_delivers(to, 0);
    sendq_free(to);
    sendq_pool_free(other);
}

/* Nothing of what is held back is to be seen. */
static void check_hidden(sendq_t* q, uint64_t queued) {
    struct iovec iov[4];
    ends e = ends_unix();
    unsigned char byte;
    CHECK_IS(sendq_flush(q, e.queue, 0), 0);
    CHECK_IS(ends_read(e, &byte, 1), 0);
    CHECK_IS(sendq_flush(q, -1, 0), 0); /* nothing is written to it */
    CHECK_IS(sendq_peek(q, iov, 4), 0);
    CHECK_IS(sendq_consume(q, 1), -EINVAL);
    CHECK_IS(sendq_consume(q, 0), 0);
    CHECK_IS(sendq_queued_bytes(q), queued);
    ends_close(e);
}

static void cork_holds(int how) {
    sendq_t* q = new_borrower(NULL, 1);
    CHECK_IS(sendq_cork(q), 0);
    fill(q, 0, EACH, how);
    check_hidden(q, EACH);
    CHECK_IS(sendq_append(q, bytes + EACH, 1), 0);
    CHECK_IS(sendq_uncork(q), SENDQ_WAKE);
    check_delivers(q, 0);

    /* Behind what waits already. */
    fill(q, 0, EACH, how);
    CHECK_IS(sendq_cork(q), 0);
    fill(q, EACH, EACH, how);
    struct iovec iov[8];
    size_t seen = 0;
    int count = sendq_peek(q, iov, 8);
    for (int i = 0; i < count; i++) {
        seen += iov[i].iov_len;
    }
    CHECK_IS(seen, EACH);
    CHECK_IS(sendq_consume(q, EACH + 1), -EINVAL);
    CHECK_IS(sendq_uncork(q), 0); /* something waited: nobody needs waking */
    CHECK_IS(sendq_queued_bytes(q), 2 * EACH);
    check_delivers(q, 0);

    /* What waited has left meanwhile. */
    fill(q, 0, EACH, how);
    CHECK_IS(sendq_cork(q), 0);
    fill(q, EACH, EACH, how);
    ends e = ends_unix();
    CHECK_IS(sendq_flush(q, e.queue, EACH - 1), SENDQ_MORE);
    CHECK_IS(sendq_flush(q, e.queue, 1), 0); /* no MORE: the rest is held back */
    CHECK_IS(sendq_sent_bytes(q) % EACH, 1);
    check_hidden(q, EACH);
    ends_close(e);
    CHECK_IS(sendq_uncork(q), SENDQ_WAKE);
    check_delivers(q, EACH);

    /* Nothing was held back. */
    CHECK_IS(sendq_cork(q), 0);
    CHECK_IS(sendq_uncork(q), 0);
    CHECK_IS(sendq_cork(q), 0);
    CHECK_IS(sendq_rollback(q), 0);
    check_usable(q);
    sendq_free(q);
}

static void rollback_restores(int how, int then) {
    sendq_pool_t* pool =
        new_pool((sendq_pool_config_t){.chunk_bytes = 1024, .max_bytes = 64 << 10});
    sendq_t* q = new_borrower(pool, 1);
    for (int round = 0; round < 50; round++) { /* a leak of budget would show */
        CHECK_IS(sendq_cork(q), 0);
        fill(q, 7, EACH, how);
        CHECK_IS(sendq_rollback(q), 0);
        CHECK_IS(sendq_queued_bytes(q), 0);
        check_hidden(q, 0);
        fill(q, 0, EACH, how);
        CHECK_IS(sendq_cork(q), 0);
        fill(q, 7, EACH, then);
        fill(q, 9, 10 * EACH, then);
        CHECK_IS(sendq_rollback(q), 0);
        CHECK_IS(sendq_queued_bytes(q), EACH);
        fill(q, EACH, EACH, then);
        CHECK_IS(sendq_cork(q), 0);
        fill(q, 7, EACH, how);
        CHECK_IS(sendq_consume(q, EACH + 1), 0);
        CHECK_IS(sendq_rollback(q), 0);
        stream_fill(bytes, 0, 2 * EACH);
        fill(q, 2 * EACH, EACH, how);
        check_delivers(q, EACH + 1);
    }
    CHECK_IS(sendq_sent_bytes(q), 50 * 3 * EACH);
    sendq_free(q);
    sendq_pool_free(pool);
}

static void cork_errors(void) {
    sendq_t* q = new_borrower(NULL, 1);
    void* memory;
    CHECK_IS(sendq_cork(NULL), -EINVAL);
    CHECK_IS(sendq_uncork(NULL), -EINVAL);
    CHECK_IS(sendq_rollback(NULL), -EINVAL);
    CHECK_IS(sendq_uncork(q), -EINVAL);
    CHECK_IS(sendq_rollback(q), -EINVAL);
    CHECK_IS(sendq_cork(q), 0);
    fill(q, 0, EACH, 2);
    CHECK_IS(sendq_cork(q), -EALREADY);
    CHECK_IS(sendq_reserve(q, 100, &memory), 0);
    CHECK_IS(sendq_uncork(q), -EBUSY);
    CHECK_IS(sendq_rollback(q), -EBUSY);
    stream_fill(memory, EACH, 100);
    CHECK_IS(sendq_commit(q, 100), 0);
    CHECK_IS(sendq_uncork(q), SENDQ_WAKE);
    CHECK_IS(sendq_uncork(q), -EINVAL);
    CHECK_IS(sendq_rollback(q), -EINVAL);
    check_delivers(q, 0);

    /* Closed while corked: what is held back can be let go or taken back, but not added to. */
    CHECK_IS(sendq_cork(q), 0);
    fill(q, 0, EACH, 3);
    CHECK_IS(sendq_close(q), 0);
    CHECK_IS(sendq_append(q, bytes, 1), -EPIPE);
    check_hidden(q, EACH);
    CHECK_IS(sendq_uncork(q), SENDQ_WAKE);
    CHECK_IS(sendq_cork(q), -EPIPE);
    CHECK_IS(sendq_append(q, bytes, 1), -EPIPE);
    check_delivers(q, 0);
    sendq_free(q);

    q = new_borrower(NULL, 1);
    fill(q, 0, 100, 0);
    CHECK_IS(sendq_cork(q), 0);
    fill(q, 100, EACH, 3);
    CHECK_IS(sendq_close(q), 0);
    CHECK_IS(sendq_rollback(q), 0);
    CHECK_IS(sendq_append(q, bytes, 1), -EPIPE);
    check_delivers(q, 0);
    sendq_free(q);

    /* Failed, discarded and freed while corked. */
    q = new_borrower(NULL, 1);
    fill(q, 0, 100, 0);
    CHECK_IS(sendq_cork(q), 0);
    fill(q, 100, EACH, 2);
    CHECK_IS(sendq_flush(q, -1, 0), -EBADF);
    CHECK_IS(sendq_queued_bytes(q), 0);
    CHECK_IS(sendq_uncork(q), -EBADF);
    CHECK_IS(sendq_rollback(q), -EBADF);
    sendq_free(q);

    q = new_borrower(NULL, 1);
    for (int reserved = 0; reserved < 2; reserved++) {
        fill(q, 0, 100, 0);
        CHECK_IS(sendq_cork(q), 0);
        fill(q, 100, EACH, 2);
        if (reserved) {
            CHECK_IS(sendq_reserve(q, 100, &memory), 0);
        }
        CHECK_IS(sendq_discard(q), 0);
        CHECK_IS(sendq_queued_bytes(q), 0);
        if (reserved) {
            stream_fill(memory, 0, 100);
            CHECK_IS(sendq_commit(q, 100), 0);
        } else {
            fill(q, 0, 100, 0);
        }
        fill(q, 100, EACH, 3);
        check_hidden(q, EACH + 100); /* it is still corked */
        CHECK_IS(sendq_uncork(q), SENDQ_WAKE);
        check_delivers(q, 0);
    }
    CHECK_IS(sendq_cork(q), 0);
    fill(q, 0, EACH, 2);
    sendq_free(q);
}

/* What is held back counts against every limit. */
static void cork_limits(void) {
    sendq_config_t config = {.size = sizeof config, .high = 2000, .max = 4000, .copy_below = 1};
    sendq_t* q = new_queue(NULL, &config);
    CHECK_IS(sendq_cork(q), 0);
    CHECK_IS(sendq_append(q, bytes, 1999), 0);
    CHECK_IS(sendq_append(q, bytes, 1), SENDQ_HIGH);
    CHECK_IS(sendq_append_ref(q, bytes, 2001, NULL, NULL), -ENOBUFS);
    CHECK_IS(sendq_append_ref(q, bytes, 2000, NULL, NULL), SENDQ_HIGH);
    CHECK_IS(sendq_append(q, bytes, 1), -ENOBUFS);
    CHECK_IS(sendq_rollback(q), SENDQ_RESUME);
    CHECK_IS(sendq_append(q, bytes, 1), SENDQ_WAKE);
    CHECK_IS(sendq_cork(q), 0);
    CHECK_IS(sendq_append(q, bytes, 3999), SENDQ_HIGH);
    CHECK_IS(sendq_uncork(q), 0);
    CHECK_IS(sendq_consume(q, 4000), SENDQ_RESUME);
    sendq_free(q);
}

/* Notifications at the borders of a cork. */
static void cork_and_notify(void) {
    sendq_t* q = new_borrower(NULL, 1);
    piece p[3];
    CHECK_IS(sendq_append(q, bytes, 10), SENDQ_WAKE);
    CHECK_IS(piece_notify(q, &p[0]), 0);
    CHECK_IS(sendq_cork(q), 0);
    CHECK_IS(piece_notify(q, &p[1]), 0); /* held back, too: it may be taken back */
    CHECK_IS(sendq_append(q, bytes, 10), 0);
    CHECK_IS(piece_notify(q, &p[2]), 0);
    CHECK_IS(sendq_consume(q, 10), 0);
    CHECK_IS(p[0].times, 1);
    CHECK_IS(p[2].times, 0);
    CHECK_IS(sendq_uncork(q), SENDQ_WAKE);
    pieces_check(p, 3, 2, 0);
    CHECK_IS(sendq_consume(q, 10), 0);
    pieces_check(p, 3, 3, 0);

    /* Marks without bytes. */
    CHECK_IS(sendq_append(q, bytes, 10), SENDQ_WAKE);
    CHECK_IS(sendq_cork(q), 0);
    CHECK_IS(piece_notify(q, &p[0]), 0);
    CHECK_IS(sendq_uncork(q), 0);
    CHECK_IS(p[0].times, 0);
    CHECK_IS(sendq_cork(q), 0);
    CHECK_IS(piece_notify(q, &p[1]), 0);
    CHECK_IS(sendq_rollback(q), 0);
    CHECK_IS(p[0].times, 0);
    CHECK_IS(p[1].times, 1);
    CHECK_IS(p[1].reason, -ECANCELED);
    CHECK_IS(sendq_consume(q, 10), 0);
    CHECK_IS(p[0].times, 1);
    check_usable(q);
    sendq_free(q);
}

/* A message that is put together elsewhere, held back, and let go. */
static void splice_into_cork(void) {
    for (int how = 0; how < 4; how++) {
        for (size_t len = 100; len <= 10000; len += 9900) {
            sendq_t* q = new_borrower(NULL, 1);
            sendq_t* part = new_borrower(NULL, 1);
            fill(q, 0, len, how);
            CHECK_IS(sendq_cork(q), 0);
            fill(part, len, len, how);
            CHECK_IS(sendq_splice(q, part), 0);
            fill(part, 2 * len, len, (how + 1) % 4);
            CHECK_IS(sendq_splice(q, part), 0);
            CHECK_IS(sendq_consume(q, len), 0);
            check_hidden(q, 2 * len);
            CHECK_IS(sendq_uncork(q), SENDQ_WAKE);
            check_delivers(q, len);
            CHECK_IS(sendq_cork(q), 0);
            fill(part, 0, len, how);
            CHECK_IS(sendq_splice(q, part), 0);
            CHECK_IS(sendq_rollback(q), 0);
            check_usable(q);
            sendq_free(q);
            sendq_free(part);
        }
    }
}

int main(void) {
    splice();
    splice_many();
    splice_refused();
    splice_budget();
    for (int how = 0; how < 4; how++) {
        cork_holds(how);
        for (int then = 0; then < 4; then++) {
            rollback_restores(how, then);
        }
    }
    cork_errors();
    cork_limits();
    cork_and_notify();
    splice_into_cork();
    return 0;
}
