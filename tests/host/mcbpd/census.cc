#include "census.h"

#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <fstream>

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

Census::Census(size_t threads, std::string output)
    : output_(std::move(output)), started_(std::time(nullptr)), counters_(threads) {}

StatList Census::stats() const {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    int64_t connections = 0;
    int64_t responses = 0;
    for (const Counters& counters : counters_) {
        connections += counters.connections();
        responses += counters.responses();
    }
    return {
        {"pid", std::to_string(getpid())},
        {"uptime", std::to_string(std::time(nullptr) - started_)},
        {"version", kVersion},
        {"output", output_},
        {"threads", std::to_string(counters_.size())},
        {"rusage_user", seconds(usage.ru_utime)},
        {"rusage_system", seconds(usage.ru_stime)},
        {"maxrss", peak_memory()},
        {"curr_connections", std::to_string(connections)},
        {"live_items", std::to_string(Item::live())},
        {"responses", std::to_string(responses)},
    };
}

}  // namespace mcbpd
