/* Every borrowed piece is released exactly once: with its own argument, data and length, for the
 * right reason, at the right byte, in the order of the stream; whatever becomes of the bytes, and
 * whatever the release does to the queue. */
#include "pieces.h"

enum { SIZE = 4 << 20, COUNT = 8, EACH = 3000 };

static unsigned char bytes[SIZE];

/* Lends COUNT pieces of the test stream, with a copied byte before each and a notification behind.
 */
static void append_pieces(sendq_t* q, piece* pieces, piece* marks) {
    size_t at = 0;
    for (int i = 0; i < COUNT; i++) {
        CHECK_IS(sendq_append(q, bytes + at, 1), i == 0 ? SENDQ_WAKE : 0);
        CHECK_IS(piece_append(q, &pieces[i], bytes + at + 1, EACH), 0);
        CHECK_IS(piece_notify(q, &marks[i]), 0);
        at += 1 + EACH;
    }
    CHECK_IS(sendq_queued_bytes(q), at);
    pieces_check(pieces, COUNT, 0, 0);
    pieces_check(marks, COUNT, 0, 0);
}

/* All were released, pieces and marks in turn, with this reason. */
static void check_all(const piece* pieces, const piece* marks, int reason) {
    for (int i = 0; i < COUNT; i++) {
        CHECK_IS(pieces[i].times, 1);
        CHECK_IS(marks[i].times, 1);
        CHECK_IS(pieces[i].reason, reason);
        CHECK_IS(marks[i].reason, reason);
        CHECK_IS(pieces[i].place, pieces[0].place + 2 * (unsigned)i);
        CHECK_IS(marks[i].place, pieces[i].place + 1);
    }
}

static void sent_whole(void) {
    sendq_t* q = new_borrower(NULL, 1);
    piece pieces[COUNT];
    piece marks[COUNT];
    for (int round = 0; round < 3; round++) {
        append_pieces(q, pieces, marks);
        check_delivers(q, 0);
        check_all(pieces, marks, 0);
    }
    check_usable(q);
    sendq_free(q);
}

static void dropped(void) {
    piece pieces[COUNT];
    piece marks[COUNT];
    sendq_t* q = new_borrower(NULL, 1);
    append_pieces(q, pieces, marks);
    CHECK_IS(sendq_discard(q), 0);
    check_all(pieces, marks, -ECANCELED);
    check_usable(q);

    /* The first have left, and one in part. */
    append_pieces(q, pieces, marks);
    CHECK_IS(sendq_consume(q, 2 * (1 + EACH) + 10), 0);
    pieces_check(pieces, COUNT, 2, 0);
    CHECK_IS(sendq_discard(q), 0);
    for (int i = 0; i < COUNT; i++) {
        CHECK_IS(pieces[i].times, 1);
        CHECK_IS(pieces[i].reason, i < 2 ? 0 : -ECANCELED);
        CHECK_IS(marks[i].reason, i < 2 ? 0 : -ECANCELED);
    }

    CHECK_IS(sendq_cork(q), 0);
    CHECK_IS(sendq_append(q, bytes, 1), 0);
    CHECK_IS(sendq_rollback(q), 0);
    append_pieces(q, pieces, marks);
    sendq_free(q);
    check_all(pieces, marks, -ECANCELED);

    q = new_borrower(NULL, 1);
    append_pieces(q, pieces, marks);
    CHECK_IS(sendq_close(q), 0);
    pieces_check(pieces, COUNT, 0, 0);
    check_delivers(q, 0);
    check_all(pieces, marks, 0);
    sendq_free(q);
}

/* Taken back: what was before the cork is not touched. */
static void rolled_back(void) {
    sendq_t* q = new_borrower(NULL, 1);
    piece before[2];
    piece held[COUNT];
    CHECK_IS(piece_append(q, &before[0], bytes, EACH), SENDQ_WAKE);
    CHECK_IS(piece_append(q, &before[1], bytes + EACH, EACH), 0);
    CHECK_IS(sendq_cork(q), 0);
    for (int i = 0; i < COUNT; i++) {
        CHECK_IS(i % 2 ? piece_notify(q, &held[i]) : piece_append(q, &held[i], bytes, EACH), 0);
    }
    CHECK_IS(sendq_consume(q, EACH), 0);
    pieces_check(before, 2, 1, 0);
    CHECK_IS(sendq_rollback(q), 0);
    pieces_check(held, COUNT, COUNT, -ECANCELED);
    pieces_check(before, 2, 1, 0);
    CHECK_IS(sendq_queued_bytes(q), EACH);
    check_delivers(q, EACH);
    pieces_check(before, 2, 2, 0);
    sendq_free(q);
}

/* Pieces of all sizes leave little by little: each is released by the very call that sends its last
 * byte, and each notification by the one that sends the byte before it. */
typedef struct {
    piece piece;
    uint64_t end; /* where in the stream */
} entry;

enum { BORROWED = 3000 };

static entry all[BORROWED];

static size_t check_borrowed(size_t first, size_t count, uint64_t sent) {
    while (first < count && all[first].end <= sent) {
        CHECK_IS(all[first].piece.times, 1);
        CHECK_IS(all[first].piece.reason, 0);
        CHECK(first == 0 || all[first].piece.place == all[first - 1].piece.place + 1);
        first++;
    }
    for (size_t i = first; i < count; i++) {
        CHECK_IS(all[i].piece.times, 0);
    }
    return first;
}

static void little_by_little(ends e, bool by_consume, uint64_t chunk_bytes, bool large) {
    static unsigned char buffer[256 << 10];
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){.chunk_bytes = chunk_bytes});
    sendq_t* q = new_borrower(pool, 1);
    uint64_t random = 88172645463325252U + chunk_bytes + by_consume;
    uint64_t appended = 0;
    uint64_t received = 0;
    size_t borrowed = 0;
    size_t first = 0; /* not released */
    ends_least_buffer(e);
    while (appended < SIZE - (200 << 10) || sendq_queued_bytes(q) > 0) {
        bool more = appended < SIZE - (200 << 10) && borrowed < BORROWED;
        if (more) {
            size_t len = random_up_to(&random, large && borrowed % 4 == 0 ? 200 << 10 : 3000);
            CHECK(sendq_append(q, bytes + appended, 24) >= 0);
            CHECK(piece_append(q, &all[borrowed].piece, bytes + appended + 24, len) >= 0);
            appended += 24 + len;
            all[borrowed++].end = appended;
            if (borrowed < BORROWED && random_next(&random) % 3 == 0) {
                CHECK_IS(piece_notify(q, &all[borrowed].piece), 0);
                all[borrowed++].end = appended;
            }
        }
        size_t budget = random_up_to(&random, large ? 300 << 10 : 5000);
        if (by_consume) {
            struct iovec iov[4];
            int count = sendq_peek(q, iov, 4);
            CHECK(count > 0);
            size_t take = 0;
            for (int i = 0; i < count; i++) {
                stream_check(iov[i].iov_base, received + take, iov[i].iov_len);
                take += iov[i].iov_len;
            }
            take = take < budget ? take : budget;
            CHECK_IS(sendq_consume(q, take) & ~SENDQ_RESUME, 0);
            received += take;
        } else {
            int why = sendq_flush(q, e.queue, more ? budget : 0);
            CHECK(why >= 0);
            if (!more || random_next(&random) % 4) {
                for (size_t got; (got = ends_read(e, buffer, sizeof buffer)) > 0;) {
                    stream_check(buffer, received, got);
                    received += got;
                }
            }
            if (!more && why & SENDQ_BLOCKED) {
                struct pollfd both[] = {{e.queue, POLLOUT, 0}, {e.peer, POLLIN, 0}};
                CHECK(poll(both, 2, 30000) > 0);
            }
        }
        CHECK_IS(sendq_sent_bytes(q), appended - sendq_queued_bytes(q));
        first = check_borrowed(first, borrowed, sendq_sent_bytes(q));
        if (borrowed == BORROWED && sendq_queued_bytes(q) == 0) {
            break;
        }
    }
    CHECK_IS(first, borrowed);
    while (!by_consume && received < appended) {
        wait_for(e.peer, POLLIN);
        size_t got = ends_read(e, buffer, sizeof buffer);
        CHECK(got > 0);
        stream_check(buffer, received, got);
        received += got;
    }
    CHECK_IS(received, appended);
    sendq_free(q);
    sendq_pool_free(pool);
    ends_close(e);
}

/* Short pieces are copied: released before the append returns, and not needed after. */
static unsigned char scratch[5000];

static void scratch_release(void* arg, const void* data, size_t len, int reason) {
    piece_release(arg, data, len, reason);
    memset(scratch, 0xff, sizeof scratch);
}

static void copied(void) {
    sendq_t* q = new_borrower(NULL, 1000);
    static const size_t lens[] = {1, 500, 999, 1000, 1001, 5000};
    uint64_t appended = 0;
    for (size_t i = 0; i < sizeof lens / sizeof *lens; i++) {
        piece p = {.data = scratch, .len = lens[i]};
        stream_fill(scratch, appended, lens[i]);
        CHECK(sendq_append_ref(q, scratch, lens[i], scratch_release, &p) >= 0);
        CHECK_IS(p.times, lens[i] < 1000);
        CHECK_IS(p.reason, 0);
        appended += lens[i];
        if (lens[i] >= 1000) {
            check_delivers(q, 0);
            CHECK_IS(p.times, 1);
            appended = 0;
        }
    }
    sendq_free(q);

    /* The default borrows 64 KiB and copies a byte; the greatest threshold copies all. */
    piece p;
    q = new_queue(NULL, NULL);
    CHECK_IS(piece_append(q, &p, bytes, 1), SENDQ_WAKE);
    CHECK_IS(p.times, 1);
    CHECK_IS(piece_append(q, &p, bytes + 1, 64 << 10), 0);
    CHECK_IS(p.times, 0);
    check_delivers(q, 0);
    CHECK_IS(p.times, 1);
    sendq_free(q);
    q = new_borrower(NULL, UINT64_MAX);
    CHECK_IS(piece_append(q, &p, bytes, SIZE), SENDQ_WAKE | SENDQ_HIGH);
    CHECK_IS(p.times, 1);
    sendq_free(q);
}

/* The peer has closed: all is released with the error that flush returns, before it returns. */
static void failed(ends e, bool reset) {
    sendq_t* q = new_borrower(NULL, 1);
    piece pieces[COUNT];
    piece marks[COUNT];
    append_pieces(q, pieces, marks);
    if (reset) {
        struct linger none = {.l_onoff = 1, .l_linger = 0};
        CHECK_IS(setsockopt(e.peer, SOL_SOCKET, SO_LINGER, &none, sizeof none), 0);
    }
    close(e.peer);
    wait_for(e.queue, POLLOUT);
    int result = sendq_flush(q, e.queue, 0);
    CHECK(result == -ECONNRESET || (!reset && result == -EPIPE));
    check_all(pieces, marks, result);
    CHECK_IS(sendq_error(q), result);
    CHECK_IS(sendq_queued_bytes(q), 0);

    piece p;
    unsigned before = releases;
    CHECK_IS(piece_append(q, &p, bytes, EACH), result);
    CHECK_IS(piece_append(q, &p, bytes, 1), result);
    CHECK_IS(piece_notify(q, &p), result);
    CHECK_IS(piece_append_file(q, &p, 0, 0, 1), result);
    CHECK_IS(sendq_cork(q), result);
    CHECK_IS(sendq_uncork(q), result);
    CHECK_IS(sendq_rollback(q), result);
    sendq_free(q);
    CHECK_IS(releases, before);
    close(e.queue);
}

/* Fails with a part of a piece sent, more behind it, some of it corked, and a notification. */
static void failed_midway(void) {
    sendq_t* q = new_borrower(NULL, 1);
    piece pieces[5];
    ends e = ends_unix();
    ends_least_buffer(e);
    CHECK_IS(piece_append(q, &pieces[0], bytes, 100), SENDQ_WAKE);
    CHECK_IS(piece_append(q, &pieces[1], bytes, 1 << 20), SENDQ_HIGH);
    CHECK_IS(piece_notify(q, &pieces[2]), 0);
    CHECK_IS(sendq_cork(q), 0);
    CHECK_IS(piece_append(q, &pieces[3], bytes, EACH), SENDQ_HIGH);
    CHECK_IS(piece_notify(q, &pieces[4]), 0);
    CHECK_IS(sendq_flush(q, e.queue, 0) & ~SENDQ_RESUME, SENDQ_BLOCKED);
    pieces_check(pieces, 5, 1, 0);
    close(e.peer);
    int result = sendq_flush(q, e.queue, 0);
    CHECK(result == -EPIPE || result == -ECONNRESET);
    pieces_check(pieces + 1, 4, 4, result);
    CHECK_IS(pieces[0].reason, 0);
    sendq_free(q);
    close(e.queue);
}

static void spliced(void) {
    piece pieces[COUNT];
    piece marks[COUNT];
    for (int way = 0; way < 4; way++) {
        sendq_t* from = new_borrower(NULL, 1);
        sendq_t* to = new_borrower(NULL, 1);
        append_pieces(from, pieces, marks);
        CHECK_IS(sendq_splice(to, from), SENDQ_WAKE);
        pieces_check(pieces, COUNT, 0, 0);
        if (way % 2) {
            sendq_free(from);
        } else {
            check_usable(from);
        }
        pieces_check(pieces, COUNT, 0, 0);
        if (way < 2) {
            check_delivers(to, 0);
        } else {
            CHECK_IS(sendq_discard(to), 0);
        }
        check_all(pieces, marks, way < 2 ? 0 : -ECANCELED);
        if (way % 2 == 0) {
            sendq_free(from);
        }
        check_usable(to);
        sendq_free(to);
    }
}

static void null_release(void) {
    sendq_t* q = new_borrower(NULL, 100);
    piece p;
    CHECK_IS(sendq_append_ref(q, bytes, 99, NULL, NULL), SENDQ_WAKE);
    CHECK_IS(sendq_append_ref(q, bytes + 99, 101, NULL, &p), 0);
    CHECK_IS(piece_notify(q, &p), 0);
    CHECK_IS(sendq_append_ref(q, bytes + 200, 100, NULL, NULL), 0);
    CHECK_IS(sendq_notify(q, NULL, NULL), -EINVAL);
    CHECK_IS(sendq_consume(q, 150), 0);
    CHECK_IS(p.times, 0);
    CHECK_IS(sendq_consume(q, 50), 0);
    CHECK_IS(p.times, 1);
    check_delivers(q, 200);
    CHECK_IS(sendq_append_ref(q, bytes, 101, NULL, NULL), SENDQ_WAKE);
    CHECK_IS(sendq_discard(q), 0);
    CHECK_IS(sendq_append_ref(q, bytes, 101, NULL, NULL), SENDQ_WAKE);
    sendq_free(q);
}

static void notified(void) {
    sendq_t* q = new_borrower(NULL, 1);
    piece p[4];
    CHECK_IS(piece_notify(q, &p[0]), 0); /* nothing waits */
    pieces_check(p, 1, 1, 0);
    CHECK_IS(sendq_queued_bytes(q), 0);
    CHECK_IS(sendq_flush(q, -1, 0), 0);

    CHECK_IS(sendq_append(q, bytes, 10), SENDQ_WAKE);
    for (int i = 0; i < 3; i++) {
        CHECK_IS(piece_notify(q, &p[i]), 0);
    }
    CHECK_IS(sendq_append(q, bytes + 10, 10), 0);
    CHECK_IS(piece_notify(q, &p[3]), 0);
    CHECK_IS(sendq_consume(q, 9), 0);
    pieces_check(p, 4, 0, 0);
    CHECK_IS(sendq_consume(q, 1), 0);
    pieces_check(p, 4, 3, 0);
    CHECK_IS(sendq_consume(q, 10), 0);
    CHECK_IS(p[3].times, 1);
    check_usable(q);
    sendq_free(q);
}

/* Refused: the caller keeps its memory. */
static void refused(void) {
    unsigned before = releases;
    piece p;
    sendq_config_t config = {.size = sizeof config, .max = 10000, .copy_below = 1000};
    sendq_t* q = new_queue(NULL, &config);
    void* memory;
    for (size_t len = 500; len <= 5000; len += 4500) { /* copied, borrowed */
        CHECK_IS(sendq_append(q, bytes, 10001 - len), SENDQ_WAKE);
        CHECK_IS(piece_append(q, &p, bytes, len), -ENOBUFS);
        CHECK_IS(sendq_discard(q), 0);
        CHECK_IS(piece_append(q, &p, NULL, len), -EINVAL);
        CHECK_IS(sendq_reserve(q, 10, &memory), 0);
        CHECK_IS(piece_append(q, &p, bytes, len), -EBUSY);
        CHECK_IS(piece_append_file(q, &p, 0, 0, len), -EBUSY);
        CHECK_IS(piece_notify(q, &p), -EBUSY);
        CHECK_IS(sendq_cork(q), -EBUSY);
        CHECK_IS(sendq_commit(q, 0), 0);
    }
    CHECK_IS(piece_append(q, &p, bytes, SIZE_MAX), -EINVAL);
    CHECK_IS(sendq_close(q), 0);
    CHECK_IS(piece_append(q, &p, bytes, 0), -EPIPE);
    CHECK_IS(piece_append(q, &p, bytes, 1), -EPIPE);
    CHECK_IS(piece_append(q, &p, bytes, 1000), -EPIPE);
    CHECK_IS(piece_append_file(q, &p, 0, 0, 0), -EPIPE);
    CHECK_IS(piece_append_file(q, &p, 0, 0, 1), -EPIPE);
    CHECK_IS(piece_notify(q, &p), -EPIPE);
    sendq_free(q);
    CHECK_IS(piece_append(NULL, &p, bytes, 1), -EINVAL);
    CHECK_IS(releases, before);
}

/* Releases that call back in. The first release of a set does one thing to the queue; what caused
 * it is one of several: every pair has to end with each piece released once, and the queue usable,
 * unless it is gone. */
typedef enum {
    APPEND,
    APPEND_REF,
    APPEND_COPIED,
    NOTIFY,
    FLUSH,
    DISCARD,
    CONSUME,
    CORK,
    UNCORK,
    ROLLBACK,
    RESERVE,
    SPLICE_AWAY,
    SPLICE_HERE,
    CLOSE,
    FREE,
    ACTIONS
} action;

typedef enum {
    BY_FLUSH,
    BY_FLUSH_OF_ONE,
    BY_FAILURE,
    BY_CONSUME,
    BY_DISCARD,
    BY_ROLLBACK,
    BY_NOTIFY,
    BY_COPY,
    BY_FREE,
    CAUSES
} cause;

static struct {
    sendq_t* q;
    sendq_t* other;
    ends e;
    action what;
    bool done;
    bool freed;
    bool freeing; /* the queue is ending: only its release is left to do */
    piece late[2];
} inside;

static void act_release(void* arg, const void* data, size_t len, int reason) {
    piece_release(arg, data, len, reason);
    if (inside.done) {
        return;
    }
    inside.done = true;
    sendq_t* q = inside.q;
    void* memory;
    struct iovec iov[4];
    switch (inside.what) {
        case APPEND:
            sendq_append(q, bytes, EACH);
            break;
        case APPEND_REF:
            if (piece_append(q, &inside.late[0], bytes, EACH) < 0) {
                inside.late[0].times = 1;
            }
            break;
        case APPEND_COPIED:
            if (piece_append(q, &inside.late[0], bytes, 1) < 0) {
                inside.late[0].times = 1;
            }
            break;
        case NOTIFY:
            if (piece_notify(q, &inside.late[0]) < 0) {
                inside.late[0].times = 1;
            }
            break;
        case FLUSH:
            sendq_flush(q, inside.e.queue, 0);
            break;
        case DISCARD:
            sendq_discard(q);
            CHECK_IS(sendq_queued_bytes(q), 0);
            break;
        case CONSUME:
            sendq_consume(q, 10);
            CHECK(sendq_peek(q, iov, 4) >= 0);
            break;
        case CORK:
            if (sendq_cork(q) == 0) {
                sendq_append(q, bytes, 10);
                sendq_uncork(q);
            }
            break;
        case UNCORK:
            sendq_uncork(q);
            break;
        case ROLLBACK:
            if (sendq_cork(q) == 0) {
                if (piece_append(q, &inside.late[0], bytes, EACH) < 0) {
                    inside.late[0].times = 1;
                }
                sendq_append(q, bytes, 10);
                sendq_rollback(q);
            }
            break; /* like all that a release causes, it is released after that has returned */
        case RESERVE:
            if (sendq_reserve(q, EACH, &memory) == 0) {
                memset(memory, 1, EACH);
                CHECK(sendq_commit(q, EACH) >= 0);
            }
            break;
        case SPLICE_AWAY:
            sendq_splice(inside.other, q);
            break;
        case SPLICE_HERE:
            sendq_splice(q, inside.other);
            break;
        case CLOSE:
            CHECK_IS(sendq_close(q), 0);
            break;
        default:
            inside.freed = true;
            sendq_free(q);
            break;
    }
}

static void call_back(cause why, action what) {
    enum { PIECES = 6 };
    piece pieces[PIECES];
    piece others[1];
    size_t borrowed = PIECES;
    memset(&inside, 0, sizeof inside);
    inside.what = what;
    inside.e = ends_unix();
    inside.q = new_borrower(NULL, 100);
    inside.other = new_borrower(NULL, 100);
    inside.freeing = why == BY_FREE;
    sendq_t* q = inside.q;
    CHECK_IS(piece_append(inside.other, &others[0], bytes, EACH), SENDQ_WAKE);
    if (why == BY_ROLLBACK) {
        CHECK_IS(sendq_cork(q), 0);
    }
    if (why == BY_NOTIFY) {
        borrowed = 1;
        pieces[0] = (piece){0};
        CHECK_IS(sendq_notify(q, act_release, &pieces[0]), 0);
    } else if (why == BY_COPY) {
        borrowed = 1;
        pieces[0] = (piece){.data = bytes, .len = 99};
        CHECK_IS(sendq_append_ref(q, bytes, 99, act_release, &pieces[0]), SENDQ_WAKE);
    } else {
        for (size_t i = 0; i < PIECES; i++) {
            pieces[i] = (piece){.data = bytes + i, .len = EACH};
            int wake = i == 0 && why != BY_ROLLBACK ? SENDQ_WAKE : 0;
            CHECK_IS(sendq_append_ref(q, bytes + i, EACH, act_release, &pieces[i]), wake);
        }
    }
    switch (why) {
        case BY_FLUSH:
            CHECK(sendq_flush(q, inside.e.queue, 0) >= 0);
            break;
        case BY_FLUSH_OF_ONE:
            CHECK_IS(sendq_flush(q, inside.e.queue, EACH), SENDQ_MORE);
            break;
        case BY_FAILURE:
            CHECK_IS(sendq_flush(q, -1, 0), -EBADF);
            break;
        case BY_CONSUME:
            CHECK_IS(sendq_consume(q, 2 * EACH + 100), 0);
            break;
        case BY_DISCARD:
            CHECK_IS(sendq_discard(q), 0);
            break;
        case BY_ROLLBACK:
            CHECK_IS(sendq_rollback(q), 0);
            break;
        case BY_FREE:
            sendq_free(q);
            break;
        default:
            break;
    }
    CHECK(inside.done);
    if (!inside.freed && why != BY_FREE) {
        if (what != CLOSE && why != BY_FAILURE) {
            CHECK_IS(sendq_error(q), 0);
            CHECK_IS(sendq_discard(q), 0);
            check_usable(q);
        }
        sendq_free(q);
    }
    sendq_free(inside.other);
    for (size_t i = 0; i < borrowed; i++) {
        CHECK_IS(pieces[i].times, 1);
        CHECK(i == 0 || pieces[i].place > pieces[i - 1].place);
    }
    CHECK_IS(others[0].times, 1);
    if (inside.late[0].len > 0) { /* what a release has borrowed, and may have rolled back */
        CHECK_IS(inside.late[0].times, 1);
    }
    ends_close(inside.e);
}

static void call_back_in(void) {
    for (cause why = 0; why < CAUSES; why++) {
        for (action what = 0; what < ACTIONS; what++) {
            if (why != BY_FREE || what != FREE) { /* nobody frees twice */
                call_back(why, what);
            }
        }
    }
}

/* A release that appends the next piece, as a producer with one buffer does. */
static struct {
    sendq_t* q;
    int left;
    int depth;
} chain;

static void chain_release(void* arg, const void* data, size_t len, int reason) {
    CHECK(arg == &chain && data == bytes && len == EACH);
    CHECK_IS(reason, 0);
    CHECK_IS(chain.depth++,
             0); /* what is released by a flush inside comes after, or is not there */
    if (--chain.left > 0) {
        CHECK(sendq_append_ref(chain.q, bytes, EACH, chain_release, &chain) >= 0);
    }
    chain.depth--;
}

static void one_buffer(void) {
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){.chunk_bytes = 256, .keep_bytes = 1});
    chain.q = new_borrower(pool, 1);
    chain.left = 1000;
    CHECK_IS(sendq_append_ref(chain.q, bytes, EACH, chain_release, &chain), SENDQ_WAKE);
    int calls = 0;
    for (; sendq_queued_bytes(chain.q) > 0; calls++) {
        CHECK(calls < 1000);
        CHECK_IS(sendq_consume(chain.q, EACH), 0);
    }
    CHECK_IS(calls, 1000);
    CHECK_IS(chain.left, 0);
    sendq_free(chain.q);
    sendq_pool_free(pool);
}

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
    sent_whole();
    dropped();
    rolled_back();
    little_by_little(ends_unix(), false, 0, true);
    little_by_little(ends_unix(), false, 256, false);
    little_by_little(ends_tcp(), false, 256, true);
    little_by_little(ends_unix(), true, 256, false);
    little_by_little(ends_unix(), true, 0, true);
    copied();
    failed(ends_unix(), false);
    failed(ends_tcp(), true);
    failed_midway();
    spliced();
    null_release();
    notified();
    refused();
    call_back_in();
    one_buffer();
    discard_while_released();
    pump(0);
    pump(SENDQ_THREADSAFE);
    return 0;
}
