// What depends on the time, under a clock that the test moves.

#include <chrono>

#include "connection.h"

namespace {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;

struct Clock {
    nanoseconds time = 1h;
    nanoseconds operator()() const noexcept { return time; }
};

int64_t refuse(std::string_view) noexcept {
    return -EAGAIN;
}

class Time : public testing::Test {
  protected:
    Time() {
        sendq::pool_config config;
        config.set_clock(clock);
        q = sendq::queue::create(sendq::pool::create(config).or_throw()).or_throw();
    }

    Clock clock;
    Connection connection;
    sendq::queue q;
};

TEST_F(Time, StallsWhileBytesWait) {
    EXPECT_EQ(q.stalled(), 0ns);
    ASSERT_TRUE(q.append("waits"));
    clock.time += 1s;
    EXPECT_EQ(q.stalled(), 0ns) << "counts from the first look";
    clock.time += 3s;
    EXPECT_EQ(q.stalled(), 3s);
    ASSERT_TRUE(q.consume(1));
    EXPECT_EQ(q.stalled(), 0ns);
    clock.time += 2s;
    EXPECT_EQ(connection.receiveAll(q), "aits");
    EXPECT_EQ(q.stalled(), 0ns);
}

TEST_F(Time, StallsBelowTheMinRate) {
    ASSERT_TRUE(q.set_min_rate(10, 1s));
    ASSERT_TRUE(q.append(std::string(100, 'x')));
    EXPECT_EQ(q.stalled(), 0ns);
    for (int i = 0; i < 4; i++) {
        clock.time += 500ms;
        ASSERT_TRUE(q.consume(1));
    }
    EXPECT_EQ(q.stalled(), 2s) << "two bytes a second";
    ASSERT_TRUE(q.consume(10));
    EXPECT_EQ(q.stalled(), 0ns);
}

TEST_F(Time, TheMinRateNeedsAWindow) {
    EXPECT_EQ(q.set_min_rate(10, 0s).error(), std::errc::invalid_argument);
    EXPECT_EQ(q.set_min_rate(10, -1s).error(), std::errc::invalid_argument);
    EXPECT_TRUE(q.set_min_rate(0, 0s));
}

TEST_F(Time, LetsGoAtTheRate) {
    ASSERT_TRUE(q.set_rate(1000, 100));
    ASSERT_TRUE(q.append(std::string(150, 'x')));
    EXPECT_TRUE(q.flush(connection.fd()).more());
    EXPECT_EQ(q.queued_bytes(), 50U);
    const auto wait = q.retry_after();
    EXPECT_GT(wait, 0ns);
    EXPECT_LE(wait, 50ms);
    clock.time += 50ms;
    EXPECT_EQ(q.retry_after(), 0ns);
    EXPECT_EQ(q.flush(connection.fd()).bits(), 0);
    EXPECT_EQ(q.queued_bytes(), 0U);
    EXPECT_EQ(q.retry_after(), std::nullopt) << "nothing waits";
}

TEST_F(Time, NothingButTheSocketHelps) {
    EXPECT_EQ(sendq::queue().retry_after(), std::nullopt);
    EXPECT_EQ(q.retry_after(), std::nullopt) << "nothing waits";
    ASSERT_TRUE(q.append(makeText(10'000'000)));
    EXPECT_EQ(q.retry_after(), 0ns) << "now";
    ASSERT_TRUE(q.flush(connection.fd()).blocked());
    EXPECT_EQ(q.retry_after(), std::nullopt);
}

TEST_F(Time, GivesUpAtTheDeadline) {
    ASSERT_TRUE(q.append("lost"));
    ASSERT_TRUE(q.close_within(2s));
    ASSERT_TRUE(q.flush_with(refuse).blocked());
    EXPECT_EQ(q.append("late").error(), std::errc::broken_pipe);
    EXPECT_EQ(q.retry_after(), 2s);
    clock.time += 2s;
    EXPECT_EQ(q.flush(connection.fd()).error(), std::errc::timed_out);
    EXPECT_EQ(q.error(), std::errc::timed_out);
    EXPECT_EQ(q.stats().discarded, 4U);
}

TEST_F(Time, ADeadlineThatIsOverGivesUpAtOnce) {
    ASSERT_TRUE(q.append("lost"));
    EXPECT_EQ(q.close_within(-1s).error(), std::errc::timed_out);
}

TEST_F(Time, IsNotTooLongForNanoseconds) {
    clock.time = 0ns;
    ASSERT_TRUE(q.set_rate(1, 1));
    ASSERT_TRUE(q.append("ab"));
    ASSERT_TRUE(q.close_within(nanoseconds::max()));
    EXPECT_EQ(q.retry_after(), 0ns);
    ASSERT_TRUE(q.set_rate(0));
    ASSERT_TRUE(q.flush_with(refuse).blocked());
    EXPECT_EQ(q.retry_after(), nanoseconds::max());
}

TEST(Clocks, MayBeOnesOfTheLibrary) {
    sendq::pool_config config;
    config.set_clock<std::chrono::steady_clock>();
    auto q = sendq::queue::create(sendq::pool::create(config).or_throw()).or_throw();
    ASSERT_TRUE(q.append("waits"));
    const auto progress = nanoseconds(static_cast<int64_t>(q.stats().last_progress_ns));
    const auto age = std::chrono::steady_clock::now().time_since_epoch() - progress;
    EXPECT_GE(age, 0ns);
    EXPECT_LT(age, 1min);
}

}  // namespace
