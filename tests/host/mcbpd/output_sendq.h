// What the output paths through sendq have in common: all but how a value gets into the queue.
#pragma once

#include "borrowed.h"
#include "sendq_host.h"

namespace mcbpd {

class SendqOutput : public PiecewiseOutput {
  public:
    SendqOutput(const sendq::pool& pool, const Limits& limits, OutputOwner& owner);

    void copy(std::string_view bytes) final {
        append(bytes.size(),
               [&] { return sendq_append(queue_.get(), bytes.data(), bytes.size()); });
    }

    Flushed flush(Transport& transport) override {
        const int result = error_ != 0 ? -error_ : flush_queue(queue_.get(), transport);
        is_high_ = is_high_ && (result & SENDQ_RESUME) == 0;
        return flushed(result);
    }
    Flushed close(Transport& transport) override {
        return flushed(close_queue(queue_.get(), transport));
    }

    size_t pending() const final { return queue_.queued_bytes(); }
    bool is_high() const final { return is_high_; }
    std::chrono::nanoseconds stalled_for() const final { return queue_.stalled(); }
    std::string describe(int fd) const final { return queue_.stats_json(fd); }
    bool holds(const Bucket& bucket) const final {
        return borrowed_.holds(bucket, queue_.sent_bytes());
    }

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
    void discard() final;
    bool make_room(size_t bytes);
    SendqOutput* heaviest_of_pool() const;

    const Limits& limits_;
    const sendq::pool& pool_;
    sendq::queue queue_;
    int error_ = 0;
    bool is_high_ = false;
    Borrowed borrowed_;
};

template <class SomeOutput>
class SendqPath final : public OutputPath {
  public:
    explicit SendqPath(const Limits& limits) : limits_(limits), pool_(make_pool(limits)) {}

    std::unique_ptr<Output> open(OutputOwner& owner) override {
        return std::make_unique<SomeOutput>(pool_, limits_, owner);
    }

  private:
    const Limits limits_;
    const sendq::pool pool_;
};

}  // namespace mcbpd
