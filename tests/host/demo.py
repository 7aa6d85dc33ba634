#!/usr/bin/env python3
"""A real server with each of its output paths: does it speak the protocol, and what does it cost?"""

import statistics
import sys

import command_line
import memcapable
from daemon import OUTPUTS
from measure import Bench, Load, UnhappyClient
from table import print_table, write_json

ROUNDS = 3
LOADS = (
    Load(value=100, connections=64, depth=1, requests=100_000),
    Load(value=100, connections=64, depth=16, requests=1_000_000),
    Load(value=100, connections=1000, depth=16, requests=1_000_000),
)
HEAD = (
    "output path",
    "conformance",
    "load",
    "responses/s",
    "CPU us/response",
    "system calls/response",
    "peak memory",
)


def say(text):
    print(text, file=sys.stderr, flush=True)


def conformance(bench, output):
    program = memcapable.find()
    if program is None:
        return None
    with bench.daemon(output) as daemon:
        passed, total, _ = memcapable.run(program, daemon.port)
    return {"passed": passed, "total": total}


def measure(bench, load):
    """For each output path the medians of some rounds, in which the paths take turns."""
    rounds = [{output: bench.run(output, load) for output in OUTPUTS} for _ in range(ROUNDS)]
    results = {}
    for output in OUTPUTS:
        runs = [one[output] for one in rounds]
        results[output] = {
            name: statistics.median(run[name] for run in runs)
            for name in ("responses_per_second", "server_cpu_us_per_response", "peak_memory")
        }
        results[output]["system_calls_per_response"] = bench.system_calls(output, load)
    return results


def run(bench):
    results = {}
    for output in OUTPUTS:
        say(f"conformance of {output} ...")
        results[output] = {"conformance": conformance(bench, output), "loads": {}}
    for load in LOADS:
        say(f"load: {load} ...")
        for output, figures in measure(bench, load).items():
            results[output]["loads"][str(load)] = figures
    return results


def rows(results):
    for output, result in results.items():
        passed = result["conformance"]
        first = (output, f"{passed['passed']}/{passed['total']}" if passed else "not tested")
        for load, figures in result["loads"].items():
            calls = figures["system_calls_per_response"]
            yield (
                *first,
                load,
                f"{figures['responses_per_second']:,.0f}",
                f"{figures['server_cpu_us_per_response']:.2f}",
                "not counted" if calls is None else f"{calls:.2f}",
                f"{figures['peak_memory'] / (1 << 20):.1f} MiB",
            )
            first = ("", "")


def is_conforming(result):
    passed = result["conformance"]
    return passed is None or 0 < passed["total"] == passed["passed"]


def main():
    options = command_line.parser(__doc__).parse_args()
    try:
        results = run(Bench(options.bin))
    except UnhappyClient as error:
        say(f"FAILED: {error}")
        return 1
    print_table(HEAD, list(rows(results)), left=3)
    if memcapable.find() is None:
        say("For the conformance tests, install libmemcached-tools.")
    write_json(options.json, results)
    return 0 if all(map(is_conforming, results.values())) else 1


if __name__ == "__main__":
    sys.exit(main())
