"""Each output path passes libmemcached's test of the binary protocol."""

import sys
import unittest

import memcapable
from daemon import OUTPUTS, Daemon

SKIPPED = 77


class Conformance(unittest.TestCase):
    def test_every_output(self):
        for output in OUTPUTS:
            with self.subTest(output=output), Daemon(output) as daemon:
                passed, total, text = memcapable.run(memcapable.find(), daemon.port)
                self.assertGreater(total, 0, text)
                self.assertEqual(passed, total, text)


if __name__ == "__main__":
    if memcapable.find() is None:
        print("skipped: neither memccapable nor memcapable (libmemcached-tools) is installed")
        sys.exit(SKIPPED)
    unittest.main()
