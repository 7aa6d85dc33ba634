/* SENDQ_THREADSAFE: four threads append frames, copied and borrowed, two flush, one asks. Every
 * frame arrives whole, and those of one thread in their order; a flusher that sleeps until a hint
 * wakes it misses none. */
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "check.h"

enum { PRODUCERS = 4, FRAMES = 20000, MAX_BODY = 3000, MAX_WAITING = 256 << 10 };

typedef struct {
    uint32_t producer;
    uint32_t number;
    uint32_t len; /* of the body that follows */
} frame;

static sendq_t* queue;
static ends connection;
static sem_t work; /* posted for each hint that asks for a flush */
static atomic_bool done;
static atomic_uint borrowed; /* frames that the queue has, and has to give back */

static void give_back(void* arg, const void* data, size_t len, int reason) {
    CHECK(arg == data && len > sizeof(frame));
    CHECK_IS(reason, 0);
    atomic_fetch_sub(&borrowed, 1);
    free(arg);
}

/* Lends the frame, in memory of its own, that the release frees. */
static int append_borrowed(const frame* head, const void* body) {
    size_t len = sizeof *head + head->len;
    unsigned char* memory = malloc(len);
    CHECK(memory != NULL);
    memcpy(memory, head, sizeof *head);
    memcpy(memory + sizeof *head, body, head->len);
    atomic_fetch_add(&borrowed, 1); /* before: another thread may send and release it at once */
    int hints = sendq_append_ref(queue, memory, len, give_back, memory);
    if (hints < 0) {
        atomic_fetch_sub(&borrowed, 1);
        free(memory);
    }
    return hints;
}

static void* produce(void* arg) {
    frame head = {.producer = (uint32_t)(uintptr_t)arg};
    uint64_t random = 1 + head.producer;
    unsigned char body[MAX_BODY];
    for (head.number = 0; head.number < FRAMES; head.number++) {
        size_t len = random_up_to(&random, MAX_BODY);
        head.len = (uint32_t)len;
        stream_fill(body, head.producer * 7 + head.number, len);
        struct iovec iov[] = {{&head, sizeof head}, {body, len}};
        int hints;
        while ((hints = head.number % 2 ? append_borrowed(&head, body)
                                        : sendq_appendv(queue, iov, 2)) == -ENOBUFS) {
            sched_yield();
        }
        CHECK(hints >= 0);
        if (hints & SENDQ_WAKE) {
            sem_post(&work);
        }
    }
    return NULL;
}

/* One flush, and the hints that it must not swallow passed on; returns what sendq said. */
static int flush_once(void) {
    int hints = sendq_flush(queue, connection.queue, 20000);
    CHECK(hints >= 0 || hints == -EBUSY);
    if (hints > 0 && hints & (SENDQ_BLOCKED | SENDQ_MORE)) {
        sem_post(&work);
    }
    return hints;
}

/* Sleeps until there is work. */
static void* flush(void* arg) {
    (void)arg;
    for (;;) {
        CHECK_IS(sem_wait(&work), 0);
        if (atomic_load(&done)) {
            return NULL;
        }
        int hints = flush_once();
        if (hints == -EBUSY) {
            sem_post(&work); /* the other may have looked before there was this work */
            sched_yield();
        } else if (hints & SENDQ_BLOCKED) {
            wait_for(connection.queue, POLLOUT);
        }
    }
}

/* Tries again and again: one flush at a time gets through, the other hears -EBUSY. */
static void* flush_always(void* arg) {
    unsigned* busy = arg;
    while (!atomic_load(&done)) {
        *busy += flush_once() == -EBUSY;
    }
    return NULL;
}

static void* ask(void* arg) {
    (void)arg;
    uint64_t sent = 0;
    while (!atomic_load(&done)) {
        uint64_t now = sendq_sent_bytes(queue);
        CHECK(now >= sent);
        sent = now;
        CHECK(sendq_queued_bytes(queue) <= MAX_WAITING);
        CHECK_IS(sendq_error(queue), 0);
        CHECK(sendq_user(queue) == &work);
        CHECK(sendq_set_watermarks(queue, 0, 0, MAX_WAITING) >= 0);
        sched_yield();
    }
    return NULL;
}

static void receive_all(void* out, size_t len) {
    for (size_t at = 0; at < len;) {
        ssize_t got = recv(connection.peer, (char*)out + at, len - at, 0);
        CHECK(got > 0);
        at += (size_t)got;
    }
}

int main(void) {
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){.flags = SENDQ_THREADSAFE});
    sendq_config_t config = {.size = sizeof config,
                             .flags = SENDQ_THREADSAFE,
                             .user = &work,
                             .max = MAX_WAITING,
                             .copy_below = 1000};
    queue = new_queue(pool, &config);
    sendq_pool_free(pool);
    connection = ends_unix();
    ends_least_buffer(connection);
    CHECK_IS(sem_init(&work, 0, 0), 0);

    pthread_t producers[PRODUCERS];
    pthread_t others[3];
    unsigned busy = 0;
    for (uintptr_t i = 0; i < PRODUCERS; i++) {
        CHECK_IS(pthread_create(&producers[i], NULL, produce, (void*)i), 0);
    }
    CHECK_IS(pthread_create(&others[0], NULL, flush, NULL), 0);
    CHECK_IS(pthread_create(&others[1], NULL, flush_always, &busy), 0);
    CHECK_IS(pthread_create(&others[2], NULL, ask, NULL), 0);

    uint32_t next[PRODUCERS] = {0};
    uint64_t received = 0;
    for (int i = 0; i < PRODUCERS * FRAMES; i++) {
        unsigned char body[MAX_BODY];
        frame head;
        receive_all(&head, sizeof head);
        CHECK(head.producer < PRODUCERS);
        CHECK_IS(head.number, next[head.producer]);
        CHECK(head.len <= MAX_BODY);
        next[head.producer]++;
        receive_all(body, head.len);
        stream_check(body, head.producer * 7 + head.number, head.len);
        received += sizeof head + head.len;
    }

    for (int i = 0; i < PRODUCERS; i++) {
        CHECK_IS(pthread_join(producers[i], NULL), 0);
    }
    atomic_store(&done, true);
    sem_post(&work);
    for (int i = 0; i < 3; i++) {
        CHECK_IS(pthread_join(others[i], NULL), 0);
    }
    CHECK_IS(sendq_queued_bytes(queue), 0);
    CHECK_IS(sendq_sent_bytes(queue), received);
    CHECK_IS(atomic_load(&borrowed), 0);
    printf("%u flushes heard -EBUSY\n", busy);
    sendq_free(queue);
    ends_close(connection);
    return 0;
}
