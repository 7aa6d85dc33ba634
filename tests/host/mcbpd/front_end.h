// A front-end thread: its event loop, and the connections that were dealt to it.
#pragma once

#include <event2/event.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <unordered_map>
#include <vector>

#include "commands.h"
#include "connection.h"
#include "event_loop.h"
#include "input.h"
#include "mailbox.h"
#include "options.h"
#include "roster.h"
#include "teardown.h"

namespace mcbpd {

class FrontEnd {
  public:
    // tls is null for plain connections.
    FrontEnd(const Options& options, SSL_CTX* tls, Store& store, Teardowns& teardowns,
             Rosters& rosters, Pushes& pushes, Statistics& statistics, size_t thread);
    FrontEnd(const FrontEnd&) = delete;
    FrontEnd& operator=(const FrontEnd&) = delete;
    ~FrontEnd();

    // For any thread: hands a connected socket over, as the connection of that id.
    void adopt(int fd, uint64_t id);
    // For any thread: destroys the connections that hold items of the bucket, and reports how many
    // they were.
    void drop_holders(const TeardownPtr& teardown, std::function<void(size_t)> report);
    // For any thread: reports all connections, but for those that are dropped as stalled then.
    void list(std::function<void(StatList)> report);
    // For any thread: lets the connection, if it is here, know that what it waits for is over.
    void answer(std::shared_ptr<const void> what);

    // For any thread: to be sent to those that have subscribed.
    void push(std::shared_ptr<const std::string> text);

    // For its connections.
    event_base* base() const { return loop_.base(); }
    SSL_CTX* tls() const { return tls_; }
    Batch& batch() { return batch_; }
    size_t max_item() const { return max_item_; }
    Batching batching() const { return batching_; }
    Session open_session(OutputOwner& connection);
    // Destroys the connection.
    void drop(int fd) { connections_.erase(fd); }
    // Destroys the connection, which is doomed, when nothing else is at work.
    void drop_soon(int fd);
    // Lets the output paths flush when the events of this turn have been handled.
    void end_turn_soon() {
        event_active(end_turn_.get(), EV_TIMEOUT, 0);
        ++left_to_end_;
    }
    // Ends the turn now if so much is left to its end that the caches would not hold it. May
    // destroy any connection.
    void end_long_turn() {
        if (left_to_end_ >= kMostLeftToEnd) {
            end_turn();
        }
    }

  private:
    static constexpr size_t kMostLeftToEnd = 32;

    static void on_doomed(evutil_socket_t fd, short what, void* self);
    static void on_end_of_turn(evutil_socket_t fd, short what, void* self);
    static void on_stall_check(evutil_socket_t fd, short what, void* self);
    void end_turn();
    void drop_doomed();
    void drop_stalled();

    SSL_CTX* const tls_;
    Store& store_;
    Teardowns& teardowns_;
    Rosters& rosters_;
    Pushes& pushes_;
    Statistics& statistics_;
    Counters& counters_;
    const size_t max_item_;
    const std::chrono::duration<double> stall_;
    const bool clock_jumps_;
    const Batching batching_;
    OutputPaths paths_;
    OutputPath& path_;
    Batch batch_;

    EventLoop loop_;
    std::unordered_map<int, Connection> connections_;
    std::vector<int> doomed_;
    EventPtr drop_doomed_;
    EventPtr end_turn_;
    size_t left_to_end_ = 0;
    EventPtr stall_check_;
    Mailbox mailbox_;
    std::thread thread_;
};

}  // namespace mcbpd
