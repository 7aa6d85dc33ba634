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
    std::optional<std::error_code> told;
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
    void tell(std::error_code why) noexcept { fate_->told = why; }

  private:
    Fate* fate_;
};

struct Item {
    Token token;
    std::string text;
};

// Each way to give a queue something of which it disposes later: what is given, how, whether the
// caller has it (again), and the text that the peer has to get.
struct Lender {
    static constexpr size_t allocations = 1;  // that it costs
    static constexpr bool isTold = false;     // it is a callable
    static constexpr bool isMemory = true;    // that can be copied instead
};

template <class Pointer>
struct PointerLender : Lender {
    Pointer owner;
    explicit PointerLender(Pointer item) : owner(std::move(item)) {}
    sendq::result give(sendq::queue& q) {
        return q.append_owned(std::move(owner), owner.get()->text);
    }
    bool isHere() const { return owner != nullptr && owner.get()->token.isHere(); }
    // NOLINTNEXTLINE(clang-analyzer-cplusplus.Move): after a refusal it is here
    std::string_view text() const { return owner.get()->text; }
};

struct UniquePtr : PointerLender<std::unique_ptr<Item>> {
    static constexpr auto name = "UniquePtr";
    static constexpr size_t allocations = 0;
    UniquePtr(Fate& fate, std::string text)
        : PointerLender(std::make_unique<Item>(Item{Token(fate), std::move(text)})) {}
};

struct UniquePtrOfConst : PointerLender<std::unique_ptr<const Item>> {
    static constexpr auto name = "UniquePtrOfConst";
    static constexpr size_t allocations = 0;
    UniquePtrOfConst(Fate& fate, std::string text)
        : PointerLender(std::make_unique<Item>(Item{Token(fate), std::move(text)})) {}
};

struct UniqueArray : PointerLender<std::unique_ptr<Item[]>> {
    static constexpr auto name = "UniqueArray";
    static constexpr size_t allocations = 0;
    UniqueArray(Fate& fate, std::string text)
        : PointerLender(std::unique_ptr<Item[]>(new Item[1]{{Token(fate), std::move(text)}})) {}
};

struct DeleteItem {
    void operator()(Item* item) const { delete item; }
};

struct StatelessDeleter : PointerLender<std::unique_ptr<Item, DeleteItem>> {
    static constexpr auto name = "StatelessDeleter";
    static constexpr size_t allocations = 0;
    StatelessDeleter(Fate& fate, std::string text)
        : PointerLender(std::unique_ptr<Item, DeleteItem>(new Item{Token(fate), std::move(text)})) {
    }
};

struct DeleterWithState : PointerLender<std::unique_ptr<Item, void (*)(Item*)>> {
    static constexpr auto name = "DeleterWithState";
    DeleterWithState(Fate& fate, std::string text)
        : PointerLender({new Item{Token(fate), std::move(text)}, [](Item* item) { delete item; }}) {
    }
};

struct SharedPtr : PointerLender<std::shared_ptr<const Item>> {
    static constexpr auto name = "SharedPtr";
    SharedPtr(Fate& fate, std::string text)
        : PointerLender(std::make_shared<Item>(Item{Token(fate), std::move(text)})) {}
};

// The bytes stay where they are when their owner moves ...
struct AnyOwner : Lender {
    static constexpr auto name = "AnyOwner";
    Item owner;
    AnyOwner(Fate& fate, std::string text) : owner{Token(fate), std::move(text)} {}
    sendq::result give(sendq::queue& q) { return q.append_owned(std::move(owner), owner.text); }
    bool isHere() const { return owner.token.isHere(); }
    // NOLINTNEXTLINE(clang-analyzer-cplusplus.Move): after a refusal it is here
    std::string_view text() const { return owner.text; }
};

// ... or they move with it.
struct OwnerOfInlineBytes : Lender {
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
    sendq::result give(sendq::queue& q) { return q.append_owned(std::move(owner), owner.view()); }
    bool isHere() const { return owner.token.isHere(); }
    std::string_view text() const { return owner.view(); }
};

struct OwnerOfShortString : AnyOwner {
    static constexpr auto name = "OwnerOfShortString";
    OwnerOfShortString(Fate& fate, const std::string& text) : AnyOwner(fate, text.substr(0, 5)) {}
};

// Moves but cannot be assigned, as a lambda.
struct Tell {
    Token token;
    const int captured = 0;
    void operator()(std::error_code why) noexcept { token.tell(why); }
};

struct CallableLender : Lender {
    static constexpr bool isTold = true;
    std::string bytes;
    Tell tell;
    CallableLender(Fate& fate, std::string text) : bytes(std::move(text)), tell{Token(fate)} {}
    bool isHere() const { return tell.token.isHere(); }
    std::string_view text() const { return bytes; }
};

struct Reference : CallableLender {
    static constexpr auto name = "Reference";
    using CallableLender::CallableLender;
    sendq::result give(sendq::queue& q) { return q.append_ref(bytes, std::move(tell)); }
};

struct File : CallableLender {
    static constexpr auto name = "File";
    static constexpr bool isMemory = false;
    std::unique_ptr<FILE, int (*)(FILE*)> file{tmpfile(), fclose};
    File(Fate& fate, const std::string& text) : CallableLender(fate, text) {
        EXPECT_EQ(fwrite(text.data(), 1, text.size(), file.get()), text.size());
        EXPECT_EQ(fflush(file.get()), 0);
    }
    sendq::result give(sendq::queue& q) {
        return q.append_file(fileno(file.get()), 0, bytes.size(), std::move(tell));
    }
};

// It is told about what waits before it.
struct Notification : CallableLender {
    static constexpr auto name = "Notification";
    static constexpr bool isMemory = false;
    Notification(Fate& fate, const std::string&) : CallableLender(fate, "") {}
    sendq::result give(sendq::queue& q) { return q.notify(std::move(tell)); }
};

using Lenders = testing::Types<UniquePtr, UniquePtrOfConst, UniqueArray, StatelessDeleter,
                               DeleterWithState, SharedPtr, AnyOwner, OwnerOfInlineBytes,
                               OwnerOfShortString, Reference, File, Notification>;

struct LenderName {
    template <class T>
    static std::string GetName(int) {
        return T::name;
    }
};
