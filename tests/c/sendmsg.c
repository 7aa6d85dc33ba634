/* sendq_sendmsg, in place of sendmsg(2): real sockets, bad input, and what is kept for a client
 * that does not read. The rest, and sendq_verify, is the model's. */
#include <netinet/in.h>

#include "simulated.h"

enum { STREAM = 1 << 21, PIECES = 6, HIGH = 100000 };

static unsigned char bytes[STREAM];
static uint64_t rnd = 88172645463325252U;

/* A message of up to PIECES pieces from `at` on, some of them empty. Returns its length. */
static size_t message(struct iovec* iov, size_t at, size_t largest) {
    size_t total = 0;
    for (int i = 0; i < PIECES; i++) {
        size_t len = random_next(&rnd) % largest;
        len = at + total + len > STREAM ? STREAM - at - total : len;
        iov[i] = (struct iovec){len > 0 ? bytes + at + total : NULL, len};
        total += len;
    }
    return total;
}

static ssize_t send_message(sendq_t* q, int fd, struct iovec* iov, size_t count) {
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = count};
    return sendq_sendmsg(q, fd, &msg, MSG_NOSIGNAL);
}

/* As much as the socket takes and as may wait before the high watermark, in order: the rest is sent
 * again, as after sendmsg(2). Never does more wait than high. */
static void stream(ends e, uint32_t flags, size_t largest, bool least) {
    sendq_config_t config = {.size = sizeof config, .flags = flags, .high = HIGH};
    sendq_t* q = new_queue(NULL, &config);
    if (least) {
        ends_least_buffer(e);
    }
    static unsigned char in[65536];
    size_t at = 0;
    size_t read = 0;
    int refused = 0;
    int parts = 0;
    for (int turns = 0; read < STREAM; turns++) {
        CHECK(turns < 1000000);
        struct iovec iov[PIECES];
        size_t total = message(iov, at, largest);
        ssize_t sent = send_message(q, e.queue, iov, PIECES);
        if (sent < 0) {
            CHECK_IS(errno, EAGAIN);
            CHECK(sendq_queued_bytes(q) >= HIGH);
            refused++;
        } else {
            CHECK((size_t)sent <= total && (sent > 0) == (total > 0));
            CHECK((size_t)sent == total || sendq_queued_bytes(q) == HIGH);
            CHECK(sendq_queued_bytes(q) <= HIGH);
            parts += (size_t)sent < total;
            at += (size_t)sent;
        }
        CHECK_IS(sendq_sent_bytes(q) + sendq_queued_bytes(q), at);
        if (random_next(&rnd) % 3 == 0 || sent < 0 || at == STREAM) {
            ssize_t got = recv(e.peer, in, random_up_to(&rnd, sizeof in), MSG_DONTWAIT);
            if (got > 0) {
                stream_check(in, read, (size_t)got);
                read += (size_t)got;
            }
            CHECK(sendq_flush(q, e.queue, 0) >= 0);
        }
    }
    CHECK_IS(sendq_queued_bytes(q), 0);
    CHECK(!least || (refused > 0 && parts > 0));
    sendq_free(q);
    ends_close(e);
}

/* A socket that takes all costs no queue memory, and one system call. */
static void past_the_queue(void) {
    sendq_pool_t* pool = new_simulated((sendq_pool_config_t){.keep_bytes = 1});
    sendq_t* q = new_queue(pool, NULL);
    ends e = ends_unix();
    struct iovec iov[2] = {{bytes, 24}, {bytes + 24, 100}};
    CHECK_IS(send_message(q, e.queue, iov, 2), 124);
    sendq_stats_t stats = figures(q);
    CHECK_IS(stats.sent, 124);
    CHECK_IS(stats.system_calls, 1);
    CHECK_IS(stats.peak_waiting, 0);
    CHECK_IS(pool_figures(pool).used, 0);
    sendq_free(q);
    sendq_pool_free(pool);
    ends_close(e);
}

static void check_refused(ssize_t result, int expected) {
    CHECK_IS(result, -1);
    CHECK_IS(errno, expected);
}

static void bad_input(void) {
    sendq_config_t config = {.size = sizeof config, .max = 1000};
    sendq_t* q = new_queue(NULL, &config);
    ends e = ends_unix();
    struct iovec iov = {bytes, 100};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    check_refused(sendq_sendmsg(q, e.queue, NULL, 0), EINVAL);
    check_refused(sendq_sendmsg(q, e.queue, &msg, MSG_OOB), EOPNOTSUPP);
    msg.msg_controllen = 16;
    check_refused(sendq_sendmsg(q, e.queue, &msg, 0), EOPNOTSUPP);
    struct sockaddr_in name = {.sin_family = AF_INET};
    msg = (struct msghdr){.msg_iov = &iov, .msg_iovlen = 1, .msg_namelen = sizeof name};
    msg.msg_name = &name;
    check_refused(sendq_sendmsg(q, e.queue, &msg, 0), EOPNOTSUPP);
    msg = (struct msghdr){.msg_iov = NULL, .msg_iovlen = 1};
    check_refused(sendq_sendmsg(q, e.queue, &msg, 0), EINVAL);
    msg = (struct msghdr){.msg_iov = &iov, .msg_iovlen = SIZE_MAX};
    check_refused(sendq_sendmsg(q, e.queue, &msg, 0), EINVAL);
    iov = (struct iovec){NULL, 1};
    check_refused(send_message(q, e.queue, &iov, 1), EINVAL);
    iov = (struct iovec){bytes, SIZE_MAX};
    check_refused(send_message(q, e.queue, &iov, 1), EINVAL);
    CHECK_IS(send_message(q, e.queue, &iov, 0), 0);
    CHECK_IS(sendq_queued_bytes(q) + sendq_sent_bytes(q), 0);
    iov = (struct iovec){bytes, 100};
    msg = (struct msghdr){.msg_iov = &iov, .msg_iovlen = 1, .msg_namelen = 16};
    CHECK_IS(sendq_sendmsg(q, e.queue, &msg, 0), 100); /* of no name, no length counts */
    check_refused(send_message(q, -1, &iov, 1), EBADF);
    check_refused(send_message(q, e.queue, &iov, 1), EBADF); /* the connection has failed with it */
    CHECK_IS(sendq_error(q), -EBADF);
    sendq_free(q);
    q = new_queue(NULL, NULL);
    uint64_t at = 7;
    CHECK_IS(sendq_verify(q, &iov, 1, 101, &at), -EINVAL);
    CHECK_IS(sendq_verify(q, NULL, 1, 1, &at), -EINVAL);
    CHECK_IS(sendq_verify(q, &iov, -1, 1, &at), -EINVAL);
    CHECK_IS(sendq_verify(q, &iov, 1, 100, NULL), -EILSEQ); /* nothing waits */
    CHECK_IS(sendq_verify(q, &iov, 1, 100, &at), -EILSEQ);
    CHECK_IS(at, 0);
    sendq_free(q);
    ends_close(e);
}

/* Refused, and yet a flush was tried: the owners of what that sent have been released. */
static void refused_after_a_flush(void) {
    enum { BORROWED = 100, EACH = 1000 };
    static piece pieces[BORROWED];
    sendq_config_t config = {.size = sizeof config, .high = BORROWED * EACH / 2, .copy_below = 1};
    sendq_t* q = new_queue(NULL, &config);
    ends e = ends_unix();
    ends_least_buffer(e);
    for (int i = 0; i < BORROWED; i++) {
        CHECK(piece_append(q, &pieces[i], bytes, EACH) >= 0);
    }
    struct iovec iov = {bytes, 100};
    check_refused(send_message(q, e.queue, &iov, 1), EAGAIN);
    CHECK(sendq_sent_bytes(q) >= EACH);
    pieces_check(pieces, BORROWED, (size_t)sendq_sent_bytes(q) / EACH, 0);
    sendq_free(q);
    ends_close(e);
}

/* A client that does not read: a message of 10 MB is taken in part, and then nothing, however often
 * the host tries. What waits is within high, and within max where that is lower. */
static void bounded(uint64_t high, uint64_t max, uint32_t flags) {
    static unsigned char much[10 << 20];
    sendq_config_t config = {.size = sizeof config, .flags = flags, .high = high, .max = max};
    uint64_t most = high > 0 ? high : max;
    sendq_t* q = new_queue(NULL, &config);
    ends e = ends_unix();
    ends_least_buffer(e);
    struct iovec iov = {much, sizeof much};
    uint64_t taken = 0;
    for (ssize_t sent; (sent = send_message(q, e.queue, &iov, 1)) >= 0; taken += (uint64_t)sent) {
        CHECK(sent > 0 && (size_t)sent < sizeof much);
        CHECK(sendq_queued_bytes(q) <= most);
        CHECK(taken == 0 || flags != 0); /* a queue of one thread takes all that it can at once */
    }
    CHECK_IS(errno, EAGAIN);
    CHECK_IS(sendq_queued_bytes(q), most);
    CHECK_IS(sendq_state(q), SENDQ_HIGH | SENDQ_BLOCKED);
    for (int i = 0; i < 3; i++) {
        check_refused(send_message(q, e.queue, &iov, 1), EAGAIN);
        CHECK_IS(sendq_queued_bytes(q), most);
    }
    CHECK_IS(sendq_sent_bytes(q) + most, taken);
    sendq_free(q);
    ends_close(e);
}

/* max_messages does not refuse what can be sent at once, behind what is queued. */
static void full_of_messages(void) {
    sendq_config_t config = {.size = sizeof config, .flags = SENDQ_MESSAGES, .max_messages = 1};
    sendq_t* q = new_queue(NULL, &config);
    ends e = ends_unix();
    CHECK_IS(sendq_append(q, bytes, 10), SENDQ_WAKE);
    CHECK_IS(sendq_end_message(q), 0);
    CHECK_IS(sendq_append(q, bytes, 1), -ENOBUFS);
    struct iovec iov = {bytes + 10, 20};
    CHECK_IS(send_message(q, e.queue, &iov, 1), 20);
    unsigned char got[30];
    CHECK_IS(ends_read(e, got, sizeof got), sizeof got);
    stream_check(got, 0, sizeof got);
    sendq_free(q);
    ends_close(e);
}

int main(void) {
    stream_fill(bytes, 0, sizeof bytes);
    for (int least = 0; least < 2; least++) {
        for (uint32_t flags = 0; flags <= SENDQ_THREADSAFE; flags++) {
            stream(ends_unix(), flags, 5000, least);
            stream(ends_tcp(), flags, 20000, least);
        }
    }
    past_the_queue();
    bad_input();
    refused_after_a_flush();
    full_of_messages();
    bounded(5000, 0, 0);
    bounded(0, 9000, 0);
    bounded(5000, 0, SENDQ_THREADSAFE);
    return 0;
}
