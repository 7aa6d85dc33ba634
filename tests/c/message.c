/* Messages where the model does not get: parts that own descriptors, real sockets that are full,
 * long chains of releases, bad input; and a test for each bug that it found. */
#include "check.h"

#include <fcntl.h>

enum { BODY = 16384 };

static unsigned char bytes[4 << 20];

/* The owner of a message or of a part. */
typedef struct {
    int times;
    int reason;
    size_t len;
    const void* data;
} owner;

static void release(void* arg, const void* data, size_t len, int reason) {
    owner* o = arg;
    CHECK_IS(o->times++, 0);
    o->reason = reason;
    o->len = len;
    o->data = data;
}

static void check_released(const owner* o, size_t len, int reason) {
    CHECK_IS(o->times, 1);
    CHECK_IS(o->len, len);
    CHECK_IS(o->reason, reason);
}

static sendq_t* new_counter(uint64_t max_messages) {
    sendq_config_t config = {
        .size = sizeof config, .flags = SENDQ_MESSAGES, .max_messages = max_messages};
    return new_queue(NULL, &config);
}

/* A header of 24 bytes, a body and a trailer of 5, of the test stream from an offset on. */
static int append(sendq_t* q, uint64_t at, size_t body, owner* o) {
    *o = (owner){0};
    sendq_part_t parts[] = {
        sendq_part_copy(bytes + at, 24),
        sendq_part_ref(bytes + at + 24, body),
        sendq_part_copy(bytes + at + 24 + body, 5),
    };
    return sendq_append_message(q, parts, 3, release, o);
}

static void check_left(ends e, uint64_t offset, size_t len) {
    static unsigned char got[65536];
    for (size_t n; len > 0; len -= n, offset += n) {
        n = ends_read(e, got, sizeof got < len ? sizeof got : len);
        CHECK(n > 0);
        stream_check(got, offset, n);
    }
}

static void parts_of_all_kinds(void) {
    sendq_t* q = new_counter(0);
    FILE* file = file_of(bytes, 1000);
    sendq_buf_t* buf;
    CHECK_IS(sendq_buf_copy(NULL, bytes + 100, 20000, &buf), 0);
    owner all = {0}, own = {0}, small = {0}, empty = {0};
    int fd = dup(fileno(file));
    sendq_part_t parts[] = {
        sendq_part_copy(bytes, 50),
        sendq_part_own(bytes + 50, 50, release, &small),
        sendq_part_buf(buf, 0, 20000),
        sendq_part_own(bytes + 20100, 10000, release, &own),
        sendq_part_ref(bytes + 30100, 10000),
        sendq_part_own(bytes, 0, release, &empty),
        (sendq_part_t){0},
    };
    CHECK_IS(sendq_append_message(q, parts, 7, release, &all), SENDQ_WAKE);
    check_released(&small, 50, 0);
    check_released(&empty, 0, 0);
    CHECK_IS(own.times + all.times, 0);
    sendq_buf_unref(buf);
    check_delivers(q, 0);
    check_released(&own, 10000, 0);
    CHECK(own.data == bytes + 20100);
    check_released(&all, 40100, 0);

    /* What is contiguous is one part, also of several pieces. */
    CHECK_IS(sendq_append_ref(q, bytes, 9000, NULL, NULL), SENDQ_WAKE);
    CHECK_IS(sendq_append_ref(q, bytes + 9000, 9000, NULL, NULL), 0);
    sendq_part_t touching[2];
    CHECK_IS(sendq_peek_parts(q, touching, 2), 1);
    CHECK_IS(touching[0].len, 18000);
    check_delivers(q, 0);
    CHECK_IS(sendq_end_message(q), 0);

    /* Files: the one stays open, the other is closed. */
    all = (owner){0};
    sendq_part_t files[] = {
        sendq_part_file(fileno(file), 0, 600),
        sendq_part_owned_file(fd, 600, 400),
    };
    CHECK_IS(sendq_append_message(q, files, 2, release, &all), SENDQ_WAKE);
    sendq_part_t peeked[4];
    CHECK_IS(sendq_peek_parts(q, peeked, 4), 2);
    CHECK_IS(peeked[0].kind, SENDQ_PART_FILE);
    CHECK_IS(peeked[1].offset, 600);
    check_delivers(q, 0);
    check_released(&all, 1000, 0);
    CHECK_IS(fcntl(fd, F_GETFD), -1);
    CHECK(fcntl(fileno(file), F_GETFD) >= 0);
    CHECK_IS(sendq_sent_messages(q), 3);
    fclose(file);
    sendq_free(q);
}

/* What a full socket refuses is kept, and what comes then is sent behind it. */
static void sent_to_a_full_socket(void) {
    ends e = ends_tcp();
    ends_least_buffer(e);
    sendq_t* q = new_counter(0);
    enum { COUNT = 200 };
    owner owners[COUNT] = {{0}};
    size_t each = 24 + BODY;
    int hints = 0;
    for (size_t i = 0; i < COUNT; i++) {
        sendq_part_t parts[] = {
            sendq_part_copy(bytes + i * each, 24),
            sendq_part_ref(bytes + i * each + 24, BODY),
        };
        hints = sendq_send(q, e.queue, parts, 2, release, &owners[i], 0);
        CHECK(hints >= 0);
    }
    CHECK(hints & SENDQ_BLOCKED);
    uint64_t queued = sendq_queued_bytes(q), sent = sendq_sent_bytes(q);
    CHECK_IS(queued + sent, COUNT * each);
    CHECK(sendq_queued_messages(q) > 0);
    static unsigned char got[65536];
    for (uint64_t at = 0; at < COUNT * each;) {
        size_t n = ends_read(e, got, sizeof got);
        stream_check(got, at, n);
        at += n;
        CHECK(sendq_flush(q, e.queue, 0) >= 0);
        if (n == 0) {
            wait_for(e.queue, POLLOUT);
        }
    }
    for (size_t i = 0; i < COUNT; i++) {
        CHECK_IS(owners[i].times, 1);
        CHECK_IS(owners[i].reason, 0);
    }
    CHECK_IS(sendq_sent_messages(q), COUNT);
    /* The peer is gone: nothing is taken, and the owner keeps its memory. */
    close(e.peer);
    owner last = {0};
    sendq_part_t part = sendq_part_ref(bytes, BODY);
    int result = 0;
    for (int i = 0; i < 1000 && result >= 0; i++) {
        last = (owner){0};
        result = sendq_send(q, e.queue, &part, 1, release, &last, 0);
    }
    CHECK(result == -EPIPE || result == -ECONNRESET);
    CHECK_IS(last.times, 0);
    CHECK_IS(sendq_error(q), result);
    close(e.queue);
    sendq_free(q);
}

/* The rest of a message that has begun to leave is kept whatever the budget; one that has not is
 * refused. */
static void sent_without_budget(void) {
    ends e = ends_unix();
    ends_least_buffer(e);
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){.max_bytes = 8192});
    sendq_config_t config = {.size = sizeof config, .max = sizeof bytes};
    sendq_t *q = new_queue(pool, &config), *other = new_queue(pool, &config);
    CHECK_IS(sendq_append(other, bytes, 7000), SENDQ_WAKE);
    owner o = {0}, refused = {0};
    sendq_part_t all = sendq_part_ref(bytes, sizeof bytes);
    sendq_part_t more[] = {sendq_part_copy(bytes, 1), all};
    CHECK_IS(sendq_send(q, e.queue, more, 2, release, &refused, 0), -ENOBUFS); /* over max */
    CHECK_IS(sendq_send(q, e.queue, &all, 1, release, &o, 0), SENDQ_BLOCKED | SENDQ_HIGH);
    uint64_t sent = sendq_sent_bytes(q);
    CHECK(sent > 0 && sent < sizeof bytes);
    sendq_part_t part = sendq_part_ref(bytes, 100000);
    CHECK_IS(sendq_send(q, e.queue, &part, 1, release, &refused, 0), -ENOBUFS);
    CHECK_IS(refused.times, 0);
    CHECK_IS(sendq_error(q), 0);
    CHECK_IS(o.times, 0);
    sendq_free(q);
    check_released(&o, (size_t)sent, -ECANCELED);
    sendq_free(other);
    sendq_pool_free(pool);
    ends_close(e);
}

/* The owner of a message that is divided waits for both halves, in whatever order they go. */
static void spliced_message(bool moved_first, bool discarded) {
    sendq_t *from = new_counter(0), *to = new_counter(0);
    owner o = {0};
    sendq_part_t parts[] = {
        sendq_part_copy(bytes, 100),
        sendq_part_ref(bytes + 100, 9000),
        sendq_part_ref(bytes + 9100, 9000),
        sendq_part_copy(bytes + 18100, 100),
    };
    CHECK_IS(sendq_append_message(from, parts, 4, release, &o), SENDQ_WAKE);
    CHECK_IS(sendq_splice_n(to, from, 9100), SENDQ_WAKE);
    if (moved_first) {
        check_delivers(to, 0);
        CHECK_IS(o.times, 0);
    }
    if (discarded) {
        CHECK_IS(sendq_discard(from), 0);
    } else {
        check_delivers(from, 9100);
    }
    if (!moved_first) {
        CHECK_IS(o.times, 0);
        check_delivers(to, 0);
    }
    check_released(&o, discarded ? 9100 : 18200, discarded ? -ECANCELED : 0);
    sendq_free(from);
    sendq_free(to);
}

/* The owner of a message waits for each of its pieces, also for those that move on from where they
 * were moved to. */
static void spliced_twice(void) {
    sendq_t *from = new_counter(0), *to = new_counter(0), *last = new_counter(0);
    owner o = {0};
    sendq_part_t parts[] = {
        sendq_part_ref(bytes, 9000),
        sendq_part_ref(bytes + 9000, 9000),
        sendq_part_ref(bytes + 18000, 9000),
    };
    CHECK_IS(sendq_append_message(from, parts, 3, release, &o), SENDQ_WAKE);
    CHECK_IS(sendq_splice_n(to, from, 18000), SENDQ_WAKE);
    CHECK_IS(sendq_splice_n(last, to, 9000), SENDQ_WAKE);
    check_delivers(to, 9000);
    check_delivers(from, 18000);
    CHECK_IS(o.times, 0);
    check_delivers(last, 0);
    CHECK_IS(o.times, 1);
    sendq_free(from);
    sendq_free(to);
    sendq_free(last);
}

/* A piece of which a part was sent, behind a notification that was, moves with what was sent of it.
 */
static void discarded_behind_a_part(void) {
    ends e = ends_unix();
    sendq_t *from = new_counter(0), *to = new_counter(0);
    owner note = {0}, lost = {0}, last = {0};
    CHECK_IS(sendq_cork(from), 0);
    CHECK_IS(sendq_notify(from, release, &note), 0);
    CHECK_IS(sendq_append_ref(from, bytes, 8192, release, &lost), 0);
    CHECK_IS(sendq_uncork(from), SENDQ_WAKE);
    CHECK_IS(sendq_flush(from, e.queue, 2565), SENDQ_MORE);
    check_released(&note, 0, 0);
    CHECK_IS(sendq_append(to, bytes, 10), SENDQ_WAKE);
    CHECK_IS(sendq_end_message(to), 0);
    CHECK_IS(sendq_consume(to, 4), 0);
    CHECK_IS(sendq_splice(to, from), 0);
    CHECK_IS(sendq_end_message(to), 0);
    CHECK_IS(sendq_discard_unstarted(to), 0);
    CHECK_IS(sendq_queued_bytes(to), 6);
    check_released(&lost, 8192, -ECANCELED);
    CHECK_IS(sendq_append_ref(to, bytes + 10, 9000, release, &last), 0);
    check_delivers(to, 4);
    check_released(&last, 9000, 0);
    sendq_free(from);
    sendq_free(to);
    ends_close(e);
}

/* A release that sends the next message, as a server does that streams: the stack does not grow. */
typedef struct {
    sendq_t* q;
    int left;
    int how;
} chain;

static void next(void* arg, const void* data, size_t len, int reason) {
    chain* c = arg;
    (void)data, (void)len;
    if (reason != 0 || c->left-- == 0) {
        return;
    }
    sendq_part_t part = sendq_part_ref(bytes, c->how == 0 ? 10 : 0);
    CHECK(sendq_append_message(c->q, &part, 1, next, c) >= 0);
}

static void chained(int how) {
    chain c = {new_counter(0), 300000, how};
    sendq_part_t part = sendq_part_ref(bytes, BODY);
    CHECK_IS(sendq_append_message(c.q, &part, 1, next, &c), SENDQ_WAKE);
    while (sendq_queued_bytes(c.q) > 0) {
        CHECK(sendq_consume(c.q, sendq_queued_bytes(c.q)) >= 0);
    }
    CHECK_IS(c.left, -1);
    sendq_free(c.q);
}

static void bad_input(void) {
    sendq_t* q = new_counter(0);
    owner o = {0};
    sendq_buf_t* buf;
    CHECK_IS(sendq_buf_copy(NULL, bytes, 10, &buf), 0);
    sendq_part_t unknown = sendq_part_copy(bytes, 1);
    unknown.kind = 77;
    const struct {
        sendq_part_t part;
        int error;
    } table[] = {
        {unknown, -EINVAL},
        {sendq_part_copy(NULL, 1), -EINVAL},
        {sendq_part_ref(bytes, SIZE_MAX), -EINVAL},
        {sendq_part_buf(NULL, 0, 1), -EINVAL},
        {sendq_part_buf(buf, 5, 6), -EINVAL},
        {sendq_part_buf(buf, SIZE_MAX, 2), -EINVAL},
        {sendq_part_file(-1, 0, 1), -EBADF},
        {sendq_part_owned_file(0, UINT64_MAX, 1), -EINVAL},
        {sendq_part_file(0, 1, INT64_MAX), -EINVAL},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        sendq_part_t parts[] = {sendq_part_copy(bytes, 1), table[i].part};
        CHECK_IS(sendq_append_message(q, parts, 2, release, &o), table[i].error);
        CHECK_IS(sendq_send(q, 0, parts, 2, release, &o, 0), table[i].error);
    }
    sendq_part_t sum[] = {sendq_part_file(0, 0, INT64_MAX), sendq_part_file(0, 0, INT64_MAX)};
    CHECK_IS(sendq_append_message(q, sum, 2, release, &o), -EINVAL);
    CHECK_IS(sendq_append_message(q, sum, -1, release, &o), -EINVAL);
    CHECK_IS(sendq_append_message(q, NULL, 1, release, &o), -EINVAL);
    CHECK_IS(o.times, 0);
    CHECK_IS(sendq_queued_bytes(q), 0);
    CHECK_IS(sendq_append_message(q, NULL, 0, release, &o), 0);
    check_released(&o, 0, 0);
    CHECK_IS(sendq_queued_messages(q), 0);
    sendq_buf_unref(buf);
    sendq_free(q);
    q = new_queue(NULL, NULL);
    CHECK_IS(sendq_discard_unstarted(q), -EINVAL);
    CHECK_IS(append(q, 0, BODY, &o), SENDQ_WAKE);
    CHECK_IS(sendq_end_message(q), 0);
    CHECK_IS(sendq_queued_messages(q), 0);
    sendq_free(q);
    check_released(&o, 0, -ECANCELED);
}

/* A message whose last block was not needed leaves it to nobody: a reservation behind it sends its
 * own bytes. */
static void reserved_behind_a_message(void) {
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){.chunk_bytes = 256});
    sendq_config_t config = {.size = sizeof config, .copy_below = 100};
    sendq_t* q = new_queue(pool, &config);
    for (uint64_t at = 0; at < 40000;) {
        size_t copied = 1 + at % 997;
        sendq_part_t parts[] = {
            sendq_part_ref(bytes + at, 100),
            sendq_part_copy(bytes + at + 100, copied),
        };
        CHECK(sendq_append_message(q, parts, 2, NULL, NULL) >= 0);
        at += 100 + copied;
        void* reserved;
        CHECK_IS(sendq_reserve(q, 2, &reserved), 0);
        memcpy(reserved, bytes + at, 2);
        CHECK_IS(sendq_commit(q, 2), 0);
        at += 2;
    }
    check_delivers(q, 0);
    CHECK_IS(sendq_memory(q), 0);
    sendq_pool_stats_t stats;
    CHECK_IS(sendq_pool_stats(pool, &stats, sizeof stats), 0);
    CHECK_IS(stats.used, 0);
    sendq_free(q);
    sendq_pool_free(pool);
}

/* A message that has begun to leave moves behind others: it has none of their pieces, and its owner
 * does not wait for them. */
static void spliced_after_its_beginning(void) {
    ends e = ends_unix();
    sendq_t *from = new_counter(0), *to = new_counter(0);
    FILE* file = file_of(bytes, 20000);
    owner o = {0};
    CHECK_IS(sendq_append_file(to, fileno(file), 0, 20000, NULL, NULL), SENDQ_WAKE);
    CHECK_IS(sendq_end_message(to), 0);
    CHECK_IS(sendq_consume(to, 1), 0);
    sendq_part_t parts[] = {
        sendq_part_ref(bytes, 9000),
        sendq_part_copy(bytes, 100),
        sendq_part_ref(bytes, 9000),
    };
    CHECK_IS(sendq_append_message(from, parts, 3, release, &o), SENDQ_WAKE);
    CHECK_IS(sendq_flush(from, e.queue, 9100), SENDQ_MORE);
    CHECK_IS(sendq_splice(to, from), 0);
    CHECK_IS(sendq_discard_unstarted(to), 0);
    CHECK_IS(sendq_queued_bytes(to), 19999);
    CHECK_IS(o.times, 1);
    sendq_free(from);
    sendq_free(to);
    CHECK_IS(fclose(file), 0);
    ends_close(e);
}

/* The boundaries move with the bytes, and no others; what was the most is remembered. */
static void spliced_boundaries(void) {
    sendq_t *from = new_counter(0), *to = new_counter(0);
    owner o;
    for (uint64_t i = 0; i < 3; i++) {
        CHECK(append(from, i * 129, 100, &o) >= 0);
    }
    CHECK_IS(sendq_splice_n(to, from, 129 + 29), SENDQ_WAKE);
    CHECK_IS(sendq_queued_messages(to), 2); /* one, and a part of another */
    CHECK_IS(sendq_queued_messages(from), 2);
    CHECK_IS(sendq_sent_messages(from), 1);
    sendq_stats_t stats;
    CHECK_IS(sendq_stats(from, &stats, sizeof stats), 0);
    CHECK_IS(stats.peak_waiting, 387);
    check_delivers(to, 0);
    CHECK_IS(sendq_sent_messages(to), 1);
    check_delivers(from, 158);
    CHECK_IS(sendq_sent_messages(from), 3);
    sendq_free(from);
    sendq_free(to);
}

static int64_t refuses(void* arg, const void* data, size_t len) {
    (void)len;
    *(const void**)arg = data;
    return -EAGAIN;
}

/* What a write callback has refused stays where it is, whatever is tried with the queue. */
static void spliced_after_a_refusal(void) {
    sendq_t *from = new_counter(0), *to = new_counter(0);
    const void *first = NULL, *again = NULL;
    CHECK_IS(sendq_append_ref(from, bytes, 20000, NULL, NULL), SENDQ_WAKE);
    CHECK_IS(sendq_flush_with(from, refuses, &first, 0), SENDQ_BLOCKED);
    CHECK_IS(sendq_splice_n(to, from, 1), -EBUSY);
    CHECK_IS(sendq_flush_with(from, refuses, &again, 0), SENDQ_BLOCKED);
    CHECK(first == again);
    CHECK_IS(sendq_splice_n(to, from, 20000), SENDQ_WAKE);
    sendq_free(from);
    sendq_free(to);
}

/* max_messages refuses what would begin a message, and nothing else. */
static void full_of_messages(void) {
    ends e = ends_unix();
    sendq_t* q = new_counter(1);
    owner o = {0};
    CHECK(append(q, 0, 100, &o) >= 0);
    CHECK_IS(sendq_append(q, bytes, 1), -ENOBUFS);
    CHECK_IS(sendq_cork(q), 0);
    CHECK_IS(sendq_uncork(q), 0);
    o = (owner){0};
    CHECK_IS(sendq_notify(q, release, &o), 0);
    /* What is queued is sent first, and then there is room. */
    sendq_part_t part = sendq_part_copy(bytes + 129, 71);
    CHECK_IS(sendq_send(q, e.queue, &part, 1, NULL, NULL, 0), 0);
    CHECK_IS(o.times, 1);
    CHECK(append(q, 200, 100, &o) >= 0);
    CHECK_IS(sendq_flush(q, e.queue, 0), 0);
    check_left(e, 0, 329);
    sendq_free(q);
    ends_close(e);
}

/* A hole at the end of a message is a part of it, such as a checksum. */
static void hole_at_the_end(void) {
    sendq_t* q = new_counter(0);
    sendq_hole_t hole, lost;
    owner next;
    CHECK_IS(sendq_append(q, bytes, 100), SENDQ_WAKE);
    CHECK_IS(sendq_hole(q, 8, &hole), 0);
    CHECK_IS(sendq_end_message(q), 0);
    CHECK(append(q, 108, 100, &next) >= 0);
    CHECK_IS(sendq_consume(q, 100), 0);
    CHECK_IS(sendq_sent_messages(q), 0);
    CHECK_IS(sendq_queued_messages(q), 2);
    /* It has begun, so that it stays. */
    CHECK_IS(sendq_discard_unstarted(q), 0);
    CHECK_IS(sendq_queued_messages(q), 1);
    CHECK_IS(sendq_fill(q, hole, bytes + 100, 8), SENDQ_WAKE);
    CHECK_IS(sendq_hole(q, 8, &lost), 0);
    CHECK(append(q, 108, 100, &next) >= 0);
    CHECK_IS(sendq_queued_messages(q), 2);
    /* The one behind it belongs to the next message. */
    CHECK_IS(sendq_discard_unstarted(q), 0);
    CHECK_IS(sendq_fill(q, lost, bytes, 8), 0);
    check_delivers(q, 100);
    CHECK_IS(sendq_sent_messages(q), 1);
    sendq_free(q);
    /* A lone one at the end, too. */
    q = new_counter(0);
    CHECK_IS(sendq_append(q, bytes, 100), SENDQ_WAKE);
    CHECK_IS(sendq_consume(q, 50), 0);
    CHECK_IS(sendq_end_message(q), 0);
    CHECK_IS(sendq_hole(q, 8, &lost), 0);
    CHECK_IS(sendq_discard_unstarted(q), 0);
    CHECK_IS(sendq_fill(q, lost, bytes, 8), 0);
    check_delivers(q, 50);
    sendq_free(q);
}

/* What is reserved is where it was, or the call says no. */
static void discarded_with_a_reservation(void) {
    sendq_t* q = new_counter(0);
    owner o;
    void* reserved;
    CHECK(append(q, 0, 100, &o) >= 0);
    CHECK(append(q, 129, 100, &o) >= 0);
    CHECK_IS(sendq_consume(q, 1), 0);
    CHECK_IS(sendq_reserve(q, 5000, &reserved), 0);
    CHECK_IS(sendq_discard_unstarted(q), -EBUSY);
    memcpy(reserved, bytes + 258, 5000);
    CHECK_IS(sendq_commit(q, 5000), 0);
    check_delivers(q, 1);
    sendq_free(q);
}

/* Nothing asks to be called that cannot do anything. */
static void no_more_than_the_budget(void) {
    ends e = ends_unix();
    sendq_t* q = new_counter(0);
    CHECK_IS(sendq_append(q, bytes, 10), SENDQ_WAKE);
    CHECK_IS(sendq_cork(q), 0);
    sendq_part_t part = sendq_part_copy(bytes, 10);
    CHECK_IS(sendq_send(q, e.queue, &part, 1, NULL, NULL, 10), 0);
    CHECK_IS(sendq_send(q, e.queue, &part, 1, NULL, NULL, 10), 0);
    CHECK_IS(sendq_queued_bytes(q), 20);
    sendq_free(q);
    ends_close(e);
}

/* A cork that stays while what is behind it is discarded holds no memory. */
static void corked_and_discarded(void) {
    sendq_t* q = new_counter(0);
    CHECK_IS(sendq_append(q, bytes, 10), SENDQ_WAKE);
    CHECK_IS(sendq_end_message(q), 0);
    CHECK_IS(sendq_cork(q), 0);
    CHECK_IS(sendq_append_ref(q, bytes + 10, BODY, NULL, NULL), 0);
    CHECK_IS(sendq_consume(q, 1), 0);
    CHECK_IS(sendq_discard_unstarted(q), 0);
    check_delivers(q, 1);
    CHECK_IS(sendq_memory(q), 0);
    CHECK_IS(sendq_append(q, bytes, 10), 0);
    CHECK_IS(sendq_uncork(q), SENDQ_WAKE);
    check_delivers(q, 0);
    sendq_free(q);
}

/* In a release callback: what is queued is one message, and ten bytes are another. */
typedef struct {
    sendq_t* q;
    owner appended;
} appender;

static void append_another(void* arg, const void* data, size_t len, int reason) {
    appender* a = arg;
    (void)data, (void)len, (void)reason;
    sendq_part_t part = sendq_part_copy(bytes, 10);
    CHECK_IS(sendq_end_message(a->q), 0);
    CHECK(sendq_append_message(a->q, &part, 1, release, &a->appended) >= 0);
}

/* The owner of a message that was appended in a callback precedes it, and is discarded with it. */
static void discarded_behind_its_owner(void) {
    appender a = {.q = new_counter(0)};
    CHECK(sendq_append_ref(a.q, bytes, BODY, append_another, &a) >= 0);
    CHECK(sendq_append(a.q, bytes, 4) >= 0);
    CHECK(sendq_consume(a.q, BODY) >= 0);
    CHECK_IS(sendq_queued_bytes(a.q), 14);
    CHECK(sendq_discard_unstarted(a.q) >= 0);
    CHECK_IS(sendq_queued_bytes(a.q), 4);
    check_released(&a.appended, 0, -ECANCELED);
    sendq_free(a.q);
}

int main(void) {
    stream_fill(bytes, 0, sizeof bytes);
    parts_of_all_kinds();
    sent_to_a_full_socket();
    sent_without_budget();
    for (int how = 0; how < 4; how++) {
        spliced_message(how & 1, how & 2);
    }
    spliced_twice();
    discarded_behind_a_part();
    chained(0);
    chained(1);
    bad_input();
    reserved_behind_a_message();
    spliced_after_its_beginning();
    spliced_boundaries();
    spliced_after_a_refusal();
    full_of_messages();
    hole_at_the_end();
    discarded_with_a_reservation();
    no_more_than_the_budget();
    corked_and_discarded();
    discarded_behind_its_owner();
    return 0;
}
