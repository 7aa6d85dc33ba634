// The two ends of a connection's bytes: a socket, and TLS on it if that is asked for.
#pragma once

#include <openssl/ssl.h>
#include <sys/socket.h>
#include <sys/types.h>

#include <cstddef>

#include "descriptor.h"
#include "tls.h"

namespace mcbpd {

// What one flush may send, so that a connection with much to send leaves its neighbours a turn.
constexpr size_t kFlushBudget = (size_t{1} << 20) + (size_t{64} << 10);

class Transport {
  public:
    // Without a context it is plain.
    Transport(Descriptor socket, SSL_CTX* tls);
    Transport(const Transport&) = delete;
    Transport& operator=(const Transport&) = delete;

    int fd() const { return socket_.get(); }
    // Null: plain.
    SSL* tls() const { return tls_.get(); }

    // As recv(2); 0: the peer has said that it is the end. Of TLS as many records as fit, so there
    // must be room for a whole one.
    ssize_t read(char* to, size_t room) {
        return tls_ ? read_records(to, room) : recv(fd(), to, room, 0);
    }
    // Whether nothing follows what was read, because no further event may report it.
    bool has_ended() const { return has_ended_; }
    // As sendmsg(2), but TLS takes no more than a flush may send. After less than the whole message
    // the next one begins with what was not taken, however it has moved or grown.
    ssize_t send(const msghdr& message) {
        return tls_ ? send_pieces(message) : sendmsg(fd(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    // How many bytes of the next message are encrypted already.
    size_t promised() const { return promised_; }
    // Tells the peer that nothing follows, when all is sent. As shutdown(2), -1 with EAGAIN: again
    // when the socket is ready.
    int end();

    // Whether the last call, which could go no further, waits until the socket is readable, or
    // writable, though it was not to read, or to write.
    bool wants_read() const { return tls_ && SSL_want_read(tls_.get()) != 0; }
    bool wants_write() const { return tls_ && SSL_want_write(tls_.get()) != 0; }

  private:
    ssize_t read_records(char* to, size_t room);
    ssize_t send_pieces(const msghdr& message);
    // Returns whether all of it was taken.
    bool send_piece(const iovec& piece, size_t& taken);
    ssize_t refused(int result) const;

    const Descriptor socket_;
    TlsPtr tls_;
    bool has_ended_ = false;
    size_t promised_ = 0;
};

}  // namespace mcbpd
