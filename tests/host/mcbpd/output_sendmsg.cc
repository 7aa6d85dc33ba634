// The path that is to be replaced: sendmsg(2) by hand, or one SSL_write(3) for each piece.
#include "iovec_output.h"

namespace mcbpd {
namespace {

class SendmsgOutput final : public IovecOutput {
  public:
    using IovecOutput::IovecOutput;

  private:
    ssize_t send(Transport& transport, const msghdr& message) override {
        return transport.send(message);
    }
};

}  // namespace

std::unique_ptr<OutputPath> make_sendmsg_path(const Limits& limits) {
    return std::make_unique<AccountedPath<SendmsgOutput>>("sendmsg", limits);
}

}  // namespace mcbpd
