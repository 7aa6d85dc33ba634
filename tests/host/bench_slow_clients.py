#!/usr/bin/env python3
"""What clients that do not read cost the server with each output path, and those that do read.

50 clients ask for 20 MiB each and never read, 20 read a byte a second, 20 reset at random, and 200
behave."""

import sys
from pathlib import Path

import command_line
from daemon import OUTPUTS, Daemon
from slow_clients import MIB, Scale, play
from table import print_table, write_json

HEAD = (
    "output path",
    "well-behaved",
    "failures",
    "batches' p50",
    "p99",
    "memory before",
    "peak",
    "at the end",
    "stuck dropped",
    "after at most",
    "a byte a second dropped",
)


def row(output, scale, result):
    load = result["load"]
    lived = result["stuck_lived"]
    return (
        output,
        str(scale.behaved),
        "none" if load else result["failure"],
        f"{load['batch_us_p50'] / 1000:.2f} ms" if load else "",
        f"{load['batch_us_p99'] / 1000:.2f} ms" if load else "",
        *(
            f"{result[name] / MIB:.1f} MiB"
            for name in ("memory_before", "peak_memory", "memory_after")
        ),
        f"{result['stuck_dropped']}/{result['stuck']}",
        f"{lived:.1f} s" if lived is not None else "",
        f"{result['trickling_dropped']}/{scale.trickling}",
    )


def main():
    parser = command_line.parser(__doc__)
    parser.add_argument("--seconds", type=float, default=30, help="default: %(default)s")
    parser.add_argument(
        "--stall", type=float, default=10, help="the server's limit in seconds; default: %(default)s"
    )
    parser.add_argument(
        "--budget", type=int, default=64, help="the server's, in MiB; default: %(default)s"
    )
    options = parser.parse_args()
    scale = Scale(seconds=options.seconds, stall=options.stall, budget=options.budget * MIB)
    programs = Path(options.bin)
    results = {}
    for output in OUTPUTS:
        print(f"slow clients with {output} ...", file=sys.stderr, flush=True)
        with Daemon(output, *scale.options(), program=programs / "mcbpd") as daemon:
            results[output] = play(programs / "mcload", daemon, scale)
    print_table(HEAD, [row(output, scale, result) for output, result in results.items()])
    write_json(options.json, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
