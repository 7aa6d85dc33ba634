#include "item.h"

#include <cstdlib>
#include <new>

namespace mcbpd {

std::atomic<size_t> Item::live_{0};

ItemPtr Item::make(std::string_view key, uint32_t flags, uint64_t cas, std::string_view head,
                   std::string_view tail) {
    const size_t value_bytes = head.size() + tail.size();
    void* memory = std::malloc(sizeof(Item) + key.size() + value_bytes);
    if (memory == nullptr) {
        return {};
    }
    auto* item = new (memory) Item(key.size(), value_bytes, flags, cas);
    char* to = item->bytes();
    to += key.copy(to, key.size());
    to += head.copy(to, head.size());
    tail.copy(to, tail.size());
    return ItemPtr(item);
}

void Item::unref() {
    if (refs_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
        this->~Item();
        std::free(this);
    }
}

}  // namespace mcbpd
