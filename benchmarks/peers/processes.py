"""Starting the peers: each a process of its own, on its own core, asked for its processor time over its stdin."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

ROOT = Path(__file__).resolve().parents[2]
_START_SECONDS = 60.0
_STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Cores:
    """Where the two ends run; the same core twice on a machine that has only one, None for wherever they like."""

    client: int | None
    peer: int | None

    @classmethod
    def available(cls) -> Cores:
        """The first core that this process may use, and the next one that is no second thread of the same core."""
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
        others = [core for core in cores[1:] if core not in _siblings(cores[0])] or cores[1:]
        return cls(cores[0], others[0] if others else cores[0])

    @property
    def apart(self) -> bool:
        """Whether the two ends have a core each."""
        return self.client != self.peer


def _siblings(core: int) -> set[int]:
    """The logical cores that share one physical core, as Linux tells it: ``0,2`` or ``0-1``."""
    try:
        text = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list").read_text()
        found: set[int] = set()
        for part in text.strip().split(","):
            first, _, last = part.partition("-")
            found |= set(range(int(first), int(last or first) + 1))
        return found
    except (OSError, ValueError):
        return {core}


def pin(core: int | None) -> None:
    """Keep the calling process, and what it starts, on one core; does nothing for None, or where the system cannot."""
    if core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})


class Peer:
    """A server process that prints a JSON line when it is ready, answers ``cpu``, and ends with its stdin."""

    def __init__(self, argv: Sequence[str], core: int | None) -> None:
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._unread = b""
        self.process = subprocess.Popen(
            argv,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            bufsize=0,
            preexec_fn=lambda: pin(core),  # before Go starts, which counts its cores then
        )
        try:
            self.ready: dict[str, Any] = json.loads(self._line())
        except BaseException:
            self.stop()
            raise
        self.url = str(self.ready["url"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def cpu(self) -> float:
        """Processor seconds, user and system, that the peer has used since its start. RuntimeError if it has ended."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(b"cpu\n")
        except BrokenPipeError:
            raise RuntimeError(f"the peer has ended; its log:\n{self.log()}") from None
        used = json.loads(self._line())
        return float(used["user"]) + float(used["system"])

    def log(self) -> str:
        """What the peer wrote to stderr."""
        return os.pread(self._log.fileno(), 1 << 20, 0).decode(errors="replace").strip()

    def stop(self) -> None:
        """End the process; its stdin's end is the sign, and a kill what follows if it does not listen."""
        process = self.process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.close()
        except BrokenPipeError:  # it has ended by itself
            pass
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    def _line(self) -> bytes:
        assert self.process.stdout is not None
        descriptor = self.process.stdout.fileno()
        deadline = time.monotonic() + _START_SECONDS
        while b"\n" not in self._unread:
            readable, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            chunk = os.read(descriptor, 65536) if readable else b""
            if not chunk:
                what = "closed its stdout" if readable else f"said nothing for {_START_SECONDS:g} s"
                raise RuntimeError(f"the peer {what}; its log:\n{self.log()}")
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        return line


def python(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of this project."""
    return [sys.executable, "-m", module, *arguments]
