// mcbpd: a memcached-binary-protocol server whose output path can be chosen.
#include <event2/event.h>
#include <sys/resource.h>

#include <cstdio>
#include <exception>

#include "options.h"
#include "server.h"

namespace {

void allow_many_connections() {
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

void serve(const mcbpd::Options& options) {
    mcbpd::Server server(options);
    std::printf("mcbpd listening on %s:%u output=%s\n", options.listen.c_str(), server.port(),
                options.output.c_str());
    std::fflush(stdout);
    server.run();
}

}  // namespace

int main(int argc, char** argv) {
    try {
        const mcbpd::Options options = mcbpd::parse_options(argc, argv);
        allow_many_connections();
        serve(options);
        libevent_global_shutdown();
    } catch (const mcbpd::BadOption& error) {
        std::fprintf(stderr, "mcbpd: %s\n%s", error.what(), mcbpd::usage().c_str());
        return 2;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "mcbpd: %s\n", error.what());
        return 1;
    }
    return 0;
}
