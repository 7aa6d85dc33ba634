/* Where borrowing begins to win: a header of 24 bytes and a value, appended and flushed to a TCP
 * socket, the value once copied and once borrowed, from memory that is in the cache and from memory
 * that is not. With "share", the value is a part of a shared buffer, where share_below decides.
 * Usage: copy_below DEPTH ROUNDS [share]. DEPTH values leave with one flush. Prints a line a round
 * and size: the size, then nanoseconds per value: warm copied, warm borrowed, cold copied, cold
 * borrowed. They are those of the median burst, so that what interrupts one does not count. */
#include <sendq/sendq.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "loopback.h"

enum { HEADER = 24, MAX_VALUE = 64 << 10, MAX_DEPTH = 16 };
/* What is sent between two readings of the clock fits into the socket's buffers, so that nobody
 * ever waits, and the peer reads while the clock stands still. */
enum { BURST_BYTES = 192 << 10, MAX_CALLS = 32, BURSTS = 48 };
/* Values that are taken in no order out of this much memory are in no cache of a core. */
static const size_t cold_bytes = (size_t)512 << 20;

static const size_t sizes[] = {64,   128,  256,  512,   1024,  1536,  2048, 3072,
                               4096, 6144, 8192, 12288, 16384, 32768, 65536};
static char header[HEADER];
static char* memory;
static size_t released;
static sendq_buf_t* shared; /* all of the memory, if values are shared */
static uint64_t random_state = 88172645463325252U;

static void release(void* arg, const void* data, size_t len, int reason) {
    (void)arg, (void)data, (void)reason;
    released += len;
}

static sendq_t* open_queue(sendq_pool_t* pool, uint64_t below) {
    sendq_config_t config = {0};
    config.size = sizeof config;
    config.copy_below = below;
    config.share_below = below;
    sendq_t* q;
    if (sendq_new(pool, &config, &q) != 0) {
        abort();
    }
    return q;
}

static int append(sendq_t* q, const char* value, size_t size) {
    if (shared != NULL) {
        return sendq_append_buf(q, shared, (size_t)(value - memory), size);
    }
    return sendq_append_ref(q, value, size, release, NULL);
}

static size_t random_place(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (size_t)(random_state % (cold_bytes / MAX_VALUE)) * MAX_VALUE;
}

/* One burst: nanoseconds on this side. */
static double burst(sendq_t* q, int here, int there, size_t calls, size_t depth, size_t size,
                    int cold) {
    static char sink[2 * BURST_BYTES + MAX_DEPTH * (MAX_VALUE + HEADER)];
    static const char* values[MAX_CALLS * MAX_DEPTH];
    for (size_t i = 0; i < calls * depth; i++) {
        values[i] = memory + (cold ? random_place() : 0);
    }
    double start = now();
    for (size_t i = 0; i < calls; i++) {
        for (size_t j = 0; j < depth; j++) {
            if (sendq_append(q, header, HEADER) < 0 || append(q, values[i * depth + j], size) < 0) {
                abort();
            }
        }
        if (sendq_flush(q, here, 0) & ~SENDQ_RESUME) {
            abort();
        }
    }
    double spent = now() - start;
    ssize_t total = (ssize_t)(calls * depth * (HEADER + size));
    if (recv(there, sink, (size_t)total, MSG_WAITALL) != total) {
        abort();
    }
    return spent;
}

static int compare(const void* left, const void* right) {
    const double* l = left;
    const double* r = right;
    return (*l > *r) - (*l < *r);
}

int main(int argc, char** argv) {
    int shares = argc == 4 && strcmp(argv[3], "share") == 0;
    int depth = argc == 3 + shares ? atoi(argv[1]) : 0;
    int rounds = argc == 3 + shares ? atoi(argv[2]) : 0;
    if (depth < 1 || depth > MAX_DEPTH || rounds < 1) {
        fprintf(stderr, "usage: copy_below DEPTH(1..%d) ROUNDS [share]\n", MAX_DEPTH);
        return 2;
    }
    int here, there;
    sendq_pool_t* pool;
    connect_pair(&here, &there);
    memory = malloc(cold_bytes);
    if (memory == NULL || sendq_pool_new(NULL, &pool) != 0) {
        abort();
    }
    memset(memory, 1, cold_bytes);
    if (shares && sendq_buf_wrap(pool, memory, cold_bytes, release, NULL, &shared) != 0) {
        abort();
    }
    sendq_t* queues[] = {open_queue(pool, UINT64_MAX), open_queue(pool, 1)};

    for (int round = -1; round < rounds; round++) { /* the first warms up and is not printed */
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            size_t each = (size_t)depth * (HEADER + sizes[i]);
            size_t calls = BURST_BYTES / each;
            calls = calls > MAX_CALLS ? MAX_CALLS : calls;
            if (calls == 0) {
                continue; /* one call fills the socket */
            }
            double values = (double)(calls * (size_t)depth);
            static double spent[4][BURSTS];
            for (size_t n = 0; n < BURSTS; n++) {
                for (size_t way = 0; way < 4; way++) {
                    spent[way][n] = burst(queues[way % 2], here, there, calls, (size_t)depth,
                                          sizes[i], way > 1);
                }
            }
            for (size_t way = 0; way < 4; way++) {
                qsort(spent[way], BURSTS, sizeof(double), compare);
            }
            if (round >= 0) {
                printf("%zu %.1f %.1f %.1f %.1f\n", sizes[i], spent[0][BURSTS / 2] / values,
                       spent[1][BURSTS / 2] / values, spent[2][BURSTS / 2] / values,
                       spent[3][BURSTS / 2] / values);
            }
        }
    }

    sendq_free(queues[0]);
    sendq_free(queues[1]);
    sendq_buf_unref(shared);
    sendq_pool_free(pool);
    free(memory);
    close(here);
    close(there);
    return released > 0 ? 0 : 1;
}
