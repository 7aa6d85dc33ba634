// Messages that nobody has asked for: one text to every connection that has subscribed.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "event_loop.h"
#include "mailbox.h"

namespace mcbpd {

class FrontEnd;

// Sends them off, in the thread of an event loop that serves no connection.
class Pushes {
  public:
    Pushes(EventLoop& loop, const std::vector<std::unique_ptr<FrontEnd>>& front_ends)
        : front_ends_(front_ends), mailbox_(loop) {}

    // For any thread. Each subscriber gets the texts in the same order.
    void push(std::string text);

  private:
    const std::vector<std::unique_ptr<FrontEnd>>& front_ends_;
    Mailbox mailbox_;
};

}  // namespace mcbpd
