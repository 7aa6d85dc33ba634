// Appends the value of an item to a queue, which releases the item when the value is sent.
#pragma once

#include <sendq/sendq.h>

#include <string_view>

#include "item.h"

namespace mcbpd {

// Returns the result of sendq_append_ref. After a success sendq owns the reference.
inline int append_item(ItemPtr& item, sendq_t* queue) {
    constexpr auto release = [](void* arg, const void* /*data*/, size_t /*len*/, int /*reason*/) {
        ItemPtr::adopt(static_cast<Item*>(arg));
    };
    const std::string_view bytes = item->value();
    const int result = sendq_append_ref(queue, bytes.data(), bytes.size(), release, item.get());
    if (result >= 0) {
        item.release();
    }
    return result;
}

}  // namespace mcbpd
