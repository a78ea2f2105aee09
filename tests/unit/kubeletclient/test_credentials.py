"""Credentials: used as given, never shown, never left on disk."""

from __future__ import annotations

import gc
import os
import pickle
import ssl
import tempfile
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from kubeletclient import BearerToken, ClientCertificate, CredentialsError

AUTHORITY = trustme.CA()
LEAF = AUTHORITY.issue_cert("tester@kubewire.test")
OTHER = AUTHORITY.issue_cert("other@kubewire.test")
CERT = LEAF.cert_chain_pems[0].bytes()
KEY = LEAF.private_key_pem.bytes()
LOCKED = serialization.load_pem_private_key(KEY, None).private_bytes(
    serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8,
    serialization.BestAvailableEncryption(b"hunter2"),
)


def load(credentials: ClientCertificate) -> None:
    credentials.load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


def test_bytes_and_paths_in_any_mix(tmp_path: Path) -> None:
    (tmp_path / "c.pem").write_bytes(CERT)
    (tmp_path / "k.pem").write_bytes(KEY)
    (tmp_path / "both.pem").write_bytes(CERT + KEY)
    load(ClientCertificate(CERT, KEY))
    load(ClientCertificate(tmp_path / "c.pem", str(tmp_path / "k.pem")))
    load(ClientCertificate(CERT, tmp_path / "k.pem"))
    load(ClientCertificate(tmp_path / "both.pem"))
    load(ClientCertificate(CERT + KEY))


def test_bytes_leave_no_file_and_no_descriptor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    gc.collect()
    before = os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []
    load(ClientCertificate(CERT, KEY))
    after = os.listdir("/proc/self/fd") if before else []
    assert len(after) == len(before)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("password", ["hunter2", b"hunter2"])
def test_an_encrypted_key_opens_with_its_password(password: str | bytes) -> None:
    load(ClientCertificate(CERT, LOCKED, password))


@pytest.mark.parametrize(
    ("credentials", "text"),
    [
        (ClientCertificate(CERT, LOCKED), "the private key is encrypted.*password="),
        (ClientCertificate(CERT, LOCKED, "wrong-secret"), "cannot be decrypted with this password|not PEM"),
        (ClientCertificate(CERT, OTHER.private_key_pem.bytes()), "does not belong to the certificate"),
        (ClientCertificate(b"rubbish", KEY), "not PEM that OpenSSL can use"),
        (ClientCertificate(CERT, b"rubbish"), "not PEM that OpenSSL can use"),
        (ClientCertificate(CERT), "not PEM that OpenSSL can use"),
        (ClientCertificate("/nowhere/c.pem", KEY), "cannot be read: No such file.*/nowhere/c.pem"),
    ],
)
def test_what_cannot_be_used_says_why_and_shows_no_secret(credentials: ClientCertificate, text: str) -> None:
    with pytest.raises(CredentialsError, match=text) as caught:
        load(credentials)
    shown = str(caught.value) + repr(caught.value)
    assert "PRIVATE KEY" not in shown
    assert "secret" not in shown


def test_nothing_is_shown_or_pickled() -> None:
    certificate = ClientCertificate(CERT, KEY, "hunter2")
    token = BearerToken("s3cr3t")
    assert repr(certificate) == "ClientCertificate(cert=<bytes>, key=<bytes>)"
    assert repr(ClientCertificate("c.crt", "c.key")) == "ClientCertificate(cert='c.crt', key='c.key')"
    assert repr(ClientCertificate("c.crt")) == "ClientCertificate(cert='c.crt', key=in cert)"
    assert "s3cr3t" not in repr(token)
    assert repr(BearerToken(file="/run/token")) == "BearerToken(file='/run/token')"
    for secret in (certificate, token):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(secret)


def test_a_token_is_one_header_value() -> None:
    assert BearerToken(" abc.def \n").header() == "Bearer abc.def"


@pytest.mark.parametrize("token", ["", " \n", "a b", "a\r\nX-Evil: 1", "t\u00f6ken", "a\x00b"])
def test_what_could_forge_a_header_is_refused_and_not_repeated(token: str) -> None:
    with pytest.raises(CredentialsError, match="bearer token") as caught:
        BearerToken(token)
    assert "Evil" not in str(caught.value)


def test_a_token_or_a_file() -> None:
    with pytest.raises(CredentialsError, match="a bearer token, or a file"):
        BearerToken()


def test_the_token_stands_in_while_its_file_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "token"
    token = BearerToken("first", file=path)
    assert token.header(0.0) == "Bearer first"
    path.write_text("second")
    assert token.header(10.0) == "Bearer first", "the file is looked at every 50 seconds"
    assert token.header(60.0) == "Bearer second"


def test_a_token_file_is_read_again_after_50_seconds(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("one\n")
    token = BearerToken(file=path)
    assert not token.fresh(100.0)
    assert token.header(100.0) == "Bearer one"
    path.write_text("two\n")
    assert token.fresh(149.9)
    assert token.header(149.9) == "Bearer one"
    assert not token.fresh(150.0)
    assert token.header(150.0) == "Bearer two"


def test_a_token_file_that_is_gone_keeps_the_last_token(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("one")
    token = BearerToken(file=path)
    assert token.header(0.0) == "Bearer one"
    path.unlink()
    assert token.header(60.0) == "Bearer one"


def test_a_token_file_that_was_never_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match="cannot be read: No such file"):
        BearerToken(file=tmp_path / "token").header(0.0)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(CredentialsError, match="it is not ASCII"):
        BearerToken(file=tmp_path / "binary").header(0.0)
