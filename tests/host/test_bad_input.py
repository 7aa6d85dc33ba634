"""Whatever a client sends or leaves out, the daemon lives on and keeps nothing of it."""

import random
import socket
import struct
import time
import unittest

import mcbp
from case import suite_of
from daemon import SENDQ_OUTPUTS, Daemon
from mcbp import Op, Status

LARGE = b"large"
LARGE_BYTES = 8 << 20
SETTLE_SECONDS = 60


def reset(sock):
    """Closes with RST instead of FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def read_to_end(sock):
    data = bytearray()
    try:
        while part := sock.recv(64 << 10):
            data += part
    except ConnectionResetError:
        pass
    return bytes(data)


def flood(sock, seconds):
    """Asks and asks, and reads no answer."""
    sock.setblocking(False)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            sock.send(mcbp.request(Op.STAT) * 500)
        except BlockingIOError:
            time.sleep(0.01)


class BadInput:
    """The cases; a subclass for each output path runs them."""

    output = None

    def setUp(self):
        self.daemon = Daemon(self.output, "--sndbuf=65536")
        self.addCleanup(self.daemon.stop)
        with self.connect() as sock:
            extras = mcbp.storage_extras()
            mcbp.ask(sock, Op.SET, key=LARGE, value=bytes(LARGE_BYTES), extras=extras)
        self.descriptors = self.descriptors_when_alone()

    def tearDown(self):
        self.assertEqual(self.descriptors_when_alone(), self.descriptors)
        self.assertEqual(self.daemon.stop(), 0)

    def connect(self):
        return mcbp.connect(self.daemon.port)

    def descriptors_when_alone(self):
        """The daemon's, once the connection that asks is the only one."""
        deadline = time.monotonic() + SETTLE_SECONDS
        with self.connect() as sock:
            while mcbp.stats(sock)["curr_connections"] != "1":
                self.assertLess(time.monotonic(), deadline, "a connection is not closed")
                time.sleep(0.02)
            return self.daemon.descriptors()

    def test_garbage(self):
        choose = random.Random(1)
        for _ in range(50):
            with self.connect() as sock:
                # Its first byte may be a request's magic, so the length of a body comes in, too.
                sock.sendall(choose.randbytes(choose.randrange(1, 2000)))
                sock.shutdown(socket.SHUT_WR)
                read_to_end(sock)

    def test_wrong_magic_closes_after_what_was_asked_before(self):
        with self.connect() as sock:
            sock.sendall(mcbp.request(Op.NOOP, opaque=1) + bytes(mcbp.HEADER.size))
            self.assertEqual([r.opaque for r in mcbp.parse(read_to_end(sock))], [1])

    def test_truncated_request(self):
        whole = mcbp.request(
            Op.SET, key=b"cut", value=bytes(100000), extras=mcbp.storage_extras()
        )
        for length in (1, 23, 24, 30, 35, 50000, len(whole) - 1):
            with self.subTest(length=length), self.connect() as sock:
                sock.sendall(whole[:length])
                sock.shutdown(socket.SHUT_WR)
                self.assertEqual(read_to_end(sock), b"")
        with self.connect() as sock:
            self.assertEqual(mcbp.ask(sock, Op.GET, key=b"cut").status, Status.NOT_FOUND)

    def test_request_in_single_bytes(self):
        with self.connect() as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in mcbp.request(Op.SET, b"slow", b"value", mcbp.storage_extras()):
                sock.send(bytes([byte]))
            self.assertEqual(mcbp.receive(sock).status, Status.OK)

    def test_huge_body(self):
        header = mcbp.HEADER.pack(mcbp.REQUEST, Op.SET, 1, 8, 0, 0, 0xFFFFFFFF, 0, 0)
        before = self.daemon.peak_memory()
        with self.connect() as sock:
            sock.sendall(header + bytes(1 << 20))
            self.assertEqual(mcbp.receive(sock).status, Status.TOO_LARGE)
            sock.sendall(bytes(1 << 20))
        self.assertLess(self.daemon.peak_memory(), before + (4 << 20))

    def test_body_shorter_than_its_parts(self):
        header = mcbp.HEADER.pack(mcbp.REQUEST, Op.SET, 100, 8, 0, 0, 10, 0, 0)
        with self.connect() as sock:
            sock.sendall(header + bytes(10))
            self.assertEqual(mcbp.receive(sock).status, Status.INVALID)
            self.assertEqual(mcbp.ask(sock, Op.NOOP).status, Status.OK)

    def test_reset_within_a_response(self):
        for requests in (1, 20):
            with self.subTest(requests=requests):
                sock = self.connect()
                sock.sendall(mcbp.request(Op.GET, key=LARGE) * requests)
                mcbp.receive_exactly(sock, 100000)
                reset(sock)

    def test_reset_while_the_daemon_waits(self):
        sock = self.connect()
        sock.sendall(mcbp.request(Op.GET, key=LARGE) * 20)
        time.sleep(0.2)
        reset(sock)

    def test_reset_after_half_close(self):
        """The next write finds a broken pipe."""
        sock = self.connect()
        sock.sendall(mcbp.request(Op.GET, key=LARGE) * 20)
        sock.shutdown(socket.SHUT_WR)
        mcbp.receive_exactly(sock, 100000)
        reset(sock)

    def test_half_close_gets_all_responses(self):
        with self.connect() as sock:
            sock.sendall(mcbp.request(Op.GET, key=LARGE) * 20)
            sock.shutdown(socket.SHUT_WR)
            responses = mcbp.parse(read_to_end(sock))
        self.assertEqual([len(response.value) for response in responses], [LARGE_BYTES] * 20)

    def test_client_that_never_reads_is_not_answered_for_ever(self):
        with self.connect() as sock, self.connect() as neighbour:
            deadline = time.monotonic() + SETTLE_SECONDS
            while self.are_answered_while_flooded(sock, neighbour):
                self.assertLess(time.monotonic(), deadline, "it is answered and answered")

    @staticmethod
    def are_answered_while_flooded(sock, neighbour):
        before = mcbp.stats(neighbour)
        flood(sock, seconds=0.2)
        after = mcbp.stats(neighbour)
        # But for the neighbour's own question, and its end.
        return int(after["responses"]) - int(before["responses"]) > len(before) + 1

    def test_stop_while_responses_wait(self):
        with self.connect() as sock:
            sock.sendall(mcbp.request(Op.GET, key=LARGE) * 20)
            time.sleep(0.1)
            self.assertEqual(self.daemon.stop(), 0)
        self.daemon = Daemon(self.output)
        self.addCleanup(self.daemon.stop)


def load_tests(loader, _tests, _pattern):
    return suite_of(loader, BadInput, SENDQ_OUTPUTS)


if __name__ == "__main__":
    unittest.main()
