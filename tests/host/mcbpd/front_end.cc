#include "front_end.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace mcbpd {
namespace {

// How often a stalled connection is looked for: so much of the time that it may take.
constexpr double kStallCheckPart = 0.25;
constexpr std::chrono::duration<double> kShortestTick(0.01);

}  // namespace

FrontEnd::FrontEnd(const Options& options, SSL_CTX* tls, Store& store, Teardowns& teardowns,
                   Rosters& rosters, Pushes& pushes, Statistics& statistics, size_t thread)
    : tls_(tls),
      store_(store),
      teardowns_(teardowns),
      rosters_(rosters),
      pushes_(pushes),
      statistics_(statistics),
      counters_(statistics.of_thread(thread)),
      max_item_(options.max_item),
      stall_(options.stall),
      clock_jumps_(options.clock_jumps),
      batching_(options.batching),
      paths_(limits_of(options), tls != nullptr ? Wire::tls : Wire::plain),
      path_(*paths_.find(options.output)),
      drop_doomed_(loop_.make(-1, 0, on_doomed, this)),
      end_turn_(loop_.make(-1, 0, on_end_of_turn, this)),
      stall_check_(stall_.count() > 0
                       ? loop_.add_ticker(std::max(stall_ * kStallCheckPart, kShortestTick),
                                          on_stall_check, this)
                       : nullptr),
      mailbox_(loop_),
      thread_([this] { loop_.run(); }) {}

FrontEnd::~FrontEnd() {
    mailbox_.post([this] { loop_.stop(); });
    thread_.join();
}

void FrontEnd::adopt(int fd, uint64_t id) {
    mailbox_.post([this, fd, id] {
        Descriptor socket(fd);
        try {
            connections_.try_emplace(fd, *this, std::move(socket), id);
        } catch (const std::exception&) {
            // No memory for it: its socket is closed, and the others are served.
        }
    });
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

void FrontEnd::list(std::function<void(StatList)> report) {
    mailbox_.post([this, report = std::move(report)] {
        // Not those either that the next check would find: who has made the clock jump sees at once
        // what came of it.
        if (stall_check_) {
            drop_stalled();
        }
        StatList list;
        list.reserve(connections_.size());
        for (const auto& [fd, connection] : connections_) {
            list.emplace_back(std::to_string(connection.id()), connection.describe());
        }
        report(std::move(list));
    });
}

void FrontEnd::answer(std::shared_ptr<const void> what) {
    mailbox_.post([this, what = std::move(what)] {
        const auto asked =
            std::find_if(connections_.begin(), connections_.end(),
                         [&](const auto& entry) { return entry.second.waits_for(what.get()); });
        if (asked != connections_.end()) {
            asked->second.answer();
        }
    });
}

void FrontEnd::push(std::shared_ptr<const std::string> text) {
    mailbox_.post([this, text = std::move(text)] {
        for (auto at = connections_.begin(); at != connections_.end();) {
            Connection& connection = (at++)->second;
            connection.push(*text);  // which may be its end
        }
    });
}

Session FrontEnd::open_session(OutputOwner& connection) {
    return {store_,  teardowns_,   rosters_,
            pushes_, statistics_,  counters_,
            paths_,  clock_jumps_, path_.open(connection)};
}

void FrontEnd::drop_soon(int fd) {
    doomed_.push_back(fd);
    event_active(drop_doomed_.get(), EV_TIMEOUT, 0);
}

void FrontEnd::on_doomed(evutil_socket_t /*fd*/, short /*what*/, void* self) {
    static_cast<FrontEnd*>(self)->drop_doomed();
}

void FrontEnd::on_end_of_turn(evutil_socket_t /*fd*/, short /*what*/, void* self) {
    static_cast<FrontEnd*>(self)->end_turn();
}

void FrontEnd::end_turn() {
    left_to_end_ = 0;
    paths_.end_turn();
}

void FrontEnd::on_stall_check(evutil_socket_t /*fd*/, short /*what*/, void* self) {
    static_cast<FrontEnd*>(self)->drop_stalled();
}

// Those that nothing happens on are judged, too.
void FrontEnd::drop_stalled() {
    for (auto at = connections_.begin(); at != connections_.end();) {
        const Connection& connection = at->second;
        if (connection.stalled_for() < stall_) {
            ++at;
            continue;
        }
        counters_.add(Count::dropped_stalled);
        connection.abandon();
        at = connections_.erase(at);
    }
}

void FrontEnd::drop_doomed() {
    for (const int fd : doomed_) {
        // It may be gone, and another one have its descriptor.
        const auto at = connections_.find(fd);
        if (at != connections_.end() && at->second.is_doomed()) {
            connections_.erase(at);
        }
    }
    doomed_.clear();
}

}  // namespace mcbpd
