"""Completion in the real shells: a person types the beginning of a name and presses Tab, in a terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakekubelet import Container, FakeCluster, Pod

pytestmark = pytest.mark.interop

SECONDS = 60.0
BIN = Path(sys.executable).parent

SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], 'eval "$(kubewire completion bash)"'),
    "zsh": (
        ["zsh", "-f", "-i"],
        'autoload -U compinit && compinit -u && bindkey -e && eval "$(kubewire completion zsh)"',
    ),
    "fish": (["fish", "--no-config", "-i"], "kubewire completion fish | source"),
}


class Terminal:
    """A shell in a terminal."""

    def __init__(self, command: list[str], environ: dict[str, str]) -> None:
        self._master, slave = pty.openpty()
        # a terminal of its own that controls it: fish insists
        session = ["setsid", "--ctty", "--wait", *command]
        self._process = subprocess.Popen(session, stdin=slave, stdout=slave, stderr=slave, env=environ)
        os.close(slave)
        self._seen = ""

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def wait_for(self, pattern: str) -> str:
        """What the pattern's group matched in what was shown since the last wait; control sequences are left out."""
        ends = time.monotonic() + SECONDS
        while True:
            text = re.sub(r"\x1b(\[[0-9;?<=>]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[()][A-Z0-9]|.)", "", self._seen)
            match = re.search(pattern, text)
            if match is not None:
                self._seen = ""
                return match[1]
            left = ends - time.monotonic()
            assert left > 0, f"{pattern!r} did not come: {text!r}"
            if select.select([self._master], [], [], min(left, 1.0))[0]:
                data = os.read(self._master, 65536).decode("utf-8", "replace")
                if "\x1b[c" in data or "\x1b[0c" in data:  # fish asks what terminal this is
                    os.write(self._master, b"\x1b[?62;c")
                if "\x1b[6n" in data:
                    os.write(self._master, b"\x1b[1;1R")
                self._seen += data

    def close(self) -> None:
        os.close(self._master)  # hangs up, which ends the shell
        self._process.wait(SECONDS)


@pytest.fixture(scope="module")
def cluster() -> Iterator[FakeCluster]:
    pods = [Pod("default/frontend", [Container("nginx"), Container("sidecar")]), Pod("prod/database")]
    with FakeCluster(pods=pods) as running:
        yield running


@pytest.fixture(params=list(SHELLS))
def shell(request: pytest.FixtureRequest, cluster: FakeCluster, tmp_path: Path) -> Iterator[Terminal]:
    command, setup = SHELLS[request.param]
    if shutil.which(command[0]) is None:
        reason = f"{command[0]} is not installed"
        assert not os.environ.get("KUBEWIRE_REQUIRE_PEERS"), reason
        pytest.skip(reason)
    environ = {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "KUBECONFIG": str(cluster.kubeconfig),
        "TERM": "xterm",
        "PS1": "$ ",
        "LANG": "C.UTF-8",
    }
    terminal = Terminal(command, environ)
    try:
        terminal.type(f"{setup}; echo REA''DY\r")
        terminal.wait_for(r"(READY)\r?\n")
        yield terminal
    finally:
        terminal.close()


def test_names_are_completed_live(shell: Terminal) -> None:
    for typed, whole in (
        ("kubewire exec fron", "kubewire exec frontend"),
        ("kubewire exec frontend -c side", "kubewire exec frontend -c sidecar"),
        ("kubewire exec -n prod data", "kubewire exec -n prod database"),
        ("kubewire rou", "kubewire route"),
    ):
        shell.type(f"{typed}\t")
        shell.wait_for(f"({re.escape(whole)})")  # it is shown; then the line is printed by the shell itself
        shell.type("\x01echo GOT:\x05\r")
        assert shell.wait_for(r"\n\r?GOT:([^\r\n]*)").rstrip() == whole
