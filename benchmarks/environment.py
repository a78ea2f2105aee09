"""On what a result was measured: without it a number means nothing on another day."""

from __future__ import annotations

import datetime
import os
import platform
import shutil
import ssl
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUSY = 0.7
"""Load above which a run warns: the two measured processes need two idle cores."""


def stamp() -> dict[str, str]:
    """Processor, kernel, versions and commit, as text."""
    load = os.getloadavg()[0]
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(),
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "congestion control": _read("/proc/sys/net/ipv4/tcp_congestion_control"),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "openssl": ssl.OPENSSL_VERSION,
        "go": _output("go", "version", folder=ROOT / "tests" / "interop" / "go").removeprefix("go version "),
        "load at start": f"{load:.2f}" + (" (busy: do not trust the numbers)" if load > BUSY else ""),
    }


def commit() -> str:
    """The commit that was measured, marked when the tree has changes."""
    name = _output("git", "rev-parse", "--short=12", "HEAD")
    changed = _output("git", "status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/results")
    return f"{name} with local changes" if changed else name


def _processor() -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return "unknown"


def _output(program: str, *arguments: str, folder: Path = ROOT) -> str:
    if shutil.which(program) is None:
        return "not here"
    done = subprocess.run([program, *arguments], cwd=folder, capture_output=True, text=True, timeout=30)
    return done.stdout.strip() if done.returncode == 0 else "unknown"
