// sendq_sendmsg, in place of sendmsg(2). Not on Windows.

#include <sys/uio.h>

#include <array>
#include <cerrno>
#include <string>
#include <string_view>

#include "connection.h"

namespace {

iovec piece(std::string_view text) {
    return {const_cast<char*>(text.data()), text.size()};
}

TEST(Sendmsg, TakesAllAndSendsIt) {
    Connection connection;
    auto q = makeQueue();
    std::array pieces = {piece("head"), piece(" and body")};
    msghdr message = {};
    message.msg_iov = pieces.data();
    message.msg_iovlen = pieces.size();
    EXPECT_EQ(q.sendmsg(connection.fd(), message, MSG_NOSIGNAL), 13);
    EXPECT_EQ(q.queued_bytes(), 0U);
    EXPECT_EQ(connection.receiveAll(q), "head and body");
}

TEST(Sendmsg, TakesNoMoreThanUpToHigh) {
    Connection connection;
    sendq::queue_config config;
    config.high = 10;
    auto q = makeQueue(config);
    const std::string text = makeText(10'000'000);  // more than the socket takes
    iovec all = piece(text);
    msghdr message = {};
    message.msg_iov = &all;
    message.msg_iovlen = 1;
    const ssize_t taken = q.sendmsg(connection.fd(), message);
    ASSERT_GT(taken, 10);
    EXPECT_LT(taken, static_cast<ssize_t>(text.size()));
    EXPECT_EQ(q.queued_bytes(), 10U);
    errno = 0;
    EXPECT_EQ(q.sendmsg(connection.fd(), message), -1);
    EXPECT_EQ(errno, EAGAIN);
    EXPECT_TRUE(connection.receiveAll(q) == text.substr(0, static_cast<size_t>(taken)));
}

TEST(Sendmsg, FailsWhenTheHandleIsEmpty) {
    sendq::queue none;
    errno = 0;
    EXPECT_EQ(none.sendmsg(0, msghdr()), -1);
    EXPECT_EQ(errno, EINVAL);
}

}  // namespace
