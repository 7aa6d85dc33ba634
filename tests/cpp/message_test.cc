// Messages: parts of every kind, owners of the whole and of a part, boundaries, holes. What becomes
// of owners is tested with the other appends (appenders.h).

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "appenders.h"
#include "counting_new.h"
#include "descriptor.h"

namespace {

using sendq::part;

// NOLINTBEGIN(bugprone-use-after-move): after a refusal it is here

sendq::queue makeMessages(std::uint64_t max = 0) {
    sendq::queue_config config;
    config.flags = sendq::messages;
    config.max_messages = max;
    return makeQueue(config);
}

class Message : public testing::Test {
  protected:
    std::string received() { return connection.receiveAll(q); }

    Connection connection;
    sendq::queue q = makeMessages();
};

TEST_F(Message, HasPartsOfEveryKind) {
    Descriptor file("in a file, not this");
    const auto buf = sendq::buffer::immortal("not shared, but this").or_throw();
    const std::string text = "text, ";
    const std::array<unsigned char, 2> raw = {0x2c, ' '};
    const std::vector<char> letters = {'r', 'a', 'w'};
    EXPECT_TRUE(q.append_message({"literal, ", text, std::string_view("view, "), letters, raw,
                                  part::ref("borrowed, "), part::share(buf, 4, 8),
                                  part::file(file.get(), 0, 9), ", ", buf, part(),
                                  part(sendq_part_copy(", C", 3))})
                    .wake());
    EXPECT_EQ(q.queued_messages(), 1U);
    EXPECT_EQ(received(),
              "literal, text, view, raw, borrowed, shared, in a file, not shared, but this, C");
    EXPECT_EQ(q.sent_messages(), 1U);
}

TEST_F(Message, TakesPartsThatSomethingElseHolds) {
    const std::vector<part> many = {"a", "b"};
    const std::array<part, 1> one = {"c"};
    const part few[] = {"d", "e"};
    EXPECT_TRUE(q.append_message(many));
    EXPECT_TRUE(q.append_message(one));
    EXPECT_TRUE(q.append_message(few));
    EXPECT_TRUE(q.append_message({many.data(), 1}));
    EXPECT_EQ(q.queued_messages(), 4U);
    EXPECT_EQ(received(), "abcdea");
}

TEST_F(Message, WithoutBytesIsNone) {
    Fate fate;
    EXPECT_TRUE(q.append_message({}, Item{Token(fate), ""}));
    EXPECT_EQ(fate.destroyed, 1);
    EXPECT_TRUE(q.append_message({"", part::ref("")}, Release{Token(fate)}));
    EXPECT_EQ(fate.destroyed, 2);
    EXPECT_TRUE(q.append_message(sendq::parts(part::own(Release{Token(fate)}, ""))));
    EXPECT_EQ(fate.destroyed, 3);
    EXPECT_EQ(q.queued_messages(), 0U);
}

TEST_F(Message, MayBeLargerThanItCanBe) {
    const part one = "x";
    EXPECT_EQ(q.append_message({&one, std::size_t{1} << 40}).error(), std::errc::invalid_argument);
}

TEST_F(Message, TellsItsReleaseHowMuchOfItWasSent) {
    std::size_t sent = 0;
    std::error_code why;
    const auto released = [&](std::error_code reason, std::size_t bytes) noexcept {
        sent = bytes;
        why = reason;
    };
    ASSERT_TRUE(q.append("before"));
    ASSERT_TRUE(q.append_message({"1234", part::ref("5678")}, released));
    ASSERT_TRUE(q.consume(11));
    ASSERT_TRUE(q.discard());
    EXPECT_EQ(sent, 5U);
    EXPECT_EQ(why, std::errc::operation_canceled);
}

TEST_F(Message, ReleasesEachOwnerOnce) {
    Fate first;
    Fate second;
    Fate whole;
    auto item = std::make_unique<Item>(Item{Token(first), "first "});
    const std::string_view view = item->text;
    Item other{Token(second), "second"};  // short: inside the object
    ASSERT_TRUE(q.append_message(
        sendq::parts(part::own(std::move(item), view), part::own(std::move(other), other.text)),
        Release{Token(whole)}));
    EXPECT_EQ(first.destroyed + second.destroyed + whole.destroyed, 0);
    ASSERT_TRUE(q.consume(6));
    EXPECT_EQ(first.destroyed, 1);
    EXPECT_EQ(received(), "second");
    EXPECT_EQ(first.destroyed + second.destroyed + whole.destroyed, 3);
    EXPECT_EQ(whole.reason, std::error_code());
}

TEST_F(Message, GivesBackEveryOwnerOnFailure) {
    Fate fate;
    auto item = std::make_unique<Item>(Item{Token(fate), "first"});
    auto shared = std::make_shared<Item>(Item{Token(fate), "second"});
    Descriptor file("third");
    const int fd = file.get();
    Item other{Token(fate), "fourth"};
    Release whole{Token(fate)};
    const auto append = [&] {
        return q.append_message(
            sendq::parts(part::own(std::move(item), item->text), part::own(shared, shared->text),
                         part::owned_file(std::move(file), 0, 5),
                         part::own(std::move(other), other.text)),
            std::move(whole));
    };
    const auto expectAll = [&] {
        EXPECT_EQ(item->text, "first");
        EXPECT_EQ(shared.use_count(), 1);
        EXPECT_EQ(file.get(), fd);
        EXPECT_TRUE(Descriptor::isOpen(fd));
        EXPECT_EQ(other.text, "fourth");
        EXPECT_TRUE(other.token.isHere() && whole.token.isHere());
        EXPECT_EQ(fate.destroyed, 0);
        EXPECT_EQ(q.queued_bytes(), 0U);
    };
    if (!counting::isReplaced()) {
        // Memory for the copy of shared, for other, for whole: one more each time.
        for (std::size_t had = 0; had < 3; had++) {
            counting::fails_after = had;
            counting::fails = true;
            const auto refused = append();
            counting::fails = false;
            counting::fails_after = 0;
            EXPECT_EQ(refused.error(), std::errc::not_enough_memory) << had;
            expectAll();
        }
    }
    ASSERT_TRUE(q.set_watermarks(1, 2, 3));
    EXPECT_EQ(append().error(), std::errc::no_buffer_space);
    expectAll();
    ASSERT_TRUE(q.set_watermarks(0, 0, 0));
    EXPECT_TRUE(append());
    EXPECT_EQ(received(), "firstsecondthirdfourth");
    EXPECT_EQ(fate.destroyed, 3);
    EXPECT_FALSE(Descriptor::isOpen(fd));
}

TEST_F(Message, FollowsManyPartsInsideItsOwner) {
    struct Inline {
        std::array<char, 40> text;
    } owner = {};
    const std::string text = makeText(owner.text.size());
    text.copy(owner.text.data(), text.size());
    std::vector<part> each;
    for (const char& letter : owner.text) {
        each.push_back(part::ref({&letter, 1}));
    }
    // It has to be given, also where a move is a copy. NOLINTNEXTLINE(performance-move-const-arg)
    ASSERT_TRUE(q.append_message(each, std::move(owner)));
    owner = {};
    EXPECT_EQ(received(), text);
}

TEST_F(Message, ClosesItsFile) {
    Descriptor file("file");
    const int raw = dup(file.get());
    const int fd = file.get();
    ASSERT_TRUE(q.append_message(sendq::parts("a ", part::owned_file(std::move(file), 0, 4))));
    EXPECT_EQ(file.get(), -1);
    ASSERT_TRUE(q.append_message({" and the same ", part::owned_file(raw, 0, 4)}));
    EXPECT_TRUE(Descriptor::isOpen(fd) && Descriptor::isOpen(raw));
    EXPECT_EQ(received(), "a file and the same file");
    EXPECT_FALSE(Descriptor::isOpen(fd) || Descriptor::isOpen(raw));
}

TEST_F(Message, CostsNoAllocationForAPointer) {
    if (counting::isReplaced()) {
        GTEST_SKIP() << "allocations are not counted here";
    }
    auto first = std::make_unique<std::string>(makeText(5000));
    auto second = std::make_unique<std::string>(makeText(5000));
    const auto before = counting::allocations;
    EXPECT_TRUE(q.append_message(
        sendq::parts("head", part::own(std::move(first), *first), part::ref(*second), "\r\n"),
        std::move(second)));
    EXPECT_TRUE(
        q.append_message({"head", "tail"}, [this](std::error_code) noexcept { EXPECT_TRUE(q); }));
    EXPECT_EQ(counting::allocations, before);
}

TEST_F(Message, HasABoundary) {
    ASSERT_TRUE(q.append("one "));
    EXPECT_EQ(q.queued_messages(), 1U);
    ASSERT_TRUE(q.append("message"));
    ASSERT_TRUE(q.end_message());
    ASSERT_TRUE(q.end_message());
    ASSERT_TRUE(q.append_message({", another"}));
    EXPECT_EQ(q.queued_messages(), 2U);
    EXPECT_EQ(received(), "one message, another");
    EXPECT_EQ(q.sent_messages(), 2U);
    EXPECT_EQ(sendq::queue().queued_messages() + sendq::queue().sent_messages(), 0U);
    EXPECT_EQ(sendq::queue().end_message().error(), std::errc::invalid_argument);
}

TEST_F(Message, IsDiscardedUnlessItHasBegun) {
    Fate fate;
    ASSERT_TRUE(q.append_message({"begun, "}));
    ASSERT_TRUE(q.append_message({part::ref("not begun")}, Release{Token(fate)}));
    ASSERT_TRUE(q.consume(1));
    EXPECT_TRUE(q.discard_unstarted());
    EXPECT_EQ(fate.reason, std::make_error_code(std::errc::operation_canceled));
    EXPECT_EQ(received(), "egun, ");
    EXPECT_EQ(makeQueue().discard_unstarted().error(), std::errc::invalid_argument);
}

TEST_F(Message, IsRefusedOverTheMost) {
    q = makeMessages(1);
    ASSERT_TRUE(q.append_message({"first"}));
    auto item = std::make_unique<std::string>("second");
    EXPECT_EQ(q.append_message({part::ref(*item)}, std::move(item)).error(),
              std::errc::no_buffer_space);
    EXPECT_EQ(*item, "second");
}

TEST_F(Message, IsPeekedWithItsFiles) {
    Descriptor file("file");
    ASSERT_TRUE(q.append_message({part::ref("memory"), part::file(file.get(), 1, 3)}));
    part parts[3];
    ASSERT_EQ(q.peek_parts(parts), 2U);
    EXPECT_EQ(parts[0].kind, std::uint32_t{SENDQ_PART_REF});
    EXPECT_EQ(sendq::bytes(parts[0].data, parts[0].len), "memory");
    EXPECT_EQ(parts[1].kind, std::uint32_t{SENDQ_PART_FILE});
    EXPECT_EQ(parts[1].fd, file.get());
    EXPECT_EQ(parts[1].offset, 1U);
    EXPECT_EQ(parts[1].len, 3U);
    EXPECT_EQ(q.peek_parts(parts, 1), 1U);
    EXPECT_EQ(sendq::queue().peek_parts(parts), 0U);
}

TEST_F(Message, WaitsForItsHole) {
    sendq::hole length = q.make_hole(4).or_throw();
    ASSERT_TRUE(q.append_message({"body"}));
    EXPECT_EQ(received(), "");
    EXPECT_EQ(q.fill(length, "too long").error(), std::errc::invalid_argument);
    ASSERT_TRUE(length);
    sendq::hole moved = std::move(length);
    EXPECT_FALSE(length);
    sendq::hole none;
    EXPECT_EQ(q.fill(none, "4").error(), std::errc::invalid_argument);
    EXPECT_TRUE(q.fill(moved, "4 "));
    EXPECT_FALSE(moved);
    EXPECT_EQ(received(), "4 body");
}

TEST_F(Message, HasNoHoleAfterAFailure) {
    ASSERT_TRUE(q.close());
    auto refused = q.make_hole(4);
    EXPECT_EQ(refused.error(), std::errc::broken_pipe);
    EXPECT_FALSE(*refused);
}

TEST_F(Message, MayBeFilledAfterItsQueueHasForgottenIt) {
    auto hole = q.make_hole(4).or_throw();
    ASSERT_TRUE(q.discard());
    EXPECT_TRUE(q.fill(hole, "late"));
    EXPECT_EQ(q.queued_bytes(), 0U);
}

// NOLINTEND(bugprone-use-after-move)

// What must not compile.
template <class... Args>
using Appended = decltype(std::declval<sendq::queue&>().append_message(std::declval<Args>()...));
template <class Void, class... Args>
constexpr bool isAppended = false;
template <class... Args>
constexpr bool isAppended<std::void_t<Appended<Args...>>, Args...> = true;

static_assert(isAppended<void, std::vector<part>, std::unique_ptr<int>>);
static_assert(!isAppended<void, std::vector<part>, int*>, "a pointer owns nothing");
static_assert(!isAppended<void, std::vector<part>, int>, "nor does a number");
static_assert(!isAppended<void, std::vector<part>, void (*)(int)>, "it is never called so");
static_assert(!isAppended<void, std::string>, "the parts of a message are in braces");
static_assert(!isAppended<void, sendq::detail::part_list<part>&>, "it is for one call");
static_assert(!std::is_constructible_v<part, std::nullptr_t>);
static_assert(!std::is_constructible_v<part, int>);
static_assert(!std::is_constructible_v<part, std::vector<int>>, "whose order of bytes?");

template <class Text, class = void>
constexpr bool isBorrowed = false;
template <class Text>
constexpr bool isBorrowed<Text, std::void_t<decltype(part::ref(std::declval<Text>()))>> = true;
static_assert(isBorrowed<std::string&> && isBorrowed<const std::string&>);
static_assert(isBorrowed<const char (&)[4]> && isBorrowed<std::string_view>);
static_assert(!isBorrowed<std::string> && !isBorrowed<const std::string>, "it is gone too soon");

static_assert(!std::is_copy_constructible_v<sendq::hole> &&
              std::is_nothrow_move_assignable_v<sendq::hole>);
static_assert(std::is_trivially_copyable_v<part>);

}  // namespace
