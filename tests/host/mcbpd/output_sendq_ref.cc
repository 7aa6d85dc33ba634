// sendq's reference mode: as the copy mode, but values are sent from the item.
#include "append_item.h"
#include "output_sendq.h"

namespace mcbpd {
namespace {

class SendqRefOutput final : public SendqOutput {
  public:
    using SendqOutput::SendqOutput;

    void value(ItemPtr item) override {
        will_borrow(*item.get());
        append(item->value().size(), [&] { return append_item(item, queue()); });
    }
};

}  // namespace

std::unique_ptr<OutputPath> make_sendq_ref_path(const Limits& limits) {
    return std::make_unique<SendqPath<SendqRefOutput>>(limits);
}

}  // namespace mcbpd
