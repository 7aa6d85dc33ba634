// Each way to append gives the peer exactly its bytes.

#include <array>
#include <cstdio>
#include <memory>
#include <vector>

#include "connection.h"

namespace {

class Bytes : public testing::Test {
  protected:
    // Whoever gets bytes appended here gets just those, between these.
    void expect(std::string_view bytes, sendq::result appended) {
        EXPECT_TRUE(appended) << appended.error().message();
        EXPECT_TRUE(q.append("|"));
        EXPECT_EQ(connection.receiveAll(q), std::string(bytes) + "|");
    }

    Connection connection;
    sendq::queue q = makeQueue();
    const std::string text = makeText(100000);
};

TEST_F(Bytes, OfViews) {
    expect("literal", q.append("literal"));
    expect(text, q.append(text));
    expect(text.substr(10, 20), q.append(std::string_view(text).substr(10, 20)));
    expect("", q.append(""));
    expect("", q.append(std::string_view()));
}

TEST_F(Bytes, OfRawMemory) {
    const unsigned char raw[] = {0, 1, 2, 255, 0};
    const std::string_view view("\0\1\2\377\0", 5);
    expect(view, q.append(raw, sizeof raw));
    expect(view, q.append_ref(sendq::bytes(raw, sizeof raw)));
}

TEST_F(Bytes, OfStringsThatAreGivenAway) {
    for (const size_t len : {0U, 1U, 15U, 16U, 255U, 256U, 4096U, 100000U}) {
        expect(text.substr(0, len), q.append(text.substr(0, len)));
    }
}

TEST_F(Bytes, OfAStringThatIsNot) {
    std::string mine = text;
    expect(text, q.append(mine));
    EXPECT_EQ(mine, text);
}

TEST_F(Bytes, OfPieces) {
    const std::string_view views[] = {"a", "", "bc"};
    const std::vector<std::string> strings = {text, "and", text};
    const std::array<const char*, 2> literals = {"one", "two"};
    expect("head" + text + "tail", q.appendv({"head", text, "tail"}));
    expect("abc", q.appendv(views));
    expect("bc", q.appendv(views + 1, 2));
    expect(text + "and" + text, q.appendv(strings));
    expect("onetwo", q.appendv(literals));
    expect("", q.appendv(std::vector<std::string>()));
}

TEST_F(Bytes, OfAnyNumberOfPieces) {
    for (const size_t count : {1U, 63U, 64U, 65U, 5000U}) {
        std::string all;
        for (size_t i = 0; i < count; i++) {
            all += "piece";
        }
        expect(all, q.appendv(std::vector<std::string_view>(count, "piece")));
    }
}

TEST_F(Bytes, OfAnIovec) {
    std::string mine = text;
    const iovec iov[] = {{mine.data(), 10}, {mine.data(), mine.size()}};
    expect(text.substr(0, 10) + text, q.appendv(iov, 2));
    expect(text.substr(0, 10) + text, q.appendv(iov));
}

TEST_F(Bytes, OfImmortalMemory) {
    expect(text, q.append_ref(text));
}

TEST_F(Bytes, OfOneOwnerInSeveralPieces) {
    const auto shared = std::make_shared<const std::string>(text);
    const auto view = std::string_view(*shared);
    EXPECT_TRUE(q.append_owned(shared, view.substr(0, 30000)));
    EXPECT_TRUE(q.append_owned(shared, view.substr(40000, 10000)));
    EXPECT_EQ(shared.use_count(), 3);
    EXPECT_EQ(connection.receiveAll(q), text.substr(0, 30000) + text.substr(40000, 10000));
    EXPECT_EQ(shared.use_count(), 1);
}

TEST_F(Bytes, OfPartOfAFile) {
    const std::unique_ptr<FILE, int (*)(FILE*)> file(tmpfile(), fclose);
    ASSERT_EQ(fwrite(text.data(), 1, text.size(), file.get()), text.size());
    ASSERT_EQ(fflush(file.get()), 0);
    expect(text.substr(100, 5000), q.append_file(fileno(file.get()), 100, 5000));
}

TEST_F(Bytes, OfASplice) {
    auto other = makeQueue();
    ASSERT_TRUE(other.append_ref(text));
    expect(text, q.splice(other));
    EXPECT_EQ(other.queued_bytes(), 0U);
}

TEST_F(Bytes, AsPeekedAndConsumed) {
    ASSERT_TRUE(q.append("copied"));
    ASSERT_TRUE(q.append_ref(text));
    iovec iov[4];
    ASSERT_EQ(q.peek(iov), 2U);
    EXPECT_EQ(sendq::bytes(iov[0].iov_base, iov[0].iov_len), "copied");
    EXPECT_EQ(sendq::bytes(iov[1].iov_base, iov[1].iov_len), text);
    EXPECT_EQ(q.peek(iov, 1), 1U);
    EXPECT_TRUE(q.consume(10));
    EXPECT_EQ(connection.receiveAll(q), text.substr(4));
    EXPECT_EQ(q.sent_bytes(), text.size() + 6);
}

}  // namespace
