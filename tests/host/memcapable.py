"""libmemcached's conformance test of the binary protocol."""

import re
import shutil
import subprocess

TIMEOUT = 120


def find():
    """Debian calls the program memccapable, its authors memcapable."""
    return shutil.which("memccapable") or shutil.which("memcapable")


def run(program, port):
    """Returns how many tests passed, how many there are, and what was printed."""
    result = subprocess.run(
        [program, "-h", "127.0.0.1", "-p", str(port), "-b"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
    )
    passed = len(re.findall(r"^binary .*\[pass\]$", result.stdout, re.M))
    total = len(re.findall(r"^binary ", result.stdout, re.M))
    if result.returncode != 0:
        passed = min(passed, total - 1)
    return passed, total, result.stdout
