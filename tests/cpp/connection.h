#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <sendq/sendq.hpp>
#include <string>
#include <system_error>
#include <utility>

// Two ends of a socket.
class Connection {
  public:
    Connection() { EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0); }
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;
    ~Connection() {
        close(ends[0]);
        closePeer();
    }

    int fd() const { return ends[0]; }
    void closePeer() { close(std::exchange(ends[1], -1)); }

    // Flushes all of q, and returns what the peer got since the last time.
    std::string receiveAll(sendq::queue& q) {
        std::string received;
        bool blocked = true;
        while (blocked) {
            const auto flushed = q.flush(fd());
            EXPECT_TRUE(flushed) << flushed.error().message();
            blocked = flushed.blocked();
            char part[65536];
            for (ssize_t n = 0; (n = read(ends[1], part, sizeof part)) > 0;) {
                received.append(part, static_cast<size_t>(n));
            }
        }
        return received;
    }

  private:
    int ends[2] = {-1, -1};
};

// A queue that borrows whatever it can.
inline sendq::queue makeQueue(sendq::queue_config config = {}) {
    config.copy_below = 1;
    config.share_below = 1;
    return sendq::queue::create(config).or_throw();
}

// len bytes that differ along their length.
inline std::string makeText(size_t len) {
    std::string text;
    for (size_t i = 0; i < len; i++) {
        text += static_cast<char>('A' + i % 57);
    }
    return text;
}
