// What each request does, and the response it gets.
#pragma once

#include <memory>

#include "../protocol.h"
#include "census.h"
#include "input.h"
#include "output.h"
#include "store.h"
#include "teardown.h"

namespace mcbpd {

// What the requests of one connection can touch.
struct Session {
    Store& store;
    Teardowns& teardowns;
    const Census& census;
    Counters& counters;
    const OutputPaths& paths;
    std::unique_ptr<Output> output;
    OutputPath* next_path = nullptr;  // to be taken when what waits in the output has left
    bool quit = false;                // to be closed then
    TeardownPtr waits_for = nullptr;  // until then no other request is run
    uint32_t waiting_opaque = 0;
};

void execute(const Request& request, Session& session);
// Answers a request that was not cut from the stream whole.
void refuse(const Request& request, Status status, Session& session);
// Answers the request that had the session wait.
void answer_teardown(Session& session);

}  // namespace mcbpd
