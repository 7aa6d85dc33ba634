/* sendq_sendmsg, in place of sendmsg(2); and sendq_verify, beside it. */
#include <netinet/in.h>

#include "simulated.h"

enum { STREAM = 1 << 21, PIECES = 6 };

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

/* All or none, in order, whatever the socket takes. */
static void stream(ends e, uint32_t flags, size_t largest, bool least) {
    sendq_config_t config = {.size = sizeof config, .flags = flags, .high = 100000};
    sendq_t* q = new_queue(NULL, &config);
    if (least) {
        ends_least_buffer(e);
    }
    static unsigned char in[65536];
    size_t at = 0;
    size_t read = 0;
    int refused = 0;
    for (int turns = 0; read < STREAM; turns++) {
        CHECK(turns < 1000000);
        struct iovec iov[PIECES];
        size_t total = message(iov, at, largest);
        ssize_t sent = send_message(q, e.queue, iov, PIECES);
        if (sent < 0) {
            CHECK_IS(errno, EAGAIN);
            CHECK(sendq_queued_bytes(q) >= 100000);
            refused++;
        } else {
            CHECK_IS(sent, total);
            at += total;
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
    CHECK(!least || refused > 0);
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
    check_refused(sendq_sendmsg(NULL, e.queue, &msg, 0), EINVAL);
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
    iov = (struct iovec){bytes, 1001};
    check_refused(send_message(q, e.queue, &iov, 1), ENOBUFS);
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
    CHECK_IS(sendq_close(q), 0);
    check_refused(send_message(q, e.queue, &iov, 1), EPIPE);
    sendq_free(q);
    ends_close(e);
}

/* Appends the stream from `at` on, in pieces of every kind. */
static size_t append_all_sorts(sendq_t* q, size_t at, int file) {
    size_t total = 0;
    for (int i = 0; i < 100; i++) {
        size_t len = random_up_to(&rnd, 3000);
        switch (random_next(&rnd) % 3) {
            case 0:
                CHECK(sendq_append(q, bytes + at + total, len) >= 0);
                break;
            case 1:
                CHECK(sendq_append_ref(q, bytes + at + total, len, NULL, NULL) >= 0);
                break;
            default:
                CHECK(sendq_append_file(q, file, at + total, len, NULL, NULL) >= 0);
        }
        total += len;
    }
    return total;
}

/* A wrong byte is found where it is, and the connection goes on. */
static void verified(int file) {
    enum { MOST = 30000 };
    static unsigned char copy[MOST];
    sendq_t* q = new_simulated_queue();
    uint64_t at = UINT64_MAX;
    for (int round = 0; round < 50; round++) {
        size_t total = append_all_sorts(q, 0, file);
        uint64_t before = sendq_sent_bytes(q);
        for (size_t done = 0; done < total;) {
            struct iovec iov[PIECES];
            size_t len = message(iov, done, MOST / PIECES);
            len = len > total - done ? total - done : len;
            if (len == 0) {
                continue;
            }
            memcpy(copy, bytes + done, len);
            size_t wrong = random_next(&rnd) % len;
            copy[wrong] ^= 1;
            struct iovec one = {copy, len};
            CHECK_IS(sendq_verify(q, &one, 1, len, &at), -EILSEQ);
            CHECK_IS(at, before + done + wrong);
            CHECK_IS(sendq_verify(q, &one, 1, len, NULL), -EILSEQ);
            CHECK_IS(sendq_sent_bytes(q), before + done);
            size_t part = random_up_to(&rnd, len);
            CHECK_IS(sendq_verify(q, iov, PIECES, part, &at), 0);
            done += part;
            CHECK_IS(sendq_sent_bytes(q), before + done);
        }
        struct iovec one = {bytes, 1};
        CHECK_IS(sendq_verify(q, &one, 1, 1, &at), -EILSEQ); /* nothing waits */
        CHECK_IS(at, sendq_sent_bytes(q));
        CHECK_IS(sendq_verify(q, &one, 1, 0, &at), 0);
        CHECK_IS(sendq_verify(q, &one, 1, 2, &at), -EINVAL);
    }
    struct iovec one = {bytes, 1};
    CHECK_IS(sendq_verify(NULL, &one, 1, 1, &at), -EINVAL);
    CHECK_IS(sendq_verify(q, NULL, 1, 1, &at), -EINVAL);
    CHECK_IS(sendq_verify(q, &one, -1, 1, &at), -EINVAL);
    CHECK_IS(figures(q).waiting + figures(q).allocated, 0);
    sendq_free(q);
}

/* Refused, and yet a flush was tried: the owners of what that sent have been told. */
static void refused_after_a_flush(void) {
    enum { LENT = 100, EACH = 1000 };
    static piece pieces[LENT];
    sendq_config_t config = {.size = sizeof config, .high = LENT * EACH / 2, .copy_below = 1};
    sendq_t* q = new_queue(NULL, &config);
    ends e = ends_unix();
    ends_least_buffer(e);
    for (int i = 0; i < LENT; i++) {
        CHECK(piece_append(q, &pieces[i], bytes, EACH) >= 0);
    }
    struct iovec iov = {bytes, 100};
    check_refused(send_message(q, e.queue, &iov, 1), EAGAIN);
    CHECK(sendq_sent_bytes(q) >= EACH);
    pieces_check(pieces, LENT, (size_t)sendq_sent_bytes(q) / EACH, 0);
    sendq_free(q);
    ends_close(e);
}

int main(void) {
    stream_fill(bytes, 0, sizeof bytes);
    FILE* backing = file_of(bytes, sizeof bytes);
    for (int least = 0; least < 2; least++) {
        for (uint32_t flags = 0; flags <= SENDQ_THREADSAFE; flags++) {
            stream(ends_unix(), flags, 5000, least);
            stream(ends_tcp(), flags, 20000, least);
        }
    }
    past_the_queue();
    bad_input();
    refused_after_a_flush();
    verified(fileno(backing));
    CHECK_IS(fclose(backing), 0);
    return 0;
}
