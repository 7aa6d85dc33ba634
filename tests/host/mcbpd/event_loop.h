// libevent's handles, owned.
#pragma once

#include <event2/event.h>

#include <chrono>
#include <cmath>
#include <memory>
#include <new>

namespace mcbpd {

struct FreeEvent {
    void operator()(event* event) const { event_free(event); }
};
using EventPtr = std::unique_ptr<event, FreeEvent>;

inline timeval to_timeval(std::chrono::duration<double> time) {
    double seconds = 0;
    const double part = std::modf(time.count(), &seconds);
    return {static_cast<time_t>(seconds), static_cast<suseconds_t>(part * 1e6)};
}

// An event loop that one thread runs, so it needs no locks.
class EventLoop {
  public:
    EventLoop() {
        event_config* config = event_config_new();
        if (config != nullptr) {
            event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
            base_.reset(event_base_new_with_config(config));
            event_config_free(config);
        }
        if (!base_) {
            throw std::bad_alloc();
        }
    }

    event_base* base() const { return base_.get(); }
    void run() { event_base_dispatch(base()); }
    void stop() { event_base_loopbreak(base()); }

    EventPtr add(int fd, short what, event_callback_fn callback, void* arg) {
        EventPtr event = make(fd, what, callback, arg);
        if (event_add(event.get(), nullptr) != 0) {
            throw std::bad_alloc();
        }
        return event;
    }

    // Called each time that so much has passed.
    EventPtr add_ticker(std::chrono::duration<double> period, event_callback_fn callback,
                        void* arg) {
        EventPtr event = make(-1, EV_PERSIST, callback, arg);
        const timeval time = to_timeval(period);
        if (event_add(event.get(), &time) != 0) {
            throw std::bad_alloc();
        }
        return event;
    }

    // Called once for each event_active(), soon after.
    EventPtr make(int fd, short what, event_callback_fn callback, void* arg) {
        EventPtr event(event_new(base(), fd, what, callback, arg));
        if (!event) {
            throw std::bad_alloc();
        }
        return event;
    }

  private:
    struct FreeBase {
        void operator()(event_base* base) const { event_base_free(base); }
    };
    std::unique_ptr<event_base, FreeBase> base_;
};

}  // namespace mcbpd
