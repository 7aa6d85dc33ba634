"""What only TLS can get wrong: handshakes, ends, options."""

import contextlib
import os
import socket
import ssl
import subprocess
import time
import unittest

import mcbp
import tls
from case import DaemonCase, suite_of
from daemon import PLAIN_OUTPUTS, TLS_OUTPUTS, WITHOUT_SENDQ, Daemon
from mcbp import Op, Status

KEY = b"value"
VALUE = os.urandom(1 << 20)
LONG_CHAIN = 150  # of certificates, some 60 KB: OpenSSL takes no more than 100


def closes(sock):
    """Whether the other side ends the connection, be it by a reset, before the socket's time is up."""
    with contextlib.suppress(ConnectionResetError):
        while sock.recv(64 << 10):
            pass
    return True


class Tls(DaemonCase):
    """The cases; a subclass for each output path runs them."""

    output = None

    def start(self, *options):
        self.daemon = Daemon(self.output, *options, over_tls=True)
        self.addCleanup(self.daemon.stop)
        self.control = self.connect()
        extras = mcbp.storage_extras()
        mcbp.ask(self.control, Op.SET, key=KEY, value=VALUE, extras=extras)

    def connect(self, **options):
        return super().connect(over_tls=True, **options)

    def connect_plain(self):
        return super().connect(over_tls=False)

    def assert_served(self, sock):
        sock.sendall(mcbp.request(Op.GET, key=KEY))
        self.assertTrue(mcbp.receive(sock).value == VALUE, "the bytes differ")

    def cpu_seconds(self):
        stats = mcbp.stats(self.control)
        return float(stats["rusage_user"]) + float(stats["rusage_system"])

    # Handshakes.

    def test_versions(self):
        self.start()
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            with self.subTest(version=version):
                sock = tls.TlsSocket(self.connect_plain(), version)
                self.assertEqual(sock.version(), version.name.replace("_", "."))
                self.assert_served(sock)

    def test_no_client_hello(self):
        """A request in the clear is none, either."""
        self.start()
        for hello in (b"GET / HTTP/1.1\r\n\r\n", mcbp.request(Op.NOOP), os.urandom(5000)):
            with self.subTest(hello=hello[:20]):
                sock = self.connect_plain()
                with contextlib.suppress(OSError):  # refused before it was all said
                    sock.sendall(hello)
                    sock.shutdown(socket.SHUT_WR)
                self.assertTrue(closes(sock))
        self.assert_served(self.control)
        self.wait_for_stat("curr_connections", 1)

    def test_handshakes_that_do_not_go_on(self):
        self.start()
        silent = [self.connect_plain() for _ in range(20)]
        for number, sock in enumerate(silent):
            # The first bytes of a record that announces more.
            sock.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[:number])
        before = self.cpu_seconds()
        time.sleep(0.4)
        self.assertLess(self.cpu_seconds() - before, 0.1)
        self.assert_served(self.connect())
        for sock in silent:
            sock.close()
        self.wait_for_stat("curr_connections", 2)

    def test_handshake_through_a_full_socket(self):
        """It takes more than one turn to say all of it."""
        self.start("--sndbuf=1", *tls.server_options(copies=LONG_CHAIN))
        self.assert_served(self.connect(receive_buffer=4096))

    # Records.

    def test_records_that_do_not_fill_a_batch(self):
        """None of them may be left in OpenSSL, of which no event would tell."""
        self.start()
        requests = mcbp.request(Op.NOOP) * 2900  # the last record is where 64 KiB end
        records = [requests[at : at + 10_000] for at in range(0, len(requests), 10_000)]
        for _ in range(20):
            self.control.send_at_once(records)
            for _ in range(2900):
                self.assertEqual(mcbp.receive(self.control).status, Status.OK)

    # Ends. The socket of the tests says whether the server's close_notify has come.

    def test_quit_is_answered_by_an_end(self):
        self.start()
        for quiet in (Op.QUIT, Op.QUITQ):
            with self.subTest(quiet=quiet):
                sock = self.connect()
                sock.sendall(mcbp.request(Op.GET, key=KEY) + mcbp.request(quiet))
                self.assertTrue(mcbp.receive(sock).value == VALUE, "the bytes differ")
                if quiet == Op.QUIT:
                    self.assertEqual(mcbp.receive(sock).opcode, Op.QUIT)
                self.assertEqual(sock.recv(1), b"")

    def test_end_through_a_full_socket(self):
        """What comes last has no room at first."""
        self.start("--sndbuf=1", "--high=0")
        sock = self.connect(receive_buffer=4096)
        sock.sendall(mcbp.request(Op.GET, key=KEY) * 2 + mcbp.request(Op.QUITQ))
        time.sleep(0.2)
        for _ in range(2):
            self.assertTrue(mcbp.receive(sock).value == VALUE, "the bytes differ")
        self.assertEqual(sock.recv(1), b"")

    def test_end_that_comes_with_the_last_request(self):
        """In one packet, so that nothing but OpenSSL tells of it."""
        self.start()
        sock = self.connect()
        sock.send_at_once([mcbp.request(Op.GET, key=KEY)], end=True)
        self.assertTrue(mcbp.receive(sock).value == VALUE, "the bytes differ")
        self.assertEqual(sock.recv(1), b"")

    def test_end_of_tcp_is_none(self):
        self.start()
        sock = self.connect()
        sock.shutdown_tcp()
        with self.assertRaises(ConnectionResetError):
            sock.recv(1)
        self.wait_for_stat("curr_connections", 1)

    def test_broken_record(self):
        self.start()
        sock = self.connect()
        sock.sendall(mcbp.request(Op.NOOP))
        self.assertEqual(mcbp.receive(sock).status, Status.OK)
        sock.send_in_the_clear(b"\x17\x03\x03\x00\x20" + bytes(32))
        self.assertTrue(closes(sock))
        self.assert_served(self.control)
        self.wait_for_stat("curr_connections", 1)

    # Output paths.

    def test_switch_to_a_path_without_tls(self):
        self.start()
        get = mcbp.request(Op.GET, key=KEY)
        for output in set(PLAIN_OUTPUTS) - set(TLS_OUTPUTS):
            switch = mcbp.request(Op.OUTPUT, key=output.encode())
            self.control.sendall(get + switch + get)
            self.assertTrue(mcbp.receive(self.control).value == VALUE, "the bytes differ")
            self.assertEqual(mcbp.receive(self.control).status, Status.NOT_FOUND)
            self.assertTrue(mcbp.receive(self.control).value == VALUE, "the bytes differ")


class Start(unittest.TestCase):
    """What ends the daemon at once, with a message that names the option."""

    def assert_refused(self, option, *options):
        result = subprocess.run(
            [os.environ["MCBPD"], *options], capture_output=True, text=True, timeout=60
        )
        self.assertEqual(result.returncode, 2)
        self.assertIn(option, result.stderr.splitlines()[0])
        self.assertEqual(result.stdout, "")

    def test_one_file_without_the_other(self):
        for option in tls.server_options():
            self.assert_refused(option.split("=")[0], option)

    def test_bad_files(self):
        cert, key = tls.server_options()
        for bad in ("/none", "/dev/null", __file__):
            self.assert_refused("--tls-cert", f"--tls-cert={bad}", key)
            self.assert_refused("--tls-key", cert, f"--tls-key={bad}")

    def test_key_of_another_certificate(self):
        cert, _ = tls.server_options()
        tls.server_options.cache_clear()
        _, key = tls.server_options()
        self.assert_refused("--tls-key", cert, key)

    def test_path_without_tls(self):
        for output in set(PLAIN_OUTPUTS) - set(TLS_OUTPUTS):
            self.assert_refused("--output", f"--output={output}", *tls.server_options())


def load_tests(loader, _tests, _pattern):
    outputs = [output for output in TLS_OUTPUTS if output not in WITHOUT_SENDQ]
    suite = suite_of(loader, Tls, outputs)
    suite.addTests(loader.loadTestsFromTestCase(Start))
    return suite


if __name__ == "__main__":
    unittest.main()
