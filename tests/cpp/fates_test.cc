// What a queue was appended it destroys once, whatever becomes of the bytes, and not before. A
// callable gets the reason.

#include "appenders.h"

template <class Appender>
class Fates : public testing::Test {
  protected:
    Fates() {
        EXPECT_TRUE(q.append("before"));
        appender.emplace(fate, makeText(5000));
        text = appender->text();
    }

    void append() {
        const auto appended = appender->append(q);
        ASSERT_TRUE(appended) << appended.error().message();
        EXPECT_FALSE(appender->isHere());
        EXPECT_EQ(fate.destroyed, 0);
    }

    void expectReleased(std::error_code why) {
        EXPECT_EQ(fate.destroyed, 1);
        EXPECT_EQ(fate.reason.has_value(), Appender::hasReason);
        EXPECT_EQ(fate.reason.value_or(why), why);
        EXPECT_EQ(q.queued_bytes(), 0U);
    }

    void TearDown() override {
        q.reset();
        appender.reset();
        EXPECT_EQ(fate.destroyed, 1);
    }

    Fate fate;
    Connection connection;
    sendq::queue q = makeQueue();
    std::optional<Appender> appender;
    std::string text;
};

TYPED_TEST_SUITE(Fates, Appenders, AppenderName);

const auto kCanceled = std::make_error_code(std::errc::operation_canceled);

TYPED_TEST(Fates, Sent) {
    this->append();
    EXPECT_TRUE(this->q.append("after"));
    EXPECT_EQ(this->connection.receiveAll(this->q), "before" + this->text + "after");
    this->expectReleased({});
}

TYPED_TEST(Fates, Discarded) {
    this->append();
    EXPECT_TRUE(this->q.discard());
    this->expectReleased(kCanceled);
    EXPECT_EQ(this->connection.receiveAll(this->q), "");
}

TYPED_TEST(Fates, RolledBack) {
    auto cork = this->q.cork();
    this->append();
    EXPECT_TRUE(cork.rollback());
    EXPECT_EQ(this->connection.receiveAll(this->q), "before");
    this->expectReleased(kCanceled);
}

TYPED_TEST(Fates, Failed) {
    this->append();
    this->connection.closePeer();
    const auto failed = this->q.flush(this->connection.fd());
    EXPECT_EQ(failed.error(), std::errc::broken_pipe);
    this->expectReleased(failed.error());
}

TYPED_TEST(Fates, QueueDestroyed) {
    this->append();
    this->q.reset();
    this->expectReleased(kCanceled);
}

TYPED_TEST(Fates, CopiedAtOnceIfItIsMemory) {
    sendq::queue_config config;
    config.copy_below = UINT64_MAX;
    this->q = sendq::queue::create(config).or_throw();
    EXPECT_TRUE(this->q.append("before"));
    EXPECT_TRUE(this->appender->append(this->q));
    EXPECT_EQ(this->fate.destroyed, TypeParam::isMemory ? 1 : 0);
    EXPECT_EQ(this->connection.receiveAll(this->q), "before" + this->text);
    this->expectReleased({});
}
