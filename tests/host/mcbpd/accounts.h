// What sendq counts and limits for its queues, for the output paths without it.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <string_view>

#include "coarse_clock.h"
#include "limits.h"
#include "output.h"

namespace mcbpd {

class AccountedOutput;

// Of all outputs of a path.
class Accounts {
  public:
    Accounts(std::string_view path, const Limits& limits) : path_(path), limits_(limits) {}
    Accounts(const Accounts&) = delete;
    Accounts& operator=(const Accounts&) = delete;
    ~Accounts() = default;

    const Limits& limits() const { return limits_; }

  private:
    friend class AccountedOutput;

    bool is_over_budget(size_t more) const { return more > limits_.budget - waiting_; }
    AccountedOutput& heaviest() const;

    const std::string path_;
    const Limits limits_;
    size_t waiting_ = 0;
    std::list<AccountedOutput*> outputs_;
};

class AccountedOutput : public PiecewiseOutput {
  public:
    AccountedOutput(Accounts& accounts, OutputOwner& owner);
    ~AccountedOutput() override;

    size_t pending() const final { return waiting_; }
    bool is_high() const final { return is_high_; }
    std::chrono::nanoseconds stalled_for() const final;
    std::string describe(int fd) const final;

  protected:
    // Whether that many bytes more may wait: then they do. Others may be cut to make room for them,
    // or else the output itself is.
    bool admit(size_t bytes) {
        if (bytes > accounts_.limits_.cap - waiting_ || accounts_.is_over_budget(bytes) ||
            is_cut_) {
            return admit_over_limit(bytes);
        }
        count(bytes);
        return true;
    }
    // That many have been sent.
    void sent(size_t bytes) {
        take_off(bytes);
        sent_ += bytes;
        if (bytes > 0 && waiting_ > 0) {
            progress_at_ = CoarseClock::now();
        }
    }
    // To drop what waits.
    virtual void clear() = 0;
    bool is_cut() const { return is_cut_; }

  private:
    friend class Accounts;

    void discard() final;
    bool admit_over_limit(size_t bytes);
    bool make_room(size_t bytes);
    void count(size_t bytes) {
        if (waiting_ == 0) {
            progress_at_ = CoarseClock::now();
        }
        waiting_ += bytes;
        accounts_.waiting_ += bytes;
        is_high_ = is_high_ || waiting_ >= accounts_.limits_.high;
    }
    void take_off(size_t bytes) {
        waiting_ -= bytes;
        accounts_.waiting_ -= bytes;
        is_high_ = is_high_ && waiting_ > accounts_.limits_.low;
    }

    Accounts& accounts_;
    size_t waiting_ = 0;
    uint64_t sent_ = 0;
    CoarseClock::time_point progress_at_;  // while bytes wait
    bool is_high_ = false;
    bool is_cut_ = false;
    std::list<AccountedOutput*>::iterator place_;
};

template <class SomeOutput, class SomeAccounts = Accounts>
class AccountedPath final : public OutputPath {
  public:
    AccountedPath(std::string_view name, const Limits& limits) : accounts_(name, limits) {}

    std::unique_ptr<Output> open(OutputOwner& owner) override {
        return std::make_unique<SomeOutput>(accounts_, owner);
    }

  private:
    SomeAccounts accounts_;
};

}  // namespace mcbpd
