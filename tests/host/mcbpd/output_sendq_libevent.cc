// sendq in the place of a bufferevent's output, over TLS as well: it writes by itself, at the end
// of the event loop's turn, and waits for the socket only while that is full. The bufferevent and
// its callbacks stay.
#include <sendq/libevent.h>

#include <memory>
#include <new>

#include "append_item.h"
#include "bufferevent_stream.h"
#include "output_sendq.h"

namespace mcbpd {
namespace {

class SendqLibeventOutput final : public SendqOutput {
  public:
    SendqLibeventOutput(const sendq::pool& pool, const Limits& limits, OutputOwner& owner);

    void value(ItemPtr item) override {
        will_borrow(*item.get());
        append(item->value().size(), [&] { return append_item(item, queue()); });
    }

    Flushed flush(Transport& /*transport*/) override {
        if (error() != 0) {
            return {Flushed::State::failed, error()};
        }
        return {pending() > 0 ? Flushed::State::sending : Flushed::State::done};
    }

  private:
    static void on_written(bufferevent* stream, void* self);
    static void on_event(bufferevent* stream, short what, void* self);

    void wake() override { sendq_bev_wake(half_.get(), SENDQ_WAKE); }

    struct FreeHalf {
        void operator()(sendq_bev_t* half) const { sendq_bev_free(half); }
    };
    const BuffereventPtr stream_;
    std::unique_ptr<sendq_bev_t, FreeHalf> half_;  // goes before the bufferevent and the queue
};

SendqLibeventOutput::SendqLibeventOutput(const sendq::pool& pool, const Limits& limits,
                                         OutputOwner& owner)
    : SendqOutput(pool, limits, owner), stream_(open_stream(owner.base(), owner.transport())) {
    sendq_bev_t* half = nullptr;
    if (sendq_bev_attach_bufferevent(stream_.get(), queue(), &half) < 0) {
        throw std::bad_alloc();
    }
    half_.reset(half);
    sendq_bev_set_max_single_write(half, kFlushBudget);
    sendq_bev_setwatermark(half, limits.low, limits.high, limits.cap);
    bufferevent_setcb(stream_.get(), nullptr, on_written, on_event, this);
}

// No more than the low watermark waits.
void SendqLibeventOutput::on_written(bufferevent* /*stream*/, void* self) {
    auto* output = static_cast<SendqLibeventOutput*>(self);
    output->resume();
    output->owner().output_progressed();
}

void SendqLibeventOutput::on_event(bufferevent* /*stream*/, short /*what*/, void* self) {
    auto* output = static_cast<SendqLibeventOutput*>(self);
    output->fail(EVUTIL_SOCKET_ERROR());
    output->owner().output_progressed();
}

}  // namespace

std::unique_ptr<OutputPath> make_sendq_libevent_path(const Limits& limits) {
    return std::make_unique<SendqPath<SendqLibeventOutput>>(limits);
}

}  // namespace mcbpd
