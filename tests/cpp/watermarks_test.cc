// Watermarks: HIGH with every append that ends at or over the high one, RESUME once, with the call
// that falls to the low one after that. In between nothing is said either way.

#include <ostream>
#include <string>
#include <vector>

#include "handles.h"

namespace {

constexpr uint64_t kLow = 1000;
constexpr uint64_t kHigh = 4000;

// One step, how much waits after it, and the hint that it gives.
struct Step {
    int bytes;  // > 0 appends, < 0 consumes
    uint64_t waiting;
    int hints;
};

struct Sequence {
    const char* name;
    std::vector<Step> steps;
};

void PrintTo(const Sequence& sequence, std::ostream* out) {
    *out << sequence.name;
}

class Watermarks : public testing::TestWithParam<Sequence> {};

TEST_P(Watermarks, Hint) {
    sendq_config_t config = {};
    config.low = kLow;
    config.high = kHigh;
    const auto q = newQueue(nullptr, config);
    for (const auto& step : GetParam().steps) {
        const int hints = step.bytes > 0
                              ? append(q, std::string(static_cast<size_t>(step.bytes), 'x'))
                              : sendq_consume(q.get(), static_cast<size_t>(-step.bytes));
        EXPECT_EQ(sendq_queued_bytes(q.get()), step.waiting);
        EXPECT_EQ(hints, step.hints) << "with " << step.waiting << " bytes waiting";
    }
}

const Sequence kSequences[] = {
    {"BelowHighSaysNothing", {{3999, 3999, SENDQ_WAKE}, {-3999, 0, 0}}},
    {"HighRepeats",
     {{4000, 4000, SENDQ_WAKE | SENDQ_HIGH}, {1, 4001, SENDQ_HIGH}, {1, 4002, SENDQ_HIGH}}},
    {"ResumeComesOnce",
     {{4000, 4000, SENDQ_WAKE | SENDQ_HIGH},
      {-2999, 1001, 0},
      {-1, 1000, SENDQ_RESUME},
      {-1, 999, 0},
      {-999, 0, 0}}},
    {"BetweenTheMarksNothingChanges",
     {{4000, 4000, SENDQ_WAKE | SENDQ_HIGH},
      {-1000, 3000, 0},
      {999, 3999, 0},
      {-2000, 1999, 0},
      {2001, 4000, SENDQ_HIGH},
      {-3000, 1000, SENDQ_RESUME},
      {2999, 3999, 0},
      {-3999, 0, 0}}},
    {"AgainAndAgain",
     {{5000, 5000, SENDQ_WAKE | SENDQ_HIGH},
      {-5000, 0, SENDQ_RESUME},
      {5000, 5000, SENDQ_WAKE | SENDQ_HIGH},
      {-5000, 0, SENDQ_RESUME}}},
};

INSTANTIATE_TEST_SUITE_P(Sequences, Watermarks, testing::ValuesIn(kSequences),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
