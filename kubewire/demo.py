"""``make demo``: a fake kubelet in a process of its own, and the main job done against it.

It shows what a first-time reader wants to see: commands with their own output and exit codes, 256 MiB moved each way
with every byte verified, a refusal, and how fast it all was.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fakekubelet.behaviours import keystream
from kubeletclient import ClientCertificate, Completed, Forbidden, Kubelet, Pod, Unauthorized
from spdyproto.text import printable

SIZE: Final = 256 * 1024 * 1024
"""Bytes pushed in, and bytes pulled out."""

_READY_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    what: str
    outcome: str
    seconds: float
    moved: int = 0


@contextmanager
def fake_kubelet(folder: Path) -> Iterator[dict[str, str]]:
    """A fake kubelet with a certificate authority of its own, as ``kubewire fake`` starts it; ends with the block."""
    command = [sys.executable, "-m", "kubewire", "fake", "--write-config", str(folder), "--allow-processes"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            if not line:
                raise SystemExit("the fake kubelet did not start: its error is above")
            yield json.loads(line)
        finally:
            server.terminate()
            server.wait(_READY_SECONDS)


def main() -> None:
    """Run the demonstration; exits with 1 if anything is not as it must be."""
    with tempfile.TemporaryDirectory(prefix="kubewire-demo-") as folder, fake_kubelet(Path(folder)) as facts:
        print(f"A fake kubelet listens on {facts['kubelet']}, with its own certificate authority.")
        identity = ClientCertificate(facts["client_certificate"], facts["client_key"])
        with Kubelet(facts["kubelet"], ca=facts["ca"], credentials=identity) as kubelet:
            rows = [*_commands(kubelet.pod("demo"), kubelet.pod("host")), _push(kubelet.pod("demo"))]
            rows.append(_pull(kubelet.pod("demo")))
        rows.append(_refused(facts))
    _table(rows)


def _commands(scripted: Pod, host: Pod) -> Iterator[Row]:
    """Commands of a scripted container, and of one whose commands are real processes."""
    shell = ["sh", "-c", "echo to stdout; echo to stderr >&2; exit 3"]
    for pod, command, expected in ((scripted, ["ls", "/"], 0), (host, ["uname", "-s"], 0), (host, shell, 3)):
        done, seconds = _timed(lambda pod=pod, command=command: pod.run(command, container="main", timeout=10))  # type: ignore[misc]  # mypy cannot infer a lambda with defaults
        print(f"\n$ {' '.join(command)}")
        for name, output in (("stdout", done.stdout), ("stderr", done.stderr)):
            for line in (output or b"").decode().splitlines():
                print(f"  {name} | {printable(line)}")
        print(f"  exit code {done.returncode}")
        _expect(done.returncode == expected, f"exit code {expected} expected")
        yield Row(" ".join(command[:2]) + (" ..." if len(command) > 2 else ""), f"exit code {done.returncode}", seconds)


def _push(pod: Pod) -> Row:
    """Into the container: its ``sink`` counts and digests what arrives."""
    digest = hashlib.sha256()

    def source() -> Iterator[bytes]:
        for piece in keystream(SIZE, "up"):
            digest.update(piece)
            yield piece

    done, seconds = _timed(lambda: pod.run(["sink"], container="main", input=source(), timeout=60))
    _expect(
        (done.stdout or b"").decode().split() == [str(SIZE), digest.hexdigest()],
        "every byte pushed in arrived unchanged",
    )
    return Row("push 256 MiB into the container", "verified (SHA-256)", seconds, SIZE)


def _pull(pod: Pod) -> Row:
    """Out of the container: its ``random`` makes bytes whose digest is known here."""
    digest = hashlib.sha256()
    command = ["random", str(SIZE), "down"]
    done, seconds = _timed(lambda: pod.run(command, container="main", stdout=digest.update, timeout=60))
    expected = hashlib.sha256()
    for piece in keystream(SIZE, "down"):
        expected.update(piece)
    _expect(done.returncode == 0 and digest.digest() == expected.digest(), "every byte pulled out is the right one")
    return Row("pull 256 MiB out of the container", "verified (SHA-256)", seconds, SIZE)


def _refused(facts: dict[str, str]) -> Row:
    """Without a client certificate the kubelet must refuse."""
    began = time.monotonic()
    with Kubelet(facts["kubelet"], ca=facts["ca"]) as stranger:
        try:
            stranger.pod("demo").run(["ls"], container="main", timeout=10)
        except (Unauthorized, Forbidden) as error:
            print(f"\nThe same without a client certificate:\n  {type(error).__name__}: {error}")
            return Row("ls, without a certificate", f"refused, HTTP {error.http_status}", time.monotonic() - began)
    raise SystemExit("demo failed: a client without a certificate was let in")


def _timed(call: Callable[[], Completed[bytes]]) -> tuple[Completed[bytes], float]:
    began = time.monotonic()
    done = call()
    return done, time.monotonic() - began


def _expect(fact: bool, what: str) -> None:
    if not fact:
        raise SystemExit(f"demo failed: {what}, and it is not so")


def _table(rows: list[Row]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title="Each line is a connection of its own: TCP, TLS with a client certificate, SPDY/3.1", title_justify="left"
    )
    for name, side in (("what", "left"), ("outcome", "left"), ("time", "right"), ("rate", "right")):
        table.add_column(name, justify=side)  # type: ignore[arg-type]  # one of rich's own literals
    for row in rows:
        time_shown = f"{row.seconds * 1000:.0f} ms" if row.seconds < 1 else f"{row.seconds:.2f} s"
        table.add_row(
            row.what, row.outcome, time_shown, f"{row.moved / row.seconds / 2**20:.0f} MiB/s" if row.moved else ""
        )
    print()
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
