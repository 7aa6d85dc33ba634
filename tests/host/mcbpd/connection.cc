#include "connection.h"

#include <sys/socket.h>

#include <algorithm>
#include <cstdio>
#include <new>
#include <utility>

#include "front_end.h"

namespace mcbpd {
namespace {

// An event costs a system call only when it changes. False: the kernel has no memory for it.
bool arm(event& event, bool& armed, bool wanted) {
    if (wanted != armed) {
        if (wanted && event_add(&event, nullptr) != 0) {
            return false;
        }
        if (!wanted) {
            event_del(&event);
        }
        armed = wanted;
    }
    return true;
}

}  // namespace

Connection::Connection(FrontEnd& front_end, Descriptor socket, uint64_t id)
    : front_end_(front_end),
      transport_(std::move(socket), front_end.tls()),
      id_(id),
      input_(front_end.max_item()),
      session_(front_end.open_session(*this)) {
    const int fd = transport_.fd();
    event_assign(&readable_, front_end.base(), fd, EV_READ | EV_PERSIST, on_readable, this);
    event_assign(&writable_, front_end.base(), fd, EV_WRITE | EV_PERSIST, on_writable, this);
    if (!wait()) {
        throw std::bad_alloc();
    }
    session_.counters.add(Count::connections);
}

Connection::~Connection() {
    arm(readable_, reading_, false);
    arm(writable_, writing_, false);
    session_.counters.add(Count::connections, -1);
    session_.output.reset();  // while the descriptor is its own
}

void Connection::answer() {
    answer_late(session_);
    turn();
}

void Connection::push(std::string_view text) {
    if (session_.subscribed && !is_doomed_) {
        mcbpd::push(text, session_);
        turn();
    }
}

void Connection::abandon() const {
    const linger at_once = {1, 0};
    setsockopt(transport_.fd(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

// Its last words count, too.
std::chrono::nanoseconds Connection::stalled_for() const {
    return closing_since_ ? CoarseClock::now() - *closing_since_ : session_.output->stalled_for();
}

event_base* Connection::base() const {
    return front_end_.base();
}

void Connection::output_cut(Cut reason) {
    session_.counters.add(reason == Cut::over_cap ? Count::dropped_cap : Count::dropped_heaviest);
    is_doomed_ = true;
    abandon();
    front_end_.drop_soon(transport_.fd());
}

void Connection::output_warns(const std::string& what) {
    session_.counters.add(Count::warnings);
    std::fprintf(stderr, "mcbpd: connection %llu: %s\n", static_cast<unsigned long long>(id_),
                 what.c_str());
}

void Connection::on_readable(evutil_socket_t /*fd*/, short /*what*/, void* self) {
    auto* connection = static_cast<Connection*>(self);
    FrontEnd& front_end = connection->front_end_;
    connection->read();
    front_end.end_long_turn();
}

void Connection::on_writable(evutil_socket_t /*fd*/, short /*what*/, void* self) {
    auto* connection = static_cast<Connection*>(self);
    FrontEnd& front_end = connection->front_end_;
    if (connection->input_blocked_) {
        connection->read();
    } else {
        connection->turn();
    }
    front_end.end_long_turn();
}

void Connection::read() {
    const Input::Read got = input_.read(transport_, front_end_.batch());
    if (got == Input::Read::failed) {
        front_end_.drop(transport_.fd());
        return;
    }
    ended_ = ended_ || got == Input::Read::end || transport_.has_ended();
    input_blocked_ = transport_.wants_write();
    turn();
}

// One connection's share of a turn of the event loop. If there is no memory for it, it ends.
void Connection::turn() {
    try {
        run_requests();
        input_.keep();
    } catch (const std::bad_alloc&) {
        front_end_.drop(transport_.fd());
        return;
    }
    const Flushed flushed = session_.output->flush(transport_);
    if (flushed.state == Flushed::State::later) {
        front_end_.end_turn_soon();
    } else {
        output_flushed(flushed);
    }
}

void Connection::output_flushed(Flushed flushed) {
    if (!proceed(flushed.state) || (is_finished() && close()) || !wait()) {
        front_end_.drop(transport_.fd());
    }
}

void Connection::run_requests() {
    const Batching batching = front_end_.batching();
    while (may_run() && run_request() && batching != Batching::none) {
        if (batching == Batching::input) {
            session_.output->flush(transport_);
        }
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

// After a flush. Returns whether the connection lives on.
bool Connection::proceed(Flushed::State state) {
    if (state == Flushed::State::failed) {
        return false;
    }
    note(state);
    if (session_.output->pending() == 0 && session_.next_path != nullptr) {
        session_.output = session_.next_path->open(*this);
        session_.next_path = nullptr;
    }
    return true;
}

// Returns whether it has an end.
bool Connection::close() {
    const Flushed::State state = session_.output->close(transport_).state;
    note(state);
    if (blocked_ && !closing_since_) {
        closing_since_ = CoarseClock::now();
    }
    return !blocked_;
}

// How far the output came.
void Connection::note(Flushed::State state) {
    blocked_ = state == Flushed::State::blocked || state == Flushed::State::more;
    blocked_by_input_ = state == Flushed::State::blocked && transport_.wants_read();
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

bool Connection::wait() {
    const bool has_request = may_run() && input_.has_request();
    // A request that is left over is taken up in the next turn, which a writable socket gives.
    return arm(readable_, reading_, (!has_request && may_read()) || blocked_by_input_) &&
           arm(writable_, writing_,
               has_request || input_blocked_ || (blocked_ && !blocked_by_input_));
}

}  // namespace mcbpd
