#!/usr/bin/env python3
"""What the queue costs without a server around it, beside libevent's evbuffer: instructions and time
and allocations per operation, a flush to a TCP socket beside raw sendmsg(2), a file beside
sendfile(2) by hand, where borrowing a value begins to win over copying it, TLS beside
bufferevent_openssl, heap bytes per connection.

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
LOCKING = ("libevent", "sendq", "libevent-locked", "locked")
SHARING = ("libevent", "multicast", "sendq", "locked")
QUEUES = 1000


@dataclass(frozen=True)
class Workload:
    title: str
    responses: int  # in one run of it: figures are per response
    runs: int  # that take a fair time
    target: str = ""  # instructions / allocations that sendq is to reach
    locked: str = ""  # the same for a thread-safe queue
    sides: tuple = SIDES
    few_runs: int = 1000  # under callgrind


WORKLOADS = {
    "pair": Workload(
        "append 24 + 100 B, drain", 1, 2_000_000, "200 / 0", "330 / 0, < libevent-locked", LOCKING
    ),
    "pair16": Workload("the same 16 deep, per response", 16, 200_000, "113 / 0"),
    "appendv16": Workload("appendv 18 + 100 + 5 B, 16 deep, per response", 16, 200_000, "150 / 0"),
    "kib64": Workload("append 1 KiB x 64, drain, per KiB", 64, 50_000),
    "borrow1k": Workload("borrow 1 KiB, drain", 1, 2_000_000),
    "borrow64k": Workload("borrow 64 KiB, drain", 1, 2_000_000, "250 / 0"),
    "mixed": Workload("append 24 B, borrow 16 KiB, drain", 1, 1_000_000, "310 / 0"),
    "mixed16": Workload("the same 16 deep, per response", 16, 20_000),
    # The draining is not counted. multicast: evbuffer_add_buffer_reference, where libevent is
    # evbuffer_add_reference with a reference count.
    "share": Workload(
        "one payload to 1000 queues, per queue", QUEUES, 300, "120 / 0", "", SHARING, 10
    ),
}

# What flush.c sends: what that is, and the ratio and instructions that sendq is to reach.
FLUSHES = {
    "pair": ("flush 24 + 100 B to TCP", "0.96 x, 350"),
    "pair16": ("flush 16 x (24 + 100 B) to TCP", "0.72 x"),
    "framed": ("flush 24 B, 16 KiB borrowed, 2 B to TCP", "700"),
}


def run(program, *words):
    command = [str(program), *map(str, words)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def instructions(command, few, only=None):
    """Per run of what `command` runs as often as its last word says: what some more runs take more;
    of the function `only`, if named. None without valgrind."""
    if shutil.which("valgrind") is None:
        return None
    callgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    if only:
        callgrind.append(f"--toggle-collect={only}")

    def collected(count):
        words = [*callgrind, *map(str, command), str(count)]
        result = subprocess.run(words, check=True, capture_output=True, text=True)
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


def by_way(output):
    """The names of the ways, and a column of figures for each field of each way."""
    names, *lines = output.splitlines()
    return names.split(), list(zip(*([float(word) for word in line.split()] for line in lines)))


def operations(programs, rounds):
    for name, workload in WORKLOADS.items():
        targets = {"sendq": workload.target, "locked": workload.locked}
        times = nanoseconds(programs / "ops", name, workload, rounds)
        for side in workload.sides:
            only = "*_share_counted" if name == "share" else None
            command = (programs / "ops", side, name)
            counted = instructions(command, workload.few_runs, only)
            allocated = allocations(programs / "ops_counted", side, name, workload.few_runs)
            yield {
                "operation": workload.title,
                "side": side,
                "ns": statistics.median(times[side]) / workload.responses,
                "instructions": counted and counted / workload.responses,
                "allocations": allocated / workload.responses,
                "ratio": spread(times[side], times[workload.sides[0]]),
                "target": targets.get(side, ""),
            }


def flushes(flush, rounds):
    """The instructions are those of this side, without the kernel's."""
    for response, (title, target) in FLUSHES.items():
        names, columns = by_way(run(flush, response, rounds))
        for name, column in zip(names, columns):
            yield {
                "operation": title,
                "side": name,
                "ns": statistics.median(column),
                "instructions": instructions((flush, response, name), 500, "counted*"),
                "allocations": None,
                "ratio": spread(column, columns[0]),
                "target": target if name == "sendq" else "",
            }


def files(program, rounds):
    """CPU, calls and segments of a header and a file, by its size."""
    for size in (100, 16 << 10, 64 << 10, 1 << 20):
        names, columns = by_way(run(program, size, rounds))
        times = columns[::3]
        for name, ns, calls, segments in zip(names, times, columns[1::3], columns[2::3]):
            yield {
                "size": size,
                "side": name,
                "ns": statistics.median(ns),
                "calls": statistics.median(calls),
                "segments": statistics.median(segments),
                "ratio": spread(ns, times[0]),
                "target": "1.00 x" if name == "sendq" else "",
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
        names, columns = by_way(run(program, size, depth, rounds))
        times, records = columns[::2], columns[1::2]
        for name, ns, count in zip(names, times, records):
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


def print_files(figures):
    rows, last = [], None
    for figure in figures:
        rows.append(
            (
                "" if figure["size"] == last else f"200 B + {figure['size']} B",
                figure["side"],
                f"{figure['ns']:.0f}",
                *cells(figure["ratio"]),
                f"{figure['calls']:.2f}",
                f"{figure['segments']:.2f}",
                figure["target"],
            )
        )
        last = figure["size"]
    head = ("header + file to TCP", "side", "CPU ns", "ratio", "min-max", "calls", "segments")
    print_table((*head, "target"), rows, left=2)
    print("calls: those that send or read, of sendq as sendq_stats counts them")


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


def print_heaps(figures):
    head = ("heap bytes per connection", "idle", "124 B waiting", "idle after 1 MiB", "references")
    keys = ("side", "idle", "waiting", "after")
    rows = []
    for row in figures:
        rows.append((*(str(row[key]) for key in keys), f"{row['references'] / 100:.2f} x"))
    rows.append(("target for sendq", "256", "640", "", "1.5 x"))
    print_table(head, rows)
    print("references: 1 MiB waiting as references of 100 B, payload included")
    sendq = next(row for row in figures if row["side"] == "sendq")
    kinds = ("corked", "corked-notified", "corked-borrowed", "message-borrowed")
    blocks = ", ".join(f"{kind} {sendq[kind] / 100:.2f} x" for kind in kinds)
    print(f"blocks of messages of 1.5 KB, of what was copied: {blocks}; target 1.1 x")


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
    sent_files = [*files(programs / "file", options.rounds)]
    print_files(sent_files)
    print()
    crossing = [*crossovers(programs / "copy_below", options.rounds)]
    print_crossovers(crossing)
    print()
    encrypted = [*encryptions(programs / "tls", options.rounds)]
    print_encryptions(encrypted)
    print()
    memory = [*heaps(programs / "heap")]
    print_heaps(memory)
    if options.json:
        results = {
            "figures": figures,
            "files": sent_files,
            "copy_below": crossing,
            "tls": encrypted,
            "heap": memory,
        }
        Path(options.json).write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
