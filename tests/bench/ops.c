/* One workload, N times, without a socket. Usage: ops SIDE WORKLOAD N. Sides and workloads are
 * listed at the end. Prints the nanoseconds of what counts in it. */
#include <event2/buffer.h>
#include <event2/thread.h>
#include <sendq/sendq.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>

enum { QUEUES = 1000 };

static char payload[64 * 1024];
/* A response in three pieces. */
enum { PIECES = 3, RESPONSE = 18 + 100 + 5 };
static struct iovec pieces[PIECES] = {{payload, 18}, {payload + 18, 100}, {payload + 118, 5}};

static uint64_t released;

/* What counts: from one of these to the other. */

static double counted_ns;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void count_on(void) {
    counted_ns -= now();
}

static void count_off(void) {
    counted_ns += now();
}

/* A side is NAME_open, NAME_append, NAME_appendv, NAME_message, NAME_borrow, NAME_drain and
 * NAME_close, and the same for the many queues that one payload is shared by. */

static sendq_pool_t* pool;
static sendq_t* queue;
static sendq_t* queues[QUEUES];
static sendq_buf_t* buf;

static void release(void* arg, const void* data, size_t len, int reason) {
    (void)arg, (void)data, (void)len, (void)reason;
    released++;
}

static sendq_t* new_queue(uint32_t flags) {
    sendq_config_t config = {0};
    config.size = sizeof config;
    config.flags = flags;
    config.copy_below = 1; /* what it is told to borrow, it borrows */
    sendq_t* q;
    if (sendq_new(pool, &config, &q) != 0) {
        abort();
    }
    return q;
}

static void open_queue(uint32_t flags) {
    sendq_pool_config_t pools = {0};
    pools.size = sizeof pools;
    pools.flags = flags;
    if (sendq_pool_new(&pools, &pool) != 0) {
        abort();
    }
    queue = new_queue(flags);
}

static void close_queue(void) {
    sendq_free(queue);
    sendq_pool_free(pool);
}

static int append_message(void) {
    sendq_part_t parts[PIECES] = {sendq_part_copy(payload, 18), sendq_part_copy(payload + 18, 100),
                                  sendq_part_copy(payload + 118, 5)};
    return sendq_append_message(queue, parts, PIECES, NULL, NULL);
}

static void open_queues(uint32_t flags) {
    open_queue(flags);
    if (sendq_buf_wrap(pool, payload, sizeof payload, release, NULL, &buf) != 0) {
        abort();
    }
    for (int i = 0; i < QUEUES; i++) {
        queues[i] = new_queue(flags);
    }
}

static void close_queues(void) {
    for (int i = 0; i < QUEUES; i++) {
        sendq_free(queues[i]);
    }
    sendq_buf_unref(buf);
    close_queue();
}

#define confined_open() open_queue(0)
#define confined_append(len) sendq_append(queue, payload, len)
#define confined_appendv() sendq_appendv(queue, pieces, PIECES)
#define confined_message() append_message()
#define confined_borrow(len) sendq_append_ref(queue, payload, len, release, NULL)
#define confined_drain(len) sendq_consume(queue, len)
#define confined_close() close_queue()
#define confined_open_many() open_queues(0)
#define confined_share(i) sendq_append_buf(queues[i], buf, 0, sizeof payload)
#define confined_drain_one(i) sendq_consume(queues[i], sizeof payload)
#define confined_close_many() close_queues()

#define locked_open() open_queue(SENDQ_THREADSAFE)
#define locked_append(len) confined_append(len)
#define locked_appendv() confined_appendv()
#define locked_message() append_message()
#define locked_borrow(len) confined_borrow(len)
#define locked_drain(len) confined_drain(len)
#define locked_close() close_queue()
#define locked_open_many() open_queues(SENDQ_THREADSAFE)
#define locked_share(i) confined_share(i)
#define locked_drain_one(i) confined_drain_one(i)
#define locked_close_many() close_queues()

static struct evbuffer* evbuffer;
static struct evbuffer* evbuffers[QUEUES];
static struct evbuffer* source;
static uint64_t holds;

static void cleanup(const void* data, size_t len, void* arg) {
    (void)data, (void)len, (void)arg;
    released++;
}

/* A payload with a reference count, as a server keeps it that shares it by evbuffer_add_reference.
 */
static void cleanup_hold(const void* data, size_t len, void* arg) {
    (void)data, (void)len;
    uint64_t* count = arg;
    if (__atomic_sub_fetch(count, 1, __ATOMIC_ACQ_REL) == 0) {
        released++;
    }
}

static int appendv(struct evbuffer* to) {
    return evbuffer_add_iovec(to, pieces, PIECES) == RESPONSE ? 0 : -1;
}

static void open_guarded(void) {
    evbuffer = evbuffer_new();
    if (evthread_use_pthreads() != 0 || evbuffer_enable_locking(evbuffer, NULL) != 0) {
        abort();
    }
}

static void open_evbuffers(void) {
    source = evbuffer_new();
    evbuffer_add_reference(source, payload, sizeof payload, cleanup, NULL);
    for (int i = 0; i < QUEUES; i++) {
        evbuffers[i] = evbuffer_new();
    }
    holds = 1;
}

static void close_evbuffers(void) {
    for (int i = 0; i < QUEUES; i++) {
        evbuffer_free(evbuffers[i]);
    }
    evbuffer_free(source);
}

static int share_hold(struct evbuffer* to) {
    __atomic_add_fetch(&holds, 1, __ATOMIC_RELAXED);
    return evbuffer_add_reference(to, payload, sizeof payload, cleanup_hold, &holds);
}

#define libevent_open() evbuffer = evbuffer_new()
#define libevent_append(len) evbuffer_add(evbuffer, payload, len)
#define libevent_appendv() appendv(evbuffer)
#define libevent_message() libevent_appendv()
#define libevent_borrow(len) evbuffer_add_reference(evbuffer, payload, len, cleanup, NULL)
#define libevent_drain(len) evbuffer_drain(evbuffer, len)
#define libevent_close() evbuffer_free(evbuffer)
#define libevent_open_many() open_evbuffers()
#define libevent_share(i) share_hold(evbuffers[i])
#define libevent_drain_one(i) evbuffer_drain(evbuffers[i], sizeof payload)
#define libevent_close_many() close_evbuffers()

/* libevent's other way of sharing. */
#define multicast_open() libevent_open()
#define multicast_append(len) libevent_append(len)
#define multicast_appendv() libevent_appendv()
#define multicast_message() libevent_appendv()
#define multicast_borrow(len) libevent_borrow(len)
#define multicast_drain(len) libevent_drain(len)
#define multicast_close() libevent_close()
#define multicast_open_many() open_evbuffers()
#define multicast_share(i) evbuffer_add_buffer_reference(evbuffers[i], source)
#define multicast_drain_one(i) libevent_drain_one(i)
#define multicast_close_many() close_evbuffers()

/* libevent with its lock, where it is one buffer. */
#define guarded_open() open_guarded()
#define guarded_append(len) libevent_append(len)
#define guarded_appendv() libevent_appendv()
#define guarded_message() libevent_appendv()
#define guarded_borrow(len) libevent_borrow(len)
#define guarded_drain(len) libevent_drain(len)
#define guarded_close() libevent_close()
#define guarded_open_many() open_evbuffers()
#define guarded_share(i) libevent_share(i)
#define guarded_drain_one(i) libevent_drain_one(i)
#define guarded_close_many() close_evbuffers()

#define MUST(call)        \
    do {                  \
        if ((call) < 0) { \
            abort();      \
        }                 \
    } while (0)

#define WORKLOADS(side)                                                       \
    static void side##_pair(void) {                                           \
        MUST(side##_append(24));                                              \
        MUST(side##_append(100));                                             \
        MUST(side##_drain(124));                                              \
    }                                                                         \
    static void side##_pair16(void) {                                         \
        for (int i = 0; i < 16; i++) {                                        \
            MUST(side##_append(24));                                          \
            MUST(side##_append(100));                                         \
        }                                                                     \
        MUST(side##_drain(16 * 124));                                         \
    }                                                                         \
    static void side##_appendv16(void) {                                      \
        for (int i = 0; i < 16; i++) {                                        \
            MUST(side##_appendv());                                           \
        }                                                                     \
        MUST(side##_drain(16 * RESPONSE));                                    \
    }                                                                         \
    static void side##_message16(void) {                                      \
        for (int i = 0; i < 16; i++) {                                        \
            MUST(side##_message());                                           \
        }                                                                     \
        MUST(side##_drain(16 * RESPONSE));                                    \
    }                                                                         \
    static void side##_kib64(void) {                                          \
        for (int i = 0; i < 64; i++) {                                        \
            MUST(side##_append(1024));                                        \
        }                                                                     \
        MUST(side##_drain(64 * 1024));                                        \
    }                                                                         \
    static void side##_borrow1k(void) {                                       \
        MUST(side##_borrow(1024));                                            \
        MUST(side##_drain(1024));                                             \
    }                                                                         \
    static void side##_borrow64k(void) {                                      \
        MUST(side##_borrow(64 * 1024));                                       \
        MUST(side##_drain(64 * 1024));                                        \
    }                                                                         \
    static void side##_mixed(void) {                                          \
        MUST(side##_append(24));                                              \
        MUST(side##_borrow(16 * 1024));                                       \
        MUST(side##_drain(24 + 16 * 1024));                                   \
    }                                                                         \
    static void side##_mixed16(void) {                                        \
        for (int i = 0; i < 16; i++) {                                        \
            MUST(side##_append(24));                                          \
            MUST(side##_borrow(16 * 1024));                                   \
        }                                                                     \
        MUST(side##_drain(16 * (24 + 16 * 1024)));                            \
    }                                                                         \
    /* Apart and under this name, so that callgrind can count it alone. */    \
    __attribute__((noinline)) static void side##_share_counted(void) {        \
        for (int i = 0; i < QUEUES; i++) {                                    \
            MUST(side##_share(i));                                            \
        }                                                                     \
    }                                                                         \
    static void side##_run_share(long n) {                                    \
        side##_open_many();                                                   \
        for (long run = 0; run < n; run++) {                                  \
            count_on();                                                       \
            side##_share_counted();                                           \
            count_off();                                                      \
            for (int i = 0; i < QUEUES; i++) {                                \
                MUST(side##_drain_one(i));                                    \
            }                                                                 \
        }                                                                     \
        side##_close_many();                                                  \
    }                                                                         \
    static void side##_run(const char* workload, long n) {                    \
        static const struct {                                                 \
            const char* name;                                                 \
            void (*once)(void);                                               \
        } workloads[] = {                                                     \
            {"pair", side##_pair},           {"pair16", side##_pair16},       \
            {"appendv16", side##_appendv16}, {"message16", side##_message16}, \
            {"kib64", side##_kib64},         {"borrow1k", side##_borrow1k},   \
            {"borrow64k", side##_borrow64k}, {"mixed", side##_mixed},         \
            {"mixed16", side##_mixed16},                                      \
        };                                                                    \
        if (strcmp(workload, "share") == 0) {                                 \
            side##_run_share(n);                                              \
            return;                                                           \
        }                                                                     \
        void (*once)(void) = NULL;                                            \
        for (size_t i = 0; i < sizeof workloads / sizeof *workloads; i++) {   \
            if (strcmp(workload, workloads[i].name) == 0) {                   \
                once = workloads[i].once;                                     \
            }                                                                 \
        }                                                                     \
        if (once == NULL) {                                                   \
            exit(2);                                                          \
        }                                                                     \
        side##_open();                                                        \
        count_on();                                                           \
        for (long i = 0; i < n; i++) {                                        \
            once();                                                           \
        }                                                                     \
        count_off();                                                          \
        side##_close();                                                       \
    }

WORKLOADS(confined)
WORKLOADS(locked)
WORKLOADS(libevent)
WORKLOADS(guarded)
WORKLOADS(multicast)

int main(int argc, char** argv) {
    static const struct {
        const char* name;
        void (*run)(const char* workload, long n);
    } sides[] = {{"sendq", confined_run},
                 {"locked", locked_run},
                 {"libevent", libevent_run},
                 {"libevent-locked", guarded_run},
                 {"multicast", multicast_run}};

    for (size_t i = 0; argc == 4 && i < sizeof sides / sizeof *sides; i++) {
        if (strcmp(sides[i].name, argv[1]) == 0) {
            sides[i].run(argv[2], atol(argv[3]));
            printf("%.0f\n", counted_ns);
            return 0;
        }
    }
    fprintf(stderr,
            "usage: ops sendq|locked|libevent|libevent-locked|multicast "
            "pair|pair16|appendv16|message16|kib64|borrow1k|borrow64k|mixed|mixed16|share N\n");
    return 2;
}
