// A result is a success with hints, or an error without; it throws when asked to.

#include "connection.h"

namespace {

TEST(Result, HasHints) {
    const sendq::result r(SENDQ_WAKE | SENDQ_HIGH);
    EXPECT_TRUE(r);
    EXPECT_TRUE(r.wake());
    EXPECT_TRUE(r.high());
    EXPECT_FALSE(r.blocked() || r.more() || r.resume());
    EXPECT_EQ(r.bits(), SENDQ_WAKE | SENDQ_HIGH);
    EXPECT_FALSE(r.error());
}

TEST(Result, HasNoHintsWhenItIsAnError) {
    const sendq::result r(-EPIPE);
    EXPECT_FALSE(r);
    EXPECT_EQ(r.error(), std::errc::broken_pipe);
    EXPECT_EQ(r.bits(), 0);
    EXPECT_FALSE(r.wake() || r.high() || r.blocked() || r.more() || r.resume());
}

TEST(Result, ThrowsWhenAsked) {
    EXPECT_EQ(sendq::result(SENDQ_MORE).or_throw().bits(), SENDQ_MORE);
    try {
        sendq::result(-ENOBUFS).or_throw();
        FAIL() << "nothing was thrown";
    } catch (const std::system_error& error) {
        EXPECT_EQ(error.code(), std::errc::no_buffer_space);
    }
}

TEST(Result, OfMakingIsAHandleOrAnError) {
    sendq::queue_config config;
    EXPECT_TRUE(*sendq::queue::create(config));
    config.low = 2;
    config.high = 1;
    const auto made = sendq::queue::create(config);
    EXPECT_FALSE(made);
    EXPECT_EQ(made.error(), std::errc::invalid_argument);
    EXPECT_THROW(sendq::queue::create(config).or_throw(), std::system_error);
}

TEST(Result, OfFlushSaysWhatIsLeftToDo) {
    const Connection connection;
    sendq::queue_config config;
    config.high = 1 << 20;
    auto q = makeQueue(config);
    EXPECT_TRUE(q.append(std::string(4 << 20, 'x')).high());
    EXPECT_TRUE(q.flush(connection.fd(), 100).more());
    EXPECT_TRUE(q.flush(connection.fd()).blocked());
    EXPECT_TRUE(q.discard().resume());
    EXPECT_EQ(q.flush(connection.fd()).bits(), 0);
}

}  // namespace
