#include "output_sendq.h"

namespace mcbpd {

SendqOutput::SendqOutput(const sendq::pool& pool, const Limits& limits, OutputOwner& owner)
    : PiecewiseOutput(owner),
      limits_(limits),
      pool_(pool),
      queue_(make_queue(pool, limits, this)) {}

void SendqOutput::will_borrow(const Item& item) {
    const size_t bytes = item.value().size();
    if (bytes >= kCopyBelow) {
        const uint64_t sent = queue_.sent_bytes();
        borrowed_.add(item, sent + queue_.queued_bytes() + bytes, sent);
    }
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
