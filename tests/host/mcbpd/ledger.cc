#include "ledger.h"

#include <algorithm>

namespace mcbpd {

LedgerOutput& Ledger::heaviest() const {
    return **std::max_element(
        outputs_.begin(), outputs_.end(),
        [](const LedgerOutput* a, const LedgerOutput* b) { return a->waiting_ < b->waiting_; });
}

LedgerOutput::LedgerOutput(Ledger& ledger, OutputOwner& owner) : Output(owner), ledger_(ledger) {
    ledger_.outputs_.push_front(this);
    place_ = ledger_.outputs_.begin();
}

LedgerOutput::~LedgerOutput() {
    take_off(waiting_);
    ledger_.outputs_.erase(place_);
}

std::chrono::nanoseconds LedgerOutput::stalled_for() const {
    return waiting_ == 0 ? std::chrono::nanoseconds(0) : CoarseClock::now() - progress_at_;
}

std::string LedgerOutput::describe(int /*fd*/) const {
    return "{\"output\": \"" + ledger_.path_ + "\", \"waiting\": " + std::to_string(waiting_) +
           ", \"sent\": " + std::to_string(sent_) +
           ", \"stalled_ns\": " + std::to_string(stalled_for().count()) + "}";
}

void LedgerOutput::discard() {
    is_cut_ = true;
    take_off(waiting_);
    clear();
}

bool LedgerOutput::admit_over_limit(size_t bytes) {
    if (is_cut_) {
        return false;
    }
    if (bytes > ledger_.limits_.cap - waiting_) {
        cut(OutputOwner::Cut::over_cap);
        return false;
    }
    if (!make_room(bytes)) {
        cut(OutputOwner::Cut::heaviest);
        return false;
    }
    count(bytes);
    return true;
}

// Each that is cut holds nothing any more, so there is an end to it.
bool LedgerOutput::make_room(size_t bytes) {
    if (bytes > ledger_.limits_.budget - waiting_) {
        return false;  // if it were alone
    }
    while (ledger_.is_over_budget(bytes)) {
        LedgerOutput& heaviest = ledger_.heaviest();
        if (&heaviest == this) {
            return false;
        }
        heaviest.cut(OutputOwner::Cut::heaviest);
    }
    return true;
}

}  // namespace mcbpd
