// The old path sends. The same is appended to sendq, which compares it with what was sent. A
// difference is reported, and the connection goes on without its shadow.
#include <cstring>
#include <string>

#include "append_item.h"
#include "fault.h"
#include "iovec_output.h"
#include "sendq_accounts.h"

namespace mcbpd {
namespace {

class ShadowOutput : public IovecOutput {
  public:
    ShadowOutput(SendqAccounts& accounts, OutputOwner& owner)
        : IovecOutput(accounts, owner), queue_(accounts.open_queue()) {}

    void copy(std::string_view bytes) override {
        if (add(bytes) && queue_) {
            check(sendq_append(queue_.get(), bytes.data(), bytes.size()));
        }
    }

    void value(ItemPtr item) override {
        ItemPtr same = item;
        if (add(std::move(item)) && queue_) {
            check(append_item(same, queue_.get()));
        }
    }

  protected:
    ssize_t send(Transport& transport, const msghdr& message) override {
        const ssize_t sent = transport.send(message);
        if (sent > 0 && queue_) {
            compare(message, static_cast<size_t>(sent));
        }
        return sent;
    }

  private:
    void compare(const msghdr& message, size_t bytes) {
        uint64_t differs_at = 0;
        const int count = static_cast<int>(message.msg_iovlen);
        const int result = sendq_verify(queue_.get(), message.msg_iov, count, bytes, &differs_at);
        if (result == -EILSEQ) {
            stop("sendq would not have sent what was sent as byte " + std::to_string(differs_at));
        } else {
            check(result);
        }
    }

    // Whatever is wrong with the shadow, the connection does not suffer for it.
    void check(int result) {
        if (result < 0) {
            stop(std::strerror(-result));
        }
    }

    void stop(const std::string& why) {
        queue_.reset();
        owner().output_warns("no shadow any more: " + why);
    }

    void clear() override {
        IovecOutput::clear();
        queue_.reset();
    }

    sendq::queue queue_;
};

// For the tests: what is sent has the mistake that --plant asks for, and the shadow is to find it.
class FaultyOutput final : public ShadowOutput {
  public:
    FaultyOutput(SendqAccounts& accounts, OutputOwner& owner)
        : ShadowOutput(accounts, owner), fault_(accounts.limits().plant) {}

  private:
    ssize_t send(Transport& transport, const msghdr& message) override {
        return fault_.commit(message, transport.promised(), [&](const msghdr& faulty) {
            return ShadowOutput::send(transport, faulty);
        });
    }

    Fault fault_;
};

}  // namespace

std::unique_ptr<OutputPath> make_shadow_path(const Limits& limits) {
    return std::make_unique<AccountedPath<FaultyOutput, SendqAccounts>>("shadow", limits);
}

}  // namespace mcbpd
