/* What it costs to get a response onto a TCP socket, by several ways: N pairs of 24 + 100 bytes, or
 * a header of 24 bytes, 16 KiB that are borrowed, and a trailer of 2 bytes.
 * Usage: flush RESPONSE ROUNDS. The ways take turns. Prints a line a round: nanoseconds per call,
 * one column a way.
 * Or: flush RESPONSE WAY N. One way, N times, for callgrind to count what `counted` does. */
#include <event2/buffer.h>
#include <sendq/sendq.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "loopback.h"

enum { HEADER = 24, VALUE = 100, PAIR = HEADER + VALUE, MAX_PAIRS = 16 };
enum { LARGE = 16 << 10, TRAILER = 2, FRAMED = HEADER + LARGE + TRAILER };
enum { BURSTS = 64, MAX_BURST = 192 << 10 };

static char headers[MAX_PAIRS][HEADER];
static char values[MAX_PAIRS][VALUE];
static char large[LARGE];
static char trailer[TRAILER];
static sendq_t* queue;
static struct evbuffer* evbuffer;

static void must(int ok) {
    if (!ok) {
        abort();
    }
}

static void send_pieces(int fd, struct iovec* iov, int count, size_t bytes) {
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = (size_t)count};
    must(sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)bytes);
}

static void pairs_by_sendmsg(int fd, int pairs) {
    struct iovec iov[2 * MAX_PAIRS];
    for (int i = 0; i < pairs; i++) {
        iov[2 * i] = (struct iovec){headers[i], HEADER};
        iov[2 * i + 1] = (struct iovec){values[i], VALUE};
    }
    send_pieces(fd, iov, 2 * pairs, (size_t)pairs * PAIR);
}

static void pairs_by_copy_and_send(int fd, int pairs) {
    static char flat[MAX_PAIRS * PAIR];
    char* end = flat;
    for (int i = 0; i < pairs; i++) {
        memcpy(end, headers[i], HEADER);
        memcpy(end + HEADER, values[i], VALUE);
        end += PAIR;
    }
    must(send(fd, flat, (size_t)(end - flat), MSG_DONTWAIT | MSG_NOSIGNAL) == end - flat);
}

static void pairs_by_sendq(int fd, int pairs) {
    for (int i = 0; i < pairs; i++) {
        must(sendq_append(queue, headers[i], HEADER) >= 0);
        must(sendq_append(queue, values[i], VALUE) >= 0);
    }
    must(sendq_flush(queue, fd, 0) == 0);
}

static void pairs_by_libevent(int fd, int pairs) {
    for (int i = 0; i < pairs; i++) {
        evbuffer_add(evbuffer, headers[i], HEADER);
        evbuffer_add(evbuffer, values[i], VALUE);
    }
    must(evbuffer_write(evbuffer, fd) == pairs * PAIR);
}

static void release(void* arg, const void* data, size_t len, int reason) {
    (void)arg, (void)data, (void)len, (void)reason;
}

static void cleanup(const void* data, size_t len, void* arg) {
    (void)data, (void)len, (void)arg;
}

static void framed_by_sendmsg(int fd, int count) {
    (void)count;
    struct iovec iov[] = {{headers, HEADER}, {large, LARGE}, {trailer, TRAILER}};
    send_pieces(fd, iov, 3, FRAMED);
}

static void framed_by_sendq(int fd, int count) {
    (void)count;
    must(sendq_append(queue, headers, HEADER) >= 0);
    must(sendq_append_ref(queue, large, LARGE, release, NULL) >= 0);
    must(sendq_append(queue, trailer, TRAILER) >= 0);
    must(sendq_flush(queue, fd, 0) == 0);
}

static void frame(sendq_part_t parts[3]) {
    parts[0] = sendq_part_copy(headers, HEADER);
    parts[1] = sendq_part_ref(large, LARGE);
    parts[2] = sendq_part_copy(trailer, TRAILER);
}

static void framed_by_message(int fd, int count) {
    (void)count;
    sendq_part_t parts[3];
    frame(parts);
    must(sendq_append_message(queue, parts, 3, release, NULL) >= 0);
    must(sendq_flush(queue, fd, 0) == 0);
}

static void framed_by_send(int fd, int count) {
    (void)count;
    sendq_part_t parts[3];
    frame(parts);
    must(sendq_send(queue, fd, parts, 3, release, NULL, 0) == 0);
}

static void framed_by_libevent(int fd, int count) {
    (void)count;
    evbuffer_add(evbuffer, headers, HEADER);
    evbuffer_add_reference(evbuffer, large, LARGE, cleanup, NULL);
    evbuffer_add(evbuffer, trailer, TRAILER);
    must(evbuffer_write(evbuffer, fd) == FRAMED);
}

typedef struct {
    const char* name;
    void (*call)(int fd, int count);
} way;

enum { MAX_WAYS = 5 };

static const way pair_ways[MAX_WAYS] = {{"sendmsg", pairs_by_sendmsg},
                                        {"copy+send", pairs_by_copy_and_send},
                                        {"sendq", pairs_by_sendq},
                                        {"libevent", pairs_by_libevent}};
static const way framed_ways[MAX_WAYS] = {{"sendmsg", framed_by_sendmsg},
                                          {"sendq", framed_by_sendq},
                                          {"sendq-message", framed_by_message},
                                          {"sendq-send", framed_by_send},
                                          {"libevent", framed_by_libevent}};

typedef struct {
    const char* name;
    const way* ways;
    int count; /* of pairs */
    size_t bytes;
    /* Calls between two readings of the clock: few enough to fit into the socket's buffers, so that
     * nobody ever waits, and the peer reads while the clock stands still. */
    int burst;
} response;

static const response responses[] = {{"pair", pair_ways, 1, PAIR, 32},
                                     {"pair16", pair_ways, 16, (size_t)16 * PAIR, 32},
                                     {"framed", framed_ways, 1, FRAMED, 8}};

static int here, there;

static void receive(size_t bytes) {
    static char sink[MAX_BURST];
    must(recv(there, sink, bytes, MSG_WAITALL) == (ssize_t)bytes);
}

/* Apart and under this name, so that callgrind can count it alone. */
__attribute__((noinline)) static void counted(const way* by, int count) {
    by->call(here, count);
}

static void count(const response* what, const way* by, long n) {
    for (long i = 0; i < n; i++) {
        counted(by, what->count);
        receive(what->bytes);
    }
}

/* One burst: nanoseconds on this side. */
static double burst(const response* what, const way* by) {
    double start = now();
    for (int i = 0; i < what->burst; i++) {
        by->call(here, what->count);
    }
    double spent = now() - start;
    receive((size_t)what->burst * what->bytes);
    return spent;
}

static void measure(const response* what, int rounds) {
    size_t ways = 0;
    for (; ways < MAX_WAYS && what->ways[ways].call != NULL; ways++) {
        printf("%s%s", ways > 0 ? " " : "", what->ways[ways].name);
    }
    printf("\n");
    for (int round = -1; round < rounds; round++) { /* the first warms up and is not printed */
        double spent[MAX_WAYS] = {0};
        for (size_t i = 0; i < BURSTS * ways; i++) {
            spent[i % ways] += burst(what, &what->ways[i % ways]);
        }
        for (size_t i = 0; i < ways && round >= 0; i++) {
            printf("%.1f%c", spent[i] / (BURSTS * what->burst), i + 1 < ways ? ' ' : '\n');
        }
    }
}

static const response* find_response(const char* name) {
    for (size_t i = 0; i < sizeof responses / sizeof *responses; i++) {
        if (strcmp(name, responses[i].name) == 0) {
            return &responses[i];
        }
    }
    return NULL;
}

static const way* find_way(const response* what, const char* name) {
    for (size_t i = 0; i < MAX_WAYS && what->ways[i].call != NULL; i++) {
        if (strcmp(name, what->ways[i].name) == 0) {
            return &what->ways[i];
        }
    }
    return NULL;
}

int main(int argc, char** argv) {
    const response* what = argc >= 3 ? find_response(argv[1]) : NULL;
    const way* by = argc == 4 && what != NULL ? find_way(what, argv[2]) : NULL;
    long n = argc == 3 || argc == 4 ? atol(argv[argc - 1]) : 0;
    if (what == NULL || (argc == 4 && by == NULL) || n < 1) {
        fprintf(stderr,
                "usage: flush pair|pair16|framed ROUNDS\n"
                "       flush pair|pair16 sendmsg|copy+send|sendq|libevent N\n"
                "       flush framed sendmsg|sendq|sendq-message|sendq-send|libevent N\n");
        return 2;
    }
    connect_pair(&here, &there);
    evbuffer = evbuffer_new();
    sendq_pool_t* pool;
    must(sendq_pool_new(NULL, &pool) == 0 && sendq_new(pool, NULL, &queue) == 0);

    if (by != NULL) {
        count(what, by, n);
    } else {
        measure(what, (int)n);
    }

    sendq_free(queue);
    sendq_pool_free(pool);
    evbuffer_free(evbuffer);
    close(here);
    close(there);
    return 0;
}
