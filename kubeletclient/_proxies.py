"""Which proxy a connection goes through, by the rules of Go's ``golang.org/x/net/http/httpproxy``.

A proxy named for the server itself (``proxy=``, ``proxy-url`` of a kubeconfig) always counts. Else the environment
says: ``HTTPS_PROXY`` or ``HTTP_PROXY`` by the scheme of the server, lower case too, but for what ``NO_PROXY`` lists and
for this machine itself. Nothing here does I/O.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

from kubeletclient.endpoints import Endpoint

__all__ = ["Proxy", "from_environment", "parse_proxy", "shown_proxy"]

_PORTS: Final = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy: ``scheme`` is ``"http"`` or ``"https"`` (CONNECT), or ``"socks5"``. ``user`` and ``password`` are None
    where its URL has none; they show nowhere.
    """

    scheme: str
    host: str
    port: int
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def parse_proxy(url: str) -> Proxy:
    """The proxy that ``url`` names. Raises ValueError, whose text repeats no part of the URL but its scheme."""
    if not all("!" <= c <= "~" for c in url):
        raise ValueError("it holds blanks or characters that no URL may hold")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("it is not a URL with a port from 1 to 65535") from None
    if parts.scheme not in _PORTS or "://" not in url:
        scheme = parts.scheme if "://" in url else ""
        raise ValueError(f"its scheme is {scheme!r}, and must be http, https or socks5")
    host = unquote(parts.hostname or "")
    if not host or port == 0:
        raise ValueError("it names no host, or port 0")
    scheme = "socks5" if parts.scheme == "socks5h" else parts.scheme
    user = None if parts.username is None else unquote(parts.username)
    password = None if parts.password is None else unquote(parts.password)
    return Proxy(scheme, host, port or _PORTS[parts.scheme], user, password)


def shown_proxy(url: str) -> str:
    """``url`` without user name and password."""
    try:
        return str(parse_proxy(url))
    except ValueError:
        return "<not a URL>"


def from_environment(endpoint: Endpoint, environ: Mapping[str, str]) -> Proxy | None:
    """The proxy that the environment names for this server. Raises ValueError that names the variable at fault."""
    name = "HTTPS_PROXY" if endpoint.secure else "HTTP_PROXY"
    value = _either(environ, name)
    if not value or not _wanted(endpoint, _either(environ, "NO_PROXY")):
        return None
    try:
        return parse_proxy(value if "://" in value else f"http://{value}")
    except ValueError as error:
        raise ValueError(f"{name} is no usable proxy: {error}") from None


def _either(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name) or environ.get(name.lower()) or ""


def _wanted(endpoint: Endpoint, no_proxy: str) -> bool:
    """Whether a connection to ``endpoint`` goes through the proxy."""
    host = endpoint.host.lower()
    address = _address(endpoint.host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return False
    return not any(_excluded(entry.strip().lower(), host, address, endpoint.port) for entry in no_proxy.split(","))


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _excluded(entry: str, host: str, address: _Address | None, port: int) -> bool:
    if not entry:
        return False
    if entry == "*":
        return True
    if "/" in entry:
        try:
            network = ipaddress.ip_network(entry, strict=False)
        except ValueError:
            pass
        else:
            return address is not None and address in network
    name, wanted_port = _split_port(entry)
    if wanted_port is not None and wanted_port != str(port):
        return False
    literal = _address(name.strip("[]"))
    if literal is not None:
        return address == literal
    if not name:
        return False
    if name.startswith("*."):
        name = name[1:]
    if name.startswith("."):
        return host.endswith(name)
    return host == name or host.endswith(f".{name}")


def _split_port(entry: str) -> tuple[str, str | None]:
    """``HOST:PORT``, as Go's ``net.SplitHostPort`` takes it apart; else the whole is the host."""
    if entry.startswith("["):
        host, closed, rest = entry[1:].partition("]")
        return (host, rest[1:]) if closed and rest.startswith(":") else (entry, None)
    host, colon, port = entry.rpartition(":")
    return (host, port) if colon and ":" not in host else (entry, None)


def _address(host: str) -> _Address | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
