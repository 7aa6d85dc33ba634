// One client: reads a batch, runs its requests, flushes once.
#pragma once

#include <event2/event.h>
#include <event2/event_struct.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "coarse_clock.h"
#include "commands.h"
#include "descriptor.h"
#include "input.h"
#include "transport.h"

namespace mcbpd {

class FrontEnd;

class Connection final : public OutputOwner {
  public:
    // Throws if there is no memory for it.
    Connection(FrontEnd& front_end, Descriptor socket, uint64_t id);
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;
    ~Connection();

    // No other connection ever has it.
    uint64_t id() const { return id_; }
    // What it has on its way, as a JSON object.
    std::string describe() const { return session_.output->describe(transport_.fd()); }
    bool holds(const Bucket& bucket) const { return session_.output->holds(bucket); }
    std::chrono::nanoseconds stalled_for() const;
    bool waits_for(const void* what) const { return session_.waits_for.get() == what; }
    // What it waits for is over.
    void answer();
    // To be sent if it has subscribed.
    void push(std::string_view text);
    // Whether it is only there to be dropped.
    bool is_doomed() const { return is_doomed_; }
    // To be dropped without waiting for what the kernel holds: the client gets a reset.
    void abandon() const;

    event_base* base() const override;
    Transport& transport() override { return transport_; }
    void output_progressed() override { turn(); }
    void output_flushed(Flushed flushed) override;
    void output_cut(Cut reason) override;
    void output_warns(const std::string& what) override;

  private:
    static void on_readable(evutil_socket_t fd, short what, void* self);
    static void on_writable(evutil_socket_t fd, short what, void* self);

    void read();
    void turn();
    void run_requests();
    bool run_request();
    bool proceed(Flushed::State state);
    bool close();
    void note(Flushed::State state);
    bool may_run();
    bool may_read();
    bool is_held_up() const;
    bool is_finished() const;
    // False: the kernel has no memory for it.
    bool wait();

    FrontEnd& front_end_;
    Transport transport_;
    const uint64_t id_;
    Input input_;
    Session session_;
    event readable_;
    event writable_;
    bool reading_ = false;
    bool writing_ = false;
    // Output waits until the socket is writable, or readable, and input until it is writable: TLS
    // answers by itself.
    bool blocked_ = false;
    bool blocked_by_input_ = false;
    bool input_blocked_ = false;
    bool is_doomed_ = false;
    bool ended_ = false;  // the peer sends no more
    std::optional<CoarseClock::time_point> closing_since_;
};

}  // namespace mcbpd
