// A queue is one owner of one handle: it moves, and may be empty.

#include <cstdio>
#include <memory>

#include "appenders.h"

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
    int released = 0;
    auto q = makeQueue();
    ASSERT_TRUE(q.append_ref("borrowed", [&released](std::error_code) noexcept { released++; }));
    q = makeQueue();
    EXPECT_EQ(released, 1);
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

TEST(Queue, KnowsItsState) {
    Connection connection;
    sendq::queue_config config;
    config.high = 1000;
    auto q = makeQueue(config);
    EXPECT_EQ(sendq::queue().state().bits(), 0);
    EXPECT_EQ(q.state().bits(), 0);
    const std::string text = makeText(10'000'000);
    ASSERT_TRUE(q.append(std::string_view(text).substr(0, 999)));
    EXPECT_EQ(q.state().bits(), SENDQ_MORE);
    ASSERT_TRUE(q.append(std::string_view(text)));
    EXPECT_TRUE(q.state().high() && q.state().more());
    ASSERT_TRUE(q.flush(connection.fd()).blocked());
    EXPECT_TRUE(q.state().high() && q.state().blocked() && !q.state().more());
    ASSERT_TRUE(q.discard().resume());
    {
        const auto scope = q.cork();
        EXPECT_TRUE(q.state().corked() && !q.state().high() && !q.state().blocked());
    }
    ASSERT_TRUE(q.close());
    EXPECT_TRUE(q.state().closed() && !q.state().corked());
}

TEST(Queue, CountsFilesApartFromMemory) {
    const std::unique_ptr<FILE, int (*)(FILE*)> file(tmpfile(), fclose);
    auto q = makeQueue();
    ASSERT_TRUE(q.append("four"));
    ASSERT_TRUE(q.append_file(fileno(file.get()), 0, 100));
    EXPECT_EQ(q.queued_bytes(), 104U);
    EXPECT_EQ(q.queued_memory(), 4U);
    EXPECT_EQ(sendq::queue().queued_memory(), 0U);
}

TEST(Queue, TakesThePromisesOfItsPool) {
    sendq::pool_config config;
    config.flags = sendq::threadsafe | sendq::sockets_nonblocking | sendq::sigpipe_ignored;
    EXPECT_TRUE(sendq::pool::create(config));
}

TEST(Queue, ReleasesTheOwnerOfNoBytesAtOnce) {
    Fate fate;
    auto q = makeQueue();
    EXPECT_TRUE(q.append_owned(Item{Token(fate), ""}, ""));
    EXPECT_EQ(fate.destroyed, 1);
    EXPECT_TRUE(q.append_ref({}, Release{Token(fate)}));
    EXPECT_EQ(fate.destroyed, 2);
    EXPECT_EQ(fate.reason, std::error_code());
    EXPECT_TRUE(q.append_file(0, 0, 0, Release{Token(fate)}));
    EXPECT_EQ(fate.destroyed, 3);
    EXPECT_EQ(q.queued_bytes(), 0U);
    ASSERT_TRUE(q.close());
    Release late{Token(fate)};
    EXPECT_EQ(q.append_ref({}, std::move(late)).error(), std::errc::broken_pipe);
    EXPECT_TRUE(late.token.isHere());  // NOLINT(bugprone-use-after-move): the promise
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

TEST(Queue, NotifiesAtOnceIfNothingIsQueued) {
    std::optional<std::error_code> released;
    auto q = makeQueue();
    ASSERT_TRUE(q.notify([&released](std::error_code why) noexcept { released = why; }));
    ASSERT_TRUE(released);
    EXPECT_FALSE(*released);
}

void ignore(std::error_code) noexcept {}

TEST(Queue, NotifiesFunctionsAndCopiesOfCallables) {
    int released = 0;
    auto q = makeQueue();
    const auto count = [&released, padding = std::string("kept")](std::error_code) noexcept {
        released += padding == "kept";
    };
    static_assert(!std::is_nothrow_copy_constructible_v<decltype(count)>);
    const auto alsoCount = [&released, padding = std::make_shared<int>(1)](
                               std::error_code) noexcept { released += *padding; };
    EXPECT_TRUE(q.notify(ignore));
    EXPECT_TRUE(q.notify(&ignore));
    EXPECT_TRUE(q.notify(alsoCount));
    EXPECT_TRUE(q.notify(alsoCount));
    EXPECT_EQ(released, 2);
}

TEST(Zerocopy, NothingIsUnackedWhereAllIsCopied) {
    Connection connection;
    const auto pool = sendq::pool::create().or_throw();
    sendq::queue_config config;
    config.flags = sendq::zerocopy;
    auto q = sendq::queue::create(pool, config).or_throw();
    ASSERT_TRUE(q.append("copied"));
    const auto flushed = q.flush(connection.fd());
    EXPECT_TRUE(flushed && !flushed.unacked());
    EXPECT_TRUE(q.reap(connection.fd()));
    EXPECT_EQ(pool.reap().bits(), 0);
}

}  // namespace
