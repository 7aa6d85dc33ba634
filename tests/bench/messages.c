/* Messages of a header, a body and a trailer, N times: what callgrind counts the instructions of.
 * Usage: messages copied16|appendv16|borrowed|send N. The function `counted` has what counts, so
 * that
 * --toggle-collect=counted leaves out the peer that reads. Prints the nanoseconds of all. */
#include <sendq/sendq.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

enum { BODY = 16 * 1024, DEEP = 16, SHORT = 18 + 100 + 5 };

static char payload[64 * 1024];
static sendq_t* queue;
static int ends[2];

static void release(void* arg, const void* data, size_t len, int reason) {
    (void)arg, (void)data, (void)len, (void)reason;
}

static void must(int result) {
    if (result < 0) {
        fprintf(stderr, "%d\n", result);
        abort();
    }
}

static void copied16(void) {
    sendq_part_t parts[] = {sendq_part_copy(payload, 18), sendq_part_ref(payload + 18, 100),
                            sendq_part_copy(payload + 118, 5)};
    for (int i = 0; i < DEEP; i++) {
        must(sendq_append_message(queue, parts, 3, NULL, NULL));
    }
    must(sendq_consume(queue, DEEP * SHORT));
}

static void appendv16(void) {
    struct iovec pieces[] = {{payload, 18}, {payload + 18, 100}, {payload + 118, 5}};
    for (int i = 0; i < DEEP; i++) {
        must(sendq_appendv(queue, pieces, 3));
    }
    must(sendq_consume(queue, DEEP * SHORT));
}

static void borrowed(void) {
    sendq_part_t parts[] = {sendq_part_copy(payload, 24), sendq_part_ref(payload + 24, BODY),
                            sendq_part_copy(payload, 5)};
    must(sendq_append_message(queue, parts, 3, release, NULL));
    must(sendq_flush(queue, ends[0], 0));
}

static void send_it(void) {
    sendq_part_t parts[] = {sendq_part_copy(payload, 24), sendq_part_ref(payload + 24, BODY),
                            sendq_part_copy(payload, 5)};
    must(sendq_send(queue, ends[0], parts, 3, release, NULL, 0));
}

__attribute__((noinline)) static void counted(void (*once)(void)) {
    once();
}

static void drain(void) {
    static char sink[64 * 1024];
    while (recv(ends[1], sink, sizeof sink, MSG_DONTWAIT) > 0) {
    }
}

int main(int argc, char** argv) {
    static const struct {
        const char* name;
        void (*once)(void);
    } workloads[] = {{"copied16", copied16},
                     {"appendv16", appendv16},
                     {"borrowed", borrowed},
                     {"send", send_it}};
    if (argc != 3 || socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) {
        return 2;
    }
    sendq_pool_t* pool;
    must(sendq_pool_new(NULL, &pool));
    must(sendq_new(pool, NULL, &queue));
    for (size_t i = 0; i < sizeof workloads / sizeof *workloads; i++) {
        if (strcmp(argv[1], workloads[i].name) != 0) {
            continue;
        }
        struct timespec from, to;
        clock_gettime(CLOCK_MONOTONIC, &from);
        for (long n = atol(argv[2]); n > 0; n--) {
            counted(workloads[i].once);
            drain();
        }
        clock_gettime(CLOCK_MONOTONIC, &to);
        printf("%.0f\n",
               (double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec));
    }
    sendq_free(queue);
    sendq_pool_free(pool);
    return 0;
}
