// sendq in the place of a bufferevent's output: it writes by itself, at the end of the event loop's
// turn, and waits for the socket only while that is full.
#include <sendq/libevent.h>

#include <memory>
#include <new>

#include "append_item.h"
#include "output_sendq.h"

namespace mcbpd {
namespace {

class SendqLibeventOutput final : public SendqOutput {
  public:
    SendqLibeventOutput(const sendq::pool& pool, const Limits& limits, OutputOwner& owner)
        : SendqOutput(pool, limits, owner) {
        const Transport& transport = owner.transport();
        sendq_bev_t* stream = nullptr;
        if (sendq_bev_attach(owner.base(), transport.fd(), 0, queue(), &stream) < 0) {
            throw std::bad_alloc();
        }
        stream_.reset(stream);
        if (SSL* tls = transport.tls()) {
            sendq_bev_set_writer(stream, sendq_ssl_write, tls);
        }
        sendq_bev_set_max_single_write(stream, kFlushBudget);
        sendq_bev_setwatermark(stream, limits.low, limits.high, limits.cap);
        sendq_bev_setcb(stream, on_written, on_end, this);
    }

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
    // No more than the low watermark waits.
    static void on_written(sendq_bev_t* /*stream*/, void* self) {
        auto* output = static_cast<SendqLibeventOutput*>(self);
        output->resume();
        output->owner().output_progressed();
    }

    static void on_end(sendq_bev_t* /*stream*/, short /*what*/, void* self) {
        auto* output = static_cast<SendqLibeventOutput*>(self);
        output->fail(EVUTIL_SOCKET_ERROR());
        output->owner().output_progressed();
    }

    void wake() override { sendq_bev_wake(stream_.get(), SENDQ_WAKE); }

    struct FreeStream {
        void operator()(sendq_bev_t* stream) const { sendq_bev_free(stream); }
    };
    std::unique_ptr<sendq_bev_t, FreeStream> stream_;  // goes before the queue
};

}  // namespace

std::unique_ptr<OutputPath> make_sendq_libevent_path(const Limits& limits) {
    return std::make_unique<SendqPath<SendqLibeventOutput>>(limits);
}

}  // namespace mcbpd
