#include "output_sendq.h"

#include <algorithm>

namespace mcbpd {
namespace {

// More than it ever takes.
constexpr size_t kJsonBytes = 2048;

}  // namespace

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

std::string SendqOutput::describe(int fd) const {
    std::string json(kJsonBytes, '\0');
    const int bytes = sendq_stats_json(queue_, fd, json.data(), json.size());
    json.resize(static_cast<size_t>(std::clamp(bytes, 0, static_cast<int>(kJsonBytes) - 1)));
    return json;
}

void SendqOutput::discard() {
    error_ = ENOBUFS;
    borrowed_.clear();
    sendq_discard(queue_);
}

// For that many bytes, which were refused, by giving up what others have waiting. False when that
// is not to be: the output is cut then.
bool SendqOutput::make_room(size_t bytes) {
    const uint64_t waiting = sendq_queued_bytes(queue_);
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
    sendq_t* heaviest = nullptr;
    return sendq_pool_heaviest(pool_, &heaviest, 1) > 0
               ? static_cast<SendqOutput*>(sendq_user(heaviest))
               : nullptr;
}

}  // namespace mcbpd
