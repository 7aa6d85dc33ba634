// One client: reads a batch, runs its requests, flushes once.
#pragma once

#include <event2/event.h>
#include <event2/event_struct.h>

#include "commands.h"
#include "input.h"

namespace mcbpd {

class FrontEnd;

class Connection {
  public:
    // Takes the socket over.
    Connection(FrontEnd& front_end, int fd);
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;
    ~Connection();

    bool holds(const Bucket& bucket) const { return session_.output->holds(bucket); }
    bool waits_for(const Teardown& teardown) const { return session_.waits_for.get() == &teardown; }
    // What it waits for is over.
    void answer();

  private:
    static void on_readable(evutil_socket_t fd, short what, void* self);
    static void on_writable(evutil_socket_t fd, short what, void* self);
    static void on_progress(void* self);

    void read();
    void turn();
    void run_requests();
    bool run_request();
    bool flush();
    bool may_run() const;
    bool is_finished() const;
    void wait();
    Socket socket();

    FrontEnd& front_end_;
    int fd_;
    Input input_;
    Session session_;
    event readable_;
    event writable_;
    bool reading_ = false;
    bool writing_ = false;
    bool blocked_ = false;  // output waits until the socket is writable
    bool paused_ = false;   // by output that waits
    bool ended_ = false;    // the peer sends no more
};

}  // namespace mcbpd
