"""What the programs ops and flush do, and how they are run."""

import subprocess
from dataclasses import dataclass

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
    few_runs: int = 1000  # to count something


WORKLOADS = {
    "pair": Workload(
        "append 24 + 100 B, drain", 1, 2_000_000, "200 / 0", "330 / 0, < libevent-locked", LOCKING
    ),
    "pair16": Workload("append 24 + 100 B, 16 deep, per response", 16, 200_000, "113 / 0"),
    "appendv16": Workload("appendv 18 + 100 + 5 B, 16 deep, per response", 16, 200_000, "150 / 0"),
    "message16": Workload(
        "message of 18 + 100 + 5 B, 16 deep, per response", 16, 200_000, sides=SIDES[1:]
    ),
    "kib64": Workload("append 1 KiB x 64, drain, per KiB", 64, 50_000),
    "borrow1k": Workload("borrow 1 KiB, drain", 1, 2_000_000),
    "borrow64k": Workload("borrow 64 KiB, drain", 1, 2_000_000, "250 / 0"),
    "mixed": Workload("append 24 B, borrow 16 KiB, drain", 1, 1_000_000, "310 / 0"),
    "mixed16": Workload("append 24 B, borrow 16 KiB, 16 deep, per response", 16, 20_000),
    # The draining is not counted. multicast: evbuffer_add_buffer_reference, where libevent is
    # evbuffer_add_reference with a reference count.
    "share": Workload(
        "one payload to 1000 queues, per queue", QUEUES, 300, "120 / 0", "", SHARING, 10
    ),
}


@dataclass(frozen=True)
class Flush:
    title: str
    sides: tuple
    targets: dict  # ratio and instructions that sendq is to reach, by side


PAIR_SIDES = ("sendmsg", "copy+send", "sendq", "libevent")
FLUSHES = {
    "pair": Flush("flush 24 + 100 B to TCP", PAIR_SIDES, {"sendq": "0.96 x, 350"}),
    "pair16": Flush("flush 16 x (24 + 100 B) to TCP", PAIR_SIDES, {"sendq": "0.72 x"}),
    "framed": Flush(
        "flush 24 B, 16 KiB borrowed, 2 B to TCP",
        ("sendmsg", "sendq", "sendq-message", "sendq-send", "libevent"),
        {"sendq": "700", "sendq-message": "700", "sendq-send": "350"},
    ),
}


def run(program, *words, prefix=()):
    command = [*prefix, *map(str, (program, *words))]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def by_way(output):
    """The names of the ways, and a column of figures for each field of each way."""
    names, *lines = output.splitlines()
    return names.split(), list(zip(*([float(word) for word in line.split()] for line in lines)))
