// After an append that failed, the caller has what it gave, as it was.

#include "appenders.h"
#include "counting_new.h"

template <class Appender>
class Refusals : public testing::Test {
  protected:
    void expectRefusal(sendq::queue& q, std::errc why) {
        Fate fate;
        {
            Appender appender(fate, makeText(5000));
            const std::string text(appender.text());
            const auto queued = q.queued_bytes();
            EXPECT_EQ(appender.append(q).error(), why);
            EXPECT_EQ(q.queued_bytes(), queued);
            EXPECT_TRUE(appender.isHere());
            EXPECT_EQ(appender.text(), text);
            EXPECT_EQ(fate.destroyed, 0);
        }
        EXPECT_EQ(fate.destroyed, 1);
        EXPECT_FALSE(fate.reason);
    }
};

TYPED_TEST_SUITE(Refusals, Appenders, AppenderName);

TYPED_TEST(Refusals, OverMax) {
    sendq::queue_config config;
    config.max = 10;
    auto q = makeQueue(config);
    ASSERT_TRUE(q.append("0123456789"));
    if (!TypeParam::isMemory) {
        return;  // no limit for what takes no memory
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
    TypeParam appender(fate, makeText(5000));
    const std::string text(appender.text());
    counting::fails = true;
    const auto appended = appender.append(q);
    counting::fails = false;
    if (TypeParam::allocations == 0) {
        EXPECT_TRUE(appended);
        return;
    }
    EXPECT_EQ(appended.error(), std::errc::not_enough_memory);
    EXPECT_TRUE(appender.isHere());
    EXPECT_EQ(appender.text(), text);
    EXPECT_EQ(q.queued_bytes(), 6U);
}
