/* What it costs to get a header of 200 bytes and a file onto a non-blocking TCP socket, by several
 * ways in turn. Usage: file SIZE ROUNDS. Prints a line a round: per response, nanoseconds of CPU,
 * calls that send (and read) and segments, three columns a way. The time is that of the median
 * burst, so that what interrupts one, or delays its reader, does not count. */
#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h> /* that of the C library does not know of segments */
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sendq/sendq.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "loopback.h"

enum { HEADER = 200, MAX_SIZE = 1 << 20, MAX_READ = 4096 };
/* Bytes between two readings of the clock: they fit into the socket's buffers, so that the peer
 * reads while the clock stands still. Whoever reads more than that is another thread. */
enum { BURST_BYTES = 192 << 10, MAX_CALLS = 32, BURSTS = 64 };

static char header[HEADER];
static size_t size;
static int file;

/* One way of sending, with a connection of its own. */
typedef struct {
    int here;
    int there;
    sendq_t* queue;
    uint64_t calls; /* by hand */
    size_t sent;
    _Atomic size_t arrived;
} connection;

static void must(int ok) {
    if (!ok) {
        abort();
    }
}

static void wait_writable(int fd) {
    struct pollfd one = {.fd = fd, .events = POLLOUT};
    must(poll(&one, 1, 30000) == 1);
}

/* What a server does about the result of a call: a short one means that the socket is full. */
static size_t taken(connection* c, ssize_t result, size_t asked) {
    c->calls++;
    must(result > 0 || (result < 0 && errno == EAGAIN));
    size_t bytes = result > 0 ? (size_t)result : 0;
    if (bytes < asked) {
        wait_writable(c->here);
    }
    return bytes;
}

static void by_sendfile(connection* c) {
    for (size_t at = 0; at < HEADER;) {
        ssize_t result = send(c->here, header + at, HEADER - at, MSG_MORE);
        at += taken(c, result, HEADER - at);
    }
    for (off_t at = 0; at < (off_t)size;) { /* which moves it */
        size_t left = size - (size_t)at;
        taken(c, sendfile(c->here, file, &at, left), left);
    }
}

/* What is small is sooner read. */
static void by_writev(connection* c) {
    char value[MAX_READ];
    c->calls++;
    must(pread(file, value, size, 0) == (ssize_t)size);
    struct iovec iov[] = {{header, HEADER}, {value, size}};
    must(taken(c, writev(c->here, iov, 2), HEADER + size) == HEADER + size);
}

static void by_sendq(connection* c) {
    must(sendq_append(c->queue, header, HEADER) >= 0 &&
         sendq_append_file(c->queue, file, 0, size, NULL, NULL) >= 0);
    int hints;
    while ((hints = sendq_flush(c->queue, c->here, 0)) & SENDQ_BLOCKED) {
        must(hints >= 0);
        wait_writable(c->here);
    }
    must((hints & ~SENDQ_RESUME) == 0);
}

static const struct {
    const char* name;
    void (*send)(connection* c);
    size_t max_size;
} ways[] = {{"send+sendfile", by_sendfile, MAX_SIZE},
            {"sendq", by_sendq, MAX_SIZE},
            {"pread+writev", by_writev, MAX_READ}};

enum { WAYS = sizeof ways / sizeof *ways };

static uint64_t calls(const connection* c) {
    sendq_stats_t stats;
    must(sendq_stats(c->queue, &stats, sizeof stats) == 0);
    return c->calls + stats.system_calls;
}

static uint64_t segments(const connection* c) {
    struct tcp_info info;
    socklen_t len = sizeof info;
    must(getsockopt(c->here, IPPROTO_TCP, TCP_INFO, &info, &len) == 0);
    return info.tcpi_data_segs_out;
}

static sendq_pool_t* new_pool(void) {
    sendq_pool_config_t config = {0};
    config.size = sizeof config;
#ifdef SENDQ_SOCKETS_NONBLOCKING
    config.flags = SENDQ_SOCKETS_NONBLOCKING | SENDQ_SIGPIPE_IGNORED;
#endif
    sendq_pool_t* pool;
    must(sendq_pool_new(&config, &pool) == 0);
    return pool;
}

static void open_file(void) {
    static char content[MAX_SIZE];
    FILE* temporary = tmpfile();
    must(temporary != NULL && fwrite(content, 1, size, temporary) == size &&
         fflush(temporary) == 0);
    file = fileno(temporary);
}

/* MSG_TRUNC: TCP drops what it would copy, so that the reader keeps up (tcp(7)). */
static size_t receive(connection* c, size_t len, int flags) {
    ssize_t got = recv(c->there, NULL, len, flags | MSG_TRUNC);
    must(got >= 0);
    c->arrived += (size_t)got;
    return (size_t)got;
}

static void* reader(void* arg) {
    while (receive(arg, MAX_SIZE, 0) > 0) {
    }
    return NULL;
}

/* Some responses: nanoseconds of CPU for all. */
static double burst(size_t way, connection* c, size_t turns, int read_here) {
    double start = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    for (size_t i = 0; i < turns; i++) {
        ways[way].send(c);
    }
    double spent = clock_ns(CLOCK_THREAD_CPUTIME_ID) - start;
    c->sent += turns * (HEADER + size);
    if (read_here) {
        receive(c, c->sent - c->arrived, MSG_WAITALL);
    }
    while (c->arrived < c->sent) {
        must(!read_here);
        sched_yield();
    }
    return spent;
}

static int compare(const void* left, const void* right) {
    const double* l = left;
    const double* r = right;
    return (*l > *r) - (*l < *r);
}

static void measure(connection* connections, size_t count, size_t turns, int read_here, int print) {
    static double spent[WAYS][BURSTS];
    uint64_t made[WAYS], left[WAYS];
    for (size_t i = 0; i < count; i++) {
        made[i] = calls(&connections[i]);
        left[i] = segments(&connections[i]);
    }
    for (size_t n = 0; n < BURSTS; n++) {
        for (size_t i = 0; i < count; i++) {
            spent[i][n] = burst(i, &connections[i], turns, read_here);
        }
    }
    double responses = (double)(BURSTS * turns);
    for (size_t i = 0; i < count && print; i++) {
        qsort(spent[i], BURSTS, sizeof(double), compare);
        printf("%.1f %.2f %.2f%c", spent[i][BURSTS / 2] / (double)turns,
               (double)(calls(&connections[i]) - made[i]) / responses,
               (double)(segments(&connections[i]) - left[i]) / responses,
               i + 1 < count ? ' ' : '\n');
    }
}

int main(int argc, char** argv) {
    size = argc == 3 ? (size_t)atol(argv[1]) : 0;
    int rounds = argc == 3 ? atoi(argv[2]) : 0;
    if (size < 1 || size > MAX_SIZE || rounds < 1) {
        fprintf(stderr, "usage: file SIZE(1..%d) ROUNDS\n", MAX_SIZE);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    open_file();
    size_t turns = BURST_BYTES / (HEADER + size);
    int read_here = turns > 0;
    turns = turns > MAX_CALLS ? MAX_CALLS : turns + !read_here;

    static connection connections[WAYS];
    pthread_t readers[WAYS];
    sendq_pool_t* pool = new_pool();
    size_t count = 0;
    for (; count < WAYS && size <= ways[count].max_size; count++) {
        connection* c = &connections[count];
        connect_pair(&c->here, &c->there);
        must(fcntl(c->here, F_SETFL, O_NONBLOCK) == 0 && sendq_new(pool, NULL, &c->queue) == 0 &&
             (read_here || pthread_create(&readers[count], NULL, reader, c) == 0));
        printf("%s%s", count > 0 ? " " : "", ways[count].name);
    }
    printf("\n");

    for (int round = -1; round < rounds; round++) { /* the first warms up and is not printed */
        measure(connections, count, turns, read_here, round >= 0);
    }

    for (size_t i = 0; i < count; i++) {
        connection* c = &connections[i];
        shutdown(c->here, SHUT_RDWR);
        if (!read_here) {
            pthread_join(readers[i], NULL);
        }
        sendq_free(c->queue);
        close(c->here);
        close(c->there);
    }
    sendq_pool_free(pool);
    return 0;
}
