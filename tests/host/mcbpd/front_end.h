// A front-end thread: its event loop, and the connections that were dealt to it.
#pragma once

#include <event2/event.h>

#include <cstddef>
#include <functional>
#include <thread>
#include <unordered_map>

#include "commands.h"
#include "connection.h"
#include "event_loop.h"
#include "input.h"
#include "mailbox.h"
#include "options.h"
#include "teardown.h"

namespace mcbpd {

class FrontEnd {
  public:
    FrontEnd(const Options& options, Store& store, Teardowns& teardowns, Census& census,
             size_t thread);
    FrontEnd(const FrontEnd&) = delete;
    FrontEnd& operator=(const FrontEnd&) = delete;
    ~FrontEnd();

    // For any thread: hands a connected socket over.
    void adopt(int fd);
    // For any thread: destroys the connections that hold items of the bucket, and reports how many
    // they were.
    void drop_holders(const TeardownPtr& teardown, std::function<void(size_t)> report);
    // For any thread: lets the connection, if it is here, know that what it waits for is over.
    void answer(const TeardownPtr& teardown);

    // For its connections.
    event_base* base() const { return loop_.base(); }
    Batch& batch() { return batch_; }
    size_t max_item() const { return max_item_; }
    Session open_session(const Socket& socket);
    // Destroys the connection.
    void drop(int fd) { connections_.erase(fd); }

  private:
    Store& store_;
    Teardowns& teardowns_;
    Census& census_;
    Counters& counters_;
    const size_t max_item_;
    OutputPaths paths_;
    OutputPath& path_;
    Batch batch_;

    EventLoop loop_;
    std::unordered_map<int, Connection> connections_;
    Mailbox mailbox_;
    std::thread thread_;
};

}  // namespace mcbpd
