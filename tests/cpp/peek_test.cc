// What was peeked stays where it is until it is consumed: a host may hand it to the kernel and go
// on appending. For blocks smaller and larger than what is appended.

#include <sys/uio.h>

#include <string>
#include <vector>

#include "handles.h"

class Peek : public testing::TestWithParam<uint64_t> {
  protected:
    // Appends len bytes of text that differs along its length.
    void appendText(size_t len) {
        std::string bytes;
        for (size_t at = text.size(); bytes.size() < len; at++) {
            bytes += static_cast<char>('A' + at % 57);
        }
        ASSERT_GE(append(q, bytes), 0);
        text += bytes;
    }

    std::vector<iovec> peek(int atMost = 10000) const {
        std::vector<iovec> pieces(static_cast<size_t>(atMost));
        const int filled = sendq_peek(q.get(), pieces.data(), atMost);
        EXPECT_GE(filled, 0);
        pieces.resize(static_cast<size_t>(filled));
        return pieces;
    }

    static std::string join(const std::vector<iovec>& pieces) {
        std::string bytes;
        for (const auto& piece : pieces) {
            EXPECT_GT(piece.iov_len, 0U);
            bytes.append(static_cast<const char*>(piece.iov_base), piece.iov_len);
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

    PoolPtr pool = [] {
        sendq_pool_config_t config = {};
        config.chunk_bytes = GetParam();
        return newPool(config);
    }();
    QueuePtr q = newQueue(pool.get());
    std::string text;  // all that was appended
};

TEST_P(Peek, ShowsNothingWhenNothingWaits) {
    EXPECT_TRUE(peek().empty());
    appendText(5000);
    EXPECT_EQ(sendq_consume(q.get(), 5000), 0);
    EXPECT_TRUE(peek().empty());
}

TEST_P(Peek, ShowsTheOldestBytesInOrder) {
    appendText(100);
    appendText(50000);
    EXPECT_EQ(join(peek()), text);
    const auto first = join(peek(1));
    EXPECT_EQ(first, text.substr(0, first.size()));
}

TEST_P(Peek, ChangesNothing) {
    appendText(50000);
    const auto once = peek();
    const auto twice = peek();
    ASSERT_EQ(once.size(), twice.size());
    expectUnmoved(once, twice);
    EXPECT_EQ(sendq_queued_bytes(q.get()), text.size());
    EXPECT_EQ(sendq_sent_bytes(q.get()), 0U);
}

TEST_P(Peek, StaysWhereItIsWhileMoreIsAppended) {
    appendText(1000);
    const auto early = peek();
    const auto earlyText = text;
    for (const size_t len : {1U, 10U, 1000U, 100000U, 1U}) {
        appendText(len);
        expectUnmoved(early, peek());
    }
    void* memory = nullptr;
    ASSERT_EQ(sendq_reserve(q.get(), 70000, &memory), 0);
    expectUnmoved(early, peek());
    ASSERT_EQ(sendq_commit(q.get(), 0), 0);
    expectUnmoved(early, peek());
    EXPECT_EQ(join(early), earlyText);  // read through the old pointers
    EXPECT_EQ(join(peek()), text);
}

TEST_P(Peek, StaysWhereItIsWhenWhatIsBeforeItIsConsumed) {
    appendText(60000);
    const auto early = peek();
    const size_t half = early[0].iov_len / 2;
    ASSERT_GE(sendq_consume(q.get(), half), 0);
    auto late = peek();
    ASSERT_EQ(late.size(), early.size());
    EXPECT_EQ(late[0].iov_base, static_cast<char*>(early[0].iov_base) + half);
    EXPECT_EQ(join(late), text.substr(half));
}

TEST_P(Peek, ConsumesToTheByte) {
    appendText(30000);
    size_t consumed = 0;
    for (size_t step = 1; consumed + step <= text.size(); step = step * 2 + 1) {
        ASSERT_GE(sendq_consume(q.get(), step), 0);
        consumed += step;
        ASSERT_EQ(join(peek()), text.substr(consumed));
        ASSERT_EQ(sendq_queued_bytes(q.get()), text.size() - consumed);
        ASSERT_EQ(sendq_sent_bytes(q.get()), consumed);
    }
    EXPECT_EQ(sendq_consume(q.get(), text.size() - consumed + 1), -EINVAL);
    EXPECT_EQ(sendq_consume(q.get(), text.size() - consumed), 0);
    EXPECT_EQ(sendq_queued_bytes(q.get()), 0U);
}

TEST_P(Peek, DoesNotShowWhatIsReserved) {
    appendText(10);
    void* memory = nullptr;
    ASSERT_EQ(sendq_reserve(q.get(), 1000, &memory), 0);
    EXPECT_EQ(join(peek()), text);
    std::string_view written = "committed";
    written.copy(static_cast<char*>(memory), written.size());
    ASSERT_EQ(sendq_commit(q.get(), written.size()), 0);
    EXPECT_EQ(join(peek()), text.append(written));
}

INSTANTIATE_TEST_SUITE_P(ChunkBytes, Peek, testing::Values(256, 4096, 1 << 20),
                         testing::PrintToStringParamName());
