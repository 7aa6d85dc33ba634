#include "store.h"

#include <charconv>
#include <functional>
#include <utility>

namespace mcbpd {
namespace {

// The protocol's rule: up to 30 days it counts from now, beyond that it is a date.
constexpr uint32_t kLongestRelative = 60 * 60 * 24 * 30;
constexpr size_t kMaxDigits = 20;

time_t absolute(uint32_t exptime, time_t now) {
    if (exptime == 0) {
        return 0;
    }
    return exptime <= kLongestRelative ? now + exptime : static_cast<time_t>(exptime);
}

bool conflicts(uint64_t asked, uint64_t found) {
    return asked != 0 && asked != found;
}

std::optional<uint64_t> parse_number(std::string_view text) {
    uint64_t number = 0;
    const char* end = text.data() + text.size();
    const auto result = std::from_chars(text.data(), end, number);
    if (result.ec != std::errc() || result.ptr != end) {
        return std::nullopt;
    }
    return number;
}

// Up wraps around at 64 bits, down stops at zero: so says the protocol.
uint64_t apply(const Store::Delta& delta, uint64_t number) {
    if (delta.direction == Store::Direction::up) {
        return number + delta.amount;
    }
    return number > delta.amount ? number - delta.amount : 0;
}

ItemPtr make_number(std::string_view key, uint32_t flags, uint64_t cas, uint64_t number) {
    std::array<char, kMaxDigits> digits{};
    const char* end = std::to_chars(digits.begin(), digits.end(), number).ptr;
    return Item::make(key, flags, cas, {digits.data(), static_cast<size_t>(end - digits.data())});
}

}  // namespace

Store::Store() {
    detach();
}

ItemPtr Store::get(std::string_view key, std::optional<uint32_t> exptime) {
    const time_t now = std::time(nullptr);
    Shard& shard = shard_of(key);
    const std::lock_guard lock(shard.mutex);
    Entry* entry = find(shard, key, now);
    if (entry == nullptr) {
        return {};
    }
    if (exptime) {
        entry->expires = absolute(*exptime, now);
    }
    return entry->item;
}

Store::Stored Store::put(Mode mode, std::string_view key, std::string_view value, uint32_t flags,
                         uint32_t exptime, uint64_t cas) {
    const time_t now = std::time(nullptr);
    ItemPtr item = Item::make(key, flags, next_cas(), value);
    if (!item) {
        return {Status::out_of_memory};
    }
    Shard& shard = shard_of(key);
    const std::lock_guard lock(shard.mutex);
    const Entry* old = find(shard, key, now);
    if (old == nullptr && (mode == Mode::replace || cas != 0)) {
        return {Status::not_found};
    }
    if (old != nullptr && (mode == Mode::add || conflicts(cas, old->item->cas()))) {
        return {Status::exists};
    }
    const uint64_t new_cas = item->cas();
    insert(shard, {std::move(item), absolute(exptime, now), now});
    return {Status::ok, new_cas};
}

Store::Stored Store::extend(Side side, std::string_view key, std::string_view more, uint64_t cas) {
    const time_t now = std::time(nullptr);
    Shard& shard = shard_of(key);
    const std::lock_guard lock(shard.mutex);
    const Entry* old = find(shard, key, now);
    if (old == nullptr) {
        return {Status::not_stored};
    }
    if (conflicts(cas, old->item->cas())) {
        return {Status::exists};
    }
    std::string_view head = old->item->value();
    std::string_view tail = more;
    if (side == Side::front) {
        std::swap(head, tail);
    }
    ItemPtr item = Item::make(key, old->item->flags(), next_cas(), head, tail);
    if (!item) {
        return {Status::out_of_memory};
    }
    const uint64_t new_cas = item->cas();
    insert(shard, {std::move(item), old->expires, now});
    return {Status::ok, new_cas};
}

Store::Counted Store::count(std::string_view key, const Delta& delta, uint64_t cas) {
    const time_t now = std::time(nullptr);
    Shard& shard = shard_of(key);
    const std::lock_guard lock(shard.mutex);
    const Entry* old = find(shard, key, now);
    if (old == nullptr && delta.exptime == mcbp::kDoNotCreate) {
        return {Status::not_found};
    }
    if (old != nullptr && conflicts(cas, old->item->cas())) {
        return {Status::exists};
    }
    const auto number = old == nullptr ? delta.initial : parse_number(old->item->value());
    if (!number) {
        return {Status::not_a_number};
    }
    const uint64_t value = old == nullptr ? *number : apply(delta, *number);
    const uint32_t flags = old == nullptr ? 0 : old->item->flags();
    const time_t expires = old == nullptr ? absolute(delta.exptime, now) : old->expires;
    ItemPtr item = make_number(key, flags, next_cas(), value);
    if (!item) {
        return {Status::out_of_memory};
    }
    const uint64_t new_cas = item->cas();
    insert(shard, {std::move(item), expires, now});
    return {Status::ok, new_cas, value};
}

Status Store::remove(std::string_view key, uint64_t cas) {
    Shard& shard = shard_of(key);
    const std::lock_guard lock(shard.mutex);
    const Entry* entry = find(shard, key, std::time(nullptr));
    if (entry == nullptr) {
        return Status::not_found;
    }
    if (conflicts(cas, entry->item->cas())) {
        return Status::exists;
    }
    shard.entries.erase(shard.entries.find(key));
    return Status::ok;
}

void Store::flush(uint32_t exptime) {
    if (exptime != 0) {
        flush_at_ = absolute(exptime, std::time(nullptr));
        return;
    }
    for (Shard& shard : shards_) {
        const std::lock_guard lock(shard.mutex);
        shard.entries.clear();
    }
}

BucketPtr Store::detach() {
    BucketPtr old;
    const auto fresh = std::make_shared<Bucket>();
    flush_at_ = 0;
    for (Shard& shard : shards_) {
        Entries entries;
        const std::lock_guard lock(shard.mutex);
        entries.swap(shard.entries);
        old = std::exchange(shard.bucket, fresh);
    }
    return old;
}

Store::Shard& Store::shard_of(std::string_view key) {
    return shards_[std::hash<std::string_view>{}(key) % shards_.size()];
}

Store::Entry* Store::find(Shard& shard, std::string_view key, time_t now) const {
    const auto found = shard.entries.find(key);
    if (found == shard.entries.end()) {
        return nullptr;
    }
    if (is_dead(found->second, now)) {
        shard.entries.erase(found);
        return nullptr;
    }
    return &found->second;
}

bool Store::is_dead(const Entry& entry, time_t now) const {
    const time_t flush_at = flush_at_.load(std::memory_order_relaxed);
    const bool expired = entry.expires != 0 && entry.expires <= now;
    const bool flushed = flush_at != 0 && flush_at <= now && entry.stored < flush_at;
    return expired || flushed;
}

void Store::insert(Shard& shard, Entry entry) {
    // Here, so that no item of a bucket is stored after the shard was detached from it.
    entry.item.get()->join(shard.bucket);
    const std::string_view key = entry.item->key();
    const auto found = shard.entries.find(key);
    if (found == shard.entries.end()) {
        shard.entries.emplace(key, std::move(entry));
        return;
    }
    // The key must move to the new item's memory before the old item goes.
    auto node = shard.entries.extract(found);
    node.key() = key;
    node.mapped() = std::move(entry);
    shard.entries.insert(std::move(node));
}

}  // namespace mcbpd
