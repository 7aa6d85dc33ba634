// A stored item: immutable once made, shared by the store and by the outputs that are sending it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include "bucket.h"

namespace mcbpd {

class ItemPtr;

class Item {
  public:
    // The value is `head` followed by `tail`. Null if there is no memory for it.
    static ItemPtr make(std::string_view key, uint32_t flags, uint64_t cas, std::string_view head,
                        std::string_view tail = {});

    Item(const Item&) = delete;
    Item& operator=(const Item&) = delete;

    std::string_view key() const { return {bytes(), key_bytes_}; }
    std::string_view value() const { return {bytes() + key_bytes_, value_bytes_}; }
    uint32_t flags() const { return flags_; }
    uint64_t cas() const { return cas_; }

    // Before any other thread sees it.
    void join(BucketPtr bucket) { bucket_ = std::move(bucket); }
    // Null until it is stored.
    const Bucket* bucket() const { return bucket_.get(); }

    // How many there are, stored or not.
    static size_t live() { return live_.load(std::memory_order_relaxed); }

  private:
    friend class ItemPtr;

    Item(size_t key_bytes, size_t value_bytes, uint32_t flags, uint64_t cas)
        : cas_(cas), key_bytes_(key_bytes), value_bytes_(value_bytes), flags_(flags) {
        live_.fetch_add(1, std::memory_order_relaxed);
    }
    ~Item() { live_.fetch_sub(1, std::memory_order_relaxed); }

    // Key and value follow the object in the same block of memory.
    const char* bytes() const { return reinterpret_cast<const char*>(this + 1); }
    char* bytes() { return reinterpret_cast<char*>(this + 1); }

    void ref() { refs_.fetch_add(1, std::memory_order_relaxed); }
    void unref();

    static std::atomic<size_t> live_;

    BucketPtr bucket_;
    uint64_t cas_;
    size_t key_bytes_;
    size_t value_bytes_;
    uint32_t flags_;
    std::atomic<uint32_t> refs_{1};
};

// One reference to an item.
class ItemPtr {
  public:
    ItemPtr() = default;
    ItemPtr(const ItemPtr& other) : item_(other.item_) {
        if (item_ != nullptr) {
            item_->ref();
        }
    }
    ItemPtr(ItemPtr&& other) noexcept : item_(std::exchange(other.item_, nullptr)) {}
    ItemPtr& operator=(ItemPtr other) noexcept {
        std::swap(item_, other.item_);
        return *this;
    }
    ~ItemPtr() {
        if (item_ != nullptr) {
            item_->unref();
        }
    }

    explicit operator bool() const { return item_ != nullptr; }
    const Item* operator->() const { return item_; }

    // As with std::unique_ptr: what was released is to be adopted.
    static ItemPtr adopt(Item* item) { return ItemPtr(item); }
    Item* get() const { return item_; }
    Item* release() { return std::exchange(item_, nullptr); }

  private:
    friend class Item;
    explicit ItemPtr(Item* item) : item_(item) {}

    Item* item_ = nullptr;
};

}  // namespace mcbpd
