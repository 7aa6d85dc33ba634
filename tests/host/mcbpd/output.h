// The seam between the protocol and the way bytes get onto the socket: one implementation per
// output path, chosen by name.
#pragma once

#include <event2/event.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bucket.h"
#include "item.h"
#include "limits.h"
#include "transport.h"

namespace mcbpd {

struct Flushed {
    enum class State {
        done,     // nothing waits
        blocked,  // the socket takes no more, or TLS wants to read first
        more,     // bytes wait, the budget is spent
        sending,  // bytes wait, the output writes them by itself
        later,    // its path flushes it at the end of the turn
        failed,   // the connection is gone
    };
    State state = State::done;
    int error = 0;  // errno, when failed
};

// Whose output it is, for one that acts by itself.
class OutputOwner {
  public:
    enum class Cut { over_cap, heaviest };

    virtual event_base* base() const = 0;
    virtual Transport& transport() = 0;
    // Called from the event loop when bytes have left, or when none will any more. May destroy the
    // output.
    virtual void output_progressed() = 0;
    // Called from the end of the turn, for an output that was left to it. May destroy the output.
    virtual void output_flushed(Flushed flushed) = 0;
    // The output has given up what waited, and takes no more: the connection is to be dropped. May
    // come at any time in which another connection's output is used.
    virtual void output_cut(Cut cut) = 0;
    // Something is wrong that the connection survives.
    virtual void output_warns(const std::string& what) = 0;

  protected:
    ~OutputOwner() = default;
};

// One connection's output. A response that could not be taken makes the next flush fail.
class Output {
  public:
    explicit Output(OutputOwner& owner) : owner_(owner) {}
    Output(const Output&) = delete;
    Output& operator=(const Output&) = delete;
    virtual ~Output() = default;

    // A response: its head, and behind it the value, of the item if there is one. All other bytes
    // are the caller's again at once.
    virtual void respond(std::string_view head, std::string_view value, ItemPtr item) = 0;
    virtual Flushed flush(Transport& transport) = 0;
    // The orderly end, when nothing waits; if blocked, again later. Neither comes anything then.
    virtual Flushed close(Transport& transport);
    virtual size_t pending() const = 0;
    // Whether so much waits that its client's requests are to be left alone.
    virtual bool is_high() const = 0;
    // Since when bytes wait and none of them has left. How many wait says nothing of it.
    virtual std::chrono::nanoseconds stalled_for() const = 0;
    // What it has sent and has waiting for that socket, as a flat JSON object.
    virtual std::string describe(int fd) const = 0;
    // Whether it needs an item of that bucket still.
    virtual bool holds(const Bucket& bucket) const = 0;

  protected:
    // Drops what waits; from then on it takes no more, and its flush fails.
    virtual void discard() = 0;
    OutputOwner& owner() const { return owner_; }
    void cut(OutputOwner::Cut reason) {
        discard();
        owner_.output_cut(reason);
    }

  private:
    OutputOwner& owner_;
};

// An output that takes a response piece by piece.
class PiecewiseOutput : public Output {
  public:
    using Output::Output;

    void respond(std::string_view head, std::string_view value, ItemPtr item) final {
        copy(head);
        if (value.empty()) {
            return;
        }
        if (item) {
            this->value(std::move(item));
        } else {
            copy(value);
        }
    }

    // The bytes are the caller's again at once.
    virtual void copy(std::string_view bytes) = 0;
    // The item's value, which is not empty.
    virtual void value(ItemPtr item) = 0;
};

// One output path in one front-end thread: makes its connections' outputs and owns what they share.
class OutputPath {
  public:
    OutputPath() = default;
    OutputPath(const OutputPath&) = delete;
    OutputPath& operator=(const OutputPath&) = delete;
    virtual ~OutputPath() = default;

    // Outlived by the path and by its owner.
    virtual std::unique_ptr<Output> open(OutputOwner& owner) = 0;
    // Flushes those of its outputs that were left to the end of the turn.
    virtual void end_turn() {}
};

// What a connection's transport can be.
enum class Wire { plain, tls };

std::unique_ptr<OutputPath> make_sendmsg_path(const Limits& limits);
std::unique_ptr<OutputPath> make_shadow_path(const Limits& limits);
std::unique_ptr<OutputPath> make_sendq_sendmsg_path(const Limits& limits);
std::unique_ptr<OutputPath> make_bufferevent_path(const Limits& limits);
std::unique_ptr<OutputPath> make_sendq_libevent_path(const Limits& limits);
std::unique_ptr<OutputPath> make_sendq_copy_path(const Limits& limits);
std::unique_ptr<OutputPath> make_sendq_ref_path(const Limits& limits);
std::unique_ptr<OutputPath> make_sendq_message_path(const Limits& limits);

// Every output path of one front-end thread that can do with its connections' transport.
class OutputPaths {
  public:
    // Each path has the whole of the limits: all connections of a front-end use one, unless clients
    // ask for another.
    OutputPaths(const Limits& limits, Wire wire);

    // Null if there is no path of that name.
    OutputPath* find(std::string_view name) const;
    // Not where the kernel may still read what a path has sent: sendq shuts down the socket of a
    // queue that is freed then.
    bool may_change() const { return may_change_; }
    void end_turn() const;
    static std::vector<std::string_view> names(Wire wire = Wire::plain);

  private:
    std::vector<std::pair<std::string_view, std::unique_ptr<OutputPath>>> paths_;
    bool may_change_;
};

}  // namespace mcbpd
