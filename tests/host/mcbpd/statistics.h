// What the daemon counts about itself, for `stat`.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <string>
#include <utility>
#include <vector>

namespace mcbpd {

enum class Count {
    connections,
    responses,
    acks,
    warnings,
    dropped_stalled,
    dropped_heaviest,
    dropped_cap,
};

// Written by one front-end thread, read by any. On cache lines of its own.
class alignas(64) Counters {
  public:
    // With a single writer this needs no locked instruction.
    void add(Count count, int64_t n = 1) {
        std::atomic<int64_t>& counter = counts_[static_cast<size_t>(count)];
        counter.store(counter.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
    }
    int64_t get(Count count) const {
        return counts_[static_cast<size_t>(count)].load(std::memory_order_relaxed);
    }

  private:
    std::array<std::atomic<int64_t>, static_cast<size_t>(Count::dropped_cap) + 1> counts_{};
};

using StatList = std::vector<std::pair<std::string, std::string>>;

class Statistics {
  public:
    Statistics(size_t threads, std::string output);

    Counters& of_thread(size_t thread) { return counters_[thread]; }
    StatList stats() const;

  private:
    std::string sum(Count count) const;

    std::string output_;
    time_t started_;
    std::vector<Counters> counters_;
};

}  // namespace mcbpd
