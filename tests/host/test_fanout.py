"""The broker, with each output: who gets what, who is dropped, and that nobody else notices."""

import contextlib
import os
import random
import socket
import struct
import threading
import time
import unittest

from broker import OUTPUTS, TIMEOUT, Broker, Client, delivery, publication
from case import suite_of

KIB, MIB = 1 << 10, 1 << 20
# Below and above what an output copies, and more than one socket takes.
SIZES = (0, 1, 100, 1023, 1024, 4095, 8191, 8192, 20000, 100_000)
SEED = 10
# So small that a few messages fill the sockets of a connection, and the broker has to hold the rest.
SNDBUF = "--sndbuf=4608"
RECEIVE_BUFFER = 4096


def reset(client):
    """Closes with RST instead of FIN."""
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


class Fanout:
    """The cases; a subclass for each output runs them."""

    output = None

    def start(self, *options):
        self.clients = []
        self.broker = Broker(self.output, *options)
        self.addCleanup(self.broker.stop)
        self.control = self.connect()
        self.wait_for_stat("clients", 1)

    def tearDown(self):
        for client in self.clients:
            client.close()
        self.assertEqual(self.broker.stop(), 0)

    def connect(self, **options):
        client = Client(self.broker.port, **options)
        self.clients.append(client)
        return client

    def subscriber(self, topic=b"t", **options):
        client = self.connect(**options)
        client.subscribe(topic)
        return client

    def slow_subscriber(self):
        return self.subscriber(receive_buffer=RECEIVE_BUFFER)

    def wait_for_stat(self, name, value):
        deadline = time.monotonic() + TIMEOUT
        while (found := self.control.stat(name)) != value:
            self.assertLess(time.monotonic(), deadline, f"{name} stays {found}, not {value}")
            time.sleep(0.01)

    def assert_gets(self, client, expected):
        """These bytes, and then the end."""
        self.assertTrue(client.rest() == expected, "the bytes differ")

    def assert_dropped(self, client):
        with contextlib.suppress(ConnectionError):
            client.rest()

    # Delivery.

    def test_every_subscriber_gets_every_byte(self):
        self.start()
        choose = random.Random(SEED)
        payloads = [choose.randbytes(size) for size in SIZES]
        subscribers = [self.subscriber() for _ in range(50)]
        other = self.subscriber(b"other")
        for payload in payloads:
            self.assertEqual(self.control.publish(b"t", payload), 50)
        expected = b"".join(delivery(b"t", n, p) for n, p in enumerate(payloads, 1)) + b"+OK\n"
        for subscriber in subscribers:
            subscriber.send(b"QUIT\n")
            self.assert_gets(subscriber, expected)
        other.send(b"QUIT\n")
        self.assert_gets(other, b"+OK\n")

    def test_publications_in_one_burst(self):
        self.start()
        choose = random.Random(SEED)
        payloads = [choose.randbytes(choose.choice(SIZES)) for _ in range(200)]
        subscriber = self.subscriber()
        burst = b"".join(publication(b"t", payload) for payload in payloads)
        sender = threading.Thread(target=self.control.send, args=(burst,))
        sender.start()
        for number, payload in enumerate(payloads, 1):
            self.assertTrue(subscriber.message() == (b"t", number, payload), "the bytes differ")
        sender.join()
        self.assertEqual([self.control.line() for _ in payloads], [b"+OK 1\n"] * len(payloads))

    def test_input_byte_by_byte(self):
        self.start()
        subscriber = self.subscriber()
        for byte in publication(b"t", b"two\nlines") + b"STAT\n":
            self.control.send(bytes([byte]))
        self.assertEqual(self.control.line(), b"+OK 1\n")
        self.assertTrue(self.control.line().startswith(b"+OK clients=2 "))
        self.assertEqual(subscriber.message(), (b"t", 1, b"two\nlines"))

    def test_a_publisher_may_subscribe(self):
        self.start()
        self.control.subscribe(b"t")
        self.control.subscribe(b"t")
        self.control.send(publication(b"t", b"me"))
        self.assertEqual(self.control.message(), (b"t", 1, b"me"))
        self.assertEqual(self.control.line(), b"+OK 1\n")

    def test_many_topics(self):
        self.start()
        names = [b"topic-%d" % i for i in range(300)]
        everything = self.connect()
        for name in names:
            everything.subscribe(name)
        each = [self.subscriber(name) for name in names]
        for name in names:
            self.assertEqual(self.control.publish(name, name), 2)
        for number, (name, client) in enumerate(zip(names, each), 1):
            self.assertEqual(client.message(), (name, 1, name))
            self.assertEqual(everything.message(), (name, number, name))
        everything.close()
        for client in each:
            client.close()
        self.wait_for_stat("clients", 1)
        self.assertEqual(self.control.publish(names[0], b""), 0)

    def test_many_clients(self):
        self.start()
        before = self.broker.descriptors()
        subscribers = [self.subscriber() for _ in range(400)]
        for number in range(1, 21):
            self.assertEqual(self.control.publish(b"t", b"x" * 100), 400)
        for subscriber in subscribers:
            for number in range(1, 21):
                self.assertEqual(subscriber.message(), (b"t", number, b"x" * 100))
            subscriber.close()
        self.wait_for_stat("clients", 1)
        self.assertEqual(self.broker.descriptors(), before)

    # Slow subscribers.

    def test_slow_subscriber_gets_every_byte(self):
        self.start(SNDBUF)
        choose = random.Random(SEED)
        payloads = [choose.randbytes(choose.choice(SIZES)) for _ in range(100)]
        slow, fast = self.slow_subscriber(), self.subscriber()
        for number, payload in enumerate(payloads, 1):
            self.assertEqual(self.control.publish(b"t", payload), 2)
            self.assertTrue(fast.message() == (b"t", number, payload), "the bytes differ")
        self.assertGreater(self.control.stat("queued"), 0)
        for number, payload in enumerate(payloads, 1):
            self.assertTrue(slow.message() == (b"t", number, payload), "the bytes differ")
        self.wait_for_stat("queued", 0)

    def test_subscriber_that_never_reads_is_dropped(self):
        self.start(SNDBUF, f"--max={256 * KIB}")
        stuck, fast = self.slow_subscriber(), self.subscriber()
        payload = os.urandom(10 * KIB)
        for number in range(1, 101):
            count = self.control.publish(b"t", payload)
            self.assertLessEqual(self.control.stat("queued"), 256 * KIB)
            self.assertEqual(count, 2 - self.control.stat("dropped_over_max"))
            self.assertTrue(fast.message() == (b"t", number, payload), "the bytes differ")
        self.assertEqual(self.control.stat("dropped_over_max"), 1)
        self.assertEqual(self.control.stat("clients"), 2)
        self.assert_dropped(stuck)

    def test_stalled_subscriber_is_dropped(self):
        self.start(SNDBUF, "--stall=0.3")
        stuck, idle = self.slow_subscriber(), self.subscriber(b"idle")
        self.control.publish(b"t", os.urandom(MIB // 2))
        self.wait_for_stat("dropped_stalled", 1)
        self.assert_dropped(stuck)
        # Nothing is queued for this one, so it is not stalled.
        self.assertEqual(self.control.publish(b"idle", b"still here"), 1)
        self.assertEqual(idle.message(), (b"idle", 1, b"still here"))

    def test_subscriber_that_reads_slowly_is_not_stalled(self):
        stall = 1
        self.start(SNDBUF, f"--stall={stall}")
        slow = self.slow_subscriber()
        for _ in range(4):
            self.control.publish(b"t", bytes(MIB))
        began = last = time.monotonic()
        slowest = 0
        while last - began < 2.5 * stall:
            time.sleep(stall / 10)
            slow.receive(64 * KIB)
            now = time.monotonic()
            slowest = max(slowest, now - last)
            last = now
        if slowest > stall / 2:
            self.skipTest("this machine is too busy to read often enough")
        self.assertEqual(self.control.stat("dropped_stalled"), 0)
        self.assertGreater(self.control.stat("queued"), 0)

    def test_slow_subscribers_do_not_delay_others(self):
        self.start(SNDBUF)
        slow = [self.slow_subscriber() for _ in range(20)]
        fast = [self.subscriber() for _ in range(20)]
        payload = os.urandom(50_000)
        for number in range(1, 51):
            self.assertEqual(self.control.publish(b"t", payload), 40)
            for subscriber in fast:
                self.assertTrue(subscriber.message() == (b"t", number, payload), "the bytes differ")
        self.assertGreater(self.control.stat("queued"), 20 * MIB)
        for client in slow:
            client.close()
        self.wait_for_stat("clients", 21)

    # The high watermark.

    def test_client_that_reads_no_replies_is_not_read_from(self):
        self.start(SNDBUF, f"--high={64 * KIB}")
        greedy = self.connect(receive_buffer=RECEIVE_BUFFER)
        greedy.sock.settimeout(0.3)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 64 * MIB:
                sent += greedy.sock.send(b"STAT\n" * 10_000)
        self.assertLess(sent, 64 * MIB, "it is read without end")
        self.assertLess(self.control.stat("queued"), 65 * KIB)
        self.assertEqual(self.control.stat("dropped_over_max"), 0)
        # It is read on when it reads.
        greedy.sock.settimeout(TIMEOUT)
        for _ in range(sent // len("STAT\n")):
            self.assertEqual(greedy.line()[:12], b"+OK clients=")

    def test_messages_above_high_do_not_lose_commands(self):
        """What was read before, and is run only when enough is sent."""
        self.start(SNDBUF, f"--high={8 * KIB}")
        slow = self.slow_subscriber()
        slow.send(b"SUB")
        for _ in range(10):
            self.control.publish(b"t", b"x" * 10_000)
        slow.send(b" late\nPUB late 2\nhi\nQUIT\n")
        for number in range(1, 11):
            self.assertEqual(slow.message(), (b"t", number, b"x" * 10_000))
        self.assert_gets(slow, b"+OK\n" + delivery(b"late", 11, b"hi") + b"+OK 1\n+OK\n")

    # The end of a connection.

    def test_quit_delivers_the_rest(self):
        self.start(SNDBUF)
        payload = os.urandom(MIB)
        slow = self.slow_subscriber()
        self.control.publish(b"t", payload)
        slow.send(b"QUIT\n" + b"ignored\n" * 10_000)
        self.assert_gets(slow, delivery(b"t", 1, payload) + b"+OK\n")
        slow.close()
        self.wait_for_stat("clients", 1)

    def test_end_of_input_delivers_the_rest(self):
        self.start(SNDBUF)
        payload = os.urandom(MIB)
        slow = self.slow_subscriber()
        self.control.publish(b"t", payload)
        slow.send(b"half a comma")
        slow.sock.shutdown(socket.SHUT_WR)
        self.assert_gets(slow, delivery(b"t", 1, payload))

    def test_who_quits_and_does_not_close_is_dropped(self):
        self.start()
        lingering = self.connect()
        lingering.send(b"QUIT\n")
        self.assert_gets(lingering, b"+OK\n")
        self.wait_for_stat("clients", 1)

    def test_resets(self):
        self.start(SNDBUF)
        payload = os.urandom(100_000)
        fast = self.subscriber()
        before = self.broker.descriptors()
        number = 0
        for _ in range(10):
            slow = [self.slow_subscriber() for _ in range(10)]
            for _ in range(2):
                number += 1
                self.control.publish(b"t", payload)
                self.assertTrue(fast.message() == (b"t", number, payload), "the bytes differ")
                for client in slow[::2]:
                    reset(client)
                del slow[::2]
            for client in slow:
                client.close()
        self.wait_for_stat("clients", 2)
        self.assertEqual(self.broker.descriptors(), before)

    def test_sigterm_delivers_the_rest(self):
        self.start(SNDBUF)
        payload = os.urandom(MIB)
        slow = self.slow_subscriber()
        self.control.publish(b"t", payload)
        self.broker.terminate()
        self.assert_gets(slow, delivery(b"t", 1, payload))
        self.assertEqual(self.control.rest(), b"")
        slow.close()
        self.control.close()
        self.assertEqual(self.broker.wait(), 0)

    def test_sigterm_does_not_wait_for_ever(self):
        self.start(SNDBUF, "--stall=0.3")
        stuck = self.slow_subscriber()
        self.control.publish(b"t", os.urandom(MIB))
        self.assertEqual(self.broker.stop(), 0)
        self.assert_dropped(stuck)

    # Bad input.

    def test_commands_that_are_none(self):
        self.start()
        for line in (b"", b" ", b"SUB", b"PUB", b"PUB t", b"FOO", b"sub t", b"SUB a b", b"QUIT now", b"MSG t 1 1"):
            with self.subTest(line=line):
                self.assertEqual(self.control.ask(line), b"-ERR unknown command")
        for line in (b"SUB \x00", b"\x00", b"SUB \xff", b"SUB t\r", b"\x01\x02\x03", b"SUB\tt"):
            with self.subTest(line=line):
                self.assertEqual(self.control.ask(line), b"-ERR bad character")
        self.assertEqual(self.control.ask(b"SUB  " + b"t" * 500 + b"  "), b"+OK")

    def check_refused(self, data, reply):
        """A refusal, and then the end."""
        client = self.connect()
        client.send(data)
        self.assert_gets(client, b"-ERR " + reply + b"\n")
        client.close()

    def test_lengths_that_are_none(self):
        self.start()
        for length in (b"x", b"-1", b"+1", b"1x", b"0x10", b"1.0", b"%d" % (MIB + 1), b"9" * 9, b"9" * 30):
            with self.subTest(length=length):
                self.check_refused(b"PUB t " + length + b"\nx\n", b"bad length")
        self.check_refused(b"PUB t 3\nfour\n", b"no line end after the payload")

    def test_long_lines(self):
        self.start()
        self.check_refused(b"x" * 512, b"line too long")
        self.check_refused(b"SUB " + b"t" * 100_000, b"line too long")
        self.check_refused(bytes(MIB), b"line too long")

    def test_noise(self):
        self.start()
        choose = random.Random(SEED)
        for _ in range(100):
            client = self.connect()
            with contextlib.suppress(ConnectionError):
                client.send(choose.randbytes(choose.randrange(1, 5000)))
                client.sock.shutdown(socket.SHUT_WR)
                for line in client.rest().splitlines():
                    self.assertEqual(line[:5], b"-ERR ")
            client.close()
        self.wait_for_stat("clients", 1)

    def test_payload_that_is_too_long_for_max(self):
        """It would get all subscribers dropped."""
        self.start("--max=65536")
        subscriber = self.subscriber()
        self.check_refused(b"PUB t 32768\n", b"bad length")
        self.assertEqual(self.control.publish(b"t", bytes(30_000)), 1)
        self.assertEqual(subscriber.message(), (b"t", 1, bytes(30_000)))

    def test_too_many_subscriptions(self):
        self.start()
        for i in range(1000):
            self.control.subscribe(b"t%d" % i)
        self.assertEqual(self.control.ask(b"SUB one-more"), b"-ERR too many subscriptions")
        self.control.subscribe(b"t0")

    def test_half_a_publication_and_no_more(self):
        self.start()
        subscriber = self.subscriber()
        half = self.connect()
        half.send(b"PUB t 1000\nhalf")
        half.sock.shutdown(socket.SHUT_WR)
        self.assertEqual(half.rest(), b"")
        subscriber.send(b"QUIT\n")
        self.assert_gets(subscriber, b"+OK\n")


def load_tests(loader, _tests, _pattern):
    return suite_of(loader, Fanout, OUTPUTS)


if __name__ == "__main__":
    unittest.main()
