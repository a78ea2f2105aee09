"""A fake kubelet in a process of its own, so that what its clients cost it can be measured.

Run as a program it serves, prints one line of JSON, and answers each line on stdin by another: what it holds.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fakekubelet import FakeKubelet, Timeouts, Transcript
from spdyproto.limits import Deadlines

ROOT = Path(__file__).parents[2]
MIB = 1 << 20


class Victim:
    """The process; a context manager. `settings` go to `Timeouts`."""

    def __init__(self, **settings: float) -> None:
        self._settings = settings

    def __enter__(self) -> Self:
        environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'tests'}{os.pathsep}{ROOT}"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.victim", json.dumps(self._settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        facts = self._read()
        self.url: str = facts["url"]
        self.ca: bytes = facts["ca"].encode()
        self.pid: int = self._process.pid
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            code = self._process.wait(30)
        finally:
            self._process.kill()
            self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()
        if error is None:
            assert code == 0, f"the victim failed: {code}"

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        facts: dict[str, Any] = json.loads(self._process.stdout.readline())
        return facts

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def holds(self) -> dict[str, int]:
        """Tasks, objects, descriptors and threads of the server, after it has collected its garbage."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        counted: dict[str, int] = self._read()
        counted["descriptors"] = len(os.listdir(f"/proc/{self.pid}/fd"))
        counted["threads"] = len(os.listdir(f"/proc/{self.pid}/task"))
        return counted

    def settle(self, before: dict[str, int], seconds: float = 30) -> dict[str, int]:
        """Wait until it holds no more connections, tasks and threads than before, and tell what it holds then."""
        deadline = time.monotonic() + seconds
        while True:
            now = self.holds()
            if all(now[name] <= before[name] for name in ("descriptors", "tasks", "threads")):
                return now
            assert time.monotonic() < deadline, (before, now)
            time.sleep(0.1)

    def _status(self, name: str) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
        raise LookupError(name)

    @property
    def memory(self) -> int:
        """Resident bytes."""
        return self._status("VmRSS")

    @property
    def peak(self) -> int:
        """The most that was resident since `forget_peak`."""
        return self._status("VmHWM")

    def forget_peak(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")


def main() -> None:
    settings: dict[str, float] = json.loads(sys.argv[1])
    streams = settings.pop("streams", 30.0)
    kubelet = FakeKubelet(
        anonymous=True,
        profile="1.36",
        timeouts=Timeouts(**settings),
        deadlines=Deadlines(streams=streams),
        transcript=Transcript(exchanges=100),
    )
    with kubelet:
        print(json.dumps({"url": kubelet.url, "ca": kubelet.ca.decode()}), flush=True)
        for _ in sys.stdin:
            gc.collect()
            loop = kubelet._loop
            assert loop is not None
            tasks = asyncio.run_coroutine_threadsafe(_count_tasks(), loop).result(30)
            print(json.dumps({"tasks": tasks, "objects": len(gc.get_objects()), "alive": threading.active_count()}))
            sys.stdout.flush()


async def _count_tasks() -> int:
    return len(asyncio.all_tasks()) - 1


if __name__ == "__main__":
    main()
