#include "output_sendq.h"

#include <algorithm>

namespace mcbpd {
namespace {

sendq::queue_config config_of(const Limits& limits, void* user) {
    sendq::queue_config config;
    config.user = user;
    config.copy_below = kCopyBelow;
    config.low = limits.low;
    config.high = limits.high;
    config.max = limits.cap;
    return config;
}

}  // namespace

SendqOutput::SendqOutput(const sendq::pool& pool, const Limits& limits, OutputOwner& owner)
    : Output(owner),
      limits_(limits),
      pool_(pool),
      queue_(sendq::queue::create(pool, config_of(limits, this)).or_throw()) {
    queue_.set_min_rate(limits.min_rate, limits.min_rate_window).or_throw();
}

bool SendqOutput::holds(const Bucket& bucket) const {
    const uint64_t sent = queue_.sent_bytes();
    return std::any_of(borrowed_.begin(), borrowed_.end(), [&](const Borrowed& borrowed) {
        return borrowed.bucket == &bucket && borrowed.until > sent;
    });
}

void SendqOutput::will_borrow(const Item& item) {
    const size_t bytes = item.value().size();
    if (bytes < kCopyBelow) {
        return;
    }
    const uint64_t sent = queue_.sent_bytes();
    const uint64_t until = sent + queue_.queued_bytes() + bytes;
    if (borrowed_.empty() || borrowed_.back().bucket != item.bucket()) {
        const auto has_left = [&](const Borrowed& borrowed) { return borrowed.until <= sent; };
        borrowed_.erase(std::remove_if(borrowed_.begin(), borrowed_.end(), has_left),
                        borrowed_.end());
        borrowed_.push_back({item.bucket(), until});
    }
    borrowed_.back().until = until;
}

void SendqOutput::discard() {
    error_ = ENOBUFS;
    borrowed_.clear();
    sendq_discard(queue_.get());
}

// For that many bytes, which were refused, by giving up what others have waiting. False when that
// is not to be: the output is cut then.
bool SendqOutput::make_room(size_t bytes) {
    const uint64_t waiting = queue_.queued_bytes();
    if (bytes > limits_.cap - waiting) {
        cut(OutputOwner::Cut::over_cap);
        return false;
    }
    SendqOutput* heaviest = nullptr;
    if (waiting + bytes <= limits_.budget) {  // else it would not do if it were alone
        heaviest = heaviest_of_pool();
    }
    if (heaviest == nullptr || heaviest == this || heaviest->error_ != 0) {
        cut(OutputOwner::Cut::heaviest);
        return false;
    }
    heaviest->cut(OutputOwner::Cut::heaviest);
    return true;
}

// Null if none holds anything.
SendqOutput* SendqOutput::heaviest_of_pool() const {
    sendq_t* heaviest[1] = {};
    return pool_.heaviest(heaviest) > 0 ? static_cast<SendqOutput*>(sendq_user(heaviest[0]))
                                        : nullptr;
}

}  // namespace mcbpd
