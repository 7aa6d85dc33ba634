#!/usr/bin/env python3
"""What the queue costs without a server around it, beside libevent's evbuffer: instructions and time
and allocations per operation, a flush to a TCP socket beside raw sendmsg(2), a file beside
sendfile(2) by hand, where borrowing a value begins to win over copying it, TLS beside
bufferevent_openssl, heap bytes per connection.

Times are medians of rounds in which the sides take turns; a ratio is that of one round's pair, with
the least and the greatest seen, which is the noise of the machine."""

import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "host"))
import command_line  # noqa: E402
import counts  # noqa: E402
from table import print_table, write_json  # noqa: E402
from workloads import FLUSHES, WORKLOADS, by_way, run  # noqa: E402


def nanoseconds(ops, name, workload, rounds):
    """Per response, one figure a round, by side."""
    figures = {side: [] for side in workload.sides}
    for _ in range(rounds):
        for side in workload.sides:
            spent = float(run(ops, side, name, workload.runs))
            figures[side].append(spent / workload.runs / workload.responses)
    return figures


def times(programs, rounds):
    """Title, targets, and nanoseconds by side."""
    for name, load in WORKLOADS.items():
        targets = {"sendq": load.target, "locked": load.locked}
        yield load.title, targets, nanoseconds(programs / "ops", name, load, rounds)
    for name, flush in FLUSHES.items():
        sides, columns = by_way(run(programs / "flush", name, rounds))
        yield flush.title, flush.targets, dict(zip(sides, columns))


def operations(tests, rounds):
    """Time, instructions and allocations of the queue alone. The instructions are those of this side,
    without the kernel's."""
    counted = counts.count(tests, counts.of_queue(tests))
    for title, targets, columns in times(tests / "bench", rounds):
        first = next(iter(columns.values()))
        for side, column in columns.items():
            yield {
                "operation": title,
                "side": side,
                "ns": statistics.median(column),
                **{name: rows[title][side] for name, rows in counted.items()},
                "ratio": spread(column, first),
                "target": targets.get(side, ""),
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


def print_figures(figures):
    rows, last = [], None
    for figure in figures:
        counted = figure.get(counts.INSTRUCTIONS)
        allocated = figure.get(counts.ALLOCATIONS)
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
    head = (
        "TLS to TCP, per response",
        "side",
        "CPU us",
        "ratio",
        "min-max",
        "ns a byte",
        "records",
    )
    print_table(head, rows, left=2)


def print_heaps(by_side):
    head = ("heap bytes per connection", "idle", "124 B waiting", "idle after 1 MiB", "references")
    rows = [
        (
            side,
            *(str(row[key]) for key in ("idle", "waiting", "after")),
            f"{row['references'] / 100:.2f} x",
        )
        for side, row in by_side.items()
    ]
    rows.append(("target for sendq", "256", "640", "", "1.5 x"))
    print_table(head, rows)
    print("references: 1 MiB waiting as references of 100 B, payload included")
    kinds = ("corked", "corked-notified", "corked-borrowed", "message-borrowed")
    blocks = ", ".join(f"{kind} {by_side['sendq'][kind] / 100:.2f} x" for kind in kinds)
    print(f"blocks of messages of 1.5 KB, of what was copied: {blocks}; target 1.1 x")


def main():
    parser = command_line.parser(__doc__)
    command_line.add_rounds(parser, 9)
    options = parser.parse_args()
    tests, rounds = Path(options.bin), options.rounds
    programs = tests / "bench"
    results = {}
    for name, figures, show in (
        ("figures", operations(tests, rounds), print_figures),
        ("files", files(programs / "file", rounds), print_files),
        ("copy_below", crossovers(programs / "copy_below", rounds), print_crossovers),
        ("tls", encryptions(programs / "tls", rounds), print_encryptions),
    ):
        results[name] = list(figures)
        show(results[name])
        print()
    results["heap"] = counts.heaps(tests)
    print_heaps(results["heap"])
    write_json(options.json, results)


if __name__ == "__main__":
    main()
