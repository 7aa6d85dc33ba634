// The figures of queues and pools, and who holds the most.

#include "connection.h"

namespace {

TEST(Stats, OfAQueue) {
    Connection connection;
    auto q = makeQueue();
    ASSERT_TRUE(q.append("copied"));
    ASSERT_TRUE(q.append_ref("borrowed"));
    ASSERT_TRUE(q.append(sendq::buffer::copy("shared").or_throw()));
    const auto before = q.stats();
    EXPECT_EQ(before.copied, 6U);
    EXPECT_EQ(before.borrowed, 8U);
    EXPECT_EQ(before.shared, 6U);
    EXPECT_EQ(before.waiting, 20U);
    EXPECT_EQ(before.pinned, 14U);
    EXPECT_GT(before.allocated, 0U);

    EXPECT_EQ(connection.receiveAll(q), "copiedborrowedshared");
    const auto after = q.stats();
    EXPECT_EQ(after.sent, 20U);
    EXPECT_EQ(after.waiting + after.pinned + after.allocated, 0U);
    EXPECT_EQ(after.peak_waiting, 20U);
    EXPECT_EQ(after.flushes, 1U);
}

TEST(Stats, AsJson) {
    const Connection connection;
    auto q = makeQueue();
    ASSERT_TRUE(q.append("four"));
    const auto text = q.stats_json();
    EXPECT_EQ(text.front(), '{');
    EXPECT_EQ(text.back(), '}');
    EXPECT_NE(text.find("\"error\":0"), std::string::npos) << text;
    EXPECT_NE(text.find("\"waiting\":4"), std::string::npos) << text;
    EXPECT_EQ(text.find("so_sndbuf"), std::string::npos) << text;
#if defined(__linux__)
    EXPECT_NE(q.stats_json(connection.fd()).find("so_sndbuf"), std::string::npos);
#endif
}

TEST(Stats, AsJsonIntoMemoryOfTheCaller) {
    auto q = makeQueue();
    char part[8];
    EXPECT_EQ(q.stats_json(part, sizeof part), q.stats_json().size());
    EXPECT_STREQ(part, "{\"error");
    EXPECT_EQ(q.stats_json(nullptr, 0), q.stats_json().size());
}

TEST(Stats, OfAnEmptyHandleAreZero) {
    EXPECT_EQ(sendq::queue().stats().waiting, 0U);
    EXPECT_EQ(sendq::queue().stats_json(), "");
    EXPECT_EQ(sendq::pool().stats().queues, 0U);
    sendq_t* heaviest[1];
    EXPECT_EQ(sendq::pool().heaviest(heaviest), 0U);
}

class PoolFigures : public testing::Test {
  protected:
    PoolFigures() {
        sendq::pool_config config;
        config.max_bytes = 1 << 20;
        pool = sendq::pool::create(config).or_throw();
    }

    sendq::queue make(int& user) const {
        sendq::queue_config config;
        config.user = &user;
        config.copy_below = 1;
        config.share_below = 1;
        return sendq::queue::create(pool, config).or_throw();
    }

    sendq::pool pool;
};

TEST_F(PoolFigures, AreSums) {
    int users[2] = {};
    auto a = make(users[0]);
    auto b = make(users[1]);
    ASSERT_TRUE(a.append("copied"));
    ASSERT_TRUE(b.append_ref("borrowed"));
    const auto figures = pool.stats();
    EXPECT_EQ(figures.queues, 2U);
    EXPECT_EQ(figures.waiting, 14U);
    EXPECT_EQ(figures.max, 1U << 20);
    EXPECT_EQ(figures.used, a.stats().allocated + b.stats().allocated);
    EXPECT_EQ(figures.pinned, 8U);
    EXPECT_GE(figures.peak, figures.used + figures.pinned);
}

TEST_F(PoolFigures, SayWhoIsHeaviest) {
    int users[3] = {};
    auto light = make(users[0]);
    auto heavy = make(users[1]);
    const auto idle = make(users[2]);
    const std::string text(100000, 'x');
    ASSERT_TRUE(light.append("x"));
    ASSERT_TRUE(heavy.append_ref(text));
    sendq_t* heaviest[3] = {};
    ASSERT_EQ(pool.heaviest(heaviest), 2U);
    EXPECT_EQ(sendq_user(heaviest[0]), &users[1]);
    EXPECT_EQ(sendq_user(heaviest[1]), &users[0]);
    EXPECT_EQ(pool.heaviest(heaviest, 1), 1U);
    EXPECT_EQ(pool.heaviest(nullptr, 0), 0U);
}

}  // namespace
