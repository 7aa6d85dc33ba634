"""Shadow mode is silent about a path that is right, and finds the first wrong byte of one that is not."""

import os
import re
import tempfile
import unittest

import mcbp
import session
from daemon import Daemon
from mcbp import Op

OPTIONS = (f"--max-item={session.MAX_ITEM}",)
# The kernel's smallest send buffer: most of what is sent is refused at first.
FULL_SOCKET = ("--sndbuf=1",)

ANYWHERE = (
    "flip@0",
    "flip@1",
    "flip@23",
    "flip@24",
    "flip@5000",
    "flip@700000",
    "flip@3000000",
    "drop@0",
    "drop@5000",
    "drop@700000",
    "repeat@0",
    "repeat@5000",
    "repeat@700000",
    "swap@0",
    "swap@5000",
    "swap@700000",
)
# They need a list that has grown longer than one call takes, or a refusal.
IN_A_FULL_SOCKET = ("flip@full", "drop@full", "repeat@full", "swap@full", "stale@0", "stale@100000")


def record():
    recorded = session.Session()
    recorded.switch("shadow")
    recorded.end_burst()
    session.store_values(recorded)
    for _ in range(5):
        for _ in range(700):
            recorded.ask(Op.GET, key=session.key_of(100), answer=session.value_of(100))
        recorded.end_burst()
    session.large_burst(recorded)
    recorded.quit()
    return recorded


def first_difference(one, other):
    return len(os.path.commonprefix((one, other)))


def ends(stream):
    """Where each response that is there as a whole ends."""
    at = 0
    while at + mcbp.HEADER.size <= len(stream):
        at += mcbp.HEADER.size + mcbp.HEADER.unpack_from(stream, at)[6]
        if at <= len(stream):
            yield at


class Shadow(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.recorded = record()
        cls.right, warnings = cls.play()
        cls.recorded.check(cls.right)
        assert warnings == []

    @classmethod
    def play(cls, *options):
        """What was received, and the warnings of the daemon."""
        slowly = {}
        if options[:1] == FULL_SOCKET:
            slowly = {"receive_buffer": 4096, "pauses": (mcbp.HEADER.size, 4_000_000)}
        with tempfile.TemporaryFile() as errors:
            with Daemon("sendmsg", *OPTIONS, *options, stderr=errors) as daemon:
                stream = session.play(cls.recorded, daemon.port, **slowly)
            errors.seek(0)
            return stream, errors.read().decode().splitlines()

    def check_plant(self, plant, *options):
        stream, warnings = self.play(*options, f"--plant={plant}")
        self.assertEqual(len(warnings), 1, warnings)
        reported = re.fullmatch(r"mcbpd: connection 1: .* sent as byte (\d+)", warnings[0])
        # The answer to the switch is the last that is sent without a shadow.
        offset = int(reported[1]) + mcbp.HEADER.size
        right = {first_difference(stream, self.right)}
        if plant.startswith("repeat"):
            # The same bytes might have come next, but nobody had asked for them yet.
            right |= set(ends(self.right[: max(right)]))
        self.assertIn(offset, right)
        # The connection has gone on.
        self.assertTrue(stream.endswith(self.right[-1000:]))

    def test_right_path(self):
        stream, warnings = self.play(*FULL_SOCKET)
        self.assertTrue(stream == self.right)
        self.assertEqual(warnings, [])

    def test_faults(self):
        for plant in ANYWHERE:
            with self.subTest(plant=plant):
                self.check_plant(plant)

    def test_faults_in_a_full_socket(self):
        for plant in IN_A_FULL_SOCKET:
            with self.subTest(plant=plant):
                self.check_plant(plant, *FULL_SOCKET)


if __name__ == "__main__":
    unittest.main()
