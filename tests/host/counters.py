"""Counts what programs do. Such figures are the same, or nearly, however busy the machine is."""

import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass

TIMEOUT = 60  # for the report, once the program has ended


@dataclass(frozen=True)
class Counter:
    command: tuple  # goes in front of a program; "{}" is the file for the report
    pattern: str  # of the count in the report
    trial: tuple  # fails where it cannot count

    def works(self):
        found = shutil.which(self.trial[0]) is not None
        return found and subprocess.run(self.trial, capture_output=True).returncode == 0

    def count(self, run):
        """All of one run. `run` is told what to put in front of the program."""
        with tempfile.NamedTemporaryFile("r") as report:
            run([word.format(report.name) for word in self.command])
            return read_count(report, re.compile(self.pattern, re.M))

    def each(self, run, times):
        """What each of the turns of run(prefix, turns) takes: what comes before and after them is in
        the shorter run, too."""
        few, many = (self.count(lambda prefix: run(prefix, n)) for n in (times, 2 * times))
        return (many - few) / times


def read_count(report, pattern):
    """strace writes it some time after the program has ended."""
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        report.seek(0)
        if found := pattern.search(report.read()):
            return int(found[1])
        time.sleep(0.01)
    raise TimeoutError("no count in the report")


def instructions(function=None):
    """In user space: all, or those of the functions that a pattern names."""
    collect = [f"--toggle-collect={function}"] if function else []
    command = "valgrind --tool=callgrind --callgrind-out-file=/dev/null --log-file={}".split()
    return Counter((*command, *collect), r"Collected : (\d+)", ("valgrind", "--version"))


# --daemonize: the process that is started is the program, and not the tracer. So it does not say whether it
# may trace; the trial does.
SYSTEM_CALLS = Counter(
    ("strace", "--daemonize", "--follow-forks", "--summary-only", "--output={}"),
    r"^100\.00\s+\S+\s+\S+\s+(\d+).*total$",
    ("strace", "--output=/dev/null", "true"),
)


def allocations(library):
    """`library` is what tests/bench/allocations.c is built into."""
    return Counter(
        ("env", f"LD_PRELOAD={library}", "ALLOCATIONS={}"), r"(\d+)\n", ("test", "-f", str(library))
    )
