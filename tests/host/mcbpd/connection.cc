#include "connection.h"

#include <sys/socket.h>
#include <unistd.h>

#include "front_end.h"

namespace mcbpd {
namespace {

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

Connection::Connection(FrontEnd& front_end, int fd, uint64_t id)
    : front_end_(front_end),
      fd_(fd),
      id_(id),
      input_(front_end.max_item()),
      session_(front_end.open_session(*this)) {
    event_assign(&readable_, front_end.base(), fd, EV_READ | EV_PERSIST, on_readable, this);
    event_assign(&writable_, front_end.base(), fd, EV_WRITE | EV_PERSIST, on_writable, this);
    session_.counters.add(Count::connections);
    wait();
}

Connection::~Connection() {
    arm(readable_, reading_, false);
    arm(writable_, writing_, false);
    session_.counters.add(Count::connections, -1);
    session_.output.reset();  // while the descriptor is its own
    close(fd_);
}

void Connection::answer() {
    answer_late(session_);
    turn();
}

void Connection::abandon() const {
    const linger at_once = {1, 0};
    setsockopt(fd_, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

event_base* Connection::base() const {
    return front_end_.base();
}

void Connection::output_cut(Cut reason) {
    session_.counters.add(reason == Cut::over_cap ? Count::dropped_cap : Count::dropped_heaviest);
    is_doomed_ = true;
    abandon();
    front_end_.drop_soon(fd_);
}

void Connection::on_readable(evutil_socket_t /*fd*/, short /*what*/, void* self) {
    static_cast<Connection*>(self)->read();
}

void Connection::on_writable(evutil_socket_t /*fd*/, short /*what*/, void* self) {
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
    if (session_.output->pending() == 0 && session_.next_path != nullptr) {
        session_.output = session_.next_path->open(*this);
        session_.next_path = nullptr;
    }
    return true;
}

// Whether its next request may be run.
bool Connection::may_run() {
    if (is_held_up()) {
        return false;
    }
    if (!session_.output->is_high()) {
        return true;
    }
    const auto header = input_.next_header();
    return header && is_acknowledgement(*header);
}

// Whether more of its requests may be looked at. Of a client that leaves its output high they may,
// until one is seen that has to wait.
bool Connection::may_read() {
    return !ended_ && !is_held_up() && (!session_.output->is_high() || !input_.next_header());
}

// By something that ends without its client's help.
bool Connection::is_held_up() const {
    return is_doomed_ || session_.quit || session_.waits_for || session_.next_path != nullptr;
}

bool Connection::is_finished() const {
    const bool no_more_requests = session_.quit || (ended_ && !input_.has_request());
    return no_more_requests && !session_.waits_for && session_.output->pending() == 0;
}

void Connection::wait() {
    const bool has_request = may_run() && input_.has_request();
    arm(readable_, reading_, !has_request && may_read());
    // A request that is left over is taken up in the next turn, which a writable socket gives.
    arm(writable_, writing_, has_request || blocked_);
}

}  // namespace mcbpd
