/* fanout: a broker that sends what some clients publish to others that have subscribed to it. It is
 * an example of a server with plain epoll(7), and it is built twice: with its own output
 * (output_own.c), and with sendq (output_sendq.c).
 *
 * The protocol. Lines end with \n. A topic is a word of printable characters. Commands, and the
 * replies to them, which come in order:
 *
 *     SUB topic             +OK          From now on, the client gets what is published to topic.
 *     PUB topic length      +OK count    Publishes the length bytes that follow, and a \n that is
 * not part of them. count clients get them. STAT                  +OK name=number ... QUIT +OK What
 * was queued before is still sent; then the connection ends. The client should read to the end, and
 * close. anything else         -ERR text    After a bad length, or a line of more than 512 bytes,
 * nobody knows where the next command begins: the connection ends as by QUIT.
 *
 * Between two replies a client gets the messages of its topics, whole and in order:
 *
 *     MSG topic length number    and then length bytes and a \n
 *
 * number counts the messages of this client from 1. A client that ends its side without QUIT
 * (shutdown(2)) gets what is queued, too.
 *
 * The limits. A client for which more than --max bytes would be queued, or which takes nothing of
 * what is queued for --stall seconds, is dropped. From a client for which --high bytes are queued
 * nothing is read, until half of them are sent: the replies to its own commands never get it
 * dropped.
 *
 * The parts. broker.c: the event loop. client.c: a connection. commands.c: the protocol.
 * topics.c: who has subscribed to what. output.h: what is queued, and how it is sent. */
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "broker.h"

enum { MIN_MAX = 4096 };

static void usage(void) {
    fputs(
        "usage: fanout [options]\n"
        "  --port=PORT      port on 127.0.0.1 (default 0: any; it is printed)\n"
        "  --high=BYTES     do not read from a client with so much queued (default 262144,\n"
        "                   at most half of --max)\n"
        "  --max=BYTES      drop a client before more is queued (default 8388608, at least 4096)\n"
        "  --stall=SECONDS  drop a client that takes nothing for so long (default 30)\n"
        "  --sndbuf=BYTES   SO_SNDBUF of the clients (default 0: the system's)\n",
        stderr);
    exit(2);
}

static uint64_t parse_number(const char* text, uint64_t max) {
    char* end;
    const unsigned long long number = strtoull(text, &end, 10);
    if (strspn(text, "0123456789") == 0 || *end != '\0' || number > max) {
        usage();
    }
    return number;
}

static uint64_t parse_seconds(const char* text) {
    char* end;
    const double seconds = strtod(text, &end);
    if (end == text || *end != '\0' || !(seconds >= 0 && seconds <= 1e9)) {
        usage();
    }
    return (uint64_t)(seconds * 1e9);
}

static struct options parse_options(int argc, char** argv) {
    static const struct option names[] = {
        {"port", required_argument, NULL, 'p'},   {"high", required_argument, NULL, 'h'},
        {"max", required_argument, NULL, 'm'},    {"stall", required_argument, NULL, 's'},
        {"sndbuf", required_argument, NULL, 'b'}, {NULL, 0, NULL, 0},
    };
    struct options options = {
        .limits = {.high = 256 << 10, .max = 8 << 20},
        .stall_ns = UINT64_C(30000000000),
    };
    int name;
    while ((name = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (name) {
            case 'p':
                options.port = (uint16_t)parse_number(optarg, UINT16_MAX);
                break;
            case 'h':
                options.limits.high = parse_number(optarg, PTRDIFF_MAX);
                break;
            case 'm':
                options.limits.max = parse_number(optarg, PTRDIFF_MAX);
                break;
            case 's':
                options.stall_ns = parse_seconds(optarg);
                break;
            case 'b':
                options.sndbuf = (int)parse_number(optarg, INT32_MAX);
                break;
            default:
                usage();
        }
    }
    if (optind != argc || options.limits.max < MIN_MAX) {
        usage();
    }
    const size_t half = options.limits.max / 2;
    if (options.limits.high == 0 || options.limits.high > half) {
        options.limits.high = half;
    }
    return options;
}

/* Each client takes a descriptor, and the usual limit is 1024. */
static void raise_descriptor_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int main(int argc, char** argv) {
    const struct options options = parse_options(argc, argv);
    raise_descriptor_limit();
    signal(SIGPIPE, SIG_IGN);
    struct broker* broker = broker_new(&options);
    if (broker == NULL) {
        perror("fanout");
        return 1;
    }
    printf("fanout listening on 127.0.0.1:%" PRIu16 "\n", broker_port(broker));
    fflush(stdout);
    const bool ended_well = broker_run(broker);
    if (!ended_well) {
        perror("fanout");
    }
    broker_free(broker);
    return ended_well ? 0 : 1;
}
