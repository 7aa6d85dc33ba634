// libevent.h in C++17: a host class whose callbacks are the glue's, with every function used once.
#include <event2/event.h>
#include <sendq/libevent.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

namespace {

void check(bool is_so, int line) {
    if (!is_so) {
        std::fprintf(stderr, "cpp.cc:%d\n", line);
        std::exit(1);
    }
}
#define CHECK(expression) check(expression, __LINE__)

struct Free {
    void operator()(sendq_bev_t* b) const { sendq_bev_free(b); }
    void operator()(event_base* base) const { event_base_free(base); }
    void operator()(evbuffer* buffer) const { evbuffer_free(buffer); }
};

class Connection {
  public:
    Connection(event_base* base, int fd) {
        sendq_bev_t* b = nullptr;
        CHECK(sendq_bev_new(base, fd, BEV_OPT_CLOSE_ON_FREE, nullptr, nullptr, &b) == 0);
        output_.reset(b);
        sendq_bev_setcb(b, on_sent, on_end, this);
    }

    sendq_bev_t* output() const { return output_.get(); }
    int sent() const { return sent_; }
    bool is_over() const { return output_ == nullptr; }

  private:
    static void on_sent(sendq_bev_t* /*b*/, void* self) { static_cast<Connection*>(self)->sent_++; }

    static void on_end(sendq_bev_t* /*b*/, short what, void* self) {
        CHECK(what == (BEV_EVENT_EOF | BEV_EVENT_WRITING));
        static_cast<Connection*>(self)->output_.reset();
    }

    std::unique_ptr<sendq_bev_t, Free> output_;
    int sent_ = 0;
};

std::int64_t write_nothing(void* /*arg*/, const void* /*data*/, std::size_t /*len*/) {
    return -EAGAIN;
}

void run(event_base* base) {
    int fds[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    Connection connection(base, fds[0]);
    CHECK(sendq_bev_getfd(connection.output()) == fds[0]);
    CHECK(sendq_bev_priority_set(connection.output(), 0) == 0);
    CHECK(sendq_bev_setwatermark(connection.output(), 0, 100, 1000) == 0);
    CHECK(sendq_bev_set_max_single_write(connection.output(), 10) == 0);
    CHECK(sendq_bev_disable(connection.output(), EV_WRITE) == 0);
    CHECK(sendq_bev_enable(connection.output(), EV_WRITE) == 0);

    CHECK(sendq_bev_write(connection.output(), "one ", 4) == 0);
    CHECK(sendq_bev_write_reference(connection.output(), "two ", 4, nullptr, nullptr) == 0);
    const std::unique_ptr<evbuffer, Free> buffer(evbuffer_new());
    CHECK(evbuffer_add_printf(buffer.get(), "three ") == 6);
    CHECK(sendq_bev_write_buffer(connection.output(), buffer.get()) == 0);
    CHECK(sendq_bev_printf(connection.output(), "%s ", "four") == 0);
    CHECK(sendq_bev_wake(connection.output(),
                         sendq_append(sendq_bev_get_queue(connection.output()), "five", 4)) == 0);
    CHECK(sendq_bev_get_length(connection.output()) == 23);

    CHECK(sendq_bev_set_writer(connection.output(), write_nothing, nullptr) == 0);
    CHECK(sendq_bev_flush(connection.output()) == SENDQ_BLOCKED);
    CHECK(sendq_bev_set_writer(connection.output(), nullptr, nullptr) == 0);
    CHECK(event_base_loop(base, EVLOOP_ONCE) == 0);
    while (sendq_bev_get_length(connection.output()) > 0) {
        CHECK(event_base_loop(base, EVLOOP_ONCE) == 0);
    }
    CHECK(connection.sent() == 1);
    CHECK(sendq_bev_trigger(connection.output(), EV_WRITE, 0) == 0);
    CHECK(connection.sent() == 2);
    CHECK(sendq_bev_base_set(base, connection.output()) == 0);
    CHECK(sendq_bev_close(connection.output(), 0) == 0);
    CHECK(event_base_dispatch(base) == 1);
    CHECK(connection.is_over());

    std::string received(100, '\0');
    received.resize(static_cast<std::size_t>(recv(fds[1], received.data(), received.size(), 0)));
    CHECK(received == "one two three four five");
    close(fds[1]);
}

void attach(event_base* base) {
    int fds[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    bufferevent* stream = bufferevent_socket_new(base, fds[0], BEV_OPT_CLOSE_ON_FREE);
    sendq_t* queue = nullptr;
    CHECK(sendq_new(nullptr, nullptr, &queue) == 0);
    sendq_bev_t* b = nullptr;
    CHECK(sendq_bev_attach_bufferevent(stream, queue, &b) == 0);
    CHECK(sendq_bev_write(b, "x", 1) == 0);
    CHECK(event_base_loop(base, EVLOOP_NONBLOCK) >= 0);
    char byte = 0;
    CHECK(recv(fds[1], &byte, 1, 0) == 1);
    sendq_bev_free(b);
    sendq_free(queue);
    bufferevent_free(stream);
    close(fds[1]);
}

}  // namespace

int main() {
    const std::unique_ptr<event_base, Free> base(event_base_new());
    CHECK(base != nullptr);
    run(base.get());
    attach(base.get());
    return 0;
}
