"""What the clients of a seed ask for, and what they must get."""

import random

import mcbp
from mcbp import HEADER, RESPONSE, Op, Status

BLOB = random.Random(11).randbytes(1 << 20)
# Below two segments TCP itself crawls, by its persist timer.
RECEIVE_BUFFERS = (0, 0, 0, 64 << 10, 16 << 10, 8 << 10)


class Habits:
    """How a client reads."""

    def __init__(self, choose, total):
        self.receive_buffer = choose.choice(RECEIVE_BUFFERS)
        self.burst = choose.choice((100, 300, 1000, 32 << 10))
        self.received = 0
        self._pauses = sorted(choose.randrange(total) for _ in range(choose.choice((0, 0, 1, 3))))
        self._pause = choose.choice((0.001, 0.005, 0.02))
        self._reset_at = choose.randrange(total) if choose.random() < 0.15 else None

    def is_tired(self):
        return self._reset_at is not None and self.received >= self._reset_at

    def pause(self):
        if self._pauses and self.received >= self._pauses[0]:
            self._pauses.pop(0)
            return self._pause
        return 0


# mcbpd.

SHARED = (0, 1, 23, 100, 1000, 4095, 4096, 4097, 9000, 20000, 70000)
LARGE = 300000
CAS = slice(HEADER.size - 8, HEADER.size)


def shared_key(size):
    return b"shared-%d" % size


def shared_value(size):
    return BLOB[size : 2 * size]


def store_shared(sock):
    for size in (*SHARED, LARGE):
        reply = mcbp.ask(
            sock, Op.SET, shared_key(size), shared_value(size), mcbp.storage_extras(size)
        )
        if reply.status != Status.OK:
            raise RuntimeError("a value is not stored")


class McbpdScript(Habits):
    """Requests that are sent at once, and the stream that answers them."""

    def __init__(self, choose, number, over_tls):
        self._requests, self._expected, self._unknown = bytearray(), bytearray(), []
        self._opaque = 0
        self._own = {}
        self._number = number
        for _ in range(choose.choice((50, 150, 300))):
            self._add_request(choose)
        self.ends_its_side = not over_tls and choose.random() < 0.2
        if not self.ends_its_side:
            self._ask(Op.QUIT)
            self._answer(Op.QUIT)
        self.unsent = memoryview(bytes(self._requests))
        super().__init__(choose, len(self._expected) + 1)

    def _add_request(self, choose):
        what = choose.random()
        if what < 0.15:
            self._store(choose)
        elif what < 0.25 and self._own:
            key = choose.choice(list(self._own))
            self._get(choose, key, *self._own[key])
        elif what < 0.7:
            size = choose.choice(SHARED[:6] if choose.random() < 0.7 else SHARED)
            self._get(choose, shared_key(size), size, shared_value(size))
        elif what < 0.71:
            self._get(choose, shared_key(LARGE), LARGE, shared_value(LARGE))
        elif what < 0.8:
            self._miss(choose.choice((Op.GET, Op.GETQ, Op.GETKQ)))
        else:
            self._ask(Op.NOOP)
            self._answer(Op.NOOP)

    def _ask(self, op, **parts):
        self._opaque += 1
        self._requests += mcbp.request(op, opaque=self._opaque, **parts)

    def _answer(self, op, status=Status.OK, extras=b"", key=b"", value=b""):
        body = extras + key + value
        if extras:  # it is an item
            self._unknown.append(len(self._expected) + CAS.start)
        self._expected += HEADER.pack(
            RESPONSE, op, len(key), len(extras), 0, status, len(body), self._opaque, 0
        )
        self._expected += body

    def _store(self, choose):
        key = b"own-%d-%d" % (self._number, choose.randrange(4))
        at = choose.randrange(len(BLOB) // 2)
        value = BLOB[at : at + choose.choice((0, 10, 500, 4096, 5000, 40000))]
        self._own[key] = (at, value)
        self._ask(Op.SETQ, key=key, value=value, extras=mcbp.storage_extras(at))

    def _get(self, choose, key, flags, value):
        op = choose.choice((Op.GET, Op.GETQ, Op.GETK, Op.GETKQ))
        self._ask(op, key=key)
        shown = key if op in (Op.GETK, Op.GETKQ) else b""
        self._answer(op, extras=flags.to_bytes(4, "big"), key=shown, value=value)

    def _miss(self, op):
        self._ask(op, key=b"none")
        if op == Op.GET:
            self._answer(op, Status.NOT_FOUND, value=b"Not found")

    def take(self, data):
        end = self.received + len(data)
        if end > len(self._expected):
            return f"more than was asked for, at byte {len(self._expected)}"
        # The server chooses the cas of a value.
        while self._unknown and self._unknown[0] < end:
            at = self._unknown[0]
            first, last = max(at, self.received), min(at + 8, end)
            self._expected[first:last] = data[first - self.received : last - self.received]
            if at + 8 > end:
                break
            self._unknown.pop(0)
        expected = self._expected[self.received : end]
        if expected != data:
            wrong = next(i for i, byte in enumerate(data) if byte != expected[i])
            return f"wrong at byte {self.received + wrong}"
        self.received = end
        return None

    def is_complete(self):
        return self.received == len(self._expected)


# fanout.

TOPICS = (b"news", b"weather")
PAYLOADS = (1, 20, 200, 1000, 1024, 5000, 40000)


def payload(publisher, sequence):
    """What is published, by which a subscriber knows whose it is."""
    choose = random.Random(publisher << 32 | sequence)
    size, at = choose.choice(PAYLOADS), choose.randrange(len(BLOB) // 2)
    return b"%d %d %s" % (publisher, sequence, BLOB[at : at + size])


class Lines:
    """Takes a stream of lines and messages apart."""

    def __init__(self):
        self.ended = False
        self._input = bytearray()

    def take(self, data):
        self.received += len(data)
        self._input += data
        try:
            while self._take_one():
                pass
        except (ValueError, IndexError) as error:
            return f"wrong before byte {self.received}: {error}"
        return None

    def _take_one(self):
        """A line, or a message. Returns whether it was all there."""
        end = self._input.find(b"\n") + 1
        if end == 0:
            return False
        words = bytes(self._input[: end - 1]).split(b" ")
        body = int(words[2]) + 1 if words[0] == b"MSG" else 0
        if end + body > len(self._input):
            return False
        self.take_line(words, bytes(self._input[end : end + body]))
        del self._input[: end + body]
        return True

    def is_complete(self):
        return self.ended and not self._input


class PublisherScript(Habits, Lines):
    def __init__(self, choose, number):
        self.topic = TOPICS[number % len(TOPICS)]
        self.number = number
        self._count = choose.choice((10, 30, 60))
        self.results = []  # of each publication: whether it was delivered
        requests = bytearray()
        for i in range(self._count):
            data = payload(number, i)
            requests += b"PUB %s %d\n%s\n" % (self.topic, len(data), data)
        self.ends_its_side = choose.random() < 0.2
        self.unsent = memoryview(bytes(requests + (b"" if self.ends_its_side else b"QUIT\n")))
        Habits.__init__(self, choose, 7 * self._count)
        Lines.__init__(self)
        self.ended = self.ends_its_side

    def take_line(self, words, _body):
        if words == [b"+OK"]:
            self.ended = True
        elif words[0] == b"+OK" and len(words) == 2:
            self.results.append(True)
        elif words == [b"-ERR", b"out", b"of", b"memory"]:
            self.results.append(False)
        else:
            raise ValueError(words)

    def is_complete(self):
        return Lines.is_complete(self) and len(self.results) == self._count


class SubscriberScript(Habits, Lines):
    def __init__(self, choose):
        self.topics = choose.choice(((TOPICS[0],), (TOPICS[1],), TOPICS))
        self.unsent = memoryview(b"".join(b"SUB %s\n" % topic for topic in self.topics))
        self.ends_its_side = False
        self.replies = 0
        self.seen = {}  # by publisher, the numbers of what came
        self._count = 0
        Habits.__init__(self, choose, 200000)
        Lines.__init__(self)

    @property
    def has_subscribed(self):
        return self.replies >= len(self.topics)

    def quit(self):
        self.unsent = memoryview(b"QUIT\n")

    def take_line(self, words, body):
        if words[0] == b"MSG":
            self._take_message(words, body)
        elif words == [b"+OK"]:
            self.ended = self.has_subscribed
            self.replies += 1
        elif words == [b"-ERR", b"out", b"of", b"memory"]:
            self.topics = ()
            self.replies += 1
        else:
            raise ValueError(words)

    def _take_message(self, words, body):
        self._count += 1
        if int(words[3]) != self._count:
            raise ValueError(f"message {words[3]} is the {self._count}.")
        publisher, sequence = map(int, body.split(b" ", 2)[:2])
        if body != payload(publisher, sequence) + b"\n":
            raise ValueError(f"the bytes of {publisher}'s message {sequence}")
        seen = self.seen.setdefault(publisher, [])
        if seen and sequence <= seen[-1]:
            raise ValueError(f"{publisher}'s message {sequence} after {seen[-1]}")
        seen.append(sequence)

    def missing(self, publishers, complete):
        """What it should have got of what they know to be delivered."""
        for publisher in publishers:
            if publisher.topic not in self.topics:
                continue
            seen = self.seen.get(publisher.number, [])
            end = len(publisher.results) if complete else (seen[-1] if seen else 0)
            delivered = {i for i, result in enumerate(publisher.results[:end]) if result}
            refused = {i for i, result in enumerate(publisher.results) if not result}
            if not delivered <= set(seen) or refused & set(seen):
                return f"{publisher.number}'s messages {sorted(delivered - set(seen))} are missing"
        return None
