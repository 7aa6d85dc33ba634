#include "output_sendq.h"

#include <algorithm>

namespace mcbpd {

bool SendqOutput::holds(const Bucket& bucket) const {
    const uint64_t sent = sendq_sent_bytes(queue_);
    return std::any_of(borrowed_.begin(), borrowed_.end(), [&](const Borrowed& borrowed) {
        return borrowed.bucket == &bucket && borrowed.until > sent;
    });
}

void SendqOutput::will_borrow(const Item& item) {
    const size_t bytes = item.value().size();
    if (bytes < kCopyBelow) {
        return;
    }
    const uint64_t sent = sendq_sent_bytes(queue_);
    const uint64_t until = sent + sendq_queued_bytes(queue_) + bytes;
    if (borrowed_.empty() || borrowed_.back().bucket != item.bucket()) {
        const auto has_left = [&](const Borrowed& borrowed) { return borrowed.until <= sent; };
        borrowed_.erase(std::remove_if(borrowed_.begin(), borrowed_.end(), has_left),
                        borrowed_.end());
        borrowed_.push_back({item.bucket(), until});
    }
    borrowed_.back().until = until;
}

}  // namespace mcbpd
