#include "roster.h"

#include <iterator>
#include <utility>

#include "front_end.h"

namespace mcbpd {

RosterPtr Rosters::begin() {
    auto roster = std::make_shared<Roster>();
    mailbox_.post([this, roster] { ask(roster); });
    return roster;
}

void Rosters::ask(const RosterPtr& roster) {
    roster->asked = front_ends_.size();
    for (const auto& front_end : front_ends_) {
        front_end->list([this, roster](StatList connections) {
            mailbox_.post([this, roster, connections = std::move(connections)]() mutable {
                add(roster, std::move(connections));
            });
        });
    }
}

void Rosters::add(const RosterPtr& roster, StatList connections) {
    roster->connections.insert(roster->connections.end(),
                               std::make_move_iterator(connections.begin()),
                               std::make_move_iterator(connections.end()));
    if (--roster->asked > 0) {
        return;
    }
    for (const auto& front_end : front_ends_) {
        front_end->answer(roster);
    }
}

}  // namespace mcbpd
