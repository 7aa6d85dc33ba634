// mcload: keeps pipelined GETs in flight on many connections, checks every response, and reports
// what they cost the server.
#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "checker.h"
#include "control.h"
#include "load.h"
#include "options.h"

namespace mcload {
namespace {

// The value is such that bytes which are shifted or taken from elsewhere do not go unnoticed.
std::string make_value(size_t bytes) {
    std::string value(bytes, '\0');
    uint64_t state = 0x9e3779b97f4a7c15;
    for (char& c : value) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        c = static_cast<char>(state >> 32);
    }
    return value;
}

double percentile(std::vector<float>& values, double part) {
    if (values.empty()) {
        return 0;
    }
    const auto index = static_cast<size_t>(part * static_cast<double>(values.size() - 1));
    const auto nth = values.begin() + static_cast<std::ptrdiff_t>(index);
    std::nth_element(values.begin(), nth, values.end());
    return static_cast<double>(*nth);
}

double cpu_us(const Stats& stats) {
    return (std::stod(stats.at("rusage_user")) + std::stod(stats.at("rusage_system"))) * 1e6;
}

void report(Outcome& outcome, const Stats& before, const Stats& after) {
    const auto responses = static_cast<double>(outcome.responses);
    std::printf(
        "{\"output\": \"%s\", \"responses\": %.0f, \"seconds\": %.6f, "
        "\"responses_per_second\": %.1f, \"server_cpu_us_per_response\": %.4f, "
        "\"server_maxrss\": %s, \"batch_us_p50\": %.1f, \"batch_us_p99\": %.1f}\n",
        after.at("output").c_str(), responses, outcome.seconds, responses / outcome.seconds,
        (cpu_us(after) - cpu_us(before)) / responses, after.at("maxrss").c_str(),
        percentile(outcome.batch_us, 0.50), percentile(outcome.batch_us, 0.99));
}

void allow_many_connections() {
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

void measure(const Options& options) {
    Control control(options.server, options.tls, options.stall);
    std::string value = make_value(options.value);
    const uint64_t cas = control.set(value);
    const Expected expected(std::move(value), cas, options.verify);
    Load load(options, expected);
    load.run(options.warmup, 0);
    const auto before = control.stats();
    Outcome outcome = load.run(options.requests, options.seconds);
    const auto after = control.stats();
    report(outcome, before, after);
}

}  // namespace
}  // namespace mcload

int main(int argc, char** argv) {
    try {
        const mcload::Options options = mcload::parse_options(argc, argv);
        mcload::allow_many_connections();
        std::signal(SIGPIPE, SIG_IGN);  // OpenSSL writes without MSG_NOSIGNAL
        mcload::measure(options);
    } catch (const std::invalid_argument& error) {
        std::fprintf(stderr, "mcload: %s\n%s", error.what(), mcload::kUsage);
        return 2;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "mcload: %s\n", error.what());
        return 1;
    }
    return 0;
}
