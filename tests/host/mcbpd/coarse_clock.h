// A monotonic clock that costs no more than a look at memory, and is some milliseconds late. A test
// need not wait for it: it can be made to jump.
#pragma once

#include <atomic>
#include <chrono>
#include <ctime>

namespace mcbpd {

struct CoarseClock {
    using duration = std::chrono::nanoseconds;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<CoarseClock>;
    static constexpr bool is_steady = true;

    static time_point now() noexcept {
        timespec time{};
        clock_gettime(CLOCK_MONOTONIC_COARSE, &time);
        return time_point(std::chrono::seconds(time.tv_sec) +
                          std::chrono::nanoseconds(time.tv_nsec) +
                          duration(jumped.load(std::memory_order_relaxed)));
    }

    static inline std::atomic<rep> jumped{0};
};

}  // namespace mcbpd
