#include "transport.h"

#include <openssl/err.h>
#include <sendq/openssl.h>

#include <algorithm>
#include <cerrno>
#include <new>
#include <utility>

namespace mcbpd {
namespace {

constexpr size_t kRecordBytes = SSL3_RT_MAX_PLAIN_LENGTH;

// SSL_get_error takes what is left of other calls for its own.
void forget_errors() {
    ERR_clear_error();
    errno = 0;
}

}  // namespace

Transport::Transport(Descriptor socket, SSL_CTX* tls)
    : socket_(std::move(socket)), tls_(tls != nullptr ? SSL_new(tls) : nullptr) {
    if (tls == nullptr) {
        return;
    }
    if (!tls_ || sendq_ssl_set_fd(tls_.get(), fd()) < 0) {
        throw std::bad_alloc();
    }
    SSL_set_accept_state(tls_.get());
}

// No part of a record may stay in OpenSSL when the room is used up: no event would report it.
ssize_t Transport::read_records(char* to, size_t room) {
    size_t got = 0;
    while (room - got >= kRecordBytes) {
        size_t part = 0;
        forget_errors();
        const int result = SSL_read_ex(tls_.get(), to + got, room - got, &part);
        if (result <= 0) {
            const bool is_end = SSL_get_error(tls_.get(), result) == SSL_ERROR_ZERO_RETURN;
            const ssize_t refusal = is_end ? 0 : refused(result);
            // What came before a reset is taken.
            has_ended_ = is_end || errno != EAGAIN;
            // After an error of its own OpenSSL takes no answer to that, and says for ever what it
            // waited for last.
            const bool is_broken = !is_end && errno == EPROTO;
            return got > 0 && !is_broken ? static_cast<ssize_t>(got) : refusal;
        }
        got += part;
    }
    return static_cast<ssize_t>(got);
}

ssize_t Transport::send_pieces(const msghdr& message) {
    size_t taken = 0;
    for (size_t i = 0; i < message.msg_iovlen && taken < kFlushBudget; ++i) {
        if (!send_piece(message.msg_iov[i], taken)) {
            return taken > 0 ? static_cast<ssize_t>(taken) : refused(-1);
        }
    }
    return static_cast<ssize_t>(taken);
}

bool Transport::send_piece(const iovec& piece, size_t& taken) {
    size_t sent = 0;
    while (sent < piece.iov_len) {
        const char* rest = static_cast<const char*>(piece.iov_base) + sent;
        size_t part = 0;
        forget_errors();
        if (SSL_write_ex(tls_.get(), rest, piece.iov_len - sent, &part) <= 0) {
            promised_ = std::min(piece.iov_len - sent, kRecordBytes);
            return false;
        }
        promised_ = 0;
        sent += part;
        taken += part;
    }
    return true;
}

int Transport::end() {
    if (!tls_) {
        return 0;
    }
    forget_errors();
    // What TLS has to say by itself goes first.
    int result = SSL_in_init(tls_.get()) != 0 ? SSL_do_handshake(tls_.get()) : 1;
    if (result > 0) {
        result = SSL_shutdown(tls_.get());
    }
    return result >= 0 ? 0 : static_cast<int>(refused(result));
}

// As a system call tells of it.
ssize_t Transport::refused(int result) const {
    const int error = errno;
    switch (SSL_get_error(tls_.get(), result)) {
        case SSL_ERROR_WANT_READ:
        case SSL_ERROR_WANT_WRITE:
            errno = EAGAIN;
            break;
        case SSL_ERROR_SSL:
            errno = EPROTO;
            break;
        default:
            errno = error != 0 ? error : ECONNRESET;
            break;
    }
    return -1;
}

}  // namespace mcbpd
