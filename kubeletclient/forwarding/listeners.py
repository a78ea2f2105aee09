"""Local addresses to listen on: TCP over IPv4 and IPv6, and Unix sockets."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import stat
from collections.abc import Sequence
from typing import Final

from kubeletclient.forwarding.plan import Mapped
from kubeletclient.forwarding.records import Listener

__all__ = ["Bound", "bind", "checked_addresses"]

_LOCALHOST: Final = ("127.0.0.1", "::1")
_BACKLOG: Final = 1024
_TRIES: Final = 16
"""For a free port that is free on all addresses."""


class Bound:
    """A listening socket. ``close`` removes the file of a Unix socket."""

    def __init__(self, sock: socket.socket, listener: Listener, remote: int | str, path: str = "") -> None:
        self.sock = sock
        self.listener = listener
        self.remote = remote
        self._path = path

    @property
    def port(self) -> int | None:
        """The local port; None for a Unix socket."""
        return None if self._path else int(self.sock.getsockname()[1])

    def close(self) -> None:
        """Stop listening."""
        self.sock.close()
        if self._path:
            try:
                os.unlink(self._path)
            except OSError:
                pass


def checked_addresses(addresses: str | Sequence[str]) -> list[str]:
    """``localhost`` and literal IP addresses. Raises ValueError for anything else."""
    names = [addresses] if isinstance(addresses, str) else list(addresses)
    if not names:
        raise ValueError("no address to listen on")
    for name in names:
        if name != "localhost":
            try:
                ipaddress.ip_address(name)
            except ValueError:
                raise ValueError(f"address {name!r}; localhost or an IP address expected") from None
    return list(dict.fromkeys(names))


def bind(mapped: Sequence[Mapped], addresses: Sequence[str]) -> list[Bound]:
    """Listen on everything, or on nothing: raises OSError. Of ``localhost``, one of IPv4 and IPv6 is enough."""
    bound: list[Bound] = []
    try:
        for each in mapped:
            if isinstance(each.local, str):
                bound.append(_unix(each.local, each.remote))
            else:
                bound += _tcp(each.local, each.remote, addresses)
    except BaseException:
        for each_bound in bound:
            each_bound.close()
        raise
    return bound


def _tcp(port: int, remote: int | str, addresses: Sequence[str]) -> list[Bound]:
    for attempt in range(_TRIES):
        bound: list[Bound] = []
        try:
            for address in addresses:
                chosen = port or (bound[0].port if bound else 0) or 0
                bound += _localhost(chosen, remote) if address == "localhost" else [_listen(address, chosen, remote)]
        except OSError as error:
            for each in bound:
                each.close()
            if port or error.errno != errno.EADDRINUSE or attempt == _TRIES - 1:
                raise
        else:
            return bound
    raise AssertionError("the last attempt returns or raises")


def _localhost(port: int, remote: int | str) -> list[Bound]:
    bound: list[Bound] = []
    fault: OSError | None = None
    for address in _LOCALHOST:
        try:
            bound.append(_listen(address, port or (bound[0].port if bound else 0) or 0, remote))
        except OSError as error:
            if bound and not port and error.errno == errno.EADDRINUSE:
                for each in bound:
                    each.close()
                raise  # the free port of one family is taken in the other: try another
            fault = error
    if not bound:
        assert fault is not None
        raise fault
    return bound


def _listen(address: str, port: int, remote: int | str) -> Bound:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            sock.bind((address, port))
        except OSError as error:
            raise OSError(
                error.errno, f"cannot listen on {_shown(address, port)}: {os.strerror(error.errno or 0)}"
            ) from None
        sock.listen(_BACKLOG)
        sock.setblocking(False)
        where = sock.getsockname()[1]
    except BaseException:
        sock.close()
        raise
    return Bound(sock, Listener(_shown(address, where), remote), remote)


def _shown(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _unix(path: str, remote: int | str) -> Bound:
    """A socket file for this user alone. One that nobody listens on any more is replaced."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        before = os.umask(0o177)
        try:
            sock.bind(path)
        except OSError as error:
            raise OSError(error.errno, f"cannot listen on {path}: {os.strerror(error.errno or 0)}") from None
        finally:
            os.umask(before)
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return Bound(sock, Listener(path, remote), remote, path)


def _remove_stale(path: str) -> None:
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return
    except OSError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except OSError:
            pass
