// The command line of mcbpd.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "fault.h"

namespace mcbpd {

// What a turn of the event loop does with the requests that one read has brought. All but `both`
// are there to be measured.
enum class Batching {
    both,   // runs them all, and flushes once
    input,  // runs them all, and flushes after each
    none,   // runs one, and flushes
};

struct Options {
    std::string listen = "127.0.0.1";
    uint16_t port = 0;  // 0: the kernel picks one
    size_t threads = 1;
    std::string output = "sendmsg";
    int sndbuf = 0;  // of accepted sockets; 0: the kernel's default
    std::chrono::duration<double> teardown_timeout{2};
    size_t max_item = size_t{20} << 20;
    // 0: none.
    size_t high = size_t{1} << 20;
    size_t cap = 0;
    size_t max_messages = 0;
    size_t zerocopy = 0;  // values of at least so many bytes
    size_t budget = 0;
    std::chrono::duration<double> stall{0};
    size_t min_rate = 0;       // bytes a second
    bool clock_jumps = false;  // when a client says so; for tests
    Batching batching = Batching::both;
    Plant plant;
    // PEM files; without them connections are plain.
    std::string tls_cert;
    std::string tls_key;
};

class BadOption : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

// Throws BadOption.
Options parse_options(int argc, char* const* argv);
std::string usage();

}  // namespace mcbpd
