// The items by key. Any thread may call anything.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <ctime>
#include <mutex>
#include <optional>
#include <string_view>
#include <unordered_map>

#include "../protocol.h"
#include "bucket.h"
#include "item.h"

namespace mcbpd {

using mcbp::Status;

class Store {
  public:
    enum class Mode { set, add, replace };
    enum class Side { front, back };
    enum class Direction { up, down };

    struct Stored {
        Status status = Status::ok;
        uint64_t cas = 0;
    };
    struct Counted {
        Status status = Status::ok;
        uint64_t cas = 0;
        uint64_t value = 0;
    };
    struct Delta {
        Direction direction = Direction::up;
        uint64_t amount = 0;
        uint64_t initial = 0;
        uint32_t exptime = 0;
    };

    Store();

    // A request's cas of 0 asks for no comparison; a new exptime, where given, replaces the old.
    ItemPtr get(std::string_view key, std::optional<uint32_t> exptime = {});
    Stored put(Mode mode, std::string_view key, std::string_view value, uint32_t flags,
               uint32_t exptime, uint64_t cas);
    Stored extend(Side side, std::string_view key, std::string_view more, uint64_t cas);
    Counted count(std::string_view key, const Delta& delta, uint64_t cas);
    Status remove(std::string_view key, uint64_t cas);
    void flush(uint32_t exptime);
    // Ends the contents. Of the bucket that is returned, only what is being sent is left.
    BucketPtr detach();

  private:
    struct Entry {
        ItemPtr item;
        time_t expires = 0;  // 0: never
        time_t stored = 0;
    };
    // Each key is the entry's own item's, so that an entry costs no copy of it.
    using Entries = std::unordered_map<std::string_view, Entry>;
    struct Shard {
        std::mutex mutex;
        Entries entries;
        BucketPtr bucket;  // of all entries
    };

    Shard& shard_of(std::string_view key);
    Entry* find(Shard& shard, std::string_view key, time_t now) const;
    bool is_dead(const Entry& entry, time_t now) const;
    static void insert(Shard& shard, Entry entry);
    uint64_t next_cas() { return last_cas_.fetch_add(1, std::memory_order_relaxed) + 1; }

    std::array<Shard, 64> shards_;
    std::atomic<uint64_t> last_cas_{0};
    std::atomic<time_t> flush_at_{0};  // 0: no flush is due; what was stored before it dies then
};

}  // namespace mcbpd
