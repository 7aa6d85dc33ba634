"""A long load of clients that behave and clients that do not, on every output path of mcbpd that goes through
sendq, with TLS and without, and on fanout: memory, descriptors and threads do not grow.

    soak.py --bin=build/dev/tests --seconds=1200

Those that behave have every byte that they get compared. Among them are clients that read slowly, that stop
reading, reset in the middle, close one half, send garbage, or connect and say nothing; and, at fanout,
subscribers that never read. All servers run at the same time, each with a few clients a second. A line is
printed for each server and minute."""

import argparse
import collections
import random
import re
import select
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "fault"))

import broker  # noqa: E402
import mcbp  # noqa: E402
import tls  # noqa: E402
from client import Client, step_all  # noqa: E402
from daemon import PLAIN_OUTPUTS, TLS_OUTPUTS, WITHOUT_SENDQ, Daemon  # noqa: E402
from scripts import (  # noqa: E402
    TOPICS,
    Habits,
    McbpdScript,
    PublisherScript,
    SubscriberScript,
    shared_key,
    store_shared,
)

KIB, MIB = 1 << 10, 1 << 20
# Of each server.
CLIENTS_A_SECOND = 4
MOST_CLIENTS = 16
# Clients that store something of their own, before the same keys are taken again.
NUMBERS = 4 * MOST_CLIENTS
# When a client that behaves is taken to hang, however busy the machine is.
HANG_SECONDS = 120
# What may come and go: free blocks in the pools, holes in the heap.
MEMORY_NOISE = 8 * MIB


class Silent:
    """What a client that misbehaves sends; what it gets is of no interest."""

    receive_buffer = 4096
    ends_its_side = False
    burst = 32 << 10
    received = 0

    def __init__(self, unsent=b""):
        self.unsent = memoryview(unsent)

    def take(self, data):
        self.received += len(data)

    def is_complete(self):
        return True

    def is_tired(self):
        return False

    def pause(self):
        return 0


class Deaf(Client):
    """It never reads, but for the handshake."""

    def events(self, now):
        wanted = super().events(now)
        return wanted if self._handshake else wanted & select.POLLOUT

    def is_ready(self, now):
        return False

    def _receive(self):
        return b""


def status(pid, name):
    with open(f"/proc/{pid}/status") as file:
        return int(re.search(rf"{name}:\s+(\d+)", file.read())[1])


class Server:
    """One server, its clients, and its figures."""

    first_descriptors = None  # with no client but the one that asks for figures

    def __init__(self, name, process, context=None):
        self.name, self.process = name, process
        self._context = context
        self._choose = random.Random(name)
        self._clients = {}  # and when each is reset, or hangs
        self._next_at = 0
        self.figures = collections.Counter()
        self.failures = []
        self.samples = []

    def clients(self):
        return list(self._clients)

    def run(self, now):
        """Takes leave of who is done, and lets new ones come."""
        for client, (until, behaves) in list(self._clients.items()):
            if client.outcome is None and now > until:
                client.reset("hung" if behaves else "reset")
            if client.outcome is not None:
                del self._clients[client]
                self._note(client, behaves)
        if now >= self._next_at and len(self._clients) < MOST_CLIENTS:
            self._next_at = now + self._choose.expovariate(CLIENTS_A_SECOND)
            self.add_clients(now)

    def _note(self, client, behaves):
        self.figures["behaved" if behaves else "misbehaved"] += 1
        self.figures["bytes"] += client.script.received
        if behaves and client.outcome not in ("ended", "reset"):
            self.failures.append(f"{client.outcome} after {client.script.received} bytes")

    def add(self, now, script, kind=Client, seconds=None):
        """With a time in which it is reset, it is one that misbehaves."""
        client = kind(self.process.port, script, self._context)
        until = now + (HANG_SECONDS if seconds is None else seconds)
        self._clients[client] = (until, seconds is None)
        return client

    def add_misbehaved(self, now, much):
        """much: what asks for far more than the sockets hold."""
        choose = self._choose
        seconds = choose.uniform(0.1, 8)
        kind, data = choose.choice(
            (
                (Deaf, much),
                (Deaf, much),
                (Client, choose.randbytes(choose.choice((1, 24, 3000)))),
                (Deaf, b""),
            )
        )
        self.add(now, Silent(data), kind, seconds)

    def sample(self):
        self.samples.append(
            {
                "memory": status(self.process.pid, "VmRSS") * KIB,
                "descriptors": self.process.descriptors() - len(self._clients),
                "threads": status(self.process.pid, "Threads"),
                "queued": self.queued(),
            }
        )
        return self.samples[-1]

    def end(self):
        """Returns its figures without any client."""
        for client in self._clients:
            if client.outcome is None:
                client.reset()
        self._clients.clear()
        deadline = time.monotonic() + HANG_SECONDS
        while time.monotonic() < deadline and not (
            self.connections() == 1 and self.process.descriptors() <= self.first_descriptors
        ):
            time.sleep(0.05)
        sample = self.sample()
        if self.process.stop() != 0:
            self.failures.append("a bad end")
        return sample


class McbpdServer(Server):
    def __init__(self, output, over_tls, program):
        process = Daemon(
            output,
            "--threads=2",
            "--high=131072",
            "--stall=4",
            f"--budget={32 * MIB}",
            "--sndbuf=65536",
            program=program,
            over_tls=over_tls,
        )
        name = output + (", TLS" if over_tls else "")
        super().__init__(name, process, tls._context(None) if over_tls else None)
        self._control = mcbp.connect(process.port, over_tls=over_tls)
        store_shared(self._control)
        self._number = 0
        self._much = mcbp.request(mcbp.Op.GET, key=shared_key(70000)) * 300

    def add_clients(self, now):
        if self._choose.random() < 0.3:
            self.add_misbehaved(now, self._much)
        else:
            # Whose keys these were before has gone long ago.
            self._number = (self._number + 1) % NUMBERS
            script = McbpdScript(self._choose, self._number, self._context is not None)
            self.add(now, script)

    def queued(self):
        """What all connections have waiting, in bytes."""
        found = mcbp.connections(self._control).values()
        return sum(one["waiting"] for one in found)

    def connections(self):
        return int(mcbp.stats(self._control)["curr_connections"])

    def end(self):
        mcbp.ask(self._control, mcbp.Op.FLUSH)
        try:
            return super().end()
        finally:
            self._control.close()


class FanoutServer(Server):
    def __init__(self, output, program):
        process = broker.Broker(
            output, "--high=65536", "--max=1048576", "--stall=4", "--sndbuf=65536", program=program
        )
        super().__init__(f"fanout, {output}", process)
        self._control = broker.Client(process.port)
        self._publishers = 0

    def add_clients(self, now):
        choose = self._choose
        what = choose.random()
        if what < 0.3:
            self.add_misbehaved(now, b"".join(b"SUB %s\n" % topic for topic in TOPICS))
        elif what < 0.6:
            # It leaves in order after a while: what it misses afterwards it does not miss.
            client = self.add(now, SubscriberScript(choose), seconds=choose.uniform(0.5, 6))
            client.is_subscriber = True
        else:
            self._publishers += 1
            self.add(now, PublisherScript(choose, self._publishers))

    def _note(self, client, behaves):
        super()._note(client, behaves)
        # One that was cut off was too slow for what was published.
        is_right = client.outcome in ("ended", "reset", "cut")
        if getattr(client, "is_subscriber", False) and not is_right:
            self.failures.append(f"a subscriber: {client.outcome}")

    def queued(self):
        return self._control.stat("queued")

    def connections(self):
        return self._control.stat("clients")

    def end(self):
        try:
            return super().end()
        finally:
            self._control.close()


def start_servers(directory):
    mcbpd = str(directory / "mcbpd")
    servers = []
    for outputs, over_tls in ((PLAIN_OUTPUTS, False), (TLS_OUTPUTS, True)):
        for output in outputs:
            if output not in WITHOUT_SENDQ:
                servers.append(McbpdServer(output, over_tls, mcbpd))
    servers.append(FanoutServer("sendq", str(directory / "fanout_sendq")))
    return servers


def run(servers, seconds, period):
    start = time.monotonic()
    next_sample = start + period
    while (now := time.monotonic()) < start + seconds:
        for server in servers:
            server.run(now)
        step_all([client for server in servers for client in server.clients()], 0.05)
        if now >= next_sample:
            next_sample += period
            for server in servers:
                print_sample(server, now - start, server.sample())


def print_sample(server, seconds, sample):
    figures = server.figures
    print(
        f"{seconds:6.0f} s  {server.name:20} {sample['memory'] / MIB:6.1f} MiB resident, "
        f"{sample['descriptors']:3} other descriptors, {sample['threads']} threads, "
        f"{sample['queued'] / KIB:8.0f} KiB queued, "
        f"{figures['behaved']:6} + {figures['misbehaved']:5} clients, {figures['bytes'] / MIB:8.0f} MiB",
        flush=True,
    )


def check(server, last):
    """From a quarter of the time on nothing grows but by noise."""
    samples = server.samples[:-1]
    failures = list(server.failures)
    if len(samples) >= 8:
        # The peaks of both halves, because how much waits differs from minute to minute.
        rest = samples[len(samples) // 4 :]
        early, late = rest[: len(rest) // 2], rest[len(rest) // 2 :]
        peak = lambda some: max(sample["memory"] for sample in some)  # noqa: E731
        if peak(late) > peak(early) + MEMORY_NOISE:
            failures.append(f"memory grows: {peak(early)} to {peak(late)} bytes")
    if last["threads"] != server.samples[0]["threads"]:
        failures.append("threads grow")
    if last["descriptors"] > server.first_descriptors:
        failures.append(f"{last['descriptors']} descriptors, not {server.first_descriptors}")
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--bin", type=Path, required=True, help="tests/ of a build")
    parser.add_argument("--seconds", type=float, default=1200)
    parser.add_argument("--period", type=float, default=60, help="seconds between two samples")
    arguments = parser.parse_args()
    servers = start_servers(arguments.bin.resolve() / "host")
    for server in servers:
        while server.connections() > 1:
            time.sleep(0.01)
        server.first_descriptors = server.sample()["descriptors"]
    run(servers, arguments.seconds, arguments.period)
    failed = False
    for server in servers:
        last = server.end()
        print_sample(server, arguments.seconds, last)
        for failure in check(server, last):
            failed = True
            print(f"    {failure}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
