// What the outputs of one front-end may hold.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "fault.h"

namespace mcbpd {

struct Options;

struct Limits {
    static constexpr size_t kNone = std::numeric_limits<int64_t>::max();

    // In bytes that wait, of one output: where its client's requests are left alone, where they are
    // taken up again, and what is never exceeded.
    size_t high = kNone;
    size_t low = kNone;
    size_t cap = kNone;
    // In messages that wait, of one output; 0: any number. Only the path that has messages counts
    // it.
    size_t messages = 0;
    // In bytes: values that are as long are sent without a copy. 0: none. Only the paths through
    // sendq that borrow do it.
    size_t zerocopy = 0;
    // In bytes, of all outputs.
    size_t budget = kNone;
    // Fewer bytes a second, over such a time, are as good as none. 0: one is enough. Only sendq
    // counts it.
    uint64_t min_rate = 0;
    std::chrono::nanoseconds min_rate_window{0};
    // The clock of sendq; null: its own.
    uint64_t (*now)(void*) = nullptr;
    // What the shadowed path is to do wrong.
    Plant plant;
};

Limits limits_of(const Options& options);

}  // namespace mcbpd
