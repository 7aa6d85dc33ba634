// What a queue was given it destroys once, whatever becomes of the bytes, and not before. A
// callable is told the reason.

#include "lenders.h"

template <class Lender>
class Fates : public testing::Test {
  protected:
    Fates() {
        EXPECT_TRUE(q.append("before"));
        lender.emplace(fate, makeText(5000));
        text = lender->text();
    }

    void give() {
        const auto given = lender->give(q);
        ASSERT_TRUE(given) << given.error().message();
        EXPECT_FALSE(lender->isHere());
        EXPECT_EQ(fate.destroyed, 0);
    }

    void expectGone(std::error_code why) {
        EXPECT_EQ(fate.destroyed, 1);
        EXPECT_EQ(fate.told.has_value(), Lender::isTold);
        EXPECT_EQ(fate.told.value_or(why), why);
        EXPECT_EQ(q.queued_bytes(), 0U);
    }

    void TearDown() override {
        q.reset();
        lender.reset();
        EXPECT_EQ(fate.destroyed, 1);
    }

    Fate fate;
    Connection connection;
    sendq::queue q = makeQueue();
    std::optional<Lender> lender;
    std::string text;
};

TYPED_TEST_SUITE(Fates, Lenders, LenderName);

const auto kCanceled = std::make_error_code(std::errc::operation_canceled);

TYPED_TEST(Fates, Sent) {
    this->give();
    EXPECT_TRUE(this->q.append("after"));
    EXPECT_EQ(this->connection.receiveAll(this->q), "before" + this->text + "after");
    this->expectGone({});
}

TYPED_TEST(Fates, Discarded) {
    this->give();
    EXPECT_TRUE(this->q.discard());
    this->expectGone(kCanceled);
    EXPECT_EQ(this->connection.receiveAll(this->q), "");
}

TYPED_TEST(Fates, RolledBack) {
    auto cork = this->q.cork();
    this->give();
    EXPECT_TRUE(cork.rollback());
    EXPECT_EQ(this->connection.receiveAll(this->q), "before");
    this->expectGone(kCanceled);
}

TYPED_TEST(Fates, Failed) {
    this->give();
    this->connection.closePeer();
    const auto failed = this->q.flush(this->connection.fd());
    EXPECT_EQ(failed.error(), std::errc::broken_pipe);
    this->expectGone(failed.error());
}

TYPED_TEST(Fates, QueueDestroyed) {
    this->give();
    this->q.reset();
    this->expectGone(kCanceled);
}

TYPED_TEST(Fates, CopiedAtOnceIfItIsMemory) {
    sendq::queue_config config;
    config.copy_below = UINT64_MAX;
    this->q = sendq::queue::create(config).or_throw();
    EXPECT_TRUE(this->q.append("before"));
    EXPECT_TRUE(this->lender->give(this->q));
    EXPECT_EQ(this->fate.destroyed, TypeParam::isMemory ? 1 : 0);
    EXPECT_EQ(this->connection.receiveAll(this->q), "before" + this->text);
    this->expectGone({});
}
