// What the daemon counts about itself, for `stat`.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <string>
#include <utility>
#include <vector>

namespace mcbpd {

// Written by one front-end thread, read by any. On cache lines of its own.
class alignas(64) Counters {
  public:
    void connection_opened() { add(connections_, 1); }
    void connection_closed() { add(connections_, -1); }
    void responded() { add(responses_, 1); }

    int64_t connections() const { return connections_.load(std::memory_order_relaxed); }
    int64_t responses() const { return responses_.load(std::memory_order_relaxed); }

  private:
    // With a single writer this needs no locked instruction.
    static void add(std::atomic<int64_t>& counter, int64_t n) {
        counter.store(counter.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
    }

    std::atomic<int64_t> connections_{0};
    std::atomic<int64_t> responses_{0};
};

using StatList = std::vector<std::pair<std::string, std::string>>;

class Census {
  public:
    Census(size_t threads, std::string output);

    Counters& of_thread(size_t thread) { return counters_[thread]; }
    StatList stats() const;

  private:
    std::string output_;
    time_t started_;
    std::vector<Counters> counters_;
};

}  // namespace mcbpd
