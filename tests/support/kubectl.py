"""The real ``kubectl``: the one of ``tests/interop/go``, built from its public module, and the machine's own.

Each run has a home of its own, so that neither a user's configuration nor a cache of discovery documents is seen.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.gopeers import require_peers

PROGRAMS = ("built", "installed") if shutil.which("kubectl") else ("built",)
"""Names for ``find``; the second is not on every machine, and is never required."""

TRANSPORTS = {
    "websocket": {},
    "spdy": {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false", "KUBECTL_PORT_FORWARD_WEBSOCKETS": "false"},
}
"""What the environment says about kubectl's choice of transport."""


def find(name: str) -> Path:
    """The program; skips a test where the machine has none of its own."""
    if name == "built":
        return require_peers() / "kubectl"
    found = shutil.which("kubectl")
    if found is None:
        pytest.skip("this machine has no kubectl of its own")
    return Path(found)


@dataclass(frozen=True)
class Kubectl:
    """``kubectl`` with a kubeconfig, a home and a transport."""

    program: Path
    kubeconfig: Path
    home: Path
    transport: str = "websocket"

    def argv(self, *arguments: str) -> list[str]:
        """The command line."""
        return [str(self.program), "--kubeconfig", str(self.kubeconfig), *arguments]

    @property
    def environment(self) -> dict[str, str]:
        """Of its process."""
        path = os.environ.get("PATH", os.defpath)
        return {"HOME": str(self.home), "PATH": path, "TERM": "xterm", **TRANSPORTS[self.transport]}

    def __call__(
        self,
        *arguments: str,
        stdin: bytes | None = None,
        timeout: float = 50,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run it to its end."""
        return subprocess.run(
            self.argv(*arguments),
            env={**self.environment, **(environment or {})},
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            timeout=timeout,
            check=False,
        )

    def start(self, *arguments: str, **options: object) -> subprocess.Popen[bytes]:
        """Start it with pipes; the caller ends it."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(self.argv(*arguments), env=self.environment, **{**pipes, **options})  # type: ignore[call-overload, no-any-return] # options are Popen's
