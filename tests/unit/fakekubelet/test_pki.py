"""The authority's certificates, judged by strict verifiers of others; and the judgement of client certificates."""

from __future__ import annotations

import datetime
import pickle
import shutil
import ssl
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fakekubelet.pki import (
    MAX_CHAIN,
    CertificateAuthority,
    ClientIdentity,
    IssuedCertificate,
    Rejection,
    verify_client,
)
from spdyproto.tls import TLSPipe, client_context, server_context
from support.tlslink import shake

DAY = datetime.timedelta(days=1)


def now() -> datetime.datetime:
    """Asked in each test: minutes may lie between the start of a run and its turn."""
    return datetime.datetime.now(datetime.UTC)


@pytest.fixture(scope="module")
def authority() -> CertificateAuthority:
    return CertificateAuthority.create()


def reason(verdict: ClientIdentity | Rejection) -> str:
    assert isinstance(verdict, Rejection), verdict
    return verdict.reason


# What is issued


def test_everything_is_p256_and_short_lived(authority: CertificateAuthority) -> None:
    for certificate in (authority.certificate, authority.issue_server().certificate):
        key = certificate.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert isinstance(key.curve, ec.SECP256R1)
        assert certificate.not_valid_before_utc < now() - datetime.timedelta(minutes=4)
        assert certificate.not_valid_after_utc < now() + 2 * DAY


def test_server_names(authority: CertificateAuthority) -> None:
    certificate = authority.issue_server().certificate
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    assert certificate.subject.rfc4514_string() == "CN=system:node:kubewire,O=system:nodes"


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1"])
def test_the_strictest_verification_of_openssl_accepts_them(authority: CertificateAuthority, name: str) -> None:
    client, server = authority.issue_client("alice", ["dev"]), authority.create_intermediate().issue_server()
    ours = client_context(ca=authority.cert_pem, certificate=client.cert_pem, key=client.key_pem)
    theirs = server_context(server.cert_pem, server.key_pem, client_ca=authority.cert_pem)
    for context in (ours, theirs):
        context.verify_flags = ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_TRUSTED_FIRST  # and no partial chains
    pipes = TLSPipe.client(ours, name), TLSPipe.server(theirs)
    shake(*pipes)
    assert pipes[1].peer_certificate_der == client.chain_der[0]


def test_the_verifier_of_cryptography_accepts_a_server(authority: CertificateAuthority) -> None:
    from cryptography.x509.verification import PolicyBuilder, Store

    server = authority.create_intermediate().issue_server(["node-1.example"])
    verifier = (
        PolicyBuilder().store(Store([authority.certificate])).build_server_verifier(x509.DNSName("node-1.example"))
    )
    leaf, *others = x509.load_pem_x509_certificates(server.cert_pem)
    assert len(verifier.verify(leaf, others)) == 3


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl program here")
def test_the_openssl_program_accepts_them(authority: CertificateAuthority, tmp_path: Path) -> None:
    ca = authority.write(tmp_path / "ca.crt")
    for purpose, issued in (("sslserver", authority.issue_server()), ("sslclient", authority.issue_client("alice"))):
        certificate, _ = issued.write(tmp_path, purpose)
        command = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", str(ca), str(certificate)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr


def test_written_files(authority: CertificateAuthority, tmp_path: Path) -> None:
    issued = authority.issue_client("alice")
    (tmp_path / "alice.key").write_text("old, and open to all")
    (tmp_path / "alice.key").chmod(0o644)
    certificate, key = issued.write(tmp_path, "alice")
    assert certificate == tmp_path / "alice.crt"
    assert certificate.read_bytes() == issued.cert_pem
    assert key.read_bytes() == issued.key_pem
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert authority.write(tmp_path / "ca.crt").read_bytes() == authority.cert_pem
    assert b"PRIVATE" not in authority.cert_pem + issued.cert_pem


def test_keys_do_not_show(authority: CertificateAuthority) -> None:
    issued = authority.issue_client("alice")
    for text in (repr(issued), str(issued), repr(authority), f"{issued!r:s}"):
        assert "PRIVATE" not in text
        assert issued.key_pem.decode()[30:60] not in text
    with pytest.raises(TypeError):
        pickle.dumps(authority)


# The judgement


def test_a_good_certificate(authority: CertificateAuthority) -> None:
    issued = authority.issue_client("alice", ["dev", "system:masters"])
    good = ClientIdentity("alice", ("dev", "system:masters"))
    assert verify_client(issued.chain_der, authority) == good
    assert verify_client(issued.chain_der, authority.certificate) == good
    other = CertificateAuthority.create()
    assert verify_client(issued.chain_der, [other.certificate, authority.certificate]) == good
    assert verify_client(authority.issue_client("bob").chain_der, authority) == ClientIdentity("bob")


def test_none_at_all(authority: CertificateAuthority) -> None:
    assert "no certificate" in reason(verify_client([], authority))


def test_another_authority(authority: CertificateAuthority) -> None:
    stranger = CertificateAuthority.create().issue_client("alice", ["system:masters"])  # the same name as ours
    assert "not signed by the client CA" in reason(verify_client(stranger.chain_der, authority))
    assert "not signed by the client CA" in reason(verify_client(stranger.chain_der, []))


def test_a_chain_that_brings_its_own_root(authority: CertificateAuthority) -> None:
    evil = CertificateAuthority.create()
    root = evil.certificate.public_bytes(serialization.Encoding.DER)
    assert "not signed" in reason(verify_client([*evil.issue_client("alice").chain_der, root], authority))


def test_time(authority: CertificateAuthority) -> None:
    assert "expired at" in reason(verify_client(authority.issue_client("alice", expired=True).chain_der, authority))
    issued = authority.issue_client("alice", lifetime=datetime.timedelta(hours=1))
    assert isinstance(
        verify_client(issued.chain_der, authority, now() + datetime.timedelta(minutes=59)), ClientIdentity
    )
    assert "expired at" in reason(verify_client(issued.chain_der, authority, now() + datetime.timedelta(minutes=61)))
    assert "not valid before" in reason(verify_client(issued.chain_der, authority, now() - datetime.timedelta(hours=1)))


def test_an_authority_that_has_expired() -> None:
    authority = CertificateAuthority.create(lifetime=datetime.timedelta(hours=1))
    issued = authority.issue_client("alice")
    verdict = verify_client(issued.chain_der, authority, now() + datetime.timedelta(hours=2))
    assert "CN=kubewire fake CA expired" in reason(verdict)


def test_a_server_certificate_is_no_client_certificate(authority: CertificateAuthority) -> None:
    assert "not for client authentication" in reason(verify_client(authority.issue_server().chain_der, authority))
    signing = authority.issue_client("alice", usage=ExtendedKeyUsageOID.CODE_SIGNING)
    assert "not for client authentication" in reason(verify_client(signing.chain_der, authority))
    for usage in (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE):
        issued = authority.issue_client("alice", usage=usage)
        assert isinstance(verify_client(issued.chain_der, authority), ClientIdentity)


def test_intermediates(authority: CertificateAuthority) -> None:
    middle = authority.create_intermediate("middle", path_length=1)
    lower = middle.create_intermediate("lower")
    issued = lower.issue_client("alice")
    chain = issued.chain_der
    assert len(chain) == 3
    assert verify_client(chain, authority) == ClientIdentity("alice")
    assert verify_client([chain[0], chain[2], chain[1]], authority) == ClientIdentity("alice"), "in any order"
    assert "not signed" in reason(verify_client(chain[:2], authority))
    assert "not signed" in reason(verify_client([chain[0], chain[2]], authority))
    assert verify_client(chain[:1], lower.certificate) == ClientIdentity("alice"), "any certificate may be the anchor"


def test_an_intermediate_that_may_not(authority: CertificateAuthority) -> None:
    too_deep = authority.create_intermediate("middle", path_length=0).create_intermediate("lower").issue_client("alice")
    assert "allows 0 authorities below itself" in reason(verify_client(too_deep.chain_der, authority))
    narrow = authority.create_intermediate("narrow", usages=[ExtendedKeyUsageOID.SERVER_AUTH]).issue_client("alice")
    assert "not for client authentication" in reason(verify_client(narrow.chain_der, authority))


def test_a_leaf_is_no_authority(authority: CertificateAuthority) -> None:
    leaf = authority.issue_client("alice")
    key = serialization.load_pem_private_key(leaf.key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    forged = CertificateAuthority(leaf.certificate, key, chain=[leaf.certificate]).issue_client(
        "root", ["system:masters"]
    )
    assert "CN=alice is no certificate authority" in reason(verify_client(forged.chain_der, authority))


def test_authorities_of_the_same_name_cost_little(authority: CertificateAuthority) -> None:
    """Each of them might have signed each other: a careless search tries all orders."""
    crowd = [CertificateAuthority.create("twin").certificate for _ in range(MAX_CHAIN - 1)]
    chain = [
        *CertificateAuthority.create("twin").issue_client("alice").chain_der,
        *(twin.public_bytes(serialization.Encoding.DER) for twin in crowd),
    ]
    assert "not signed" in reason(verify_client(chain, authority))
    assert "more than 10" in reason(verify_client([*chain, chain[-1]], authority))


def build(
    signer: Callable[[x509.CertificateBuilder], x509.Certificate],
    subject: list[x509.NameAttribute[str]],
    issuer: x509.Name,
    extensions: list[tuple[x509.ExtensionType, bool]],
    key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey | None = None,
) -> list[bytes]:
    builder = x509.CertificateBuilder().subject_name(x509.Name(subject)).issuer_name(issuer)
    builder = builder.public_key(key or ec.generate_private_key(ec.SECP256R1()).public_key())
    builder = builder.serial_number(7).not_valid_before(now() - DAY).not_valid_after(now() + DAY)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return [signer(builder).public_bytes(serialization.Encoding.DER)]


def common_name(name: str) -> x509.NameAttribute[str]:
    return x509.NameAttribute(NameOID.COMMON_NAME, name)


def own_authority() -> tuple[x509.Certificate, Callable[[x509.CertificateBuilder], x509.Certificate]]:
    """An old-fashioned one: RSA, and nothing but basic constraints."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def sign(builder: x509.CertificateBuilder) -> x509.Certificate:
        return builder.sign(key, hashes.SHA256())

    constraints: list[tuple[x509.ExtensionType, bool]] = [(x509.BasicConstraints(ca=True, path_length=None), True)]
    name = x509.Name([common_name("old")])
    (der,) = build(sign, [common_name("old")], name, constraints, key.public_key())
    return x509.load_der_x509_certificate(der), sign


def test_what_go_accepts_without_extensions() -> None:
    root, sign = own_authority()
    chain = build(sign, [common_name("alice")], root.subject, [])
    assert verify_client(chain, root) == ClientIdentity("alice")


def test_subjects() -> None:
    root, sign = own_authority()
    group = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "dev")
    assert "names no user" in reason(verify_client(build(sign, [group], root.subject, []), root))
    two = build(sign, [common_name("first"), group, common_name("last")], root.subject, [])
    assert verify_client(two, root) == ClientIdentity("last", ("dev",))
    foreign = build(sign, [common_name("ålice")], root.subject, [])
    assert verify_client(foreign, root) == ClientIdentity("ålice")


def test_critical_extensions_must_be_understood() -> None:
    root, sign = own_authority()
    strange = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4.5"), b"\x05\x00")
    for critical in (False, True):
        verdict = verify_client(build(sign, [common_name("alice")], root.subject, [(strange, critical)]), root)
        assert isinstance(verdict, Rejection) == critical
    assert "1.2.3.4.5" in reason(verdict)


def test_a_forged_signature(authority: CertificateAuthority) -> None:
    (der, *_) = authority.issue_client("alice", ["dev"]).chain_der
    assert "not signed" in reason(verify_client([der.replace(b"alice", b"admin")], authority))


@pytest.mark.parametrize("junk", [b"", b"junk", b"\x30\x03\x02\x01\x00", b"\x30\x84\xff\xff\xff\xff"])
def test_bytes_that_are_no_certificate(authority: CertificateAuthority, junk: bytes) -> None:
    good = authority.issue_client("alice").chain_der
    assert "cannot be parsed" in reason(verify_client([junk], authority))
    assert "cannot be parsed" in reason(verify_client([*good, junk], authority))


def test_certificates_of_another_maker() -> None:
    ca = trustme.CA()
    leaf = ca.issue_cert("alice@example.com", common_name="alice", organization_name="dev")
    root = x509.load_pem_x509_certificate(ca.cert_pem.bytes())
    chain = IssuedCertificate(leaf.cert_chain_pems[0].bytes(), b"").chain_der
    assert verify_client(chain, root) == ClientIdentity("alice", ("dev",))
