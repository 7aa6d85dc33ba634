// A cork and a reservation end with their scope, and then nothing was said.

#include "connection.h"

namespace {

class Scopes : public testing::Test {
  protected:
    Connection connection;
    sendq::queue q = makeQueue();
};

TEST_F(Scopes, CorkHoldsBackUntilUncorked) {
    auto cork = q.cork();
    ASSERT_TRUE(cork);
    EXPECT_FALSE(q.append("held").wake());
    EXPECT_EQ(connection.receiveAll(q), "");
    EXPECT_TRUE(cork.uncork().wake());
    EXPECT_FALSE(cork);
    EXPECT_EQ(connection.receiveAll(q), "held");
}

TEST_F(Scopes, CorkRollsBackAtTheEnd) {
    {
        const auto cork = q.cork();
        EXPECT_TRUE(q.append("taken back"));
    }
    EXPECT_TRUE(q.append("said"));
    EXPECT_EQ(connection.receiveAll(q), "said");
}

TEST_F(Scopes, CorkMoves) {
    auto cork = q.cork();
    {
        auto moved = std::move(cork);
        EXPECT_FALSE(cork);  // NOLINT(bugprone-use-after-move): the promise
        // NOLINTNEXTLINE(clang-analyzer-cplusplus.Move)
        EXPECT_EQ(cork.uncork().error(), std::errc::invalid_argument);
        EXPECT_TRUE(q.append("taken back"));
    }
    EXPECT_EQ(q.queued_bytes(), 0U);
    EXPECT_TRUE(q.cork());
}

TEST_F(Scopes, CorkOfACorkedQueueFails) {
    auto outer = q.cork();
    {
        auto inner = q.cork();
        EXPECT_FALSE(inner);
        EXPECT_EQ(inner.error(), std::errc::connection_already_in_progress);
        EXPECT_EQ(inner.uncork().error(), inner.error());
    }
    EXPECT_TRUE(q.append("held"));
    EXPECT_TRUE(outer.uncork());
    EXPECT_EQ(connection.receiveAll(q), "held");
}

TEST_F(Scopes, CorkStaysWhileMemoryIsReserved) {
    auto cork = q.cork();
    auto memory = q.reserve(4);
    EXPECT_EQ(cork.uncork().error(), std::errc::device_or_resource_busy);
    EXPECT_TRUE(cork);
    EXPECT_TRUE(memory.commit(0));
    EXPECT_TRUE(cork.uncork());
}

TEST_F(Scopes, RollbackSaysThatTheProducerMayGoOn) {
    ASSERT_TRUE(q.set_watermarks(10, 20, 0));
    auto cork = q.cork();
    EXPECT_TRUE(q.append(std::string(20, 'x')).high());
    EXPECT_TRUE(cork.rollback().resume());
}

TEST_F(Scopes, ReservationSendsWhatIsCommitted) {
    auto memory = q.reserve(100);
    ASSERT_TRUE(memory);
    ASSERT_EQ(memory.size(), 100U);
    std::string_view("committed, not this").copy(memory.data(), memory.size());
    EXPECT_TRUE(memory.commit(9).wake());
    EXPECT_FALSE(memory);
    EXPECT_EQ(memory.data(), nullptr);
    EXPECT_EQ(connection.receiveAll(q), "committed");
}

TEST_F(Scopes, ReservationSaysNothingAtTheEnd) {
    { EXPECT_TRUE(q.reserve(100)); }
    EXPECT_TRUE(q.append("free again"));
    EXPECT_EQ(connection.receiveAll(q), "free again");
}

TEST_F(Scopes, ReservationStaysAfterACommitOfTooMuch) {
    auto memory = q.reserve(4);
    EXPECT_EQ(memory.commit(5).error(), std::errc::invalid_argument);
    ASSERT_TRUE(memory);
    std::string_view("four").copy(memory.data(), memory.size());
    EXPECT_TRUE(memory.commit(4));
    EXPECT_EQ(connection.receiveAll(q), "four");
}

TEST_F(Scopes, ReservationMoves) {
    auto memory = q.reserve(4);
    auto moved = std::move(memory);
    EXPECT_FALSE(memory);  // NOLINT(bugprone-use-after-move): the promise
    // NOLINTNEXTLINE(clang-analyzer-cplusplus.Move)
    EXPECT_EQ(memory.commit(0).error(), std::errc::invalid_argument);
    EXPECT_EQ(memory.size(), 0U);
    EXPECT_TRUE(moved.commit(0));
}

TEST_F(Scopes, ReservationFailsOnAClosedQueue) {
    ASSERT_TRUE(q.close());
    auto memory = q.reserve(4);
    EXPECT_FALSE(memory);
    EXPECT_EQ(memory.data(), nullptr);
    EXPECT_EQ(memory.error(), std::errc::broken_pipe);
    EXPECT_EQ(memory.commit(0).error(), std::errc::broken_pipe);
}

}  // namespace
