// sendq_sendmsg in place of sendmsg(2). It takes everything, or nothing for now, so that what is
// left of the old bookkeeping is never used.
#include "iovec_output.h"
#include "sendq_accounts.h"

namespace mcbpd {
namespace {

class SendqSendmsgOutput final : public IovecOutput {
  public:
    SendqSendmsgOutput(SendqAccounts& accounts, OutputOwner& owner)
        : IovecOutput(accounts, owner), queue_(accounts.open_queue()) {}

    Flushed flush(Transport& transport) override {
        // What was taken and waits is flushed by sendq_sendmsg, when there is more to send.
        if (!is_listed() && !is_cut() &&
            sendq_flush(queue_.get(), transport.fd(), kFlushBudget) < 0) {
            return {Flushed::State::failed, -sendq_error(queue_.get())};
        }
        const Flushed flushed = IovecOutput::flush(transport);
        if (flushed.state == Flushed::State::done && pending() > 0) {
            return {Flushed::State::blocked};
        }
        return flushed;
    }

  private:
    ssize_t send(Transport& transport, const msghdr& message) override {
        return sendq_sendmsg(queue_.get(), transport.fd(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    size_t taken_unsent() const override { return sendq_queued_bytes(queue_.get()); }
    void clear() override {
        IovecOutput::clear();
        sendq_discard(queue_.get());
    }

    sendq::queue queue_;
};

}  // namespace

std::unique_ptr<OutputPath> make_sendq_sendmsg_path(const Limits& limits) {
    return std::make_unique<AccountedPath<SendqSendmsgOutput, SendqAccounts>>("sendq-sendmsg",
                                                                              limits);
}

}  // namespace mcbpd
