/* What a look at all queues of a pool costs, per queue: the pool has N of them, each with 200
 * pieces. Usage: many N ROUNDS. The calls take turns. Prints a line a round: nanoseconds per queue
 * of sendq_pool_heaviest, of sendq_pool_stalled, and of a turn of sendq_pool_next in which every
 * queue is ready. */
#include <sendq/sendq.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { PIECES = 200, PIECE = 100, HEAVIEST = 10 };

static char payload[PIECE];
static sendq_t* found[HEAVIEST];

static void must(int ok) {
    if (!ok) {
        abort();
    }
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

int main(int argc, char** argv) {
    long count = argc == 3 ? atol(argv[1]) : 0;
    if (count <= 0) {
        fprintf(stderr, "usage: many N ROUNDS\n");
        return 2;
    }
    sendq_pool_t* pool;
    sendq_t** queues = calloc((size_t)count, sizeof(void*));
    sendq_pool_config_t pool_config = {.size = sizeof pool_config, .chunk_bytes = 1024};
    sendq_config_t config = {.size = sizeof config, .copy_below = 1};
    must(queues != NULL && sendq_pool_new(&pool_config, &pool) == 0);
    for (long i = 0; i < count; i++) {
        must(sendq_new(pool, &config, &queues[i]) == 0);
    }
    for (long piece = 0; piece < PIECES; piece++) {
        for (long i = 0; i < count; i++) { /* their blocks lie among each other, as in a server */
            must(sendq_append_ref(queues[i], payload, PIECE, NULL, NULL) >= 0);
        }
    }
    for (long round = atol(argv[2]); round > 0; round--) {
        double start = now();
        must(sendq_pool_heaviest(pool, found, HEAVIEST) > 0);
        double heaviest = now();
        must(sendq_pool_stalled(pool, UINT64_MAX, found, HEAVIEST) == 0);
        double stalled = now();
        for (long i = 0; i < count; i++) {
            must(sendq_schedule(queues[i]) == 0);
        }
        double scheduled = now();
        long ready = 0;
        while (sendq_pool_next(pool) != NULL) {
            ready++;
        }
        double end = now();
        must(ready == count);
        printf("%.1f %.1f %.1f\n", (heaviest - start) / (double)count,
               (stalled - heaviest) / (double)count, (end - scheduled) / (double)count);
    }
    for (long i = 0; i < count; i++) {
        sendq_free(queues[i]);
    }
    sendq_pool_free(pool);
    free(queues);
    return 0;
}
