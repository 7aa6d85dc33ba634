"""A recorded client session: the same requests, byte for byte, each time."""

import random
import socket
import threading
import time

import mcbp
from mcbp import Op, Status

MAX_ITEM = 3 << 20
SMALL = (0, 1, 23, 24, 100, 1000, 4095, 4096, 4097, 8191, 8192, 8193)
LARGE = (16 << 10, 64 << 10, (256 << 10) + 1, 1 << 20, 2 << 20)
QUIET_ON_MISS = {Op.GETQ, Op.GETKQ, Op.GATQ, Op.GATKQ}
SEED = 20181

FLAGS = 0xCAFE0000
EXPTIME = (3600).to_bytes(4, "big")


class Session:
    """Its requests, as bursts that are sent at once, and what the responses must be."""

    def __init__(self):
        self.bursts = [bytearray()]
        self.expected = {}  # opaque: (status, value or None); a quiet success has no entry
        self._opaque = 0

    def ask(self, opcode, status=Status.OK, answer=None, silent=False, **parts):
        self._opaque += 1
        self.bursts[-1] += mcbp.request(opcode, opaque=self._opaque, **parts)
        if not silent:
            self.expected[self._opaque] = (status, answer)

    def end_burst(self):
        self.bursts.append(bytearray())

    def switch(self, output):
        self.ask(Op.OUTPUT, key=output.encode())

    def quit(self):
        self.ask(Op.QUIT)

    def check(self, stream):
        """Raises AssertionError unless the stream answers the session."""
        responses = mcbp.parse(stream)
        opaques = [response.opaque for response in responses]
        if opaques != list(self.expected):
            raise AssertionError("responses are missing, surplus, or out of order")
        for response in responses:
            status, answer = self.expected[response.opaque]
            if response.status != status:
                raise AssertionError(f"{response[:4]}: status {response.status}, not {status}")
            if answer is not None and response.value != answer:
                raise AssertionError(f"{response[:4]}: wrong value")


def value_of(size):
    return random.Random(size).randbytes(size)


def key_of(size):
    return b"value-%d" % size


def store_values(session):
    for size in SMALL + LARGE:
        extras = mcbp.storage_extras(FLAGS + size)
        session.ask(Op.SETQ, key=key_of(size), value=value_of(size), extras=extras, silent=True)
        session.ask(Op.GET, key=key_of(size), answer=value_of(size))
        session.end_burst()


def every_opcode(session):
    storage = mcbp.storage_extras(7)
    for op, status in (
        (Op.REPLACE, Status.NOT_FOUND),
        (Op.APPEND, Status.NOT_STORED),
        (Op.PREPEND, Status.NOT_STORED),
        (Op.ADD, Status.OK),
        (Op.ADD, Status.EXISTS),
        (Op.REPLACE, Status.OK),
        (Op.SET, Status.OK),
        (Op.APPEND, Status.OK),
        (Op.PREPEND, Status.OK),
    ):
        extras = b"" if op in (Op.APPEND, Op.PREPEND) else storage
        session.ask(op, status, key=b"word", value=b"ab", extras=extras)
    session.ask(Op.ADDQ, Status.EXISTS, key=b"word", extras=storage)
    session.ask(Op.APPENDQ, key=b"word", value=b"c", silent=True)
    session.ask(Op.PREPENDQ, key=b"word", value=b"c", silent=True)
    session.ask(Op.GETK, key=b"word", answer=b"cabababc")
    session.ask(Op.SET, Status.EXISTS, key=b"word", extras=storage, cas=1 << 60)
    session.ask(Op.SET, Status.NOT_FOUND, key=b"none", extras=storage, cas=1)
    session.ask(Op.REPLACEQ, key=b"word", value=b"xy", extras=storage, silent=True)
    for op in (Op.GAT, Op.GATQ, Op.GATK, Op.GATKQ):
        session.ask(op, key=b"word", extras=EXPTIME, answer=b"xy")
    session.ask(Op.TOUCH, key=b"word", extras=EXPTIME, answer=b"")
    for op in (Op.GET, Op.GETK):
        session.ask(op, Status.NOT_FOUND, key=b"none")
    for op in (Op.GAT, Op.GATK, Op.TOUCH):
        session.ask(op, Status.NOT_FOUND, key=b"none", extras=EXPTIME)
    for op in (Op.GETQ, Op.GETKQ):
        session.ask(op, key=b"none", silent=True)
    for op in (Op.GATQ, Op.GATKQ):
        session.ask(op, key=b"none", extras=EXPTIME, silent=True)
    session.ask(Op.DELETE, Status.EXISTS, key=b"word", cas=1 << 60)
    session.ask(Op.DELETE, key=b"word")
    session.ask(Op.DELETE, Status.NOT_FOUND, key=b"word")
    session.ask(Op.DELETEQ, Status.NOT_FOUND, key=b"word")
    session.ask(Op.NOOP)
    session.ask(Op.VERSION)
    session.ask(Op.VERBOSITY, extras=bytes(4))
    session.ask(Op.STAT, Status.NOT_FOUND, key=b"none")
    session.ask(Op.OUTPUT, Status.NOT_FOUND, key=b"none")
    session.end_burst()


def counters(session):
    ten = (10).to_bytes(8, "big")
    zero = bytes(8)
    no_create = mcbp.counter_extras(1, 1, 0xFFFFFFFF)
    session.ask(Op.INCREMENT, Status.NOT_FOUND, key=b"n", extras=no_create)
    session.ask(Op.INCREMENT, key=b"n", extras=mcbp.counter_extras(1, 10), answer=ten)
    session.ask(Op.INCREMENTQ, key=b"n", extras=mcbp.counter_extras(5), silent=True)
    session.ask(Op.DECREMENTQ, key=b"n", extras=mcbp.counter_extras(6), silent=True)
    session.ask(Op.INCREMENT, key=b"n", extras=mcbp.counter_extras(1), answer=ten)
    session.ask(Op.DECREMENT, key=b"n", extras=mcbp.counter_extras(99), answer=zero)
    session.ask(Op.GET, key=b"n", answer=b"0")
    session.ask(Op.INCREMENT, Status.NOT_A_NUMBER, key=key_of(100), extras=mcbp.counter_extras(1))
    session.end_burst()


def refusals(session):
    session.ask(0x7F, Status.UNKNOWN_COMMAND, key=b"k", value=b"v")
    session.ask(Op.GET, Status.INVALID)
    session.ask(Op.GET, Status.INVALID, key=b"k", extras=bytes(4))
    session.ask(Op.GET, Status.INVALID, key=bytes(251))
    session.ask(Op.SET, Status.INVALID, key=b"k", value=b"v")
    session.ask(Op.NOOP, Status.INVALID, key=b"k")
    session.ask(Op.DELETE_BUCKET, Status.INVALID, key=b"k")
    too_large = bytes(MAX_ITEM + 1)
    session.ask(
        Op.SET, Status.TOO_LARGE, key=b"k", value=too_large, extras=mcbp.storage_extras()
    )
    session.ask(Op.NOOP)
    session.end_burst()


def pipelined(session):
    """Bursts of 1 to 200 requests for what store_values stored."""
    choose = random.Random(SEED)
    for length in (1, 2, 3, 7, 16, 31, 64, 100, 128, 200):
        for _ in range(length):
            one_of_a_burst(session, choose)
        session.end_burst()


def one_of_a_burst(session, choose):
    size = choose.choice(SMALL + SMALL + LARGE[:2])
    op = choose.choice((Op.GET, Op.GETQ, Op.GETK, Op.GETKQ, Op.SETQ, Op.NOOP))
    if op == Op.NOOP:
        session.ask(op)
    elif op == Op.SETQ:
        extras = mcbp.storage_extras(size)
        session.ask(op, key=key_of(size), value=value_of(size), extras=extras, silent=True)
    else:
        session.ask(op, key=key_of(size), answer=value_of(size))


def many_small(session):
    """More than one read can take in, and hardly a value among it."""
    for number in range(16000):
        if number % 50 == 0:
            session.ask(Op.GET, key=key_of(100), answer=value_of(100))
        else:
            session.ask(Op.NOOP)
    session.end_burst()


def large_burst(session):
    for size in LARGE + LARGE:
        session.ask(Op.GETK, key=key_of(size), answer=value_of(size))
    session.end_burst()


def flushes(session):
    session.ask(Op.FLUSH, extras=EXPTIME)
    session.ask(Op.GET, key=key_of(1), answer=value_of(1))
    session.ask(Op.FLUSHQ, silent=True)
    session.ask(Op.GET, Status.NOT_FOUND, key=key_of(1))
    session.end_burst()


PARTS = (
    store_values,
    every_opcode,
    counters,
    refusals,
    pipelined,
    many_small,
    large_burst,
    flushes,
)


def record(switch_to=()):
    """The whole session; between its parts it moves to one output after the other."""
    session = Session()
    for number, part in enumerate(PARTS):
        if switch_to:
            session.switch(switch_to[number % len(switch_to)])
        part(session)
    session.quit()
    return session


def play(session, port, receive_buffer=None, pauses=()):
    """Returns all that the server answers. At each of the offsets in `pauses` reading stops for a
    while, so that the server's socket fills up."""
    with mcbp.connect(port, receive_buffer=receive_buffer) as sock:
        sender = threading.Thread(target=send_all, args=(sock, session.bursts))
        sender.start()
        try:
            return read_all(sock, list(pauses))
        finally:
            if sender.is_alive():
                sock.shutdown(socket.SHUT_RDWR)
            sender.join()


def send_all(sock, bursts):
    try:
        for burst in bursts:
            sock.sendall(burst)
    except OSError:
        pass  # the reader tells what came of it


def read_all(sock, pauses):
    stream = bytearray()
    while part := sock.recv(64 << 10):
        stream += part
        if pauses and len(stream) >= pauses[0]:
            pauses.pop(0)
            time.sleep(0.1)
    return bytes(stream)
