/* What every C test here needs: checks, a stream of known bytes, and sockets to send it through. */
#ifndef SENDQ_TESTS_CHECK_H
#define SENDQ_TESTS_CHECK_H

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sendq/sendq.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

/* Checks an expression; ends the test with its place and text if it is false. */
#define CHECK(expression) ((expression) ? (void)0 : check_failed(__FILE__, __LINE__, #expression))

/* Checks that an integer expression has a value; ends the test with both if it has not. */
#define CHECK_IS(expression, value) \
    check_is(__FILE__, __LINE__, #expression, (long long)(expression), (long long)(value))

_Noreturn static inline void check_failed(const char* file, int line, const char* what) {
    fprintf(stderr, "%s:%d: %s (errno %d)\n", file, line, what, errno);
    exit(1);
}

static inline void check_is(const char* file, int line, const char* what, long long is,
                            long long expected) {
    if (is != expected) {
        fprintf(stderr, "%s:%d: %s is %lld, expected %lld\n", file, line, what, is, expected);
        exit(1);
    }
}

/* Pseudo-random numbers (xorshift64): the same in every run. */
static inline uint64_t random_next(uint64_t* state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static inline size_t random_up_to(uint64_t* state, size_t limit) {
    return (size_t)(random_next(state) % limit) + 1;
}

/* The test stream: which byte stands at which offset. 251 is prime, so that the pattern does not
 * repeat at multiples of any buffer's size. */
enum { STREAM_PERIOD = 251, STREAM_BLOCK = 4096 };

static inline unsigned char stream_byte(uint64_t offset) {
    return (unsigned char)((offset + offset / STREAM_BLOCK) % STREAM_PERIOD);
}

/* Within a block each byte is the one before it and one, so that every block is a part of this.
 * Tests move and compare many megabytes, under valgrind too, where a byte at a time takes minutes.
 */
static unsigned char stream_pattern[STREAM_PERIOD + STREAM_BLOCK];

/* Before main, and so before there are threads. */
__attribute__((constructor)) static void stream_prepare(void) {
    for (size_t i = 0; i < sizeof stream_pattern; i++) {
        stream_pattern[i] = (unsigned char)(i % STREAM_PERIOD);
    }
}

/* The stream from an offset on, and in len how much of what is wanted is there. */
static inline const unsigned char* stream_at(uint64_t offset, size_t* len) {
    size_t rest = STREAM_BLOCK - (size_t)(offset % STREAM_BLOCK);
    *len = *len < rest ? *len : rest;
    return stream_pattern + stream_byte(offset);
}

static inline void stream_fill(void* out, uint64_t offset, size_t len) {
    for (size_t done = 0, part; done < len; done += part) {
        part = len - done;
        const unsigned char* from = stream_at(offset + done, &part);
        memcpy((unsigned char*)out + done, from, part);
    }
}

_Noreturn static inline void stream_differs(const unsigned char* bytes, uint64_t offset) {
    size_t i = 0;
    while (bytes[i] == stream_byte(offset + i)) {
        i++;
    }
    fprintf(stderr, "byte %llu of the stream is %d, expected %d\n",
            (unsigned long long)(offset + i), bytes[i], stream_byte(offset + i));
    exit(1);
}

static inline void stream_check(const void* in, uint64_t offset, size_t len) {
    for (size_t done = 0, part; done < len; done += part) {
        part = len - done;
        const unsigned char* expected = stream_at(offset + done, &part);
        const unsigned char* bytes = (const unsigned char*)in + done;
        if (memcmp(bytes, expected, part) != 0) {
            stream_differs(bytes, offset + done);
        }
    }
}

/* A file with these bytes. */
static inline FILE* file_of(const void* data, size_t len) {
    FILE* stream = tmpfile();
    CHECK(stream != NULL);
    CHECK_IS(fwrite(data, len, 1, stream), 1);
    CHECK_IS(fflush(stream), 0);
    return stream;
}

/* Both ends of a connection. */
typedef struct {
    int queue; /* where the queue sends */
    int peer;  /* where the test reads */
} ends;

static inline ends ends_unix(void) {
    int fds[2];
    CHECK_IS(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    return (ends){fds[0], fds[1]};
}

/* Listens at a host's address, on a port that the kernel picks. */
static inline int tcp_listen_at(struct in_addr host, struct sockaddr_in* address) {
    socklen_t len = sizeof *address;
    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = host};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(fd >= 0);
    CHECK_IS(bind(fd, (struct sockaddr*)address, len), 0);
    CHECK_IS(listen(fd, 1), 0);
    CHECK_IS(getsockname(fd, (struct sockaddr*)address, &len), 0);
    return fd;
}

static inline int tcp_listen(struct sockaddr_in* address) {
    return tcp_listen_at((struct in_addr){.s_addr = htonl(INADDR_LOOPBACK)}, address);
}

static inline ends ends_tcp(void) {
    struct sockaddr_in address;
    int listener = tcp_listen(&address);
    ends e = {.queue = socket(AF_INET, SOCK_STREAM, 0)};
    CHECK_IS(connect(e.queue, (struct sockaddr*)&address, sizeof address), 0);
    e.peer = accept(listener, NULL, NULL);
    CHECK(e.peer >= 0);
    close(listener);
    return e;
}

static inline void ends_close(ends e) {
    close(e.queue);
    close(e.peer);
}

/* The kernel raises this to the least that it allows. */
static inline void ends_least_buffer(ends e) {
    int least = 1;
    CHECK_IS(setsockopt(e.queue, SOL_SOCKET, SO_SNDBUF, &least, sizeof least), 0);
}

/* Reads what has arrived, up to len bytes, without waiting. No more than that is asked for:
 * valgrind looks at all the memory that a call may write to, and what arrives is often little. */
static inline size_t ends_read(ends e, void* out, size_t len) {
    int arrived = 0;
    CHECK_IS(ioctl(e.peer, FIONREAD, &arrived), 0);
    size_t wanted = arrived > 0 ? (size_t)arrived : 1;
    ssize_t got = recv(e.peer, out, len < wanted ? len : wanted, MSG_DONTWAIT);
    CHECK(got > 0 || (got < 0 && errno == EAGAIN));
    return got > 0 ? (size_t)got : 0;
}

static inline void wait_for(int fd, short events) {
    struct pollfd one = {.fd = fd, .events = events};
    CHECK_IS(poll(&one, 1, 30000), 1);
}

/* Flushes q empty through a new connection, and checks that what arrives is all that waited, the
 * test stream from its offset on. */
static inline void check_delivers(sendq_t* q, uint64_t offset) {
    static unsigned char buffer[65536];
    ends e = ends_unix();
    uint64_t left = sendq_queued_bytes(q);
    int hints = SENDQ_BLOCKED;
    while (left > 0 || hints & (SENDQ_BLOCKED | SENDQ_MORE)) {
        hints = sendq_flush(q, e.queue, 0);
        CHECK(hints >= 0);
        for (size_t got; (got = ends_read(e, buffer, sizeof buffer)) > 0;) {
            CHECK(got <= left);
            stream_check(buffer, offset, got);
            offset += got;
            left -= got;
        }
    }
    CHECK_IS(sendq_queued_bytes(q), 0);
    ends_close(e);
}

/* q takes and delivers bytes, in one piece and in several. */
static inline void check_usable(sendq_t* q) {
    unsigned char bytes[1000];
    stream_fill(bytes, 0, sizeof bytes);
    CHECK_IS(sendq_queued_bytes(q), 0);
    CHECK_IS(sendq_append(q, bytes, 100) & SENDQ_WAKE, SENDQ_WAKE);
    struct iovec two[] = {{bytes + 100, 300}, {bytes + 400, 600}};
    CHECK(sendq_appendv(q, two, 2) >= 0);
    CHECK_IS(sendq_queued_bytes(q), sizeof bytes);
    check_delivers(q, 0);
}

static inline sendq_t* new_queue(sendq_pool_t* pool, const sendq_config_t* config) {
    sendq_t* q = NULL;
    CHECK_IS(sendq_new(pool, config, &q), 0);
    CHECK(q != NULL);
    return q;
}

static inline sendq_pool_t* new_pool(sendq_pool_config_t config) {
    sendq_pool_t* pool = NULL;
    config.size = sizeof config;
    CHECK_IS(sendq_pool_new(&config, &pool), 0);
    CHECK(pool != NULL);
    return pool;
}

#endif
