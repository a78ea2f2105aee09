"""One TLS context for each client; no credential for a server that cannot be told from an impostor."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from kubeletclient import BearerToken, ClientCertificate, CredentialsError, UnverifiedTokenError
from kubeletclient._trust import Trust
from kubeletclient.endpoints import parse_endpoint

HTTPS, HTTP = parse_endpoint("https://node"), parse_endpoint("http://node")
CA = trustme.CA()


@pytest.mark.parametrize(("endpoint", "verify"), [(HTTPS, False), (HTTP, True)])
def test_a_token_stays_here_unless_allowed_by_name(endpoint: object, verify: bool) -> None:
    token = BearerToken("s3cr3t")
    with pytest.raises(UnverifiedTokenError, match="allow_unverified_token=True") as caught:
        Trust(credentials=token, verify=verify).check(endpoint)  # type: ignore[arg-type]  # an Endpoint, from a parameter
    assert "s3cr3t" not in str(caught.value)
    Trust(credentials=token, verify=verify, allow_unverified_token=True).check(endpoint)  # type: ignore[arg-type]


def test_a_token_goes_to_a_verified_server() -> None:
    trust = Trust(credentials=BearerToken("t"))
    trust.check(HTTPS)
    assert trust.headers(HTTPS, 0.0) == (("Authorization", "Bearer t"),)


def test_a_token_file_is_read_by_a_function_that_the_driver_calls(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("x")
    read = Trust(credentials=BearerToken(file=tmp_path / "t")).headers(HTTPS, 0.0)
    assert callable(read)
    assert read(None) == (("Authorization", "Bearer x"),)


def test_a_client_certificate_cannot_be_shown_over_plain_http() -> None:
    with pytest.raises(CredentialsError, match="use https://"):
        Trust(credentials=ClientCertificate("c", "k")).check(HTTP)


def test_without_credentials_any_server_will_do() -> None:
    Trust().check(HTTP)
    assert Trust().headers(HTTP, 0.0) == ()


def test_ca_and_no_verification_contradict_each_other() -> None:
    with pytest.raises(CredentialsError, match="contradict"):
        Trust(ca=b"x", verify=False)


def test_the_context_is_built_once_and_verifies() -> None:
    trust = Trust(ca=CA.cert_pem.bytes())
    assert trust.ready(0.0) is None
    context = trust.context()
    assert trust.context() is context
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_changed_files_give_a_new_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("kubeletclient._trust.time.monotonic", lambda: now)
    path = tmp_path / "ca.pem"
    path.write_bytes(CA.cert_pem.bytes())
    trust = Trust(ca=path)
    first = trust.context()
    path.write_bytes(CA.cert_pem.bytes() + trustme.CA().cert_pem.bytes())
    assert trust.context() is first, "the files are looked at once a second"
    now += 1.0
    assert trust.ready(now) is None
    second = trust.context()
    assert second is not first
    now += 1.0
    assert trust.context() is second


@pytest.mark.parametrize(
    ("ca", "text"), [(b"rubbish", "not PEM|no certificate|CA"), ("/nowhere/ca.pem", "No such file")]
)
def test_a_ca_that_cannot_be_used(ca: str | bytes, text: str) -> None:
    with pytest.raises(CredentialsError, match=text):
        Trust(ca=ca).context()


def test_a_pinned_certificate_is_trusted_under_any_name_and_alone() -> None:
    certificate = trustme.CA().issue_cert("somewhere.else").cert_chain_pems[0].bytes()
    context = Trust(pinned=certificate).context()
    assert not context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.verify_flags & ssl.VERIFY_X509_PARTIAL_CHAIN
    for other in ({"ca": certificate}, {"verify": False}):
        with pytest.raises(CredentialsError, match="contradict each other"):
            Trust(pinned=certificate, **other)
