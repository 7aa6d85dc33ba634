// What the output paths through sendq have in common: all but how a value gets into the queue.
#pragma once

#include <sendq/sendq.h>

#include <memory>
#include <new>
#include <string_view>
#include <vector>

#include "output.h"

namespace mcbpd {

// Values shorter than this are not worth a borrow. sendq's default, said here because holds() must
// know it.
constexpr size_t kCopyBelow = 4096;

class SendqOutput : public Output {
  public:
    explicit SendqOutput(sendq_pool_t* pool) {
        sendq_config_t config{};
        config.size = sizeof config;
        config.copy_below = kCopyBelow;
        if (sendq_new(pool, &config, &queue_) < 0) {
            throw std::bad_alloc();
        }
    }
    ~SendqOutput() override { sendq_free(queue_); }

    void copy(std::string_view bytes) final {
        appended(sendq_append(queue_, bytes.data(), bytes.size()));
    }

    Flushed flush(int fd) final {
        const int result = error_ != 0 ? -error_ : sendq_flush(queue_, fd, kFlushBudget);
        if (result < 0) {
            return {Flushed::State::failed, -result};
        }
        if ((result & SENDQ_BLOCKED) != 0) {
            return {Flushed::State::blocked};
        }
        if ((result & SENDQ_MORE) != 0) {
            return {Flushed::State::more};
        }
        return {};
    }

    size_t pending() const final { return sendq_queued_bytes(queue_); }
    bool holds(const Bucket& bucket) const final;

  protected:
    sendq_t* queue() const { return queue_; }

    // Whether an append, which gave that result, has taken its piece.
    bool appended(int result) {
        if (result < 0 && error_ == 0) {
            error_ = -result;
        }
        return result >= 0;
    }

    // The value of that item is to be appended next, without copying it.
    void will_borrow(const Item& item);

  private:
    // sendq tells the owner of what it gives back, not of what it keeps: that is kept here, as
    // where in the stream the last value that was borrowed from a bucket ends.
    struct Borrowed {
        const Bucket* bucket;  // to compare, for it may be gone once its values have left
        uint64_t until;
    };

    sendq_t* queue_ = nullptr;
    int error_ = 0;
    std::vector<Borrowed> borrowed_;
};

template <class SomeOutput>
class SendqPath final : public OutputPath {
  public:
    SendqPath() {
        if (sendq_pool_new(nullptr, &pool_) < 0) {
            throw std::bad_alloc();
        }
    }
    ~SendqPath() override { sendq_pool_free(pool_); }

    std::unique_ptr<Output> open(const Socket& /*socket*/) override {
        return std::make_unique<SomeOutput>(pool_);
    }

  private:
    sendq_pool_t* pool_ = nullptr;
};

}  // namespace mcbpd
