/* What it costs to get N pairs of 24 + 100 bytes onto a TCP socket, by several ways in turn.
 * Usage: flush PAIRS ROUNDS. Prints a line a round: nanoseconds per call, one column a way. */
#include <event2/buffer.h>
#include <sendq/sendq.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "loopback.h"

enum { HEADER = 24, VALUE = 100, PAIR = HEADER + VALUE, MAX_PAIRS = 64 };
/* Calls between two readings of the clock: few enough to fit into the socket's buffers, so that
 * nobody ever waits, and the peer reads while the clock stands still. */
enum { BURST = 32, BURSTS = 64 };

static char headers[MAX_PAIRS][HEADER];
static char values[MAX_PAIRS][VALUE];
static sendq_t* queue;
static struct evbuffer* evbuffer;

static void by_sendmsg(int fd, int pairs) {
    struct iovec iov[2 * MAX_PAIRS];
    for (int i = 0; i < pairs; i++) {
        iov[2 * i] = (struct iovec){headers[i], HEADER};
        iov[2 * i + 1] = (struct iovec){values[i], VALUE};
    }
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = (size_t)(2 * pairs)};
    if (sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)pairs * PAIR) {
        abort();
    }
}

static void by_copy_and_send(int fd, int pairs) {
    static char flat[MAX_PAIRS * PAIR];
    char* end = flat;
    for (int i = 0; i < pairs; i++) {
        memcpy(end, headers[i], HEADER);
        memcpy(end + HEADER, values[i], VALUE);
        end += PAIR;
    }
    if (send(fd, flat, (size_t)(end - flat), MSG_DONTWAIT | MSG_NOSIGNAL) != end - flat) {
        abort();
    }
}

static void by_sendq(int fd, int pairs) {
    for (int i = 0; i < pairs; i++) {
        if (sendq_append(queue, headers[i], HEADER) < 0 ||
            sendq_append(queue, values[i], VALUE) < 0) {
            abort();
        }
    }
    if (sendq_flush(queue, fd, 0) != 0) {
        abort();
    }
}

static void by_libevent(int fd, int pairs) {
    for (int i = 0; i < pairs; i++) {
        evbuffer_add(evbuffer, headers[i], HEADER);
        evbuffer_add(evbuffer, values[i], VALUE);
    }
    if (evbuffer_write(evbuffer, fd) != pairs * PAIR) {
        abort();
    }
}

static const struct {
    const char* name;
    void (*call)(int fd, int pairs);
} ways[] = {{"sendmsg", by_sendmsg},
            {"copy+send", by_copy_and_send},
            {"sendq", by_sendq},
            {"libevent", by_libevent}};

/* One burst: nanoseconds on this side. */
static double burst(void (*call)(int, int), int here, int there, int pairs) {
    static char sink[BURST * MAX_PAIRS * PAIR];
    double start = now();
    for (int i = 0; i < BURST; i++) {
        call(here, pairs);
    }
    double spent = now() - start;
    if (recv(there, sink, (size_t)(BURST * pairs * PAIR), MSG_WAITALL) != BURST * pairs * PAIR) {
        abort();
    }
    return spent;
}

int main(int argc, char** argv) {
    int pairs = argc == 3 ? atoi(argv[1]) : 0;
    int rounds = argc == 3 ? atoi(argv[2]) : 0;
    if (pairs < 1 || pairs > MAX_PAIRS || rounds < 1) {
        fprintf(stderr, "usage: flush PAIRS(1..%d) ROUNDS\n", MAX_PAIRS);
        return 2;
    }
    int here, there;
    connect_pair(&here, &there);
    evbuffer = evbuffer_new();
    sendq_pool_t* pool;
    if (sendq_pool_new(NULL, &pool) != 0 || sendq_new(pool, NULL, &queue) != 0) {
        abort();
    }

    size_t count = sizeof ways / sizeof *ways;
    for (size_t i = 0; i < count; i++) {
        printf("%s%c", ways[i].name, i + 1 < count ? ' ' : '\n');
    }
    for (int round = -1; round < rounds; round++) { /* the first warms up and is not printed */
        double spent[sizeof ways / sizeof *ways] = {0};
        for (size_t i = 0; i < BURSTS * count; i++) {
            spent[i % count] += burst(ways[i % count].call, here, there, pairs);
        }
        for (size_t i = 0; i < count && round >= 0; i++) {
            printf("%.1f%c", spent[i] / (BURSTS * BURST), i + 1 < count ? ' ' : '\n');
        }
    }

    sendq_free(queue);
    sendq_pool_free(pool);
    evbuffer_free(evbuffer);
    close(here);
    close(there);
    return 0;
}
