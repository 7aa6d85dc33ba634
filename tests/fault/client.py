"""A client of the mill: sends what its script says, and takes what comes in without waiting for it."""

import select
import socket
import ssl
import struct
import time

# Errors of TLS that are an early end, and no damage to what was sent before.
EARLY_ENDS = ("UNEXPECTED_EOF_WHILE_READING", "ALERT")


class Client:
    """What comes in goes to `script.take(bytes)`, which returns what is wrong with it, or None. It ends when
    the server ends the connection, or when script.is_tired() says so, with a reset."""

    def __init__(self, port, script, context=None):
        self.script = script
        self.outcome = None  # "ended", "reset", "cut", "hung", or what is wrong
        self.paused_until = 0
        self._handshake = context is not None
        self._wants_write = self._handshake  # a client begins it
        sock = socket.socket()
        if script.receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, script.receive_buffer)
        sock.connect(("127.0.0.1", port))
        sock.setblocking(False)
        self.sock = sock
        if context:
            self.sock = context.wrap_socket(sock, do_handshake_on_connect=False)

    def fileno(self):
        return self.sock.fileno()

    def events(self, now):
        """What to wait for; a paused one only waits for the time."""
        if now < self.paused_until:
            return 0
        sends = self._wants_write or (self.script.unsent and not self._handshake)
        return select.POLLIN | (select.POLLOUT if sends else 0)

    def is_ready(self, now):
        """Something is here that the socket does not show."""
        return now >= self.paused_until and not self._handshake and self._pending() > 0

    def _pending(self):
        return self.sock.pending() if isinstance(self.sock, ssl.SSLSocket) else 0

    def step(self):
        """Returns whether anything moved."""
        try:
            return self._step()
        except (ssl.SSLWantReadError, BlockingIOError):
            self._wants_write = False
        except ssl.SSLWantWriteError:
            self._wants_write = True
        except ssl.SSLError as error:
            is_early_end = isinstance(error, ssl.SSLEOFError) or any(
                text in str(error) for text in EARLY_ENDS
            )
            self._end("cut" if is_early_end else f"TLS: {error}")
            return True
        except OSError:
            self._end("cut")
            return True
        return False

    def _step(self):
        if self._handshake:
            self.sock.do_handshake()
            self._handshake = self._wants_write = False
        moved = self._send()
        if data := self._receive():
            self._take(data)
            return True
        return moved

    def _send(self):
        if not self.script.unsent:
            return False
        try:
            sent = self.sock.send(self.script.unsent[: self.script.burst])
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
            return False
        self.script.unsent = self.script.unsent[sent:]
        if not self.script.unsent and self.script.ends_its_side:
            self.sock.shutdown(socket.SHUT_WR)
        return True

    def _receive(self):
        try:
            data = self.sock.recv(64 << 10)
        except ssl.SSLZeroReturnError:
            data = b""
        if not data:
            self._end("ended" if self.script.is_complete() else "cut")
        return data

    def _take(self, data):
        wrong = self.script.take(data)
        if wrong:
            self._end(wrong)
        elif self.script.is_tired():
            self.reset()
        elif pause := self.script.pause():
            self.paused_until = time.monotonic() + pause

    def reset(self, outcome="reset"):
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass
        self._end(outcome)

    def _end(self, outcome):
        self.outcome = outcome
        self.sock.close()


def step_all(clients, longest=0.2):
    """Waits until one of them can go on, and lets all that can. Returns whether anything moved."""
    now = time.monotonic()
    poll = select.poll()
    by_fd = {}
    ready = [client for client in clients if client.is_ready(now)]
    for client in clients:
        if events := client.events(now):
            poll.register(client, events)
            by_fd[client.fileno()] = client
    pauses = [client.paused_until - now for client in clients if now < client.paused_until]
    timeout = 0 if ready else max(1, int(min([longest, *pauses]) * 1000))
    readable = {by_fd[fd] for fd, _ in poll.poll(timeout)}
    moved = [client.step() for client in readable.union(ready)]
    # Who pauses is not waited for.
    return any(moved) or bool(pauses)


def play(clients, patience, until=None):
    """Until all have ended, or until() holds. Those that nothing moves for so many seconds hang."""
    moved_at = time.monotonic()
    while not (until and until()):
        running = [client for client in clients if client.outcome is None]
        if not running:
            return
        if step_all(running):
            moved_at = time.monotonic()
        elif time.monotonic() - moved_at > patience:
            for client in running:
                client.reset("hung")
