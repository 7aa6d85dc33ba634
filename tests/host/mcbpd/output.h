// The seam between the protocol and the way bytes get onto the socket: one implementation per
// output path, chosen by name.
#pragma once

#include <event2/event.h>

#include <cstddef>
#include <memory>
#include <string_view>
#include <vector>

#include "bucket.h"
#include "item.h"

namespace mcbpd {

// What one flush may send, so that a connection with much to send leaves its neighbours a turn.
constexpr size_t kFlushBudget = size_t{1} << 20;

struct Flushed {
    enum class State {
        done,     // nothing waits
        blocked,  // the socket takes no more
        more,     // bytes wait, the budget is spent
        sending,  // bytes wait, the output writes them by itself
        failed,   // the connection is gone
    };
    State state = State::done;
    int error = 0;  // errno, when failed
};

// For an output that writes by itself, from the event loop.
struct Socket {
    event_base* base;
    int fd;
    // Called from there when bytes have left, or when none will any more. May destroy the output.
    void (*on_progress)(void* arg);
    void* arg;
};

// One connection's output. A piece that could not be taken makes the next flush fail.
class Output {
  public:
    Output() = default;
    Output(const Output&) = delete;
    Output& operator=(const Output&) = delete;
    virtual ~Output() = default;

    // The bytes are the caller's again at once.
    virtual void copy(std::string_view bytes) = 0;
    // The item's value, which is not empty.
    virtual void value(ItemPtr item) = 0;
    virtual Flushed flush(int fd) = 0;
    virtual size_t pending() const = 0;
    // Whether it needs an item of that bucket still.
    virtual bool holds(const Bucket& bucket) const = 0;
};

// One output path in one front-end thread: makes its connections' outputs and owns what they share.
class OutputPath {
  public:
    OutputPath() = default;
    OutputPath(const OutputPath&) = delete;
    OutputPath& operator=(const OutputPath&) = delete;
    virtual ~OutputPath() = default;

    // Outlived by the path.
    virtual std::unique_ptr<Output> open(const Socket& socket) = 0;
};

std::unique_ptr<OutputPath> make_sendmsg_path();
std::unique_ptr<OutputPath> make_bufferevent_path();
std::unique_ptr<OutputPath> make_sendq_copy_path();
std::unique_ptr<OutputPath> make_sendq_ref_path();

// Every output path of one front-end thread.
class OutputPaths {
  public:
    OutputPaths();

    // Null if there is no path of that name.
    OutputPath* find(std::string_view name) const;
    static std::vector<std::string_view> names();

  private:
    std::vector<std::unique_ptr<OutputPath>> paths_;  // in the order of their names
};

}  // namespace mcbpd
