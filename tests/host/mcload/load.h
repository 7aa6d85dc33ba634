// The load: many connections, each with a batch of GETs in flight.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "checker.h"
#include "options.h"
#include "socket.h"

namespace mcload {

struct Outcome {
    uint64_t responses = 0;
    double seconds = 0;
    std::vector<float> batch_us;
};

class Load {
  public:
    using Clock = std::chrono::steady_clock;

    Load(const Options& options, const Expected& expected);
    Load(const Load&) = delete;
    Load& operator=(const Load&) = delete;
    ~Load();

    // Ends when the requests or, unless 0, the seconds are over. Throws at the first wrong byte, at
    // an error and when the server falls silent.
    Outcome run(uint64_t requests, double seconds);

  private:
    struct Client {
        Client(const Options& options, const Expected& expected)
            : socket(options.server, options.tls), checker(expected) {}

        Socket socket;
        Checker checker;
        std::string_view unsent;
        size_t depth = 0;  // of the batch in flight
        Clock::time_point started;
    };

    void connect(const Expected& expected);
    void watch(Client& client, int operation, uint32_t events) const;
    void start(Clock::time_point now);
    void start_batch(Client& client);
    static bool send_batch(Client& client);
    void wait();
    int timeout_ms() const;
    void start_rested();
    void serve(Client& client, uint32_t events);
    void receive(Client& client);
    bool receive_some(Client& client);
    void finish_batch(Client& client);

    struct Resting {
        Client* client;
        Clock::time_point until;
    };

    const Options options_;
    const Clock::duration pause_;
    const Clock::duration stall_;
    std::string batch_;  // the requests of a whole one, in wire form
    std::vector<char> buffer_;
    int epoll_;
    std::vector<std::unique_ptr<Client>> clients_;
    uint64_t to_ask_ = 0;
    size_t in_flight_ = 0;         // batches
    std::deque<Resting> resting_;  // in the order in which they go on
    Clock::time_point last_event_;
    Clock::time_point deadline_;
    Outcome outcome_;
};

}  // namespace mcload
