// The connection that prepares the server and asks for its figures; it blocks.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "../protocol.h"
#include "socket.h"

namespace mcload {

using Stats = std::map<std::string, std::string>;

class Control {
  public:
    // A wait for the server is given up after about `timeout` seconds.
    Control(const sockaddr_in& server, bool over_tls, double timeout);

    // Stores the value that the load will ask for; returns its cas.
    uint64_t set(std::string_view value);
    Stats stats();

  private:
    struct Response {
        mcbp::Header header;
        std::string body;

        std::string_view key() const;
        std::string_view value() const;
    };

    void send_all(std::string_view bytes);
    std::string receive_exactly(size_t bytes);
    Response receive();

    Socket socket_;
};

}  // namespace mcload
