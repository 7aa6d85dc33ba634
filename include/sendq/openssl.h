/* sendq over TLS: sends a queue through an SSL of OpenSSL 3.0 or later. Header-only: sendq itself
 * does not link OpenSSL.
 *
 *     SSL *ssl = SSL_new(ctx);
 *     SSL_set_accept_state(ssl);
 *     sendq_ssl_set_fd(ssl, fd);                       in place of SSL_set_fd
 *     ...
 *     int r = sendq_ssl_flush(q, ssl, 1 << 20);        in place of sendq_flush
 *     watch_for_writable(c, r > 0 && (r & SENDQ_BLOCKED));
 *     ...
 *     int r = sendq_ssl_close(q, ssl);                 the end: what is queued, then the
 * close_notify
 *
 * Small pieces are gathered and encrypted together, in records of up to 16 KiB. A longer piece is
 * encrypted from where it is, except for its first bytes, which may fill up a record. The handshake
 * need not be complete: the first flush continues it.
 *
 * Reading. The host reads from the SSL as before, but not on another thread while this one flushes.
 * While a write is refused, OpenSSL accepts one KeyUpdate of a TLS 1.3 peer; a second one ends the
 * connection. A renegotiation by a TLS 1.2 peer ends it, too; with SSL_OP_NO_RENEGOTIATION, which
 * refuses them all, only if the socket is full again when the refusal is sent. If the host has to
 * keep such connections, it must not call SSL_read while a write is refused. After SENDQ_WANT_READ,
 * flush again when the socket is readable, and also after each SSL_read: the SSL_read may have
 * consumed what the flush waits for, and then the socket does not become readable again.
 *
 * Retries. After SENDQ_BLOCKED or SENDQ_WANT_READ, OpenSSL may have encrypted and partly sent bytes
 * that are still queued here, and it requires the same bytes again (SSL_write(3), "bad write
 * retry"). sendq offers the same bytes at the same address, so SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER
 * and SSL_MODE_ENABLE_PARTIAL_WRITE are not needed; they do no harm. Until then the host must not
 * write to the SSL by other means, and must not discard what is queued, if the connection is to
 * continue. SSL_MODE_RELEASE_BUFFERS saves an idle connection some 34 KiB of OpenSSL's own buffers.
 *
 * The peer's close_notify ends what the peer sends. It still reads, so what is queued is still
 * flushed.
 *
 * Errors. OpenSSL has one error queue per thread (ERR_get_error(3)), for all connections.
 * SSL_get_error(3) would take old errors for new ones, so each call here empties the queue
 * first. What ended a connection is left in it, for the host to log. */
#ifndef SENDQ_OPENSSL_H
#define SENDQ_OPENSSL_H

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sendq/sendq.h>
#if !defined(_WIN32)
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#endif

#if OPENSSL_VERSION_NUMBER < 0x30000000L
#error "sendq/openssl.h wants OpenSSL 3.0 or later"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* The socket cannot send or receive now, but may later. A memory shortage of the kernel ends
 * like a full socket does. */
static inline int sendq_ssl_is_transient_(int error) {
    return error == EAGAIN || error == EWOULDBLOCK || error == EINTR || error == ENOBUFS ||
           error == ENOMEM;
}

/* The -errno of a connection that OpenSSL reports as lost. It is never one that means "later". */
static inline int sendq_ssl_lost_(int error) {
    if (error == 0) { /* No system call failed: the SSL had failed before, in an SSL_read. */
        return -EPROTO;
    }
    return sendq_ssl_is_transient_(error) ? -EIO : -error;
}

/* The same, for an error of the TLS library or protocol. */
static inline int sendq_ssl_broken_(void) {
    unsigned long first = ERR_peek_error();
    if (ERR_GET_LIB(first) != ERR_LIB_SSL) {
        return -EPROTO;
    }
    switch (ERR_GET_REASON(first)) {
        case SSL_R_PROTOCOL_IS_SHUTDOWN:
            return -EPIPE;
        case SSL_R_UNEXPECTED_EOF_WHILE_READING:
            return -ECONNRESET;
        default:
            return -EPROTO;
    }
}

/* The result of a sendq_write_fn after an OpenSSL call that returned `result` and set errno to
 * `error`. */
static inline int64_t sendq_ssl_refusal_(const SSL* ssl, int result, int error) {
    switch (SSL_get_error(ssl, result)) {
        case SSL_ERROR_WANT_WRITE:
        case SSL_ERROR_WANT_CONNECT:
            return -EAGAIN;
        case SSL_ERROR_WANT_READ:
        case SSL_ERROR_WANT_ACCEPT:
            return SENDQ_WRITE_WANT_READ;
        case SSL_ERROR_ZERO_RETURN:
            return -EPIPE;
        case SSL_ERROR_SYSCALL:
            return sendq_ssl_lost_(error);
        case SSL_ERROR_SSL:
            return sendq_ssl_broken_();
        default: /* It waits for a callback of the host, such as for a certificate: SENDQ_MORE. */
            return -EINTR;
    }
}

/**
 * A sendq_write_fn that encrypts, for sendq_flush_with. Its argument is an SSL.
 *
 * It ends the connection with -EPIPE if the stream was ended before, by the host's close_notify, an
 * alert that SSL_read has received, or the socket; with -ECONNRESET if the peer is gone without a
 * close_notify; with -EPROTO if TLS has failed, and ERR_get_error(3) says why; or with another
 * -errno of the socket, or -EIO.
 */
static inline int64_t sendq_ssl_write(void* ssl, const void* data, size_t len) {
    size_t written = 0;
    ERR_clear_error();
    errno = 0;
    int result = SSL_write_ex((SSL*)ssl, data, len, &written);
    return result > 0 ? (int64_t)written : sendq_ssl_refusal_((SSL*)ssl, result, errno);
}

/* Commands of the BIO of sendq_ssl_set_fd: whether more follows what it gets next; and that no
 * more follows. */
enum { SENDQ_BIO_MORE_ = 0x5E9D, SENDQ_BIO_PUSH_ };

/* The state of a flush. */
typedef struct {
    sendq_t* q;
    SSL* ssl;
    size_t left;  /* of the budget, in bytes */
    int more;     /* as the BIO knows it: the kernel may delay a segment */
    int had_more; /* more was set during this flush */
} sendq_ssl_state_;

static inline int64_t sendq_ssl_write_record_(void* arg, const void* data, size_t len) {
    sendq_ssl_state_* state = (sendq_ssl_state_*)arg;
    int more = state->left > len && sendq_queued_bytes(state->q) > len;
    if (more != state->more) {
        BIO_ctrl(SSL_get_wbio(state->ssl), SENDQ_BIO_MORE_, more, NULL);
    }
    state->more = more;
    state->had_more |= more;
    state->left -= state->left < len ? state->left : len;
    return sendq_ssl_write(state->ssl, data, len);
}

/* Everything by SSL_write, files included. */
static inline int sendq_ssl_flush_records_(sendq_t* q, SSL* ssl, size_t max_bytes) {
    sendq_ssl_state_ state = {q, ssl, max_bytes > 0 ? max_bytes : SIZE_MAX, 0, 0};
    int hints = sendq_flush_with(q, sendq_ssl_write_record_, &state, max_bytes);
    if (state.had_more) {
        BIO_ctrl(SSL_get_wbio(ssl), SENDQ_BIO_PUSH_, 0, NULL);
    }
    return hints;
}

/**
 * Returns 1 if sendq_ssl_flush sends files by SSL_sendfile(3), so that the kernel encrypts them,
 * and 0 if it reads and encrypts them itself. The kernel has to have TLS (the module tls), OpenSSL
 * and the connection must use it (SSL_OP_ENABLE_KTLS and SSL_set_fd, set by the host), and the
 * handshake has to be complete.
 */
static inline int sendq_ssl_sends_files(SSL* ssl) {
#if defined(_WIN32)
    (void)ssl;
    return 0;
#else
    BIO* bio = ssl != NULL ? SSL_get_wbio(ssl) : NULL;
    return bio != NULL && BIO_get_ktls_send(bio);
#endif
}

#if !defined(_WIN32)

enum { SENDQ_SSL_PARTS_ = 16, SENDQ_SSL_FILE_ = 1 << 20 };

static inline size_t sendq_ssl_least_(size_t max_bytes, uint64_t len) {
    return max_bytes > 0 && max_bytes < len ? max_bytes : (size_t)len;
}

/* SSL_sendfile has sent nothing. */
static inline int sendq_ssl_file_refused_(sendq_t* q, const SSL* ssl, int result, int error) {
#if defined(ENODATA)
    int64_t refusal = -ENODATA; /* 0: the file is shorter than promised */
#else
    int64_t refusal = -ENOATTR; /* FreeBSD */
#endif
    if (result < 0 && (sendq_ssl_is_transient_(error) || error == EBUSY)) {
        refusal = -EAGAIN;
    } else if (result < 0) {
        refusal = error != 0 ? -error : sendq_ssl_refusal_(ssl, result, 0);
    }
    switch (refusal) {
        case -EAGAIN:
            return SENDQ_BLOCKED;
        case SENDQ_WRITE_WANT_READ:
            return SENDQ_WANT_READ;
        case -EINTR:
            return SENDQ_MORE;
        default:
            sendq_fail(q, (int)refusal);
            return (int)refusal;
    }
}

/* Not every file can be sent so: the others are read. */
static inline int sendq_ssl_cannot_send_(int error) {
    return error == EINVAL || error == ENOSYS || error == EOPNOTSUPP || error == ESPIPE ||
           error == EOVERFLOW;
}

static inline int sendq_ssl_send_file_(sendq_t* q, SSL* ssl, const sendq_part_t* file,
                                       size_t max_bytes) {
    uint64_t queued = sendq_queued_bytes(q);
    size_t len = sendq_ssl_least_(max_bytes, sendq_ssl_least_(SENDQ_SSL_FILE_, file->len));
    ERR_clear_error();
    errno = 0;
    ossl_ssize_t sent = SSL_sendfile(ssl, file->fd, (off_t)file->offset, len, 0);
    if (sent < 0 && sendq_ssl_cannot_send_(errno)) {
        return sendq_ssl_flush_records_(q, ssl, len);
    }
    if (sent <= 0) {
        return sendq_ssl_file_refused_(q, ssl, (int)sent, errno);
    }
    int hints = sendq_consume(q, (size_t)sent); /* A release may free q: nothing follows. */
    if (SENDQ_FAILED(hints)) {
        return hints;
    }
    if ((size_t)sent < len) {
        return hints | SENDQ_BLOCKED;
    }
    return hints | (queued > (uint64_t)sent ? SENDQ_MORE : 0);
}

/* The memory in front of the first file, or of that file what one call sends. A release that runs
 * may free q, so that one step is all that a call can do. */
static inline int sendq_ssl_flush_step_(sendq_t* q, SSL* ssl, size_t max_bytes) {
    sendq_part_t parts[SENDQ_SSL_PARTS_];
    int count = sendq_peek_parts(q, parts, SENDQ_SSL_PARTS_);
    uint64_t memory = 0;
    int i = 0;
    while (i < count && parts[i].kind != SENDQ_PART_FILE) {
        memory += parts[i++].len;
    }
    if (i == count && count < SENDQ_SSL_PARTS_) {
        return sendq_ssl_flush_records_(q, ssl, max_bytes);
    }
    if (memory > 0) {
        return sendq_ssl_flush_records_(q, ssl, sendq_ssl_least_(max_bytes, memory));
    }
    /* A rate holds back, or OpenSSL has refused a record with these bytes. */
    if (sendq_retry_after_ns(q) > 0) {
        return sendq_ssl_flush_records_(q, ssl, 1);
    }
    return sendq_ssl_send_file_(q, ssl, &parts[0], max_bytes);
}

#endif

/**
 * sendq_flush with encryption: sends what is queued through ssl, until that takes no more or
 * max_bytes are sent (0: no limit). Bytes count as sent when their record is in the socket.
 *
 * Where the kernel encrypts (sendq_ssl_sends_files), a call ends with SENDQ_MORE before a part of a
 * file and behind it, and after a mebibyte of it. Such parts exceed a rate by what one call sends.
 *
 * Hints and errors as for sendq_flush_with, with the errors of sendq_ssl_write. -EINVAL also if ssl
 * is NULL. -ENODATA also if a file is shorter than promised.
 */
static inline int sendq_ssl_flush(sendq_t* q, SSL* ssl, size_t max_bytes) {
    if (ssl == NULL) {
        return -EINVAL;
    }
    int hints = 0;
    SSL_up_ref(ssl); /* A release callback may free it. */
#if !defined(_WIN32)
    if (sendq_ssl_sends_files(ssl)) {
        hints = sendq_ssl_flush_step_(q, ssl, max_bytes);
    } else
#endif
    {
        hints = sendq_ssl_flush_records_(q, ssl, max_bytes);
    }
    SSL_free(ssl);
    return hints;
}

/**
 * Sends a message: sendq_append_message and sendq_ssl_flush in one. A release callback that runs
 * inside must free neither q nor ssl.
 *
 * Hints as for sendq_ssl_flush; SENDQ_HIGH: what is queued is at or over the high watermark;
 * SENDQ_CLOSED: the message was taken, and then the connection failed (sendq_error).
 * Errors as for sendq_append_message: the caller still owns its memory, and nothing was sent.
 * -EINVAL also if ssl is NULL.
 */
static inline int sendq_ssl_send(sendq_t* q, SSL* ssl, const sendq_part_t* parts, int count,
                                 sendq_release_fn release, void* arg, size_t max_bytes) {
    int taken = ssl != NULL ? sendq_append_message(q, parts, count, release, arg) : -EINVAL;
    if (SENDQ_FAILED(taken)) {
        return taken;
    }
    int hints = sendq_ssl_flush(q, ssl, max_bytes);
    if (SENDQ_FAILED(hints)) {
        hints = sendq_error(q) != 0 ? SENDQ_CLOSED : SENDQ_MORE;
    }
    return hints | (sendq_state(q) & SENDQ_HIGH);
}

/* Sends the close_notify. Returns 0, or the result of a sendq_write_fn. */
static inline int64_t sendq_ssl_notify_(SSL* ssl) {
    ERR_clear_error();
    errno = 0;
    /* The connection is established, and has to send a KeyUpdate or a ticket first. */
    int result = SSL_in_init(ssl) ? SSL_do_handshake(ssl) : 1;
    if (result > 0) {
        result = SSL_shutdown(ssl);
    } else if (result == 0) {
        result = -1;
    }
    return result >= 0 ? 0 : sendq_ssl_refusal_(ssl, result, errno);
}

/**
 * Ends a connection in order: sendq_close, a flush of what is queued, and then the close_notify,
 * which tells the peer that nothing was cut off (SSL_shutdown(3)). Call it again, as the hints say,
 * until it returns no hint: then all is in the socket. Do not call it after that. Shut the socket
 * down, or read with SSL_read until the peer's own close_notify. If the handshake is not complete
 * and nothing is queued, nothing is sent: such a peer expects no close_notify.
 *
 * A release callback that runs inside must free neither q nor ssl.
 *
 * There is no time limit. For what is queued, sendq_close_within can be called before this. For the
 * close_notify, which waits inside OpenSSL, the host needs its own timer.
 *
 * Hints: as for sendq_ssl_flush.
 * -EINVAL: q or ssl is NULL. -EBUSY: another thread is flushing the queue, or corked bytes are
 * queued; call sendq_uncork or sendq_rollback first. -ENOMEM: out of memory, and nothing has
 * changed.
 * Another -errno, such as those of sendq_ssl_write, is the end of the connection, without a
 * close_notify; free the SSL. Only the host knows whether an SSL_read has failed for good. If so,
 * it must not call this function.
 */
static inline int sendq_ssl_close(sendq_t* q, SSL* ssl) {
    int closed = ssl == NULL ? -EINVAL : sendq_close(q);
    int hints = SENDQ_FAILED(closed) ? closed : sendq_ssl_flush(q, ssl, 0);
    if (SENDQ_FAILED(hints) || (hints & ~SENDQ_RESUME) != 0) {
        return hints;
    }
    if (sendq_queued_bytes(q) > 0) {
        return -EBUSY;
    }
    if (SSL_in_init(ssl) && SSL_get_state(ssl) != TLS_ST_OK) {
        return hints;
    }
    int64_t refusal = sendq_ssl_notify_(ssl);
    switch (refusal) {
        case 0:
            return hints;
        case -EAGAIN:
            return hints | SENDQ_BLOCKED;
        case SENDQ_WRITE_WANT_READ:
            return hints | SENDQ_WANT_READ;
        case -EINTR:
            return hints | SENDQ_MORE;
        default:
            return (int)refusal;
    }
}

#if !defined(_WIN32)

/* A BIO for a socket, like BIO_s_socket(3). Its data is the descriptor. */
static inline int sendq_bio_fd_(BIO* bio) {
    return (int)(intptr_t)BIO_get_data(bio);
}

/* Converts the result of a call on the socket, and sets the retry flags. */
static inline int sendq_bio_result_(BIO* bio, ssize_t bytes, int direction) {
    BIO_clear_flags(bio, BIO_FLAGS_RWS | BIO_FLAGS_SHOULD_RETRY);
    if (bytes < 0 && sendq_ssl_is_transient_(errno)) {
        BIO_set_flags(bio, direction | BIO_FLAGS_SHOULD_RETRY);
    }
    return (int)bytes;
}

#if defined(MSG_MORE) && defined(TCP_CORK)
#define SENDQ_BIO_MSG_MORE_ MSG_MORE
#else
#define SENDQ_BIO_MSG_MORE_ 0
#endif

/* More follows at once: the kernel may wait for it, to send full segments. */
#define SENDQ_BIO_FLAG_MORE_ (1 << 24)
/* The last send(2) carried MSG_MORE. */
#define SENDQ_BIO_FLAG_HELD_ (1 << 25)

static inline int sendq_bio_write_(BIO* bio, const char* data, int len) {
    int more = BIO_test_flags(bio, SENDQ_BIO_FLAG_MORE_) != 0;
    int flags = MSG_DONTWAIT | MSG_NOSIGNAL | (more ? SENDQ_BIO_MSG_MORE_ : 0);
    ssize_t bytes = send(sendq_bio_fd_(bio), data, (size_t)len, flags);
    if (bytes > 0) {
        BIO_clear_flags(bio, SENDQ_BIO_FLAG_HELD_);
        BIO_set_flags(bio, more ? SENDQ_BIO_FLAG_HELD_ : 0);
    }
    return sendq_bio_result_(bio, bytes, BIO_FLAGS_WRITE);
}

static inline long sendq_bio_more_(BIO* bio, long more) {
    BIO_clear_flags(bio, SENDQ_BIO_FLAG_MORE_);
    BIO_set_flags(bio, more ? SENDQ_BIO_FLAG_MORE_ : 0);
    return 1;
}

/* Without this the kernel would hold an incomplete segment back for 200 ms (tcp(7)). */
static inline long sendq_bio_push_(BIO* bio) {
#if defined(TCP_CORK)
    if (BIO_test_flags(bio, SENDQ_BIO_FLAG_HELD_)) {
        int off = 0;
        setsockopt(sendq_bio_fd_(bio), IPPROTO_TCP, TCP_CORK, &off, sizeof off);
    }
#endif
    BIO_clear_flags(bio, SENDQ_BIO_FLAG_MORE_ | SENDQ_BIO_FLAG_HELD_);
    return 1;
}

static inline int sendq_bio_read_(BIO* bio, char* data, int len) {
    ssize_t bytes = recv(sendq_bio_fd_(bio), data, (size_t)len, MSG_DONTWAIT);
    if (bytes == 0) {
        BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
    }
    return sendq_bio_result_(bio, bytes, BIO_FLAGS_READ);
}

static inline long sendq_bio_ctrl_(BIO* bio, int command, long number, void* out) {
    switch (command) {
        case BIO_C_GET_FD:
            if (out != NULL) {
                *(int*)out = sendq_bio_fd_(bio);
            }
            return sendq_bio_fd_(bio);
        case BIO_CTRL_EOF:
            return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0;
        case BIO_CTRL_FLUSH:
            return 1;
        case SENDQ_BIO_MORE_:
            return sendq_bio_more_(bio, number);
        case SENDQ_BIO_PUSH_:
            return sendq_bio_push_(bio);
        default: /* Including kernel TLS, whose records do not come from send(2). */
            return 0;
    }
}

static CRYPTO_ONCE sendq_bio_once_ = CRYPTO_ONCE_STATIC_INIT;
static BIO_METHOD* sendq_bio_method_;

static inline void sendq_bio_prepare_(void) {
    BIO_METHOD* method = BIO_meth_new(BIO_TYPE_SOCKET, "sendq");
    if (method != NULL && BIO_meth_set_write(method, sendq_bio_write_) > 0 &&
        BIO_meth_set_read(method, sendq_bio_read_) > 0 &&
        BIO_meth_set_ctrl(method, sendq_bio_ctrl_) > 0) {
        sendq_bio_method_ = method;
    } else {
        BIO_meth_free(method);
    }
}

/**
 * Replaces SSL_set_fd, with the promises of sendq: no call on ssl blocks and none raises SIGPIPE,
 * whatever the socket's mode and the process's signal handling. This includes SSL_read and
 * SSL_do_handshake. fd still belongs to the host.
 *
 * With SSL_set_fd itself, the socket has to be non-blocking and SIGPIPE ignored, because OpenSSL
 * uses write(2). Kernel TLS (SSL_OP_ENABLE_KTLS) works only that way, and is worth it for files
 * (sendq_ssl_sends_files); with this function it is not used.
 *
 * Returns 0. -EINVAL: ssl is NULL, or fd is negative, or on macOS blocking. -ENOMEM: out of memory.
 * macOS: an error of fcntl(2) or setsockopt(2).
 */
static inline int sendq_ssl_set_fd(SSL* ssl, sendq_fd_t fd) {
    if (ssl == NULL || fd < 0) {
        return -EINVAL;
    }
#if defined(__APPLE__)
    /* The kernel waits in spite of MSG_DONTWAIT, and older ones do not know MSG_NOSIGNAL. */
    int on = 1;
    int mode = fcntl(fd, F_GETFL);
    if (mode < 0 || setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on) != 0) {
        return -errno;
    }
    if ((mode & O_NONBLOCK) == 0) {
        return -EINVAL;
    }
#endif
    int ready = CRYPTO_THREAD_run_once(&sendq_bio_once_, sendq_bio_prepare_);
    BIO* bio = ready > 0 && sendq_bio_method_ != NULL ? BIO_new(sendq_bio_method_) : NULL;
    if (bio == NULL) {
        return -ENOMEM;
    }
    BIO_set_data(bio, (void*)(intptr_t)fd);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    return 0;
}

#endif

#ifdef __cplusplus
}
#endif

#if defined(SENDQ_LIBEVENT_H)
#include <sendq/libevent.h> /* its part with TLS */
#endif

#endif
