#!/usr/bin/env python3
"""What the broker costs per delivered message, with its own output and with sendq, measured in pairs.

In each round both serve the same load, one right after the other. "noise" is the first against itself,
one round later. At last, 5000 clients whose sockets are full have some 100 bytes waiting each."""

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from bench import ratios, spread
from broker import OUTPUTS, Broker
from measure import cpus, pinned, size_text
from table import print_table, write_json

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
TIMEOUT = 300
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
TRACED_MESSAGES = 32, 96  # what connecting takes is in both
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
    def __init__(self, directory):
        self._directory = Path(directory)
        self._server_cpu, self._client_cpu = cpus()

    def _program(self, name):
        program = self._directory / name
        if not program.is_file():
            raise SystemExit(f"{program} is not built")
        return program

    def broker(self, output, options, tracer=()):
        program = self._program(f"fanout_{output}")
        return Broker(
            output, *options, program=program, prefix=[*pinned(self._server_cpu), *tracer]
        )

    def load(self, broker, options):
        command = [
            *pinned(self._client_cpu),
            self._program("fanload"),
            f"--port={broker.port}",
            f"--pid={broker.pid}",
            *options,
        ]
        result = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
        if result.returncode != 0:
            raise RuntimeError(f"{broker.output}: {result.stderr.strip()}")
        return json.loads(result.stdout)

    def run(self, output, load):
        """What fanload reports of a fresh broker."""
        broker = self.broker(output, OPTIONS)
        try:
            warmup = 0 if load.silent else load.messages // 10
            return self.load(broker, load.options(warmup))
        finally:
            broker.stop()

    def fill(self, output):
        broker = self.broker(output, FULL_OPTIONS)
        try:
            return self.load(broker, ("--fill", f"--silent={FULL_CLIENTS}", "--payload=100"))
        finally:
            broker.stop()

    def system_calls(self, output, load):
        """Per delivery to a subscriber that reads; None where they cannot be counted."""
        if shutil.which("strace") is None:
            return None
        few, many = (
            self._traced_calls(output, replace(load, messages=messages))
            for messages in TRACED_MESSAGES
        )
        return (many - few) / ((TRACED_MESSAGES[1] - TRACED_MESSAGES[0]) * load.subscribers)

    def _traced_calls(self, output, load):
        with tempfile.NamedTemporaryFile("r") as summary:
            tracer = ["strace", "--daemonize", "--summary-only", f"--output={summary.name}"]
            broker = self.broker(output, OPTIONS, tracer)
            try:
                self.load(broker, load.options())
            finally:
                broker.stop()
            return read_total(summary)


def read_total(summary):
    """The tracer may write it some time after the broker has ended."""
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        summary.seek(0)
        total = re.search(r"^100\.00\s+\S+\s+\S+\s+(\d+).*total$", summary.read(), re.M)
        if total:
            return int(total[1])
        time.sleep(0.05)
    raise TimeoutError("strace writes no summary")


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
        "ratio": spread(ratios(other, base)),
        "system_calls": {o: bench.system_calls(o, load) for o in OUTPUTS},
    }


def mib(size):
    return f"{size / MIB:.1f}"


def rows(results):
    for load, figures in results.items():
        for output in OUTPUTS:
            first = output == OUTPUTS[0]
            ratio = figures["noise" if first else "ratio"]
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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bin", required=True, help="the folder of the broker and fanload")
    parser.add_argument("--json", help="write the figures to this file, too")
    parser.add_argument("--quick", action="store_true", help="shorter loads")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error("the noise takes two rounds to show")
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
    write_json(options.json, {"loads": results, "full": full})
    return 0


if __name__ == "__main__":
    sys.exit(main())
