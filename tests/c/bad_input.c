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

static void null_handles(void) {
    sendq_t* q = (sendq_t*)bytes;
    void* memory = bytes;
    struct iovec iov = {bytes, 1};
    CHECK_IS(sendq_pool_new(NULL, NULL), -EINVAL);
    CHECK_IS(sendq_new(NULL, NULL, NULL), -EINVAL);
    CHECK_IS(sendq_close(NULL), -EINVAL);
    CHECK_IS(sendq_discard(NULL), -EINVAL);
    CHECK_IS(sendq_append(NULL, bytes, 1), -EINVAL);
    CHECK_IS(sendq_appendv(NULL, &iov, 1), -EINVAL);
    CHECK_IS(sendq_reserve(NULL, 1, &memory), -EINVAL);
    CHECK(memory == NULL);
    CHECK_IS(sendq_commit(NULL, 0), -EINVAL);
    CHECK_IS(sendq_append_ref(NULL, bytes, 1, never, NULL), -EINVAL);
    CHECK_IS(sendq_append_ref(NULL, bytes, sizeof bytes, never, NULL), -EINVAL);
    CHECK_IS(sendq_append_file(NULL, 0, 0, 1, never, NULL), -EINVAL);
    CHECK_IS(sendq_append_buf(NULL, NULL, 0, 1), -EINVAL);
    CHECK_IS(sendq_notify(NULL, never, NULL), -EINVAL);
    CHECK_IS(sendq_splice(NULL, NULL), -EINVAL);
    CHECK_IS(sendq_cork(NULL), -EINVAL);
    CHECK_IS(sendq_uncork(NULL), -EINVAL);
    CHECK_IS(sendq_rollback(NULL), -EINVAL);
    CHECK_IS(sendq_buf_copy(NULL, bytes, 1, NULL), -EINVAL);
    CHECK_IS(sendq_buf_wrap(NULL, bytes, 1, never, NULL, NULL), -EINVAL);
    CHECK(sendq_buf_ref(NULL) == NULL);
    sendq_buf_unref(NULL);
    CHECK_IS(sendq_flush(NULL, 0, 0), -EINVAL);
    CHECK_IS(sendq_peek(NULL, &iov, 1), -EINVAL);
    CHECK_IS(sendq_consume(NULL, 0), -EINVAL);
    CHECK_IS(sendq_error(NULL), -EINVAL);
    CHECK_IS(sendq_state(NULL), -EINVAL);
    CHECK_IS(sendq_queued_memory(NULL), 0);
    CHECK_IS(sendq_memory(NULL), 0);
    CHECK_IS(sendq_retry_after_ns(NULL), SENDQ_NEVER);
    CHECK(sendq_pool_next(NULL) == NULL);
    CHECK_IS(sendq_schedule(NULL), -EINVAL);
    CHECK_IS(sendq_pool_retry_after_ns(NULL), SENDQ_NEVER);
    CHECK_IS(sendq_pool_set_rate(NULL, 1, 1), -EINVAL);
    CHECK_IS(sendq_pool_bytes(NULL), 0);
    CHECK_IS(sendq_pool_stalled(NULL, 0, &q, 1), -EINVAL);
    CHECK_IS(sendq_set_watermarks(NULL, 0, 0, 0), -EINVAL);
    CHECK_IS(sendq_queued_bytes(NULL), 0);
    CHECK_IS(sendq_sent_bytes(NULL), 0);
    CHECK(sendq_user(NULL) == NULL);
    sendq_free(NULL);
    sendq_pool_free(NULL);

    q = new_queue(NULL, NULL);
    CHECK_IS(sendq_append(q, NULL, 1), -EINVAL);
    CHECK_IS(sendq_append(q, NULL, 0), 0);
    CHECK_IS(sendq_appendv(q, NULL, 1), -EINVAL);
    CHECK_IS(sendq_appendv(q, NULL, 0), 0);
    CHECK_IS(sendq_reserve(q, 1, NULL), -EINVAL);
    CHECK_IS(sendq_append_ref(q, NULL, 1, never, NULL), -EINVAL);
    CHECK_IS(sendq_append_ref(q, NULL, sizeof bytes << 10, never, NULL), -EINVAL);
    CHECK_IS(sendq_append_buf(q, NULL, 0, 1), -EINVAL);
    CHECK_IS(sendq_append_buf(q, NULL, 0, 0), -EINVAL);
    CHECK_IS(sendq_notify(q, NULL, bytes), -EINVAL);
    CHECK_IS(sendq_splice(q, NULL), -EINVAL);
    CHECK_IS(sendq_splice(NULL, q), -EINVAL);
    CHECK_IS(sendq_peek(q, NULL, 1), -EINVAL);
    CHECK_IS(sendq_peek(q, NULL, 0), 0);
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
    struct iovec iov = {bytes, 1};
    void* memory = bytes;
    void* second = bytes;
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

    CHECK_IS(sendq_append(q, bytes, HALF), SENDQ_WAKE);
    CHECK_IS(sendq_reserve(q, HALF, &memory), 0);
    stream_fill(memory, HALF, HALF);
    CHECK_IS(sendq_reserve(q, 1, &second), -EBUSY);
    CHECK(second == NULL);
    CHECK_IS(sendq_append(q, bytes, 1), -EBUSY);
    CHECK_IS(sendq_appendv(q, &iov, 1), -EBUSY);
    CHECK_IS(sendq_append_ref(q, bytes, 1, never, NULL), -EBUSY);
    CHECK_IS(sendq_append_ref(q, bytes, (size_t)1 << 20, never, NULL), -EBUSY);
    CHECK_IS(sendq_append_file(q, 0, 0, 1, never, NULL), -EBUSY);
    CHECK_IS(sendq_notify(q, never, NULL), -EBUSY);
    CHECK_IS(sendq_cork(q), -EBUSY);
    CHECK_IS(sendq_commit(q, HALF + 1), -EINVAL); /* the reservation stays */
    CHECK_IS(sendq_commit(q, SIZE_MAX), -EINVAL);
    CHECK_IS(sendq_append(q, bytes, 1), -EBUSY);
    CHECK_IS(sendq_queued_bytes(q), HALF);
    CHECK_IS(sendq_commit(q, HALF), 0);
    CHECK_IS(sendq_commit(q, 0), -EINVAL); /* once */
    CHECK_IS(sendq_queued_bytes(q), 2 * HALF);
    check_delivers(q, 0);

    /* Nothing said, and memory that all that waited has left behind. */
    CHECK_IS(sendq_append(q, bytes, HALF), SENDQ_WAKE);
    CHECK_IS(sendq_reserve(q, 100000, &memory), 0);
    check_delivers(q, 0);
    memset(memory, 1, 100000);
    CHECK_IS(sendq_commit(q, 0), 0);
    check_usable(q);

    /* Discarding is about what waits; a reservation does not. */
    CHECK_IS(sendq_append(q, bytes, HALF), SENDQ_WAKE);
    CHECK_IS(sendq_reserve(q, HALF, &memory), 0);
    CHECK_IS(sendq_discard(q), 0);
    stream_fill(memory, 0, HALF);
    CHECK_IS(sendq_commit(q, HALF), SENDQ_WAKE);
    CHECK_IS(sendq_queued_bytes(q), HALF);
    check_delivers(q, 0);

    CHECK_IS(sendq_reserve(q, HALF, &memory), 0);
    sendq_free(q);
}

static void peek_and_consume(void) {
    sendq_t* q = new_queue(NULL, NULL);
    struct iovec iov = {NULL, 0};
    CHECK_IS(sendq_append(q, bytes, HALF), SENDQ_WAKE);
    CHECK_IS(sendq_peek(q, &iov, -1), -EINVAL);
    CHECK_IS(sendq_peek(q, NULL, 1), -EINVAL);
    CHECK_IS(sendq_consume(q, HALF + 1), -EINVAL);
    CHECK_IS(sendq_consume(q, SIZE_MAX), -EINVAL);
    CHECK_IS(sendq_queued_bytes(q), HALF);
    CHECK_IS(sendq_sent_bytes(q), 0);
    CHECK_IS(sendq_consume(q, 0), 0);
    CHECK_IS(sendq_peek(q, &iov, 1), 1);
    CHECK_IS(iov.iov_len, HALF);
    check_delivers(q, 0);
    CHECK_IS(sendq_peek(q, &iov, 1), 0);
    CHECK_IS(sendq_consume(q, 1), -EINVAL);
    check_usable(q);
    sendq_free(q);
}

static void after_close(void) {
    sendq_t* q = new_queue(NULL, NULL);
    struct iovec iov = {bytes, 1};
    void* memory = bytes;
    CHECK_IS(sendq_append(q, bytes, sizeof bytes), SENDQ_WAKE);
    for (int again = 0; again < 2; again++) {
        CHECK_IS(sendq_close(q), 0);
        CHECK_IS(sendq_append(q, bytes, 1), -EPIPE);
        CHECK_IS(sendq_appendv(q, &iov, 1), -EPIPE);
        CHECK_IS(sendq_append_ref(q, bytes, 1, never, NULL), -EPIPE);
        CHECK_IS(sendq_append_ref(q, bytes, (size_t)1 << 20, never, NULL), -EPIPE);
        CHECK_IS(sendq_append_file(q, 0, 0, 1, never, NULL), -EPIPE);
        CHECK_IS(sendq_notify(q, never, NULL), -EPIPE);
        CHECK_IS(sendq_cork(q), -EPIPE);
        CHECK_IS(sendq_uncork(q), -EINVAL);
        CHECK_IS(sendq_rollback(q), -EINVAL);
        CHECK_IS(sendq_reserve(q, 1, &memory), -EPIPE);
        CHECK(memory == NULL);
        CHECK_IS(sendq_commit(q, 0), -EPIPE);
    }
    CHECK_IS(sendq_error(q), 0); /* the host ended it, the connection did not */
    CHECK_IS(sendq_peek(q, &iov, 1), 1);
    CHECK_IS(sendq_consume(q, HALF), 0);
    CHECK_IS(sendq_set_watermarks(q, 0, 0, 0), 0);
    check_delivers(q, HALF);
    CHECK_IS(sendq_append(q, bytes, 1), -EPIPE);
    CHECK_IS(sendq_discard(q), 0);
    CHECK_IS(sendq_flush(q, -1, 0), 0); /* nothing waits: nothing to fail */
    sendq_free(q);

    /* A reservation that the close came in between. */
    q = new_queue(NULL, NULL);
    CHECK_IS(sendq_append(q, bytes, HALF), SENDQ_WAKE);
    CHECK_IS(sendq_reserve(q, HALF, &memory), 0);
    CHECK_IS(sendq_close(q), 0);
    memset(memory, 0, HALF);
    CHECK_IS(sendq_commit(q, HALF), -EPIPE);
    CHECK_IS(sendq_queued_bytes(q), HALF);
    check_delivers(q, 0);
    sendq_free(q);
}

static void after_discard(void) {
    sendq_t* q = new_queue(NULL, NULL);
    struct iovec iov = {NULL, 0};
    CHECK_IS(sendq_discard(q), 0);
    CHECK_IS(sendq_append(q, bytes, sizeof bytes), SENDQ_WAKE);
    CHECK_IS(sendq_discard(q), 0);
    CHECK_IS(sendq_queued_bytes(q), 0);
    CHECK_IS(sendq_sent_bytes(q), 0);
    CHECK_IS(sendq_peek(q, &iov, 1), 0);
    CHECK_IS(sendq_consume(q, 1), -EINVAL);
    CHECK_IS(sendq_error(q), 0);
    check_usable(q);
    sendq_free(q);
}

/* The connection of q has ended with error: nothing is kept, and everything says so. */
static void check_ended(sendq_t* q, int error) {
    struct iovec iov = {bytes, 1};
    void* memory = bytes;
    ends e = ends_unix();
    uint64_t sent = sendq_sent_bytes(q);
    CHECK(error < 0);
    CHECK_IS(sendq_error(q), error);
    CHECK_IS(sendq_queued_bytes(q), 0);
    CHECK_IS(sendq_append(q, bytes, 1), error);
    CHECK_IS(sendq_appendv(q, &iov, 1), error);
    CHECK_IS(sendq_append_ref(q, bytes, 1, never, NULL), error);
    CHECK_IS(sendq_append_ref(q, bytes, (size_t)1 << 20, never, NULL), error);
    CHECK_IS(sendq_append_file(q, 0, 0, 1, never, NULL), error);
    CHECK_IS(sendq_notify(q, never, NULL), error);
    CHECK_IS(sendq_cork(q), error);
    CHECK_IS(sendq_uncork(q), error);
    CHECK_IS(sendq_rollback(q), error);
    CHECK_IS(sendq_reserve(q, 1, &memory), error);
    CHECK(memory == NULL);
    CHECK_IS(sendq_commit(q, 0), error);
    CHECK_IS(sendq_commit(q, 1), error);
    CHECK_IS(sendq_flush(q, e.queue, 0), error);
    CHECK_IS(sendq_consume(q, 1), error);
    CHECK_IS(sendq_peek(q, &iov, 1), 0);
    CHECK_IS(sendq_discard(q), 0);
    CHECK_IS(sendq_set_watermarks(q, 1, 2, 3), 0);
    CHECK_IS(sendq_close(q), 0);
    CHECK_IS(sendq_append(q, bytes, 1), error);
    CHECK_IS(sendq_error(q), error);
    CHECK_IS(sendq_sent_bytes(q), sent);
    ends_close(e);
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
    flush_to(INT32_MAX, -EBADF, -EBADF);
    flush_to(INT32_MIN, -EBADF, -EBADF);
    flush_to(listener, -EPIPE, -ENOTCONN);
    flush_to(tcp, -EPIPE, -ENOTCONN);
    flush_to(local, -EPIPE, -ENOTCONN);
    flush_to(pipes[1], -ENOTSOCK, -ENOTSOCK);
    flush_to(file, -ENOTSOCK, -ENOTSOCK);
    close(e.peer);
    flush_to(e.queue, -EPIPE, -ECONNRESET);
    close(e.queue);
    flush_to(e.queue, -EBADF, -EBADF);

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
    null_handles();
    lengths();
    vectors();
    reservations();
    peek_and_consume();
    after_close();
    after_discard();
    wrong_sockets();
    peer_resets();
    queue_configs();
    pool_configs();
    return 0;
}
