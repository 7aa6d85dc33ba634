// sendq releases what it no longer needs, and does not list what it holds: that is listed here, as
// where in the stream the last value that was borrowed from a bucket ends.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "item.h"

namespace mcbpd {

class Borrowed {
  public:
    // A value of that item is borrowed until so much of the stream has been sent.
    void add(const Item& item, uint64_t until, uint64_t sent) {
        if (ends_.empty() || ends_.back().bucket != item.bucket()) {
            const auto is_over = [&](const End& end) { return end.until <= sent; };
            ends_.erase(std::remove_if(ends_.begin(), ends_.end(), is_over), ends_.end());
            ends_.push_back({item.bucket(), until});
        }
        ends_.back().until = until;
    }
    bool holds(const Bucket& bucket, uint64_t sent) const {
        return std::any_of(ends_.begin(), ends_.end(), [&](const End& end) {
            return end.bucket == &bucket && end.until > sent;
        });
    }
    void clear() { ends_.clear(); }

  private:
    struct End {
        const Bucket* bucket;  // to compare, for it may be gone once its values have left
        uint64_t until;
    };
    std::vector<End> ends_;
};

}  // namespace mcbpd
