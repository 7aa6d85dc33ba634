#pragma once

#include <array>
#include <cstdio>
#include <memory>
#include <optional>
#include <sendq/sendq.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "connection.h"

// What has become of what a queue was given.
struct Fate {
    int destroyed = 0;
    std::optional<std::error_code> reason;
};

// Moves, and is counted when what it moved to is destroyed.
class Token {
  public:
    explicit Token(Fate& fate) : fate_(&fate) {}
    Token(Token&& other) noexcept : fate_(std::exchange(other.fate_, nullptr)) {}
    Token& operator=(Token&& other) noexcept {
        std::swap(fate_, other.fate_);
        return *this;
    }
    ~Token() {
        if (fate_ != nullptr) {
            fate_->destroyed++;
        }
    }
    bool isHere() const { return fate_ != nullptr; }
    void release(std::error_code why) noexcept { fate_->reason = why; }

  private:
    Fate* fate_;
};

struct Item {
    Token token;
    std::string text;
};

// Each way to give a queue something of which it disposes later: what is given, how, whether the
// caller has it (again), and the text that the peer has to get.
struct Appender {
    static constexpr size_t allocations = 1;  // that it costs
    static constexpr bool hasReason = false;  // it is a callable
    static constexpr bool isMemory = true;    // that can be copied instead
    static constexpr auto prefix = "";        // of its name
};

template <class Pointer>
struct PointerAppender : Appender {
    Pointer owner;
    explicit PointerAppender(Pointer item) : owner(std::move(item)) {}
    sendq::result append(sendq::queue& q) {
        // After a refusal it is here. NOLINTNEXTLINE(clang-analyzer-cplusplus.Move)
        return q.append_owned(std::move(owner), owner.get()->text);
    }
    bool isHere() const { return owner != nullptr && owner.get()->token.isHere(); }
    // NOLINTNEXTLINE(clang-analyzer-cplusplus.Move): after a refusal it is here
    std::string_view text() const { return owner.get()->text; }
};

struct UniquePtr : PointerAppender<std::unique_ptr<Item>> {
    static constexpr auto name = "UniquePtr";
    static constexpr size_t allocations = 0;
    UniquePtr(Fate& fate, std::string text)
        : PointerAppender(std::make_unique<Item>(Item{Token(fate), std::move(text)})) {}
};

struct UniquePtrOfConst : PointerAppender<std::unique_ptr<const Item>> {
    static constexpr auto name = "UniquePtrOfConst";
    static constexpr size_t allocations = 0;
    UniquePtrOfConst(Fate& fate, std::string text)
        : PointerAppender(std::make_unique<Item>(Item{Token(fate), std::move(text)})) {}
};

struct UniqueArray : PointerAppender<std::unique_ptr<Item[]>> {
    static constexpr auto name = "UniqueArray";
    static constexpr size_t allocations = 0;
    UniqueArray(Fate& fate, std::string text)
        : PointerAppender(std::unique_ptr<Item[]>(new Item[1]{{Token(fate), std::move(text)}})) {}
};

struct DeleteItem {
    void operator()(Item* item) const { delete item; }
};

struct StatelessDeleter : PointerAppender<std::unique_ptr<Item, DeleteItem>> {
    static constexpr auto name = "StatelessDeleter";
    static constexpr size_t allocations = 0;
    StatelessDeleter(Fate& fate, std::string text)
        : PointerAppender(
              std::unique_ptr<Item, DeleteItem>(new Item{Token(fate), std::move(text)})) {}
};

struct DeleterWithState : PointerAppender<std::unique_ptr<Item, void (*)(Item*)>> {
    static constexpr auto name = "DeleterWithState";
    DeleterWithState(Fate& fate, std::string text)
        : PointerAppender(
              {new Item{Token(fate), std::move(text)}, [](Item* item) { delete item; }}) {}
};

struct SharedPtr : PointerAppender<std::shared_ptr<const Item>> {
    static constexpr auto name = "SharedPtr";
    SharedPtr(Fate& fate, std::string text)
        : PointerAppender(std::make_shared<Item>(Item{Token(fate), std::move(text)})) {}
};

// The bytes stay where they are when their owner moves ...
struct AnyOwner : Appender {
    static constexpr auto name = "AnyOwner";
    Item owner;
    AnyOwner(Fate& fate, std::string text) : owner{Token(fate), std::move(text)} {}
    sendq::result append(sendq::queue& q) { return q.append_owned(std::move(owner), owner.text); }
    bool isHere() const { return owner.token.isHere(); }
    // NOLINTNEXTLINE(clang-analyzer-cplusplus.Move): after a refusal it is here
    std::string_view text() const { return owner.text; }
};

// ... or they move with it.
struct OwnerOfInlineBytes : Appender {
    static constexpr auto name = "OwnerOfInlineBytes";
    struct Inline {
        Token token;
        std::array<char, 10000> bytes;
        size_t len;
        // NOLINTNEXTLINE(clang-analyzer-cplusplus.Move): after a refusal it is here
        std::string_view view() const { return {bytes.data(), len}; }
    } owner;
    OwnerOfInlineBytes(Fate& fate, const std::string& text) : owner{Token(fate), {}, text.size()} {
        text.copy(owner.bytes.data(), text.size());
    }
    sendq::result append(sendq::queue& q) { return q.append_owned(std::move(owner), owner.view()); }
    bool isHere() const { return owner.token.isHere(); }
    std::string_view text() const { return owner.view(); }
};

struct OwnerOfShortString : AnyOwner {
    static constexpr auto name = "OwnerOfShortString";
    OwnerOfShortString(Fate& fate, const std::string& text) : AnyOwner(fate, text.substr(0, 5)) {}
};

// Moves but cannot be assigned, as a lambda.
struct Release {
    Token token;
    const int captured = 0;
    void operator()(std::error_code why) noexcept { token.release(why); }
};

struct CallableAppender : Appender {
    static constexpr bool hasReason = true;
    std::string bytes;
    Release release;
    CallableAppender(Fate& fate, std::string text) : bytes(std::move(text)), release{Token(fate)} {}
    bool isHere() const { return release.token.isHere(); }
    std::string_view text() const { return bytes; }
};

struct Reference : CallableAppender {
    static constexpr auto name = "Reference";
    using CallableAppender::CallableAppender;
    sendq::result append(sendq::queue& q) { return q.append_ref(bytes, std::move(release)); }
};

struct File : CallableAppender {
    static constexpr auto name = "File";
    static constexpr bool isMemory = false;
    std::unique_ptr<FILE, int (*)(FILE*)> file{tmpfile(), fclose};
    File(Fate& fate, const std::string& text) : CallableAppender(fate, text) {
        EXPECT_EQ(fwrite(text.data(), 1, text.size(), file.get()), text.size());
        EXPECT_EQ(fflush(file.get()), 0);
    }
    sendq::result append(sendq::queue& q) {
        return q.append_file(fileno(file.get()), 0, bytes.size(), std::move(release));
    }
};

// Released when what was appended before it is sent.
struct Notification : CallableAppender {
    static constexpr auto name = "Notification";
    static constexpr bool isMemory = false;
    Notification(Fate& fate, const std::string&) : CallableAppender(fate, "") {}
    sendq::result append(sendq::queue& q) { return q.notify(std::move(release)); }
};

// The same owners for a message, which borrows what they own ...
template <class Base>
struct OfMessage : Base {
    static constexpr auto prefix = "MessageOf";
    using Base::Base;
    sendq::result append(sendq::queue& q) {
        return q.append_message({sendq::part::ref(this->text())}, std::move(this->owner));
    }
};

// ... and for one part of it, beside a part that is inside the owner, if any is.
template <class Base>
struct OfPart : Base {
    static constexpr auto prefix = "PartOf";
    using Base::Base;
    sendq::result append(sendq::queue& q) {
        const std::string_view first = this->text().substr(0, 2);
        const std::string_view rest = this->text().substr(2);
        return q.append_message(
            sendq::parts("", first, sendq::part::own(std::move(this->owner), rest)));
    }
};

struct ReleaseOfMessage : CallableAppender {
    static constexpr auto name = "ReleaseOfMessage";
    using CallableAppender::CallableAppender;
    sendq::result append(sendq::queue& q) {
        return q.append_message({sendq::part::ref(bytes)}, std::move(release));
    }
};

struct ReleaseOfPart : CallableAppender {
    static constexpr auto name = "ReleaseOfPart";
    using CallableAppender::CallableAppender;
    sendq::result append(sendq::queue& q) {
        return q.append_message(sendq::parts(sendq::part::own(std::move(release), bytes)));
    }
};

using Appenders =
    testing::Types<UniquePtr, UniquePtrOfConst, UniqueArray, StatelessDeleter, DeleterWithState,
                   SharedPtr, AnyOwner, OwnerOfInlineBytes, OwnerOfShortString, Reference, File,
                   Notification, OfMessage<UniquePtr>, OfMessage<UniquePtrOfConst>,
                   OfMessage<UniqueArray>, OfMessage<StatelessDeleter>, OfMessage<DeleterWithState>,
                   OfMessage<SharedPtr>, OfMessage<AnyOwner>, OfMessage<OwnerOfInlineBytes>,
                   OfMessage<OwnerOfShortString>, ReleaseOfMessage, OfPart<UniquePtr>,
                   OfPart<DeleterWithState>, OfPart<SharedPtr>, OfPart<OwnerOfInlineBytes>,
                   OfPart<OwnerOfShortString>, ReleaseOfPart>;

struct AppenderName {
    template <class T>
    static std::string GetName(int) {
        return std::string(T::prefix) + T::name;
    }
};
