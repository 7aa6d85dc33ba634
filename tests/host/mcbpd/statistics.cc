#include "statistics.h"

#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <fstream>
#include <numeric>

#include "item.h"
#include "version.h"

namespace mcbpd {
namespace {

std::string seconds(const timeval& time) {
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "%jd.%06ld", static_cast<intmax_t>(time.tv_sec),
                  static_cast<long>(time.tv_usec));
    return text.data();
}

// In bytes. getrusage's figure will not do: it counts the program that did the exec, too.
std::string peak_memory() {
    std::ifstream status("/proc/self/status");
    std::string word;
    while (status >> word) {
        if (word == "VmHWM:") {
            uint64_t kib = 0;
            status >> kib;
            return std::to_string(kib * 1024);
        }
    }
    return "0";
}

}  // namespace

Statistics::Statistics(size_t threads, std::string output)
    : output_(std::move(output)), started_(std::time(nullptr)), counters_(threads) {}

StatList Statistics::stats() const {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return {
        {"pid", std::to_string(getpid())},
        {"uptime", std::to_string(std::time(nullptr) - started_)},
        {"version", kVersion},
        {"output", output_},
        {"threads", std::to_string(counters_.size())},
        {"rusage_user", seconds(usage.ru_utime)},
        {"rusage_system", seconds(usage.ru_stime)},
        {"maxrss", peak_memory()},
        {"curr_connections", sum(Count::connections)},
        {"live_items", std::to_string(Item::live())},
        {"responses", sum(Count::responses)},
        {"acks", sum(Count::acks)},
        {"warnings", sum(Count::warnings)},
        {"dropped_stalled", sum(Count::dropped_stalled)},
        {"dropped_heaviest", sum(Count::dropped_heaviest)},
        {"dropped_cap", sum(Count::dropped_cap)},
    };
}

std::string Statistics::sum(Count count) const {
    return std::to_string(
        std::accumulate(counters_.begin(), counters_.end(), int64_t{0},
                        [&](int64_t sum, const Counters& of) { return sum + of.get(count); }));
}

}  // namespace mcbpd
