"""What figures are of: which commit, and what it was built with."""

import platform
import re
import shutil
import subprocess
from pathlib import Path


def output_of(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def commit():
    here = Path(__file__).parent
    try:
        described = output_of("git", "-C", here, "describe", "--always", "--dirty= and changes")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return described.strip()


def toolchain(files):
    """What the built files say of their compilers, and what else counts depend on."""
    comments = output_of("readelf", "--string-dump=.comment", *files)
    compilers = set(re.findall(r"^ *\[ *[0-9a-f]+\] +(.+?)\s*$", comments, re.M))
    valgrind = output_of("valgrind", "--version").strip() if shutil.which("valgrind") else "none"
    return {
        "compilers": ", ".join(sorted(compilers)),
        "valgrind": valgrind,
        "C library": " ".join(platform.libc_ver()),
        "machine": platform.machine(),
    }
