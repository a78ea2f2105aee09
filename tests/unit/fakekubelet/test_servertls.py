"""The server's end: any client certificate passes the handshake, and TLS over pyOpenSSL behaves as over ``ssl``."""

from __future__ import annotations

import hashlib
import random
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import pytest

from fakekubelet import servertls
from fakekubelet.pki import CertificateAuthority, ClientIdentity, IssuedCertificate, Rejection, verify_client
from fakekubelet.servertls import ServerTLS
from spdyproto.errors import LocalProtocolError
from spdyproto.tls import RECORD, TLSPipe, client_context
from support.opensslpeer import needs_openssl, openssl_client
from support.tlslink import HOST, SCRATCH, VERSIONS, chunks, drain, limit, scratch, shake

SECONDS = 20
each_version = pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
each_backend = pytest.mark.parametrize(
    "pyopenssl",
    [
        pytest.param(
            True, marks=pytest.mark.skipif(find_spec("OpenSSL") is None, reason="pyOpenSSL is not here"), id="pyopenssl"
        ),
        pytest.param(False, id="ssl"),
    ],
)
needs_pyopenssl = pytest.mark.skipif(find_spec("OpenSSL") is None, reason="pyOpenSSL is not here")

AUTHORITY = CertificateAuthority.create()
SERVER = AUTHORITY.issue_server()


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def ours(
    client: IssuedCertificate | None = None,
    version: ssl.TLSVersion | None = None,
    alpn: tuple[str, ...] = ("http/1.1",),
) -> ssl.SSLContext:
    certificate, key = (None, None) if client is None else (client.cert_pem, client.key_pem)
    return limit(client_context(ca=AUTHORITY.cert_pem, certificate=certificate, key=key, alpn=alpn), version)


def connected(
    tls: ServerTLS, client: IssuedCertificate | None = None, version: ssl.TLSVersion | None = None
) -> tuple[TLSPipe, TLSPipe]:
    pipes = TLSPipe.client(ours(client, version), HOST), tls.pipe()
    shake(*pipes)
    assert drain(pipes[0], pipes[1].take()) == b""
    assert drain(pipes[1]) == b""
    return pipes


# Client certificates


def expired() -> IssuedCertificate:
    return AUTHORITY.issue_client("alice", expired=True)


def stranger() -> IssuedCertificate:
    return CertificateAuthority.create("somebody else").issue_client("alice", ["system:masters"])


def for_servers() -> IssuedCertificate:
    return AUTHORITY.issue_server()


def with_intermediate() -> IssuedCertificate:
    return AUTHORITY.create_intermediate().issue_client("alice", ["dev"])


def good() -> IssuedCertificate:
    return AUTHORITY.issue_client("alice", ["dev"])


@needs_pyopenssl
@each_version
@pytest.mark.parametrize(
    ("make", "verdict"),
    [
        (good, ClientIdentity("alice", ("dev",))),
        (with_intermediate, ClientIdentity("alice", ("dev",))),
        (expired, "expired"),
        (stranger, "not signed by the client CA"),
        (for_servers, "not for client authentication"),
        (lambda: None, "no certificate"),
    ],
)
def test_any_certificate_passes_the_handshake_and_is_judged_later(
    make: Callable[[], IssuedCertificate | None], verdict: ClientIdentity | str, version: ssl.TLSVersion
) -> None:
    tls = ServerTLS(SERVER, client_ca=AUTHORITY.cert_pem)
    assert tls.accepts_any_certificate
    certificate = make()
    client, server = connected(tls, certificate, version)
    judged = verify_client(server.peer_chain_der, AUTHORITY)
    if isinstance(verdict, str):
        assert isinstance(judged, Rejection)
        assert verdict in judged.reason
    else:
        assert judged == verdict
    leaf = None if certificate is None else certificate.chain_der[0]
    assert server.peer_certificate_der == leaf
    assert server.peer_chain_der[:1] == ([] if leaf is None else [leaf])
    client.send([b"GET / HTTP/1.1\r\n"])
    assert drain(server, client.take()) == b"GET / HTTP/1.1\r\n"


@each_version
def test_without_pyopenssl_a_bad_certificate_ends_the_handshake(version: ssl.TLSVersion) -> None:
    tls = ServerTLS(SERVER, client_ca=AUTHORITY.cert_pem, use_pyopenssl=False)
    assert not tls.accepts_any_certificate
    for certificate in (good(), None):
        _, server = connected(tls, certificate, version)
        assert (server.peer_certificate_der is None) == (certificate is None)
    for bad in (stranger(), expired()):
        client, server = TLSPipe.client(ours(bad, version), HOST), tls.pipe()
        client.do_handshake()
        server.do_handshake(client.take())
        client.do_handshake(server.take())
        with pytest.raises(ssl.SSLCertVerificationError):
            server.do_handshake(client.take())


@pytest.mark.parametrize("missing", [True, False])
def test_the_standard_library_stands_in(missing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fakekubelet.servertls.find_spec", lambda _: None if missing else object())
    if missing:
        monkeypatch.setitem(sys.modules, "OpenSSL", None)
        assert not ServerTLS(SERVER).accepts_any_certificate
        with pytest.raises(ImportError):
            ServerTLS(SERVER, use_pyopenssl=True)
    elif find_spec("OpenSSL"):
        assert ServerTLS(SERVER).accepts_any_certificate


@each_backend
def test_no_certificate_is_asked_for_without_a_client_ca(pyopenssl: bool) -> None:
    _, server = connected(ServerTLS(SERVER, use_pyopenssl=pyopenssl), good())
    assert server.peer_certificate_der is None
    assert server.peer_chain_der == []


@needs_pyopenssl
@pytest.mark.parametrize("ask", [True, False])
def test_the_names_of_the_client_cas_are_sent(ask: bool) -> None:
    """Go's client keeps a certificate back that none of these names has issued."""
    other = CertificateAuthority.create("for clients only")
    tls = ServerTLS(SERVER, client_ca=other.cert_pem if ask else None)
    client, server = TLSPipe.client(ours(version=VERSIONS[0]), HOST), tls.pipe()
    client.do_handshake()
    server.do_handshake(client.take())
    assert (other.certificate.subject.public_bytes() in server.take()) == ask  # TLS 1.2 asks in the clear


# Terms


@each_backend
@pytest.mark.parametrize(
    ("offered", "served", "agreed"),
    [
        (("http/1.1",), ("http/1.1",), "http/1.1"),
        (("h2", "http/1.1"), ("http/1.1",), "http/1.1"),
        (("http/1.1", "h2"), ("h2", "http/1.1"), "h2"),
        (("h3",), ("http/1.1",), None),
        ((), ("http/1.1",), None),
        (("http/1.1",), (), None),
    ],
)
def test_alpn(pyopenssl: bool, offered: tuple[str, ...], served: tuple[str, ...], agreed: str | None) -> None:
    tls = ServerTLS(SERVER, alpn=served, use_pyopenssl=pyopenssl)
    pipes = TLSPipe.client(ours(alpn=offered), HOST), tls.pipe()
    shake(*pipes)
    assert [pipe.alpn for pipe in pipes] == [agreed, agreed]


@each_backend
@each_version
def test_versions(pyopenssl: bool, version: ssl.TLSVersion) -> None:
    tls = ServerTLS(SERVER, use_pyopenssl=pyopenssl)
    for pipe in connected(tls, version=version):
        assert pipe.version == version.name.replace("_", ".")


@each_backend
def test_a_chain_of_the_server_is_sent(pyopenssl: bool) -> None:
    connected(ServerTLS(AUTHORITY.create_intermediate().issue_server(), use_pyopenssl=pyopenssl))


@each_backend
def test_key_and_certificate_must_belong_together(pyopenssl: bool) -> None:
    mixed = IssuedCertificate(SERVER.cert_pem, AUTHORITY.issue_server().key_pem)
    with pytest.raises(ValueError, match="does not belong"):
        ServerTLS(mixed, use_pyopenssl=pyopenssl)
    with pytest.raises(ValueError, match="PEM"):
        ServerTLS(IssuedCertificate(b"junk", SERVER.key_pem), use_pyopenssl=pyopenssl)


@each_backend
@each_version
def test_a_client_may_resume_or_be_refused_it(pyopenssl: bool, version: ssl.TLSVersion) -> None:
    tls = ServerTLS(SERVER, client_ca=AUTHORITY.cert_pem, use_pyopenssl=pyopenssl)
    context = ours(good(), version)
    first = TLSPipe.client(context, HOST)
    server = tls.pipe()
    shake(first, server)
    drain(first, server.take())
    again, server = TLSPipe.client(context, HOST, session=first.session), tls.pipe()
    shake(again, server)
    assert verify_client(server.peer_chain_der, AUTHORITY) == ClientIdentity("alice", ("dev",))
    again.send([b"hello"])
    assert drain(server, again.take()) == b"hello"


# The pump over either object


@each_backend
@each_version
@pytest.mark.parametrize("to_server", [True, False])
@pytest.mark.parametrize("cut", [1, 1000, 33_333, 1 << 20])
def test_data(pyopenssl: bool, version: ssl.TLSVersion, to_server: bool, cut: int) -> None:
    client, server = connected(ServerTLS(SERVER, use_pyopenssl=pyopenssl), version=version)
    sender, receiver = (client, server) if to_server else (server, client)
    data = noise(20_000 if cut == 1 else 700_000)
    sender.send([b"8 bytes.", *chunks(data, 65_528)])
    records = sender.take_segments()
    assert len(records) == -(-(8 + len(data)) // RECORD)
    got = [drain(receiver, piece) for piece in chunks(b"".join(records), cut)]
    assert b"".join(got) == b"8 bytes." + data
    assert not receiver.pending


@each_backend
def test_thousands_of_small_records_in_one_read(pyopenssl: bool) -> None:
    client, server = connected(ServerTLS(SERVER, use_pyopenssl=pyopenssl))
    data = noise(30_000)
    for piece in chunks(data, 10):
        client.send([piece])
    views = [bytes(view) for view in server.receive(client.take(), scratch())]
    assert views == [data]


@each_backend
def test_handshake_byte_by_byte_with_data_at_its_end(pyopenssl: bool) -> None:
    client, server = (
        TLSPipe.client(ours(good(), VERSIONS[1]), HOST),
        ServerTLS(SERVER, client_ca=AUTHORITY.cert_pem, use_pyopenssl=pyopenssl).pipe(),
    )
    client.do_handshake()
    for byte in chunks(client.take(), 1):
        assert not server.do_handshake(byte)
    assert client.do_handshake(server.take())
    client.send([b"at once"])
    for byte in chunks(client.take(), 1):
        server.do_handshake(byte)
    assert drain(server) == b"at once"


@each_backend
@each_version
@pytest.mark.parametrize("clean", [True, False])
def test_the_end_of_the_client(pyopenssl: bool, version: ssl.TLSVersion, clean: bool) -> None:
    client, server = connected(ServerTLS(SERVER, use_pyopenssl=pyopenssl), version=version)
    client.send([b"last words"])
    if clean:
        client.close_notify()
    assert drain(server, client.take()) == b"last words"
    assert server.closed_by_peer == clean
    assert server.receive_eof() == clean


@each_backend
@each_version
def test_the_end_of_the_server(pyopenssl: bool, version: ssl.TLSVersion) -> None:
    client, server = connected(ServerTLS(SERVER, use_pyopenssl=pyopenssl), version=version)
    server.send([b"last words"])
    server.close_notify()
    assert drain(client, server.take()) == b"last words"
    assert client.closed_by_peer
    with pytest.raises(LocalProtocolError):
        server.send([b"x"])
    client.close_notify()
    assert drain(server, client.take()) == b""
    assert server.closed_by_peer


@each_backend
def test_data_after_the_server_has_left(pyopenssl: bool) -> None:
    client, server = connected(ServerTLS(SERVER, use_pyopenssl=pyopenssl), version=VERSIONS[1])
    server.close_notify()
    drain(client, server.take())
    client.send([b"still talking"])
    assert drain(server, client.take()) == b"still talking"


@each_backend
def test_a_damaged_record(pyopenssl: bool) -> None:
    client, server = connected(ServerTLS(SERVER, use_pyopenssl=pyopenssl))
    client.send([noise(2 * RECORD)])
    first, second = client.take_segments()
    views = server.receive(first + second[:-1] + bytes([second[-1] ^ 1]), scratch())
    assert bytes(next(views)) == noise(2 * RECORD)[:RECORD]
    with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC") as caught:
        next(views)
    assert "BAD_RECORD_MAC" in caught.value.reason
    assert server.pending, "an alert must tell the client why"
    with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC"):
        drain(client, server.take())


@each_backend
def test_a_client_that_does_not_trust_us(pyopenssl: bool) -> None:
    tls = ServerTLS(CertificateAuthority.create().issue_server(), use_pyopenssl=pyopenssl)
    client, server = TLSPipe.client(ours(), HOST), tls.pipe()
    client.do_handshake()
    server.do_handshake(client.take())
    with pytest.raises(ssl.SSLCertVerificationError):
        client.do_handshake(server.take())
    with pytest.raises(ssl.SSLError, match=r"UNKNOWN_CA|BAD_CERTIFICATE") as caught:
        server.do_handshake(client.take())
    assert caught.value.reason


@each_backend
@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 100, b"\x16\x03\x01\x00\x05hello"])
def test_a_client_that_does_not_speak_tls(pyopenssl: bool, first: bytes) -> None:
    server = ServerTLS(SERVER, use_pyopenssl=pyopenssl).pipe()
    with pytest.raises(ssl.SSLError) as caught:
        server.do_handshake(first)
    assert not isinstance(caught.value, ssl.SSLWantReadError)
    assert caught.value.reason


@each_backend
def test_a_client_that_hangs_up_in_the_handshake(pyopenssl: bool) -> None:
    client, server = TLSPipe.client(ours(), HOST), ServerTLS(SERVER, use_pyopenssl=pyopenssl).pipe()
    client.do_handshake()
    assert not server.do_handshake(client.take()[:100])
    server.receive_eof()
    with pytest.raises(ssl.SSLEOFError):
        server.do_handshake()


@needs_openssl
@each_backend
@each_version
def test_a_client_that_asks_for_short_records_gets_all(pyopenssl: bool, version: ssl.TLSVersion) -> None:
    flag = {"TLSv1_2": "-tls1_2", "TLSv1_3": "-tls1_3"}[version.name]
    data = noise(300_000)
    with openssl_client(ServerTLS(SERVER, use_pyopenssl=pyopenssl).pipe(), flag, "-maxfraglen", "512") as opened:
        sock, pipe, process = opened
        pipe.send([b"8 bytes.", *chunks(data, 65_528)])
        ciphertext = pipe.take()
        assert int.from_bytes(ciphertext[3:5], "big") < 700
        pipe.close_notify()
        sock.sendall(ciphertext + pipe.take())
        assert process.stdout is not None
        assert process.stdout.read() == b"8 bytes." + data


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        one.settimeout(SECONDS)
        other.settimeout(SECONDS)
        yield one, other


@each_backend
@each_version
def test_an_ssl_socket_as_client(
    pyopenssl: bool, version: ssl.TLSVersion, ends: tuple[socket.socket, socket.socket]
) -> None:
    data = noise(4 << 20)
    tls = ServerTLS(SERVER, client_ca=AUTHORITY.cert_pem, use_pyopenssl=pyopenssl)

    def client() -> bytes:
        with ours(good(), version).wrap_socket(ends[1], server_hostname=HOST, suppress_ragged_eofs=False) as sock:
            sock.sendall(data)
            digest = hashlib.sha256()
            while piece := sock.recv(65536):
                digest.update(piece)
            return digest.digest()

    def serve() -> bytes:
        pipe, plain = tls.pipe(), scratch()
        raw = b""
        while not pipe.do_handshake(raw):
            ends[0].sendall(pipe.take())
            raw = ends[0].recv(SCRATCH)
        ends[0].sendall(pipe.take())
        digest, got, raw = hashlib.sha256(), 0, b""
        while True:
            for view in pipe.receive(raw, plain):
                digest.update(view)
                got += len(view)
            if got == len(data):
                break
            raw = ends[0].recv(SCRATCH)
            assert raw
        for batch in chunks(data, SCRATCH):
            pipe.send([batch])
            ends[0].sendall(pipe.take())
        pipe.close_notify()
        ends[0].sendall(pipe.take())
        return digest.digest()

    with ThreadPoolExecutor() as pool:
        answers = [work.result(SECONDS) for work in (pool.submit(client), pool.submit(serve))]
    assert answers == [hashlib.sha256(data).digest()] * 2


@needs_pyopenssl
@pytest.mark.parametrize("direct", [True, False])
def test_every_record_comes_out_however_the_ciphertext_is_cut(direct: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """How much ciphertext is left is reckoned, not known; whatever it comes to, nothing may stay behind."""
    if not direct:
        monkeypatch.setattr(servertls._Direct, "of", classmethod(lambda cls, connection: None))
    tls = ServerTLS(SERVER, client_ca=AUTHORITY.cert_pem, use_pyopenssl=True)
    plain = scratch()
    for seed in range(40):
        dice = random.Random(seed)
        client, server = connected(tls)
        sent = got = 0
        for _ in range(12):
            for _ in range(dice.randrange(1, 4)):
                size = dice.choice((1, 8, 100, 16376, 16384, 32776, 65528, 262144, dice.randrange(1, 70000)))
                client.send([bytes(size)])
                sent += size
            wire = client.take()
            while wire:
                cut = dice.choice((len(wire), 262144, 20480, 1, 5, 16406, dice.randrange(1, 100000)))
                got += sum(len(view) for view in server.receive(wire[:cut], plain))
                wire = wire[cut:]
            assert got == sent, f"seed {seed}"
