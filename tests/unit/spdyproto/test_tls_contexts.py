"""The contexts: what they trust, what they offer, and what they refuse to load."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from spdyproto.pem import PathOrPEM
from spdyproto.tls import TLSPipe, client_context, server_context
from support.tlslink import HOST, VERSIONS, Authority, Pair, authority, drain, limit, server_pair, shake

PASSWORD = b"correct horse"


def connect(ours: ssl.SSLContext, theirs: ssl.SSLContext, name: str | None = HOST) -> tuple[TLSPipe, TLSPipe]:
    client, server = TLSPipe.client(ours, name), TLSPipe.server(theirs)
    shake(client, server)
    return client, server


def plain_server() -> ssl.SSLContext:
    pair = server_pair()
    return server_context(pair.cert, pair.key)


def encrypted(pair: Pair) -> bytes:
    key = serialization.load_pem_private_key(pair.key, None)
    how = serialization.BestAvailableEncryption(PASSWORD)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


# Versions and protocols


def test_nothing_older_than_tls_1_2() -> None:
    pair = server_pair()
    for context in (client_context(ca=authority().pem), server_context(pair.cert, pair.key)):
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
        assert context.options & ssl.OP_NO_RENEGOTIATION
        assert context.options & ssl.OP_NO_COMPRESSION


@pytest.mark.parametrize(
    ("ours", "theirs", "agreed"),
    [
        (("http/1.1",), ("http/1.1",), "http/1.1"),
        (("http/1.1",), ("h2", "http/1.1"), "http/1.1"),
        (("h2", "http/1.1"), ("h2", "http/1.1"), "h2"),
        ((), ("h2", "http/1.1"), None),
        (("http/1.1",), (), None),
    ],
)
def test_alpn(ours: tuple[str, ...], theirs: tuple[str, ...], agreed: str | None) -> None:
    pair = server_pair()
    server = server_context(pair.cert, pair.key, alpn=theirs)
    for end in connect(client_context(ca=authority().pem, alpn=ours), server):
        assert end.alpn == agreed


# Whom a client trusts


def as_bytes(pem: bytes, folder: Path) -> PathOrPEM:
    return pem


def as_der(pem: bytes, folder: Path) -> PathOrPEM:
    return ssl.PEM_cert_to_DER_cert(pem.decode())


def as_path(pem: bytes, folder: Path) -> PathOrPEM:
    return write(folder / "ca.crt", pem)


def as_text_path(pem: bytes, folder: Path) -> PathOrPEM:
    return str(write(folder / "ca.crt", "# with a comment: é\n".encode() + pem))


@pytest.mark.parametrize("form", [as_bytes, as_der, as_path, as_text_path])
def test_forms_of_a_ca(form: Callable[[bytes, Path], PathOrPEM], tmp_path: Path) -> None:
    connect(client_context(ca=form(authority().pem, tmp_path)), plain_server())


def test_several_authorities() -> None:
    connect(client_context(ca=Authority().pem + authority().pem), plain_server())


def test_the_system_store_is_left_alone_when_a_ca_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    def loaded(*_: object) -> None:
        raise AssertionError("44 ms lost")

    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", loaded)
    client_context(ca=authority().pem)
    client_context(verify=False)
    with pytest.raises(AssertionError, match="44 ms"):
        client_context()


def test_the_system_store_does_not_vouch_for_strangers() -> None:
    client, server = TLSPipe.client(client_context(), HOST), TLSPipe.server(plain_server())
    client.do_handshake()
    server.do_handshake(client.take())
    with pytest.raises(ssl.SSLCertVerificationError):
        client.do_handshake(server.take())


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
def test_a_pinned_certificate_vouches_for_itself_alone(version: ssl.TLSVersion) -> None:
    leaf = server_pair().cert.split(b"-----END CERTIFICATE-----")[0] + b"-----END CERTIFICATE-----\n"
    pinned = limit(client_context(ca=leaf), version)
    connect(pinned, plain_server())
    other = authority().issue(HOST)
    client, server = TLSPipe.client(pinned, HOST), TLSPipe.server(server_context(other.cert, other.key))
    client.do_handshake()
    server.do_handshake(client.take())
    with pytest.raises(ssl.SSLCertVerificationError):
        client.do_handshake(server.take())


def test_verification_is_switched_off_by_name_only() -> None:
    stranger = Authority().issue("elsewhere.example")
    server = server_context(stranger.cert, stranger.key)
    for name in (HOST, None):
        client, _ = connect(client_context(verify=False), server, name)
        assert client.peer_certificate_der is not None
    context = client_context(ca=authority().pem)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def test_the_name_alone_can_be_left_unchecked() -> None:
    context = client_context(ca=authority().pem, check_hostname=False)
    assert context.verify_mode is ssl.CERT_REQUIRED
    connect(context, plain_server(), "elsewhere.example")
    connect(context, plain_server(), None)


def test_a_name_or_an_address() -> None:
    for name in (HOST, "127.0.0.1"):
        connect(client_context(ca=authority().pem), plain_server(), name)


@pytest.mark.parametrize("content", [b"", b"not a certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_a_ca_that_is_none(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLError):
        client_context(ca=content)
    with pytest.raises(ssl.SSLError):
        client_context(ca=write(tmp_path / "ca.crt", content))


# Certificates of our own


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
def test_client_certificate(version: ssl.TLSVersion) -> None:
    own, pair = authority().issue("someone@example.com"), server_pair()
    theirs = limit(server_context(pair.cert, pair.key, client_ca=authority().pem), version)
    _, server = connect(client_context(ca=authority().pem, certificate=own.cert, key=own.key), theirs)
    assert server.peer_certificate_der == ssl.PEM_cert_to_DER_cert(own.cert.decode())
    assert server.peer_chain_der[0] == server.peer_certificate_der
    _, server = connect(client_context(ca=authority().pem), theirs)
    assert server.peer_certificate_der is None


def test_forms_of_certificate_and_key(tmp_path: Path) -> None:
    own, pair = authority().issue("someone@example.com"), server_pair()
    cert, key = write(tmp_path / "c.crt", own.cert), write(tmp_path / "c.key", own.key)
    both = write(tmp_path / "both.pem", own.cert + own.key)
    theirs = server_context(pair.cert, pair.key, client_ca=authority().pem)
    forms: list[tuple[PathOrPEM, PathOrPEM | None]] = [
        (own.cert, own.key),
        (cert, key),
        (str(cert), own.key),
        (own.cert, str(key)),
        (own.cert + own.key, None),
        (both, None),
        (own.key + own.cert, None),
    ]
    for certificate, private in forms:
        _, server = connect(client_context(ca=authority().pem, certificate=certificate, key=private), theirs)
        assert server.peer_certificate_der is not None


def test_a_key_given_as_bytes_is_never_in_a_file_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    load = ssl.SSLContext.load_cert_chain

    def spy(context: ssl.SSLContext, certfile: str, keyfile: str, password: object) -> None:
        seen.extend([certfile, keyfile])
        load(context, certfile, keyfile)

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", spy)
    pair = server_pair()
    client_context(ca=authority().pem, certificate=pair.cert, key=pair.key)
    assert all(path.startswith("/proc/self/fd/") for path in seen)
    assert not any(Path(path).exists() for path in seen)
    assert list(tmp_path.iterdir()) == []


def test_an_encrypted_key() -> None:
    pair = server_pair()
    connect(client_context(ca=authority().pem), server_context(pair.cert, encrypted(pair), password=PASSWORD))
    with pytest.raises(ssl.SSLError):
        server_context(pair.cert, encrypted(pair), password="wrong")


def test_nobody_is_asked_for_a_password() -> None:
    pair = server_pair()
    with pytest.raises(ssl.SSLError, match="encrypted and no password was given") as caught:
        client_context(ca=authority().pem, certificate=pair.cert, key=encrypted(pair))
    assert caught.value.reason == "BAD_PASSWORD_READ"


def test_a_key_of_another_certificate() -> None:
    with pytest.raises(ssl.SSLError) as caught:
        client_context(ca=authority().pem, certificate=server_pair().cert, key=authority().issue("a@b.example").key)
    assert caught.value.reason == "KEY_VALUES_MISMATCH"


@pytest.mark.parametrize("missing", ["c.crt", "c.key"])
def test_a_missing_file_is_named(missing: str, tmp_path: Path) -> None:
    pair = server_pair()
    write(tmp_path / "c.crt", pair.cert)
    write(tmp_path / "c.key", pair.key)
    (tmp_path / missing).unlink()
    with pytest.raises(FileNotFoundError, match=missing):
        client_context(ca=authority().pem, certificate=tmp_path / "c.crt", key=tmp_path / "c.key")
    with pytest.raises(FileNotFoundError, match="no-ca"):
        client_context(ca=tmp_path / "no-ca")


# Servers


def test_tickets_are_sent_when_asked_for() -> None:
    pair = server_pair()
    for tickets in (0, 1, 2):
        theirs = limit(server_context(pair.cert, pair.key, tickets=tickets), ssl.TLSVersion.TLSv1_3)
        client, server = connect(client_context(ca=authority().pem), theirs)
        assert bool(server.pending) == bool(tickets)
        assert drain(client, server.take()) == b""


def test_a_client_certificate_of_a_stranger_ends_the_handshake() -> None:
    stranger, pair = Authority().issue("stranger@example.com"), server_pair()
    theirs = server_context(pair.cert, pair.key, client_ca=authority().pem)
    ours = client_context(ca=authority().pem, certificate=stranger.cert, key=stranger.key)
    client, server = TLSPipe.client(ours, HOST), TLSPipe.server(theirs)
    client.do_handshake()
    server.do_handshake(client.take())
    client.do_handshake(server.take())
    with pytest.raises(ssl.SSLCertVerificationError):
        server.do_handshake(client.take())
