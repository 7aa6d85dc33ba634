// The daemon: accepts connections and deals them to the front-end threads in turn.
#pragma once

#include <event2/event.h>
#include <event2/listener.h>
#include <sys/socket.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "event_loop.h"
#include "front_end.h"
#include "options.h"
#include "pushes.h"
#include "roster.h"
#include "store.h"
#include "teardown.h"
#include "tls.h"

namespace mcbpd {

class Server {
  public:
    explicit Server(const Options& options);
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;
    ~Server() = default;

    uint16_t port() const;
    // Until SIGTERM or SIGINT.
    void run() { loop_.run(); }

  private:
    struct FreeListener {
        void operator()(evconnlistener* listener) const { evconnlistener_free(listener); }
    };
    using ListenerPtr = std::unique_ptr<evconnlistener, FreeListener>;

    static void on_accepted(evconnlistener* listener, evutil_socket_t fd, sockaddr* peer,
                            int peer_bytes, void* self);
    static void on_accept_failed(evconnlistener* listener, void* self);
    static void on_accept_again(evutil_socket_t fd, short what, void* self);
    static void on_signal(evutil_socket_t signal, short what, void* self);

    ListenerPtr listen(const Options& options);
    void deal(int fd);

    const int sndbuf_;
    const TlsContextPtr tls_;
    Store store_;
    Statistics statistics_;
    EventLoop loop_;
    Teardowns teardowns_;
    Rosters rosters_;
    Pushes pushes_;
    ListenerPtr listener_;
    EventPtr accept_again_;
    EventPtr sigterm_;
    EventPtr sigint_;
    std::vector<std::unique_ptr<FrontEnd>> front_ends_;
    uint64_t dealt_ = 0;
};

}  // namespace mcbpd
