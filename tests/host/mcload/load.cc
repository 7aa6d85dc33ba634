#include "load.h"

#include <fcntl.h>
#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <stdexcept>
#include <utility>

#include "request.h"

namespace mcload {
namespace {

constexpr size_t kReadBytes = size_t{256} << 10;

std::string make_batch(size_t depth) {
    std::string batch;
    for (uint32_t opaque = 0; opaque < depth; ++opaque) {
        batch += encode(mcbp::Opcode::get, {}, kKey, {}, opaque);
    }
    return batch;
}

Load::Clock::duration to_duration(double seconds) {
    const std::chrono::duration<double> duration(seconds);
    return std::chrono::duration_cast<Load::Clock::duration>(duration);
}

}  // namespace

Load::Load(const Options& options, const Expected& expected)
    : options_(options),
      pause_(to_duration(options.pause)),
      stall_(to_duration(options.stall)),
      batch_(make_batch(options.depth)),
      buffer_(kReadBytes),
      epoll_(epoll_create1(EPOLL_CLOEXEC)) {
    if (epoll_ < 0) {
        fail_errno("epoll_create1");
    }
    for (size_t i = 0; i < options.connections; ++i) {
        connect(expected);
    }
}

Load::~Load() {
    close(epoll_);
}

Outcome Load::run(uint64_t requests, double seconds) {
    const Clock::time_point started = Clock::now();
    outcome_ = {};
    to_ask_ = requests;
    deadline_ = seconds == 0 ? Clock::time_point::max() : started + to_duration(seconds);
    last_event_ = started;
    start(started);
    while (in_flight_ > 0 || !resting_.empty()) {
        wait();
    }
    outcome_.seconds = std::chrono::duration<double>(Clock::now() - started).count();
    return std::move(outcome_);
}

void Load::connect(const Expected& expected) {
    clients_.push_back(std::make_unique<Client>(options_, expected));
    fcntl(clients_.back()->socket.fd(), F_SETFL, O_NONBLOCK);
    watch(*clients_.back(), EPOLL_CTL_ADD, EPOLLIN);
}

void Load::watch(Client& client, int operation, uint32_t events) const {
    epoll_event event{};
    event.events = events;
    event.data.ptr = &client;
    if (epoll_ctl(epoll_, operation, client.socket.fd(), &event) != 0) {
        fail_errno("epoll_ctl");
    }
}

// Those that pause do not start at once, so that they do not ask all together ever after.
void Load::start(Clock::time_point now) {
    for (size_t i = 0; i < clients_.size(); ++i) {
        if (pause_ == Clock::duration::zero()) {
            start_batch(*clients_[i]);
        } else {
            resting_.push_back({clients_[i].get(), now + pause_ * i / clients_.size()});
        }
    }
}

void Load::start_batch(Client& client) {
    client.started = Clock::now();
    if (to_ask_ == 0 || client.started >= deadline_) {
        return;
    }
    client.depth = std::min<uint64_t>(options_.depth, to_ask_);
    to_ask_ -= client.depth;
    ++in_flight_;
    client.checker.expect(client.depth);
    const size_t request_bytes = batch_.size() / options_.depth;
    client.unsent = std::string_view(batch_).substr(0, client.depth * request_bytes);
    if (!send_batch(client)) {
        watch(client, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
    }
}

// Returns whether all of it has left.
bool Load::send_batch(Client& client) {
    const ssize_t sent = client.socket.send(client.unsent.data(), client.unsent.size());
    if (sent < 0 && errno != EAGAIN) {
        fail_errno("send");
    }
    client.unsent.remove_prefix(sent > 0 ? static_cast<size_t>(sent) : 0);
    return client.unsent.empty();
}

void Load::wait() {
    std::array<epoll_event, 256> events{};
    const int ready = epoll_wait(epoll_, events.data(), events.size(), timeout_ms());
    if (ready < 0 && errno != EINTR) {
        fail_errno("epoll_wait");
    }
    const Clock::time_point now = Clock::now();
    if (ready > 0 || in_flight_ == 0) {
        last_event_ = now;
    } else if (now - last_event_ >= stall_) {
        throw std::runtime_error("stalled: " + std::to_string(in_flight_) +
                                 " connections wait for the server");
    }
    for (int i = 0; i < ready; ++i) {
        const epoll_event& event = events[static_cast<size_t>(i)];
        serve(*static_cast<Client*>(event.data.ptr), event.events);
    }
    start_rested();
}

// Until the server must have said something, or the next one has rested.
int Load::timeout_ms() const {
    Clock::time_point until = last_event_ + stall_;
    if (!resting_.empty()) {
        until = std::min(until, resting_.front().until);
    }
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now());
    return static_cast<int>(std::max<int64_t>(left.count(), 0));
}

void Load::start_rested() {
    const Clock::time_point now = Clock::now();
    while (!resting_.empty() && resting_.front().until <= now) {
        Client& client = *resting_.front().client;
        resting_.pop_front();
        start_batch(client);
    }
}

void Load::serve(Client& client, uint32_t events) {
    if ((events & EPOLLOUT) != 0 && send_batch(client)) {
        watch(client, EPOLL_CTL_MOD, EPOLLIN);
    }
    if ((events & ~uint32_t{EPOLLOUT}) != 0) {
        receive(client);
    }
}

void Load::receive(Client& client) {
    while (receive_some(client) && client.socket.is_tls()) {
    }
}

// Returns whether there was anything.
bool Load::receive_some(Client& client) {
    const ssize_t got = client.socket.receive(buffer_.data(), buffer_.size());
    if (got == 0) {
        throw std::runtime_error("the server closed a connection");
    }
    if (got < 0 && errno == EAGAIN && client.socket.is_tls()) {
        return false;
    }
    if (got < 0) {
        fail_errno("recv");
    }
    client.checker.take({buffer_.data(), static_cast<size_t>(got)});
    if (client.checker.is_satisfied()) {
        finish_batch(client);
    }
    return true;
}

void Load::finish_batch(Client& client) {
    const auto took = std::chrono::duration<float, std::micro>(Clock::now() - client.started);
    outcome_.batch_us.push_back(took.count());
    outcome_.responses += client.depth;
    --in_flight_;
    if (pause_ == Clock::duration::zero()) {
        start_batch(client);
    } else {
        resting_.push_back({&client, Clock::now() + pause_});
    }
}

}  // namespace mcload
