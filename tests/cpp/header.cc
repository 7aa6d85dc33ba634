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

struct host_memory {
    void* allocate(std::size_t) noexcept { return nullptr; }
    void deallocate(void*, std::size_t) noexcept {}
};

struct descriptor {
    int release() noexcept { return 0; }
    void reset(int) noexcept {}
};

bool use_messages(sendq::queue_view q, std::string_view view) {
    using sendq::part;
    std::shared_ptr<int> shared;
    const std::string text;
    const part array[] = {view, text, "literal"};
    const char raw[] = {'r', 'a', 'w'};
    sendq::hole hole = *q.make_hole(4);
    part peeked[2];
    const auto released = [&q](std::error_code, std::size_t) noexcept { q = sendq::queue_view(); };
    const sendq::result results[] = {
        q.append_message({view, text, "literal", sendq::bytes(raw), part::ref(text)}),
        q.append_message(array, std::make_unique<int>()),
        q.append_message(array, shared),
        q.append_message(array, std::string(view)),
        q.append_message(array, count()),
        q.append_message(array, released),
        q.append_message(sendq::parts("a", part::own(std::make_unique<int>(), view),
                                      part::own(std::string(), view), part::own(count(), view),
                                      part::owned_file(descriptor(), 0, 1), shared ? "b" : "c"),
                         shared),
        q.send(0, {view}),
        q.send(0, {view}, 1),
        q.send(0, array, std::make_unique<int>(), 1),
        q.send(0, sendq::parts(view), 1),
        q.send(0, sendq::parts(part::own(shared, view)), count(), 1),
        q.fill(hole, "text"),
        q.end_message(),
        q.discard_unstarted(),
        q.splice(q, 1),
        q.renew(),
        q.fail(std::errc::io_error),
    };
    for (const auto& result : results) {
        if (!result) {
            return false;
        }
    }
    return q.peek_parts(peeked) > 0;
}

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
    host_memory memory;
    auto wake = []() noexcept {};
    sendq::pool_config config;
    config.set_clock<std::chrono::steady_clock>();
    config.set_clock(clock);
    config.set_allocator(memory);
    config.set_wake(wake);
    auto pool = sendq::pool::create(config);
    auto q = sendq::queue::create(*pool);
    sendq_t* found[1];
    if (!sendq::set_logger(log) || !q || pool->heaviest(found) > 0 ||
        pool->stalled(std::chrono::seconds(1), found) > 0) {
        return 1;
    }
    while (auto ready = pool->next()) {
        use_messages(ready, "text");
    }
    return use(*q, "text") && pool->stats().queues == 1 && sendq::reset_logger() ? 0 : 1;
}
