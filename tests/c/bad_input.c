/* Whatever a program gets wrong, it gets the errno that the header says; nothing is taken, and the
 * queue is as usable as it was. */
#include <fcntl.h>

#include "check.h"

enum { HALF = 1 << 9 };

static unsigned char bytes[1 << 10];

/* No address space has that many: refused for their number or for want of memory. */
static const size_t beyond_memory = (size_t)1 << 56;

/* For appends that must fail: then nobody releases. */
static void never(void* arg, const void* data, size_t len, int reason) {
    (void)arg, (void)data, (void)len, (void)reason;
    check_failed(__FILE__, __LINE__, "released what was refused");
}

static sendq_buf_t* payload;

static int64_t refuse(void* arg, const void* data, size_t len) {
    (void)arg, (void)data, (void)len;
    return -EAGAIN;
}

/* Calls, with the least that they need. */
#define CALL(name, expression)    \
    static int name(sendq_t* q) { \
        return expression;        \
    }

CALL(append, sendq_append(q, bytes, 1))
CALL(append_short_ref, sendq_append_ref(q, bytes, 1, never, NULL))
CALL(append_long_ref, sendq_append_ref(q, bytes, (size_t)1 << 20, never, NULL))
CALL(append_no_ref, sendq_append_ref(q, bytes, 0, NULL, NULL))
CALL(append_buf, sendq_append_buf(q, payload, 0, 1))
CALL(append_file, sendq_append_file(q, 0, 0, 1, never, NULL))
CALL(notify, sendq_notify(q, never, NULL))
CALL(commit_nothing, sendq_commit(q, 0))
CALL(commit_too_much, sendq_commit(q, HALF + 1))
CALL(fill, sendq_fill(q, (sendq_hole_t){0}, bytes, 1))
CALL(flush, sendq_flush(q, -1, 0))
CALL(flush_with, sendq_flush_with(q, refuse, NULL, 0))
CALL(flush_with_nobody, sendq_flush_with(q, NULL, NULL, 0))
CALL(consume, sendq_consume(q, 0))
CALL(consume_too_much, sendq_consume(q, SIZE_MAX))
CALL(close_within, sendq_close_within(q, UINT64_MAX))
CALL(set_watermarks, sendq_set_watermarks(q, 1, 1 << 20, 0))
CALL(set_rate, sendq_set_rate(q, 0, 0))
CALL(set_min_rate, sendq_set_min_rate(q, 0, 0))
CALL(set_min_rate_of_no_time, sendq_set_min_rate(q, 1, 0))
CALL(error_of, sendq_error(q))

static int append_vector(sendq_t* q) {
    struct iovec iov = {bytes, 1};
    return sendq_appendv(q, &iov, 1);
}

static int append_message(sendq_t* q) {
    sendq_part_t part = sendq_part_copy(bytes, 1);
    return sendq_append_message(q, &part, 1, never, NULL);
}

static int send_message(sendq_t* q) {
    sendq_part_t part = sendq_part_copy(bytes, 1);
    return sendq_send(q, -1, &part, 1, never, NULL, 0);
}

#if !defined(_WIN32)
static int send_vector(sendq_t* q) {
    struct iovec iov = {bytes, 1};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    ssize_t sent = sendq_sendmsg(q, -1, &msg, 0);
    return sent < 0 ? -errno : (int)sent;
}
#endif

static int reserve(sendq_t* q) {
    void* memory = bytes;
    int result = sendq_reserve(q, 1, &memory);
    CHECK(result == 0 || memory == NULL);
    return result;
}

static int hole(sendq_t* q) {
    sendq_hole_t hole = {7};
    int result = sendq_hole(q, 1, &hole);
    CHECK(result == 0 || hole.id == 0);
    return result;
}

static int splice_from(sendq_t* q) {
    sendq_t* to = new_queue(NULL, NULL);
    int result = sendq_splice(to, q);
    CHECK_IS(sendq_queued_bytes(to), 0);
    sendq_free(to);
    return result;
}

static int splice_to(sendq_t* q) {
    sendq_t* from = new_queue(NULL, NULL);
    CHECK_IS(sendq_append(from, bytes, 1), SENDQ_WAKE);
    int result = sendq_splice(q, from);
    CHECK_IS(sendq_queued_bytes(from), 1);
    sendq_free(from);
    return result;
}

static int splice_itself(sendq_t* q) {
    CHECK_IS(sendq_splice_n(q, q, 1), -EINVAL);
    return sendq_splice(q, q);
}

static int verify(sendq_t* q) {
    struct iovec iov = {bytes, 1};
    return sendq_verify(q, &iov, 1, 0, NULL);
}

static int fail_with_nothing(sendq_t* q) {
    CHECK_IS(sendq_fail(q, 5), -EINVAL);
    return sendq_fail(q, 0);
}

/* What each returns on NULL, on a queue that was closed, on one with a reservation, and on one
 * whose connection has ended. SKIPPED: it would change what the next one finds. */
enum { ENDED = -1000, SKIPPED = -1001 };

static const struct {
    const char* name;
    int (*run)(sendq_t* q);
    int of_null, closed, reserved, ended;
} calls[] = {
    {"append", append, -EINVAL, -EPIPE, -EBUSY, ENDED},
    {"appendv", append_vector, -EINVAL, -EPIPE, -EBUSY, ENDED},
    {"append_ref, short", append_short_ref, -EINVAL, -EPIPE, -EBUSY, ENDED},
    {"append_ref, long", append_long_ref, -EINVAL, -EPIPE, -EBUSY, ENDED},
    {"append_ref, nothing", append_no_ref, -EINVAL, -EPIPE, SKIPPED, ENDED},
    {"append_buf", append_buf, -EINVAL, -EPIPE, -EBUSY, ENDED},
    {"append_file", append_file, -EINVAL, -EPIPE, -EBUSY, ENDED},
    {"append_message", append_message, -EINVAL, -EPIPE, -EBUSY, ENDED},
    {"send", send_message, -EINVAL, -EPIPE, -EBUSY, ENDED},
#if !defined(_WIN32)
    {"sendmsg", send_vector, -EINVAL, -EPIPE, -EBUSY, ENDED},
#endif
    {"notify", notify, -EINVAL, -EPIPE, -EBUSY, ENDED},
    {"reserve", reserve, -EINVAL, -EPIPE, -EBUSY, ENDED},
    {"commit, nothing", commit_nothing, -EINVAL, -EPIPE, SKIPPED, ENDED},
    {"commit, too much", commit_too_much, -EINVAL, -EPIPE, -EINVAL, ENDED},
    {"hole", hole, -EINVAL, -EPIPE, -EBUSY, ENDED},
    {"fill, none", fill, -EINVAL, 0, 0, ENDED},
    {"cork", sendq_cork, -EINVAL, -EPIPE, -EBUSY, ENDED},
    {"uncork", sendq_uncork, -EINVAL, -EINVAL, -EINVAL, ENDED},
    {"rollback", sendq_rollback, -EINVAL, -EINVAL, -EINVAL, ENDED},
    {"splice from it", splice_from, -EINVAL, SKIPPED, -EBUSY, ENDED},
    {"splice to it", splice_to, -EINVAL, -EPIPE, -EBUSY, ENDED},
    {"splice to itself", splice_itself, -EINVAL, -EINVAL, -EINVAL, -EINVAL},
    {"end_message", sendq_end_message, -EINVAL, 0, 0, ENDED},
    {"discard_unstarted", sendq_discard_unstarted, -EINVAL, -EINVAL, -EINVAL, -EINVAL},
    {"flush", flush, -EINVAL, SKIPPED, SKIPPED, ENDED},
    {"flush_with", flush_with, -EINVAL, SENDQ_BLOCKED, SENDQ_BLOCKED, ENDED},
    {"flush_with, nobody", flush_with_nobody, -EINVAL, -EINVAL, -EINVAL, -EINVAL},
    {"verify", verify, -EINVAL, 0, 0, ENDED},
    {"consume, nothing", consume, -EINVAL, 0, 0, ENDED},
    {"consume, too much", consume_too_much, -EINVAL, -EINVAL, -EINVAL, ENDED},
    {"close", sendq_close, -EINVAL, 0, SKIPPED, 0},
    {"close_within", close_within, -EINVAL, 0, SKIPPED, 0},
    {"set_watermarks", set_watermarks, -EINVAL, 0, 0, 0},
    {"set_rate", set_rate, -EINVAL, 0, 0, 0},
    {"set_min_rate", set_min_rate, -EINVAL, 0, 0, 0},
    {"set_min_rate, no time", set_min_rate_of_no_time, -EINVAL, -EINVAL, -EINVAL, -EINVAL},
    {"schedule, no pool", sendq_schedule, -EINVAL, -EINVAL, -EINVAL, -EINVAL},
    {"fail, no error", fail_with_nothing, -EINVAL, -EINVAL, -EINVAL, -EINVAL},
    {"discard", sendq_discard, -EINVAL, SKIPPED, SKIPPED, 0},
    {"error", error_of, -EINVAL, 0, 0, ENDED},
    {"reset", sendq_reset, -EINVAL, SKIPPED, SKIPPED, SKIPPED},
};

enum { CALLS = sizeof calls / sizeof *calls };

static void check_call(size_t i, const char* state, sendq_t* q, int expected) {
    uint64_t waiting = sendq_queued_bytes(q);
    int result = expected == SKIPPED ? SKIPPED : calls[i].run(q);
    if (result != expected || sendq_queued_bytes(q) != waiting) {
        fprintf(stderr, "%s, %s: %d, expected %d\n", calls[i].name, state, result, expected);
        exit(1);
    }
}

/* The connection of q has ended with error: nothing is kept, and everything says so. */
static void check_ended(sendq_t* q, int error) {
    struct iovec iov;
    uint64_t sent = sendq_sent_bytes(q);
    CHECK(error < 0 && SENDQ_FAILED(error));
    CHECK_IS(sendq_queued_bytes(q), 0);
    for (size_t i = 0; i < CALLS; i++) {
        check_call(i, "ended", q, calls[i].ended == ENDED ? error : calls[i].ended);
    }
    CHECK_IS(sendq_peek(q, &iov, 1), 0);
    CHECK_IS(sendq_state(q), SENDQ_CLOSED);
    CHECK_IS(sendq_error(q), error);
    CHECK_IS(sendq_sent_bytes(q), sent);
}

static void states(void) {
    CHECK(!SENDQ_FAILED(0) && !SENDQ_FAILED(SENDQ_BLOCKED));
    void* memory;
    sendq_t* closed = new_queue(NULL, NULL);
    sendq_t* reserved = new_queue(NULL, NULL);
    CHECK_IS(sendq_append(closed, bytes, HALF), SENDQ_WAKE);
    CHECK_IS(sendq_close(closed), 0);
    CHECK_IS(sendq_append(reserved, bytes, HALF), SENDQ_WAKE);
    CHECK_IS(sendq_reserve(reserved, HALF, &memory), 0);
    stream_fill(memory, HALF, HALF);
    for (size_t i = 0; i < CALLS; i++) {
        check_call(i, "NULL", NULL, calls[i].of_null);
        check_call(i, "closed", closed, calls[i].closed);
        check_call(i, "reserved", reserved, calls[i].reserved);
    }
    CHECK_IS(sendq_error(closed), 0); /* the host ended it, the connection did not */
    check_delivers(closed, 0);
    CHECK_IS(sendq_append(closed, bytes, 1), -EPIPE);
    CHECK_IS(sendq_flush(closed, -1, 0), 0); /* nothing waits: nothing to fail */
    sendq_free(closed);
    CHECK_IS(sendq_commit(reserved, HALF), 0);
    CHECK_IS(sendq_commit(reserved, 0), -EINVAL); /* once */
    check_delivers(reserved, 0);
    CHECK_IS(sendq_reserve(reserved, HALF, &memory), 0);
    sendq_free(reserved);
}

/* NULL where a queue, a pool, a place or bytes belong. */
static void null_pointers(void) {
    sendq_t* q = (sendq_t*)bytes;
    struct iovec iov = {bytes, 1};
    sendq_hole_t none;
    CHECK_IS(sendq_pool_new(NULL, NULL), -EINVAL);
    CHECK_IS(sendq_new(NULL, NULL, NULL), -EINVAL);
    CHECK_IS(sendq_peek(NULL, &iov, 1), -EINVAL);
    CHECK_IS(sendq_state(NULL), -EINVAL);
    CHECK_IS(sendq_queued_bytes(NULL) + sendq_queued_memory(NULL) + sendq_sent_bytes(NULL), 0);
    CHECK_IS(sendq_queued_messages(NULL) + sendq_sent_messages(NULL) + sendq_memory(NULL), 0);
    CHECK_IS(sendq_stalled_ns(NULL) + sendq_room(NULL), 0);
    CHECK_IS(sendq_retry_after_ns(NULL), SENDQ_NEVER);
    CHECK(sendq_user(NULL) == NULL);
    CHECK(sendq_pool_next(NULL) == NULL);
    CHECK_IS(sendq_pool_retry_after_ns(NULL), SENDQ_NEVER);
    CHECK_IS(sendq_pool_set_rate(NULL, 1, 1), -EINVAL);
    CHECK_IS(sendq_pool_bytes(NULL), 0);
    CHECK_IS(sendq_pool_stalled(NULL, 0, &q, 1), -EINVAL);
    sendq_free(NULL);
    sendq_pool_free(NULL);

    q = new_queue(NULL, NULL);
    CHECK_IS(sendq_append(q, NULL, 1), -EINVAL);
    CHECK_IS(sendq_append(q, NULL, 0), 0);
    CHECK_IS(sendq_appendv(q, NULL, 1), -EINVAL);
    CHECK_IS(sendq_appendv(q, NULL, 0), 0);
    CHECK_IS(sendq_reserve(q, 1, NULL), -EINVAL);
    CHECK_IS(sendq_hole(q, 1, NULL), -EINVAL);
    CHECK_IS(sendq_hole(q, SIZE_MAX, &none), -EINVAL);
    CHECK_IS(none.id, 0);
    CHECK_IS(sendq_append_ref(q, NULL, 1, never, NULL), -EINVAL);
    CHECK_IS(sendq_append_ref(q, NULL, sizeof bytes << 10, never, NULL), -EINVAL);
    CHECK_IS(sendq_append_buf(q, NULL, 0, 1), -EINVAL);
    CHECK_IS(sendq_append_buf(q, NULL, 0, 0), -EINVAL);
    CHECK_IS(sendq_notify(q, NULL, bytes), -EINVAL);
    CHECK_IS(sendq_splice(q, NULL), -EINVAL);
    CHECK_IS(sendq_splice(NULL, q), -EINVAL);
    CHECK_IS(sendq_splice_n(q, NULL, 1), -EINVAL);
    CHECK_IS(sendq_peek(q, NULL, 1), -EINVAL);
    CHECK_IS(sendq_peek(q, NULL, 0), 0);
    CHECK_IS(sendq_peek(q, &iov, -1), -EINVAL);
    CHECK_IS(sendq_peek_parts(q, NULL, 1), -EINVAL);
    CHECK_IS(sendq_peek_parts(q, NULL, 0), 0);
    CHECK(sendq_user(q) == NULL);
    check_usable(q);
    sendq_free(q);
}

static void lengths(void) {
    sendq_t* q = new_queue(NULL, NULL);
    CHECK_IS(sendq_append(q, bytes, SIZE_MAX), -EINVAL);
    CHECK_IS(sendq_append(q, bytes, SIZE_MAX / 2 + 1), -EINVAL);
    CHECK_IS(sendq_append(q, bytes, SIZE_MAX / 2), -ENOMEM); /* an object could have as many */
    CHECK_IS(sendq_append(q, bytes, beyond_memory), -ENOMEM);
    CHECK_IS(sendq_append(q, bytes, 0), 0);
    CHECK_IS(sendq_append_ref(q, bytes, SIZE_MAX, never, NULL), -EINVAL);
    CHECK_IS(sendq_append_ref(q, bytes, SIZE_MAX / 2 + 1, never, NULL), -EINVAL);
    CHECK_IS(sendq_append_file(q, -1, 0, 0, never, NULL), -EBADF);
    CHECK_IS(sendq_append_file(q, 0, 0, UINT64_MAX, never, NULL), -EINVAL);
    CHECK_IS(sendq_append_file(q, 0, UINT64_MAX, 1, never, NULL), -EINVAL);
    CHECK_IS(sendq_append_file(q, -1, 0, 1, never, NULL), -EBADF);
    sendq_buf_t* buf = (sendq_buf_t*)bytes;
    CHECK_IS(sendq_buf_copy(NULL, bytes, SIZE_MAX, &buf), -EINVAL);
    CHECK(buf == NULL);
    CHECK_IS(sendq_buf_copy(NULL, bytes, beyond_memory, &buf), -ENOMEM);
    CHECK_IS(sendq_buf_wrap(NULL, bytes, SIZE_MAX, never, NULL, &buf), -EINVAL);
    CHECK(buf == NULL);
    check_usable(q);

    CHECK_IS(sendq_append(q, bytes, HALF), SENDQ_WAKE);
    CHECK_IS(sendq_append(q, bytes, SIZE_MAX), -EINVAL);
    CHECK_IS(sendq_append_ref(q, bytes, SIZE_MAX, never, NULL), -EINVAL);
    CHECK_IS(sendq_append(q, bytes, beyond_memory), -ENOMEM);
    CHECK_IS(sendq_append(q, bytes + HALF, HALF), 0);
    CHECK_IS(sendq_queued_bytes(q), sizeof bytes);
    check_delivers(q, 0);
    sendq_free(q);
}

static void vectors(void) {
    static const size_t quarter = SIZE_MAX / 4;
    sendq_t* q = new_queue(NULL, NULL);
    struct iovec huge[] = {
        {bytes, quarter}, {bytes, quarter}, {bytes, quarter}, {bytes, quarter}, {bytes, quarter}};
    struct iovec late_null[] = {{bytes, HALF}, {NULL, 1}, {bytes, HALF}};
    struct iovec late_long[] = {{bytes, HALF}, {bytes, SIZE_MAX}};
    struct iovec late_huge[] = {{bytes, HALF}, {bytes, beyond_memory}};
    struct iovec with_empty[] = {{NULL, 0}, {bytes, HALF}, {bytes, 0}, {NULL, 0}};
    CHECK_IS(sendq_appendv(q, huge, -1), -EINVAL);
    CHECK_IS(sendq_appendv(q, NULL, -1), -EINVAL);
    CHECK_IS(sendq_appendv(q, huge, 1), -ENOMEM);
    CHECK_IS(sendq_appendv(q, huge, 3), -EINVAL); /* more than PTRDIFF_MAX */
    CHECK_IS(sendq_appendv(q, huge, 5), -EINVAL); /* more than SIZE_MAX: the sum wraps around */
    CHECK_IS(sendq_appendv(q, late_null, 3), -EINVAL);
    CHECK_IS(sendq_appendv(q, late_long, 2), -EINVAL);
    CHECK_IS(sendq_appendv(q, late_huge, 2), -ENOMEM);
    CHECK_IS(sendq_queued_bytes(q), 0);
    CHECK_IS(sendq_appendv(q, with_empty, 4), SENDQ_WAKE);
    CHECK_IS(sendq_queued_bytes(q), HALF);
    CHECK_IS(sendq_appendv(q, with_empty, 1), 0); /* nothing in it */
    check_delivers(q, 0);
    check_usable(q);
    sendq_free(q);
}

static void reservations(void) {
    sendq_t* q = new_queue(NULL, NULL);
    void* memory = bytes;
    CHECK_IS(sendq_commit(q, 0), -EINVAL);
    CHECK_IS(sendq_commit(q, 1), -EINVAL);
    CHECK_IS(sendq_reserve(q, SIZE_MAX, &memory), -EINVAL);
    CHECK_IS(sendq_reserve(q, SIZE_MAX / 2 + 1, &memory), -EINVAL);
    CHECK_IS(sendq_reserve(q, SIZE_MAX / 2, &memory), -ENOMEM);
    memory = bytes;
    CHECK_IS(sendq_reserve(q, beyond_memory, &memory), -ENOMEM);
    CHECK(memory == NULL);
    CHECK_IS(sendq_commit(q, 0), -EINVAL);
    check_usable(q);

    /* Nothing said, and memory that all that waited has left behind. */
    CHECK_IS(sendq_append(q, bytes, HALF), SENDQ_WAKE);
    CHECK_IS(sendq_reserve(q, 100000, &memory), 0);
    check_delivers(q, 0);
    memset(memory, 1, 100000);
    CHECK_IS(sendq_commit(q, 0), 0);
    check_usable(q);

    /* The close comes in between. */
    CHECK_IS(sendq_append(q, bytes, HALF), SENDQ_WAKE);
    CHECK_IS(sendq_reserve(q, HALF, &memory), 0);
    CHECK_IS(sendq_close(q), 0);
    memset(memory, 0, HALF);
    CHECK_IS(sendq_commit(q, HALF), -EPIPE);
    CHECK_IS(sendq_queued_bytes(q), HALF);
    check_delivers(q, 0);
    sendq_free(q);
}

/* Flushes to what is no connection. */
static void flush_to(int fd, int error, int or_error) {
    sendq_t* q = new_queue(NULL, NULL);
    void* memory = NULL;
    CHECK_IS(sendq_append(q, bytes, sizeof bytes), SENDQ_WAKE);
    CHECK_IS(sendq_reserve(q, HALF, &memory), 0);
    int got = sendq_flush(q, fd, 0);
    CHECK(got == error || got == or_error);
    memset(memory, 0, HALF); /* reserved memory stays until the commit */
    CHECK_IS(sendq_commit(q, HALF), got);
    CHECK_IS(sendq_sent_bytes(q), 0);
    check_ended(q, got);
    sendq_free(q);
}

/* What a number without a socket gives, and a socket without a peer, or ENOTCONN. */
#if defined(_WIN32)
enum { NOTHING = ENOTSOCK, LONELY = ECONNRESET }; /* the second with wine */
#else
enum { NOTHING = EBADF, LONELY = EPIPE };
#endif

/* SIGPIPE has its default action here: raising it would end the test. */
static void wrong_sockets(void) {
    struct sockaddr_in address;
    ends e = ends_unix();
    int listener = tcp_listen(&address);
    int tcp = socket(AF_INET, SOCK_STREAM, 0);
    int local = socket(AF_UNIX, SOCK_STREAM, 0);
    int file = open("/dev/null", O_WRONLY);
    int pipes[2];
    CHECK(tcp >= 0 && local >= 0 && file >= 0);
    CHECK_IS(pipe(pipes), 0);

    flush_to(-1, -EBADF, -EBADF);
    flush_to(INT32_MAX, -NOTHING, -NOTHING);
    flush_to(INT32_MIN, -NOTHING, -NOTHING);
    flush_to(listener, -LONELY, -ENOTCONN);
    flush_to(tcp, -LONELY, -ENOTCONN);
    flush_to(local, -LONELY, -ENOTCONN);
    flush_to(pipes[1], -ENOTSOCK, -ENOTSOCK);
    flush_to(file, -ENOTSOCK, -ENOTSOCK);
    close(e.peer);
    flush_to(e.queue, -EPIPE, -ECONNRESET);
    close(e.queue);
    flush_to(e.queue, -NOTHING, -NOTHING);

    close(listener);
    close(tcp);
    close(local);
    close(file);
    close(pipes[0]);
    close(pipes[1]);
}

static void peer_resets(void) {
    static unsigned char much[4 << 20];
    ends e = ends_tcp();
    ends_least_buffer(e);
    sendq_t* q = new_queue(NULL, NULL);
    CHECK_IS(sendq_append(q, much, sizeof much), SENDQ_WAKE | SENDQ_HIGH);
    CHECK_IS(sendq_flush(q, e.queue, 0) & ~SENDQ_RESUME, SENDQ_BLOCKED);
    CHECK(sendq_sent_bytes(q) > 0);

    /* Closing with bytes unread or with no time to linger sends a reset. */
    struct linger none = {.l_onoff = 1, .l_linger = 0};
    CHECK_IS(setsockopt(e.peer, SOL_SOCKET, SO_LINGER, &none, sizeof none), 0);
    close(e.peer);
    wait_for(e.queue, POLLOUT);
    int got = sendq_flush(q, e.queue, 0);
    CHECK(got == -ECONNRESET || got == -EPIPE);
    check_ended(q, got);
    sendq_free(q);
    close(e.queue);
}

/* Gives what sendq_new says to a config, and checks that it made a queue only on success. */
static int try_queue(sendq_pool_t* pool, const void* config) {
    sendq_t* q = (sendq_t*)bytes;
    int result = sendq_new(pool, config, &q);
    CHECK((result == 0) == (q != NULL));
    if (q != NULL) {
        check_usable(q);
    }
    sendq_free(q);
    return result;
}

static int try_pool(const void* config) {
    sendq_pool_t* pool = (sendq_pool_t*)bytes;
    int result = sendq_pool_new(config, &pool);
    CHECK((result == 0) == (pool != NULL));
    if (pool != NULL) {
        CHECK_IS(try_queue(pool, NULL), 0);
    }
    sendq_pool_free(pool);
    return result;
}

static void queue_configs(void) {
    struct {
        sendq_config_t known;
        uint64_t later[4];
    } config = {.known.size = sizeof config};
    sendq_config_t* c = &config.known;
    CHECK_IS(try_queue(NULL, NULL), 0);
    CHECK_IS(try_queue(NULL, &config), 0); /* newer than sendq, asking for nothing new */
    config.later[3] = 1;
    CHECK_IS(try_queue(NULL, &config), -E2BIG);
    c->size = sizeof *c;
    CHECK_IS(try_queue(NULL, &config), 0);
    c->size = sizeof c->size; /* older than sendq */
    CHECK_IS(try_queue(NULL, &config), 0);
    for (c->size = 0; c->size < sizeof c->size; c->size++) {
        CHECK_IS(try_queue(NULL, &config), -EINVAL);
    }

    *c = (sendq_config_t){.size = sizeof *c, .flags = 1U << 31};
    CHECK_IS(try_queue(NULL, c), -EINVAL);
    c->flags = SENDQ_THREADSAFE | 1U << 30;
    CHECK_IS(try_queue(NULL, c), -EINVAL);
    *c = (sendq_config_t){.size = sizeof *c, .low = 2, .high = 1};
    CHECK_IS(try_queue(NULL, c), -EINVAL);
    *c = (sendq_config_t){.size = sizeof *c, .high = 5000, .max = 4999};
    CHECK_IS(try_queue(NULL, c), -EINVAL);
    *c = (sendq_config_t){.size = sizeof *c, .low = 5000, .max = 4999};
    CHECK_IS(try_queue(NULL, c), -EINVAL);
    *c = (sendq_config_t){.size = sizeof *c, .low = 5000, .high = 5000, .max = 5000};
    CHECK_IS(try_queue(NULL, c), 0);

    *c = (sendq_config_t){.size = sizeof *c, .flags = SENDQ_THREADSAFE};
    sendq_pool_t* confined = new_pool((sendq_pool_config_t){0});
    sendq_pool_t* shared = new_pool((sendq_pool_config_t){.flags = SENDQ_THREADSAFE});
    CHECK_IS(try_queue(confined, c), -EINVAL);
    CHECK_IS(try_queue(confined, NULL), 0);
    CHECK_IS(try_queue(shared, c), 0);
    CHECK_IS(try_queue(shared, NULL), 0);
    CHECK_IS(try_queue(NULL, c), 0);
    sendq_pool_free(confined);
    sendq_pool_free(shared);

    sendq_t* q = new_queue(NULL, NULL);
    CHECK_IS(sendq_set_watermarks(q, 2, 1, 0), -EINVAL);
    CHECK_IS(sendq_set_watermarks(q, 0, 2, 1), -EINVAL);
    CHECK_IS(sendq_set_watermarks(q, 2, 0, 1), -EINVAL);
    check_usable(q); /* no cap has come from any of them */
    sendq_free(q);
}

static void pool_configs(void) {
    struct {
        sendq_pool_config_t known;
        uint64_t later[4];
    } config = {.known.size = sizeof config};
    sendq_pool_config_t* c = &config.known;
    CHECK_IS(try_pool(NULL), 0);
    CHECK_IS(try_pool(&config), 0);
    config.later[0] = 1;
    CHECK_IS(try_pool(&config), -E2BIG);
    c->size = sizeof *c;
    CHECK_IS(try_pool(&config), 0);
    c->size = sizeof c->size;
    CHECK_IS(try_pool(&config), 0);
    for (c->size = 0; c->size < sizeof c->size; c->size++) {
        CHECK_IS(try_pool(&config), -EINVAL);
    }

    *c = (sendq_pool_config_t){.size = sizeof *c, .flags = 1U << 31};
    CHECK_IS(try_pool(c), -EINVAL);
    *c = (sendq_pool_config_t){.size = sizeof *c, .chunk_bytes = 1};
    CHECK_IS(try_pool(c), -EINVAL);
    c->chunk_bytes = 255;
    CHECK_IS(try_pool(c), -EINVAL);
    c->chunk_bytes = 256;
    CHECK_IS(try_pool(c), 0);
    *c = (sendq_pool_config_t){.size = sizeof *c, .chunk_bytes = 256, .keep_bytes = UINT64_MAX};
    CHECK_IS(try_pool(c), 0);

    /* Queues keep their pool alive. */
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){0});
    sendq_t* first = new_queue(pool, NULL);
    sendq_t* second = new_queue(pool, NULL);
    sendq_pool_free(pool);
    check_usable(first);
    sendq_free(first);
    check_usable(second);
    sendq_free(second);
}

int main(void) {
    stream_fill(bytes, 0, sizeof bytes);
    CHECK_IS(sendq_buf_copy(NULL, bytes, 1, &payload), 0);
    states();
    null_pointers();
    lengths();
    vectors();
    reservations();
    wrong_sockets();
    peer_resets();
    queue_configs();
    pool_configs();
    sendq_buf_unref(payload);
    return 0;
}
