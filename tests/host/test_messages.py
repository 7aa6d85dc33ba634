"""Limits and statistics that count messages, not bytes."""

import contextlib
import os
import time
import unittest

import mcbp
from case import DaemonCase
from mcbp import Op, Status

KEY = b"value"
VALUE = os.urandom(256 << 10)
REQUESTS = 50
MOST = 20  # those of `stat` are fewer


class Messages(DaemonCase, unittest.TestCase):
    def start(self, *options):
        self.start_daemon("sendq-message", "--sndbuf=65536", "--high=0", *options)
        extras = mcbp.storage_extras()
        response = mcbp.ask(self.control, Op.SET, key=KEY, value=VALUE, extras=extras)
        self.assertEqual(response.status, Status.OK)

    def connect_stuck(self):
        """It asks and does not read."""
        stuck = self.connect(receive_buffer=4096)
        stuck.sendall(mcbp.request(Op.GET, key=KEY) * REQUESTS)
        return stuck

    def queued(self):
        """Of the connection with most messages."""
        return max(one["queued_messages"] for one in mcbp.connections(self.control).values())

    def wait_for_queued(self, count):
        deadline = time.monotonic() + self.settle_seconds
        while (found := self.queued()) != count:
            self.assertLess(time.monotonic(), deadline, f"{found} are queued, not {count}")
            time.sleep(0.02)

    def assert_all_come(self, sock):
        for _ in range(REQUESTS):
            self.assertTrue(mcbp.receive(sock).value == VALUE, "the bytes differ")

    def test_they_are_counted(self):
        self.start()
        stuck = self.connect_stuck()
        self.wait_for_queued(REQUESTS)
        self.assert_all_come(stuck)
        self.wait_for_queued(0)
        sent = [one["sent_messages"] for one in mcbp.connections(self.control).values()]
        self.assertIn(REQUESTS, sent)

    def test_requests_wait_for_room(self):
        self.start(f"--max-messages={MOST}")
        stuck = self.connect_stuck()
        self.wait_for_queued(MOST)
        self.assertEqual(self.queued(), MOST)
        self.assert_all_come(stuck)
        self.assertEqual(self.stat("dropped_cap"), 0)

    def test_a_request_with_more_answers_than_there_is_room_for(self):
        self.start(f"--max-messages={MOST}")
        for _ in range(MOST):
            self.connect()
        client = self.connect()
        client.sendall(mcbp.request(Op.STAT, key=b"connections"))
        with contextlib.suppress(ConnectionError):
            self.assertEqual(client.recv(1 << 16), b"")
        self.wait_for_stat("dropped_cap", 1)

    def test_the_rest_of_a_batch_is_run_when_there_is_room(self):
        self.start(f"--max-messages={MOST}")
        self.control.sendall(mcbp.request(Op.NOOP) * REQUESTS)
        for _ in range(REQUESTS):
            self.assertEqual(mcbp.receive(self.control).opcode, Op.NOOP)


if __name__ == "__main__":
    unittest.main()
