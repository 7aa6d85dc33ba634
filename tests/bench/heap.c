/* Bytes that one connection's output costs, of the heap, malloc's own share included (mallinfo3),
 * and of the pool's chunks, which are mapped: idle and new, with 124 bytes waiting, and idle again
 * after 1 MiB was queued and drained; and with 1 MiB waiting as references of 100 bytes, as a
 * multiple of the payload in percent; and the blocks of messages of 1.5 KB as a multiple of that:
 * corked and copied, with a notification each, with a borrowed part each; and appended as a message
 * with such a part. */
#include <event2/buffer.h>
#include <event2/event.h>
#include <malloc.h>
#include <sendq/sendq.h>
#include <stdio.h>
#include <stdlib.h>

enum { CONNECTIONS = 1000, LITTLE = 124, MUCH = 1 << 20, PIECE = 100 };

static char payload[MUCH];
static sendq_pool_t* pool;
static sendq_t* queues[CONNECTIONS];
static struct event_base* base;
static struct evbuffer* evbuffers[CONNECTIONS];
static struct event* events[CONNECTIONS];

static void open_sendq(int i) {
    if (sendq_new(pool, NULL, &queues[i]) != 0) {
        abort();
    }
}

static void append_sendq(int i, size_t len) {
    if (sendq_append(queues[i], payload, len) < 0) {
        abort();
    }
}

static void drain_sendq(int i) {
    sendq_consume(queues[i], sendq_queued_bytes(queues[i]));
}

/* What a daemon needs for the same with libevent: a buffer, and the event that flushes it. */
static void open_libevent(int i) {
    evbuffers[i] = evbuffer_new();
    events[i] = event_new(base, -1, EV_WRITE | EV_PERSIST, NULL, NULL);
}

static void append_libevent(int i, size_t len) {
    evbuffer_add(evbuffers[i], payload, len);
}

static void drain_libevent(int i) {
    evbuffer_drain(evbuffers[i], evbuffer_get_length(evbuffers[i]));
}

/* What `from` keeps free counts for nobody. */
static size_t held(const sendq_pool_t* from) {
    struct mallinfo2 info = mallinfo2();
    sendq_pool_stats_t stats;
    if (sendq_pool_stats(from, &stats, sizeof stats) != 0) {
        abort();
    }
    return info.uordblks + info.hblkhd + stats.used;
}

static void report(const char* name, void (*open)(int), void (*append)(int, size_t),
                   void (*drain)(int)) {
    size_t start = held(pool);
    for (int i = 0; i < CONNECTIONS; i++) {
        open(i);
    }
    size_t idle = held(pool);
    for (int i = 0; i < CONNECTIONS; i++) {
        append(i, LITTLE);
    }
    size_t little = held(pool);
    for (int i = 0; i < CONNECTIONS; i++) {
        drain(i);
    }
    size_t drained = held(pool);
    for (int i = 0; i < CONNECTIONS; i++) {
        append(i, MUCH);
        drain(i);
    }
    size_t after = held(pool);
    printf("%s idle %zu waiting %zu after %zu pool %zu\n", name, (idle - start) / CONNECTIONS,
           (little - start) / CONNECTIONS, (after - drained + idle - start) / CONNECTIONS,
           drained - idle);
}

static void release(void* arg, const void* data, size_t len, int reason) {
    (void)arg, (void)data, (void)len, (void)reason;
}

static void cleanup(const void* data, size_t len, void* arg) {
    (void)data, (void)len, (void)arg;
}

/* Payload and overhead. */
static void report_references(void) {
    sendq_config_t config = {0};
    config.size = sizeof config;
    config.copy_below = 1;
    sendq_pool_t* own;
    sendq_t* q;
    if (sendq_pool_new(NULL, &own) != 0 || sendq_new(own, &config, &q) != 0) {
        abort();
    }
    size_t start = held(own);
    for (size_t at = 0; at + PIECE <= MUCH; at += PIECE) {
        if (sendq_append_ref(q, payload + at, PIECE, release, NULL) < 0) {
            abort();
        }
    }
    size_t sendq_bytes = held(own) - start;
    sendq_free(q);
    sendq_pool_free(own);

    struct evbuffer* evbuffer = evbuffer_new();
    start = held(pool);
    for (size_t at = 0; at + PIECE <= MUCH; at += PIECE) {
        evbuffer_add_reference(evbuffer, payload + at, PIECE, cleanup, NULL);
    }
    size_t libevent_bytes = held(pool) - start;
    evbuffer_free(evbuffer);
    printf("sendq references %zu\nlibevent references %zu\n", 100 + sendq_bytes * 100 / MUCH,
           100 + libevent_bytes * 100 / MUCH);
}

enum { MESSAGES = 1000, COPIED = 1500, BORROWED = 16 << 10 };

static int cork_copied(sendq_t* q) {
    int result = sendq_cork(q) | sendq_append(q, payload, COPIED);
    return result | sendq_uncork(q);
}

static int cork_notified(sendq_t* q) {
    int result = sendq_cork(q) | sendq_append(q, payload, COPIED);
    return result | sendq_notify(q, release, NULL) | sendq_uncork(q);
}

static int cork_borrowed(sendq_t* q) {
    int result = sendq_cork(q) | sendq_append(q, payload, COPIED);
    result |= sendq_append_ref(q, payload, BORROWED, release, NULL);
    return result | sendq_uncork(q);
}

static int append_message(sendq_t* q) {
    sendq_part_t parts[] = {sendq_part_copy(payload, COPIED), sendq_part_ref(payload, BORROWED)};
    return sendq_append_message(q, parts, 2, release, NULL);
}

/* Blocks as a part of what was copied, in percent. */
static void report_messages(const char* name, int (*append)(sendq_t*)) {
    sendq_config_t config = {0};
    config.size = sizeof config;
    config.high = UINT64_MAX;
    sendq_pool_t* own;
    sendq_t* q;
    if (sendq_pool_new(NULL, &own) != 0 || sendq_new(own, &config, &q) != 0) {
        abort();
    }
    size_t start = held(own);
    for (int i = 0; i < MESSAGES; i++) {
        if (append(q) < 0) {
            abort();
        }
    }
    printf("sendq %s %zu\n", name, (held(own) - start) * 100 / (MESSAGES * COPIED));
    sendq_free(q);
    sendq_pool_free(own);
}

int main(void) {
    base = event_base_new();
    if (base == NULL || sendq_pool_new(NULL, &pool) != 0) {
        abort();
    }
    report("sendq", open_sendq, append_sendq, drain_sendq);
    report("libevent", open_libevent, append_libevent, drain_libevent);
    report_references();
    report_messages("corked", cork_copied);
    report_messages("corked-notified", cork_notified);
    report_messages("corked-borrowed", cork_borrowed);
    report_messages("message-borrowed", append_message);
    for (int i = 0; i < CONNECTIONS; i++) {
        sendq_free(queues[i]);
        event_free(events[i]);
        evbuffer_free(evbuffers[i]);
    }
    sendq_pool_free(pool);
    event_base_free(base);
    return 0;
}
