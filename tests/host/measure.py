"""What a load costs a daemon: its CPU time, its system calls, its peak memory."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from counters import SYSTEM_CALLS
from daemon import Daemon

TIMEOUT = 300
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


class Programs:
    """Those of one build. A server has a CPU of its own where there are two."""

    def __init__(self, directory):
        self._directory = Path(directory)
        self._server_cpu, self._client_cpu = cpus()

    def _find(self, name):
        program = self._directory / name
        if not program.is_file():
            raise SystemExit(f"{program} is not built")
        return program

    def server(self, name, tracer=()):
        """How to start it."""
        return {"program": self._find(name), "prefix": [*pinned(self._server_cpu), *tracer]}

    def ask(self, name, *options, prefix=()):
        """Returns what the client reports."""
        command = [*prefix, *pinned(self._client_cpu), self._find(name), *options]
        result = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
        if result.returncode != 0:
            raise UnhappyClient(result.stderr.strip())
        return json.loads(result.stdout)


class Bench:
    """mcbpd under a load."""

    def __init__(self, directory):
        self._programs = Programs(directory)

    def daemon(self, output, tracer=(), over_tls=False):
        return Daemon(output, **self._programs.server("mcbpd", tracer), over_tls=over_tls)

    def run(self, output, load):
        """What mcload reports of a fresh daemon, which has served a part of the load before."""
        with self.daemon(output, over_tls=load.over_tls) as daemon:
            report = self._load(daemon, load, load.requests, warmup=load.requests // 4)
            return report | {"peak_memory": daemon.peak_memory()}

    def serve(self, output, load, requests, tracer=()):
        with self.daemon(output, tracer, load.over_tls) as daemon:
            return self._load(daemon, load, requests)

    def system_calls(self, output, load):
        """Per response; None where they cannot be counted."""
        requests = load.traced_requests
        if requests is None or not SYSTEM_CALLS.works():
            return None
        return (
            SYSTEM_CALLS.count(lambda tracer: self.serve(output, load, requests, tracer)) / requests
        )

    def _load(self, daemon, load, requests, warmup=0):
        try:
            return self._programs.ask(
                "mcload",
                f"--port={daemon.port}",
                f"--value={load.value}",
                f"--connections={load.connections}",
                f"--depth={load.depth}",
                f"--requests={requests}",
                f"--warmup={warmup}",
                *(["--tls"] if load.over_tls else []),
            )
        except UnhappyClient as error:
            raise UnhappyClient(f"{daemon.output}, {load}: {error}") from error


class UnhappyClient(Exception):
    """A client got a wrong answer, or none."""
