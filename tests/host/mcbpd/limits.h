// What the outputs of one front-end may hold.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace mcbpd {

struct Options;

struct Limits {
    static constexpr size_t kNone = std::numeric_limits<int64_t>::max();

    // In bytes that wait, of one output: where its client's requests are left alone, where they are
    // taken up again, and what is never exceeded.
    size_t high = kNone;
    size_t low = kNone;
    size_t cap = kNone;
    // In bytes, of all outputs.
    size_t budget = kNone;
};

Limits limits_of(const Options& options);

}  // namespace mcbpd
