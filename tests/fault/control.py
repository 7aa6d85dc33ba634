"""The memory that interpose.c shares with who drives the server."""

import ctypes
import mmap
import os
import tempfile

KINDS = (
    "short",
    "EAGAIN",
    "EINTR",
    "ENOBUFS",
    "ENOMEM",
    "ECONNRESET",
    "EPIPE",
    "epoll_ctl",
    "mmap",
    "malloc in sendq",
    "malloc in OpenSSL",
    "malloc in libevent",
    "operator new",
    "malloc in the host",
)
CONNECTIONS = 64
# A rate: of so many calls.
ALL = 1 << 16
# What ends the connection that it happens to.
FATAL = {"ECONNRESET", "EPIPE", "epoll_ctl"}
# No connection can be told from who has asked for memory.
ALLOCATIONS = KINDS[KINDS.index("mmap") :]


class _Shared(ctypes.Structure):
    _fields_ = [
        ("seed", ctypes.c_uint64),
        ("epoch", ctypes.c_uint32),
        ("spares_main", ctypes.c_uint32),
        ("rates", ctypes.c_uint32 * len(KINDS)),
        ("accepted", ctypes.c_uint32),
        ("faults", ctypes.c_uint32 * CONNECTIONS),
        ("counts", ctypes.c_uint64 * len(KINDS)),
        ("sends", ctypes.c_uint64),
        ("turns", ctypes.c_uint64),
    ]


class Control:
    """For one server, which is started with `environment`."""

    def __init__(self, library, spares_main):
        file, self._path = tempfile.mkstemp(prefix="sendq-fault-")
        os.ftruncate(file, ctypes.sizeof(_Shared))
        self._shared = _Shared.from_buffer(mmap.mmap(file, ctypes.sizeof(_Shared)))
        os.close(file)
        self._shared.spares_main = spares_main
        self.environment = {"LD_PRELOAD": library, "FAULT_CONTROL": self._path}

    def close(self):
        os.unlink(self._path)

    def begin(self, seed, rates):
        """Connections that are accepted from now on are harmed; rates are by kind, of ALL."""
        shared = self._shared
        for i, kind in enumerate(KINDS):
            shared.rates[i] = rates.get(kind, 0)
        shared.accepted = 0
        shared.faults[:] = [0] * CONNECTIONS
        shared.seed = seed
        shared.epoch += 1

    def end(self):
        self._shared.seed = 0
        self._shared.epoch += 1

    def faults_of(self, number):
        """What has happened to a connection of this epoch, which are counted from 0."""
        bits = self._shared.faults[number]
        return {kind for i, kind in enumerate(KINDS) if bits >> i & 1}

    def counts(self):
        return dict(zip(KINDS, self._shared.counts))

    @property
    def turns(self):
        return self._shared.turns

    @property
    def sends(self):
        return self._shared.sends
