"""Sends real clients to mcbpd and fanout, whose system calls and allocations fail at random (interpose.c), and
compares each byte that they get.

A seed is one session: some clients at once, what they ask for, how they read, and what fails. Where only errors
happen that are none (a short write, EAGAIN, EINTR, ENOBUFS, ENOMEM), each client must get everything. Where a
connection is lost, or memory refused, a client may get less; but what it gets is right, and in order. The
server neither ends nor hangs nor spins, keeps no descriptor, serves the next client, and ends in order.

    mill.py --bin=build/dev/tests --seeds=1-50                        every row
    mill.py --bin=build/dev/tests --row=sendq-ref --tls --seeds=17    one seed again

What the rows without sendq fail at is printed like the rest; with --sendq they are left out.
"""

import argparse
import collections
import json
import os
import random
import ssl
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "host"))

import broker  # noqa: E402
import mcbp  # noqa: E402
import tls  # noqa: E402
from client import Client, play  # noqa: E402
from control import ALL, ALLOCATIONS, FATAL, KINDS, Control  # noqa: E402
from daemon import PLAIN_OUTPUTS, TLS_OUTPUTS, Daemon  # noqa: E402
from scripts import (  # noqa: E402
    McbpdScript,
    PublisherScript,
    SubscriberScript,
    shared_key,
    shared_value,
    store_shared,
)

# When the other side is taken to hang, however busy the machine is; and how long each further time in a row
# that is known to.
PATIENCE, PATIENCE_AGAIN = 60, 1.5
SEEDS_OF_A_SERVER = 50
SEND_BUFFERS = (4096, 16 << 10, 64 << 10, 0)
# A turn of the event loop that neither sends anything nor is caused by a fault has some other cause. These are
# far more than all of them in a session; a loop that spins makes as many in a few milliseconds.
OTHER_TURNS = 3000
# These send by what sendq replaces. Shadow does too, and sendq only looks on.
HAND_WRITTEN = {"sendmsg", "bufferevent", "shadow", "own"}
MODES = ("transient", "fatal", "memory", "all")


def rates_of(seed):
    """What fails in the session of a seed, and how often."""
    choose = random.Random(seed)
    mode = MODES[seed % len(MODES)]

    def part(*percent):
        return int(choose.choice(percent) * ALL / 100)

    rates = {kind: part(0, 1, 5, 15) for kind in ("short", "EAGAIN", "EINTR", "ENOBUFS", "ENOMEM")}
    if mode in ("fatal", "all"):
        rates |= {kind: part(0, 0.3, 1, 3) for kind in ("ECONNRESET", "EPIPE", "epoll_ctl")}
    if mode in ("memory", "all"):
        rates |= {
            "mmap": part(0, 20, 100),
            "malloc in sendq": part(0, 5, 30),
            "malloc in OpenSSL": part(0, 0, 0.01, 0.1),
            "malloc in libevent": part(0, 2, 10),
            "operator new": part(0, 1, 10),
            "malloc in the host": part(0, 0.5, 3),
        }
    return mode, rates


class Failure(Exception):
    """(what, details)"""


def open_files(pid):
    folder = Path(f"/proc/{pid}/fd")
    return " ".join(sorted(os.readlink(file) for file in folder.iterdir()))


class Server:
    """A server under faults, of either kind."""

    def __init__(self, library, spares_main, stderr):
        self.control = Control(library, spares_main)
        self.stderr = stderr
        self.descriptors = None

    def wait_until(self, condition, what):
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise Failure(what, "")
            time.sleep(0.002)

    def environment(self):
        return os.environ | self.control.environment

    def check_descriptors(self):
        """While there is one connection."""
        try:
            self.wait_until(lambda: self.process.descriptors() <= self.descriptors, "descriptors")
        except Failure:
            raise Failure("descriptors", open_files(self.process.pid)) from None

    def stop(self):
        status = self.process.stop()
        if status != 0:
            raise Failure("bad end", f"status {status}")

    def close(self):
        self.process.stop()
        self.control.close()


class McbpdServer(Server):
    drops_explain_cuts = False
    # Memory for an item is refused with an answer of the protocol, and is none of the output.
    never_fails = {"malloc in the host"}

    def __init__(self, options, row, library, stderr):
        super().__init__(library, True, stderr)
        self.over_tls = row.over_tls
        if row.output == "sendq-libevent" and row.over_tls:
            # Not sendq's either: libevent 2.1 frees a bufferevent that it could not make, and crashes.
            self.never_fails = self.never_fails | {"malloc in libevent"}
        self.process = Daemon(
            row.output,
            "--threads=1",
            "--high=131072",
            *options,
            program=row.program,
            stderr=stderr,
            over_tls=row.over_tls,
            environment=self.environment(),
        )
        self._context = tls._context(None) if row.over_tls else None
        with self._connect() as sock:
            store_shared(sock)
            self._wait_until_alone(sock)
            self.descriptors = self.process.descriptors()

    def _connect(self):
        return mcbp.connect(self.process.port, timeout=PATIENCE, over_tls=self.over_tls)

    def start_clients(self, seed):
        choose = random.Random(seed)
        scripts = [McbpdScript(choose, i, self.over_tls) for i in range(3)]
        return [Client(self.process.port, script, self._context) for script in scripts]

    def play(self, clients, patience):
        play(clients, patience)
        return {}

    def check_service(self):
        """For a client that comes when the faults are over."""
        with self._connect() as sock:
            for size in (100, 70000):
                if mcbp.ask(sock, mcbp.Op.GET, shared_key(size)).value != shared_value(size):
                    raise Failure("wrong bytes", "for a client that came later")
            self._wait_until_alone(sock)

    def _wait_until_alone(self, sock):
        alone = lambda: mcbp.stats(sock)["curr_connections"] == "1"  # noqa: E731
        self.wait_until(alone, "connections are left")

    def check_end(self):
        """Everything is given back, and it ends in order."""
        with self._connect() as sock:
            mcbp.ask(sock, mcbp.Op.FLUSH)
            self.wait_until(lambda: mcbp.stats(sock)["live_items"] == "0", "items are left")
            self._wait_until_alone(sock)
            self.check_descriptors()
        self.stop()


class FanoutServer(Server):
    drops_explain_cuts = False
    never_fails = set()

    def __init__(self, options, row, library, stderr):
        super().__init__(library, False, stderr)
        self.process = broker.Broker(
            row.output,
            "--high=65536",
            "--max=1048576",
            *options,
            program=row.program,
            environment=self.environment(),
            stderr=stderr,
        )
        self.descriptors = self.process.descriptors() + 1
        self._dropped = 0

    def start_clients(self, seed):
        choose = random.Random(seed)
        self._subscribers = [SubscriberScript(choose) for _ in range(3)]
        self._publishers = [PublisherScript(choose, i) for i in range(2)]
        return [Client(self.process.port, script) for script in self._subscribers]

    def play(self, clients, patience):
        subscribers = list(clients)
        play(
            subscribers,
            patience,
            until=lambda: all(c.outcome or c.script.has_subscribed for c in subscribers),
        )
        publishers = [Client(self.process.port, script) for script in self._publishers]
        clients += publishers
        play(clients, patience, until=lambda: all(c.outcome for c in publishers))
        for client in subscribers:
            client.script.quit()
        play(subscribers, patience)
        return {
            client: client.script.missing(self._publishers, client.outcome == "ended")
            for client in subscribers
        }

    def check_service(self):
        client = broker.Client(self.process.port)
        try:
            client.subscribe(b"later")
            client.send(broker.publication(b"later", b"x" * 70000))
            if client.message() != (b"later", 1, b"x" * 70000) or client.line() != b"+OK 1\n":
                raise Failure("wrong bytes", "for a client that came later")
            self.wait_until(lambda: client.stat("clients") == 1, "connections are left")
            dropped = client.stat("dropped_over_max")
            self.drops_explain_cuts = dropped > self._dropped
            self._dropped = dropped
        finally:
            client.close()

    def check_end(self):
        client = broker.Client(self.process.port)
        try:
            self.wait_until(lambda: client.stat("clients") == 1, "connections are left")
            self.check_descriptors()
        finally:
            client.close()
        self.stop()


class Row:
    def __init__(self, output, over_tls, directory):
        self.output, self.over_tls = output, over_tls
        is_broker = output in broker.OUTPUTS
        self.server = FanoutServer if is_broker else McbpdServer
        self.program = str(directory / (f"fanout_{output}" if is_broker else "mcbpd"))
        self.name = f"fanout, {output}" if is_broker else output + (", TLS" if over_tls else "")
        self.figures = collections.Counter()
        self.failures = []
        self.patience = PATIENCE

    def fail(self, seed, what, details):
        self.failures.append((seed, what, details))
        self.figures["failed: " + what] += 1
        if what == "hung":
            self.patience = PATIENCE_AGAIN


def run_row(row, seeds, library, stderr, verbose):
    """Some seeds for each server, and a new one after each failure."""
    server = None
    for done, seed in enumerate(seeds):
        if server is None:
            options = (f"--sndbuf={SEND_BUFFERS[seed // SEEDS_OF_A_SERVER % len(SEND_BUFFERS)]}",)
            server = row.server(options, row, library, stderr)
        is_last = done + 1 == len(seeds) or (done + 1) % SEEDS_OF_A_SERVER == 0
        good = run_seed(row, server, seed, verbose)
        if good and is_last:
            good = run_check(row, seed, server, server.check_end)
        if not good or is_last:
            add_counts(row, server)
            server.close()
            server = None


def add_counts(row, server):
    for kind, count in server.control.counts().items():
        row.figures[kind] += count


def run_check(row, seed, server, check):
    """Returns whether all was well."""
    try:
        check()
        return True
    except Failure as failure:
        row.fail(seed, *failure.args)
    except (OSError, ValueError, RuntimeError, KeyError, IndexError) as error:
        status = server.process.status()
        if status is not None or isinstance(error, ConnectionRefusedError):
            row.fail(seed, "crash", f"{error}, status {status}")
        else:
            row.fail(seed, "later clients", repr(error))
    return False


def run_seed(row, server, seed, verbose):
    """Returns whether all was well."""
    mode, rates = rates_of(seed)
    rates = {kind: rate for kind, rate in rates.items() if kind not in server.never_fails}
    control = server.control
    turns, sends, before = control.turns, control.sends, control.counts()
    control.begin(seed, rates)
    try:
        clients = server.start_clients(seed)
        missing = server.play(clients, row.patience)
    except OSError as error:  # nobody listens
        row.fail(seed, "crash", f"{error}, status {server.process.status()}, mode {mode}")
        return False
    # What the server has yet to do for them is done without faults.
    harm = [control.faults_of(number) for number in range(len(clients))]
    control.end()
    counts = {kind: count - before[kind] for kind, count in control.counts().items()}
    turns, sends, faults = control.turns - turns, control.sends - sends, sum(counts.values())
    if verbose:
        print(f"{row.name}, seed {seed}, {mode}: {rates}")
        print(f"  {turns} turns, {sends} sends; faults: {counts}")

    failures = len(row.failures)
    run_check(row, seed, server, server.check_service)
    row.figures["seeds"] += 1
    for client, kinds in zip(clients, harm):
        what = f"{client.outcome} after {client.script.received} bytes: {sorted(kinds)}"
        if verbose:
            print(f"  {what}")
        verdict = judge(row, server, client, kinds, counts)
        if verdict is not None:
            row.fail(seed, verdict, what)
        elif client.outcome in ("ended", "cut") and missing.get(client):
            row.fail(seed, "missing bytes", missing[client])
    if turns > 4 * (sends + faults) + OTHER_TURNS:
        row.fail(seed, "spins", f"{turns} turns, {sends} sends, {faults} faults")
    return len(row.failures) == failures


def judge(row, server, client, kinds, counts):
    """What is wrong with how a client fared to whom these kinds of faults have happened, or None."""
    row.figures["sessions"] += 1
    row.figures["bytes"] += client.script.received
    if client.outcome in ("ended", "reset", "cut"):
        row.figures[client.outcome] += 1
    if client.outcome in ("ended", "reset"):
        return None
    if client.outcome == "cut":
        refused = any(counts[kind] for kind in ALLOCATIONS)
        return None if kinds & FATAL or refused or server.drops_explain_cuts else "lost"
    if client.outcome == "hung":
        return "hung"
    if client.outcome.startswith("TLS") and counts["malloc in OpenSSL"]:
        # OpenSSL itself sends what the peer cannot decrypt: an alert, when a record or the
        # handshake has failed half way. The peer takes none of it for data.
        row.figures["broken by OpenSSL"] += 1
        return None
    return "wrong bytes"


def parse_seeds(text):
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def rows_of(arguments, directory):
    rows = [Row(output, False, directory) for output in (*PLAIN_OUTPUTS, *broker.OUTPUTS)]
    rows += [Row(output, True, directory) for output in TLS_OUTPUTS]
    if arguments.sendq:
        rows = [row for row in rows if row.output not in HAND_WRITTEN]
    if arguments.row:
        rows = [row for row in rows if row.output == arguments.row]
        rows = [row for row in rows if row.over_tls == arguments.tls]
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--bin", type=Path, required=True, help="tests/ of a build")
    parser.add_argument("--row", help="of --output, or own or sendq of fanout; else all of them")
    parser.add_argument("--tls", action="store_true", help="the row over TLS")
    parser.add_argument("--sendq", action="store_true", help="only rows that send through sendq")
    parser.add_argument("--seeds", type=parse_seeds, default=range(1, 4), help="N or FIRST-LAST")
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--stderr", help="where the servers' messages go")
    arguments = parser.parse_args()
    library = str(arguments.bin.resolve() / "fault" / "libsendq_faults.so")
    stderr = open(arguments.stderr or os.devnull, "w")
    verbose = arguments.row is not None and len(arguments.seeds) == 1
    rows = rows_of(arguments, arguments.bin.resolve() / "host")
    for row in rows:
        run_row(row, arguments.seeds, library, stderr, verbose)
        print_row(row)
    if arguments.json:
        arguments.json.write_text(
            json.dumps([{"row": row.name, **row.figures, "failures": row.failures} for row in rows])
        )
    return any(row.failures for row in rows)


def print_row(row):
    figures = row.figures
    faults = ", ".join(f"{kind} {figures[kind]:,}" for kind in KINDS if figures[kind])
    print(
        f"{row.name}: {figures['seeds']} seeds, {figures['sessions']} sessions "
        f"({figures['cut']} cut, {figures['reset']} reset, "
        f"{figures['broken by OpenSSL']} broken by OpenSSL), {figures['bytes']:,} bytes compared, "
        f"{len(row.failures)} failures\n    {faults}",
        flush=True,
    )
    for seed, what, details in row.failures[:10]:
        print(f"    seed {seed}: {what} {details}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
