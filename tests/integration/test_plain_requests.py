"""Plain requests meet the same faults as streams, and name them alike, in both flavours.

A command in a container that is not named needs a plain request, for the list of the node's pods, and then a stream.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
import trustme

from fakekubelet import CertificateAuthority, FakeKubelet
from kubeletclient import (
    BearerToken,
    CertificateNameError,
    ClientCertificate,
    ClientError,
    ConnectionRefused,
    Deadlines,
    DialTimeout,
    NameResolutionError,
    NotTLSError,
    TLSTimeout,
    Unauthorized,
    UnknownAuthorityError,
    UnverifiedTokenError,
)
from support.flavours import Flavour, flavour_fixture
from support.peers import FakePeer

flavour = flavour_fixture()


@pytest.fixture(scope="module")
def peer() -> Iterator[FakePeer]:
    with FakeKubelet() as kubelet:
        yield FakePeer(kubelet)


def faults(flavour: Flavour, url: str, **options: Any) -> list[ClientError]:
    """What a stream meets, and what a plain request meets."""
    met = []
    for container in ("main", None):
        with pytest.raises(ClientError) as caught:
            flavour.node(url, **options).run("true", container=container, timeout=30)
        met.append(caught.value)
    return met


def check(met: list[ClientError], kind: type[ClientError], text: str) -> None:
    assert [type(error) for error in met] == [kind, kind]
    for error in met:
        assert text in str(error)
        assert error.hint, "the next step is told"
        assert error.url.startswith("http")


@pytest.fixture
def deaf() -> Iterator[int]:
    """The port of a server that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_refused(flavour: Flavour, peer: FakePeer) -> None:
    check(faults(flavour, "https://127.0.0.1:1", **peer.options()), ConnectionRefused, "nothing listens on port 1")


def test_no_such_name(flavour: Flavour, peer: FakePeer) -> None:
    check(faults(flavour, "https://node.invalid", **peer.options()), NameResolutionError, "'node.invalid' has no addr")


def test_wrong_authority(flavour: Flavour, peer: FakePeer) -> None:
    options = {**peer.options(), "ca": trustme.CA().cert_pem.bytes()}
    check(faults(flavour, peer.url, **options), UnknownAuthorityError, "not signed by an authority trusted here")


def test_wrong_name(flavour: Flavour, peer: FakePeer) -> None:
    options = {**peer.options(), "server_name": "somebody.else"}
    check(faults(flavour, peer.url, **options), CertificateNameError, "is not valid for 'somebody.else'")


def test_no_tls(flavour: Flavour, peer: FakePeer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        import threading

        def answer() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        met = faults(flavour, f"https://127.0.0.1:{listener.getsockname()[1]}", **peer.options())
        thread.join(30)
    check(met, NotTLSError, "does not speak TLS on this port")


def test_no_handshake(flavour: Flavour, peer: FakePeer, deaf: int) -> None:
    options = {**peer.options(), "deadlines": Deadlines(tls=0.2)}
    check(faults(flavour, f"https://127.0.0.1:{deaf}", **options), TLSTimeout, "did not finish the TLS handshake")


def test_no_connection(flavour: Flavour, peer: FakePeer) -> None:
    """A listener whose queue is full leaves a SYN without an answer."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    port = listener.getsockname()[1]
    crowd = [socket.socket() for _ in range(4)]
    for waiting in crowd:
        waiting.setblocking(False)
        waiting.connect_ex(("127.0.0.1", port))
    options = {**peer.options(), "deadlines": Deadlines(dial=0.3)}
    try:
        met = faults(flavour, f"https://127.0.0.1:{port}", **options)
    finally:
        for each in (*crowd, listener):
            each.close()
    check(met, DialTimeout, f"nothing answered on port {port}")


def test_nobody_we_know(flavour: Flavour, peer: FakePeer) -> None:
    pair = CertificateAuthority.create().issue_client("stranger", [])
    options = {**peer.options(), "credentials": ClientCertificate(pair.cert_pem, pair.key_pem)}
    met = faults(flavour, peer.url, **options)
    assert [type(error) for error in met] == [Unauthorized, Unauthorized]


def test_a_token_is_not_shown_to_anybody(flavour: Flavour, peer: FakePeer) -> None:
    met = faults(flavour, peer.url, verify=False, credentials=BearerToken("s3cr3t"))
    check(met, UnverifiedTokenError, "was not sent: the server's certificate is not verified")
