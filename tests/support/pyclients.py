"""The Python clients of others, in an environment of their own: they, and what they need, are nothing that ours needs.

It lies in an ignored folder beside their requirements and is made anew when these change, by one process while the
others wait. ``python -m support.pyclients`` makes it ahead of the tests, which have a time limit each.
"""

from __future__ import annotations

import fcntl
import functools
import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

from support.gopeers import PeerMissing

SOURCES = Path(__file__).resolve().parents[1] / "interop" / "python"
_BUILD_SECONDS = 600
_SECONDS = 50


@functools.cache
def _environment() -> Path | PeerMissing:
    folder, wanted = SOURCES / "env", (SOURCES / "requirements.txt").read_text() + sys.version
    made = folder / "made-of"
    with (SOURCES / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists() or made.read_text() != wanted:
            shutil.rmtree(folder, ignore_errors=True)
            venv.create(folder, with_pip=True)
            requirements = ["-r", str(SOURCES / "requirements.txt")]
            command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *requirements]
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=_BUILD_SECONDS, check=False)
            except subprocess.TimeoutExpired:
                return PeerMissing(f"the Python clients took more than {_BUILD_SECONDS} s to install")
            if done.returncode:
                return PeerMissing(f"the Python clients cannot be installed: {done.stderr.strip()}")
            made.write_text(wanted)
    return folder / "bin" / "python"


def require() -> Path:
    """The Python that has the clients. A missing one skips the test, or fails it where peers are required."""
    found = _environment()
    if isinstance(found, Path):
        return found
    if os.environ.get("KUBEWIRE_REQUIRE_PEERS", "") not in ("", "0"):
        pytest.fail(f"KUBEWIRE_REQUIRE_PEERS is set, but: {found}", pytrace=False)
    pytest.skip(str(found))


def run(kubeconfig: Path, name: str) -> dict[str, Any]:
    """Do one thing of ``tests/interop/python/clients.py``: its ``result``, or ``error`` and ``text``."""
    command = [str(require()), str(SOURCES / "clients.py"), str(kubeconfig), name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


if __name__ == "__main__":
    environment = _environment()
    if isinstance(environment, PeerMissing):
        print(environment, file=sys.stderr)
        sys.exit(1)
