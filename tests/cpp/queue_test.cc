// A queue is one owner of one handle: it moves, and may be empty.

#include "connection.h"

namespace {

static_assert(!std::is_copy_constructible_v<sendq::queue>);
static_assert(!std::is_copy_constructible_v<sendq::pool>);
static_assert(std::is_nothrow_move_constructible_v<sendq::queue>);
static_assert(std::is_nothrow_move_assignable_v<sendq::queue>);
static_assert(sizeof(sendq::queue) == sizeof(sendq_t*));

TEST(Queue, IsEmptyAndSafeAfterAMove) {
    auto q = makeQueue();
    ASSERT_TRUE(q.append("moved"));
    auto moved = std::move(q);
    EXPECT_FALSE(q);  // NOLINT(bugprone-use-after-move): the promise
    // NOLINTNEXTLINE(clang-analyzer-cplusplus.Move)
    EXPECT_EQ(q.append("x").error(), std::errc::invalid_argument);
    EXPECT_EQ(q.flush(-1).error(), std::errc::invalid_argument);
    EXPECT_EQ(q.close().error(), std::errc::invalid_argument);
    EXPECT_EQ(q.splice(moved).error(), std::errc::invalid_argument);
    EXPECT_FALSE(q.cork());
    EXPECT_FALSE(q.reserve(1));
    EXPECT_EQ(q.queued_bytes() + q.sent_bytes() + q.peek(nullptr, 0), 0U);
    EXPECT_EQ(q.user(), nullptr);
    EXPECT_EQ(moved.queued_bytes(), 5U);
    q = std::move(moved);
    EXPECT_EQ(q.queued_bytes(), 5U);
}

TEST(Queue, MovedOntoItselfIsFreed) {
    auto q = makeQueue();
    auto& same = q;
    q = std::move(same);
    EXPECT_TRUE(q);
}

TEST(Queue, FreesWhatItHadWhenAnotherIsMovedIn) {
    int told = 0;
    auto q = makeQueue();
    ASSERT_TRUE(q.append_ref("borrowed", [&told](std::error_code) noexcept { told++; }));
    q = makeQueue();
    EXPECT_EQ(told, 1);
    EXPECT_TRUE(q);
}

TEST(Queue, GivesItsHandleToC) {
    auto q = makeQueue();
    sendq_t* handle = q.release();
    EXPECT_FALSE(q);
    EXPECT_EQ(sendq_append(handle, "x", 1), SENDQ_WAKE);
    q = sendq::queue(handle);
    EXPECT_EQ(q.get(), handle);
    EXPECT_EQ(q.queued_bytes(), 1U);
}

TEST(Queue, KeepsItsPoolAlive) {
    sendq::pool_config config;
    config.chunk_bytes = 256;
    auto pool = sendq::pool::create(config).or_throw();
    auto q = sendq::queue::create(pool).or_throw();
    pool.reset();
    EXPECT_TRUE(q.append("x"));
    EXPECT_EQ(sendq::queue::create(pool).error(), std::errc::invalid_argument);
}

TEST(Queue, KnowsItsUser) {
    int host = 1;
    sendq::queue_config config;
    config.user = &host;
    EXPECT_EQ(makeQueue(config).user<int>(), &host);
}

TEST(Queue, RemembersWhatEndedTheConnection) {
    Connection connection;
    auto q = makeQueue();
    ASSERT_TRUE(q.append("lost"));
    connection.closePeer();
    EXPECT_FALSE(q.error());
    EXPECT_FALSE(q.flush(connection.fd()));
    EXPECT_EQ(q.error(), std::errc::broken_pipe);
}

TEST(Queue, MayBeDestroyedByItsCallback) {
    const Connection connection;
    auto q = std::make_unique<sendq::queue>(makeQueue());
    const auto end = [&q](std::error_code) noexcept { q.reset(); };
    ASSERT_TRUE(q->append("last"));
    ASSERT_TRUE(q->notify(end));
    EXPECT_TRUE(q->flush(connection.fd()));
    EXPECT_EQ(q, nullptr);
}

TEST(Queue, TellsOfNothingAtOnce) {
    std::optional<std::error_code> told;
    auto q = makeQueue();
    ASSERT_TRUE(q.notify([&told](std::error_code why) noexcept { told = why; }));
    ASSERT_TRUE(told);
    EXPECT_FALSE(*told);
}

void tellNobody(std::error_code) noexcept {}

TEST(Queue, TellsFunctionsAndCopiesOfCallables) {
    int told = 0;
    auto q = makeQueue();
    const auto tell = [&told, padding = std::string("kept")](std::error_code) noexcept {
        told += padding == "kept";
    };
    static_assert(!std::is_nothrow_copy_constructible_v<decltype(tell)>);
    const auto tellToo = [&told, padding = std::make_shared<int>(1)](std::error_code) noexcept {
        told += *padding;
    };
    EXPECT_TRUE(q.notify(tellNobody));
    EXPECT_TRUE(q.notify(&tellNobody));
    EXPECT_TRUE(q.notify(tellToo));
    EXPECT_TRUE(q.notify(tellToo));
    EXPECT_EQ(told, 2);
}

}  // namespace
