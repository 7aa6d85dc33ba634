// sendq's copy mode: every piece is copied, a batch is flushed at once.
#include "output_sendq.h"

namespace mcbpd {
namespace {

class SendqCopyOutput final : public SendqOutput {
  public:
    using SendqOutput::SendqOutput;

    void value(ItemPtr item) override { copy(item->value()); }
};

}  // namespace

std::unique_ptr<OutputPath> make_sendq_copy_path(const Limits& limits) {
    return std::make_unique<SendqPath<SendqCopyOutput>>(limits);
}

}  // namespace mcbpd
