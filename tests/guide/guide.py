#!/usr/bin/env python3
"""What stands in MIGRATING.md is taken from the sources. A comment above a block says how:

    <!-- from PATH#NAME -->          those definitions of that file, or all of it without a name
    <!-- diff PATH#NAME PATH#NAME -->     how the second differs from the first
    <!-- lines -->                   how long each output path of mcbpd is
    <!-- compile CODE -->            not taken from anywhere, but compiled: in place of the line "@@" of
                                     that code, or behind it

Several names are separated by "+". Run by itself, this writes the guide anew."""

import difflib
import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "MIGRATING.md"
MCBPD = ROOT / "tests/host/mcbpd"

BLOCK = re.compile(
    r"(?:^<!-- (?P<how>\w+)(?P<what>(?:(?!-->).)*)-->\n)?"
    r"^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.M | re.S,
)
LINES = re.compile(r"(?<=^<!-- lines -->\n\n)(?:\|.*\n)+", re.M)

ROWS = (
    "sendmsg",
    "shadow",
    "sendq-sendmsg",
    "sendq-copy",
    "sendq-ref",
    "sendq-message",
    "bufferevent",
    "sendq-libevent",
)
# The seam, and what is on its other side; and the mistakes that the tests plant.
NOT_COUNTED = {"output", "item", "bucket", "limits", "transport", "tls", "fault"}


class NotFound(Exception):
    pass


def definitions(lines, name):
    """Each definition of that function or class, with the comment above it."""
    start = re.compile(
        rf"( *)(?!(?:if|for|while|return)\b)\w[^=(]*(?<!\w)(?<!public ){re.escape(name)}(?!\w)"
    )
    for first, line in enumerate(lines):
        begins = start.match(line)
        if not begins or not re.match("[^;{]*{", "".join(lines[first:])[begins.end() :]):
            continue
        last = first
        if not line.endswith("}"):
            ends = begins[1] + "}"
            last = next(i for i in range(first + 1, len(lines)) if lines[i].startswith(ends))
        while lines[first - 1].startswith((begins[1] + "//", begins[1] + "template")):
            first -= 1
        yield lines[first : last + 1]


def taken(reference):
    """The lines that a PATH#NAME names, as far to the left as they go."""
    path, _, names = reference.partition("#")
    lines = (ROOT / path).read_text().splitlines()
    if not names:
        return lines
    parts = []
    for name in names.split("+"):
        found = list(definitions(lines, name))
        if len(found) != 1:
            raise NotFound(f"{len(found)} definitions of {name} in {path}")
        parts.append(textwrap.dedent("\n".join(found[0])))
    return "\n\n".join(parts).splitlines()


def difference(before, after):
    """All of it for definitions, a few lines around each difference for files."""
    around = 1 << 20 if "#" in before else 2
    lines = list(difflib.unified_diff(taken(before), taken(after), n=around, lineterm=""))[2:]
    return [re.sub("^@@.*", "@@", line) for line in lines if "#" not in before or line[:2] != "@@"]


def expected(block):
    """What a block has to be, as text; None if it is not taken from anywhere."""
    what = (block["what"] or "").split()
    if block["how"] == "from":
        lines = taken(*what)
    elif block["how"] == "diff":
        lines = difference(*what)
    else:
        return None
    return "".join(line.rstrip() + "\n" for line in lines)


def sources_of(row):
    """What its output path is made of: what it includes, and what implements that."""
    found, asked = set(), ["output_" + row.replace("-", "_")]
    while asked:
        stem = asked.pop()
        if stem in found or stem in NOT_COUNTED:
            continue
        found.add(stem)
        for path in MCBPD.glob(stem + ".*"):
            asked += re.findall(r'^#include "(\w+)\.h"', path.read_text(), re.M)
    return sorted(path for stem in found for path in MCBPD.glob(stem + ".*"))


def length(path):
    """In lines that are neither blank nor only a comment."""
    return sum(not re.match(r"\s*(//.*)?$", line) for line in path.read_text().splitlines())


def table():
    yield "| row | lines | its own | shared with other rows |"
    yield "|---|---|---|---|"
    files = {row: sources_of(row) for row in ROWS}
    for row, paths in files.items():
        others = {path for other in ROWS if other != row for path in files[other]}
        own = [path for path in paths if path not in others]
        shared = [path for path in paths if path in others]
        yield f"| `{row}` | {sum(map(length, paths))} | {listed(own)} | {listed(shared)} |"


def listed(paths):
    return ", ".join(f"{path.name} {length(path)}" for path in paths)


def rewritten(guide):
    """The guide as it has to be."""

    def block(match):
        text = expected(match)
        if text is None:
            return match[0]
        start, end = (at - match.start() for at in match.span("text"))
        return match[0][:start] + text + match[0][end:]

    return LINES.sub(lambda _: "".join(line + "\n" for line in table()), BLOCK.sub(block, guide))


if __name__ == "__main__":
    GUIDE.write_text(rewritten(GUIDE.read_text()))
