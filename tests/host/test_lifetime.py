"""Items end when nobody needs them, and not before: replaced, deleted or torn down while a client that
does not read keeps them on their way."""

import contextlib
import json
import os
import threading
import time
import unittest

import mcbp
from case import DaemonCase, suite_of
from daemon import OUTPUTS, SENDQ_OUTPUTS
from mcbp import JUMPING, Op, Status

KEY = b"value"
VALUE_BYTES = 1 << 20
VALUE = os.urandom(VALUE_BYTES)
NEW_VALUE = os.urandom(VALUE_BYTES)
SMALL = b"small"
STUCK = 50
HOLDERS = 100
HELD_ITEMS = 20
# The paths that send large values from the item; the others have them copied.
BORROWING = {"sendmsg", "shadow", "bufferevent", "sendq-libevent", "sendq-ref", "sendq-message"}
BORROWING_SMALL = {"sendmsg", "shadow"}

TIMEOUT = 0.1  # of a tear-down, in seconds
# Likewise, where it must not matter: who waits for it has given up long before.
NEVER = 3600
STALL = 1000


def store(sock, key, value):
    return mcbp.ask(sock, Op.SET, key=key, value=value, extras=mcbp.storage_extras())


class Lifetime(DaemonCase):
    """The cases; a subclass for each output path runs them."""

    output = None

    def start(self, *options, timeout=TIMEOUT):
        # The socket holds only a part of a value.
        self.start_daemon(
            self.output, "--sndbuf=65536", "--threads=3", f"--teardown-timeout={timeout}", *options
        )
        self.assertEqual(store(self.control, KEY, VALUE).status, Status.OK)

    def setUp(self):
        self.start()

    def restart(self, timeout, *options):
        self.control.close()
        self.daemon.stop()
        self.start(*options, timeout=timeout)

    def connect_stuck(self, requests=1, key=KEY, output=None):
        """A client that asks and does not read; the answers are on their way when it returns."""
        sock = self.connect(receive_buffer=4096)
        if output is not None:
            self.assertEqual(mcbp.ask(sock, Op.OUTPUT, key=output.encode()).status, Status.OK)
        answered = self.stat("responses")
        # stat counts its own answers, but for the one that ends them.
        per_stat = len(mcbp.stats(self.control)) + 1
        sock.sendall(mcbp.request(Op.GET, key=key) * requests)
        deadline = time.monotonic() + self.settle_seconds
        asked = 1
        while self.stat("responses") - answered - (asked + 1) * per_stat < 1:
            self.assertLess(time.monotonic(), deadline, "the requests are not run")
            asked += 1
        # Each thread answers this between two turns of a connection: then it has flushed, too.
        mcbp.connections(self.control)
        return sock

    def tear_down(self, sock=None):
        """Returns items in transit, connections dropped."""
        response = mcbp.ask(sock or self.control, Op.DELETE_BUCKET, opaque=77)
        self.assertEqual((response.status, response.opaque), (Status.OK, 77))
        report = json.loads(response.value)
        return report["items_in_transit"], report["connections_dropped"]

    def assert_value(self, sock, value):
        response = mcbp.receive(sock)
        self.assertEqual(response.status, Status.OK)
        self.assertTrue(response.value == value, "the bytes differ")

    def assert_dropped(self, sock):
        with contextlib.suppress(ConnectionResetError):
            received = 0
            while part := sock.recv(64 << 10):
                received += len(part)
            self.assertLess(received, VALUE_BYTES)

    # What is being sent outlives its place in the store, and only until it is sent.

    def check_sent_to_the_end(self, end_item, left_in_store):
        stuck = [self.connect_stuck() for _ in range(4)]
        end_item()
        in_transit = 1 if self.output in BORROWING else 0
        self.wait_for_stat("live_items", left_in_store + in_transit)
        for sock in stuck:
            self.assert_value(sock, VALUE)
        self.wait_for_stat("live_items", left_in_store)

    def test_replaced_while_being_sent(self):
        self.check_sent_to_the_end(lambda: store(self.control, KEY, NEW_VALUE), 1)
        self.control.sendall(mcbp.request(Op.GET, key=KEY))
        self.assert_value(self.control, NEW_VALUE)

    def test_appended_to_while_being_sent(self):
        self.check_sent_to_the_end(
            lambda: mcbp.ask(self.control, Op.APPEND, key=KEY, value=b"tail"), 1
        )
        self.control.sendall(mcbp.request(Op.GET, key=KEY))
        self.assert_value(self.control, VALUE + b"tail")

    def test_deleted_while_being_sent(self):
        self.check_sent_to_the_end(lambda: mcbp.ask(self.control, Op.DELETE, key=KEY), 0)

    def test_flushed_while_being_sent(self):
        self.check_sent_to_the_end(lambda: mcbp.ask(self.control, Op.FLUSH), 0)

    def test_connection_closed_while_being_sent(self):
        stuck = [self.connect_stuck() for _ in range(4)]
        mcbp.ask(self.control, Op.DELETE, key=KEY)
        for sock in stuck:
            sock.close()
        self.wait_for_stat("live_items", 0)

    def test_replaced_again_and_again(self):
        """Readers and a writer at the same time; each value is all of one kind."""
        done = threading.Event()

        def replace():
            with mcbp.connect(self.daemon.port) as sock:
                number = 0
                while not done.is_set():
                    number += 1
                    store(sock, KEY, bytes([number % 256]) * (VALUE_BYTES >> (number % 12)))

        writer = threading.Thread(target=replace)
        writer.start()
        try:
            for _ in range(10):
                self.control.sendall(mcbp.request(Op.GET, key=KEY) * 8)
                for value in (mcbp.receive(self.control).value for _ in range(8)):
                    self.assertTrue(value in (VALUE, value[:1] * len(value)), "mixed bytes")
        finally:
            done.set()
            writer.join()
        self.wait_for_stat("live_items", 1)

    # Tear-down.

    def hold_much(self, timeout, *options):
        """Clients, all of which have 20 MiB of items on their way and do not read."""
        self.restart(timeout, "--high=0", *options)
        for number in range(HELD_ITEMS):
            store(self.control, b"%d" % number, VALUE)
        # Copies are memory that nobody here has.
        clients = HOLDERS if self.output in BORROWING else HOLDERS // 10
        questions = b"".join(mcbp.request(Op.GET, key=b"%d" % i) for i in range(HELD_ITEMS))
        stuck = [self.connect(receive_buffer=4096) for _ in range(clients)]
        for sock in stuck:
            sock.sendall(questions)
        deadline = time.monotonic() + self.settle_seconds
        while (held := self.held_by()) != clients:
            self.assertLess(time.monotonic(), deadline, f"only {held} hold much")
            time.sleep(0.02)
        return stuck

    def held_by(self):
        found = mcbp.connections(self.control).values()
        return sum(one["waiting"] > (HELD_ITEMS - 1) * VALUE_BYTES for one in found)

    def test_tear_down_of_much_that_is_held(self):
        stuck = self.hold_much(TIMEOUT)
        expected = (HELD_ITEMS, len(stuck)) if self.output in BORROWING else (0, 0)
        self.assertEqual(self.tear_down(), expected)
        self.assertEqual(self.stat("live_items"), 0)

    def test_tear_down_of_much_whose_clients_vanish(self):
        stuck = self.hold_much(NEVER)
        with self.tear_down_in_background():
            self.wait_until_detached()
            for sock in stuck:
                sock.close()
        self.assertEqual(self.stat("live_items"), 0)

    def test_tear_down_of_much_whose_clients_are_dropped_as_stalled(self):
        stuck = self.hold_much(NEVER, f"--stall={STALL}", JUMPING)
        with self.tear_down_in_background() as result:
            self.wait_until_detached()
            self.jump_until_dropped(STALL, len(stuck))
        self.assertEqual(result[1], 0)
        self.assertEqual(self.stat("live_items"), 0)

    def test_tear_down_of_what_nobody_sends(self):
        for count in (100, 0):
            for number in range(count):
                store(self.control, b"%d" % number, b"text")
            self.assertEqual(self.tear_down(), (0, 0))
            self.assertEqual(self.stat("live_items"), 0)
        self.assertEqual(mcbp.ask(self.control, Op.GET, key=KEY).status, Status.NOT_FOUND)

    def test_tear_down_with_stuck_clients(self):
        stuck = [self.connect_stuck() for _ in range(STUCK)]
        # One that has read the item to its end.
        idle = self.connect()
        idle.sendall(mcbp.request(Op.GET, key=KEY))
        self.assert_value(idle, VALUE)
        with self.busy_client() as busy:
            in_transit, dropped = self.tear_down()
        # The busy client's item may just have been on its way, too, or on its way into a copy.
        borrowed = 1 if self.output in BORROWING else 0
        self.assertIn(in_transit, (borrowed, borrowed + 1))
        if borrowed:
            self.assertEqual(dropped, STUCK)
            for sock in stuck:
                self.assert_dropped(sock)
        else:
            self.assertEqual(dropped, 0)
            for sock in stuck:
                self.assert_value(sock, VALUE)
        # All that is left is what the busy client has stored since.
        self.assertEqual(self.stat("live_items"), self.stored_items((b"busy",)))
        self.assertEqual(mcbp.ask(idle, Op.NOOP).status, Status.OK)
        self.assertEqual(busy.errors, [])

    def test_others_are_served_while_it_waits(self):
        self.restart(NEVER)
        slow = self.connect_stuck()
        with self.busy_client() as busy, self.tear_down_in_background() as result:
            self.wait_until_detached()
            rounds, deadline = busy.rounds, time.monotonic() + self.settle_seconds
            while busy.rounds < rounds + 2:
                self.assertLess(time.monotonic(), deadline, "nobody is served")
                time.sleep(0.01)
            self.assert_value(slow, VALUE)
        self.assertEqual(result[1], 0)
        self.assertEqual(busy.errors, [])

    def test_tear_down_of_an_item_for_each_client(self):
        for number in range(STUCK):
            store(self.control, b"%d" % number, VALUE)
        for number in range(STUCK):
            self.connect_stuck(key=b"%d" % number)
        expected = STUCK if self.output in BORROWING else 0
        self.assertEqual(self.tear_down(), (expected, expected))
        self.assertEqual(self.stat("live_items"), 0)

    def test_tear_down_of_items_that_were_replaced_before(self):
        """They are in the store no more, but in the bucket."""
        self.connect_stuck()
        store(self.control, KEY, NEW_VALUE)
        expected = 1 if self.output in BORROWING else 0
        self.assertEqual(self.tear_down(), (expected, expected))
        self.assertEqual(self.stat("live_items"), 0)

    def test_slow_reader_is_waited_for(self):
        self.restart(NEVER)
        slow = self.connect_stuck()
        with self.tear_down_in_background() as result:
            self.wait_until_detached()
            self.assert_value(slow, VALUE)
        self.assertEqual(result, [1 if self.output in BORROWING else 0, 0])
        self.assertEqual(mcbp.ask(slow, Op.NOOP).status, Status.OK)

    def test_items_of_the_next_bucket_stay(self):
        """Connections that send only these are let alone, stuck as they may be."""
        old = self.connect_stuck()
        with self.tear_down_in_background() as result:
            self.wait_until_detached()
            store(self.control, b"next", NEW_VALUE)
            new = self.connect_stuck(key=b"next")
        expected = 1 if self.output in BORROWING else 0
        self.assertEqual(result, [expected, expected])
        self.assert_value(new, NEW_VALUE)
        self.assertEqual(self.stat("live_items"), 1)
        if expected == 0:
            self.assert_value(old, VALUE)

    def test_two_tear_downs_at_once(self):
        self.connect_stuck()
        with self.tear_down_in_background() as first:
            self.wait_until_detached()
            store(self.control, KEY, VALUE)
            self.connect_stuck()
            second = self.tear_down()
        expected = 1 if self.output in BORROWING else 0
        self.assertEqual(first, [expected, expected])
        self.assertEqual(second, (expected, expected))
        self.assertEqual(self.stat("live_items"), 0)

    def test_the_one_who_asks_is_stuck(self):
        # So long that it does not fit the sockets, so short that requests are run behind it.
        value = VALUE[: VALUE_BYTES // 2]
        store(self.control, KEY, value)
        asking = self.connect_stuck()
        asking.sendall(mcbp.request(Op.DELETE_BUCKET) + mcbp.request(Op.NOOP))
        self.wait_for_stat("live_items", 0)
        if self.output in BORROWING:
            self.assert_dropped(asking)
        else:
            self.assert_value(asking, value)
            self.assertEqual(mcbp.receive(asking).opcode, Op.DELETE_BUCKET)

    def test_the_one_who_asks_leaves(self):
        self.connect_stuck()
        asking = self.connect()
        asking.sendall(mcbp.request(Op.DELETE_BUCKET))
        # A close resets the connection if there is something to read, as with TLS: not before the request is
        # read.
        self.wait_until_detached()
        asking.close()
        self.wait_for_stat("live_items", 0)
        self.wait_for_stat("curr_connections", 1 if self.output in BORROWING else 2)

    def test_what_is_asked_behind_it_is_answered_behind_it(self):
        self.connect_stuck()
        get = mcbp.request(Op.GET, key=KEY, opaque=1)
        tear_down = mcbp.request(Op.DELETE_BUCKET, opaque=2)
        self.control.sendall(get + tear_down + get * 100 + mcbp.request(Op.QUIT, opaque=3))
        stream = bytearray()
        while part := self.control.recv(64 << 10):
            stream += part
        answers = [(r.opcode, r.status) for r in mcbp.parse(bytes(stream))]
        self.assertEqual(
            answers,
            [(Op.GET, Status.OK), (Op.DELETE_BUCKET, Status.OK)]
            + [(Op.GET, Status.NOT_FOUND)] * 100
            + [(Op.QUIT, Status.OK)],
        )

    def test_waiting_costs_no_cpu_time(self):
        """Neither for the one who asks, though it has asked more, nor for the stuck."""
        self.restart(NEVER)
        self.connect_stuck()
        asking = self.connect()
        asking.sendall(mcbp.request(Op.DELETE_BUCKET) + mcbp.request(Op.NOOP) * 100)
        self.wait_until_detached()
        before = self.cpu_seconds()
        time.sleep(0.4)
        self.assertLess(self.cpu_seconds() - before, 0.1)

    def test_stop_while_it_runs(self):
        self.restart(NEVER)
        self.connect_stuck()
        asking = self.connect()
        asking.sendall(mcbp.request(Op.DELETE_BUCKET))
        self.wait_until_detached()
        self.assertEqual(self.daemon.stop(), 0)
        self.start()

    def test_only_connections_with_items_are_dropped(self):
        """Stuck ones of every path, at once."""
        store(self.control, SMALL, b"s" * 4000)
        large = {output: self.connect_stuck(output=output) for output in OUTPUTS}
        small = {
            output: self.connect_stuck(key=SMALL, requests=300, output=output) for output in OUTPUTS
        }
        in_transit, dropped = self.tear_down()
        self.assertEqual(in_transit, 2)
        self.assertEqual(dropped, len(BORROWING) + len(BORROWING_SMALL))
        for output in set(OUTPUTS) - BORROWING:
            self.assert_value(large[output], VALUE)
        for output in set(OUTPUTS) - BORROWING_SMALL:
            self.assertEqual(mcbp.receive(small[output]).value, b"s" * 4000)
        self.assertEqual(self.stat("live_items"), 0)

    def cpu_seconds(self):
        stats = mcbp.stats(self.control)
        return float(stats["rusage_user"]) + float(stats["rusage_system"])

    def stored_items(self, keys):
        return sum(mcbp.ask(self.control, Op.GET, key=key).status == Status.OK for key in keys)

    def wait_until_detached(self):
        deadline = time.monotonic() + self.settle_seconds
        while mcbp.ask(self.control, Op.TOUCH, key=KEY, extras=bytes(4)).status == Status.OK:
            self.assertLess(time.monotonic(), deadline, "the contents are not detached")

    @contextlib.contextmanager
    def tear_down_in_background(self):
        """The list that it gives is filled at the end."""
        result = []
        sock = self.connect()
        thread = threading.Thread(target=lambda: result.extend(self.tear_down(sock)))
        thread.start()
        try:
            yield result
        finally:
            thread.join()

    @contextlib.contextmanager
    def busy_client(self):
        client = BusyClient(self.daemon.port)
        client.start()
        try:
            self.assertTrue(client.has_begun.wait(self.settle_seconds), client.errors)
            yield client
        finally:
            client.stop()


class BusyClient(threading.Thread):
    """One that behaves: it stores, asks for what it stored, and reads the answers."""

    def __init__(self, port):
        super().__init__()
        self._port = port
        self._done = threading.Event()
        self.has_begun = threading.Event()
        self.rounds = 0
        self.errors = []

    def run(self):
        try:
            with mcbp.connect(self._port) as sock:
                while not self._done.is_set():
                    self._play_round(sock)
                    self.rounds += 1
                    self.has_begun.set()
        except (OSError, ValueError) as error:
            self.errors.append(error)

    @staticmethod
    def _play_round(sock):
        if store(sock, b"busy", VALUE).status != Status.OK:
            raise ValueError("not stored")
        sock.sendall(mcbp.request(Op.GET, key=b"busy") * 4)
        for _ in range(4):
            response = mcbp.receive(sock)
            # Torn down meanwhile, if it is not there.
            if response.status == Status.OK and response.value != VALUE:
                raise ValueError("wrong bytes")

    def stop(self):
        self._done.set()
        self.join()


def load_tests(loader, _tests, _pattern):
    return suite_of(loader, Lifetime, SENDQ_OUTPUTS)


if __name__ == "__main__":
    unittest.main()
