/* The figures of a queue, held against a model after every step of a random mixture of all that
 * appends, moves, sends and drops bytes; against the system calls that were really made; and past
 * 32 bits. */
#include "simulated.h"
#include "system_calls.h"

static uint64_t calls;  /* system calls */
static uint64_t shorts; /* that send, and took less than they were given */

static void on_system_call(call c) {
    calls++;
    shorts += c.kind != OTHER && (c.taken < 0 || (size_t)c.taken < c.bytes);
}

static unsigned char bytes[1 << 16];
static int file;

enum { COPIED, BORROWED, SHARED, FILED, KINDS };
enum { MAX_RUNS = 1 << 14, MAX_PINS = 1 << 14, COPY_BELOW = 64, FILE_BYTES = 1 << 16 };

/* Bytes of one kind that wait. */
typedef struct {
    int kind;
    uint64_t len;
} run;

/* What a queue should say of itself. */
typedef struct {
    sendq_t* q;
    ends e;
    run runs[MAX_RUNS]; /* [first, last) wait; from `held` on they are corked */
    size_t first, last, held;
    bool corked;
    size_t reserved;
    uint64_t appended[KINDS];
    uint64_t sent, discarded, peak, flushes, calls, shorts, blocked, blocked_ns, progress;
    uint64_t pinned[KINDS];
    bool is_blocked;
    uint64_t blocked_since;
} model;

/* A piece that is borrowed by a queue. */
typedef struct {
    model* home; /* NULL: none */
    int kind;
    size_t len;
} pin;

static pin pins[MAX_PINS];
static uint64_t rnd;

static uint64_t waiting(const model* m, size_t from, size_t to) {
    uint64_t sum = 0;
    for (size_t i = from; i < to; i++) {
        sum += m->runs[i].len;
    }
    return sum;
}

static uint64_t all_waiting(const model* m) {
    return waiting(m, m->first, m->last);
}

static uint64_t waiting_in_files(const model* m) {
    uint64_t sum = 0;
    for (size_t i = m->first; i < m->last; i++) {
        sum += m->runs[i].kind == FILED ? m->runs[i].len : 0;
    }
    return sum;
}

static uint64_t available(const model* m) {
    return waiting(m, m->first, m->corked ? m->held : m->last);
}

static void came(model* m, int kind, uint64_t len) {
    if (all_waiting(m) == 0) {
        m->progress = now_ns;
        m->first = m->last = m->held = 0;
    }
    CHECK(m->last < MAX_RUNS);
    m->runs[m->last++] = (run){kind, len};
    m->appended[kind] += len;
    uint64_t sum = all_waiting(m);
    m->peak = sum > m->peak ? sum : m->peak;
}

static void unblock(model* m) {
    if (m->is_blocked) {
        m->blocked_ns += now_ns - m->blocked_since;
    }
    m->is_blocked = false;
}

static void left(model* m, uint64_t len) {
    if (len > 0) {
        m->progress = now_ns;
        unblock(m);
    }
    m->sent += len;
    while (len > 0) {
        CHECK(m->first < m->last);
        run* r = &m->runs[m->first];
        uint64_t step = r->len < len ? r->len : len;
        r->len -= step;
        len -= step;
        m->first += r->len == 0;
    }
}

static void dropped(model* m) {
    m->discarded += all_waiting(m);
    unblock(m);
    m->first = m->last = m->held = 0;
}

static void given_back(void* arg, const void* data, size_t len, int reason) {
    pin* p = arg;
    (void)data, (void)reason;
    CHECK(p->home != NULL);
    CHECK(p->kind == SHARED || len == p->len);
    p->home->pinned[p->kind] -= p->len;
    p->home = NULL;
}

static pin* new_pin(model* m, int kind, size_t len) {
    pin* p = pins;
    while (p->home != NULL) {
        CHECK(++p < pins + MAX_PINS);
    }
    *p = (pin){m, kind, len};
    m->pinned[kind] += len;
    return p;
}

static void compare(const model* m) {
    sendq_stats_t s = figures(m->q);
    CHECK_IS(s.copied, m->appended[COPIED]);
    CHECK_IS(s.borrowed, m->appended[BORROWED]);
    CHECK_IS(s.shared, m->appended[SHARED]);
    CHECK_IS(s.file, m->appended[FILED]);
    CHECK_IS(s.sent, m->sent);
    CHECK_IS(s.sent, sendq_sent_bytes(m->q));
    CHECK_IS(s.discarded, m->discarded);
    CHECK_IS(s.waiting, all_waiting(m));
    CHECK_IS(s.waiting, sendq_queued_bytes(m->q));
    CHECK_IS(sendq_queued_memory(m->q), all_waiting(m) - waiting_in_files(m));
    CHECK_IS(s.pinned, m->pinned[BORROWED] + m->pinned[SHARED]);
    CHECK_IS(s.peak_waiting, m->peak);
    CHECK_IS(s.flushes, m->flushes);
    CHECK_IS(s.system_calls, m->calls);
    CHECK_IS(s.short_writes, m->shorts);
    CHECK_IS(s.blocked, m->blocked);
    CHECK_IS(s.blocked_ns, m->blocked_ns + (m->is_blocked ? now_ns - m->blocked_since : 0));
    CHECK_IS(s.stalled_ns, available(m) > 0 ? now_ns - m->progress : 0);
    CHECK_IS(s.stalled_ns, sendq_stalled_ns(m->q));
    if (available(m) > 0) {
        CHECK_IS(s.last_progress_ns, m->progress);
    }
    if (s.waiting > 0) {
        CHECK(s.allocated > 0);
    } else if (m->reserved == 0) {
        CHECK_IS(s.pinned + s.allocated, 0);
    }
}

/* The pool's figures are the sums of its queues'. */
static void compare_pool(const sendq_pool_t* pool, const model* a, const model* b) {
    sendq_pool_stats_t s = pool_figures(pool);
    sendq_stats_t of_a = figures(a->q);
    sendq_stats_t of_b = b ? figures(b->q) : (sendq_stats_t){0};
    CHECK_IS(s.queues, b ? 2 : 1);
    CHECK_IS(s.waiting, of_a.waiting + of_b.waiting);
    CHECK_IS(s.used, of_a.allocated + of_b.allocated);
    CHECK_IS(s.pinned, a->pinned[BORROWED] + (b ? b->pinned[BORROWED] : 0));
    CHECK_IS(s.blocked, a->is_blocked + (b ? b->is_blocked : 0));
}

static void append_some(model* m) {
    size_t len = random_up_to(&rnd, 3000);
    struct iovec two[] = {{bytes, len / 2}, {bytes + len / 2, len - len / 2}};
    CHECK((rnd % 2 ? sendq_append(m->q, bytes, len) : sendq_appendv(m->q, two, 2)) >= 0);
    came(m, COPIED, len);
}

static void borrow_some(model* m) {
    size_t len = random_up_to(&rnd, rnd % 3 ? 20000 : 2 * COPY_BELOW);
    bool copies = len < COPY_BELOW;
    pin* p = new_pin(m, BORROWED, len);
    came(m, copies ? COPIED : BORROWED, len);
    CHECK(sendq_append_ref(m->q, bytes, len, given_back, p) >= 0);
    CHECK((p->home == NULL) == copies);
}

static void share_some(model* m) {
    size_t len = random_up_to(&rnd, 20000);
    size_t all = len + random_up_to(&rnd, 1000);
    sendq_buf_t* buf;
    pin* p = new_pin(m, SHARED, len);
    CHECK_IS(sendq_buf_wrap(NULL, bytes, all, given_back, p, &buf), 0);
    CHECK(sendq_append_buf(m->q, buf, all - len, len) >= 0);
    sendq_buf_unref(buf);
    came(m, SHARED, len);
}

static void file_some(model* m) {
    size_t len = random_up_to(&rnd, 30000);
    CHECK(sendq_append_file(m->q, file, rnd % (FILE_BYTES - len), len, given_back,
                            new_pin(m, FILED, len)) >= 0);
    came(m, FILED, len);
}

static void reserve_some(model* m) {
    void* memory;
    m->reserved = random_up_to(&rnd, 9000);
    CHECK_IS(sendq_reserve(m->q, m->reserved, &memory), 0);
    memset(memory, 1, m->reserved);
}

static void commit_some(model* m) {
    size_t used = random_next(&rnd) % (m->reserved + 1);
    CHECK(sendq_commit(m->q, used) >= 0);
    if (used > 0) {
        came(m, COPIED, used);
    }
    m->reserved = 0;
}

static void cork_some(model* m) {
    if (!m->corked) {
        CHECK_IS(sendq_cork(m->q), 0);
        m->corked = true;
        m->held = m->last;
        return;
    }
    m->corked = false;
    if (random_next(&rnd) % 2) {
        if (waiting(m, m->first, m->held) == 0) {
            m->progress = now_ns; /* until now nobody could take it */
        }
        CHECK(sendq_uncork(m->q) >= 0);
        return;
    }
    m->discarded += waiting(m, m->held, m->last);
    m->last = m->held;
    CHECK(sendq_rollback(m->q) >= 0);
}

static void splice_some(model* to, model* from) {
    if (from->corked || from->reserved || to->reserved) {
        CHECK_IS(sendq_splice(to->q, from->q), -EBUSY);
        return;
    }
    uint64_t moved = all_waiting(from);
    CHECK(sendq_splice(to->q, from->q) >= 0);
    if (moved == 0) {
        return;
    }
    for (size_t i = from->first; i < from->last; i++) {
        if (from->runs[i].len > 0) {
            came(to, from->runs[i].kind, from->runs[i].len);
        }
    }
    for (pin* p = pins; p < pins + MAX_PINS; p++) {
        if (p->home == from) {
            p->home = to;
            from->pinned[p->kind] -= p->len;
            to->pinned[p->kind] += p->len;
        }
    }
    unblock(from);
    from->sent += moved;
    from->first = from->last = from->held = 0;
}

static int flush_some(model* m) {
    size_t budget = random_next(&rnd) % 2 ? random_up_to(&rnd, 30000) : 0;
    uint64_t could = available(m);
    uint64_t sent = sendq_sent_bytes(m->q);
    calls = shorts = 0;
    int hints = sendq_flush(m->q, m->e.queue, budget);
    CHECK_IS(calls > 0, could > 0);
    m->flushes += calls > 0;
    m->calls += calls;
    m->shorts += shorts - (hints < 0); /* what fails for good took nothing */
    left(m, sendq_sent_bytes(m->q) - sent);
    if (hints < 0) {
        dropped(m);
        return hints;
    }
    CHECK_IS((hints & (SENDQ_BLOCKED | SENDQ_MORE)) != 0, available(m) > 0);
    if (hints & SENDQ_BLOCKED && !m->is_blocked) {
        m->is_blocked = true;
        m->blocked_since = now_ns;
        m->blocked++;
    }
    return hints;
}

static void consume_some(model* m) {
    uint64_t can = available(m);
    CHECK_IS(sendq_consume(m->q, can + 1), -EINVAL);
    uint64_t len = random_next(&rnd) % (can + 1);
    CHECK(sendq_consume(m->q, len) >= 0);
    left(m, len);
}

static void discard_some(model* m) {
    CHECK(sendq_discard(m->q) >= 0);
    dropped(m);
}

static void step(model* m, model* other) {
    static void (*const appends[])(model*) = {append_some, borrow_some, share_some, file_some,
                                              reserve_some};
    now_ns += random_next(&rnd) % 4 ? 0 : random_up_to(&rnd, SECOND);
    unsigned what = (unsigned)(random_next(&rnd) % 32);
    if (what < 12) {
        if (m->reserved) {
            commit_some(m);
        } else if (all_waiting(m) < 500000) {
            appends[random_next(&rnd) % (sizeof appends / sizeof *appends)](m);
        }
    } else if (what < 14 && !m->reserved) {
        cork_some(m);
    } else if (what < 16) {
        splice_some(other, m);
    } else if (what < 18) {
        consume_some(m);
    } else if (what < 19) {
        if (random_next(&rnd) % 10 == 0) {
            discard_some(m);
        }
    } else if (what < 24) {
        ends_read(m->e, bytes, random_up_to(&rnd, sizeof bytes));
    } else {
        CHECK(flush_some(m) >= 0);
    }
}

static void mixture(uint64_t chunk_bytes, bool one_pool, bool tcp, bool blocking_mode) {
    static model models[2];
    sendq_pool_t* pools[2];
    pools[0] = new_simulated((sendq_pool_config_t){.chunk_bytes = chunk_bytes});
    pools[1] = one_pool ? pools[0] : new_simulated((sendq_pool_config_t){.keep_bytes = 1});
    for (int i = 0; i < 2; i++) {
        memset(&models[i], 0, sizeof models[i]);
        models[i].q = new_sharer(pools[i], COPY_BELOW);
        models[i].e = tcp ? ends_tcp() : ends_unix();
        ends_least_buffer(models[i].e);
        if (!blocking_mode) {
            CHECK_IS(fcntl(models[i].e.queue, F_SETFL, O_NONBLOCK), 0);
        }
    }
    rnd = 88172645463325252U + chunk_bytes;
    for (int i = 0; i < 20000; i++) {
        int which = (int)(random_next(&rnd) % 2);
        step(&models[which], &models[1 - which]);
        compare(&models[0]);
        compare(&models[1]);
        compare_pool(pools[0], &models[0], one_pool ? &models[1] : NULL);
    }
    for (int i = 0; i < 2; i++) {
        model* m = &models[i];
        if (m->reserved) {
            commit_some(m);
        }
        close(m->e.peer); /* what was not read: a reset */
        m->corked = m->corked && sendq_uncork(m->q) < 0;
        append_some(m);
        while (sendq_error(m->q) == 0) {
            append_some(m);
            flush_some(m);
        }
        compare(m);
        sendq_stats_t s = figures(m->q);
        CHECK_IS(s.waiting + s.pinned + s.allocated, 0);
        CHECK(s.flushes > 0 && s.system_calls >= s.flushes && s.blocked > 0);
        close(m->e.queue);
        sendq_free(m->q);
    }
    for (pin* p = pins; p < pins + MAX_PINS; p++) {
        CHECK(p->home == NULL);
    }
    for (int i = 0; i < (one_pool ? 1 : 2); i++) {
        sendq_pool_stats_t s = pool_figures(pools[i]);
        CHECK_IS(s.queues + s.used + s.pinned + s.shared + s.waiting + s.blocked, 0);
        sendq_pool_free(pools[i]);
    }
}

/* Lengths that are only counted: nothing reads the memory, nor the file. */
static void beyond_32_bits(void) {
    static const uint64_t big = 3ULL << 30;
    enum { TIMES = 7 };
    sendq_t* q = new_simulated_queue();
    sendq_buf_t* buf;
    CHECK_IS(sendq_buf_wrap(NULL, bytes, big, NULL, NULL, &buf), 0);
    uint64_t sums[3] = {0};
    uint64_t sent = 0;
    uint64_t discarded = 0;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < TIMES; i++) {
            CHECK(sendq_append_ref(q, bytes, big, NULL, NULL) >= 0);
            sums[0] += big;
            CHECK(sendq_append_buf(q, buf, i == 0, big - (i == 0)) >= 0);
            sums[1] += big - (i == 0);
            CHECK(sendq_append_file(q, file, (uint64_t)i, big + 1, NULL, NULL) >= 0);
            sums[2] += big + 1;
            CHECK(sendq_append(q, bytes, 5) >= 0);
        }
        sendq_stats_t s = figures(q);
        uint64_t all = TIMES * (3 * big + 5 + 1) - 1;
        CHECK_IS(s.borrowed, sums[0]);
        CHECK_IS(s.shared, sums[1]);
        CHECK_IS(s.file, sums[2]);
        CHECK_IS(s.copied, (round + 1) * TIMES * 5);
        CHECK_IS(s.waiting, all);
        CHECK_IS(s.peak_waiting, all);
        CHECK_IS(s.pinned, TIMES * 2 * big - 1);
        CHECK(sendq_consume(q, big + 1) >= 0); /* a piece, and the first byte of the next */
        sent += big + 1;
        CHECK_IS(figures(q).pinned, TIMES * 2 * big - 1 - big);
        if (round == 1) {
            CHECK_IS(sendq_cork(q), 0);
            CHECK(sendq_append_ref(q, bytes, big, NULL, NULL) >= 0);
            CHECK(sendq_rollback(q) >= 0);
            sums[0] += big;
            discarded += big;
        }
        CHECK(sendq_discard(q) >= 0);
        discarded += all - big - 1;
        s = figures(q);
        CHECK_IS(s.waiting + s.pinned + s.allocated, 0);
        CHECK_IS(s.sent, sent);
        CHECK_IS(s.discarded, discarded);
        CHECK(s.peak_waiting >= all);
    }
    sendq_buf_unref(buf);
    check_usable(q);
    sendq_free(q);
}

/* Spliced, what is beyond 32 bits stays so; also in a pool with a budget. */
static void splice_beyond_32_bits(void) {
    static const uint64_t big = 5ULL << 30;
    sendq_pool_t* pool = new_simulated((sendq_pool_config_t){.max_bytes = big + (1 << 20)});
    sendq_t* to = new_borrower(pool, 1);
    sendq_t* from = new_simulated_queue();
    CHECK(sendq_append_ref(from, bytes, big, NULL, NULL) >= 0);
    CHECK_IS(sendq_consume(from, 1) & ~SENDQ_RESUME, 0);
    CHECK(sendq_splice(to, from) >= 0);
    CHECK_IS(figures(to).borrowed, big - 1);
    CHECK_IS(figures(to).pinned, big);
    CHECK_IS(pool_figures(pool).pinned, big);
    CHECK_IS(figures(from).sent, big);
    CHECK_IS(figures(from).pinned, 0);
    CHECK_IS(figures(from).peak_waiting, big);
    CHECK(sendq_append_ref(from, bytes, big, NULL, NULL) >= 0);
    CHECK_IS(sendq_splice(to, from), -ENOBUFS);
    CHECK_IS(figures(from).waiting, big);
    sendq_free(from);
    sendq_free(to);
    CHECK_IS(pool_figures(pool).pinned, 0);
    sendq_pool_free(pool);
}

/* As much as there is room for, and nothing behind that. */
static void sizes(void) {
    sendq_pool_t* pool = new_simulated((sendq_pool_config_t){.max_bytes = 1 << 20});
    sendq_t* q = new_borrower(pool, 1);
    CHECK_IS(sendq_append(q, bytes, 100), SENDQ_WAKE);
    sendq_stats_t whole = figures(q);
    sendq_pool_stats_t of_pool = pool_figures(pool);
    unsigned char out[sizeof whole + 64];
    for (size_t size = 0; size < sizeof out; size++) {
        size_t filled = size < sizeof whole ? size : sizeof whole;
        memset(out, 0xAB, sizeof out);
        CHECK_IS(sendq_stats(q, (sendq_stats_t*)(void*)out, size), 0);
        CHECK_IS(memcmp(out, &whole, filled), 0);
        for (size_t i = filled; i < sizeof out; i++) {
            CHECK_IS(out[i], 0xAB);
        }
        filled = size < sizeof of_pool ? size : sizeof of_pool;
        memset(out, 0xAB, sizeof out);
        CHECK_IS(sendq_pool_stats(pool, (sendq_pool_stats_t*)(void*)out, size), 0);
        CHECK_IS(memcmp(out, &of_pool, filled), 0);
        for (size_t i = filled; i < sizeof out; i++) {
            CHECK_IS(out[i], 0xAB);
        }
    }
    CHECK_IS(sendq_stats(NULL, &whole, sizeof whole), -EINVAL);
    CHECK_IS(sendq_stats(q, NULL, sizeof whole), -EINVAL);
    CHECK_IS(sendq_stats(q, NULL, 0), -EINVAL);
    CHECK_IS(sendq_pool_stats(NULL, &of_pool, sizeof of_pool), -EINVAL);
    CHECK_IS(sendq_pool_stats(pool, NULL, sizeof of_pool), -EINVAL);
    sendq_free(q);
    sendq_pool_free(pool);
}

int main(void) {
    FILE* stream = tmpfile();
    CHECK(stream != NULL);
    file = fileno(stream);
    CHECK_IS(ftruncate(file, FILE_BYTES), 0);
    mixture(0, true, false, false);
    mixture(256, false, false, true);
    mixture(16384, false, true, false);
    mixture(4096, true, true, true);
    beyond_32_bits();
    splice_beyond_32_bits();
    sizes();
    CHECK_IS(fclose(stream), 0);
    return 0;
}
