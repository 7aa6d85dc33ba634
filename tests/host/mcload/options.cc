#include "options.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <stdexcept>
#include <string>
#include <string_view>

namespace mcload {
namespace {

template <class T>
T number(std::string_view name, std::string_view text) {
    T value{};
    const char* end = text.data() + text.size();
    const auto result = std::from_chars(text.data(), end, value);
    if (result.ec != std::errc() || result.ptr != end || value < T{}) {
        throw std::invalid_argument("bad number for " + std::string(name));
    }
    return value;
}

in_addr address(std::string_view text) {
    in_addr address{};
    if (inet_pton(AF_INET, std::string(text).c_str(), &address) != 1) {
        throw std::invalid_argument("--host takes an IPv4 address");
    }
    return address;
}

void set(Options& options, std::string_view name, std::string_view text) {
    if (name == "--port") {
        options.server.sin_port = htons(number<uint16_t>(name, text));
    } else if (name == "--host") {
        options.server.sin_addr = address(text);
    } else if (name == "--connections") {
        options.connections = number<size_t>(name, text);
    } else if (name == "--depth") {
        options.depth = std::max<size_t>(number<size_t>(name, text), 1);
    } else if (name == "--value") {
        options.value = number<size_t>(name, text);
    } else if (name == "--requests") {
        options.requests = number<uint64_t>(name, text);
    } else if (name == "--warmup") {
        options.warmup = number<uint64_t>(name, text);
    } else if (name == "--seconds") {
        options.seconds = number<double>(name, text);
    } else if (name == "--pause") {
        options.pause = number<double>(name, text);
    } else if (name == "--stall") {
        options.stall = number<double>(name, text);
    } else if (name == "--verify") {
        options.verify = true;
    } else if (name == "--tls") {
        options.tls = true;
    } else {
        throw std::invalid_argument("unknown option " + std::string(name));
    }
}

}  // namespace

const char* const kUsage =
    "usage: mcload --port=N [--host=ADDRESS] [--connections=N] [--depth=N] [--value=BYTES] "
    "[--requests=N]\n"
    "              [--warmup=N] [--seconds=S] [--pause=S] [--stall=S] [--verify]\n"
    "              [--tls]\n";

Options parse_options(int argc, char* const* argv) {
    Options options;
    options.server.sin_family = AF_INET;
    options.server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int i = 1; i < argc; ++i) {
        const std::string_view argument = argv[i];
        const size_t equals = std::min(argument.find('='), argument.size());
        const size_t text = std::min(equals + 1, argument.size());
        set(options, argument.substr(0, equals), argument.substr(text));
    }
    if (options.server.sin_port == 0) {
        throw std::invalid_argument("--port is needed");
    }
    return options;
}

}  // namespace mcload
