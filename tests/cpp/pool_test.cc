// Many queues of one pool: what is ready, what is stuck, and what all of them may have.

#include <chrono>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "appenders.h"

namespace {

using namespace std::chrono_literals;
using sendq::pool_config;
using sendq::queue;
using sendq::queue_view;

struct Clock {
    std::chrono::nanoseconds time = 1h;
    auto operator()() const noexcept { return time; }
};

struct Wake {
    int calls = 0;
    void operator()() noexcept { calls++; }
};

// malloc, which may be told to fail.
struct Memory {
    std::size_t held = 0;
    bool fails = false;
    void* allocate(std::size_t size) noexcept {
        held += fails ? 0 : size;
        return fails ? nullptr : std::malloc(size);
    }
    void deallocate(void* block, std::size_t size) noexcept {
        held -= size;
        std::free(block);
    }
};

class Pool : public testing::Test {
  protected:
    struct Host {
        Connection connection;
        int turns = 0;
    };

    Pool() {
        pool_config config;
        config.set_clock(clock);
        config.set_wake(wake);
        pool = sendq::pool::create(config).or_throw();
        for (Host& host : hosts) {
            sendq::queue_config of_queue;
            of_queue.user = &host;
            queues.push_back(queue::create(pool, of_queue).or_throw());
        }
    }

    // How many queues a turn flushes.
    int turn() {
        int flushed = 0;
        while (auto q = pool.next()) {
            Host* host = q.user<Host>();
            host->turns++;
            EXPECT_TRUE(q.flush(host->connection.fd()));
            flushed++;
        }
        return flushed;
    }

    Clock clock;
    Wake wake;
    sendq::pool pool;
    Host hosts[3];
    std::vector<queue> queues;
};

TEST_F(Pool, ReturnsWhatIsReadyOnceATurn) {
    EXPECT_EQ(turn(), 0);
    ASSERT_TRUE(queues[0].append("first"));
    ASSERT_TRUE(queues[2].append_message({"second"}));
    ASSERT_TRUE(queues[2].append("third"));
    EXPECT_EQ(wake.calls, 1);
    EXPECT_EQ(pool.retry_after(), 0ns);
    EXPECT_EQ(turn(), 2);
    EXPECT_EQ(hosts[0].turns, 1);
    EXPECT_EQ(hosts[1].turns, 0);
    EXPECT_EQ(hosts[2].turns, 1);
    EXPECT_EQ(turn(), 0);
    EXPECT_EQ(pool.retry_after(), std::nullopt);
    EXPECT_EQ(hosts[2].connection.receiveAll(queues[2]), "secondthird");
}

TEST_F(Pool, ReturnsAgainWhatIsScheduled) {
    EXPECT_EQ(turn(), 0);
    ASSERT_TRUE(queues[0].append("skipped"));
    EXPECT_EQ(pool.next().get(), queues[0].get());
    EXPECT_FALSE(pool.next());
    EXPECT_FALSE(pool.next()) << "the host ignored it";
    ASSERT_TRUE(queues[0].schedule());
    EXPECT_EQ(turn(), 1);
    EXPECT_EQ(queue().schedule().error(), std::errc::invalid_argument);
}

TEST_F(Pool, MayLoseAQueueInItsTurn) {
    ASSERT_TRUE(queues[0].append("x"));
    ASSERT_TRUE(queues[1].append("y"));
    queue_view first = pool.next();
    ASSERT_TRUE(first);
    queues.clear();
    EXPECT_FALSE(pool.next());
}

TEST_F(Pool, HasARate) {
    EXPECT_EQ(turn(), 0);
    ASSERT_TRUE(pool.set_rate(1000, 100));
    ASSERT_TRUE(queues[0].append(std::string(150, 'x')));
    EXPECT_EQ(turn(), 1);
    EXPECT_EQ(queues[0].queued_bytes(), 50U);
    EXPECT_GT(queues[0].retry_after(), 0ns);
    EXPECT_EQ(turn(), 0);
    const auto wait = pool.retry_after();
    ASSERT_TRUE(wait);
    EXPECT_GT(*wait, 0ns);
    EXPECT_LE(*wait, 100ms);
    clock.time += 1s;
    EXPECT_EQ(turn(), 1);
    EXPECT_EQ(queues[0].queued_bytes(), 0U);
}

TEST_F(Pool, FindsWhatIsStuck) {
    sendq_t* found[3];
    ASSERT_TRUE(queues[1].append("stuck"));
    EXPECT_EQ(pool.stalled(1s, found), 0U);
    clock.time += 2s;
    ASSERT_EQ(pool.stalled(1s, found), 1U);
    EXPECT_EQ(queue_view(found[0]).user(), &hosts[1]);
    EXPECT_EQ(pool.stalled(2s, found), 0U);
    EXPECT_EQ(pool.stalled(-1s, found, 3), 1U);
}

TEST_F(Pool, KnowsWhatItHolds) {
    const auto before = pool.bytes();
    const std::string text = makeText(100'000);
    ASSERT_TRUE(queues[0].append_ref(text));
    EXPECT_GE(pool.bytes(), before + text.size());
    const auto stats = pool.stats();
    EXPECT_EQ(pool.bytes(), stats.used + stats.free + stats.pinned + stats.shared);
}

TEST_F(Pool, IsNothingIfItsHandleIsEmpty) {
    sendq_t* found[1];
    sendq::pool none;
    EXPECT_FALSE(none.next());
    EXPECT_EQ(none.bytes() + none.stalled(0s, found), 0U);
    EXPECT_EQ(none.retry_after(), std::nullopt);
    EXPECT_EQ(none.set_rate(1).error(), std::errc::invalid_argument);
}

TEST(PoolMemory, MayComeFromTheHost) {
    Memory memory;
    pool_config config;
    config.set_allocator(memory);
    {
        auto pool = sendq::pool::create(config).or_throw();
        auto q = queue::create(pool).or_throw();
        memory.fails = true;
        auto item = std::make_unique<std::string>("refused");
        EXPECT_EQ(q.append_message({sendq::part::copy(*item)}, std::move(item)).error(),
                  std::errc::not_enough_memory);
        EXPECT_EQ(*item, "refused");  // NOLINT(bugprone-use-after-move): the promise
        memory.fails = false;
        ASSERT_TRUE(q.append("copied"));
        EXPECT_GT(memory.held, 0U);
    }
    EXPECT_EQ(memory.held, 0U);
}

}  // namespace
