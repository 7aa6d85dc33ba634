#!/usr/bin/env python3
"""Compares what can be counted with figures.json, the figures of an earlier commit: fails if sendq needs
more than 3 % more of anything. With --write it writes that file anew, after a change that is meant.

The exit status is 77 if something cannot be compared here. The last line says what, and why."""

import argparse
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "host"))
import counts  # noqa: E402
from table import print_table, write_json  # noqa: E402
from toolchain import commit, toolchain  # noqa: E402

FILE = HERE / "figures.json"
MARGIN = 0.03
# Of what is next to nothing, a few in a thousand turns are no growth.
LEAST = 0.002
SKIPPED = 77
# What is measured beside sendq, and is nothing that a change here makes better or worse.
BESIDE = {"libevent", "libevent-locked", "multicast", "bufferevent", "own"}
BESIDE |= {"sendmsg", "copy+send", "send+sendfile", "pread+writev"}
# What must be the same for figures to be comparable.
DEPENDS = {
    counts.INSTRUCTIONS: ("compilers", "valgrind", "C library", "machine"),
    counts.ALLOCATIONS: (),
    counts.SYSTEM_CALLS: (),
    counts.FILE_CALLS: (),
    counts.HEAP: ("C library", "machine"),
}


def is_of_sendq(side):
    return side not in BESIDE


def made_with(tests):
    return toolchain((tests.parent / "libsendq.so", tests / "bench/ops"))


def write(tests):
    figures = {
        "commit": commit(),
        "toolchain": made_with(tests),
        "figures": counts.count_all(tests, lambda _: True),
    }
    missing = [measure for measure in DEPENDS if measure not in figures["figures"]]
    if missing:
        raise SystemExit(f"not written, because these cannot be counted here: {', '.join(missing)}")
    write_json(FILE, figures)


def flat(figures):
    return {
        (measure, row, side): figure
        for measure, rows in figures.items()
        for row, sides in rows.items()
        for side, figure in sides.items()
        if is_of_sendq(side)
    }


def excuses(then, now, present):
    """Why a measure cannot be compared, by measure."""
    for measure, parts in DEPENDS.items():
        differing = [part for part in parts if then["toolchain"][part] != present[part]]
        if measure not in now:
            yield measure, "they cannot be counted here"
        elif differing:
            there = (f"{part} {present[part]}, not {then['toolchain'][part]}" for part in differing)
            yield measure, "; ".join(there)


def changes(then, now):
    """What has grown or fallen by more than the margin: figure, what it was, what it is."""
    then, now = flat(then), flat(now)
    for figure in {**then, **now}:
        was, now_is = then.get(figure), now.get(figure)
        if was is None or now_is is None or abs(now_is - was) > was * MARGIN + LEAST:
            yield figure, was, now_is


def is_growth(was, now_is):
    return was is None or now_is is None or now_is > was


def change_row(figure, was, now_is):
    measure, row, side = figure
    text = ["none" if count is None else f"{count:g}" for count in (was, now_is)]
    percent = f"{(now_is / was - 1):+.1%}" if was and now_is is not None else ""
    return (row, side, measure, *text, percent)


def compare(then, now, present):
    """Prints it. Returns the exit status."""
    excused = dict(excuses(then, now, present))
    counted = {measure: rows for measure, rows in then["figures"].items() if measure in now}
    changed = list(changes(counted, now))
    origin = f"the figures of commit {then['commit']}"
    if changed:
        head = ("figure", "output", "measure", "was", "is", "change")
        print_table(head, [change_row(*change) for change in changed], left=3)
    judged = [change for change in changed if change[0][0] not in excused]
    grown = [change for change in judged if is_growth(*change[1:])]
    print(f"{len(flat(now))} beside {origin}: {len(changed)} differ by more than {MARGIN:.0%}")
    if judged and not grown:
        print("Some fell. So that they stay there: ./dev figures")
    sys.stdout.flush()  # the reason comes last
    if grown:
        print(
            f"{len(grown)} grew beside {origin}; if that is meant: ./dev figures", file=sys.stderr
        )
        return 1
    if excused:
        reasons = (f"{measure} ({why})" for measure, why in excused.items())
        print(f"not compared with {origin}: {', '.join(reasons)}", file=sys.stderr)
        return SKIPPED
    return 0


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bin", required=True, type=Path, help="the folder of the built tests")
    parser.add_argument("--write", action="store_true", help="write figures.json")
    options = parser.parse_args()
    if options.write:
        write(options.bin)
        return 0
    then = json.loads(FILE.read_text())
    now = counts.count_all(options.bin, is_of_sendq)
    return compare(then, now, made_with(options.bin))


if __name__ == "__main__":
    sys.exit(main())
