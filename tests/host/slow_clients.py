"""Clients that behave, among others that do not read, hardly read, or vanish: what becomes of them, and
of the server's memory."""

import contextlib
import json
import random
import select
import socket
import struct
import subprocess
import time
from dataclasses import dataclass

import mcbp
from mcbp import Op, Status

KIB, MIB = 1 << 10, 1 << 20
KEY = b"slow"
STEP_SECONDS = 0.02
SETTLE_SECONDS = 60
SEED = 4


@dataclass(frozen=True)
class Scale:
    seconds: float = 30  # of the load; the slow ones come at its beginning
    stall: float = 10  # when the server is to drop a client
    behaved: int = 200
    pause: float = 0.05  # of one that behaves, after each batch
    depth: int = 4
    behaved_value: int = 4 * KIB
    stuck: int = 50
    trickling: int = 20
    resetting: int = 20
    value: int = 64 * KIB
    requests: int = 320  # 20 MiB
    threads: int = 2
    high: int = MIB
    budget: int = 64 * MIB

    def options(self):
        """Of the server."""
        return (
            f"--threads={self.threads}",
            f"--stall={self.stall}",
            f"--high={self.high}",
            f"--budget={self.budget}",
            "--sndbuf=65536",
        )


def reset(sock):
    """Closes with RST instead of FIN."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def questions(scale):
    """Each asks for a value that was stored just before and is replaced just after, so that nobody but
    who has it on its way has it in memory."""
    store = mcbp.request(Op.SETQ, KEY, bytes(scale.value), mcbp.storage_extras())
    return memoryview((store + mcbp.request(Op.GET, KEY)) * scale.requests)


class Client:
    """One that asks for much."""

    def __init__(self, port, unsent):
        self.asked_at = time.monotonic()
        self.sock = mcbp.connect(port, receive_buffer=4096)
        self.sock.setblocking(False)
        self._unsent = unsent
        self.lived = None  # seconds, once the server has dropped it
        self.next_at = self.asked_at

    def ask(self):
        """As much as the server takes, which it does not for long."""
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while self._unsent:
                self._unsent = self._unsent[self.sock.send(self._unsent) :]

    def look(self):
        """Has the server dropped it? Nothing is read for that."""
        if self.lived is None and is_reset(self.sock):
            self.lived = time.monotonic() - self.asked_at

    def read(self, size):
        with contextlib.suppress(BlockingIOError, ConnectionError):
            self.sock.recv(size)


def is_reset(sock):
    poll = select.poll()
    poll.register(sock, 0)  # errors come unasked
    return bool(poll.poll(0))


class Crowd:
    """The slow clients, all played by whoever calls step()."""

    def __init__(self, port, scale):
        self._port = port
        self._questions = questions(scale)
        self._most_read = scale.value
        self._random = random.Random(SEED)
        self.stuck = [self._connect() for _ in range(scale.stuck)]
        self.trickling = [self._connect() for _ in range(scale.trickling)]
        self._resetting = [self._connect() for _ in range(scale.resetting)]
        self.resets = 0

    def _connect(self):
        return Client(self._port, self._questions)

    def step(self):
        now = time.monotonic()
        for client in self.stuck + self.trickling:
            client.look()
            if client.lived is None:
                client.ask()
        for client in self.trickling:
            if client.lived is None and client.next_at <= now:
                client.read(1)
                client.next_at += 1
        for i, client in enumerate(self._resetting):
            client.ask()
            if client.next_at <= now:
                self._resetting[i] = self._replace(client)

    def _replace(self, client):
        client.read(self._random.randrange(1, self._most_read))
        reset(client.sock)
        self.resets += 1
        client = self._connect()
        client.next_at += self._random.uniform(0.02, 1)
        return client

    def stop_resetting(self):
        while self._resetting:
            reset(self._resetting.pop().sock)

    def close(self):
        for client in self.stuck + self.trickling + self._resetting:
            client.sock.close()


def start_load(mcload, daemon, scale):
    command = [
        mcload,
        f"--port={daemon.port}",
        f"--connections={scale.behaved}",
        f"--value={scale.behaved_value}",
        f"--depth={scale.depth}",
        f"--pause={scale.pause}",
        f"--seconds={scale.seconds}",
        f"--requests={1 << 60}",
        "--verify",
        *(["--tls"] if daemon.over_tls else []),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def settle(sock, items):
    """Waits until who asks is the only connection and there are only so many items; False if that never
    comes."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < deadline:
        now = mcbp.stats(sock)
        if (now["curr_connections"], now["live_items"]) == ("1", items):
            return True
        time.sleep(STEP_SECONDS)
    return False


def play(mcload, daemon, scale):
    """All of it, once. Returns the figures."""
    with mcbp.connect(daemon.port, timeout=SETTLE_SECONDS) as control:
        extras = mcbp.storage_extras()
        for key, size in ((KEY, scale.value), (b"mcload", scale.behaved_value)):
            response = mcbp.ask(control, Op.SET, key=key, value=bytes(size), extras=extras)
            if response.status != Status.OK:
                raise RuntimeError("the value is not stored")
        items = mcbp.stats(control)["live_items"]
        memory_before = daemon.memory()
        load = start_load(mcload, daemon, scale)
        try:
            crowd = Crowd(daemon.port, scale)
            with contextlib.closing(crowd):
                while load.poll() is None:
                    crowd.step()
                    time.sleep(STEP_SECONDS)
                crowd.stop_resetting()
                wait_for_drops(crowd, scale)
            output, errors = load.communicate()
        except BaseException:
            load.kill()
            load.communicate()
            raise
        settled = settle(control, items)
        after = mcbp.stats(control)
    lived = [client.lived for client in crowd.stuck if client.lived is not None]
    return {
        "failure": errors.strip() or None if load.returncode else None,
        "load": json.loads(output) if load.returncode == 0 else None,
        "stuck": scale.stuck,
        "stuck_dropped": len(lived),
        "stuck_lived": max(lived, default=None),
        "trickling_dropped": sum(client.lived is not None for client in crowd.trickling),
        "resets": crowd.resets,
        "dropped": {
            reason: int(after[f"dropped_{reason}"]) for reason in ("stalled", "heaviest", "cap")
        },
        "settled": settled,
        "memory_before": memory_before,
        "memory_after": daemon.memory(),
        "peak_memory": daemon.peak_memory(),
    }


def wait_for_drops(crowd, scale):
    """Their time is up at the latest so long after they have asked."""
    deadline = time.monotonic() + scale.stall + SETTLE_SECONDS
    while any(client.lived is None for client in crowd.stuck) and time.monotonic() < deadline:
        crowd.step()
        time.sleep(STEP_SECONDS)
