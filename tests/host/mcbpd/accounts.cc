#include "accounts.h"

#include <algorithm>

namespace mcbpd {

AccountedOutput& Accounts::heaviest() const {
    return **std::max_element(outputs_.begin(), outputs_.end(),
                              [](const AccountedOutput* a, const AccountedOutput* b) {
                                  return a->waiting_ < b->waiting_;
                              });
}

AccountedOutput::AccountedOutput(Accounts& accounts, OutputOwner& owner)
    : PiecewiseOutput(owner), accounts_(accounts) {
    accounts_.outputs_.push_front(this);
    place_ = accounts_.outputs_.begin();
}

AccountedOutput::~AccountedOutput() {
    take_off(waiting_);
    accounts_.outputs_.erase(place_);
}

std::chrono::nanoseconds AccountedOutput::stalled_for() const {
    return waiting_ == 0 ? std::chrono::nanoseconds(0) : CoarseClock::now() - progress_at_;
}

std::string AccountedOutput::describe(int /*fd*/) const {
    return "{\"output\": \"" + accounts_.path_ + "\", \"waiting\": " + std::to_string(waiting_) +
           ", \"sent\": " + std::to_string(sent_) +
           ", \"stalled_ns\": " + std::to_string(stalled_for().count()) + "}";
}

void AccountedOutput::discard() {
    is_cut_ = true;
    take_off(waiting_);
    clear();
}

bool AccountedOutput::admit_over_limit(size_t bytes) {
    if (is_cut_) {
        return false;
    }
    if (bytes > accounts_.limits_.cap - waiting_) {
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
bool AccountedOutput::make_room(size_t bytes) {
    if (bytes > accounts_.limits_.budget - waiting_) {
        return false;  // if it were alone
    }
    while (accounts_.is_over_budget(bytes)) {
        AccountedOutput& heaviest = accounts_.heaviest();
        if (&heaviest == this) {
            return false;
        }
        heaviest.cut(OutputOwner::Cut::heaviest);
    }
    return true;
}

}  // namespace mcbpd
