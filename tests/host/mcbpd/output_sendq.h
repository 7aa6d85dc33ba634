// What the output paths through sendq have in common: all but how a value gets into the queue.
#pragma once

#include <sendq/sendq.h>

#include <cerrno>
#include <chrono>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include "output.h"

namespace mcbpd {

// Values shorter than this are not worth a borrow. sendq's default, said here because holds() must
// know it.
constexpr size_t kCopyBelow = 4096;

class SendqOutput : public Output {
  public:
    SendqOutput(sendq_pool_t* pool, const Limits& limits, OutputOwner& owner)
        : Output(owner), limits_(limits), pool_(pool) {
        sendq_config_t config{};
        config.size = sizeof config;
        config.user = this;
        config.copy_below = kCopyBelow;
        config.low = limits.low;
        config.high = limits.high;
        config.max = limits.cap;
        if (sendq_new(pool, &config, &queue_) < 0) {
            throw std::bad_alloc();
        }
        const auto window = static_cast<uint64_t>(limits.min_rate_window.count());
        if (sendq_set_min_rate(queue_, limits.min_rate, window) < 0) {
            sendq_free(queue_);
            throw std::bad_alloc();
        }
    }
    ~SendqOutput() override { sendq_free(queue_); }

    void copy(std::string_view bytes) final {
        append(bytes.size(), [&] { return sendq_append(queue_, bytes.data(), bytes.size()); });
    }

    Flushed flush(int fd) final {
        const int result = error_ != 0 ? -error_ : sendq_flush(queue_, fd, kFlushBudget);
        if (result < 0) {
            return {Flushed::State::failed, -result};
        }
        is_high_ = is_high_ && (result & SENDQ_RESUME) == 0;
        if ((result & SENDQ_BLOCKED) != 0) {
            return {Flushed::State::blocked};
        }
        if ((result & SENDQ_MORE) != 0) {
            return {Flushed::State::more};
        }
        return {};
    }

    size_t pending() const final { return sendq_queued_bytes(queue_); }
    bool is_high() const final { return is_high_; }
    std::chrono::nanoseconds stalled_for() const final {
        return std::chrono::nanoseconds(sendq_stalled_ns(queue_));
    }
    std::string describe(int fd) const final;
    bool holds(const Bucket& bucket) const final;

  protected:
    sendq_t* queue() const { return queue_; }

    // Whether that many bytes were taken by an append, which gives sendq's result.
    template <class Append>
    bool append(size_t bytes, Append append) {
        int result = error_ != 0 ? -error_ : append();
        while (result == -ENOBUFS && make_room(bytes)) {
            result = append();
        }
        if (result < 0) {
            error_ = -result;
            return false;
        }
        is_high_ = is_high_ || (result & SENDQ_HIGH) != 0;
        return true;
    }

    // The value of that item is to be appended next, without copying it.
    void will_borrow(const Item& item);

  private:
    void discard() final;
    bool make_room(size_t bytes);
    SendqOutput* heaviest_of_pool() const;

    // sendq tells the owner of what it gives back, not of what it keeps: that is kept here, as
    // where in the stream the last value that was borrowed from a bucket ends.
    struct Borrowed {
        const Bucket* bucket;  // to compare, for it may be gone once its values have left
        uint64_t until;
    };

    const Limits& limits_;
    sendq_pool_t* const pool_;
    sendq_t* queue_ = nullptr;
    int error_ = 0;
    bool is_high_ = false;
    std::vector<Borrowed> borrowed_;
};

template <class SomeOutput>
class SendqPath final : public OutputPath {
  public:
    explicit SendqPath(const Limits& limits) : limits_(limits) {
        sendq_pool_config_t config{};
        config.size = sizeof config;
        config.max_bytes = limits.budget;
        if (sendq_pool_new(&config, &pool_) < 0) {
            throw std::bad_alloc();
        }
    }
    ~SendqPath() override { sendq_pool_free(pool_); }

    std::unique_ptr<Output> open(OutputOwner& owner) override {
        return std::make_unique<SomeOutput>(pool_, limits_, owner);
    }

  private:
    const Limits limits_;
    sendq_pool_t* pool_ = nullptr;
};

}  // namespace mcbpd
