"""Connections that change their output path all the time, in the middle of what they ask for."""

import random
import tempfile
import threading
import unittest

import session
from daemon import OUTPUTS, Daemon

SWITCHES = 10_000
CLIENTS = 10
SEED = 20191
# Between two switches: so many requests, and after so many of them a burst ends.
MAX_REQUESTS = 8
MAX_BURST = 60


def prepare():
    prepared = session.Session()
    session.store_values(prepared)
    prepared.quit()
    return prepared


def record(seed):
    recorded = session.Session()
    choose = random.Random(seed)
    asked = 0
    for _ in range(SWITCHES // CLIENTS):
        for _ in range(choose.randrange(MAX_REQUESTS + 1)):
            session.one_of_a_burst(recorded, choose)
            asked += 1
        recorded.switch(choose.choice(OUTPUTS))
        if asked > MAX_BURST:
            recorded.end_burst()
            asked = 0
    recorded.quit()
    return recorded


class Switching(unittest.TestCase):
    def play(self, daemon, number, errors):
        """Every other client has a small socket, and stops reading now and then."""
        recorded = record(SEED + number)
        slowly = {"receive_buffer": 4096, "pauses": [500_000, 1_000_000]} if number % 2 else {}
        try:
            recorded.check(session.play(recorded, daemon.port, **slowly))
        except Exception as error:
            errors.append(f"client {number}: {error}")

    def run_clients(self, *options):
        errors = []
        with tempfile.TemporaryFile() as warnings:
            max_item = f"--max-item={session.MAX_ITEM}"
            with Daemon("sendmsg", "--threads=2", max_item, *options, stderr=warnings) as daemon:
                prepared = prepare()
                prepared.check(session.play(prepared, daemon.port))
                clients = [
                    threading.Thread(target=self.play, args=(daemon, number, errors))
                    for number in range(CLIENTS)
                ]
                for client in clients:
                    client.start()
                for client in clients:
                    client.join()
            warnings.seek(0)
            self.assertEqual(warnings.read(), b"")
        self.assertEqual(errors, [])

    def test_switching(self):
        self.run_clients()

    def test_switching_with_full_sockets(self):
        self.run_clients("--sndbuf=1")


if __name__ == "__main__":
    unittest.main()
