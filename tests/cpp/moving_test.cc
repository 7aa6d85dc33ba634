// What a host calls while it moves from its own way of writing: beside it, and around a writer that
// stays.

#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "connection.h"

namespace {

iovec piece(std::string_view text) {
    return {const_cast<char*>(text.data()), text.size()};
}

// What write(std::string_view) got.
struct Writer {
    std::string taken;
    std::int64_t refusal = 0;
    std::int64_t operator()(std::string_view bytes) noexcept {
        if (refusal < 0) {
            return refusal;
        }
        taken += bytes;
        return static_cast<std::int64_t>(bytes.size());
    }
};

std::string of_function;

std::int64_t write_to_string(std::string_view bytes) noexcept {
    of_function += bytes;
    return static_cast<std::int64_t>(bytes.size());
}

std::int64_t write_as_c(void* arg, const void* data, size_t len) noexcept {
    static_cast<std::string*>(arg)->append(static_cast<const char*>(data), len);
    return static_cast<std::int64_t>(len);
}

}  // namespace

TEST(Verify, ConsumesWhatIsTheSame) {
    auto q = makeQueue();
    ASSERT_TRUE(q.appendv({"head", " and body"}));
    const std::array sent = {piece("head an"), piece("d body")};
    ASSERT_TRUE(q.verify(sent.data(), sent.size(), 9));
    EXPECT_EQ(q.sent_bytes(), 9U);
    ASSERT_TRUE(q.verify("body"));
    EXPECT_EQ(q.queued_bytes(), 0U);
}

TEST(Verify, FindsTheFirstByteThatDiffers) {
    auto q = makeQueue();
    ASSERT_TRUE(q.append("head and body"));
    ASSERT_TRUE(q.verify("head"));
    std::uint64_t at = 0;
    EXPECT_EQ(q.verify(" end", &at).error(), std::errc::illegal_byte_sequence);
    EXPECT_EQ(at, 5U);
    const iovec sent = piece(" and BODY");
    EXPECT_EQ(q.verify(&sent, 1, 9, &at).error(), std::errc::illegal_byte_sequence);
    EXPECT_EQ(at, 9U);
    EXPECT_EQ(q.queued_bytes(), 9U);
}

TEST(Verify, RefusesMorePiecesThanThereCanBe) {
    auto q = makeQueue();
    EXPECT_EQ(q.verify(nullptr, size_t{1} << 40, 0).error(), std::errc::invalid_argument);
}

TEST(FlushWith, CallsAnObjectAFunctionOrALambda) {
    auto q = makeQueue();
    Writer writer;
    ASSERT_TRUE(q.append("to an object"));
    ASSERT_TRUE(q.flush_with(writer));
    EXPECT_EQ(writer.taken, "to an object");

    ASSERT_TRUE(q.append("to a function"));
    ASSERT_TRUE(q.flush_with(write_to_string));
    EXPECT_EQ(of_function, "to a function");

    std::string taken;
    ASSERT_TRUE(q.append("to a lambda"));
    ASSERT_TRUE(q.flush_with([&taken](std::string_view bytes) noexcept {
        taken += bytes;
        return static_cast<int>(bytes.size());
    }));
    EXPECT_EQ(taken, "to a lambda");

    ASSERT_TRUE(q.append(" and to C"));
    ASSERT_TRUE(q.flush_with(write_as_c, &taken));
    EXPECT_EQ(taken, "to a lambda and to C");
}

TEST(FlushWith, KeepsToItsBudget) {
    auto q = makeQueue();
    Writer writer;
    ASSERT_TRUE(q.append(makeText(100'000)));
    const auto flushed = q.flush_with(writer, 20'000);
    ASSERT_TRUE(flushed);
    EXPECT_TRUE(flushed.more());
    EXPECT_LT(writer.taken.size(), 100'000U);
}

TEST(FlushWith, SaysWhatTheWriterWaitsFor) {
    auto q = makeQueue();
    Writer writer;
    ASSERT_TRUE(q.append("text"));

    writer.refusal = -EAGAIN;
    auto flushed = q.flush_with(writer);
    EXPECT_TRUE(flushed.blocked());
    EXPECT_FALSE(flushed.want_read());

    writer.refusal = SENDQ_WRITE_WANT_READ;
    flushed = q.flush_with(writer);
    EXPECT_TRUE(flushed.want_read());
    EXPECT_FALSE(flushed.blocked());

    writer.refusal = -EPROTO;
    EXPECT_EQ(q.flush_with(writer).error(), std::errc::protocol_error);
    EXPECT_EQ(q.error(), std::errc::protocol_error);
}
