// The end of a bucket: its items are waited for, and after a while those who hold them are dropped.
#pragma once

#include <chrono>
#include <cstddef>
#include <list>
#include <memory>
#include <vector>

#include "bucket.h"
#include "event_loop.h"
#include "mailbox.h"
#include "store.h"

namespace mcbpd {

class FrontEnd;
class Teardowns;

// To be read by a front-end only when it is told of it.
struct Teardown {
    std::weak_ptr<const Bucket> bucket;
    size_t items_in_transit = 0;  // when it began
    size_t connections_dropped = 0;
};
using TeardownPtr = std::shared_ptr<Teardown>;

// Runs them, in the thread of an event loop that serves no connection.
class Teardowns {
  public:
    using Timeout = std::chrono::duration<double>;

    Teardowns(EventLoop& loop, Store& store,
              const std::vector<std::unique_ptr<FrontEnd>>& front_ends, Timeout timeout);

    // For any thread. The front-ends are told when it has ended.
    TeardownPtr begin();

  private:
    struct Running {
        Teardowns& all;
        TeardownPtr teardown;
        EventPtr deadline;
        bool bucket_ended = false;
        size_t asked = 0;  // front-ends that have yet to say how many connections they dropped
        std::list<Running>::iterator place;
    };

    static void on_deadline(int fd, short what, void* running);
    void start(const TeardownPtr& teardown);
    void drop_holders(Running& running);
    void end_if_over(const Running& running);

    EventLoop& loop_;
    Store& store_;
    const std::vector<std::unique_ptr<FrontEnd>>& front_ends_;
    const timeval timeout_;
    std::list<Running> running_;
    Mailbox mailbox_;
};

}  // namespace mcbpd
