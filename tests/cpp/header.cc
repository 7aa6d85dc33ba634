// sendq.hpp needs nothing before it, and may come twice. Every template of it is used once, because
// a compiler warns of what it instantiates.
#include <sendq/sendq.hpp>

namespace {

struct count {
    std::unique_ptr<int> state;
    void operator()(std::error_code) noexcept {}
};

struct frozen_clock {
    auto operator()() const noexcept { return std::chrono::seconds(1); }
};

struct silent_log {
    void operator()(sendq::log_level, sendq_t*, std::string_view) const noexcept {}
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
        q.append_ref(view, count()),
        q.append_file(0, 0, 1, [&q](std::error_code) noexcept { static_cast<void>(q.close()); }),
        q.notify([](std::error_code) noexcept {}),
        memory.commit(0),
        cork.uncork(),
        q.set_rate(1),
        q.set_min_rate(1, std::chrono::seconds(1)),
        q.flush(0),
        q.flush_with(
            [](std::string_view bytes) noexcept { return static_cast<int>(bytes.size()); }),
        q.close_within(q.stalled() + q.retry_after().value_or(std::chrono::nanoseconds(0))),
    };
    for (const auto& result : results) {
        if (!result) {
            return false;
        }
    }
    return q.peek(iov) > 0 && q.stats().sent == 0 && !q.stats_json().empty();
}

}  // namespace

int main() {
    const frozen_clock clock;
    const silent_log log;
    sendq::pool_config config;
    config.set_clock<std::chrono::steady_clock>();
    config.set_clock(clock);
    auto pool = sendq::pool::create(config);
    auto q = sendq::queue::create(*pool);
    sendq_t* heaviest[1];
    if (!sendq::set_logger(log) || !q || pool->heaviest(heaviest) > 0) {
        return 1;
    }
    return use(*q, "text") && pool->stats().queues == 1 && sendq::reset_logger() ? 0 : 1;
}
