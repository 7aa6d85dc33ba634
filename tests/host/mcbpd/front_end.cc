#include "front_end.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace mcbpd {

FrontEnd::FrontEnd(const Options& options, Store& store, Teardowns& teardowns, Census& census,
                   size_t thread)
    : store_(store),
      teardowns_(teardowns),
      census_(census),
      counters_(census.of_thread(thread)),
      max_item_(options.max_item),
      path_(*paths_.find(options.output)),
      mailbox_(loop_),
      thread_([this] { loop_.run(); }) {}

FrontEnd::~FrontEnd() {
    mailbox_.post([this] { loop_.stop(); });
    thread_.join();
}

void FrontEnd::adopt(int fd) {
    mailbox_.post([this, fd] { connections_.try_emplace(fd, *this, fd); });
}

void FrontEnd::drop_holders(const TeardownPtr& teardown, std::function<void(size_t)> report) {
    mailbox_.post([this, teardown, report = std::move(report)] {
        // Kept, so that no other bucket comes to be where it was.
        const auto bucket = teardown->bucket.lock();
        const size_t before = connections_.size();
        for (auto at = connections_.begin(); bucket && at != connections_.end();) {
            at = at->second.holds(*bucket) ? connections_.erase(at) : std::next(at);
        }
        report(before - connections_.size());
    });
}

void FrontEnd::answer(const TeardownPtr& teardown) {
    mailbox_.post([this, teardown] {
        const auto asked =
            std::find_if(connections_.begin(), connections_.end(),
                         [&](const auto& entry) { return entry.second.waits_for(*teardown); });
        if (asked != connections_.end()) {
            asked->second.answer();
        }
    });
}

Session FrontEnd::open_session(const Socket& socket) {
    return {store_, teardowns_, census_, counters_, paths_, path_.open(socket)};
}

}  // namespace mcbpd
