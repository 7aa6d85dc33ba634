// What the output paths through sendq have in common: all but how a value gets into the queue.
#pragma once

#include <sendq/openssl.h>

#include <cerrno>
#include <chrono>
#include <memory>
#include <sendq/sendq.hpp>
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
    SendqOutput(const sendq::pool& pool, const Limits& limits, OutputOwner& owner);

    void copy(std::string_view bytes) final {
        append(bytes.size(),
               [&] { return sendq_append(queue_.get(), bytes.data(), bytes.size()); });
    }

    Flushed flush(Transport& transport) override {
        return flushed(error_ != 0 ? -error_ : flush_to(transport));
    }
    Flushed close(Transport& transport) override {
        SSL* tls = transport.tls();
        return tls != nullptr ? flushed(sendq_ssl_close(queue_.get(), tls)) : Flushed{};
    }

    size_t pending() const final { return queue_.queued_bytes(); }
    bool is_high() const final { return is_high_; }
    std::chrono::nanoseconds stalled_for() const final { return queue_.stalled(); }
    std::string describe(int fd) const final { return queue_.stats_json(fd); }
    bool holds(const Bucket& bucket) const final;

  protected:
    sendq_t* queue() const { return queue_.get(); }

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
        if ((result & SENDQ_WAKE) != 0) {
            wake();
        }
        return true;
    }

    // Bytes wait again. All but one path flush when their connection's turn is over.
    virtual void wake() {}
    // Why it takes no more, or 0.
    int error() const { return error_; }
    void fail(int error) { error_ = error; }
    void resume() { is_high_ = false; }

    // The value of that item is to be appended next, without copying it.
    void will_borrow(const Item& item);

  private:
    int flush_to(Transport& transport) {
        SSL* tls = transport.tls();
        return tls != nullptr ? sendq_ssl_flush(queue_.get(), tls, kFlushBudget)
                              : sendq_flush(queue_.get(), transport.fd(), kFlushBudget);
    }
    // What sendq's result means.
    Flushed flushed(int result) {
        if (result < 0) {
            return {Flushed::State::failed, -result};
        }
        is_high_ = is_high_ && (result & SENDQ_RESUME) == 0;
        if ((result & (SENDQ_BLOCKED | SENDQ_WANT_READ)) != 0) {
            return {Flushed::State::blocked};
        }
        if ((result & SENDQ_MORE) != 0) {
            return {Flushed::State::more};
        }
        return {};
    }
    void discard() final;
    bool make_room(size_t bytes);
    SendqOutput* heaviest_of_pool() const;

    // sendq releases what it no longer needs, and does not list what it holds: that is listed here,
    // as where in the stream the last value that was borrowed from a bucket ends.
    struct Borrowed {
        const Bucket* bucket;  // to compare, for it may be gone once its values have left
        uint64_t until;
    };

    const Limits& limits_;
    const sendq::pool& pool_;
    sendq::queue queue_;
    int error_ = 0;
    bool is_high_ = false;
    std::vector<Borrowed> borrowed_;
};

template <class SomeOutput>
class SendqPath final : public OutputPath {
  public:
    explicit SendqPath(const Limits& limits)
        : limits_(limits), pool_(sendq::pool::create(config_of(limits)).or_throw()) {}

    std::unique_ptr<Output> open(OutputOwner& owner) override {
        return std::make_unique<SomeOutput>(pool_, limits_, owner);
    }

  private:
    static sendq::pool_config config_of(const Limits& limits) {
        sendq::pool_config config;
        config.max_bytes = limits.budget;
        config.now = limits.now;
        return config;
    }

    const Limits limits_;
    const sendq::pool pool_;
};

}  // namespace mcbpd
