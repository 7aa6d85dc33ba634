/* Parts of files in the stream: their bytes arrive in their place, whatever the socket's mode and
 * however full it is; a file that does not keep what was promised ends the connection; and no
 * signal is raised, lost or taken, whoever is gone. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>

#include "pieces.h"

enum { FILE_BYTES = 3 << 20, HEADER = 24 };

static unsigned char bytes[FILE_BYTES];

/* An unnamed file that holds the first len bytes of the test stream. */
static int new_file(size_t len) {
    FILE* file = tmpfile();
    CHECK(file != NULL);
    int fd = dup(fileno(file));
    CHECK(fd >= 0);
    CHECK_IS(fclose(file), 0);
    for (size_t at = 0; at < len;) {
        ssize_t written = write(fd, bytes + at, len - at);
        CHECK(written > 0);
        at += (size_t)written;
    }
    return fd;
}

static void set_blocking(int fd, bool blocking) {
    int flags = fcntl(fd, F_GETFL);
    CHECK(flags >= 0);
    CHECK_IS(fcntl(fd, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK), 0);
}

/* Headers, borrowed pieces and parts of a file in turn, as one test stream from its start. Returns
 * its length. */
static uint64_t append_pieces(sendq_t* q, int fd, piece* pieces, size_t count, uint64_t* ends_at) {
    static const size_t lens[] = {1, 100, 4096, 70000, 1 << 20, 16384, 5, 65537};
    uint64_t at = 0;
    for (size_t i = 0; i < count; i++) {
        size_t len = lens[i % (sizeof lens / sizeof *lens)];
        int hints = 0;
        switch (i % 4) {
            case 0:
                CHECK(sendq_append(q, bytes + at, HEADER) >= 0);
                at += HEADER;
                hints = piece_append_file(q, &pieces[i], fd, at, len);
                break;
            case 1: /* two parts next to each other */
            case 2:
                hints = piece_append_file(q, &pieces[i], fd, at, len);
                break;
            default:
                hints = piece_append(q, &pieces[i], bytes + at, len);
        }
        CHECK(hints >= 0);
        at += len;
        ends_at[i] = at;
    }
    CHECK_IS(sendq_queued_bytes(q), at);
    return at;
}

enum { PIECES = 8 };

/* The bytes arrive and each budget is spent to the byte, in a socket that is mostly full. */
static void delivers(ends e, bool blocking, bool least, size_t budget) {
    static unsigned char buffer[100000];
    piece pieces[PIECES];
    uint64_t ends_at[PIECES];
    uint64_t received = 0;
    uint64_t random = 88172645463325252U + budget;
    int fd = new_file(sizeof bytes);
    sendq_t* q = new_borrower(NULL, 1);
    set_blocking(e.queue, blocking);
    if (least) {
        ends_least_buffer(e);
    }
    uint64_t total = append_pieces(q, fd, pieces, PIECES, ends_at);
    CHECK(total <= sizeof bytes);
    while (received < total) {
        uint64_t sent = sendq_sent_bytes(q);
        int why = sendq_flush(q, e.queue, budget);
        CHECK(why >= 0);
        why &= ~SENDQ_RESUME;
        uint64_t gone = sendq_sent_bytes(q) - sent;
        CHECK_IS(sendq_queued_bytes(q), total - sent - gone);
        CHECK(budget == 0 || gone <= budget);
        if (sendq_queued_bytes(q) == 0) {
            CHECK_IS(why, 0);
        } else {
            CHECK_IS(why, budget > 0 && gone == budget ? SENDQ_MORE : SENDQ_BLOCKED);
        }
        for (int i = 0; i < PIECES; i++) {
            CHECK_IS(pieces[i].times, ends_at[i] <= sent + gone);
        }
        /* The reader stops now and then: the socket fills up. */
        if (random_next(&random) % 3 > 0 || why == SENDQ_BLOCKED || why == 0) {
            size_t got = ends_read(e, buffer, random_up_to(&random, sizeof buffer));
            stream_check(buffer, received, got);
            received += got;
            if (why != SENDQ_MORE && received < total) {
                struct pollfd both[] = {{e.queue, why ? POLLOUT : 0, 0}, {e.peer, POLLIN, 0}};
                CHECK(poll(both, 2, 30000) > 0);
            }
        }
    }
    pieces_check(pieces, PIECES, PIECES, 0);
    int flags = fcntl(e.queue, F_GETFL);
    CHECK_IS((flags & O_NONBLOCK) == 0, blocking); /* as it was */
    CHECK_IS(lseek(fd, 0, SEEK_CUR), sizeof bytes);
    check_usable(q);
    sendq_free(q);
    close(fd);
    ends_close(e);
}

/* A reader that does not read: nothing waits for it, the socket's mode notwithstanding. */
static void stopped_reader(ends e, bool blocking) {
    piece p;
    int fd = new_file(sizeof bytes);
    sendq_t* q = new_borrower(NULL, 1);
    set_blocking(e.queue, blocking);
    ends_least_buffer(e);
    for (int i = 0; i < 3; i++) {
        CHECK(piece_append_file(q, &p, fd, 0, sizeof bytes) >= 0);
        for (int again = 0; again < 10; again++) {
            CHECK_IS(sendq_flush(q, e.queue, 0), SENDQ_BLOCKED);
        }
        CHECK_IS(p.times, 0);
        CHECK(sendq_queued_bytes(q) > 0);
        CHECK_IS(sendq_discard(q), 0); /* a file is not memory: it was never high */
        CHECK_IS(p.reason, -ECANCELED);
    }
    sendq_free(q);
    close(fd);
    ends_close(e);
}

/* Flushes until the connection has failed; returns the error. */
static int flush_to_failure(sendq_t* q, ends e) {
    static unsigned char buffer[65536];
    for (int calls = 0; calls < 1000; calls++) {
        int result = sendq_flush(q, e.queue, 0);
        if (result < 0) {
            return result;
        }
        CHECK(result & SENDQ_BLOCKED);
        while (ends_read(e, buffer, sizeof buffer) > 0) {
        }
        wait_for(e.queue, POLLOUT);
    }
    check_failed(__FILE__, __LINE__, "the connection did not fail");
}

/* What is no file, or not that long any more. */
static void broken(int fd, uint64_t offset, size_t len, bool blocking, int error) {
    piece pieces[4];
    ends e = ends_unix();
    set_blocking(e.queue, blocking);
    sendq_t* q = new_borrower(NULL, 1);
    CHECK_IS(piece_append(q, &pieces[0], bytes, 10), SENDQ_WAKE);
    CHECK(piece_append_file(q, &pieces[1], fd, offset, len) >= 0);
    CHECK(piece_append(q, &pieces[2], bytes, 10) >= 0);
    CHECK_IS(piece_notify(q, &pieces[3]), 0);
    CHECK_IS(flush_to_failure(q, e), error);
    CHECK_IS(pieces[0].reason, 0);
    CHECK_IS(pieces[0].times, 1);
    pieces_check(pieces + 1, 3, 3, error);
    CHECK_IS(sendq_error(q), error);
    CHECK_IS(sendq_queued_bytes(q), 0);
    CHECK_IS(sendq_append(q, bytes, 1), error);
    sendq_free(q);
    ends_close(e);
}

static void broken_files(void) {
    int folder = open(".", O_RDONLY | O_DIRECTORY);
    int pipes[2];
    ends other = ends_unix();
    int write_only = open("/dev/null", O_WRONLY);
    CHECK(folder >= 0 && write_only >= 0);
    CHECK_IS(pipe(pipes), 0);
    CHECK_IS(write(pipes[1], bytes, 1000), 1000);
    CHECK_IS(send(other.peer, bytes, 1000, 0), 1000);
    for (int blocking = 0; blocking < 2; blocking++) {
        int fd = new_file(200000);
        broken(fd, 200000, 1, blocking, -ENODATA);
        broken(fd, 0, 200001, blocking, -ENODATA);
        broken(fd, 0, 1 << 30, blocking, -ENODATA);
        broken(fd, (uint64_t)1 << 62, 1, blocking, -ENODATA);
        broken(folder, 0, 100, blocking, -EISDIR);
        broken(pipes[0], 0, 100, blocking, -ESPIPE);
        broken(other.queue, 0, 100, blocking, -ESPIPE);
        broken(write_only, 0, 100, blocking, -EBADF);
        int closed = fcntl(fd, F_DUPFD, 200); /* no number that is used again soon */
        CHECK(closed >= 200);
        close(closed);
        close(fd);
        broken(closed, 0, 100, blocking, -EBADF);
        broken(INT32_MAX, 0, 100, blocking, -EBADF);
    }
    CHECK_IS(recv(other.queue, bytes, 1000, 0), 1000); /* nobody has read it */
    ssize_t unread = read(pipes[0], bytes, 1000);
    CHECK_IS(unread, 1000);
    close(folder);
    close(pipes[0]);
    close(pipes[1]);
    close(write_only);
    ends_close(other);

    sendq_t* q = new_queue(NULL, NULL);
    piece p;
    int fd = new_file(100);
    unsigned before = releases;
    CHECK_IS(piece_append_file(q, &p, -1, 0, 1), -EBADF);
    CHECK_IS(piece_append_file(q, &p, INT32_MIN, 0, 1), -EBADF);
    CHECK_IS(sendq_append_file(q, fd, UINT64_MAX, 2, piece_release, &p), -EINVAL);
    CHECK_IS(sendq_append_file(q, fd, 1, UINT64_MAX, piece_release, &p), -EINVAL);
    CHECK_IS(sendq_append_file(q, fd, INT64_MAX, 1, piece_release, &p), -EINVAL);
    CHECK_IS(sendq_append_file(NULL, fd, 0, 1, piece_release, &p), -EINVAL);
    CHECK_IS(releases, before);
    CHECK_IS(sendq_queued_bytes(q), 0);
    check_usable(q);
    CHECK_IS(sendq_append_file(q, fd, 0, INT64_MAX, NULL, NULL), SENDQ_WAKE);
    CHECK_IS(sendq_append(q, bytes, 1), 0);
    CHECK_IS(sendq_queued_bytes(q), (uint64_t)INT64_MAX + 1);
    CHECK_IS(sendq_discard(q), 0);
    check_usable(q);
    sendq_free(q);
    close(fd);
}

/* The file is cut while a part of it has left already. */
static void shrinks(ends e, bool blocking) {
    static unsigned char buffer[65536];
    piece p;
    int fd = new_file(sizeof bytes);
    set_blocking(e.queue, blocking);
    ends_least_buffer(e);
    sendq_t* q = new_borrower(NULL, 1);
    CHECK(piece_append_file(q, &p, fd, 0, sizeof bytes) >= 0);
    CHECK_IS(sendq_flush(q, e.queue, 0), SENDQ_BLOCKED);
    CHECK_IS(p.times, 0);
    CHECK_IS(ftruncate(fd, (off_t)sendq_sent_bytes(q) + 1000), 0);
    CHECK_IS(flush_to_failure(q, e), -ENODATA);
    pieces_check(&p, 1, 1, -ENODATA);
    while (ends_read(e, buffer, sizeof buffer) > 0) {
    }
    sendq_free(q);
    close(fd);
    ends_close(e);
}

/* Who hears BLOCKED waits until the socket becomes writable: it must not be so already, or nobody
 * that waits for the change (EPOLLET) is ever woken. */
static void blocked_is_blocked(bool blocking) {
    piece p;
    int fd = new_file(10000);
    ends e = ends_unix();
    set_blocking(e.queue, blocking);
    sendq_t* q = new_borrower(NULL, 1);
    CHECK(piece_append_file(q, &p, fd, 0, 10001) >= 0);
    int result = sendq_flush(q, e.queue, 0);
    if (result >= 0) {
        CHECK_IS(result, SENDQ_BLOCKED);
        struct pollfd one = {.fd = e.queue, .events = POLLOUT};
        CHECK_IS(poll(&one, 1, 0), 0);
    } else {
        CHECK_IS(result, -ENODATA);
    }
    sendq_free(q);
    close(fd);
    ends_close(e);
}

/* SIGPIPE has its default action in this program: raised, it ends the test. */
static void peer_gone(ends e, bool blocking) {
    piece pieces[2];
    int fd = new_file(sizeof bytes);
    set_blocking(e.queue, blocking);
    sendq_t* q = new_borrower(NULL, 1);
    CHECK(piece_append_file(q, &pieces[0], fd, 0, sizeof bytes) >= 0);
    CHECK(piece_append(q, &pieces[1], bytes, 100) >= 0);
    struct linger none = {.l_onoff = 1, .l_linger = 0};
    CHECK_IS(setsockopt(e.peer, SOL_SOCKET, SO_LINGER, &none, sizeof none), 0);
    close(e.peer);
    wait_for(e.queue, POLLOUT);
    int result = sendq_flush(q, e.queue, 0);
    CHECK(result == -EPIPE || result == -ECONNRESET);
    pieces_check(pieces, 2, 2, result);
    sendq_free(q);
    close(fd);
    close(e.queue);
}

/* The same through a socket that was shut for writing by its own side, whose error is EPIPE. */
static void shut(ends e, bool blocking) {
    piece p;
    int fd = new_file(1000);
    set_blocking(e.queue, blocking);
    CHECK_IS(shutdown(e.queue, SHUT_WR), 0);
    sendq_t* q = new_borrower(NULL, 1);
    CHECK(piece_append_file(q, &p, fd, 0, 1000) >= 0);
    CHECK_IS(sendq_flush(q, e.queue, 0), -EPIPE);
    pieces_check(&p, 1, 1, -EPIPE);
    sendq_free(q);
    close(fd);
    ends_close(e);
}

static bool is_pending(int signal) {
    sigset_t pending;
    CHECK_IS(sigpending(&pending), 0);
    return sigismember(&pending, signal) == 1;
}

/* A SIGPIPE of the host's that is blocked, or blocked and pending, stays so; no other comes. */
static void signals_stay(bool blocked, bool pending) {
    sigset_t pipe_signal;
    sigset_t mask;
    CHECK_IS(sigemptyset(&pipe_signal), 0);
    CHECK_IS(sigaddset(&pipe_signal, SIGPIPE), 0);
    if (blocked) {
        CHECK_IS(pthread_sigmask(SIG_BLOCK, &pipe_signal, NULL), 0);
    }
    if (pending) {
        CHECK_IS(pthread_kill(pthread_self(), SIGPIPE), 0);
    }
    for (int blocking = 0; blocking < 2; blocking++) {
        delivers(ends_unix(), blocking, true, 0);
        peer_gone(ends_unix(), blocking);
        peer_gone(ends_tcp(), blocking);
        shut(ends_unix(), blocking);
        shut(ends_tcp(), blocking);
        CHECK_IS(is_pending(SIGPIPE), pending);
        CHECK_IS(pthread_sigmask(SIG_BLOCK, NULL, &mask), 0);
        CHECK_IS(sigismember(&mask, SIGPIPE), blocked);
        CHECK_IS(sigismember(&mask, SIGTERM), 0);
    }
    if (pending) {
        int taken = 0;
        CHECK_IS(sigwait(&pipe_signal, &taken), 0);
        CHECK_IS(taken, SIGPIPE);
        CHECK(!is_pending(SIGPIPE));
    }
    CHECK_IS(pthread_sigmask(SIG_UNBLOCK, &pipe_signal, NULL), 0);
}

/* The peer goes in the middle of a call: what was sent before counts, and no signal comes. */
enum { MEETINGS = 300 };

typedef struct {
    int fd;
    uint64_t spin;
} leaver;

static void* leave(void* arg) {
    static _Thread_local unsigned char sink[16384];
    leaver* l = arg;
    for (volatile uint64_t i = 0; i < l->spin; i++) {
    }
    CHECK(recv(l->fd, sink, sizeof sink, 0) >= 0);
    close(l->fd);
    return NULL;
}

static void leaves_meanwhile(void) {
    uint64_t random = 88172645463325252U;
    int fd = new_file(sizeof bytes);
    int much = 4 << 20;
    for (int i = 0; i < MEETINGS; i++) {
        piece p;
        pthread_t thread;
        ends e = i % 2 ? ends_unix() : ends_tcp();
        set_blocking(e.queue, false);
        CHECK_IS(setsockopt(e.queue, SOL_SOCKET, SO_SNDBUF, &much, sizeof much), 0);
        sendq_t* q = new_borrower(NULL, 1);
        CHECK(piece_append_file(q, &p, fd, 0, sizeof bytes) >= 0);
        leaver l = {e.peer, random_up_to(&random, 100000)};
        CHECK_IS(pthread_create(&thread, NULL, leave, &l), 0);
        for (int calls = 0; calls < 1000; calls++) {
            int result = sendq_flush(q, e.queue, 0);
            CHECK(!is_pending(SIGPIPE));
            if (result < 0) {
                CHECK(result == -EPIPE || result == -ECONNRESET);
                break;
            }
            if (!(result & SENDQ_BLOCKED)) {
                break;
            }
            wait_for(e.queue, POLLOUT);
        }
        CHECK_IS(pthread_join(thread, NULL), 0);
        sendq_free(q);
        CHECK_IS(p.times, 1);
        close(e.queue);
    }
    close(fd);
}

int main(void) {
    CHECK(signal(SIGPIPE, SIG_DFL) != SIG_ERR);
    stream_fill(bytes, 0, sizeof bytes);
    for (int blocking = 0; blocking < 2; blocking++) {
        for (int least = 0; least < 2; least++) {
            delivers(ends_unix(), blocking, least, 0);
            delivers(ends_unix(), blocking, least, 10007);
            delivers(ends_tcp(), blocking, least, 0);
            delivers(ends_tcp(), blocking, least, 100003);
        }
        stopped_reader(ends_unix(), blocking);
        stopped_reader(ends_tcp(), blocking);
        shrinks(ends_unix(), blocking);
        shrinks(ends_tcp(), blocking);
    }
    broken_files();
    stream_fill(bytes, 0, sizeof bytes);
    signals_stay(false, false);
    signals_stay(true, false);
    signals_stay(true, true);
    leaves_meanwhile();
    blocked_is_blocked(false);
    blocked_is_blocked(true);
    return 0;
}
