/* sendq over TLS: what stands between a queue and an SSL of OpenSSL 3.0 or later. Header-only:
 * sendq itself links nothing of OpenSSL.
 *
 *     SSL *ssl = SSL_new(ctx);
 *     SSL_set_accept_state(ssl);
 *     sendq_ssl_set_fd(ssl, fd);                       in place of SSL_set_fd
 *     ...
 *     int r = sendq_ssl_flush(q, ssl, 1 << 20);        in place of sendq_flush
 *     watch_for_writable(c, r > 0 && (r & SENDQ_BLOCKED));
 *     ...
 *     int r = sendq_ssl_close(q, ssl);                 the end: what waits, then the close_notify
 *
 * Small pieces are encrypted together, in records of up to 16 KiB; a piece that is longer, from
 * where it lies, but for what fills up a record at its beginning. The handshake need not be over:
 * the first flush goes on with it.
 *
 * The host reads from the SSL as ever, but not on another thread while this one flushes. While a
 * write is refused OpenSSL bears one KeyUpdate of a TLS 1.3 peer, and a second one ends the
 * connection: that is the peer's own, but who must not lose it does not SSL_read meanwhile. So does
 * a renegotiation of a TLS 1.2 peer, unless SSL_OP_NO_RENEGOTIATION refuses them all. After
 * SENDQ_WANT_READ, flush again when the socket is readable, and after each SSL_read: that may have
 * read what the flush waits for, and then the socket does not become readable any more.
 *
 * After SENDQ_BLOCKED or SENDQ_WANT_READ OpenSSL may have encrypted, and partly sent, what still
 * waits here, and wants it again (SSL_write(3), "bad write retry"). sendq sees to that, and no mode
 * needs to be set: neither SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER nor SSL_MODE_ENABLE_PARTIAL_WRITE,
 * which both do no harm. The host must neither write by other means then nor discard what waits, if
 * the connection is to go on. SSL_MODE_RELEASE_BUFFERS spares an idle connection OpenSSL's own
 * buffers, some 34 KiB.
 *
 * The peer's close_notify ends what it sends, not what it reads: what waits is still flushed.
 *
 * OpenSSL has one list of errors per thread (ERR_get_error(3)), for all connections. Each call here
 * empties it first, since SSL_get_error(3) would take old errors for new ones, and leaves in it
 * what has ended a connection, for the host to log. */
#ifndef SENDQ_OPENSSL_H
#define SENDQ_OPENSSL_H

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sendq/sendq.h>
#if !defined(_WIN32)
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

/* The socket takes, or has, nothing now, but may later. The kernel's shortage of memory passes as a
 * full socket does. */
static inline int sendq_ssl_is_transient_(int error) {
    return error == EAGAIN || error == EWOULDBLOCK || error == EINTR || error == ENOBUFS ||
           error == ENOMEM;
}

/* Why a connection has ended that OpenSSL reports as lost: never an errno that says "later". */
static inline int sendq_ssl_lost_(int error) {
    if (error == 0) { /* No system call failed: the SSL had, before, as SSL_read has told. */
        return -EPROTO;
    }
    return sendq_ssl_is_transient_(error) ? -EIO : -error;
}

/* The same for an error of the TLS library or protocol. */
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

/* What a sendq_write_fn returns after an OpenSSL call has returned `result`, and left this errno.
 */
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
        default: /* It waits for something of the host's, such as a certificate: SENDQ_MORE. */
            return -EINTR;
    }
}

/**
 * A sendq_write_fn that encrypts; its argument is an SSL. For sendq_flush_with.
 *
 * Ends the connection with -EPIPE: it was ended, by the host's close_notify, an alert that SSL_read
 * has met, or the socket; -ECONNRESET: the peer is gone, without its close_notify; -EPROTO: TLS has
 * failed, and ERR_get_error(3) has more to say; another -errno: that of the socket, or -EIO.
 */
static inline int64_t sendq_ssl_write(void* ssl, const void* data, size_t len) {
    size_t written = 0;
    ERR_clear_error();
    errno = 0;
    int result = SSL_write_ex((SSL*)ssl, data, len, &written);
    return result > 0 ? (int64_t)written : sendq_ssl_refusal_((SSL*)ssl, result, errno);
}

/* What sendq_ssl_set_fd's BIO is told: whether more is to come at once behind what it gets next;
 * that no more comes. */
enum { SENDQ_BIO_MORE_ = 0x5E9D, SENDQ_BIO_PUSH_ };

/* One flush. */
typedef struct {
    sendq_t* q;
    SSL* ssl;
    size_t left;  /* bytes of its budget */
    int more;     /* as the BIO was told: a TCP segment can wait for what follows */
    int had_more; /* ever */
} sendq_ssl_turn_;

static inline int64_t sendq_ssl_go_on_(void* arg, const void* data, size_t len) {
    sendq_ssl_turn_* turn = (sendq_ssl_turn_*)arg;
    int more = turn->left > len && sendq_queued_bytes(turn->q) > len;
    if (more != turn->more) {
        BIO_ctrl(SSL_get_wbio(turn->ssl), SENDQ_BIO_MORE_, more, NULL);
    }
    turn->more = more;
    turn->had_more |= more;
    turn->left -= turn->left < len ? turn->left : len;
    return sendq_ssl_write(turn->ssl, data, len);
}

/**
 * sendq_flush, encrypted: hands what waits to ssl, until that takes no more or max_bytes (0: no
 * budget) are spent. Bytes count as sent when their record is in the socket.
 *
 * Hints and errors as for sendq_flush_with, by sendq_ssl_write. -EINVAL also for a NULL ssl.
 */
static inline int sendq_ssl_flush(sendq_t* q, SSL* ssl, size_t max_bytes) {
    if (ssl == NULL) {
        return -EINVAL;
    }
    sendq_ssl_turn_ turn = {q, ssl, max_bytes > 0 ? max_bytes : SIZE_MAX, 0, 0};
    SSL_up_ref(ssl); /* A release may free it. */
    int hints = sendq_flush_with(q, sendq_ssl_go_on_, &turn, max_bytes);
    if (turn.had_more) {
        BIO_ctrl(SSL_get_wbio(ssl), SENDQ_BIO_PUSH_, 0, NULL);
    }
    SSL_free(ssl);
    return hints;
}

/* Sends the close_notify: 0, or as a sendq_write_fn. */
static inline int64_t sendq_ssl_notify_(SSL* ssl) {
    ERR_clear_error();
    errno = 0;
    /* Established, and about to update its keys or to send a ticket: that goes first. */
    int result = SSL_in_init(ssl) ? SSL_do_handshake(ssl) : 1;
    if (result > 0) {
        result = SSL_shutdown(ssl);
    } else if (result == 0) {
        result = -1;
    }
    return result >= 0 ? 0 : sendq_ssl_refusal_(ssl, result, errno);
}

/**
 * The orderly end of a connection: sendq_close, a flush of what waits, and then the close_notify
 * that tells the peer that nothing was cut off (SSL_shutdown(3)). Call it again, as the hints say,
 * until there is none: then all of it is in the socket. After that, do not call it again; shut the
 * socket down, or wait for the peer's own close_notify by SSL_read. Nothing is sent where the
 * handshake is not over and nothing waits: such a peer expects none.
 *
 * Who is told in it that bytes have left must free neither q nor ssl.
 *
 * It takes as long as the peer lets it. For what waits, sendq_close_within can be called before;
 * the close_notify, which waits in OpenSSL, needs a timer of the host's.
 *
 * Hints: as for sendq_ssl_flush.
 * -EINVAL: q or ssl is NULL. -EBUSY: another thread is flushing it, or corked bytes wait:
 * sendq_uncork or sendq_rollback comes first. -ENOMEM: nothing happened. Another -errno, those of
 * sendq_ssl_write among them, is the end of the connection, without a close_notify, and without
 * further attempts: free the SSL. That SSL_read has failed for good, however, only the host knows:
 * it must not call this then.
 */
static inline int sendq_ssl_close(sendq_t* q, SSL* ssl) {
    int closed = ssl == NULL ? -EINVAL : sendq_close(q);
    int hints = closed < 0 ? closed : sendq_ssl_flush(q, ssl, 0);
    if (hints < 0 || (hints & ~SENDQ_RESUME) != 0) {
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

/* A BIO for a socket, as BIO_s_socket(3), whose data is the descriptor. */
static inline int sendq_bio_fd_(BIO* bio) {
    return (int)(intptr_t)BIO_get_data(bio);
}

/* What a call on the socket has returned, and whether another may do more later. */
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

/* More is to come at once: the kernel may wait for it, to send full segments. */
#define SENDQ_BIO_FLAG_MORE_ (1 << 24)
/* It does. */
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

/* What the kernel holds back must not wait for what does not come: 200 ms, tcp(7). */
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
        default: /* Kernel TLS among it: its records are not those of send(2). */
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
 * SSL_set_fd, with sendq's promises: no call on ssl waits, none raises SIGPIPE, whatever the
 * socket's mode and whatever the host does about that signal. That holds for SSL_read and
 * SSL_do_handshake, too. The host still owns fd.
 *
 * With SSL_set_fd itself the socket has to be non-blocking and SIGPIPE ignored, since OpenSSL uses
 * write(2). Kernel TLS (SSL_OP_ENABLE_KTLS) goes that way only: here it is not used.
 *
 * 0. -EINVAL: ssl is NULL, or fd is negative. -ENOMEM.
 */
static inline int sendq_ssl_set_fd(SSL* ssl, sendq_fd_t fd) {
    if (ssl == NULL || fd < 0) {
        return -EINVAL;
    }
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

#endif
