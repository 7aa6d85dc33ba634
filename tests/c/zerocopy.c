/* Memory that the kernel reads without a copy is released once, late enough, whatever becomes of
 * its queue. The peer stops reading, so that the kernel keeps what was sent; each release scribbles
 * over the memory, so that a release that comes too early changes what arrives. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>

#include "pieces.h"

enum { PIECE = 64 << 10, PIECES = 64 };

static unsigned char memory[PIECES][PIECE];
static piece pieces[PIECES];

static void scribble(void* arg, const void* data, size_t len, int reason) {
    piece_release(arg, data, len, reason);
    memset(memory[(piece*)arg - pieces], 0xff, len);
}

/* Borrows the next piece of the test stream. */
static void append(sendq_t* q, int i) {
    stream_fill(memory[i], (uint64_t)i * PIECE, PIECE);
    pieces[i] = (piece){.data = memory[i], .len = PIECE};
    CHECK(sendq_append_ref(q, memory[i], PIECE, scribble, &pieces[i]) >= 0);
}

static int released(int from, int to) {
    int count = 0;
    for (int i = from; i < to; i++) {
        count += pieces[i].times;
    }
    return count;
}

static sendq_stats_t stats_of(sendq_t* q) {
    sendq_stats_t stats;
    CHECK_IS(sendq_stats(q, &stats, sizeof stats), 0);
    return stats;
}

static sendq_pool_stats_t pool_stats_of(sendq_pool_t* pool) {
    sendq_pool_stats_t stats;
    CHECK_IS(sendq_pool_stats(pool, &stats, sizeof stats), 0);
    return stats;
}

static sendq_t* new_zerocopy(sendq_pool_t* pool, uint32_t flags) {
    sendq_config_t config = {
        .size = sizeof config, .flags = SENDQ_ZEROCOPY | flags, .high = 1 << 30};
    return new_queue(pool, &config);
}

/* Where the peer is: in a network namespace behind a veth pair (zerocopy_veth.sh), or here. */
static int peer_namespace = -1, own_namespace;
static struct in_addr peer_address;

static int open_namespace(const char* path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    return fd;
}

static ends connected(void) {
    if (peer_namespace < 0) {
        return ends_tcp();
    }
    struct sockaddr_in address;
    CHECK_IS(setns(peer_namespace, CLONE_NEWNET), 0);
    int listener = tcp_listen_at(peer_address, &address);
    CHECK_IS(setns(own_namespace, CLONE_NEWNET), 0);
    ends e = {.queue = socket(AF_INET, SOCK_STREAM, 0)};
    CHECK_IS(connect(e.queue, (struct sockaddr*)&address, sizeof address), 0);
    e.peer = accept(listener, NULL, NULL);
    CHECK(e.peer >= 0);
    close(listener);
    return e;
}

/* A connection whose reader has stopped: two pieces fit into its buffers, and the reader's are full
 * before. */
static ends stopped(void) {
    ends e = connected();
    int least = 32768, most = 4 * PIECE;
    CHECK_IS(setsockopt(e.peer, SOL_SOCKET, SO_RCVBUF, &least, sizeof least), 0);
    CHECK_IS(setsockopt(e.queue, SOL_SOCKET, SO_SNDBUF, &most, sizeof most), 0);
    return e;
}

/* Reads len bytes of the test stream from an offset on. */
static void expect(ends e, uint64_t offset, size_t len) {
    unsigned char buffer[PIECE]; /* of each thread */
    while (len > 0) {
        wait_for(e.peer, POLLIN);
        size_t got = ends_read(e, buffer, len < sizeof buffer ? len : sizeof buffer);
        stream_check(buffer, offset, got);
        offset += got;
        len -= got;
    }
}

/* Flushes what is queued, the test stream from an offset on, to a peer that reads. */
static void deliver(sendq_t* q, ends e, uint64_t offset) {
    while (sendq_queued_bytes(q) > 0) {
        uint64_t before = sendq_sent_bytes(q);
        CHECK(sendq_flush(q, e.queue, 0) >= 0);
        uint64_t sent = sendq_sent_bytes(q) - before;
        expect(e, offset, sent);
        offset += sent;
    }
}

static void reap_all(sendq_t* q, ends e) {
    while (sendq_reap(q, e.queue) == SENDQ_UNACKED) {
        wait_for(e.queue, 0); /* POLLERR */
    }
}

static void reap_orphans(sendq_pool_t* pool) {
    for (int i = 0; i < 10000 && sendq_pool_reap(pool) == SENDQ_UNACKED; i++) {
        usleep(1000);
    }
    CHECK_IS(sendq_pool_reap(pool), 0);
    CHECK_IS(pool_stats_of(pool).orphans, 0);
    CHECK_IS(pool_stats_of(pool).orphan_bytes, 0);
    CHECK_IS(pool_stats_of(pool).pinned, 0);
}

/* A queue that has sent two pieces, and the kernel has both. */
static sendq_t* in_flight(sendq_pool_t* pool, ends e) {
    sendq_t* q = new_zerocopy(pool, 0);
    append(q, 0);
    append(q, 1);
    CHECK_IS(sendq_flush(q, e.queue, 0), SENDQ_UNACKED);
    CHECK_IS(released(0, 2), 0);
    CHECK_IS(sendq_queued_bytes(q), 0);
    CHECK_IS(sendq_state(q), SENDQ_UNACKED);
    CHECK_IS(stats_of(q).zerocopy, 2 * PIECE);
    CHECK_IS(stats_of(q).unacked, 2 * PIECE);
    CHECK_IS(stats_of(q).pinned, 2 * PIECE);
    CHECK(sendq_memory(q) >= 2 * PIECE);
    CHECK_IS(pool_stats_of(pool).pinned, 2 * PIECE);
    return q;
}

static void comes_back_late(void) {
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){0});
    ends e = stopped();
    sendq_t* q = in_flight(pool, e);
    CHECK_IS(sendq_reap(q, e.queue), SENDQ_UNACKED);
    CHECK_IS(released(0, 2), 0);
    expect(e, 0, 2 * PIECE);
    reap_all(q, e);
    CHECK_IS(released(0, 2), 2);
    CHECK_IS(sendq_state(q), 0);
    CHECK_IS(stats_of(q).unacked, 0);
    CHECK_IS(pool_stats_of(pool).pinned, 0);
    CHECK_IS(stats_of(q).zerocopy_acked, stats_of(q).zerocopy_copied); /* loopback */
    sendq_free(q);
    CHECK_IS(pool_stats_of(pool).orphans, 0);
    sendq_pool_free(pool);
    ends_close(e);
}

/* What was not sent is released at once, what was sent later. */
static void ends_in_flight(int how) {
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){0});
    ends e = stopped();
    sendq_t* q = new_zerocopy(pool, 0);
    for (int i = 0; i < PIECES; i++) {
        append(q, i);
    }
    CHECK_IS(sendq_flush(q, e.queue, 0), SENDQ_BLOCKED);
    int sent = (int)(sendq_sent_bytes(q) / PIECE);
    CHECK(sent > 0 && sent < PIECES - 1);
    CHECK_IS(released(0, PIECES), 0);
    uint64_t bytes = sendq_sent_bytes(q);
    switch (how) {
        case 0:
            CHECK_IS(sendq_discard(q), 0);
            break;
        case 1:
            CHECK_IS(sendq_fail(q, -ECONNRESET), 0);
            break;
        case 2:
            CHECK_IS(sendq_reset(q), 0);
            CHECK_IS(sendq_state(q), 0);
            CHECK_IS(stats_of(q).unacked, 0);
            break;
        default:
            sendq_free(q);
            q = NULL;
    }
    CHECK_IS(released(0, sent), 0);
    CHECK_IS(released(sent + 1, PIECES), PIECES - sent - 1);
    CHECK_IS(pieces[PIECES - 1].reason, how == 1 ? -ECONNRESET : -ECANCELED);
    sendq_pool_stats_t stats = pool_stats_of(pool);
    CHECK_IS(stats.orphans, how >= 2);
    uint64_t whole = (uint64_t)(released(sent, sent + 1) ? sent : sent + 1) * PIECE;
    CHECK_IS(stats.orphan_bytes, how >= 2 ? whole : 0);
    CHECK_IS(stats.pinned, whole);
    if (how == 2) {
        check_usable(q);
    }
    if (how >= 2) { /* a peer that takes nothing does not hold it for ever */
        int timeout = 0;
        socklen_t len = sizeof timeout;
        CHECK_IS(getsockopt(e.queue, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, &len), 0);
        CHECK_IS(timeout, 60000);
    }
    expect(e, 0, bytes);
    if (how < 2) {
        reap_all(q, e);
    }
    reap_orphans(pool);
    CHECK_IS(released(0, PIECES), PIECES);
    CHECK_IS(pieces[0].reason, 0);
    if (how >= 2) {
        char byte;
        wait_for(e.peer, POLLIN);
        CHECK_IS(recv(e.peer, &byte, 1, 0), 0); /* shut down for writing */
    }
    sendq_free(q);
    sendq_pool_free(pool);
    ends_close(e);
}

/* The pool stays until its orphans are gone. */
static void outlives_its_pool(void) {
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){0});
    ends e = stopped();
    sendq_t* q = in_flight(pool, e);
    close(e.queue);
    sendq_free(q);
    sendq_pool_free(pool);
    CHECK_IS(sendq_pool_reap(pool), SENDQ_UNACKED);
    expect(e, 0, 2 * PIECE);
    for (int i = 0; i < 10000 && sendq_pool_reap(pool) == SENDQ_UNACKED; i++) {
        usleep(1000);
    }
    CHECK_IS(released(0, 2), 2);
    close(e.peer);
}

static uint64_t time_of(void* arg) {
    return *(uint64_t*)arg;
}

/* Its queue leaves something later. */
static void outlived_by_its_queue(void) {
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){0});
    ends e = stopped();
    sendq_t* q = in_flight(pool, e);
    sendq_pool_free(pool);
    CHECK_IS(sendq_pool_reap(pool), SENDQ_UNACKED);
    sendq_free(q);
    CHECK_IS(sendq_pool_reap(pool), SENDQ_UNACKED);
    expect(e, 0, 2 * PIECE);
    for (int i = 0; i < 10000 && sendq_pool_reap(pool) == SENDQ_UNACKED; i++) {
        usleep(1000);
    }
    CHECK_IS(released(0, 2), 2);
    ends_close(e);
}

/* A peer that takes a byte now and then is not waited for without end. */
static void peer_takes_little(void) {
    uint64_t time = 1;
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){.now = time_of, .now_arg = &time});
    ends e = stopped();
    sendq_free(in_flight(pool, e));
    time += 120000000000U;
    CHECK_IS(sendq_pool_reap(pool), SENDQ_UNACKED);
    CHECK_IS(released(0, 2), 0);
    time++;
    reap_orphans(pool);
    CHECK_IS(released(0, 2), 2);
    sendq_pool_free(pool);
    ends_close(e);
}

/* Without a descriptor of its own it copies, for a while. */
static void no_descriptor(void) {
    struct rlimit limit, none;
    CHECK_IS(getrlimit(RLIMIT_NOFILE, &limit), 0);
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){0});
    ends e = connected();
    sendq_t* q = new_zerocopy(pool, 0);
    int free_fd = dup(e.queue);
    close(free_fd);
    none = (struct rlimit){.rlim_cur = (rlim_t)free_fd, .rlim_max = limit.rlim_max};
    for (int i = 0; i < 18; i++) {
        CHECK_IS(setrlimit(RLIMIT_NOFILE, i == 0 ? &none : &limit), 0);
        append(q, i);
        deliver(q, e, (uint64_t)i * PIECE);
        CHECK_IS(stats_of(q).zerocopy > 0, i >= 17);
        CHECK_IS(stats_of(q).zerocopy_off, 0);
    }
    reap_all(q, e);
    sendq_free(q);
    sendq_pool_free(pool);
    ends_close(e);
}

/* The peer is gone: the kernel gives the memory back by itself. */
static void peer_vanishes(void) {
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){0});
    ends e = stopped();
    sendq_t* q = in_flight(pool, e);
    struct linger reset = {1, 0};
    CHECK_IS(setsockopt(e.peer, SOL_SOCKET, SO_LINGER, &reset, sizeof reset), 0);
    close(e.peer);
    reap_all(q, e);
    CHECK_IS(released(0, 2), 2);
    sendq_free(q);
    sendq_pool_free(pool);
    close(e.queue);
}

/* A peer that never reads: the kernel ends the connection (here sooner than in a minute). */
static void peer_takes_nothing(void) {
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){0});
    ends e = stopped();
    sendq_t* q = in_flight(pool, e);
    int timeout = 300;
    CHECK_IS(setsockopt(e.queue, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof timeout), 0);
    close(e.queue);
    sendq_free(q);
    CHECK_IS(released(0, 2), 0);
    reap_orphans(pool);
    CHECK_IS(released(0, 2), 2);
    sendq_pool_free(pool);
    close(e.peer);
}

/* After a run of sends that were copied after all, everything is copied. */
static void gives_up_what_is_copied(void) {
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){0});
    ends e = connected();
    sendq_t* q = new_zerocopy(pool, 0);
    for (int i = 0; i < PIECES; i++) {
        append(q, i);
        deliver(q, e, (uint64_t)i * PIECE);
        reap_all(q, e);
        CHECK_IS(released(0, i + 1), i + 1);
    }
    CHECK_IS(stats_of(q).zerocopy_off, 1);
    CHECK_IS(stats_of(q).zerocopy_copied, 16);
    sendq_free(q);
    sendq_pool_free(pool);
    ends_close(e);
}

/* Pieces of one queue that leave by another: each waits for both connections. */
static void spliced_in_flight(uint64_t most) {
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){0});
    ends e = stopped();
    ends other = connected();
    sendq_t* q = new_zerocopy(pool, 0);
    sendq_t* to = new_zerocopy(pool, 0);
    for (int i = 0; i < PIECES; i++) {
        append(q, i);
    }
    CHECK_IS(sendq_flush(q, e.queue, 0), SENDQ_BLOCKED);
    uint64_t sent = sendq_sent_bytes(q);
    int begun = (int)(sent / PIECE);
    CHECK(begun < PIECES - 1);
    int hints = most ? sendq_splice_n(to, q, most) : sendq_splice(to, q);
    CHECK(hints >= 0);
    uint64_t moved = sendq_queued_bytes(to);
    deliver(to, other, sent);
    reap_all(to, other);
    /* The first connection still has what it was given. */
    CHECK_IS(released(0, begun + (sent % PIECE > 0)), 0);
    expect(e, 0, sent);
    deliver(q, e, sent + moved);
    reap_all(q, e);
    CHECK_IS(released(0, PIECES), PIECES);
    sendq_free(q);
    sendq_free(to);
    CHECK_IS(pool_stats_of(pool).pinned, 0);
    CHECK_IS(pool_stats_of(pool).orphans, 0);
    sendq_pool_free(pool);
    ends_close(e);
    ends_close(other);
}

/* What the peer acknowledges is progress, although nothing more is sent. */
static void progresses(void) {
    uint64_t time = 1;
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){.now = time_of, .now_arg = &time});
    ends e = stopped();
    sendq_t* q = new_zerocopy(pool, 0);
    for (int i = 0; i < PIECES; i++) {
        append(q, i);
    }
    CHECK_IS(sendq_flush(q, e.queue, 0), SENDQ_BLOCKED);
    time += 1000;
    CHECK_IS(sendq_stalled_ns(q), 1000);
    CHECK_IS(sendq_reap(q, e.queue), SENDQ_UNACKED);
    CHECK_IS(sendq_stalled_ns(q), 1000);
    expect(e, 0, sendq_sent_bytes(q));
    reap_all(q, e);
    CHECK_IS(sendq_stalled_ns(q), 0);
    CHECK(sendq_queued_bytes(q) > 0);
    sendq_free(q);
    CHECK_IS(released(0, PIECES), PIECES);
    sendq_pool_free(pool);
    ends_close(e);
}

/* The owner of a message waits for the part that was sent without a copy. */
static void message_in_flight(void) {
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){0});
    ends e = stopped();
    sendq_t* q = new_zerocopy(pool, SENDQ_MESSAGES);
    stream_fill(memory, 0, 2 * PIECE);
    piece owner = {.len = 100 + PIECE + 5000};
    sendq_part_t parts[] = {sendq_part_copy(memory[0], 100), sendq_part_ref(memory[0] + 100, PIECE),
                            sendq_part_ref(memory[0] + 100 + PIECE, 5000)};
    CHECK_IS(sendq_append_message(q, parts, 3, piece_release, &owner), SENDQ_WAKE);
    CHECK_IS(sendq_flush(q, e.queue, 0), SENDQ_UNACKED);
    CHECK_IS(owner.times, 0);
    CHECK_IS(stats_of(q).zerocopy, PIECE);
    CHECK_IS(sendq_sent_messages(q), 1);
    piece small = {.len = 5000};
    CHECK_IS(sendq_append_message(q, parts + 2, 1, piece_release, &small), SENDQ_WAKE);
    CHECK_IS(sendq_flush(q, e.queue, 0), SENDQ_UNACKED);
    CHECK_IS(small.times, 1);
    CHECK_IS(owner.times, 0);
    expect(e, 0, owner.len);
    expect(e, 100 + PIECE, 5000);
    reap_all(q, e);
    CHECK_IS(owner.times, 1);
    sendq_free(q);
    sendq_pool_free(pool);
    ends_close(e);
}

static void bad_input(void) {
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){0});
    CHECK_IS(sendq_reap(NULL, 0), -EINVAL);
    CHECK_IS(sendq_pool_reap(NULL), -EINVAL);
    CHECK_IS(sendq_pool_reap(pool), 0);
    sendq_t* q = new_zerocopy(pool, 0);
    CHECK_IS(sendq_reap(q, -1), 0);
    ends e = ends_unix(); /* does not do it */
    append(q, 0);
    append(q, 1);
    int hints = sendq_flush(q, e.queue, 0);
    while (hints == SENDQ_BLOCKED) {
        static unsigned char buffer[PIECE];
        ends_read(e, buffer, sizeof buffer);
        hints = sendq_flush(q, e.queue, 0);
    }
    CHECK_IS(hints, 0);
    CHECK_IS(released(0, 2), 2);
    CHECK_IS(stats_of(q).zerocopy_off, 1);
    sendq_free(q);
    ends_close(e);

    e = stopped();
    ends other = connected();
    q = in_flight(pool, e);
    CHECK_IS(sendq_reap(q, other.queue), -EINVAL);
    CHECK_IS(sendq_reap(q, -1), -EBADF);
    CHECK_IS(sendq_reap(q, 1 << 20), -EBADF);
    /* Another connection: copied, as long as the first one is not done. */
    append(q, 2);
    deliver(q, other, 2 * PIECE);
    CHECK_IS(sendq_state(q), SENDQ_UNACKED);
    CHECK_IS(stats_of(q).zerocopy, 2 * PIECE);
    CHECK_IS(released(0, 2), 0);
    expect(e, 0, 2 * PIECE);
    reap_all(q, e);
    CHECK_IS(released(0, 3), 3);
    append(q, 3);
    deliver(q, other, 3 * PIECE);
    CHECK(stats_of(q).zerocopy > 2 * PIECE);
    reap_all(q, other);
    sendq_free(q);

    /* The descriptor is closed behind the queue's back, and its number is another socket's. */
    ends_close(e);
    e = stopped();
    q = in_flight(pool, e);
    CHECK_IS(dup2(other.queue, e.queue), e.queue);
    CHECK_IS(sendq_reap(q, e.queue), -EINVAL);
    CHECK_IS(released(0, 2), 0);
    sendq_free(q);
    expect(e, 0, 2 * PIECE);
    reap_orphans(pool);
    CHECK_IS(released(0, 2), 2);
    ends_close(e);

    /* A second queue on the same socket: the kernel's numbers are not its own. */
    e = connected();
    q = new_zerocopy(pool, 0);
    append(q, 0);
    deliver(q, e, 0);
    reap_all(q, e);
    CHECK_IS(sendq_reset(q), 0);
    append(q, 1);
    deliver(q, e, PIECE);
    CHECK_IS(stats_of(q).zerocopy, 0);
    CHECK_IS(released(0, 2), 2);
    sendq_free(q);
    ends_close(e);
    ends_close(other);
    sendq_pool_free(pool);
}

/* One of many connections, of which some are reset, given up or closed in the middle. The peer
 * reads now and then. */
static void random_life(sendq_pool_t* pool, uint64_t* random) {
    static unsigned char buffer[PIECE];
    ends e = stopped();
    sendq_t* q = new_zerocopy(pool, 0);
    int appended = 0;
    uint64_t received = 0;
    bool has_peer = true;
    while (q != NULL) {
        switch (random_next(random) % 16) {
            case 0:
                sendq_free(q);
                q = NULL;
                break;
            case 1:
                if (has_peer && random_next(random) % 4 == 0) {
                    struct linger reset = {random_next(random) % 2 == 0, 0};
                    CHECK_IS(setsockopt(e.peer, SOL_SOCKET, SO_LINGER, &reset, sizeof reset), 0);
                    close(e.peer);
                    has_peer = false;
                }
                break;
            case 2:
            case 3:
                CHECK(sendq_reap(q, e.queue) >= 0);
                break;
            case 4:
                CHECK(sendq_pool_reap(pool) >= 0);
                break;
            case 5:
            case 6:
            case 7:
                if (appended < PIECES && sendq_error(q) == 0) {
                    append(q, appended++);
                }
                break;
            case 8:
            case 9:
            case 10:
                sendq_flush(q, e.queue, random_next(random) % 2 ? 0 : random_up_to(random, PIECE));
                break;
            default:
                for (size_t got = 1; has_peer && got > 0; received += got) {
                    size_t most = random_up_to(random, sizeof buffer);
                    int arrived = 0;
                    CHECK_IS(ioctl(e.peer, FIONREAD, &arrived), 0);
                    got = arrived > 0 ? ends_read(e, buffer, most) : 0;
                    stream_check(buffer, received, got);
                }
        }
    }
    close(e.queue);
    /* What it has been sent arrives whole. */
    for (ssize_t got = 1; has_peer && got > 0; received += (uint64_t)got) {
        wait_for(e.peer, POLLIN);
        got = recv(e.peer, buffer, sizeof buffer, MSG_DONTWAIT);
        CHECK(got >= 0);
        stream_check(buffer, received, (size_t)got);
    }
    if (has_peer) {
        close(e.peer);
    }
    reap_orphans(pool);
    CHECK_IS(released(0, appended), appended);
}

enum { THREADS = 3, ROUNDS = 40 };

typedef struct {
    sendq_pool_t* pool;
    sendq_t* shared; /* to which all append and which all flush */
    ends e;
    _Atomic int released;
    unsigned char memory[PIECE];
} worker;

static void count(void* arg, const void* data, size_t len, int reason) {
    worker* w = arg;
    CHECK_IS(reason, 0);
    memset(w->memory + ((const unsigned char*)data - w->memory), 0xff, len);
    w->released++;
}

static void wait_until_released(worker* w, int times) {
    for (int i = 0; i < 100000 && w->released < times; i++) {
        int hints = sendq_flush(w->shared, w->e.queue, 0);
        CHECK(hints >= 0 || hints == -EBUSY);
        CHECK(sendq_pool_reap(w->pool) >= 0);
        CHECK(sendq_reap(w->shared, w->e.queue) >= 0);
        usleep(100);
    }
    CHECK_IS(w->released, times);
}

/* Queues of its own, which it frees in flight, so that any thread may release what they leave; and
 * the queue of all. */
static void* work(void* arg) {
    worker* w = arg;
    for (int i = 0; i < ROUNDS; i++) {
        ends own = stopped();
        sendq_t* q = new_zerocopy(w->pool, SENDQ_THREADSAFE);
        stream_fill(w->memory, 0, PIECE);
        CHECK(sendq_append_ref(q, w->memory, PIECE, count, w) >= 0);
        CHECK(sendq_flush(q, own.queue, 0) >= 0);
        sendq_free(q);
        expect(own, 0, PIECE);
        wait_until_released(w, 2 * i + 1);
        ends_close(own);
        memset(w->memory, 'x', PIECE);
        CHECK(sendq_append_ref(w->shared, w->memory, PIECE, count, w) >= 0);
        wait_until_released(w, 2 * i + 2);
    }
    return NULL;
}

static void on_threads(void) {
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){.flags = SENDQ_THREADSAFE});
    ends e = connected();
    sendq_t* shared = new_zerocopy(pool, SENDQ_THREADSAFE);
    static worker workers[THREADS];
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        workers[i] = (worker){.pool = pool, .shared = shared, .e = e};
        CHECK_IS(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    static unsigned char buffer[PIECE];
    for (uint64_t received = 0; received < (uint64_t)THREADS * ROUNDS * PIECE;) {
        wait_for(e.peer, POLLIN);
        size_t got = ends_read(e, buffer, sizeof buffer);
        for (size_t i = 0; i < got; i++) {
            CHECK_IS(buffer[i], 'x');
        }
        received += got;
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK_IS(pthread_join(threads[i], NULL), 0);
    }
    sendq_free(shared);
    CHECK_IS(pool_stats_of(pool).pinned, 0);
    CHECK_IS(pool_stats_of(pool).orphans, 0);
    sendq_pool_free(pool);
    ends_close(e);
}

int main(int argc, char** argv) {
    if (argc == 3) {
        peer_namespace = open_namespace(argv[1]);
        own_namespace = open_namespace("/proc/self/ns/net");
        CHECK_IS(inet_pton(AF_INET, argv[2], &peer_address), 1);
    }
    comes_back_late();
    for (int how = 0; how < 4; how++) {
        ends_in_flight(how);
    }
    outlives_its_pool();
    outlived_by_its_queue();
    peer_takes_little();
    no_descriptor();
    peer_vanishes();
    peer_takes_nothing();
    gives_up_what_is_copied();
    spliced_in_flight(0);
    spliced_in_flight(2 * PIECE);
    message_in_flight();
    progresses();
    bad_input();
    on_threads();
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){0});
    uint64_t random = 88172645463325252U;
    for (int i = 0; i < 200; i++) {
        random_life(pool, &random);
    }
    sendq_pool_free(pool);
    return 0;
}
