// What C++ allocates on top of sendq.h: nothing, but for an owner that fits no pointer.

#include "appenders.h"
#include "counting_new.h"

namespace {

// Allocations of a call.
template <class Call>
size_t count(Call call) {
    const auto before = counting::allocations;
    const sendq::result r = call();
    const auto after = counting::allocations;
    EXPECT_TRUE(r) << r.error().message();
    return after - before;
}

class Allocations : public testing::Test {
  protected:
    void SetUp() override {
        if (counting::isReplaced()) {
            GTEST_SKIP() << "allocations are not counted here";
        }
    }
    sendq::queue q = makeQueue();
    std::string text = makeText(5000);
};

template <class Appender>
class AllocationsOfOwner : public Allocations {};

TYPED_TEST_SUITE(AllocationsOfOwner, Appenders, AppenderName);

TYPED_TEST(AllocationsOfOwner, AreAsPromised) {
    Fate fate;
    TypeParam appender(fate, this->text);
    EXPECT_EQ(count([&] { return appender.append(this->q); }), TypeParam::allocations);
    EXPECT_EQ(count([&] { return this->q.discard(); }), 0U);
}

TEST_F(Allocations, NoneForViews) {
    EXPECT_EQ(count([&] { return q.append("literal"); }), 0U);
    EXPECT_EQ(count([&] { return q.append(text); }), 0U);
    EXPECT_EQ(count([&] { return q.append(text.data(), text.size()); }), 0U);
    EXPECT_EQ(count([&] { return q.append_ref(text); }), 0U);
}

TEST_F(Allocations, NoneForFewPieces) {
    const std::vector<std::string_view> pieces(64, text);
    EXPECT_EQ(count([&] { return q.appendv({text, "and", text}); }), 0U);
    EXPECT_EQ(count([&] { return q.appendv(pieces); }), 0U);
}

TEST_F(Allocations, OneForManyPieces) {
    const std::vector<std::string_view> pieces(65, text);
    EXPECT_EQ(count([&] { return q.appendv(pieces); }), 1U);
}

TEST_F(Allocations, ManyPiecesFailWithoutMemory) {
    const std::vector<std::string_view> pieces(65, text);
    counting::fails = true;
    const auto refused = q.appendv(pieces);
    counting::fails = false;
    EXPECT_EQ(refused.error(), std::errc::not_enough_memory);
    EXPECT_EQ(q.queued_bytes(), 0U);
}

TEST_F(Allocations, NoneForBuffers) {
    const auto buf = sendq::buffer::immortal(text).or_throw();
    EXPECT_EQ(count([&] { return q.append(buf); }), 0U);
}

TEST_F(Allocations, NoneForAShortString) {
    std::string shorter = text.substr(0, 255);
    EXPECT_EQ(count([&] { return q.append(std::move(shorter)); }), 0U);
}

TEST_F(Allocations, OneForALongString) {
    EXPECT_EQ(count([&] { return q.append(std::move(text)); }), 1U);
}

TEST_F(Allocations, ALongStringIsNotLostWithoutMemory) {
    counting::fails = true;
    const auto refused = q.append(std::move(text));
    counting::fails = false;
    EXPECT_EQ(refused.error(), std::errc::not_enough_memory);
    EXPECT_EQ(text, makeText(5000));  // NOLINT(bugprone-use-after-move): the promise
}

TEST_F(Allocations, NoneForACallableThatFitsAPointer) {
    int released = 0;
    EXPECT_EQ(count([&] {
                  return q.append_ref(text, [&released](std::error_code) noexcept { released++; });
              }),
              0U);
    EXPECT_EQ(count([&] { return q.notify([](std::error_code) noexcept {}); }), 0U);
    EXPECT_EQ(count([&] { return q.discard(); }), 0U);
    EXPECT_EQ(released, 1);
}

TEST_F(Allocations, NoneForReserveCorkAndFlush) {
    Connection connection;
    EXPECT_EQ(count([&] {
                  auto cork = q.cork();
                  EXPECT_TRUE(q.reserve(100).commit(0));
                  return cork.uncork();
              }),
              0U);
    EXPECT_TRUE(q.append("x"));
    EXPECT_EQ(count([&] { return q.flush(connection.fd()); }), 0U);
}

TEST_F(Allocations, NoneForFigures) {
    const auto before = counting::allocations;
    char json[1024];
    EXPECT_EQ(q.stats().waiting, 0U);
    EXPECT_GT(q.stats_json(json, sizeof json), 0U);
    EXPECT_EQ(counting::allocations, before);
    EXPECT_FALSE(q.stats_json().empty());
    EXPECT_EQ(counting::allocations, before + 1);
}

}  // namespace
