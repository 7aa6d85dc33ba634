// After an append that failed, the caller has what it gave, as it was.

#include "counting_new.h"
#include "lenders.h"

template <class Lender>
class Refusals : public testing::Test {
  protected:
    void expectRefusal(sendq::queue& q, std::errc why) {
        Fate fate;
        {
            Lender lender(fate, makeText(5000));
            const std::string text(lender.text());
            const auto queued = q.queued_bytes();
            EXPECT_EQ(lender.give(q).error(), why);
            EXPECT_EQ(q.queued_bytes(), queued);
            EXPECT_TRUE(lender.isHere());
            EXPECT_EQ(lender.text(), text);
            EXPECT_EQ(fate.destroyed, 0);
        }
        EXPECT_EQ(fate.destroyed, 1);
        EXPECT_FALSE(fate.told);
    }
};

TYPED_TEST_SUITE(Refusals, Lenders, LenderName);

TYPED_TEST(Refusals, OverMax) {
    sendq::queue_config config;
    config.max = 10;
    auto q = makeQueue(config);
    ASSERT_TRUE(q.append("0123456789"));
    if (std::is_same_v<TypeParam, Notification>) {
        return;  // no bytes, no limit
    }
    this->expectRefusal(q, std::errc::no_buffer_space);
}

TYPED_TEST(Refusals, Closed) {
    auto q = makeQueue();
    ASSERT_TRUE(q.close());
    this->expectRefusal(q, std::errc::broken_pipe);
}

TYPED_TEST(Refusals, FailedBefore) {
    Connection connection;
    auto q = makeQueue();
    ASSERT_TRUE(q.append("lost"));
    connection.closePeer();
    ASSERT_FALSE(q.flush(connection.fd()));
    this->expectRefusal(q, std::errc::broken_pipe);
}

TYPED_TEST(Refusals, MemoryReserved) {
    auto q = makeQueue();
    const auto memory = q.reserve(10);
    ASSERT_TRUE(memory);
    this->expectRefusal(q, std::errc::device_or_resource_busy);
}

TYPED_TEST(Refusals, OfAnEmptyHandle) {
    sendq::queue q;
    this->expectRefusal(q, std::errc::invalid_argument);
}

TYPED_TEST(Refusals, NoMemoryToKeepItIn) {
    if (counting::isReplaced()) {
        GTEST_SKIP() << "allocations cannot fail here";
    }
    auto q = makeQueue();
    ASSERT_TRUE(q.append("before"));
    Fate fate;
    TypeParam lender(fate, makeText(5000));
    const std::string text(lender.text());
    counting::fails = true;
    const auto given = lender.give(q);
    counting::fails = false;
    if (TypeParam::allocations == 0) {
        EXPECT_TRUE(given);
        return;
    }
    EXPECT_EQ(given.error(), std::errc::not_enough_memory);
    EXPECT_TRUE(lender.isHere());
    EXPECT_EQ(lender.text(), text);
    EXPECT_EQ(q.queued_bytes(), 6U);
}
