#include "item.h"

#include <sys/mman.h>

#include <cstdlib>
#include <new>

namespace mcbpd {
namespace {

// Memory for a large item is the system's again as soon as the item is gone, whatever else the heap
// holds.
constexpr size_t kMapFrom = size_t{32} << 10;

void* allocate(size_t bytes) {
    if (bytes < kMapFrom) {
        return std::malloc(bytes);
    }
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? nullptr : memory;
}

void release(void* memory, size_t bytes) {
    if (bytes < kMapFrom) {
        std::free(memory);
    } else {
        munmap(memory, bytes);
    }
}

}  // namespace

std::atomic<size_t> Item::live_{0};

ItemPtr Item::make(std::string_view key, uint32_t flags, uint64_t cas, std::string_view head,
                   std::string_view tail) {
    const size_t value_bytes = head.size() + tail.size();
    void* memory = allocate(sizeof(Item) + key.size() + value_bytes);
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
        const size_t bytes = sizeof(Item) + key_bytes_ + value_bytes_;
        this->~Item();
        release(this, bytes);
    }
}

}  // namespace mcbpd
