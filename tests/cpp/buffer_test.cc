// A buffer lives as long as a handle or a queue has it, and its owner as long as the buffer.

#include "appenders.h"
#include "counting_new.h"

namespace {

class Buffer : public testing::Test {
  protected:
    sendq::buffer own() {
        auto owner = std::make_unique<Item>(Item{Token(fate), text});
        const std::string_view view = owner->text;
        return sendq::buffer::own(std::move(owner), view).or_throw();
    }

    Fate fate;
    const std::string text = makeText(5000);
    Connection connection;
    sendq::queue q = makeQueue();
};

TEST_F(Buffer, IsSentByManyQueues) {
    auto buf = own();
    auto other = makeQueue();
    ASSERT_TRUE(q.append(buf));
    ASSERT_TRUE(other.append(buf, 10, 20));
    buf = {};
    EXPECT_EQ(connection.receiveAll(q), text);
    EXPECT_EQ(fate.destroyed, 0);
    EXPECT_EQ(connection.receiveAll(other), text.substr(10, 20));
    EXPECT_EQ(fate.destroyed, 1);
}

TEST_F(Buffer, LivesAsLongAsACopy) {
    auto buf = own();
    auto copy = buf;
    auto moved = std::move(buf);
    const auto& same = moved;
    moved = same;
    moved = sendq::buffer();
    EXPECT_EQ(fate.destroyed, 0);
    EXPECT_EQ(copy.size(), text.size());
    copy = {};
    EXPECT_EQ(fate.destroyed, 1);
}

TEST_F(Buffer, IsEmptyAfterAMove) {
    auto buf = own();
    const auto moved = std::move(buf);
    EXPECT_FALSE(buf);  // NOLINT(bugprone-use-after-move): the promise
    // NOLINTNEXTLINE(clang-analyzer-cplusplus.Move)
    EXPECT_EQ(buf.size(), 0U);
    EXPECT_EQ(q.append(buf).error(), std::errc::invalid_argument);
    EXPECT_TRUE(moved);
}

TEST_F(Buffer, IsFreedByC) {
    sendq_buf_t* handle = own().release();
    EXPECT_EQ(fate.destroyed, 0);
    sendq_buf_unref(handle);
    EXPECT_EQ(fate.destroyed, 1);
}

TEST_F(Buffer, HasTheBytesOfAnyOrigin) {
    EXPECT_TRUE(q.append(sendq::buffer::copy("copied").or_throw()));
    EXPECT_TRUE(q.append(sendq::buffer::immortal("immortal").or_throw()));
    EXPECT_TRUE(q.append(sendq::buffer::own(std::string("short")).or_throw()));
    EXPECT_TRUE(q.append(sendq::buffer::own(std::string(text)).or_throw()));
    EXPECT_EQ(connection.receiveAll(q), "copiedimmortalshort" + text);
}

TEST_F(Buffer, MayHaveNoBytes) {
    EXPECT_TRUE(q.append(sendq::buffer::copy("").or_throw()));
    EXPECT_TRUE(q.append(sendq::buffer::immortal({}).or_throw()));
    EXPECT_TRUE(q.append(sendq::buffer::own(std::string()).or_throw()));
    EXPECT_TRUE(q.append(sendq::buffer::own(Item{Token(fate), ""}, "").or_throw()));
    EXPECT_EQ(fate.destroyed, 1) << "no queue holds it";
    EXPECT_EQ(q.queued_bytes(), 0U);
}

TEST_F(Buffer, LeavesTheOwnerIfItFails) {
    Item owner{Token(fate), ""};
    const std::string_view impossible("x", static_cast<size_t>(PTRDIFF_MAX) + 1);
    EXPECT_EQ(sendq::buffer::own(std::move(owner), impossible).error(),
              std::errc::invalid_argument);
    EXPECT_TRUE(owner.token.isHere());  // NOLINT(bugprone-use-after-move): the promise
    EXPECT_EQ(fate.destroyed, 0);
}

TEST_F(Buffer, LeavesTheOwnerWithoutMemory) {
    if (counting::isReplaced()) {
        GTEST_SKIP() << "allocations cannot fail here";
    }
    std::string mine = text;
    counting::fails = true;
    const auto made = sendq::buffer::own(std::move(mine));
    counting::fails = false;
    EXPECT_EQ(made.error(), std::errc::not_enough_memory);
    EXPECT_EQ(mine, text);  // NOLINT(bugprone-use-after-move): the promise
}

}  // namespace
