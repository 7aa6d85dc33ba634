#!/usr/bin/env python3
"""What the queue costs without a server around it, beside libevent's evbuffer: instructions and time
and allocations per operation, a flush to a TCP socket beside raw sendmsg(2), where borrowing a value
begins to win over copying it, TLS beside bufferevent_openssl, heap bytes per connection.

Times are medians of rounds in which the sides take turns; a ratio is that of one round's pair, with
the least and the greatest seen, which is the noise of the machine."""

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "host"))
from table import print_table  # noqa: E402

SIDES = ("libevent", "sendq", "locked")
SHARING = ("libevent", "multicast", "sendq", "locked")
QUEUES = 1000


@dataclass(frozen=True)
class Workload:
    title: str
    responses: int  # in one run of it: figures are per response
    runs: int  # that take a fair time
    target: str = ""  # ns, instructions, allocations that sendq is to reach
    sides: tuple = SIDES
    few_runs: int = 1000  # under callgrind


WORKLOADS = {
    "pair": Workload("append 24 + 100 B, drain", 1, 2_000_000, "12 / 160 / 0"),
    "pair16": Workload("the same 16 deep, per response", 16, 200_000, "10 / 130 / 0"),
    "kib64": Workload("append 1 KiB x 64, drain, per KiB", 64, 50_000),
    "borrow1k": Workload("borrow 1 KiB, drain", 1, 2_000_000, "8 / 110 / 0"),
    "borrow64k": Workload("borrow 64 KiB, drain", 1, 2_000_000, "8 / 110 / 0"),
    "mixed": Workload("append 24 B, borrow 16 KiB, drain", 1, 1_000_000, "15 / 220 / 0"),
    "mixed16": Workload("the same 16 deep, per response", 16, 20_000),
    # The draining is not counted. multicast: evbuffer_add_buffer_reference, where libevent is
    # evbuffer_add_reference with a reference count.
    "share": Workload(
        "one payload to 1000 queues, per queue", QUEUES, 300, "10 / 60 / 0", SHARING, 10
    ),
}


def run(program, *words):
    command = [str(program), *map(str, words)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def instructions(ops, side, name, few):
    """Per run of the workload: what some more runs take more. None without valgrind."""
    if shutil.which("valgrind") is None:
        return None

    def collected(count):
        callgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
        if name == "share":
            callgrind.append("--toggle-collect=*_share_counted")
        command = [*callgrind, str(ops), side, name, str(count)]
        result = subprocess.run(command, check=True, capture_output=True, text=True)
        return int(re.search(r"Collected : (\d+)", result.stderr)[1])

    return (collected(2 * few) - collected(few)) / few


def allocations(ops_counted, side, name, few):
    """Per run of the workload, once it is warm."""
    once, twice = (int(run(ops_counted, side, name, n).split()[1]) for n in (few, 2 * few))
    return (twice - once) / few


def nanoseconds(ops, name, workload, rounds):
    """Per run of the workload and side, one figure a round."""
    figures = {side: [] for side in workload.sides}
    for _ in range(rounds):
        for side in workload.sides:
            figures[side].append(float(run(ops, side, name, workload.runs).split()[0]))
    return {side: [ns / workload.runs for ns in column] for side, column in figures.items()}


def operations(programs, rounds):
    for name, workload in WORKLOADS.items():
        times = nanoseconds(programs / "ops", name, workload, rounds)
        for side in workload.sides:
            counted = instructions(programs / "ops", side, name, workload.few_runs)
            allocated = allocations(programs / "ops_counted", side, name, workload.few_runs)
            yield {
                "operation": workload.title,
                "side": side,
                "ns": statistics.median(times[side]) / workload.responses,
                "instructions": counted and counted / workload.responses,
                "allocations": allocated / workload.responses,
                "ratio": spread(times[side], times[workload.sides[0]]),
                "target": workload.target if side == "sendq" else "",
            }


def flushes(flush, rounds):
    for pairs in (1, 16):
        names, *lines = run(flush, pairs, rounds).splitlines()
        columns = list(zip(*([float(word) for word in line.split()] for line in lines)))
        for name, column in zip(names.split(), columns):
            yield {
                "operation": f"flush {pairs} x (24 + 100 B) to TCP",
                "side": name,
                "ns": statistics.median(column),
                "instructions": None,
                "allocations": None,
                "ratio": spread(column, columns[0]),
                "target": "",
            }


def crossovers(program, rounds):
    """What a copied and a borrowed value cost, by its size, from warm memory and from cold."""
    for depth in (1, 16):
        by_size = {}
        for line in run(program, depth, rounds).splitlines():
            size, *times = line.split()
            by_size.setdefault(int(size), []).append([float(ns) for ns in times])
        for size, lines in by_size.items():
            columns = list(zip(*lines))
            for memory, copied, borrowed in (("warm", *columns[:2]), ("cold", *columns[2:])):
                yield {
                    "depth": depth,
                    "size": size,
                    "memory": memory,
                    "copied": statistics.median(copied),
                    "borrowed": statistics.median(borrowed),
                    "ratio": spread(borrowed, copied),
                }


def encryptions(program, rounds):
    """CPU and records of a response of 24 B and a value over TLS, by its size and how many go at once."""
    for size, depth in ((100, 16), (16 << 10, 1), (16 << 10, 16), (1 << 20, 1)):
        names, *lines = run(program, size, depth, rounds).splitlines()
        columns = list(zip(*([float(word) for word in line.split()] for line in lines)))
        times, records = columns[::2], columns[1::2]
        for name, ns, count in zip(names.split(), times, records):
            yield {
                "size": size,
                "depth": depth,
                "side": name,
                "us": statistics.median(ns) / 1000,
                "ns_per_byte": statistics.median(ns) / (24 + size),
                "records": statistics.median(count),
                "ratio": spread(ns, times[0]),
            }


def spread(these, those):
    ratios = [this / that for this, that in zip(these, those)]
    return {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}


def cells(ratio):
    """Under the heads "ratio" and "min-max"."""
    return f"{ratio['median']:.2f}", f"{ratio['min']:.2f}-{ratio['max']:.2f}"


def heaps(heap):
    by_side = {}
    for line in run(heap).splitlines():
        side, *words = line.split()
        row = by_side.setdefault(side, {"side": side})
        row |= zip(words[::2], map(int, words[1::2]))
    yield from by_side.values()


def print_figures(figures):
    rows, last = [], None
    for figure in figures:
        counted = figure["instructions"]
        allocated = figure["allocations"]
        rows.append(
            (
                "" if figure["operation"] == last else figure["operation"],
                figure["side"],
                f"{figure['ns']:.1f}",
                *cells(figure["ratio"]),
                "" if counted is None else f"{counted:.0f}",
                "" if allocated is None else f"{allocated:.2f}",
                figure["target"],
            )
        )
        last = figure["operation"]
    head = ("operation", "side", "ns", "ratio", "min-max", "instructions", "mallocs", "target")
    print_table(head, rows, left=2)


def print_crossovers(figures):
    rows = []
    for figure in figures:
        rows.append(
            (
                f"{figure['depth']} x (24 B + value), {figure['memory']}",
                str(figure["size"]),
                f"{figure['copied']:.0f}",
                f"{figure['borrowed']:.0f}",
                *cells(figure["ratio"]),
            )
        )
    rows.sort(key=lambda row: row[0])  # stable: sizes stay in order
    head = ("append and flush to TCP", "bytes", "ns copied", "ns borrowed", "ratio", "min-max")
    print_table(head, rows)


def print_encryptions(figures):
    rows = []
    for figure in figures:
        rows.append(
            (
                f"{figure['depth']} x (24 + {figure['size']} B)",
                figure["side"],
                f"{figure['us']:.2f}",
                *cells(figure["ratio"]),
                f"{figure['ns_per_byte']:.2f}",
                f"{figure['records']:.2f}",
            )
        )
    head = ("TLS to TCP, per response", "side", "CPU us", "ratio", "min-max", "ns a byte", "records")
    print_table(head, rows, left=2)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bin", required=True, help="the folder of the programs")
    parser.add_argument("--json", help="write the figures to this file, too")
    parser.add_argument("--rounds", type=int, default=9, help="default: %(default)s")
    options = parser.parse_args()
    programs = Path(options.bin)

    figures = [*operations(programs, options.rounds)]
    figures += flushes(programs / "flush", options.rounds)
    print_figures(figures)
    print()
    crossing = [*crossovers(programs / "copy_below", options.rounds)]
    print_crossovers(crossing)
    encrypted = [*encryptions(programs / "tls", options.rounds)]
    print()
    print_encryptions(encrypted)
    memory = [*heaps(programs / "heap")]
    print()
    head = ("heap bytes per connection", "idle", "124 B waiting", "idle after 1 MiB", "references")
    keys = ("side", "idle", "waiting", "after")
    rows = [(*(str(row[key]) for key in keys), f"{row['references'] / 100:.2f} x") for row in memory]
    print_table(head, rows)
    print("references: 1 MiB waiting as references of 100 B, payload included (target 1.5 x)")
    if options.json:
        results = {"figures": figures, "copy_below": crossing, "tls": encrypted, "heap": memory}
        Path(options.json).write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
