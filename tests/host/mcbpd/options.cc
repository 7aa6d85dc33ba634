#include "options.h"

#include <arpa/inet.h>

#include <charconv>
#include <limits>
#include <string_view>

#include "output.h"

namespace mcbpd {
namespace {

constexpr size_t kMaxThreads = 256;
// The length of a body, which is more than the value, has 32 bits.
constexpr size_t kMaxMaxItem = size_t{1} << 30;
constexpr double kMaxSeconds = 3600;
constexpr size_t kMaxLimit = size_t{1} << 40;
// A thread that may hold less than that cannot serve.
constexpr size_t kMinBudgetPerThread = size_t{64} << 10;

size_t number(std::string_view name, std::string_view text, size_t min, size_t max) {
    size_t value = 0;
    const char* end = text.data() + text.size();
    const auto result = std::from_chars(text.data(), end, value);
    if (result.ec != std::errc() || result.ptr != end || value < min || value > max) {
        throw BadOption(std::string(name) + " takes a number from " + std::to_string(min) + " to " +
                        std::to_string(max));
    }
    return value;
}

std::chrono::duration<double> seconds(std::string_view name, std::string_view text) {
    double value = 0;
    const char* end = text.data() + text.size();
    const auto result = std::from_chars(text.data(), end, value);
    // So that no NaN gets through.
    const bool in_range = value >= 0 && value <= kMaxSeconds;
    if (result.ec != std::errc() || result.ptr != end || !in_range) {
        throw BadOption(std::string(name) + " takes a number of seconds, an hour at most");
    }
    return std::chrono::duration<double>(value);
}

std::string joined_names(Wire wire = Wire::plain) {
    std::string joined;
    for (const std::string_view name : OutputPaths::names(wire)) {
        joined += joined.empty() ? "" : "|";
        joined += name;
    }
    return joined;
}

std::string output_name(std::string_view text, Wire wire = Wire::plain) {
    for (const std::string_view name : OutputPaths::names(wire)) {
        if (name == text) {
            return std::string(name);
        }
    }
    const std::string over_tls = wire == Wire::tls ? " over TLS" : "";
    throw BadOption("--output takes " + joined_names(wire) + over_tls);
}

Plant plant(std::string_view text) {
    const auto plant = Plant::parse(text);
    if (!plant) {
        throw BadOption("--plant takes flip|drop|repeat|swap|stale, @, and an offset or full");
    }
    return *plant;
}

bool clock_jumps(std::string_view text) {
    if (text != "system" && text != "jumping") {
        throw BadOption("--clock takes system|jumping");
    }
    return text == "jumping";
}

Batching batching(std::string_view text) {
    if (text == "both") {
        return Batching::both;
    }
    if (text == "input") {
        return Batching::input;
    }
    if (text == "none") {
        return Batching::none;
    }
    throw BadOption("--batching takes both|input|none");
}

std::string file(std::string_view name, std::string_view text) {
    if (text.empty()) {
        throw BadOption(std::string(name) + " takes the name of a file");
    }
    return std::string(text);
}

std::string address(std::string_view text) {
    std::string address(text);
    in_addr parsed{};
    if (inet_pton(AF_INET, address.c_str(), &parsed) != 1) {
        throw BadOption("--listen takes an IPv4 address");
    }
    return address;
}

void set(Options& options, std::string_view name, std::string_view text) {
    if (name == "--listen") {
        options.listen = address(text);
    } else if (name == "--port") {
        options.port = static_cast<uint16_t>(number(name, text, 0, UINT16_MAX));
    } else if (name == "--threads") {
        options.threads = number(name, text, 1, kMaxThreads);
    } else if (name == "--output") {
        options.output = output_name(text);
    } else if (name == "--sndbuf") {
        options.sndbuf = static_cast<int>(number(name, text, 0, std::numeric_limits<int>::max()));
    } else if (name == "--teardown-timeout") {
        options.teardown_timeout = seconds(name, text);
    } else if (name == "--max-item") {
        options.max_item = number(name, text, 1, kMaxMaxItem);
    } else if (name == "--high") {
        options.high = number(name, text, 0, kMaxLimit);
    } else if (name == "--cap") {
        options.cap = number(name, text, 0, kMaxLimit);
    } else if (name == "--max-messages") {
        options.max_messages = number(name, text, 0, kMaxLimit);
    } else if (name == "--zerocopy") {
        options.zerocopy = number(name, text, 0, kMaxLimit);
    } else if (name == "--budget") {
        options.budget = number(name, text, 0, kMaxLimit);
    } else if (name == "--stall") {
        options.stall = seconds(name, text);
    } else if (name == "--min-rate") {
        options.min_rate = number(name, text, 0, kMaxLimit);
    } else if (name == "--clock") {
        options.clock_jumps = clock_jumps(text);
    } else if (name == "--batching") {
        options.batching = batching(text);
    } else if (name == "--plant") {
        options.plant = plant(text);
    } else if (name == "--tls-cert") {
        options.tls_cert = file(name, text);
    } else if (name == "--tls-key") {
        options.tls_key = file(name, text);
    } else {
        throw BadOption("unknown option " + std::string(name));
    }
}

}  // namespace

Options parse_options(int argc, char* const* argv) {
    Options options;
    for (int i = 1; i < argc; ++i) {
        const std::string_view argument = argv[i];
        const size_t equals = argument.find('=');
        if (equals == std::string_view::npos) {
            throw BadOption("expected --name=value, got " + std::string(argument));
        }
        set(options, argument.substr(0, equals), argument.substr(equals + 1));
    }
    if (options.budget > 0 && options.budget / options.threads < kMinBudgetPerThread) {
        throw BadOption("--budget is too little for so many threads");
    }
    if (options.min_rate > 0 && options.stall.count() == 0) {
        throw BadOption("--min-rate is of no use without --stall");
    }
    if (options.tls_cert.empty() != options.tls_key.empty()) {
        throw BadOption("--tls-cert and --tls-key are of no use without each other");
    }
    if (!options.tls_cert.empty()) {
        output_name(options.output, Wire::tls);
    }
    return options;
}

std::string usage() {
    return "usage: mcbpd [--listen=ADDRESS] [--port=N] [--threads=N] [--output=" + joined_names() +
           "] [--sndbuf=BYTES] [--teardown-timeout=SECONDS] [--max-item=BYTES]\n"
           "             [--high=BYTES] [--cap=BYTES] [--budget=BYTES] [--stall=SECONDS]\n"
           "             [--max-messages=N, of connections that send messages]\n"
           "             [--zerocopy=BYTES, from which on sendq-ref and sendq-message do not "
           "copy]\n"
           "             [--min-rate=BYTES_PER_SECOND, of connections through sendq]\n"
           "             [--batching=both|input|none, to measure what it is worth]\n"
           "             [--clock=system|jumping, which tests move]\n"
           "             [--plant=FAULT@OFFSET, of shadowed connections]\n"
           "             [--tls-cert=FILE --tls-key=FILE]\n";
}

}  // namespace mcbpd
