"""What the tests of a running daemon have in common."""

import time
import unittest

import mcbp
from daemon import Daemon


class DaemonCase:
    """A daemon and a connection to control it; for a subclass that is a TestCase, too."""

    settle_seconds = mcbp.TIMEOUT

    def start_daemon(self, output, *options):
        self.daemon = Daemon(output, *options)
        self.addCleanup(self.daemon.stop)
        self.control = self.connect()

    def tearDown(self):
        self.assertEqual(self.daemon.stop(), 0)

    def connect(self, **options):
        sock = mcbp.connect(self.daemon.port, **options)
        self.addCleanup(sock.close)
        return sock

    def stat(self, name):
        return int(mcbp.stats(self.control)[name])

    def wait_for_stat(self, name, value):
        deadline = time.monotonic() + self.settle_seconds
        while (found := self.stat(name)) != value:
            self.assertLess(time.monotonic(), deadline, f"{name} stays {found}, not {value}")
            time.sleep(0.02)

    def jump(self, seconds):
        mcbp.jump(self.control, seconds)

    def jump_until_dropped(self, seconds, count):
        """So many, as stalled. Again and again, because what was asked for just now may still be on its
        way into the sockets, which is progress."""
        deadline = time.monotonic() + self.settle_seconds
        while (found := self.stat("dropped_stalled")) != count:
            self.assertLess(time.monotonic(), deadline, f"{found} are dropped, not {count}")
            self.jump(seconds)


def suite_of(loader, cases, outputs):
    """The cases once for each output path, which they find in their `output`."""
    suite = unittest.TestSuite()
    for output in outputs:
        name = f"{cases.__name__}[{output}]"
        case = type(name, (cases, unittest.TestCase), {"output": output})
        suite.addTests(loader.loadTestsFromTestCase(case))
    return suite
