// The command line of mcload.
#pragma once

#include <netinet/in.h>

#include <cstddef>
#include <cstdint>

namespace mcload {

struct Options {
    sockaddr_in server = {};
    size_t connections = 64;
    size_t depth = 1;
    size_t value = 100;
    uint64_t requests = 100000;
    uint64_t warmup = 0;
    double seconds = 0;  // 0: as long as the requests take
    double pause = 0;    // of a connection, after each of its batches
    double stall = 10;   // without a byte from the server
    bool verify = false;
    bool tls = false;
};

// Throws std::invalid_argument.
Options parse_options(int argc, char* const* argv);

extern const char* const kUsage;

}  // namespace mcload
