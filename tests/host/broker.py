"""Starts the broker `fanout` on a free port, speaks its protocol, and ends it again."""

import os
import re
import select
import signal
import socket
import subprocess

OUTPUTS = ("own", "sendq")
# When the other side is taken to hang, however busy the machine is.
TIMEOUT = 60


class Broker:
    def __init__(
        self, output, *options, program=None, prefix=(), stderr=None, environment=None
    ):
        program = program or os.environ[f"FANOUT_{output.upper()}"]
        self.output = output
        self._process = subprocess.Popen(
            [*prefix, program, *options], stdout=subprocess.PIPE, stderr=stderr, env=environment
        )
        try:
            self.port = self._read_port()
        except BaseException:
            self._process.kill()
            self._reap()
            raise

    def _read_port(self):
        if not select.select([self._process.stdout], [], [], TIMEOUT)[0]:
            raise TimeoutError("the broker does not say that it listens")
        line = self._process.stdout.readline().decode()
        match = re.fullmatch(r"fanout listening on 127\.0\.0\.1:(\d+)\n", line)
        if not match:
            raise RuntimeError(f"the broker says {line!r}")
        return int(match[1])

    def _reap(self):
        self._process.stdout.close()
        return self._process.wait()

    @property
    def pid(self):
        return self._process.pid

    def status(self):
        """The exit status, as subprocess has it; None while it runs."""
        return self._process.poll()

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def terminate(self):
        self._process.send_signal(signal.SIGTERM)

    def wait(self):
        """Returns the exit status; a broker that does not stop is killed and a failure."""
        try:
            self._process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
        return self._reap()

    def stop(self):
        if self._process.poll() is None:
            self.terminate()
        return self.wait()


class Client:
    """A connection to the broker."""

    def __init__(self, port, receive_buffer=None):
        self.sock = socket.socket()
        self.sock.settimeout(TIMEOUT)
        if receive_buffer is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.connect(("127.0.0.1", port))
        self._input = self.sock.makefile("rb")

    def close(self):
        self._input.close()
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)

    def line(self):
        return self._input.readline()

    def receive(self, size):
        """So many bytes, or fewer at the end."""
        return self._input.read(size)

    def rest(self):
        """All until the broker ends the connection."""
        return self._input.read()

    def ask(self, command):
        """Returns the line that comes back, without its end."""
        self.send(command + b"\n")
        return self.line().rstrip(b"\n")

    def subscribe(self, topic):
        if self.ask(b"SUB " + topic) != b"+OK":
            raise RuntimeError("the broker refuses a subscription")

    def publish(self, topic, payload):
        """Returns how many clients get it."""
        self.send(publication(topic, payload))
        reply = self.line().split()
        if reply[:1] != [b"+OK"]:
            raise RuntimeError(f"the broker says {reply}")
        return int(reply[1])

    def message(self):
        """Returns topic, number and payload of the next one."""
        line = self.line()
        match = re.fullmatch(rb"MSG (\S+) (\d+) (\d+)\n", line)
        if not match:
            raise RuntimeError(f"no message: {line!r}")
        payload = self._input.read(int(match[2]) + 1)
        if len(payload) != int(match[2]) + 1 or payload[-1:] != b"\n":
            raise RuntimeError("half a message")
        return match[1], int(match[3]), payload[:-1]

    def stat(self, name):
        fields = self.ask(b"STAT").split()[1:]
        return int(dict(field.split(b"=") for field in fields)[name.encode()])


def publication(topic, payload):
    return b"PUB %s %d\n%s\n" % (topic, len(payload), payload)


def delivery(topic, number, payload):
    """What a subscriber gets."""
    return b"MSG %s %d %d\n%s\n" % (topic, len(payload), number, payload)
