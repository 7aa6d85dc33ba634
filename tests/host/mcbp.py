"""The memcached binary protocol, as a client sees it."""

import json
import socket
import struct
from enum import IntEnum
from typing import NamedTuple

import tls

HEADER = struct.Struct("!BBHBBHIIQ")
REQUEST, RESPONSE = 0x80, 0x81
# An option of the daemon.
JUMPING = "--clock=jumping"
# When the other side is taken to hang, however busy the machine is.
TIMEOUT = 60


class Op(IntEnum):
    GET = 0x00
    SET = 0x01
    ADD = 0x02
    REPLACE = 0x03
    DELETE = 0x04
    INCREMENT = 0x05
    DECREMENT = 0x06
    QUIT = 0x07
    FLUSH = 0x08
    GETQ = 0x09
    NOOP = 0x0A
    VERSION = 0x0B
    GETK = 0x0C
    GETKQ = 0x0D
    APPEND = 0x0E
    PREPEND = 0x0F
    STAT = 0x10
    SETQ = 0x11
    ADDQ = 0x12
    REPLACEQ = 0x13
    DELETEQ = 0x14
    INCREMENTQ = 0x15
    DECREMENTQ = 0x16
    QUITQ = 0x17
    FLUSHQ = 0x18
    APPENDQ = 0x19
    PREPENDQ = 0x1A
    VERBOSITY = 0x1B
    TOUCH = 0x1C
    GAT = 0x1D
    GATQ = 0x1E
    GATK = 0x23
    GATKQ = 0x24
    OUTPUT = 0xF0
    DELETE_BUCKET = 0xF1
    ACK = 0xF2
    JUMP = 0xF3
    SUBSCRIBE = 0xF4
    PUBLISH = 0xF5
    PUSH = 0xF6


class Status(IntEnum):
    OK = 0x00
    NOT_FOUND = 0x01
    EXISTS = 0x02
    TOO_LARGE = 0x03
    INVALID = 0x04
    NOT_STORED = 0x05
    NOT_A_NUMBER = 0x06
    UNKNOWN_COMMAND = 0x81


class Response(NamedTuple):
    opcode: int
    status: int
    opaque: int
    cas: int
    extras: bytes
    key: bytes
    value: bytes


def request(opcode, key=b"", value=b"", extras=b"", opaque=0, cas=0):
    body = extras + key + value
    header = HEADER.pack(
        REQUEST, opcode, len(key), len(extras), 0, 0, len(body), opaque, cas
    )
    return header + body


def storage_extras(flags=0, exptime=0):
    return struct.pack("!II", flags, exptime)


def counter_extras(delta, initial=0, exptime=0):
    return struct.pack("!QQI", delta, initial, exptime)


def parse(stream):
    """All responses of a stream that ends with a whole one."""
    responses = []
    at = 0
    while at < len(stream):
        magic, opcode, key, extras, _, status, body, opaque, cas = HEADER.unpack_from(stream, at)
        if magic != RESPONSE:
            raise ValueError(f"no response at byte {at}")
        at += HEADER.size
        if at + body > len(stream):
            raise ValueError(f"the response at byte {at} is cut off")
        parts = stream[at : at + body]
        at += body
        responses.append(
            Response(
                opcode,
                status,
                opaque,
                cas,
                parts[:extras],
                parts[extras : extras + key],
                parts[extras + key :],
            )
        )
    return responses


def connect(port, timeout=TIMEOUT, receive_buffer=None, over_tls=tls.BY_DEFAULT):
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.settimeout(timeout)
    if receive_buffer is not None:
        # A record may be a packet; where two do not fit, TCP lets some ten a second pass.
        receive_buffer *= 2 if over_tls else 1
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.connect(("127.0.0.1", port))
    return tls.TlsSocket(sock) if over_tls else sock


def receive_exactly(sock, size):
    data = bytearray()
    while len(data) < size:
        part = sock.recv(min(size - len(data), 1 << 20))
        if not part:
            raise ConnectionError("the server closed the connection")
        data += part
    return bytes(data)


def receive(sock):
    header = receive_exactly(sock, HEADER.size)
    body = receive_exactly(sock, HEADER.unpack(header)[6])
    return parse(header + body)[0]


def ask(sock, *args, **kwargs):
    sock.sendall(request(*args, **kwargs))
    return receive(sock)


def stats(sock, key=b""):
    sock.sendall(request(Op.STAT, key=key))
    found = {}
    while (response := receive(sock)).key:
        found[response.key.decode()] = response.value.decode()
    return found


def jump(sock, seconds):
    """Moves the clock of a daemon that was started with JUMPING. Who is stalled by then has been dropped
    when it returns."""
    response = ask(sock, Op.JUMP, extras=struct.pack("!I", seconds))
    if response.status != Status.OK:
        raise ValueError(f"the clock does not jump: status {response.status}")
    connections(sock)


def connections(sock):
    """By its id, what each has on its way."""
    return {int(id): json.loads(text) for id, text in stats(sock, b"connections").items()}
