#include "server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <cerrno>
#include <csignal>
#include <system_error>

namespace mcbpd {
namespace {

constexpr int kBacklog = 1024;
// How long no connection is accepted when there are no descriptors left for one.
constexpr timeval kAcceptPause = {0, 100000};

void set_option(int fd, int level, int name, int value) {
    setsockopt(fd, level, name, &value, sizeof value);
}

}  // namespace

Server::Server(const Options& options)
    : sndbuf_(options.sndbuf),
      tls_(make_tls_context(options.tls_cert, options.tls_key)),
      statistics_(options.threads, options.output),
      teardowns_(loop_, store_, front_ends_, options.teardown_timeout),
      rosters_(loop_, front_ends_),
      pushes_(loop_, front_ends_),
      listener_(listen(options)),
      accept_again_(evtimer_new(loop_.base(), on_accept_again, this)),
      sigterm_(loop_.add(SIGTERM, EV_SIGNAL | EV_PERSIST, on_signal, this)),
      sigint_(loop_.add(SIGINT, EV_SIGNAL | EV_PERSIST, on_signal, this)) {
    for (size_t thread = 0; thread < options.threads; ++thread) {
        front_ends_.push_back(std::make_unique<FrontEnd>(options, tls_.get(), store_, teardowns_,
                                                         rosters_, pushes_, statistics_, thread));
    }
}

uint16_t Server::port() const {
    sockaddr_in address{};
    socklen_t bytes = sizeof address;
    getsockname(evconnlistener_get_fd(listener_.get()), reinterpret_cast<sockaddr*>(&address),
                &bytes);
    return ntohs(address.sin_port);
}

Server::ListenerPtr Server::listen(const Options& options) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(options.port);
    inet_pton(AF_INET, options.listen.c_str(), &address.sin_addr);
    constexpr unsigned kFlags = LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE;
    ListenerPtr listener(evconnlistener_new_bind(loop_.base(), on_accepted, this, kFlags, kBacklog,
                                                 reinterpret_cast<sockaddr*>(&address),
                                                 sizeof address));
    if (!listener) {
        throw std::system_error(errno, std::generic_category(), "cannot listen");
    }
    evconnlistener_set_error_cb(listener.get(), on_accept_failed);
    return listener;
}

void Server::on_accepted(evconnlistener* /*listener*/, evutil_socket_t fd, sockaddr* /*peer*/,
                         int /*peer_bytes*/, void* self) {
    static_cast<Server*>(self)->deal(fd);
}

void Server::on_accept_failed(evconnlistener* listener, void* self) {
    evconnlistener_disable(listener);
    event_add(static_cast<Server*>(self)->accept_again_.get(), &kAcceptPause);
}

void Server::on_accept_again(evutil_socket_t /*fd*/, short /*what*/, void* self) {
    evconnlistener_enable(static_cast<Server*>(self)->listener_.get());
}

void Server::on_signal(evutil_socket_t /*signal*/, short /*what*/, void* self) {
    static_cast<Server*>(self)->loop_.stop();
}

void Server::deal(int fd) {
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (sndbuf_ > 0) {
        set_option(fd, SOL_SOCKET, SO_SNDBUF, sndbuf_);
    }
    front_ends_[dealt_ % front_ends_.size()]->adopt(fd, dealt_);
    ++dealt_;
}

}  // namespace mcbpd
