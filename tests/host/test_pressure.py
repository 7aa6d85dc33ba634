"""What a client that does not read may cost, and when it is dropped for it."""

import contextlib
import os
import time
import unittest

import mcbp
import tls
from case import DaemonCase, suite_of
from daemon import SENDQ_OUTPUTS
from mcbp import JUMPING, Op, Status

KIB, MIB = 1 << 10, 1 << 20
KEY = b"value"
VALUE = os.urandom(MIB)
SMALL = b"small"
SMALL_VALUE = os.urandom(1000)
# What the sockets of a connection take, or more.
IN_SOCKETS = 256 * KIB
# The paths that know how fast a client is to be, because their queue sends.
RATED = {"sendq-libevent", "sendq-copy", "sendq-ref", "sendq-message"}
STALL = 1000  # seconds, of which most are jumps of the daemon's clock
PAUSE = STALL * 6 // 10


class Pressure(DaemonCase):
    """The cases; a subclass for each output path runs them."""

    output = None

    def start(self, *options):
        self.start_daemon(self.output, "--sndbuf=65536", *options)
        for key, value in ((KEY, VALUE), (SMALL, SMALL_VALUE)):
            extras = mcbp.storage_extras()
            response = mcbp.ask(self.control, Op.SET, key=key, value=value, extras=extras)
            self.assertEqual(response.status, Status.OK)

    def waiting(self):
        """Of each connection with something on its way."""
        found = mcbp.connections(self.control).values()
        return sorted(one["waiting"] for one in found if one["waiting"] > 0)

    def eventually(self, holds, message):
        deadline = time.monotonic() + self.settle_seconds
        while not holds():
            self.assertLess(time.monotonic(), deadline, message)
            time.sleep(0.02)

    def connect_stuck(self, key=KEY, requests=1):
        """A client that asks and does not read; its answers are on their way when it returns."""
        before = len(self.waiting())
        sock = self.connect(receive_buffer=4096)
        sock.sendall(mcbp.request(Op.GET, key=key) * requests)
        self.eventually(lambda: len(self.waiting()) == before + 1, "nothing waits")
        return sock

    def assert_answers(self, sock, key=KEY, value=VALUE):
        sock.sendall(mcbp.request(Op.GET, key=key))
        self.assertTrue(mcbp.receive(sock).value == value, "the bytes differ")

    def assert_dropped(self, sock):
        def ends():
            return not sock.recv(64 * KIB)

        with contextlib.suppress(ConnectionResetError):
            self.eventually(ends, "the connection is not closed")

    # The high watermark.

    @unittest.skipIf(tls.BY_DEFAULT, "more of it waits in the socket, and less is left here")
    def test_requests_above_high_wait(self):
        self.start(f"--high={64 * KIB}")
        stuck = self.connect_stuck(key=SMALL, requests=1000)
        self.eventually(lambda: self.waiting()[0] >= 32 * KIB, "little waits")
        self.assertLessEqual(self.waiting()[0], 64 * KIB + mcbp.HEADER.size + 4 + 1000)
        for _ in range(1000):
            self.assertTrue(mcbp.receive(stuck).value == SMALL_VALUE, "the bytes differ")
        self.assert_answers(stuck)

    def test_no_high(self):
        self.start("--high=0")
        stuck = self.connect_stuck(requests=8)
        self.eventually(lambda: self.waiting()[0] > 7 * MIB, "little waits")
        for _ in range(8):
            self.assertTrue(mcbp.receive(stuck).value == VALUE, "the bytes differ")

    def test_input_of_a_client_above_high_is_not_read(self):
        self.start(f"--high={64 * KIB}")
        stuck = self.connect_stuck()
        before = self.daemon.memory()
        stuck.settimeout(0.2)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 64 * MIB:
                sent += stuck.send(mcbp.request(Op.NOOP) * 10000)
        self.assertLess(sent, 64 * MIB, "it is read without end")
        self.assertLess(self.daemon.memory(), before + 2 * MIB)

    # Acknowledgements.

    def test_acknowledgements_above_high_are_run(self):
        self.start(f"--high={64 * KIB}")
        stuck = self.connect_stuck()
        ack = mcbp.request(Op.ACK)
        stuck.sendall(ack * 20000)
        self.wait_for_stat("acks", 20000)
        for byte in ack:
            stuck.sendall(bytes([byte]))
            time.sleep(0.01)
        self.wait_for_stat("acks", 20001)
        # What is behind another request waits with it.
        stuck.sendall(ack + mcbp.request(Op.NOOP) + ack * 10)
        self.wait_for_stat("acks", 20002)
        time.sleep(0.1)
        self.assertEqual(self.stat("acks"), 20002)
        self.assertTrue(mcbp.receive(stuck).value == VALUE, "the bytes differ")
        self.assertEqual(mcbp.receive(stuck).opcode, Op.NOOP)
        self.wait_for_stat("acks", 20012)

    def test_malformed_acknowledgement_is_a_request_like_any(self):
        self.start(f"--high={64 * KIB}")
        malformed = {"key": b"k"}, {"value": b"v"}, {"extras": bytes(4)}
        sock = self.connect()
        for parts in malformed:
            self.assertEqual(mcbp.ask(sock, Op.ACK, **parts).status, Status.INVALID)
        stuck = self.connect_stuck()
        answered = self.stat("responses")
        per_stat = self.stat("responses") - answered
        for parts in malformed:
            stuck.sendall(mcbp.request(Op.ACK, **parts) * 100)
        time.sleep(0.1)
        self.assertEqual(self.stat("responses"), answered + 2 * per_stat)
        self.assertTrue(mcbp.receive(stuck).value == VALUE, "the bytes differ")
        for _ in range(300):
            self.assertEqual(mcbp.receive(stuck).status, Status.INVALID)
        self.assertEqual(self.stat("acks"), 0)

    def test_waiting_above_high_costs_no_cpu_time(self):
        self.start(f"--high={64 * KIB}")
        self.connect_stuck().sendall(mcbp.request(Op.NOOP) * 100)
        self.connect_stuck().sendall(mcbp.request(Op.ACK) * 100)
        self.connect_stuck().sendall(mcbp.request(Op.ACK)[:10])
        before = self.cpu_seconds()
        time.sleep(0.4)
        self.assertLess(self.cpu_seconds() - before, 0.1)

    # The cap.

    def test_response_over_the_cap(self):
        self.start(f"--cap={MIB}")
        sock = self.connect()
        sock.sendall(mcbp.request(Op.GET, key=KEY))
        self.assert_dropped(sock)
        self.wait_for_stat("dropped_cap", 1)
        self.assert_answers(self.control, SMALL, SMALL_VALUE)
        self.wait_for_stat("curr_connections", 1)

    def test_many_responses_over_the_cap(self):
        self.start(f"--cap={MIB}", "--high=0")
        greedy = self.connect(receive_buffer=4096)
        with contextlib.suppress(ConnectionError):  # it may be dropped before it has asked for all
            greedy.sendall(mcbp.request(Op.GET, key=SMALL) * 2000)
        self.assert_dropped(greedy)
        self.wait_for_stat("dropped_cap", 1)
        # One that stays below it is not.
        stuck = self.connect_stuck(key=SMALL, requests=600)
        for _ in range(600):
            self.assertTrue(mcbp.receive(stuck).value == SMALL_VALUE, "the bytes differ")
        self.assertEqual(self.stat("dropped_cap"), 1)

    def test_high_is_no_more_than_the_cap(self):
        self.start(f"--cap={128 * KIB}", f"--high={MIB}")
        self.assert_answers(self.control, SMALL, SMALL_VALUE)

    # The budget.

    def hold(self, requests):
        """A stuck client that has that many values on its way."""
        stuck = self.connect_stuck(requests=requests)
        least = requests * MIB - IN_SOCKETS
        self.eventually(lambda: any(n >= least for n in self.waiting()), "little waits")
        return stuck

    def test_heaviest_are_dropped(self):
        self.start(f"--budget={8 * MIB}", "--high=0")
        light, heavy, middle = (self.hold(requests) for requests in (1, 4, 2))
        asking = self.connect()
        asking.sendall(mcbp.request(Op.GET, key=KEY) * 3)
        for _ in range(3):
            self.assertTrue(mcbp.receive(asking).value == VALUE, "the bytes differ")
        self.assert_dropped(heavy)
        self.assertEqual(self.stat("dropped_heaviest"), 1)
        for sock, requests in ((light, 1), (middle, 2)):
            for _ in range(requests):
                self.assertTrue(mcbp.receive(sock).value == VALUE, "the bytes differ")
        self.assertEqual(self.stat("curr_connections"), 4)

    def test_the_one_who_asks_is_the_heaviest(self):
        self.start(f"--budget={8 * MIB}", "--high=0")
        light = [self.hold(1) for _ in range(3)]
        greedy = self.connect(receive_buffer=4096)
        greedy.sendall(mcbp.request(Op.GET, key=KEY) * 20)
        self.assert_dropped(greedy)
        self.wait_for_stat("dropped_heaviest", 1)
        for sock in light:
            self.assertTrue(mcbp.receive(sock).value == VALUE, "the bytes differ")

    def test_response_over_the_budget(self):
        """Nothing helps, so nobody else is dropped."""
        self.start(f"--budget={MIB // 2}")
        light = self.connect_stuck(key=SMALL, requests=300)
        greedy = self.connect()
        greedy.sendall(mcbp.request(Op.GET, key=KEY))
        self.assert_dropped(greedy)
        self.wait_for_stat("dropped_heaviest", 1)
        for _ in range(300):
            self.assertTrue(mcbp.receive(light).value == SMALL_VALUE, "the bytes differ")

    def test_many_light_ones_make_room_for_each_other(self):
        self.start(f"--budget={4 * MIB}", "--threads=2")
        stuck = [self.connect(receive_buffer=4096) for _ in range(20)]
        for sock in stuck:
            sock.sendall(mcbp.request(Op.GET, key=KEY) * 20)
            # Whoever comes last is as light as the others at most.
            self.assert_answers(self.control, SMALL, SMALL_VALUE)
        self.eventually(lambda: self.stat("dropped_heaviest") >= 15, "they are not dropped")
        self.assertLessEqual(sum(self.waiting()), 4 * MIB)
        self.eventually(lambda: self.stat("curr_connections") <= 6, "connections are left")

    def test_budget_is_free_again(self):
        self.start(f"--budget={4 * MIB}", "--high=0")
        for _ in range(5):
            stuck = self.hold(3)
            for _ in range(3):
                self.assertTrue(mcbp.receive(stuck).value == VALUE, "the bytes differ")
        for _ in range(5):
            self.hold(3).close()
            self.eventually(lambda: not self.waiting(), "something waits for nobody")
        self.assertEqual(self.stat("dropped_heaviest"), 0)

    # The time without progress.

    def test_stalled_client_is_dropped(self):
        """Also one on which nothing happens any more, not even a request."""
        self.start(f"--stall={STALL}", "--threads=3", JUMPING)
        idle = self.connect()
        self.assert_answers(idle)
        stuck = [self.connect_stuck() for _ in range(10)]
        self.jump_until_dropped(STALL, 10)
        self.assertEqual(self.waiting(), [])
        self.wait_for_stat("live_items", 2)
        for sock in stuck:
            self.assert_dropped(sock)
        self.assert_answers(idle)

    def test_stalled_client_is_looked_for(self):
        """By a clock that goes by itself, and without being asked."""
        self.start("--stall=0.2")
        stuck = self.connect(receive_buffer=4096)
        stuck.sendall(mcbp.request(Op.GET, key=KEY))
        self.wait_for_stat("dropped_stalled", 1)
        self.assert_dropped(stuck)

    def test_slow_client_is_not_stalled(self):
        """It makes progress again and again, for several times the limit, until it does not."""
        self.start(f"--stall={STALL}", JUMPING)
        slow = self.connect_stuck(requests=3)
        for _ in range(5):
            self.read_and_pause(slow)
        self.assertEqual(self.stat("dropped_stalled"), 0)
        self.jump_until_dropped(STALL, 1)

    def test_slow_client_below_the_least_rate_is_stalled(self):
        """Of the paths, only those whose queue sends keep books about it."""
        self.start(f"--stall={STALL}", f"--min-rate={10 * IN_SOCKETS // STALL}", JUMPING)
        slow = self.connect_stuck(requests=3)
        for _ in range(5):
            if self.stat("dropped_stalled") == 0:
                self.read_and_pause(slow)
        self.assertEqual(self.stat("dropped_stalled"), 1 if self.output in RATED else 0)

    def test_slow_client_above_the_least_rate_is_not_stalled(self):
        self.start(f"--stall={STALL}", f"--min-rate={IN_SOCKETS // STALL // 2}", JUMPING)
        slow = self.connect_stuck(requests=3)
        for _ in range(5):
            self.read_and_pause(slow)
        self.assertEqual(self.stat("dropped_stalled"), 0)

    def test_same_amount_in_and_out_is_not_stalled(self):
        """What waits stays as much as it is, while it is sent and more comes in."""
        self.start(f"--stall={STALL}", "--high=0", JUMPING)
        sock = self.connect_stuck(key=SMALL, requests=1000)
        for _ in range(5):
            for _ in range(300):  # more than the sockets hold
                self.assertTrue(mcbp.receive(sock).value == SMALL_VALUE, "the bytes differ")
            sock.sendall(mcbp.request(Op.GET, key=SMALL) * 300)
            least = 1000 * len(SMALL_VALUE) - IN_SOCKETS
            self.eventually(lambda: self.waiting()[0] >= least, "what is asked for does not wait")
            self.jump(PAUSE)
        self.assertEqual(self.stat("dropped_stalled"), 0)

    def test_no_stall_limit(self):
        self.start(JUMPING)
        stuck = self.connect_stuck()
        self.jump(100 * STALL)
        self.assertTrue(mcbp.receive(stuck).value == VALUE, "the bytes differ")
        self.assertEqual(self.stat("dropped_stalled"), 0)

    # The statistics of connections.

    def test_connections(self):
        self.start("--threads=3", JUMPING)
        idle = [self.connect() for _ in range(7)]
        for sock in idle:
            self.assert_answers(sock, SMALL, SMALL_VALUE)
        stuck = self.connect_stuck()
        found = mcbp.connections(self.control)
        self.assertEqual(len(found), 9)
        waiting = [one for one in found.values() if one["waiting"] > 0]
        self.assertEqual(len(waiting), 1)
        self.assertGreater(waiting[0]["waiting"], MIB - IN_SOCKETS)
        self.assertGreater(waiting[0]["sent"], 0)
        self.assertLess(waiting[0]["waiting"] + waiting[0]["sent"], MIB + 100)
        self.assertGreaterEqual(sum(one["sent"] > 1000 for one in found.values()), 8)
        self.eventually(self.stalled_ns_grows, "it does not count the time")
        stuck.close()
        self.eventually(lambda: len(mcbp.connections(self.control)) == 8, "one is left")
        newcomer = self.connect()
        self.assert_answers(newcomer, SMALL, SMALL_VALUE)
        self.assertEqual(len(mcbp.connections(self.control).keys() - found.keys()), 1)

    def stalled_ns_grows(self):
        self.jump(STALL)
        stalled = (one["stalled_ns"] for one in mcbp.connections(self.control).values())
        return max(stalled) >= STALL * 1_000_000_000

    def test_connections_asked_by_many_at_once(self):
        self.start("--threads=3")
        asking = [self.connect() for _ in range(20)]
        question = mcbp.request(Op.STAT, key=b"connections") + mcbp.request(Op.NOOP)
        for sock in asking:
            sock.sendall(question * 10)
        asking.pop().close()
        for sock in asking:
            for _ in range(10):
                named = 0
                while mcbp.receive(sock).key:
                    named += 1
                self.assertIn(named, (20, 21))
                self.assertEqual(mcbp.receive(sock).opcode, Op.NOOP)

    def read_and_pause(self, sock):
        """Reads more than the sockets hold, so that some of it has left the daemon just now."""
        mcbp.receive_exactly(sock, IN_SOCKETS)
        self.jump(PAUSE)

    def cpu_seconds(self):
        stats = mcbp.stats(self.control)
        return float(stats["rusage_user"]) + float(stats["rusage_system"])


def load_tests(loader, _tests, _pattern):
    return suite_of(loader, Pressure, SENDQ_OUTPUTS)


if __name__ == "__main__":
    unittest.main()
