#include "connection.h"

#include <unistd.h>

#include "front_end.h"

namespace mcbpd {
namespace {

// Where requests of a client that does not read its responses are left alone, and taken up again.
constexpr size_t kHighWater = size_t{1} << 20;
constexpr size_t kLowWater = kHighWater / 2;

// An event costs a system call only when it changes.
void arm(event& event, bool& armed, bool wanted) {
    if (wanted == armed) {
        return;
    }
    armed = wanted;
    if (wanted) {
        event_add(&event, nullptr);
    } else {
        event_del(&event);
    }
}

}  // namespace

Connection::Connection(FrontEnd& front_end, int fd)
    : front_end_(front_end),
      fd_(fd),
      input_(front_end.max_item()),
      session_(front_end.open_session(socket())) {
    event_assign(&readable_, front_end.base(), fd, EV_READ | EV_PERSIST, on_readable, this);
    event_assign(&writable_, front_end.base(), fd, EV_WRITE | EV_PERSIST, on_writable, this);
    session_.counters.connection_opened();
    wait();
}

Connection::~Connection() {
    arm(readable_, reading_, false);
    arm(writable_, writing_, false);
    session_.counters.connection_closed();
    session_.output.reset();  // while the descriptor is its own
    close(fd_);
}

void Connection::answer() {
    answer_teardown(session_);
    turn();
}

void Connection::on_readable(evutil_socket_t /*fd*/, short /*what*/, void* self) {
    static_cast<Connection*>(self)->read();
}

void Connection::on_writable(evutil_socket_t /*fd*/, short /*what*/, void* self) {
    static_cast<Connection*>(self)->turn();
}

void Connection::on_progress(void* self) {
    static_cast<Connection*>(self)->turn();
}

void Connection::read() {
    switch (input_.read(fd_, front_end_.batch())) {
        case Input::Read::nothing:
            return;
        case Input::Read::failed:
            front_end_.drop(fd_);
            return;
        case Input::Read::end:
            ended_ = true;
            break;
        case Input::Read::bytes:
            break;
    }
    turn();
}

// One connection's share of a turn of the event loop.
void Connection::turn() {
    run_requests();
    input_.keep();
    if (!flush() || is_finished()) {
        front_end_.drop(fd_);
        return;
    }
    wait();
}

void Connection::run_requests() {
    while (may_run() && run_request()) {
        paused_ = session_.output->pending() >= kHighWater;
    }
}

bool Connection::run_request() {
    Request request;
    switch (input_.next(request)) {
        case Input::Cut::need_more:
            return false;
        case Input::Cut::bad_magic:
            session_.quit = true;
            return false;
        case Input::Cut::malformed:
            refuse(request, Status::invalid, session_);
            return true;
        case Input::Cut::too_large:
            refuse(request, Status::too_large, session_);
            return true;
        case Input::Cut::request:
            execute(request, session_);
            return true;
    }
    return false;
}

// Returns whether the connection lives on.
bool Connection::flush() {
    const Flushed::State state = session_.output->flush(fd_).state;
    if (state == Flushed::State::failed) {
        return false;
    }
    blocked_ = state == Flushed::State::blocked || state == Flushed::State::more;
    const size_t pending = session_.output->pending();
    paused_ = paused_ && pending > kLowWater;
    if (pending == 0 && session_.next_path != nullptr) {
        session_.output = session_.next_path->open(socket());
        session_.next_path = nullptr;
    }
    return true;
}

bool Connection::may_run() const {
    return !paused_ && !session_.quit && !session_.waits_for && session_.next_path == nullptr;
}

bool Connection::is_finished() const {
    const bool no_more_requests = session_.quit || (ended_ && !input_.has_request());
    return no_more_requests && !session_.waits_for && session_.output->pending() == 0;
}

void Connection::wait() {
    const bool has_request = may_run() && input_.has_request();
    arm(readable_, reading_, may_run() && !has_request && !ended_);
    // A request that is left over is taken up in the next turn, which a writable socket gives.
    arm(writable_, writing_, has_request || blocked_);
}

Socket Connection::socket() {
    return {front_end_.base(), fd_, on_progress, this};
}

}  // namespace mcbpd
