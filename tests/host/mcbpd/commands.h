// What each request does, and the response it gets.
#pragma once

#include <functional>
#include <memory>

#include "../protocol.h"
#include "input.h"
#include "output.h"
#include "pushes.h"
#include "roster.h"
#include "statistics.h"
#include "store.h"
#include "teardown.h"

namespace mcbpd {

// What the requests of one connection can touch.
struct Session {
    Store& store;
    Teardowns& teardowns;
    Rosters& rosters;
    Pushes& pushes;
    const Statistics& statistics;
    Counters& counters;
    const OutputPaths& paths;
    const bool clock_jumps;
    std::unique_ptr<Output> output;
    OutputPath* next_path = nullptr;  // to be taken when what waits in the output has left
    bool subscribed = false;
    bool quit = false;  // to be closed then
    // What other threads are at work on. Until then no other request is run; then this one is
    // answered.
    std::shared_ptr<const void> waits_for = nullptr;
    std::function<void(Session&)> answer = nullptr;
};

// Whether it is to be run however much waits to be sent. Such a request has no body and no answer.
bool is_acknowledgement(const mcbp::Header& header);
void execute(const Request& request, Session& session);
// Answers a request that was not cut from the stream whole.
void refuse(const Request& request, Status status, Session& session);
// Sends what nobody has asked for.
void push(std::string_view text, Session& session);
// Answers the request that had the session wait.
void answer_late(Session& session);

}  // namespace mcbpd
