#!/usr/bin/env python3
"""The server's CPU time per response with each output path, measured in pairs.

In each round every path serves the same load, one right after the other, and is compared with the
first path in that round. "noise" is that first path against itself, one round later."""

import re
import statistics
import sys

import command_line
from daemon import PLAIN_OUTPUTS
from measure import Bench, Load, UnhappyClient
from table import print_table, write_json
from toolchain import commit

KIB, MIB = 1 << 10, 1 << 20
REQUESTS = {
    (100, 1): 150_000,
    (100, 16): 1_500_000,
    (16 * KIB, 1): 100_000,
    (16 * KIB, 16): 160_000,
    (MIB, 1): 4_000,
    (MIB, 16): 8_000,
}
TLS_REQUESTS = {
    (100, 16): 400_000,
    (16 * KIB, 1): 60_000,
    (16 * KIB, 16): 60_000,
    (MIB, 1): 1_500,
}
# Those between which somebody chooses; the first encrypts each piece by itself.
TLS_OUTPUTS = ("sendmsg", "bufferevent", "sendq-copy", "sendq-ref", "sendq-message")
QUICK_PART = 3  # a quick run asks for a third, and leaves out the many connections
# A connection with large values takes several times one: in the server, and in the sockets.
VALUES_IN_MEMORY = 8


def loads(quick):
    for connections in (64,) if quick else (64, 1000):
        yield from loads_of(connections, REQUESTS, quick)
    yield from loads_of(64, TLS_REQUESTS, quick, over_tls=True)


def loads_of(connections, table, quick, over_tls=False):
    for (value, depth), requests in table.items():
        requests = requests // QUICK_PART if quick else requests
        load = Load(value, connections, depth, max(requests, connections * depth), over_tls)
        if VALUES_IN_MEMORY * value * connections < free_memory():
            yield load
        else:
            print(f"{load}: left out, for lack of memory", file=sys.stderr)


def outputs_of(load):
    return TLS_OUTPUTS if load.over_tls else PLAIN_OUTPUTS


def free_memory():
    """In bytes."""
    with open("/proc/meminfo") as meminfo:
        return int(re.search(r"MemAvailable:\s+(\d+)", meminfo.read())[1]) * KIB


def measure(bench, load, rounds):
    outputs = outputs_of(load)
    base, *others = outputs
    cpu = {output: [] for output in outputs}
    for _ in range(rounds):
        for output in outputs:
            cpu[output].append(bench.run(output, load)["server_cpu_us_per_response"])
    return {
        "cpu_us": {output: statistics.median(cpu[output]) for output in outputs},
        "ratio": {output: spread(ratios(cpu[output], cpu[base])) for output in others},
        "noise": spread(ratios(cpu[base][1:], cpu[base])),
        "system_calls": {output: bench.system_calls(output, load) for output in outputs},
    }


def ratios(these, those):
    return [this / that for this, that in zip(these, those)]


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def rows(results):
    for load, figures in results.items():
        for output, calls in figures["system_calls"].items():
            first = output not in figures["ratio"]
            ratio = figures["noise"] if first else figures["ratio"][output]
            yield (
                load if first else "",
                output,
                f"{figures['cpu_us'][output]:.3f}",
                "noise" if first else f"{ratio['median']:.3f}",
                f"{ratio['min']:.2f}-{ratio['max']:.2f}",
                "not counted" if calls is None else f"{calls:.2f}",
            )


def summary(results):
    """A line for each load, all paths beside the first."""
    base, *others = PLAIN_OUTPUTS
    for load, figures in results.items():
        medians = {output: f"{ratio['median']:.2f} x" for output, ratio in figures["ratio"].items()}
        ratios = (medians.get(output, "") for output in others)
        yield (load, f"{figures['cpu_us'][base]:.2f} us", *ratios)


def main():
    parser = command_line.parser(__doc__)
    command_line.add_rounds(parser, 5)
    parser.add_argument("--tls", action="store_true", help="only what is measured over TLS")
    parser.add_argument("--quick", action="store_true", help="fewer loads, and shorter")
    options = parser.parse_args()
    bench = Bench(options.bin)
    results = {}
    for load in loads(options.quick):
        if options.tls and not load.over_tls:
            continue
        print(f"{load} ...", file=sys.stderr, flush=True)
        try:
            results[str(load)] = measure(bench, load, options.rounds)
        except UnhappyClient as error:
            print(f"FAILED: {error}", file=sys.stderr)
            return 1
    head = ("load", "output path", "CPU us/response", "ratio", "min-max", "system calls/response")
    print_table(head, list(rows(results)), left=2)
    print()
    print_table(("CPU/response", *PLAIN_OUTPUTS), list(summary(results)))
    measured = {"commit": commit(), "rounds": options.rounds, "loads": results}
    write_json(options.json, measured)
    return 0


if __name__ == "__main__":
    sys.exit(main())
