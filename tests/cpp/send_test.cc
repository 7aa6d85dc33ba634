// sendq_send: a message from where it is to the socket, and what the socket refuses is kept.

#include <memory>
#include <string>

#include "appenders.h"
#include "counting_new.h"

namespace {

using sendq::part;

// NOLINTBEGIN(bugprone-use-after-move): after a refusal it is here

class Send : public testing::Test {
  protected:
    Fate fate;
    Connection connection;
    sendq::queue q = makeQueue();
};

TEST_F(Send, ReleasesWhatTheSocketTakes) {
    auto item = std::make_unique<Item>(Item{Token(fate), "body"});
    ASSERT_TRUE(q.append("before "));
    EXPECT_EQ(
        q.send(connection.fd(), {"head ", part::ref(item->text), "\n"}, std::move(item)).bits(), 0);
    EXPECT_EQ(fate.destroyed, 1);
    EXPECT_EQ(q.queued_bytes(), 0U);
    EXPECT_EQ(connection.receiveAll(q), "before head body\n");
}

TEST_F(Send, KeepsWhatTheSocketRefuses) {
    const std::string text = makeText(10'000'000);
    auto item = std::make_unique<Item>(Item{Token(fate), text});
    EXPECT_TRUE(
        q.send(connection.fd(), sendq::parts("head ", part::own(std::move(item), item->text)))
            .blocked());
    EXPECT_EQ(fate.destroyed, 0);
    EXPECT_TRUE(connection.receiveAll(q) == "head " + text);
    EXPECT_EQ(fate.destroyed, 1);
}

TEST_F(Send, MovesBytesInsideItsOwner) {
    Item item{Token(fate), "short"};
    ASSERT_TRUE(q.send(connection.fd(), {"a ", part::ref(item.text)}, std::move(item)));
    EXPECT_EQ(connection.receiveAll(q), "a short");
    EXPECT_EQ(fate.destroyed, 1);
}

TEST_F(Send, HasABudget) {
    EXPECT_TRUE(q.send(connection.fd(), {part::ref("12345678")}, 3).more());
    EXPECT_EQ(q.queued_bytes(), 5U);
    EXPECT_TRUE(q.send(connection.fd(), sendq::parts(part::ref("90")), 3).more());
    EXPECT_TRUE(q.send(connection.fd(), {"!"}, Release{Token(fate)}, 3).more());
    EXPECT_EQ(fate.destroyed, 1) << "it is copied";
    EXPECT_EQ(connection.receiveAll(q), "1234567890!");
}

TEST_F(Send, AllocatesNothing) {
    if (counting::isReplaced()) {
        GTEST_SKIP() << "allocations are not counted here";
    }
    auto item = std::make_unique<std::string>(makeText(5000));
    auto other = std::make_unique<std::string>(makeText(5000));
    const auto before = counting::allocations;
    EXPECT_TRUE(q.send(connection.fd(), {"head", part::ref(*item)}, std::move(item)));
    EXPECT_TRUE(q.send(connection.fd(), sendq::parts(part::own(std::move(other), *other))));
    EXPECT_EQ(counting::allocations, before);
}

TEST_F(Send, GivesItsOwnersBackOnFailure) {
    auto item = std::make_unique<Item>(Item{Token(fate), "whole"});
    Item other{Token(fate), "part"};
    const auto send = [&](sendq::queue& to) {
        return to.send(connection.fd(),
                       // After a refusal it is here. NOLINTNEXTLINE(clang-analyzer-cplusplus.Move)
                       sendq::parts(part::ref(item->text), part::own(std::move(other), other.text)),
                       std::move(item));
    };
    const auto expectRefusal = [&](sendq::queue& to, std::errc why) {
        EXPECT_EQ(send(to).error(), why);
        ASSERT_TRUE(item);
        EXPECT_EQ(item->text + other.text, "wholepart");
        EXPECT_EQ(fate.destroyed, 0);
    };
    sendq::queue none;
    expectRefusal(none, std::errc::invalid_argument);
    ASSERT_TRUE(q.set_watermarks(1, 2, 3));
    expectRefusal(q, std::errc::no_buffer_space);
    ASSERT_TRUE(q.set_watermarks(0, 0, 0));
    auto closed = makeQueue();
    ASSERT_TRUE(closed.close());
    expectRefusal(closed, std::errc::broken_pipe);
    connection.closePeer();
    expectRefusal(q, std::errc::broken_pipe);
    EXPECT_EQ(q.error(), std::errc::broken_pipe);
    expectRefusal(q, std::errc::broken_pipe);
}

// NOLINTEND(bugprone-use-after-move)

}  // namespace
