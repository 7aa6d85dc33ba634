// Lets any thread have something done by the thread of an event loop.
#pragma once

#include <event2/event.h>

#include <functional>
#include <mutex>
#include <vector>

#include "event_loop.h"

namespace mcbpd {

class Mailbox {
  public:
    using Message = std::function<void()>;

    explicit Mailbox(EventLoop& loop);
    Mailbox(const Mailbox&) = delete;
    Mailbox& operator=(const Mailbox&) = delete;
    ~Mailbox();

    // For any thread. Messages are called in order; what comes when the loop has ended is not.
    void post(Message message);

  private:
    static void on_wake(evutil_socket_t fd, short what, void* self);
    void deliver();

    int wake_fd_;
    EventPtr wake_;
    std::mutex mutex_;
    std::vector<Message> messages_;
};

}  // namespace mcbpd
