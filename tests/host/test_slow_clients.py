"""Clients that do not read cost those that do nothing, nor the server more than its budget. In short;
bench_slow_clients.py plays it at length and prints the figures."""

import os
import unittest

import tls
from daemon import SENDQ_OUTPUTS, Daemon
from slow_clients import MIB, Scale, play

SCALE = Scale(seconds=2.5, stall=1)
# What the server takes besides the budget: itself, up to 128 KiB of input for each connection, free
# blocks that its pools cache, and what its heap has in holes; 34 KiB for each that OpenSSL keeps.
CONSTANT = (48 if tls.BY_DEFAULT else 32) * MIB
# Of that, what may stay when all is over: 8 MiB are kept by the pools of two threads. OpenSSL leaves
# holes in the heap, too.
STAYS = (24 if tls.BY_DEFAULT else 16) * MIB


class SlowClients(unittest.TestCase):
    def check(self, output):
        with Daemon(output, *SCALE.options()) as daemon:
            result = play(os.environ["MCLOAD"], daemon, SCALE)
            sanitized = daemon.is_sanitized()
        self.assertIsNone(result["failure"])
        self.assertEqual(result["stuck_dropped"], SCALE.stuck)
        dropped = result["dropped"]
        self.assertGreater(dropped["stalled"], 0)
        self.assertEqual(dropped["cap"], 0)
        self.assertTrue(result["settled"], "connections or items are left")
        if not sanitized:
            self.assertLess(result["peak_memory"], SCALE.budget + CONSTANT)
            self.assertLess(result["memory_after"], result["memory_before"] + STAYS)

    def test_every_output(self):
        for output in SENDQ_OUTPUTS:
            with self.subTest(output=output):
                self.check(output)


if __name__ == "__main__":
    unittest.main()
