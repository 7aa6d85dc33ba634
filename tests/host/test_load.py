"""mcload is satisfied by each output path, and by nothing less than right answers."""

import os
import socket
import subprocess
import threading
import unittest

import tls
from daemon import OUTPUTS, SENDQ_OUTPUTS, WITHOUT_SENDQ, Daemon

# Copied and borrowed, and more than a socket holds.
MIXED = ("--value=16384", "--depth=16")
LOADS = (
    ("--value=0", "--depth=7"),
    ("--value=100", "--connections=500", "--depth=3"),
    MIXED,
    ("--value=100", "--connections=50", "--pause=0.005"),
    ("--value=3000000", "--connections=4", "--depth=5", "--requests=100"),
)


def run_load(port, *options):
    command = [os.environ["MCLOAD"], f"--port={port}", "--requests=5000", "--verify", *options]
    command += ["--tls"] if tls.BY_DEFAULT else []
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


class Meddler:
    """Stands between client and server, and hands `spoil` what the server sends on its second
    connection: the first serves mcload to prepare the value."""

    def __init__(self, port, spoil):
        self._server_port = port
        self._spoil = spoil
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets = [self._listener]
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        for spoil in (bytes, self._spoil):
            client, _ = self._listener.accept()
            server = socket.create_connection(("127.0.0.1", self._server_port))
            self._sockets += [client, server]
            for args in ((client, server, bytes), (server, client, spoil)):
                threading.Thread(target=self._relay, args=args, daemon=True).start()

    @staticmethod
    def _relay(source, target, change):
        try:
            while data := source.recv(64 << 10):
                target.sendall(change(data))
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the other end is gone

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for sock in self._sockets:
            sock.close()


class Load(unittest.TestCase):
    def test_every_output(self):
        for output in SENDQ_OUTPUTS:
            for threads in (1, 3):
                self.check(output, threads, LOADS)

    def test_outputs_without_sendq(self):
        for output in WITHOUT_SENDQ:
            self.check(output, 3, [MIXED])

    def check(self, output, threads, loads):
        with Daemon(output, f"--threads={threads}") as daemon:
            for load in loads:
                with self.subTest(output=output, threads=threads, load=load):
                    result = run_load(daemon.port, *load)
                    self.assertEqual(result.returncode, 0, result.stderr)

    @unittest.skipIf(tls.BY_DEFAULT, "TLS refuses by itself what was changed on the way")
    def assert_refused(self, spoil, message, *options):
        with Daemon(OUTPUTS[0]) as daemon, Meddler(daemon.port, spoil) as meddler:
            result = run_load(meddler.port, "--connections=1", *options)
        self.assertEqual(result.returncode, 1)
        self.assertIn(message, result.stderr)

    def test_wrong_byte_in_the_value(self):
        self.assert_refused(lambda data: data[:-1] + bytes([data[-1] ^ 1]), "wrong value")

    def test_wrong_byte_in_the_head(self):
        self.assert_refused(lambda data: bytes([data[0] ^ 1]) + data[1:], "wrong head")

    def test_surplus_byte(self):
        self.assert_refused(lambda data: data + b"x", "not asked for")

    def test_missing_byte(self):
        self.assert_refused(lambda data: data[:-1], "stalled", "--stall=0.5")


if __name__ == "__main__":
    unittest.main()
