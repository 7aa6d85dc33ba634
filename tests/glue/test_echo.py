"""What a host looks like before and after the move: the same bytes, and a small difference."""

import difflib
import threading
import unittest
from pathlib import Path

from echo import SERVERS, Server, lines, receive_all

# Lines that went or came. The guide shows them all.
DIFFERENCE = 50


class Echo(unittest.TestCase):
    def each(self, check):
        for name in SERVERS:
            with self.subTest(output=name), Server(name) as server:
                check(server)

    def quit(self, server):
        with server.connect() as sock:
            sock.sendall(b"quit\n")
            self.assertEqual(receive_all(sock), b"")

    def check(self, server, seed, end):
        asked, expected = lines(seed, 1000)
        with server.connect(receive_buffer=4096) as sock:
            # The replies are more than all buffers together hold.
            sender = threading.Thread(target=lambda: (sock.sendall(asked), end(sock)))
            sender.start()
            received = receive_all(sock)
            sender.join()
        self.assertEqual(len(received), len(expected))
        self.assertTrue(received == expected)

    def test_quit(self):
        self.each(lambda server: self.check(server, 1, lambda sock: sock.sendall(b"quit\n")))

    def test_half_closed(self):
        self.each(lambda server: self.check(server, 2, lambda sock: sock.shutdown(1)))

    def test_quit_with_nothing_waiting(self):
        self.each(self.quit)

    def test_gone_client(self):
        """Its blobs are given back: the server says so when it ends."""

        def leave_blobs(server):
            with server.connect(receive_buffer=4096) as sock:
                sock.sendall(b"blob\n" * 50)
                self.assertEqual(sock.recv(1), b"b")
            self.quit(server)

        self.each(leave_blobs)

    def test_difference(self):
        here = Path(__file__).parent
        sources = [(here / f"echo_{name}.c").read_text().splitlines() for name in SERVERS]
        changed = [line for line in difflib.ndiff(*sources) if line[0] in "+-"]
        self.assertLessEqual(len(changed), DIFFERENCE, "\n".join(changed))


if __name__ == "__main__":
    unittest.main()
