"""Real proxies on loopback: tinyproxy for HTTP, stunnel in front of it for HTTPS, microsocks for SOCKS5.

None of them can be told to take any free port and say which, so each is started on one that is free now and, if
somebody was faster, on another.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

__all__ = ["PASSWORD", "USER", "RealProxy", "http_proxy", "https_proxy", "socks_proxy"]

USER, PASSWORD = "jane", "s3cr3t-pass"
"""Plain letters, for tinyproxy takes no others; URLs escape some of them all the same."""

_START_SECONDS = 30
_TRIES = 5


@dataclass
class RealProxy:
    """A running proxy. ``log`` is where it tells what it did."""

    scheme: str
    port: int
    log: Path
    authenticated: bool

    @property
    def url(self) -> str:
        """Its URL, with the right user name and password where it wants them."""
        return self.url_with(f"{USER}:{PASSWORD.replace('-', '%2D')}@" if self.authenticated else "")

    def url_with(self, userinfo: str) -> str:
        return f"{self.scheme}://{userinfo}{'localhost' if self.scheme == 'https' else '127.0.0.1'}:{self.port}"

    def connected_to(self, port: int) -> bool:
        """Whether it says that it connected somebody to this port."""
        return f":{port}" in self.log.read_text(errors="replace")


def _program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin")
    if found is None:
        pytest.skip(f"there is no {name} on this machine (.ci/run installs it)")
    return found


@contextlib.contextmanager
def _serving(command: Callable[[int], Sequence[str]], log: Path) -> Iterator[int]:
    """Runs ``command(port)``; the port is the one on which it accepts connections."""
    for _ in range(_TRIES):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        with log.open("ab") as output:
            process = subprocess.Popen(command(port), stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            if _accepts(process, port):
                yield port
                return
        finally:
            process.terminate()
            process.wait(_START_SECONDS)
    raise RuntimeError(f"{command(0)[0]} does not start: {log.read_text(errors='replace')[-2000:]}")


def _accepts(process: subprocess.Popen[bytes], port: int) -> bool:
    ends = time.monotonic() + _START_SECONDS
    while process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 5).close()
        except OSError:
            if time.monotonic() > ends:
                return False
            time.sleep(0.02)
        else:
            return process.poll() is None
    return False


@contextlib.contextmanager
def http_proxy(folder: Path, *, authenticated: bool) -> Iterator[RealProxy]:
    """tinyproxy."""
    program = _program("tinyproxy")
    log = folder / f"tinyproxy-{authenticated}.log"

    def command(port: int) -> Sequence[str]:
        config = folder / f"tinyproxy-{authenticated}.conf"
        lines = [f"Port {port}", "Listen 127.0.0.1", "Timeout 60", "MaxClients 50", "LogLevel Connect"]
        if authenticated:
            lines.append(f"BasicAuth {USER} {PASSWORD}")
        config.write_text("\n".join(lines) + "\n")
        return [program, "-d", "-c", str(config)]

    with _serving(command, log) as port:
        yield RealProxy("http", port, log, authenticated)


@contextlib.contextmanager
def https_proxy(folder: Path, authority: trustme.CA, *, authenticated: bool) -> Iterator[RealProxy]:
    """tinyproxy behind stunnel, whose certificate for localhost ``authority`` signs."""
    program = _program("stunnel")
    pem = folder / "proxy.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(pem)
    pem.chmod(0o600)
    with http_proxy(folder, authenticated=authenticated) as inner:

        def command(port: int) -> Sequence[str]:
            config = folder / "stunnel.conf"
            config.write_text(
                "foreground = yes\npid =\nsyslog = no\n[proxy]\n"
                f"accept = 127.0.0.1:{port}\nconnect = 127.0.0.1:{inner.port}\ncert = {pem}\n"
            )
            return [program, str(config)]

        with _serving(command, folder / "stunnel.log") as port:
            yield RealProxy("https", port, inner.log, authenticated)


@contextlib.contextmanager
def socks_proxy(folder: Path, *, authenticated: bool) -> Iterator[RealProxy]:
    """microsocks."""
    program = _program("microsocks")
    log = folder / f"microsocks-{authenticated}.log"
    login = ["-u", USER, "-P", PASSWORD] if authenticated else []
    with _serving(lambda port: [program, "-i", "127.0.0.1", "-p", str(port), *login], log) as port:
        yield RealProxy("socks5", port, log, authenticated)
