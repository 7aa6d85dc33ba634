// What was peeked stays where it is until it is consumed: a host may hand it to the kernel and go
// on appending. For blocks smaller and larger than what is appended.

#include <cstdint>
#include <vector>

#include "connection.h"

namespace {

class Peek : public testing::TestWithParam<std::uint64_t> {
  protected:
    std::vector<iovec> peek() const {
        std::vector<iovec> pieces(10000);
        pieces.resize(q.peek(pieces.data(), pieces.size()));
        return pieces;
    }

    static std::string join(const std::vector<iovec>& pieces) {
        std::string bytes;
        for (const auto& piece : pieces) {
            bytes += sendq::bytes(piece.iov_base, piece.iov_len);
        }
        return bytes;
    }

    // The bytes of `later` begin where `earlier` said they are, piece by piece.
    static void expectUnmoved(const std::vector<iovec>& earlier, const std::vector<iovec>& later) {
        ASSERT_GE(later.size(), earlier.size());
        for (size_t i = 0; i < earlier.size(); i++) {
            EXPECT_EQ(later[i].iov_base, earlier[i].iov_base);
            EXPECT_GE(later[i].iov_len, earlier[i].iov_len);  // the last may have grown
        }
    }

    sendq::queue q = [] {
        sendq::pool_config config;
        config.chunk_bytes = GetParam();
        return sendq::queue::create(sendq::pool::create(config).or_throw()).or_throw();
    }();
    const std::string text = makeText(110000);
};

TEST_P(Peek, StaysWhereItIsWhileMoreIsAppended) {
    ASSERT_TRUE(q.append(text.data(), 1000));
    const auto early = peek();
    size_t at = 1000;
    for (const size_t len : {1U, 10U, 1000U, 100000U, 1U}) {
        ASSERT_TRUE(q.append(text.data() + at, len));
        at += len;
        expectUnmoved(early, peek());
    }
    {
        const auto memory = q.reserve(70000);
        expectUnmoved(early, peek());
    }
    expectUnmoved(early, peek());
    EXPECT_EQ(join(early), text.substr(0, 1000));  // read through the old pointers
    EXPECT_EQ(join(peek()), text.substr(0, at));
}

TEST_P(Peek, StaysWhereItIsWhenWhatIsBeforeItIsConsumed) {
    ASSERT_TRUE(q.append(text.data(), 60000));
    const auto early = peek();
    const size_t half = early[0].iov_len / 2;
    ASSERT_TRUE(q.consume(half));
    const auto late = peek();
    ASSERT_EQ(late.size(), early.size());
    EXPECT_EQ(late[0].iov_base, static_cast<char*>(early[0].iov_base) + half);
    EXPECT_EQ(join(late), text.substr(half, 60000 - half));
}

INSTANTIATE_TEST_SUITE_P(ChunkBytes, Peek, testing::Values(256, 4096, 1 << 20),
                         testing::PrintToStringParamName());

}  // namespace
