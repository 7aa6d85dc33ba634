"""What a reply costs in system calls, by strace: bufferevents arm and disarm EV_WRITE for each, the
glue never does."""

import re
import shutil
import sys
import tempfile
import unittest
from collections import Counter

from echo import SERVERS, Server

REPLIES = 500
# Of a server's start, of a connection, and of the end.
OTHERS = 20


def exchange(sock, line):
    sock.sendall(line)
    received = b""
    while len(received) < len(line):
        received += sock.recv(len(line))
    if received != line:
        raise AssertionError(f"{received} is no reply to {line}")


def can_trace():
    """Not everywhere: a container may forbid it, a sanitizer's leak check ends the traced program."""
    if shutil.which("strace") is None:
        return False
    try:
        trace("sendq")
    except (OSError, RuntimeError):
        return False
    return True


def trace(name):
    """How often the server makes each system call for so many requests, each with its reply."""
    with tempfile.NamedTemporaryFile("r") as log:
        with Server(name, ["strace", "-D", "-f", "-qq", f"--output={log.name}"]) as server:
            with server.connect() as sock:
                for i in range(REPLIES):
                    exchange(sock, b"request %d\n" % i)
        return Counter(re.findall(r"^(?:\d+ +)?(\w+)\(", log.read(), re.M))




class SystemCalls(unittest.TestCase):
    def test_epoll_ctl(self):
        calls = {name: trace(name) for name in SERVERS}
        for name, counted in calls.items():
            busy = {call: n / REPLIES for call, n in counted.items() if n >= REPLIES / 2}
            print(f"{name}: {sum(busy.values()):.2f} a reply, {busy}", file=sys.stderr)
        self.assertGreaterEqual(calls["bufferevent"]["epoll_ctl"], 2 * REPLIES)
        self.assertLessEqual(calls["sendq"]["epoll_ctl"], OTHERS)
        # A turn of the loop that only found the socket writable.
        self.assertGreaterEqual(calls["bufferevent"]["epoll_wait"], 2 * REPLIES)
        self.assertLessEqual(calls["sendq"]["epoll_wait"], REPLIES + OTHERS)


if __name__ == "__main__":
    if not can_trace():
        sys.exit(77)
    unittest.main()
