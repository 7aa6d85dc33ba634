#!/usr/bin/env python3
"""What the broker costs per delivered message, with its own output and with sendq, measured in pairs.

In each round both serve the same load, one right after the other. "noise" is the first against itself,
one round later. At last, 5000 clients whose sockets are full have some 100 bytes waiting each."""

import statistics
import sys
from dataclasses import dataclass, replace
from functools import partial

import command_line
from bench import ratios, spread
from broker import OUTPUTS, Broker
from counters import SYSTEM_CALLS
from measure import Programs, size_text
from table import print_table, write_json
from toolchain import commit

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
SNDBUF = "--sndbuf=65536"
# Nobody is dropped, whatever waits for those that read nothing.
OPTIONS = (SNDBUF, f"--max={8 * GIB}", "--stall=3600")
FULL_OPTIONS = ("--sndbuf=4608", "--stall=3600")
FULL_CLIENTS = 5000
DELIVERIES = {
    (100, 1): 100_000,
    (100, 16): 1_000_000,
    (10 * KIB, 1): 100_000,
    (10 * KIB, 16): 150_000,
}
# What waits for those that read nothing grows with the messages, so these are equally many.
SILENT = 50
MESSAGES_WITH_SILENT = {(100, 16): 5000, (10 * KIB, 1): 500}
COUNTED_MESSAGES = 64
QUICK_PART = 2


@dataclass(frozen=True)
class Load:
    subscribers: int
    payload: int
    depth: int
    messages: int
    silent: int = 0

    def __str__(self):
        silent = f", {self.silent} read nothing" if self.silent else ""
        depth = f", {self.depth} at once" if self.depth > 1 else ""
        return f"{self.subscribers} subscribers, {size_text(self.payload)}{depth}{silent}"

    def options(self, warmup=0):
        return (
            f"--subscribers={self.subscribers}",
            f"--payload={self.payload}",
            f"--depth={self.depth}",
            f"--messages={self.messages}",
            f"--silent={self.silent}",
            f"--warmup={warmup}",
        )


def loads(quick):
    part = QUICK_PART if quick else 1
    for subscribers in (100, 1000):
        for (payload, depth), deliveries in DELIVERIES.items():
            yield Load(subscribers, payload, depth, deliveries // subscribers // part)
    for subscribers in (100, 1000):
        for (payload, depth), messages in MESSAGES_WITH_SILENT.items():
            yield Load(subscribers, payload, depth, messages // part, SILENT)


class Bench:
    """The broker under a load."""

    def __init__(self, directory):
        self._programs = Programs(directory)

    def _load(self, output, options, server_options, tracer=()):
        """What fanload reports of a fresh broker."""
        server = self._programs.server(f"fanout_{output}", tracer)
        broker = Broker(output, *server_options, **server)
        try:
            return self._programs.ask(
                "fanload", f"--port={broker.port}", f"--pid={broker.pid}", *options
            )
        finally:
            broker.stop()

    def run(self, output, load):
        warmup = 0 if load.silent else load.messages // 10
        return self._load(output, load.options(warmup), OPTIONS)

    def fill(self, output):
        options = ("--fill", f"--silent={FULL_CLIENTS}", "--payload=100")
        return self._load(output, options, FULL_OPTIONS)

    def deliver(self, output, load, tracer, messages):
        """What is counted, with so many messages."""
        self._load(output, replace(load, messages=messages).options(), OPTIONS, tracer)

    def system_calls(self, output, load):
        """Per delivery to a subscriber that reads; None where they cannot be counted."""
        if not SYSTEM_CALLS.works():
            return None
        deliver = partial(self.deliver, output, load)
        return SYSTEM_CALLS.each(deliver, COUNTED_MESSAGES) / load.subscribers


def measure(bench, load, rounds):
    reports = {output: [] for output in OUTPUTS}
    for _ in range(rounds):
        for output in OUTPUTS:
            reports[output].append(bench.run(output, load))

    def values(name, output):
        return [report[name] for report in reports[output]]

    base, other = (values("cpu_ns_per_delivery", output) for output in OUTPUTS)
    return {
        "cpu_ns": {o: statistics.median(values("cpu_ns_per_delivery", o)) for o in OUTPUTS},
        "resident": {o: statistics.median(values("resident", o)) for o in OUTPUTS},
        "queued": {o: statistics.median(values("queued", o)) for o in OUTPUTS},
        "noise": spread(ratios(base[1:], base)),
        "ratio": {OUTPUTS[1]: spread(ratios(other, base))},
        "system_calls": {o: bench.system_calls(o, load) for o in OUTPUTS},
    }


def mib(size):
    return f"{size / MIB:.1f}"


def rows(results):
    for load, figures in results.items():
        for output in OUTPUTS:
            first = output == OUTPUTS[0]
            ratio = figures["noise"] if first else figures["ratio"][output]
            calls = figures["system_calls"][output]
            yield (
                load if first else "",
                output,
                f"{figures['cpu_ns'][output] / 1000:.3f}",
                "noise" if first else f"{ratio['median']:.3f}",
                f"{ratio['min']:.2f}-{ratio['max']:.2f}",
                "not counted" if calls is None else f"{calls:.3f}",
                mib(figures["resident"][output]),
                mib(figures["queued"][output]),
            )


def full_rows(results):
    for output, figures in results.items():
        grown = figures["resident"] - figures["resident_before"]
        yield (
            output,
            mib(figures["resident_before"]),
            mib(figures["resident"]),
            f"{grown / FULL_CLIENTS:.0f}",
            f"{figures['queued'] / FULL_CLIENTS:.0f}",
        )


def main():
    parser = command_line.parser(__doc__)
    command_line.add_rounds(parser, 5)
    parser.add_argument("--quick", action="store_true", help="shorter loads")
    options = parser.parse_args()
    bench = Bench(options.bin)
    results = {}
    for load in loads(options.quick):
        print(f"{load} ...", file=sys.stderr, flush=True)
        results[str(load)] = measure(bench, load, options.rounds)
    full = {output: bench.fill(output) for output in OUTPUTS}
    head = (
        "load",
        "output",
        "CPU us/delivery",
        "ratio",
        "min-max",
        "system calls/delivery",
        "resident MiB",
        "queued MiB",
    )
    print_table(head, list(rows(results)), left=2)
    print()
    head = (
        f"{FULL_CLIENTS} full clients",
        "resident MiB before",
        "and then",
        "bytes per client",
        "queued bytes per client",
    )
    print_table(head, list(full_rows(full)))
    measured = {"commit": commit(), "rounds": options.rounds, "loads": results, "full": full}
    write_json(options.json, measured)
    return 0


if __name__ == "__main__":
    sys.exit(main())
