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

std::chrono::nanoseconds SendqOutput::stalled_for() const {
    return pending() == 0 ? std::chrono::nanoseconds(0) : CoarseClock::now() - progress_at_;
}

std::string SendqOutput::describe(int /*fd*/) const {
    return "{\"waiting\": " + std::to_string(pending()) +
           ", \"sent\": " + std::to_string(sendq_sent_bytes(queue_)) +
           ", \"stalled_ns\": " + std::to_string(stalled_for().count()) + "}";
}

void SendqOutput::discard() {
    error_ = ENOBUFS;
    borrowed_.clear();
    sendq_discard(queue_);
}

// For that many bytes, which were refused, by giving up what other connections have waiting. False
// when that is not to be: the output is cut then.
bool SendqOutput::make_room(size_t bytes) {
    const bool over_cap = bytes > limits_.cap - sendq_queued_bytes(queue_);
    cut(over_cap ? OutputOwner::Cut::over_cap : OutputOwner::Cut::heaviest);
    return false;
}

}  // namespace mcbpd
