// A connection to the server on this machine: TCP, and TLS on it if that is asked for.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <system_error>

namespace mcload {

[[noreturn]] inline void fail_errno(const char* what) {
    throw std::system_error(errno, std::generic_category(), what);
}

struct FreeTls {
    void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
    void operator()(SSL* tls) const { SSL_free(tls); }
};

// Of all connections. Whose certificate it is does not matter to a load.
inline SSL_CTX* tls_context() {
    static const std::unique_ptr<SSL_CTX, FreeTls> context(SSL_CTX_new(TLS_client_method()));
    SSL_CTX_set_read_ahead(context.get(), 1);
    SSL_CTX_set_mode(context.get(),
                     SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    return context.get();
}

class Socket {
  public:
    Socket(const sockaddr_in& server, bool over_tls)
        : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        if (fd_ < 0) {
            fail_errno("socket");
        }
        if (connect(fd_, reinterpret_cast<const sockaddr*>(&server), sizeof server) != 0) {
            close(fd_);
            fail_errno("connect");
        }
        const int on = 1;
        setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (over_tls) {
            tls_.reset(SSL_new(tls_context()));
            if (!tls_ || SSL_set_fd(tls_.get(), fd_) != 1 || SSL_connect(tls_.get()) != 1) {
                close(fd_);
                throw std::runtime_error("no TLS handshake");
            }
        }
    }
    Socket(const Socket&) = delete;
    Socket& operator=(const Socket&) = delete;
    ~Socket() { close(fd_); }

    int fd() const { return fd_; }
    bool is_tls() const { return tls_ != nullptr; }

    // As send(2).
    ssize_t send(const char* data, size_t bytes) {
        if (!tls_) {
            return ::send(fd_, data, bytes, MSG_NOSIGNAL);
        }
        size_t sent = 0;
        ERR_clear_error();
        const int result = SSL_write_ex(tls_.get(), data, bytes, &sent);
        return result > 0 ? static_cast<ssize_t>(sent) : refused(result);
    }
    // As recv(2). With TLS, as long as there was something there may be more of which no event
    // tells.
    ssize_t receive(char* to, size_t room) {
        if (!tls_) {
            return recv(fd_, to, room, 0);
        }
        size_t got = 0;
        ERR_clear_error();
        const int result = SSL_read_ex(tls_.get(), to, room, &got);
        return result > 0 ? static_cast<ssize_t>(got) : refused(result);
    }

  private:
    ssize_t refused(int result) const {
        switch (SSL_get_error(tls_.get(), result)) {
            case SSL_ERROR_ZERO_RETURN:
                return 0;
            case SSL_ERROR_WANT_READ:
            case SSL_ERROR_WANT_WRITE:
                errno = EAGAIN;
                return -1;
            default:
                errno = EPROTO;
                return -1;
        }
    }

    int fd_;
    std::unique_ptr<SSL, FreeTls> tls_;
};

}  // namespace mcload
