"""Each output path passes libmemcached's test of the binary protocol."""

import contextlib
import re
import shutil
import subprocess
import sys
import unittest
from concurrent.futures import ThreadPoolExecutor

import memcapable
import tls
from daemon import OUTPUTS, Daemon

SKIPPED = 77


@contextlib.contextmanager
def plain(daemon):
    """A port for a client that speaks no TLS."""
    if not daemon.over_tls:
        yield daemon.port
        return
    there = f"OPENSSL:127.0.0.1:{daemon.port},verify=0"
    command = ["socat", "-d", "-d", "TCP-LISTEN:0,bind=127.0.0.1,fork", there]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tunnel:
        try:
            yield int(re.search(r"listening on AF=2 127\.0\.0\.1:(\d+)", tunnel.stderr.readline())[1])
        finally:
            tunnel.terminate()


def result_of(output):
    with Daemon(output) as daemon, plain(daemon) as port:
        return memcapable.run(memcapable.find(), port)


class Conformance(unittest.TestCase):
    def test_every_output(self):
        """At once, because memcapable mostly waits."""
        with ThreadPoolExecutor(len(OUTPUTS)) as pool:
            results = dict(zip(OUTPUTS, pool.map(result_of, OUTPUTS)))
        for output, (passed, total, text) in results.items():
            with self.subTest(output=output):
                self.assertGreater(total, 0, text)
                self.assertEqual(passed, total, text)


if __name__ == "__main__":
    if memcapable.find() is None:
        print("skipped: neither memccapable nor memcapable (libmemcached-tools) is installed")
        sys.exit(SKIPPED)
    if tls.BY_DEFAULT and shutil.which("socat") is None:
        print("skipped: socat is not installed, and memcapable speaks no TLS")
        sys.exit(SKIPPED)
    unittest.main()
