// Each response is one message, and what there is to send is flushed once a turn of the event loop.
#include "borrowed.h"
#include "sendq_host.h"

namespace mcbpd {
namespace {

class SendqMessageOutput final : public Output {
  public:
    SendqMessageOutput(const sendq::pool& pool, const Limits& limits, OutputOwner& owner)
        : Output(owner),
          pool_(pool),
          limits_(limits),
          queue_(make_queue(pool, limits, this, SENDQ_MESSAGES)) {}

    void respond(std::string_view head, std::string_view value, ItemPtr item) override {
        const sendq_part_t parts[] = {sendq_part_copy(head.data(), head.size()),
                                      item ? sendq_part_ref(value.data(), value.size())
                                           : sendq_part_copy(value.data(), value.size())};
        if (item && value.size() >= kCopyBelow) {
            borrowed_.add(*item.get(), sent() + waiting() + 1, sent());
        }
        int result = 0;
        do {
            result = sendq_append_message(queue_.get(), parts, 2, release, item.get());
        } while (result == -ENOBUFS && make_room(head.size() + value.size()));
        if (result < 0) {
            sendq_fail(queue_.get(), result);
            return;
        }
        item.release();
        is_high_ = is_high_ || (result & SENDQ_HIGH) != 0;
    }

    // Left to the end of the turn, by sendq itself unless it has waited for the socket.
    Flushed flush(Transport& transport) override {
        if (pending() == 0) {
            // The event may be the kernel's, about values that it does not read any more.
            sendq_reap(queue_.get(), transport.fd());
            return flushed(sendq_error(queue_.get()));
        }
        if (is_blocked_) {
            sendq_schedule(queue_.get());
        }
        return {Flushed::State::later};
    }
    void flush_now() {
        const int result = flush_queue(queue_.get(), owner().transport());
        is_high_ = is_high_ && (result & SENDQ_RESUME) == 0;
        is_blocked_ = result > 0 && (result & (SENDQ_BLOCKED | SENDQ_WANT_READ)) != 0;
        owner().output_flushed(flushed(result));
    }
    Flushed close(Transport& transport) override {
        return flushed(close_queue(queue_.get(), transport));
    }

    size_t pending() const override { return queue_.queued_bytes(); }
    bool is_high() const override { return is_high_ || !has_room_for_message(); }
    std::chrono::nanoseconds stalled_for() const override { return queue_.stalled(); }
    std::string describe(int fd) const override {
        return "{\"queued_messages\":" + std::to_string(waiting()) +
               ",\"sent_messages\":" + std::to_string(sent()) + "," +
               queue_.stats_json(fd).substr(1);
    }
    bool holds(const Bucket& bucket) const override {
        return waiting() > 0 && borrowed_.holds(bucket, sent());
    }

  private:
    static void release(void* item, const void* /*data*/, size_t /*len*/, int /*reason*/) {
        ItemPtr::adopt(static_cast<Item*>(item));
    }

    uint64_t sent() const { return sendq_sent_messages(queue_.get()); }
    uint64_t waiting() const { return sendq_queued_messages(queue_.get()); }
    bool has_room_for_message() const {
        return limits_.messages == 0 || waiting() < limits_.messages;
    }
    void discard() override { sendq_fail(queue_.get(), -ENOBUFS); }
    // For so many bytes, which were refused: whoever holds most is given up, or this one is.
    bool make_room(size_t bytes) {
        const bool is_over_cap = bytes > limits_.cap - pending() || !has_room_for_message();
        sendq_t* heaviest[] = {queue_.get()};
        if (!is_over_cap && pending() + bytes <= limits_.budget) {
            pool_.heaviest(heaviest);
        }
        auto* heavy = static_cast<SendqMessageOutput*>(sendq_user(heaviest[0]));
        heavy->cut(is_over_cap ? OutputOwner::Cut::over_cap : OutputOwner::Cut::heaviest);
        return heavy != this;
    }

    const sendq::pool& pool_;
    const Limits& limits_;
    sendq::queue queue_;
    bool is_high_ = false;
    bool is_blocked_ = false;
    Borrowed borrowed_;
};

class SendqMessagePath final : public OutputPath {
  public:
    explicit SendqMessagePath(const Limits& limits) : limits_(limits), pool_(make_pool(limits)) {}

    std::unique_ptr<Output> open(OutputOwner& owner) override {
        return std::make_unique<SendqMessageOutput>(pool_, limits_, owner);
    }
    void end_turn() override {
        while (sendq_t* queue = sendq_pool_next(pool_.get())) {
            static_cast<SendqMessageOutput*>(sendq_user(queue))->flush_now();
        }
    }

  private:
    const Limits limits_;
    const sendq::pool pool_;
};

}  // namespace

std::unique_ptr<OutputPath> make_sendq_message_path(const Limits& limits) {
    return std::make_unique<SendqMessagePath>(limits);
}

}  // namespace mcbpd
