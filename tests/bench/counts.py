"""What can be counted, and so is the same in each run: instructions in user space, allocations, system
calls, heap bytes. Of a queue alone they are per operation, of a server per response."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import bench_fanout
import counters
import measure
from broker import OUTPUTS as BROKERS
from daemon import PLAIN_OUTPUTS, TLS_OUTPUTS
from workloads import FLUSHES, WORKLOADS, by_way, run

INSTRUCTIONS, ALLOCATIONS = "instructions", "allocations"
SYSTEM_CALLS, FILE_CALLS, HEAP = "system calls", "calls that send", "heap bytes"
DECIMALS = {INSTRUCTIONS: 1, ALLOCATIONS: 4, SYSTEM_CALLS: 4}
ALL = (INSTRUCTIONS, ALLOCATIONS, SYSTEM_CALLS)
# With one connection, which asks again when it has got all, nothing depends on who runs first. What happens
# once or twice in a run takes up to 100,000 instructions, so requests are many.
SERVED = (
    (measure.Load(100, 1, 1, 4000), ALL),
    (measure.Load(100, 1, 16, 24_000), ALL),
    (measure.Load(16 << 10, 1, 1, 4000), ALL),
    (measure.Load(16 << 10, 1, 16, 4800), (ALLOCATIONS, SYSTEM_CALLS)),
    (measure.Load(100, 1, 16, 4800, over_tls=True), (SYSTEM_CALLS,)),
    (measure.Load(16 << 10, 1, 1, 1000, over_tls=True), (SYSTEM_CALLS,)),
)
DELIVERED = [bench_fanout.Load(100, 100, depth, 256) for depth in (1, 16)]
HEAPS = {
    "idle": "idle connection",
    "waiting": "124 B waiting",
    "after": "idle after 1 MiB",
    "pool": "kept by the pool of 1000 connections",
    "references": "1 MiB waiting as references of 100 B, % of it",
    "corked": "messages of 1.5 KB, corked, % of them",
    "corked-notified": "the same, with a notification each",
    "corked-borrowed": "the same, with a borrowed part each",
    "message-borrowed": "the same, appended as a message",
}
FILES = (100, 16 << 10, 64 << 10)  # they fit into a socket


@dataclass(frozen=True)
class Work:
    """What is counted in two runs that differ by so many turns."""

    row: str
    side: str
    run: Callable  # what to put in front of the program, and how many turns
    turns: int
    responses: int  # in a turn
    measures: tuple
    function: str = None  # whose instructions count; None: all of them

    def count(self, counter):
        return counter.each(self.run, self.turns) / self.responses


def of_queue(tests):
    def turn(words, prefix, count):
        run(tests / "bench" / words[0], *words[1:], count, prefix=prefix)

    measures = (INSTRUCTIONS, ALLOCATIONS)
    for name, load in WORKLOADS.items():
        function = "*_share_counted" if name == "share" else None
        for side in load.sides:
            once = partial(turn, ("ops", side, name))
            yield Work(load.title, side, once, load.few_runs, load.responses, measures, function)
    for name, flush in FLUSHES.items():
        for side in flush.sides:
            once = partial(turn, ("flush", name, side))
            yield Work(flush.title, side, once, 500, 1, measures, "counted*")


def of_server(tests):
    bench = measure.Bench(tests / "host")

    def serve(output, load, prefix, requests):
        bench.serve(output, load, requests, prefix)

    for load, measures in SERVED:
        for output in TLS_OUTPUTS if load.over_tls else PLAIN_OUTPUTS:
            serving = partial(serve, output, load)
            yield Work(f"mcbpd, {load}", output, serving, load.requests, 1, measures)


def of_broker(tests):
    bench = bench_fanout.Bench(tests / "host")
    for load in DELIVERED:
        for output in BROKERS:
            deliver = partial(bench.deliver, output, load)
            row = f"fanout, {load}"
            yield Work(row, output, deliver, load.messages, load.subscribers, ALL)


def heaps(tests):
    """By side: bytes, by what is in the queue."""
    by_side = {}
    for line in run(tests / "bench/heap").splitlines():
        side, *words = line.split()
        by_side.setdefault(side, {}).update(zip(words[::2], map(int, words[1::2])))
    return by_side


def file_calls(tests):
    for size in FILES:
        names, columns = by_way(run(tests / "bench/file", size, 1))
        for name, calls in zip(names, columns[1::3]):
            yield f"200 B + file of {measure.size_text(size)}", name, calls[0]


def counters_of(tests):
    """Those that work here, by measure."""
    found = {
        INSTRUCTIONS: counters.instructions(),
        ALLOCATIONS: counters.allocations(tests / "bench/allocations.so"),
        SYSTEM_CALLS: counters.SYSTEM_CALLS,
    }
    return {name: counter for name, counter in found.items() if counter.works()}


def count(tests, works):
    """Of all work: {measure: {row: {side: count}}}. What cannot be counted here is not in it."""
    usable = counters_of(tests)
    tasks = [(work, name) for work in works for name in work.measures if name in usable]

    def perform(task):
        work, name = task
        own = name == INSTRUCTIONS and work.function
        return work.count(counters.instructions(work.function) if own else usable[name])

    counts = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for (work, name), value in zip(tasks, pool.map(perform, tasks)):
            sides = counts.setdefault(name, {}).setdefault(work.row, {})
            sides[work.side] = round(value, DECIMALS[name])
    return counts


def count_all(tests, wanted):
    """The same of everything, of the sides that are wanted."""
    works = [*of_queue(tests), *of_server(tests), *of_broker(tests)]
    counts = count(tests, [work for work in works if wanted(work.side)])
    for row, side, calls in file_calls(tests):
        if wanted(side):
            counts.setdefault(FILE_CALLS, {}).setdefault(row, {})[side] = calls
    for side, figures in heaps(tests).items():
        for row, size in figures.items() if wanted(side) else ():
            counts.setdefault(HEAP, {}).setdefault(HEAPS[row], {})[side] = size
    return counts
