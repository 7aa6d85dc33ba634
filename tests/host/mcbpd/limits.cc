#include "limits.h"

#include <algorithm>

#include "coarse_clock.h"
#include "options.h"

namespace mcbpd {
namespace {

size_t limit(size_t option) {
    return option == 0 ? Limits::kNone : option;
}

uint64_t jumping_now(void* /*arg*/) noexcept {
    return static_cast<uint64_t>(CoarseClock::now().time_since_epoch().count());
}

}  // namespace

Limits limits_of(const Options& options) {
    Limits limits;
    limits.cap = limit(options.cap);
    limits.high = std::min(limit(options.high), limits.cap);
    limits.low = limits.high / 2;
    limits.messages = options.max_messages;
    limits.zerocopy = options.zerocopy;
    if (options.budget > 0) {
        limits.budget = options.budget / options.threads;
    }
    limits.min_rate = options.min_rate;
    limits.min_rate_window = std::chrono::duration_cast<std::chrono::nanoseconds>(options.stall);
    limits.now = options.clock_jumps ? jumping_now : nullptr;
    limits.plant = options.plant;
    return limits;
}

}  // namespace mcbpd
