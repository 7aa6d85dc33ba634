#include <sendq/sendq.hpp>
#include <string>
#include <string_view>

static std::string received;

static std::int64_t receive(std::string_view bytes) noexcept {
    received += bytes;
    return static_cast<std::int64_t>(bytes.size());
}

int main() {
    auto q = sendq::queue::create();
    if (!q || sendq_version() != SENDQ_VERSION) {
        return 1;
    }
    if (!q->append("hello").wake() || !q->flush_with(receive)) {
        return 2;
    }
    return received == "hello" ? 0 : 3;
}
