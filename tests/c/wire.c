/* The bytes that leave are the bytes appended, through real sockets with the smallest buffers and a
 * reader that stops; and every flush tells the truth about why it returned. */
#include <fcntl.h>

#include "check.h"

enum { MAX_APPEND = 300 << 10, MAX_PIECES = 2000, MAX_WAITING = 4 << 20 };

typedef struct {
    sendq_t* q;
    ends e;
    uint64_t random;
    uint64_t appended;
    uint64_t received;
} run;

static unsigned char bytes[MAX_APPEND];
static struct iovec iov[MAX_PIECES];

static void append(run* r) {
    /* Small ones are most of what servers send; large ones are where the kernel's buffer ends. */
    size_t limit = random_next(&r->random) % 4 ? 2000 : MAX_APPEND;
    size_t len = random_up_to(&r->random, limit);
    bool empty = sendq_queued_bytes(r->q) == 0;
    void* memory = bytes;
    int hints = 0;
    switch (random_next(&r->random) % 3) {
        case 0:
            stream_fill(bytes, r->appended, len);
            hints = sendq_append(r->q, bytes, len);
            break;
        case 1: {
            stream_fill(bytes, r->appended, len);
            int count = 0;
            for (size_t at = 0; at < len; count++) {
                size_t rest = len - at;
                /* The last piece takes what is left; some are empty. */
                size_t piece = random_next(&r->random) % (2 * len / MAX_PIECES + 2);
                piece = count == MAX_PIECES - 1 || piece > rest ? rest : piece;
                iov[count] = (struct iovec){bytes + at, piece};
                at += piece;
            }
            hints = sendq_appendv(r->q, iov, count);
            break;
        }
        default: {
            size_t more = random_next(&r->random) % 1000;
            CHECK_IS(sendq_reserve(r->q, len + more, &memory), 0);
            stream_fill(memory, r->appended, len);
            memset((unsigned char*)memory + len, 0xff, more); /* never sent: no stream byte */
            hints = sendq_commit(r->q, len);
        }
    }
    CHECK(hints >= 0);
    CHECK_IS((hints & SENDQ_WAKE) != 0, empty);
    r->appended += len;
    CHECK_IS(sendq_queued_bytes(r->q), r->appended - sendq_sent_bytes(r->q));
}

static int flush(run* r) {
    uint64_t waited = sendq_queued_bytes(r->q);
    uint64_t sent = sendq_sent_bytes(r->q);
    size_t budget = random_next(&r->random) % 2 ? random_up_to(&r->random, 100000) : 0;
    int result = sendq_flush(r->q, r->e.queue, budget);
    CHECK(result >= 0);
    int why = result & ~SENDQ_RESUME;
    uint64_t left = sendq_queued_bytes(r->q);
    uint64_t gone = sendq_sent_bytes(r->q) - sent;
    CHECK_IS(waited - left, gone);
    CHECK(budget == 0 || gone <= budget);
    if (left == 0) {
        CHECK_IS(why, 0);
    } else if (budget > 0 && gone == budget) {
        CHECK_IS(why, SENDQ_MORE);
    } else {
        CHECK_IS(why, SENDQ_BLOCKED);
    }
    return why;
}

static size_t receive(run* r, size_t limit) {
    static unsigned char buffer[MAX_APPEND];
    size_t got = ends_read(r->e, buffer, limit < sizeof buffer ? limit : sizeof buffer);
    CHECK(got <= r->appended - r->received);
    stream_check(buffer, r->received, got);
    r->received += got;
    return got;
}

static void run_through(ends e, bool blocking_mode, uint64_t chunk_bytes, uint64_t total) {
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){.chunk_bytes = chunk_bytes});
    run r = {.q = new_queue(pool, NULL), .e = e, .random = 88172645463325252U + chunk_bytes};
    ends_least_buffer(e);
    if (!blocking_mode) {
        CHECK_IS(fcntl(e.queue, F_SETFL, O_NONBLOCK), 0);
    }
    bool reading = true;
    while (r.appended < total || r.received < r.appended) {
        bool full = sendq_queued_bytes(r.q) >= MAX_WAITING || r.appended >= total;
        if (!full) {
            append(&r);
        }
        if (random_next(&r.random) % 20 == 0) {
            reading = !reading;
        }
        int why = flush(&r);
        if (reading || full) {
            receive(&r, random_up_to(&r.random, 200000));
        }
        if (full && why != SENDQ_MORE && r.received < r.appended) {
            /* Either the queue may go on, or something is on its way to the reader. */
            struct pollfd both[] = {{e.queue, why ? POLLOUT : 0, 0}, {e.peer, POLLIN, 0}};
            CHECK(poll(both, 2, 30000) > 0);
        }
    }
    CHECK_IS(sendq_sent_bytes(r.q), r.appended);
    CHECK_IS(sendq_queued_bytes(r.q), 0);
    CHECK_IS(receive(&r, 1), 0);
    sendq_free(r.q);
    sendq_pool_free(pool);
    ends_close(e);
}

/* More pieces than one system call takes (IOV_MAX is 1024). */
static void many_pieces(void) {
    ends e = ends_unix();
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){.chunk_bytes = 256});
    sendq_t* q = new_queue(pool, NULL);
    run r = {.q = q, .e = e};
    for (int i = 0; i < 4; i++) {
        stream_fill(bytes, r.appended, sizeof bytes);
        CHECK(sendq_append(q, bytes, sizeof bytes) >= 0);
        r.appended += sizeof bytes;
    }
    while (r.received < r.appended) {
        int why = sendq_flush(q, e.queue, 0);
        CHECK(why >= 0);
        CHECK_IS((why & (SENDQ_BLOCKED | SENDQ_MORE)) != 0, sendq_queued_bytes(q) > 0);
        while (receive(&r, SIZE_MAX) > 0) {
        }
    }
    CHECK_IS(sendq_flush(q, e.queue, 0), 0);
    sendq_free(q);
    sendq_pool_free(pool);
    ends_close(e);
}

int main(void) {
    many_pieces();
    run_through(ends_unix(), true, 0, 32 << 20);
    run_through(ends_unix(), false, 256, 8 << 20);
    run_through(ends_unix(), true, 1 << 20, 16 << 20);
    run_through(ends_tcp(), false, 0, 4 << 20);
    run_through(ends_tcp(), true, 256, 2 << 20);
    return 0;
}
