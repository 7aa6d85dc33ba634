#!/usr/bin/env python3
"""What MSG_ZEROCOPY costs or saves a server: its CPU time per response with borrowed values, and with values that
are sent without a copy, measured in pairs; over loopback, and over a veth pair to a client in a network namespace
of its own, which takes root. The kernel copies on both, when the packet is received, and says so: then sendq gives it up after a few sends."""

import os
import statistics
import subprocess
import sys
from contextlib import contextmanager

import command_line
from daemon import Daemon
from measure import Programs, UnhappyClient, size_text
from bench import ratios, spread
from table import print_table, write_json
from toolchain import commit

KIB, MIB = 1 << 10, 1 << 20
REQUESTS = {64 * KIB: 40_000, MIB: 4_000}
CONNECTIONS = 16
FROM = 64 * KIB
WAYS = {"borrowed": (), "borrowed again": (), "zerocopy": (f"--zerocopy={FROM}",)}
NAMESPACE = f"sendq-{os.getpid()}"
SERVER, CLIENT = "10.213.77.1", "10.213.77.2"


def ip(*words):
    subprocess.run(["ip", *words], check=True)


@contextmanager
def veth():
    """A namespace for the client, and a pair of interfaces to it."""
    here, there = f"sq{os.getpid() % 10**6}a", f"sq{os.getpid() % 10**6}b"
    ip("netns", "add", NAMESPACE)
    try:
        ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", NAMESPACE)
        ip("addr", "add", f"{SERVER}/30", "dev", here)
        ip("link", "set", here, "up")
        ip("-n", NAMESPACE, "addr", "add", f"{CLIENT}/30", "dev", there)
        ip("-n", NAMESPACE, "link", "set", there, "up")
        yield ["ip", "netns", "exec", NAMESPACE]
    finally:
        ip("netns", "del", NAMESPACE)


@contextmanager
def loopback():
    yield []


WIRES = {"loopback": (loopback, "127.0.0.1"), "veth": (veth, SERVER)}


class Bench:
    def __init__(self, directory):
        self._programs = Programs(directory)

    def run(self, options, value, prefix, host):
        listen = "--listen=0.0.0.0"
        with Daemon("sendq-ref", listen, *options, **self._programs.server("mcbpd")) as daemon:
            report = self._programs.ask(
                "mcload",
                f"--host={host}",
                f"--port={daemon.port}",
                f"--value={value}",
                f"--connections={CONNECTIONS}",
                f"--requests={REQUESTS[value]}",
                f"--warmup={REQUESTS[value] // 4}",
                prefix=prefix,
            )
            return report["server_cpu_us_per_response"]


def measure(bench, value, rounds, prefix, host):
    cpu = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way, options in WAYS.items():
            cpu[way].append(bench.run(options, value, prefix, host))
    first, *others = WAYS
    return {
        "cpu_us": {way: statistics.median(cpu[way]) for way in WAYS},
        "ratio": {way: spread(ratios(cpu[way], cpu[first])) for way in others},
    }


def rows(results):
    for load, figures in results.items():
        for way, cpu in figures["cpu_us"].items():
            ratio = figures["ratio"].get(way)
            yield (
                load if ratio is None else "",
                way,
                f"{cpu:.2f}",
                f"{ratio['median']:.3f}" if ratio else "",
                f"{ratio['min']:.2f}-{ratio['max']:.2f}" if ratio else "",
            )


def main():
    parser = command_line.parser(__doc__)
    command_line.add_rounds(parser, 5)
    options = parser.parse_args()
    bench, results = Bench(options.bin), {}
    for name, (wire, host) in WIRES.items():
        if wire is veth and os.geteuid() != 0:
            print("veth: left out, because it takes root", file=sys.stderr)
            continue
        with wire() as prefix:
            for value in REQUESTS:
                load = f"{size_text(value)}, {name}"
                print(f"{load} ...", file=sys.stderr, flush=True)
                try:
                    results[load] = measure(bench, value, options.rounds, prefix, host)
                except UnhappyClient as error:
                    print(f"FAILED: {error}", file=sys.stderr)
                    return 1
    head = ("load", "values", "CPU us/response", "ratio", "min-max")
    print_table(head, list(rows(results)), left=2)
    write_json(options.json, {"commit": commit(), "rounds": options.rounds, "loads": results})
    return 0


if __name__ == "__main__":
    sys.exit(main())
