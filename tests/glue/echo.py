"""The two servers of lines, echo_bufferevent and echo_sendq, and a client of theirs."""

import os
import random
import socket
import subprocess

BLOB = b"b" * (1 << 20)
SERVERS = ("bufferevent", "sendq")


class Server:
    def __init__(self, name, tracer=()):
        self._process = subprocess.Popen(
            [*tracer, os.environ[f"ECHO_{name.upper()}"]], stdout=subprocess.PIPE
        )
        self.port = int(self._process.stdout.readline() or 0)

    def connect(self, receive_buffer=None):
        sock = socket.socket()
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(60)
        sock.connect(("127.0.0.1", self.port))
        return sock

    def stop(self):
        """Returns the exit status."""
        self._process.terminate()
        try:
            status = self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        with self._process.stdout as output:
            output.read()  # until a tracer has ended, too
        return status

    def __enter__(self):
        return self

    def __exit__(self, exception_type, *_):
        status = self.stop()
        if status != 0 and exception_type is None:
            raise RuntimeError(f"the server ended with {status}")


def lines(seed, count):
    """Requests, and the reply to them."""
    random_source = random.Random(seed)
    asked = [
        b"blob" if random_source.random() < 0.02 else b"x" * random_source.randrange(300)
        for _ in range(count)
    ]
    replies = (BLOB if line == b"blob" else line + b"\n" for line in asked)
    return b"".join(line + b"\n" for line in asked), b"".join(replies)


def receive_all(sock):
    return b"".join(iter(lambda: sock.recv(1 << 20), b""))
