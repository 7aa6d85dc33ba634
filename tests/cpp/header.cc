// sendq.hpp needs nothing before it, and may come twice. Every template of it is used once, because
// a compiler warns of what it instantiates.
#include <sendq/sendq.hpp>

namespace {

struct tell {
    std::unique_ptr<int> state;
    void operator()(std::error_code) noexcept {}
};

bool use(sendq::queue& q, std::string_view view) {
    std::shared_ptr<int> shared;
    const std::shared_ptr<int> constant;
    const std::string strings[] = {"a", "b"};
    iovec iov[2];
    auto buf = sendq::buffer::own(std::string(view));
    auto cork = q.cork();
    auto memory = q.reserve(10);
    const sendq::result results[] = {
        q.append(view),
        q.append(std::string(view)),
        q.append(*buf),
        q.appendv({view, view}),
        q.appendv(strings),
        q.append_owned(std::make_unique<int>(), view),
        q.append_owned(std::unique_ptr<int, void (*)(int*)>(nullptr, [](int*) {}), view),
        q.append_owned(shared, view),
        q.append_owned(constant, view),
        q.append_owned(std::string(view), view),
        q.append_ref(view),
        q.append_ref(view, tell()),
        q.append_file(0, 0, 1, [&q](std::error_code) noexcept { static_cast<void>(q.close()); }),
        q.notify([](std::error_code) noexcept {}),
        memory.commit(0),
        cork.uncork(),
        q.flush(0),
    };
    for (const auto& result : results) {
        if (!result) {
            return false;
        }
    }
    return q.peek(iov) > 0;
}

}  // namespace

int main() {
    auto pool = sendq::pool::create();
    auto q = sendq::queue::create(*pool);
    return q && use(*q, "text") ? 0 : 1;
}
