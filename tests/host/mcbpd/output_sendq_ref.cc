// sendq's reference mode: as the copy mode, but values are sent from the item.
#include "output_sendq.h"

namespace mcbpd {
namespace {

class SendqRefOutput final : public SendqOutput {
  public:
    using SendqOutput::SendqOutput;

    void value(ItemPtr item) override {
        const std::string_view bytes = item->value();
        will_borrow(*item.get());
        const auto append_ref = [&] {
            return sendq_append_ref(queue(), bytes.data(), bytes.size(), give_back, item.get());
        };
        if (append(bytes.size(), append_ref)) {
            item.release();  // sendq's now, or given back already; else it is dropped here
        }
    }

  private:
    static void give_back(void* item, const void* /*data*/, size_t /*bytes*/, int /*reason*/) {
        ItemPtr::adopt(static_cast<Item*>(item));
    }
};

}  // namespace

std::unique_ptr<OutputPath> make_sendq_ref_path(const Limits& limits) {
    return std::make_unique<SendqPath<SendqRefOutput>>(limits);
}

}  // namespace mcbpd
