"""What a load costs a daemon: its CPU time, its system calls, its peak memory."""

import json
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from daemon import Daemon

TIMEOUT = 120
# Enough for what connecting takes not to show in a figure per response.
TRACED_RESPONSES = 20_000
TRACED_BATCHES = 60  # of each connection
# Where that is too much it takes so many responses of each connection, or there is no figure.
TRACED_BYTES = 16 << 30
TRACED_AT_LEAST = 100


@dataclass(frozen=True)
class Load:
    value: int
    connections: int
    depth: int
    requests: int
    over_tls: bool = False

    def __str__(self):
        name = f"{size_text(self.value)}, {self.depth} deep, {self.connections} connections"
        return name + (", TLS" if self.over_tls else "")

    @property
    def traced_requests(self):
        wanted = max(TRACED_RESPONSES, TRACED_BATCHES * self.connections * self.depth)
        affordable = TRACED_BYTES // (self.value + 1)
        enough = affordable >= min(wanted, TRACED_AT_LEAST * self.connections)
        return min(wanted, affordable) if enough else None


def size_text(size):
    for shift, unit in ((20, "MiB"), (10, "KiB")):
        if size >= 1 << shift:
            return f"{size >> shift} {unit}"
    return f"{size} B"


def cpus():
    """One for the server and another for the client; none on a machine with a single one."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[:2] if len(usable) >= 2 else (None, None)


def pinned(cpu):
    return [] if cpu is None else ["taskset", "--cpu-list", str(cpu)]


class Bench:
    """The programs of one build, the server on a CPU of its own where there are two."""

    def __init__(self, directory):
        self._mcbpd = Path(directory) / "mcbpd"
        self._mcload = Path(directory) / "mcload"
        for program in (self._mcbpd, self._mcload):
            if not program.is_file():
                raise SystemExit(f"{program} is not built")
        self._server_cpu, self._client_cpu = cpus()

    def daemon(self, output, tracer=(), over_tls=False):
        prefix = [*pinned(self._server_cpu), *tracer]
        return Daemon(output, program=self._mcbpd, prefix=prefix, over_tls=over_tls)

    def run(self, output, load):
        """What mcload reports of a fresh daemon, which has served a part of the load before."""
        with self.daemon(output, over_tls=load.over_tls) as daemon:
            report = self._load(daemon, load, load.requests, warmup=load.requests // 4)
            return report | {"peak_memory": daemon.peak_memory()}

    def system_calls(self, output, load):
        """Per response; None where they cannot be counted."""
        strace = shutil.which("strace")
        if strace is None or load.traced_requests is None:
            return None
        with tempfile.NamedTemporaryFile("r") as summary:
            tracer = [strace, "--follow-forks", "--summary-only", f"--output={summary.name}"]
            try:
                with self.daemon(output, tracer, load.over_tls) as daemon:
                    report = self._load(daemon, load, load.traced_requests)
            except RuntimeError:
                return None  # it may not trace here
            total = re.search(r"^100\.00\s+\S+\s+\S+\s+(\d+).*total$", summary.read(), re.M)
        return int(total[1]) / report["responses"] if total else None

    def _load(self, daemon, load, requests, warmup=0):
        command = [
            *pinned(self._client_cpu),
            self._mcload,
            f"--port={daemon.port}",
            f"--value={load.value}",
            f"--connections={load.connections}",
            f"--depth={load.depth}",
            f"--requests={requests}",
            f"--warmup={warmup}",
            *(["--tls"] if load.over_tls else []),
        ]
        result = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
        if result.returncode != 0:
            raise UnhappyClient(f"{daemon.output}, {load}: {result.stderr.strip()}")
        return json.loads(result.stdout)


class UnhappyClient(Exception):
    """A client got a wrong answer, or none."""
