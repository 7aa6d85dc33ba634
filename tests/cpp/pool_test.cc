// sendq::pool: the queues of a pool by turns, and what limits them together.

#include <gtest/gtest.h>
#include <sendq/sendq.hpp>

namespace {

using namespace std::chrono_literals;

TEST(Pool, ReturnsReadyQueuesByTurns) {
    int wakes = 0;
    const auto wake = [&wakes]() noexcept { wakes++; };
    sendq::pool_config config;
    config.set_wake(wake);
    auto pool = sendq::pool::create(config).or_throw();
    sendq::queue_config queue_config;
    int user = 0;
    queue_config.user = &user;
    auto q = sendq::queue::create(pool, queue_config).or_throw();

    EXPECT_EQ(pool.next(), nullptr);
    EXPECT_EQ(pool.retry_after(), std::nullopt);
    ASSERT_TRUE(q.append("response"));
    EXPECT_EQ(wakes, 1);
    EXPECT_EQ(pool.retry_after(), 0ns);
    sendq_t* next = pool.next();
    EXPECT_EQ(sendq_user(next), &user);
    EXPECT_EQ(pool.next(), nullptr);
    ASSERT_TRUE(q.schedule());
    EXPECT_EQ(pool.next(), next);
    EXPECT_GT(pool.bytes(), 8U);
    EXPECT_EQ(pool.stalled(1h, &next, 1), 0U);
}

TEST(Pool, LimitsTheRate) {
    auto pool = sendq::pool::create().or_throw();
    auto q = sendq::queue::create(pool).or_throw();
    ASSERT_TRUE(pool.set_rate(1, 1));
    ASSERT_TRUE(q.append("ab"));
    ASSERT_TRUE(q.consume(1));
    EXPECT_GT(pool.retry_after(), 0ns);
    EXPECT_GT(q.retry_after(), 0ns);
    ASSERT_TRUE(pool.set_rate(0));
    EXPECT_EQ(pool.retry_after(), 0ns);
}

}  // namespace
