#!/usr/bin/env python3
"""Draws what the README shows, as SVG beside this file: instructions from figures.json, CPU times of
servers from what `./dev bench` has measured. They are readable on a light page and on a dark one."""

import argparse
import json
from pathlib import Path

import matplotlib
from matplotlib import pyplot

HERE = Path(__file__).resolve().parent
# Of all that is not a bar or a dot. The page decides which of the two it is.
INK, INK_ON_DARK = "#24292f", "#e6edf3"
COLOURS = {
    "libevent": "#8c959f",
    "bufferevent": "#8c959f",
    "sendq": "#2f81f7",
    "sendq-copy": "#d4762c",
    "sendq-ref": "#2f81f7",
    "sendq-message": "#2da44e",
}
STYLE = f"svg {{ color: {INK} }} @media (prefers-color-scheme: dark) {{ svg {{ color: {INK_ON_DARK} }} }}"
matplotlib.rcParams.update(
    {
        "font.size": 9,
        "svg.fonttype": "none",  # text stays text
        "svg.hashsalt": "sendq",  # the same figures give the same file
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "ytick.left": False,
        **{name: INK for name in ("text.color", "axes.labelcolor", "axes.edgecolor")},
        **{name: INK for name in ("xtick.color", "ytick.color")},
    }
)


def frame(rows, height, label):
    """Axes with a name for each row, from the top."""
    figure, axes = pyplot.subplots(figsize=(8, 1 + height * len(rows)), layout="constrained")
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel(label)
    return figure, axes


def save(figure, axes, name):
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(COLOURS), frameon=False)
    path = HERE / f"{name}.svg"
    figure.savefig(path, transparent=True, metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
    drawn = path.read_text().replace(INK, "currentColor")
    path.write_text(drawn.replace('<style type="text/css">', f'<style type="text/css">{STYLE} ', 1))


def draw_instructions(recorded):
    sides = ("libevent", "sendq")
    instructions = recorded["figures"]["instructions"]
    rows = {row: counts for row, counts in instructions.items() if all(s in counts for s in sides)}
    figure, axes = frame(rows, 0.4, f"instructions in user space (commit {recorded['commit']})")
    width = 0.38
    for place, side in enumerate(sides):
        at = [row + (place - 0.5) * width for row in range(len(rows))]
        bars = axes.barh(
            at, [counts[side] for counts in rows.values()], width, label=side, color=COLOURS[side]
        )
        axes.bar_label(bars, fmt="%.0f", padding=3)
    save(figure, axes, "instructions")


def draw_times(measured, name, what, base):
    loads = {load: of for load, of in measured["loads"].items() if "TLS" not in load}
    origin = f"medians of {measured['rounds']} paired rounds, commit {measured['commit']}"
    label = f"{what}, {base} = 1\n({origin})"
    figure, axes = frame(loads, 0.35, label)
    axes.axvline(1, color=INK, linewidth=0.8)
    axes.grid(axis="y", linestyle=":", color=COLOURS["libevent"], alpha=0.5)
    ratios = [of["ratio"] for of in loads.values()]
    sides = [side for side in COLOURS if any(side in ratio for ratio in ratios)]
    for place, side in enumerate(sides):
        # Beside each other, so that what is equal hides nothing.
        shift = (place - (len(sides) - 1) / 2) * 0.2
        dots = [(r[side]["median"], row + shift) for row, r in enumerate(ratios) if side in r]
        axes.scatter(*zip(*dots), s=20, label=side, color=COLOURS[side])
    save(figure, axes, name)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--host", type=Path, help="what tests/host/bench.py has measured")
    parser.add_argument("--fanout", type=Path, help="what tests/host/bench_fanout.py has measured")
    options = parser.parse_args()
    draw_instructions(json.loads((HERE / "figures.json").read_text()))
    if options.host:
        measured = json.loads(options.host.read_text())
        draw_times(measured, "server", "CPU time per response", "sendmsg")
    if options.fanout:
        measured = json.loads(options.fanout.read_text())
        draw_times(measured, "fanout", "CPU time per delivery", "own output")


if __name__ == "__main__":
    main()
