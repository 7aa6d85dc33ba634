// The host's logger is called when a connection ends, as long as there is one.

#include <vector>

#include "connection.h"

namespace {

struct Record {
    sendq::log_level level;
    sendq_t* q;
    std::string text;
};

struct Log {
    std::vector<Record> records;
    void operator()(sendq::log_level level, sendq_t* q, std::string_view text) noexcept {
        records.push_back({level, q, std::string(text)});
    }
};

class Logger : public testing::Test {
  protected:
    ~Logger() override { EXPECT_TRUE(sendq::reset_logger()); }

    // A queue whose peer has closed with bytes queued.
    static sendq::queue failed() {
        Connection connection;
        auto q = makeQueue();
        EXPECT_TRUE(q.append("lost"));
        connection.closePeer();
        EXPECT_FALSE(q.flush(connection.fd()));
        return q;
    }

    Log log;
};

TEST_F(Logger, IsCalledOnce) {
    ASSERT_TRUE(sendq::set_logger(log));
    const auto q = failed();
    ASSERT_EQ(log.records.size(), 1U);
    EXPECT_EQ(log.records[0].level, sendq::log_level::info);
    EXPECT_EQ(log.records[0].q, q.get());
    EXPECT_NE(log.records[0].text.find(" 4 lost"), std::string::npos) << log.records[0].text;
}

TEST_F(Logger, GetsMessagesUpToItsLevel) {
    ASSERT_TRUE(sendq::set_logger(log, sendq::log_level::warn));
    failed();
    EXPECT_TRUE(log.records.empty());
}

TEST_F(Logger, GivesWayToAnother) {
    Log other;
    ASSERT_TRUE(sendq::set_logger(log));
    ASSERT_TRUE(sendq::set_logger(other));
    failed();
    EXPECT_TRUE(log.records.empty());
    EXPECT_EQ(other.records.size(), 1U);
    ASSERT_TRUE(sendq::reset_logger());
    failed();
    EXPECT_EQ(other.records.size(), 1U);
}

}  // namespace
