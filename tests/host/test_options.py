"""A bad option ends the daemon with a message that names it."""

import os
import subprocess
import unittest

import mcbp
from daemon import Daemon

BAD = (
    "--port=65536",
    "--port=x",
    "--threads=0",
    "--output=none",
    "--listen=localhost",
    "--max-item=-1",
    "--sndbuf=",
    "--teardown-timeout=-1",
    "--teardown-timeout=nan",
    "--teardown-timeout=2s",
    "--high=-1",
    "--cap=1k",
    "--max-messages=-1",
    "--zerocopy=-1",
    "--budget=",
    "--budget=1000",
    "--stall=-1",
    "--stall=nan",
    "--min-rate=1",
    "--clock=sundial",
    "--batching=some",
    "--plant=flip",
    "--plant=flip@",
    "--plant=break@1",
    "--colour=red",
)


def run(*options):
    return subprocess.run(
        [os.environ["MCBPD"], *options], capture_output=True, text=True, timeout=60
    )


class Options(unittest.TestCase):
    def test_bad_values(self):
        for option in BAD:
            with self.subTest(option=option):
                result = run(option)
                self.assertEqual(result.returncode, 2)
                self.assertIn(option.split("=")[0], result.stderr.splitlines()[0])
                self.assertEqual(result.stdout, "")

    def test_batching(self):
        """Whatever is batched, all is answered."""
        for batching in ("both", "input", "none"):
            for output in ("sendmsg", "sendq-ref", "sendq-message"):
                with (
                    self.subTest(batching=batching, output=output),
                    Daemon(output, f"--batching={batching}") as daemon,
                    mcbp.connect(daemon.port) as sock,
                ):
                    sock.sendall(b"".join(mcbp.request(mcbp.Op.NOOP, opaque=n) for n in range(100)))
                    self.assertEqual([mcbp.receive(sock).opaque for _ in range(100)], list(range(100)))

    def test_zerocopy(self):
        """Values that the kernel is asked not to copy arrive whole."""
        value = bytes(range(256)) * 4096
        for output in ("sendq-ref", "sendq-message"):
            with (
                self.subTest(output=output),
                Daemon(output, "--zerocopy=65536") as daemon,
                mcbp.connect(daemon.port) as sock,
            ):
                extras = mcbp.storage_extras()
                mcbp.ask(sock, mcbp.Op.SET, key=b"large", value=value, extras=extras)
                for _ in range(40):
                    answer = mcbp.ask(sock, mcbp.Op.GET, key=b"large")
                    self.assertEqual(answer.value, value)

    def test_no_value(self):
        self.assertEqual(run("--port").returncode, 2)


if __name__ == "__main__":
    unittest.main()
