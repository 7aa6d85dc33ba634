#include "pushes.h"

#include <utility>

#include "front_end.h"

namespace mcbpd {

void Pushes::push(std::string text) {
    mailbox_.post([this, text = std::make_shared<const std::string>(std::move(text))] {
        for (const auto& front_end : front_ends_) {
            front_end->push(text);
        }
    });
}

}  // namespace mcbpd
