"""Messages that nobody has asked for: all of them come, in order, between the responses."""

import contextlib
import unittest

import mcbp
from case import DaemonCase, suite_of
from daemon import SENDQ_OUTPUTS
from mcbp import Op, Status

TEXTS = [f"text {n}".encode() * (n + 1) for n in range(50)]
LONG = bytes(100_000)


class Pushes(DaemonCase):
    output = None

    def subscribe(self, **options):
        sock = self.connect(**options)
        self.assertEqual(mcbp.ask(sock, Op.SUBSCRIBE).status, Status.OK)
        return sock

    def publish(self, text):
        self.assertEqual(mcbp.ask(self.control, Op.PUBLISH, value=text).status, Status.OK)

    def assert_pushed(self, sock, text):
        message = mcbp.receive(sock)
        self.assertEqual(message.opcode, Op.PUSH)
        self.assertTrue(message.value == text, "the bytes differ")

    def test_all_come_in_order(self):
        self.start_daemon(self.output, "--threads=2")
        subscribers = [self.subscribe() for _ in range(10)]
        other = self.connect()
        for text in TEXTS:
            self.publish(text)
        for sock in subscribers:
            for text in TEXTS:
                self.assert_pushed(sock, text)
        self.assertEqual(mcbp.ask(other, Op.NOOP).opcode, Op.NOOP)

    def test_between_responses(self):
        self.start_daemon(self.output)
        sock = self.subscribe()
        sock.sendall(mcbp.request(Op.NOOP) * 100)
        for text in TEXTS:
            self.publish(text)
        sock.sendall(mcbp.request(Op.NOOP) * 100)
        messages = [mcbp.receive(sock) for _ in range(200 + len(TEXTS))]
        self.assertEqual([one.value for one in messages if one.opcode == Op.PUSH], TEXTS)
        self.assertEqual(sum(one.opcode == Op.NOOP for one in messages), 200)

    def test_a_subscriber_that_does_not_read_is_dropped(self):
        self.start_daemon(self.output, "--sndbuf=65536", "--cap=1000000")
        stuck = self.subscribe(receive_buffer=4096)
        reader = self.subscribe()
        for _ in range(30):
            self.publish(LONG)
            self.assert_pushed(reader, LONG)
        self.wait_for_stat("dropped_cap", 1)
        with contextlib.suppress(ConnectionError):
            while stuck.recv(1 << 16):
                pass
        self.assertEqual(mcbp.ask(reader, Op.NOOP).opcode, Op.NOOP)


def load_tests(loader, _tests, _pattern):
    return suite_of(loader, Pushes, SENDQ_OUTPUTS)


if __name__ == "__main__":
    unittest.main()
