"""Starts the daemon on a free port and ends it again."""

import os
import re
import select
import signal
import subprocess

import mcbp
import tls

PLAIN_OUTPUTS = (
    "sendmsg",
    "shadow",
    "sendq-sendmsg",
    "bufferevent",
    "sendq-libevent",
    "sendq-copy",
    "sendq-ref",
    "sendq-message",
)
TLS_OUTPUTS = tuple(output for output in PLAIN_OUTPUTS if output != "sendq-sendmsg")
OUTPUTS = TLS_OUTPUTS if tls.BY_DEFAULT else PLAIN_OUTPUTS
# Nothing of the others goes through sendq. They are played where the point is to compare with them, and
# briefly by the tests of conformance and load.
WITHOUT_SENDQ = {"sendmsg", "bufferevent"}
SENDQ_OUTPUTS = tuple(output for output in OUTPUTS if output not in WITHOUT_SENDQ)
# When a daemon is taken to hang, however busy the machine is.
START_SECONDS = 60
STOP_SECONDS = 60


class Daemon:
    def __init__(
        self,
        output,
        *options,
        program=None,
        prefix=(),
        stderr=None,
        over_tls=tls.BY_DEFAULT,
        environment=None,
    ):
        program = program or os.environ["MCBPD"]
        self.output = output
        self.over_tls = over_tls
        options = (*(tls.server_options() if over_tls else ()), *options)
        command = [*prefix, program, f"--output={output}", *options]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stderr, env=environment
        )
        try:
            self.port = self._read_port(output)
            with mcbp.connect(self.port, over_tls=over_tls) as sock:
                # Not the process started here if a tracer comes first.
                self.pid = int(mcbp.stats(sock)["pid"])
        except BaseException:
            self._process.kill()
            self._reap()
            raise

    def _read_port(self, output):
        if not select.select([self._process.stdout], [], [], START_SECONDS)[0]:
            raise TimeoutError("the daemon does not say that it listens")
        line = self._process.stdout.readline().decode()
        match = re.fullmatch(rf"mcbpd listening on [0-9.]+:(\d+) output={output}\n", line)
        if not match:
            raise RuntimeError(f"the daemon says {line!r}")
        return int(match[1])

    def _reap(self):
        self._process.stdout.close()
        return self._process.wait()

    def status(self):
        """The exit status, as subprocess has it; None while it runs."""
        return self._process.poll()

    def is_alive(self):
        return self.status() is None

    def memory(self):
        """What is resident now, in bytes."""
        return self._status("VmRSS")

    def peak_memory(self):
        """The most that was, in bytes."""
        return self._status("VmHWM")

    def _status(self, name):
        with open(f"/proc/{self.pid}/status") as status:
            return int(re.search(rf"{name}:\s+(\d+) kB", status.read())[1]) * 1024

    def is_sanitized(self):
        """Built with AddressSanitizer: its memory says nothing then."""
        with open(f"/proc/{self.pid}/maps") as maps:
            return "libasan" in maps.read()

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def stop(self):
        """Returns the exit status; a daemon that does not stop is killed and a failure."""
        if self.is_alive():
            os.kill(self.pid, signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.kill(self.pid, signal.SIGKILL)
            self._process.kill()
        return self._reap()

    def __enter__(self):
        return self

    def __exit__(self, exception_type, *_):
        status = self.stop()
        if status != 0 and exception_type is None:
            raise RuntimeError(f"the daemon ended with {status}")
