"""Two ends of TLS joined in memory or over a socket, for tests of the pump itself.

Certificates come from trustme here: the pump is not judged by certificates of our own making.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import trustme

from spdyproto.tls import TLSPipe, client_context, server_context

VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
SCRATCH = 256 * 1024
HOST = "localhost"


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as PEM."""

    cert: bytes
    key: bytes


class Authority:
    """A trustme authority that answers PEM."""

    def __init__(self) -> None:
        self._ca = trustme.CA(key_type=trustme.KeyType.ECDSA)
        self.pem = self._ca.cert_pem.bytes()

    def issue(self, *names: str, not_after: object = None) -> Pair:
        """A leaf for ``names``, good for servers and clients."""
        leaf = self._ca.issue_cert(*names, key_type=trustme.KeyType.ECDSA, not_after=not_after)  # type: ignore[arg-type]  # a datetime or None
        return Pair(b"".join(pem.bytes() for pem in leaf.cert_chain_pems), leaf.private_key_pem.bytes())


@cache
def authority() -> Authority:
    """The authority that both ends trust."""
    return Authority()


@cache
def server_pair() -> Pair:
    return authority().issue(HOST, "127.0.0.1")


def limit(context: ssl.SSLContext, version: ssl.TLSVersion | None) -> ssl.SSLContext:
    """Allow ``version`` alone."""
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


def contexts(version: ssl.TLSVersion | None = None, *, tickets: int = 0) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Of a client and of a server that trust each other's authority."""
    pair = server_pair()
    return (
        limit(client_context(ca=authority().pem), version),
        limit(server_context(pair.cert, pair.key, tickets=tickets), version),
    )


def scratch(size: int = SCRATCH) -> memoryview:
    return memoryview(bytearray(size))


def drain(pipe: TLSPipe, ciphertext: bytes = b"", size: int = SCRATCH) -> bytes:
    """What ``receive`` yields, in one piece."""
    return b"".join(map(bytes, pipe.receive(ciphertext, scratch(size))))


def shake(client: TLSPipe, server: TLSPipe) -> None:
    """Do the handshake in memory; what the last flight brought beyond it stays with the pipes."""
    done = [False, False]
    for _ in range(10):
        done[0] = client.do_handshake(server.take())
        done[1] = server.do_handshake(client.take())
        if all(done):
            break
    assert all(done), "the handshake does not come to an end"


def joined(version: ssl.TLSVersion | None = None, *, tickets: int = 0) -> tuple[TLSPipe, TLSPipe]:
    """A client and a server after the handshake, nothing between them."""
    ours, theirs = contexts(version, tickets=tickets)
    client, server = TLSPipe.client(ours, HOST), TLSPipe.server(theirs)
    shake(client, server)
    assert drain(client, server.take()) == b""
    assert drain(server) == b""
    assert not client.pending
    assert not server.pending
    return client, server


def chunks(data: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]
