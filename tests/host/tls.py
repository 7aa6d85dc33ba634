"""TLS for the clients, and a certificate for the server.

A socket of Python's ssl module must not be used by two threads, as the one that sends and the one that
reads. Nor does it close only its own direction, or say whether the end was an orderly one."""

import atexit
import contextlib
import functools
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading

# What every test runs with that does not say otherwise.
BY_DEFAULT = os.environ.get("MCBPD_TLS") == "1"

RECORD_BYTES = 16 << 10
# A record has so much more, and a handshake is not short.
OVERHEAD = 64


@functools.cache
def server_options(copies=1):
    """With a certificate of its own for each run, sent so many times over."""
    folder = tempfile.mkdtemp(prefix="mcbpd-tls-")
    atexit.register(shutil.rmtree, folder)
    cert, key = (os.path.join(folder, name) for name in ("cert.pem", "key.pem"))
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes".split()
    command += ["-subj", "/CN=mcbpd", "-days", "2", "-out", cert, "-keyout", key]
    subprocess.run(command, check=True, capture_output=True)
    with open(cert, "r+") as file:
        file.write(file.read() * (copies - 1))
    return f"--tls-cert={cert}", f"--tls-key={key}"


@functools.cache
def _context(version):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if version is not None:
        context.maximum_version = version
    return context


class TlsSocket:
    """As much of a socket as the tests use. One thread may send while another one reads."""

    def __init__(self, sock, version=None):
        self._sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = _context(version).wrap_bio(self._incoming, self._outgoing)
        self._tls_lock = threading.Lock()
        self._send_lock = threading.Lock()
        self._unsent = b""
        while not self._try(self._tls.do_handshake):
            self._send_encrypted()
            self._receive(OVERHEAD)
        self._send_encrypted()

    def __getattr__(self, name):
        return getattr(self._sock, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _try(self, call):
        """In a list what the call gave; None if it waits for what comes in."""
        with self._tls_lock:
            try:
                return [call()]
            except ssl.SSLWantReadError:
                return None

    def _receive(self, size):
        if data := self._sock.recv(size):
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def recv(self, size):
        try:
            while not (data := self._try(lambda: self._tls.read(size))):
                self._receive(size + OVERHEAD)
        except ssl.SSLZeroReturnError:
            return b""
        except ssl.SSLError as error:
            raise ConnectionResetError("the server has not said that this is the end") from error
        return data[0]

    def _send_encrypted(self):
        with self._tls_lock:
            self._unsent += self._outgoing.read()
        while self._unsent:
            self._unsent = self._unsent[self._sock.send(self._unsent) :]

    def send(self, data):
        """Of a socket that does not wait, or not for long, all is taken that does not come behind what
        the kernel refused."""
        with self._send_lock:
            self._send_encrypted()
            part = data[:RECORD_BYTES]
            with self._tls_lock:
                self._tls.write(part)
            with contextlib.suppress(BlockingIOError, TimeoutError):
                self._send_encrypted()
        return len(part)

    def sendall(self, data):
        data = memoryview(data)
        while data:
            data = data[self.send(data) :]
        with self._send_lock:
            self._send_encrypted()

    def version(self):
        return self._tls.version()

    def shutdown(self, how):
        """SHUT_WR tells the server that nothing follows, and leaves TCP as it is."""
        if how == socket.SHUT_WR:
            self.send_at_once([], end=True)
        else:
            self._sock.shutdown(how)

    def send_at_once(self, records, end=False):
        with self._send_lock:
            with self._tls_lock, contextlib.suppress(ssl.SSLWantReadError):
                for record in records:
                    self._tls.write(record)
                if end:
                    self._tls.unwrap()
            self._send_encrypted()

    def shutdown_tcp(self):
        self._sock.shutdown(socket.SHUT_WR)

    def send_in_the_clear(self, data):
        self._sock.sendall(data)
