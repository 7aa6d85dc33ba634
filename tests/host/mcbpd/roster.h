// What each connection has on its way, for `stat connections`.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "event_loop.h"
#include "mailbox.h"
#include "statistics.h"

namespace mcbpd {

class FrontEnd;

// To be read by a front-end only when it is told of it.
struct Roster {
    StatList connections;
    size_t asked = 0;  // front-ends that have yet to name theirs
};
using RosterPtr = std::shared_ptr<Roster>;

// Has them drawn up, in the thread of an event loop that serves no connection.
class Rosters {
  public:
    Rosters(EventLoop& loop, const std::vector<std::unique_ptr<FrontEnd>>& front_ends)
        : front_ends_(front_ends), mailbox_(loop) {}

    // For any thread. The front-ends are told when it is complete.
    RosterPtr begin();

  private:
    void ask(const RosterPtr& roster);
    void add(const RosterPtr& roster, StatList connections);

    const std::vector<std::unique_ptr<FrontEnd>>& front_ends_;
    Mailbox mailbox_;
};

}  // namespace mcbpd
