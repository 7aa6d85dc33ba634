/* The calls of a flush to a real socket: as many pieces in each as fit, a file in one where the
 * host promises enough, and header and file in one segment. */
#include <linux/tcp.h>

#include "simulated.h"
#include "system_calls.h"

enum { MAX_CALLS = 4096, MOST_IOVECS = 256 };

static call calls[MAX_CALLS];
static size_t count; /* of calls */

static void on_system_call(call c) {
    CHECK(count < MAX_CALLS);
    calls[count++] = c;
}

static unsigned char bytes[1 << 20];
static int file; /* holds bytes */

/* Flushes, and writes down the calls of that, which are those that sendq counts. */
static int flush(sendq_t* q, ends e, size_t max_bytes) {
    uint64_t before = figures(q).system_calls;
    count = 0;
    int hints = sendq_flush(q, e.queue, max_bytes);
    CHECK(!SENDQ_FAILED(hints));
    CHECK_IS(figures(q).system_calls - before, count);
    return hints;
}

/* All but the last say that more follows. What sendfile(2) sends says nothing. */
static void check_train(void) {
    for (size_t i = 0; i < count; i++) {
        if (calls[i].kind == SEND || calls[i].kind == SENDMSG) {
            CHECK_IS(calls[i].flags, MSG_DONTWAIT | MSG_NOSIGNAL | (i + 1 < count ? MSG_MORE : 0));
            CHECK(calls[i].iovecs <= MOST_IOVECS);
            CHECK_IS(calls[i].kind == SEND, calls[i].iovecs == 1);
        }
    }
}

static void check_call(size_t i, call_kind what, size_t iovecs, size_t len) {
    CHECK(i < count);
    CHECK_IS(calls[i].kind, what);
    CHECK_IS(calls[i].iovecs, iovecs);
    CHECK_IS(calls[i].bytes, len);
}

static void set_nonblocking(ends e) {
    CHECK_IS(syscall(SYS_fcntl, e.queue, F_SETFL, O_NONBLOCK), 0);
}

static sendq_t* promised(uint32_t flags) {
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){.flags = flags});
    sendq_t* q = new_borrower(pool, 1);
    sendq_pool_free(pool);
    return q;
}

/* Pieces that do not touch: 256 of them a call. */
static void many_iovecs(void) {
    enum { EACH = 10, APART = 20 };
    static const size_t counts[] = {1, 2, 255, 256, 257, 511, 512, 513, 1100, 3000};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        sendq_t* q = new_borrower(NULL, 1);
        ends e = ends_tcp();
        size_t pieces = counts[i];
        for (size_t j = 0; j < pieces; j++) {
            CHECK(sendq_append_ref(q, bytes + j * APART, EACH, NULL, NULL) >= 0);
        }
        CHECK_IS(flush(q, e, 0), 0);
        CHECK_IS(count, (pieces + MOST_IOVECS - 1) / MOST_IOVECS);
        check_train();
        for (size_t j = 0; j < count; j++) {
            size_t left = pieces - j * MOST_IOVECS;
            size_t now = left < MOST_IOVECS ? left : MOST_IOVECS;
            check_call(j, now == 1 ? SEND : SENDMSG, now, now * EACH);
        }
        sendq_free(q);
        ends_close(e);
    }
}

/* Header, file and trailer: one call each where the pool promises both; up to six for the file
 * elsewhere. */
static void calls_of_a_file(void) {
    for (uint32_t i = 0; i < 4; i++) {
        for (int nonblocking = 0; nonblocking < 2; nonblocking++) {
            uint32_t flags =
                (i & 1 ? SENDQ_SOCKETS_NONBLOCKING : 0) | (i & 2 ? SENDQ_SIGPIPE_IGNORED : 0);
            if (flags & SENDQ_SOCKETS_NONBLOCKING && !nonblocking) {
                continue; /* it would be no true promise */
            }
            sendq_t* q = promised(flags);
            ends e = ends_tcp();
            if (nonblocking) {
                set_nonblocking(e);
            }
            CHECK(sendq_append(q, bytes, 24) >= 0);
            CHECK(sendq_append_file(q, file, 24, 10000, NULL, NULL) >= 0);
            CHECK(sendq_append(q, bytes + 10024, 5) >= 0);
            CHECK_IS(flush(q, e, 0), 0);
            check_train();
            check_call(0, SEND, 1, 24);
            check_call(count - 1, SEND, 1, 5);
            size_t of_file = count - 2;
            if (i == 3) {
                CHECK_IS(of_file, 1);
                check_call(1, SENDFILE, 0, 10000);
            } else {
                CHECK(of_file > 1 && of_file <= 6);
            }
            static unsigned char in[20000];
            wait_for(e.peer, POLLIN);
            for (size_t at = 0; at < 10029;) {
                size_t got = ends_read(e, in, sizeof in);
                stream_check(in, at, got);
                at += got;
            }
            sendq_free(q);
            ends_close(e);
        }
    }
}

/* Segments with data that a connection has sent; 0: this kernel does not say. */
static unsigned segments(ends e) {
    struct tcp_info info;
    socklen_t len = sizeof info;
    CHECK_IS(getsockopt(e.queue, IPPROTO_TCP, TCP_INFO, &info, &len), 0);
    size_t needed = offsetof(struct tcp_info, tcpi_data_segs_out) + sizeof info.tcpi_data_segs_out;
    return len >= needed ? info.tcpi_data_segs_out : 0;
}

static void one_segment(void) {
    for (int nonblocking = 0; nonblocking < 2; nonblocking++) {
        sendq_t* q = promised(nonblocking ? SENDQ_SOCKETS_NONBLOCKING | SENDQ_SIGPIPE_IGNORED : 0);
        ends e = ends_tcp();
        if (nonblocking) {
            set_nonblocking(e);
        }
        CHECK(sendq_append(q, bytes, 10) >= 0);
        CHECK_IS(flush(q, e, 0), 0);
        unsigned before = segments(e);
        if (before > 0) {
            CHECK(sendq_append(q, bytes, 200) >= 0);
            CHECK(sendq_append_file(q, file, 200, 1000, NULL, NULL) >= 0);
            CHECK_IS(flush(q, e, 0), 0);
            CHECK_IS(count, nonblocking ? 2 : count);
            CHECK_IS(segments(e), before + 1); /* and none held back, for that matter */
        } else {
            fprintf(stderr, "TCP_INFO has no tcpi_data_segs_out here\n");
        }
        sendq_free(q);
        ends_close(e);
    }
}

int main(void) {
    CHECK(signal(SIGPIPE, SIG_IGN) != SIG_ERR); /* as promised */
    stream_fill(bytes, 0, sizeof bytes);
    FILE* stream = file_of(bytes, sizeof bytes);
    file = fileno(stream);
    many_iovecs();
    calls_of_a_file();
    one_segment();
    CHECK_IS(fclose(stream), 0);
    return 0;
}
