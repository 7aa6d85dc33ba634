/* The heap: no allocation that fails, wherever it is, makes half a connection; and how much of it
 * an idle connection takes, beside a bufferevent. */
#include <event2/bufferevent.h>
#include <malloc.h>

#include "loop.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__GLIBC__)

int main(void) {
    return 77; /* the allocator is the sanitizer's, or not that of glibc */
}

#else

void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void __libc_free(void* memory);

enum { CONNECTIONS = 1000 };

static unsigned allocations; /* in total */
static unsigned live;        /* of them, but for what was aligned */
static unsigned fail_at;     /* fails when `allocations` gets there; 0: never */

static bool fails(void) {
    allocations++;
    if (allocations != fail_at) {
        return false;
    }
    errno = ENOMEM;
    return true;
}

void* malloc(size_t size) {
    void* memory = fails() ? NULL : __libc_malloc(size);
    live += memory != NULL;
    return memory;
}

void* calloc(size_t count, size_t size) {
    void* memory = fails() ? NULL : __libc_calloc(count, size);
    live += memory != NULL;
    return memory;
}

void free(void* memory) {
    live -= memory != NULL;
    __libc_free(memory);
}

static size_t held(void) {
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

static int open_with_failure(unsigned at, sendq_pool_t* pool, ends e, sendq_bev_t** b) {
    fail_at = allocations + at;
    int result = sendq_bev_new(base, e.queue, 0, pool, NULL, b);
    fail_at = 0;
    return result;
}

static void new_out_of_memory(void) {
    ends e = ends_unix();
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){0});
    sendq_free(new_queue(pool, NULL)); /* the pool keeps its table of queues */
    sendq_bev_t* b = NULL;
    unsigned failures = 0;
    unsigned before = live;
    while (open_with_failure(failures + 1, pool, e, &b) != 0) {
        CHECK(b == NULL);
        CHECK_IS(live, before);
        failures++;
        CHECK(failures < 10);
    }
    CHECK(failures >= 1);
    CHECK_IS(sendq_bev_write(b, "x", 1), 0);
    turn();
    char received;
    CHECK_IS(read(e.peer, &received, 1), 1);
    sendq_bev_free(b);
    sendq_pool_free(pool);
    ends_close(e);
}

static void long_printf_out_of_memory(void) {
    static connection it;
    connection_open(&it);
    fail_at = allocations + 1;
    CHECK_IS(sendq_bev_printf(it.b, "%1000d", 1), -ENOMEM);
    fail_at = 0;
    CHECK_IS(sendq_bev_get_length(it.b), 0);
    connection_close(&it);
}

/* The loop finds that out: there is no deadline then, but an end. */
static void deadline_out_of_memory(void) {
    static connection it;
    connection_open(&it);
    connection_fill(&it);
    CHECK_IS(sendq_bev_close(it.b, SECOND), 0);
    fail_at = allocations + 1;
    turn();
    fail_at = 0;
    CHECK_IS(it.ended, true);
    CHECK_IS(it.what, BEV_EVENT_ERROR | BEV_EVENT_WRITING);
    CHECK_IS(it.error, ENOMEM);
    connection_close(&it);
}

/* Attached wholly or not at all. */
static void attach_out_of_memory(void) {
    ends e = ends_unix();
    sendq_t* q = new_queue(NULL, NULL);
    struct bufferevent* bev = bufferevent_socket_new(base, e.queue, BEV_OPT_CLOSE_ON_FREE);
    CHECK(bev != NULL);
    sendq_bev_t* b = NULL;
    int result = -ENOMEM;
    for (unsigned failures = 0; result != 0; failures++) {
        CHECK(failures < 20);
        fail_at = allocations + failures + 1;
        result = sendq_bev_attach_bufferevent(bev, q, &b);
        fail_at = 0;
        CHECK(result == 0 || (result == -ENOMEM && b == NULL));
        CHECK(result == 0 || bufferevent_write(bev, NULL, 0) == 0); /* not shut */
        turn();
    }
    sendq_bev_free(b);
    sendq_free(q);
    bufferevent_free(bev);
    turn();
    close(e.peer);
}

static void idle_connections(void) {
    static sendq_bev_t* glues[CONNECTIONS];
    static struct bufferevent* bufferevents[CONNECTIONS];
    ends e = ends_unix();
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){0});
    size_t start = held();
    for (int i = 0; i < CONNECTIONS; i++) {
        CHECK_IS(sendq_bev_new(base, e.queue, 0, pool, NULL, &glues[i]), 0);
    }
    size_t glue = held() - start;
    for (int i = 0; i < CONNECTIONS; i++) {
        bufferevents[i] = bufferevent_socket_new(base, e.queue, 0);
        CHECK(bufferevents[i] != NULL);
    }
    size_t bufferevent = held() - start - glue;
    printf("heap of an idle connection: %zu bytes, a bufferevent %zu\n", glue / CONNECTIONS,
           bufferevent / CONNECTIONS);
    CHECK(glue < bufferevent * 2 / 3);
    for (int i = 0; i < CONNECTIONS; i++) {
        sendq_bev_free(glues[i]);
        bufferevent_free(bufferevents[i]);
    }
    sendq_pool_free(pool);
    ends_close(e);
}

int main(void) {
    sendq_free(new_queue(NULL, NULL));
    if (allocations == 0) {
        return 77; /* valgrind puts its own in front of these */
    }
    base = event_base_new();
    CHECK(base != NULL);
    new_out_of_memory();
    long_printf_out_of_memory();
    deadline_out_of_memory();
    attach_out_of_memory();
    idle_connections();
    event_base_free(base);
    return 0;
}

#endif
