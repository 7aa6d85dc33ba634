// Lends an item's value to a queue, which gives it back when the value has left.
#pragma once

#include <sendq/sendq.h>

#include <string_view>

#include "item.h"

namespace mcbpd {

// Returns what sendq_append_ref does. If that is success, the reference is sendq's.
inline int lend(ItemPtr& item, sendq_t* queue) {
    constexpr auto give_back = [](void* lent, const void* /*data*/, size_t /*len*/,
                                  int /*reason*/) { ItemPtr::adopt(static_cast<Item*>(lent)); };
    const std::string_view bytes = item->value();
    const int result = sendq_append_ref(queue, bytes.data(), bytes.size(), give_back, item.get());
    if (result >= 0) {
        item.release();
    }
    return result;
}

}  // namespace mcbpd
