"""Every output path answers a session with the same bytes, whatever the socket does to it."""

import unittest

import session
from daemon import OUTPUTS, Daemon
from mcbp import HEADER, Op

OPTIONS = (f"--max-item={session.MAX_ITEM}",)


def play(recorded, output, *options, **reading):
    with Daemon(output, *OPTIONS, *options) as daemon:
        return session.play(recorded, daemon.port, **reading)


def without_switches(stream):
    """The stream but for the answers to Op.OUTPUT that succeeded, which have no body."""
    kept = bytearray()
    at = 0
    while at < len(stream):
        header = HEADER.unpack_from(stream, at)
        size = HEADER.size + header[6]
        if not (header[1] == Op.OUTPUT and header[6] == 0):
            # The opaque counts the requests, and so the switches.
            kept += HEADER.pack(*header[:7], 0, header[8])
            kept += stream[at + HEADER.size : at + size]
        at += size
    return bytes(kept)


class Wire(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.recorded = session.record()
        cls.reference = play(cls.recorded, OUTPUTS[0])

    def assert_same(self, stream):
        # Not assertEqual, which would print megabytes.
        self.assertTrue(stream == self.reference, "the bytes differ")

    def test_reference_is_right(self):
        self.recorded.check(self.reference)

    def test_as_is(self):
        for output in OUTPUTS:
            with self.subTest(output=output):
                self.assert_same(play(self.recorded, output))

    def test_full_socket(self):
        """The kernel's smallest send buffer, and a client that stops reading now and then."""
        pauses = (len(self.reference) // 4, len(self.reference) // 2)
        for output in OUTPUTS:
            with self.subTest(output=output):
                stream = play(
                    self.recorded, output, "--sndbuf=1", receive_buffer=4096, pauses=pauses
                )
                self.assert_same(stream)

    def test_switched_in_mid_session(self):
        others = OUTPUTS[1:] + OUTPUTS[:1]
        switching = session.record(switch_to=others)
        for options in ((), ("--sndbuf=1",)):
            with self.subTest(options=options):
                stream = play(switching, OUTPUTS[0], *options)
                switching.check(stream)
                self.assertTrue(without_switches(stream) == without_switches(self.reference))


if __name__ == "__main__":
    unittest.main()
