// A queue_view has the calls of a queue, and owns nothing.

#include <future>
#include <memory>
#include <string>

#include "appenders.h"

namespace {

using sendq::part;
using sendq::queue;
using sendq::queue_view;

static_assert(std::is_nothrow_copy_constructible_v<queue_view>);
static_assert(std::is_nothrow_copy_assignable_v<queue_view>);
static_assert(std::is_trivially_copyable_v<queue_view>);
static_assert(sizeof(queue_view) == sizeof(sendq_t*));
static_assert(std::is_convertible_v<queue&, queue_view>);
static_assert(!std::is_constructible_v<queue_view, queue>, "its queue is gone at once");
static_assert(!std::is_constructible_v<queue, queue_view>, "one handle, one owner");
static_assert(!std::is_assignable_v<queue&, queue_view>);
static_assert(!std::is_convertible_v<sendq_t*, queue_view>, "a handle is wrapped on purpose");
static_assert(!std::is_constructible_v<sendq::queue_calls, queue&>, "no slice of a queue");
static_assert(!std::is_copy_assignable_v<sendq::queue_calls>, "no handle is overwritten");

TEST(View, HasTheCallsOfAQueue) {
    Connection connection;
    int host = 1;
    sendq::queue_config config;
    config.user = &host;
    auto q = makeQueue(config);
    queue_view view = q;
    EXPECT_EQ(view.get(), q.get());
    EXPECT_EQ(view.user<int>(), &host);
    EXPECT_TRUE(view.append("through "));
    EXPECT_TRUE(view.append_message({"the view"}));
    EXPECT_EQ(q.queued_bytes(), 16U);
    EXPECT_TRUE(view.flush(connection.fd()));
    EXPECT_EQ(connection.receiveAll(q), "through the view");
    view = queue_view();
    EXPECT_FALSE(view);
    EXPECT_EQ(view.append("x").error(), std::errc::invalid_argument);
    EXPECT_TRUE(q) << "it still owns its handle";
}

TEST(View, ServesACallbackOfC) {
    Connection connection;
    auto q = makeQueue();
    const sendq_release_fn answer = [](void* arg, const void*, size_t, int) {
        queue_view view(static_cast<sendq_t*>(arg));
        EXPECT_TRUE(view.append(" answer"));
    };
    ASSERT_TRUE(q.append("question"));
    ASSERT_FALSE(SENDQ_FAILED(sendq_notify(q.get(), answer, q.get())));
    EXPECT_EQ(connection.receiveAll(q), "question");
    EXPECT_EQ(connection.receiveAll(q), " answer");
}

TEST(View, MayOutliveAMoveOfItsQueue) {
    auto q = makeQueue();
    queue_view view = q;
    auto moved = std::move(q);
    EXPECT_TRUE(view.append("x"));
    EXPECT_EQ(moved.queued_bytes(), 1U);
}

TEST(View, IsWhatIsSplicedFrom) {
    Connection connection;
    auto q = makeQueue();
    auto from = makeQueue();
    ASSERT_TRUE(from.append("12345"));
    EXPECT_TRUE(q.splice(from, 3).wake());
    EXPECT_EQ(from.queued_bytes(), 2U);
    EXPECT_TRUE(q.append("-"));
    EXPECT_TRUE(q.splice(queue_view(from)));
    EXPECT_EQ(connection.receiveAll(q), "123-45");
    EXPECT_EQ(q.splice(q, 1).error(), std::errc::invalid_argument);
    EXPECT_EQ(q.splice(queue_view(), 1).error(), std::errc::invalid_argument);
}

TEST(Renew, MakesAQueueAsNew) {
    Connection connection;
    Fate fate;
    auto q = makeQueue();
    ASSERT_TRUE(q.append_ref("lost", Release{Token(fate)}));
    ASSERT_TRUE(q.close());
    EXPECT_TRUE(q.renew());
    EXPECT_EQ(fate.reason, std::make_error_code(std::errc::operation_canceled));
    EXPECT_EQ(q.stats().discarded, 0U);
    EXPECT_TRUE(q.append("new"));
    EXPECT_EQ(connection.receiveAll(q), "new");
    EXPECT_EQ(queue().renew().error(), std::errc::invalid_argument);
}

TEST(Fail, EndsTheConnection) {
    Fate fate;
    auto q = makeQueue();
    ASSERT_TRUE(q.append_ref("lost", Release{Token(fate)}));
    EXPECT_EQ(q.fail(std::error_code()).error(), std::errc::invalid_argument);
    EXPECT_EQ(q.fail(std::make_error_code(std::future_errc::no_state)).error(),
              std::errc::invalid_argument);
    EXPECT_FALSE(q.error());
    EXPECT_TRUE(q.fail(std::errc::connection_reset));
    EXPECT_EQ(fate.reason, std::make_error_code(std::errc::connection_reset));
    EXPECT_EQ(q.append("late").error(), std::errc::connection_reset);
    EXPECT_TRUE(q.fail(std::error_code(EPIPE, std::system_category())));
    EXPECT_EQ(q.error(), std::errc::connection_reset) << "the first error stays";
}

}  // namespace
