"""A certificate authority for tests, and the judgement of client certificates.

Everything is P-256: a handshake with RSA keys costs twice the CPU. Certificates carry what the strict verifiers of
today ask for (Go, OpenSSL with ``X509_STRICT``, which Python 3.13 sets by default): key identifiers, critical basic
constraints, key usage, extended key usage, and names as subject alternative names.

``verify_client`` answers what a kubelet's x509 authenticator answers (``k8s.io/apiserver:
pkg/authentication/request/x509/x509.go``): the chain that the client presented must lead to the CA, in Go's sense, for
the use of client authentication; the user is the subject's common name, the groups its organizations. It differs from a
general verifier on purpose: clients need no subject alternative name, and any key type will do.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID, ObjectIdentifier

__all__ = ["CertificateAuthority", "ClientIdentity", "IssuedCertificate", "Rejection", "verify_client"]

LIFETIME: Final = datetime.timedelta(days=1)
"""Long enough for any test run, too short to be mistaken for a credential."""

SKEW: Final = datetime.timedelta(minutes=5)
"""Certificates are valid since a little before they were made: clocks of containers and hosts differ."""

MAX_CHAIN: Final = 10
"""Certificates of one client that are looked at. Real chains have two or three; each costs a signature check."""


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """A leaf certificate, its private key, and what leads from it to the root. ``repr`` does not show the key."""

    cert_pem: bytes
    """The leaf, then the intermediate authorities, if any."""

    key_pem: bytes = field(repr=False)
    """PKCS #8, not encrypted."""

    @property
    def certificate(self) -> x509.Certificate:
        """The leaf, parsed."""
        return x509.load_pem_x509_certificate(self.cert_pem)

    @property
    def chain_der(self) -> list[bytes]:
        """The leaf and the intermediates, as a TLS peer would present them."""
        chain = x509.load_pem_x509_certificates(self.cert_pem)
        return [certificate.public_bytes(serialization.Encoding.DER) for certificate in chain]

    def write(self, directory: str | os.PathLike[str], name: str = "client") -> tuple[Path, Path]:
        """Write ``NAME.crt`` and ``NAME.key`` (mode 0600) into ``directory``, which must exist; answer both paths."""
        certificate, key = Path(directory, f"{name}.crt"), Path(directory, f"{name}.key")
        certificate.write_bytes(self.cert_pem)
        _write_private(key, self.key_pem)
        return certificate, key


class CertificateAuthority:
    """A root, or an intermediate made by ``create_intermediate``. Its key lives in this object alone."""

    def __init__(
        self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, *, chain: Sequence[x509.Certificate] = ()
    ) -> None:
        self.certificate = certificate
        self._key = key
        self._chain = tuple(chain)  # of an intermediate: itself and those between it and the root

    def __repr__(self) -> str:
        return f"CertificateAuthority({self.certificate.subject.rfc4514_string()!r})"

    @classmethod
    def create(
        cls, common_name: str = "kubewire fake CA", *, lifetime: datetime.timedelta = LIFETIME
    ) -> CertificateAuthority:
        """A new self-signed root."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        start = _now() - SKEW
        builder = _builder(name, key.public_key(), name, key.public_key(), start, start + SKEW + lifetime)
        return cls(_authority_extensions(builder, path_length=None).sign(key, hashes.SHA256()), key)

    def create_intermediate(
        self,
        common_name: str = "kubewire fake intermediate CA",
        *,
        usages: Iterable[ObjectIdentifier] = (),
        path_length: int | None = 0,
    ) -> CertificateAuthority:
        """An authority signed by this one. ``usages`` (extended key usages) narrow what it may issue; none: any."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        builder = self._builder(name, key.public_key(), *_validity(expired=False, lifetime=LIFETIME))
        builder = _authority_extensions(builder, path_length=path_length)
        usages = list(usages)
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return CertificateAuthority(certificate, key, chain=(certificate, *self._chain))

    @property
    def cert_pem(self) -> bytes:
        """The authority's certificate, to be trusted by others."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Write ``cert_pem`` to the file ``path`` and answer it. The key is never written."""
        Path(path).write_bytes(self.cert_pem)
        return Path(path)

    def issue_server(
        self,
        names: Iterable[str] = ("localhost", "127.0.0.1", "::1"),
        *,
        common_name: str = "system:node:kubewire",
        expired: bool = False,
        lifetime: datetime.timedelta = LIFETIME,
    ) -> IssuedCertificate:
        """A serving certificate for ``names``: DNS names and IP addresses, in any mixture.

        The subject is like a kubelet's: ``common_name`` in the organization ``system:nodes``.
        """
        subject = _subject(common_name, ("system:nodes",))
        return self._issue(subject, ExtendedKeyUsageOID.SERVER_AUTH, names, expired=expired, lifetime=lifetime)

    def issue_client(
        self,
        user: str,
        groups: Iterable[str] = (),
        *,
        expired: bool = False,
        usage: ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
        lifetime: datetime.timedelta = LIFETIME,
    ) -> IssuedCertificate:
        """A client certificate: the user is the common name (64 characters at most), the groups are organizations.

        ``usage`` other than client authentication makes a certificate that a kubelet refuses.
        """
        return self._issue(_subject(user, groups), usage, (), expired=expired, lifetime=lifetime)

    def _issue(
        self,
        subject: x509.Name,
        usage: ObjectIdentifier,
        names: Iterable[str],
        *,
        expired: bool,
        lifetime: datetime.timedelta,
    ) -> IssuedCertificate:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(subject, key.public_key(), *_validity(expired=expired, lifetime=lifetime))
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_key_usage(digital_signature=True), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        alternatives = [_general_name(name) for name in names]
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        leaf = builder.sign(self._key, hashes.SHA256())
        pem = b"".join(c.public_bytes(serialization.Encoding.PEM) for c in (leaf, *self._chain))
        return IssuedCertificate(pem, _private_pem(key))

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, start: datetime.datetime, end: datetime.datetime
    ) -> x509.CertificateBuilder:
        return _builder(subject, key, self.certificate.subject, self._key.public_key(), start, end)


def _builder(
    subject: x509.Name,
    key: ec.EllipticCurvePublicKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePublicKey,
    start: datetime.datetime,
    end: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key)
        .issuer_name(issuer)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )


def _authority_extensions(builder: x509.CertificateBuilder, *, path_length: int | None) -> x509.CertificateBuilder:
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
    return builder.add_extension(_key_usage(authority=True), critical=True)


def _key_usage(*, digital_signature: bool = False, authority: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _subject(common_name: str, organizations: Iterable[str]) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, name) for name in organizations]
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _validity(*, expired: bool, lifetime: datetime.timedelta) -> tuple[datetime.datetime, datetime.datetime]:
    end = _now() - SKEW if expired else _now() + lifetime
    return min(end - lifetime, _now() - SKEW), end


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write_private(path: Path, content: bytes) -> None:
    # Mode 0600 from its first moment on: chmod afterwards would leave a gap, and O_CREAT does not narrow an old file.
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)


# The kubelet's judgement


@dataclass(frozen=True, slots=True)
class ClientIdentity:
    """Who a good client certificate speaks for. The group of all authenticated users is not added here."""

    user: str
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a client certificate proves nothing. The kubelet logs this and tells the client ``Unauthorized`` only."""

    reason: str


_HANDLED: Final = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
    }
)
"""Extensions that may be critical, because the rules below obey them. Name constraints bind names that clients lack; no
cluster uses them for its client CA, and here they are refused rather than passed over."""

_ANY_PURPOSE: Final = frozenset({ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE})


def verify_client(
    der_chain: Sequence[bytes],
    roots: CertificateAuthority | x509.Certificate | Iterable[x509.Certificate],
    now: datetime.datetime | None = None,
) -> ClientIdentity | Rejection:
    """Judge a client's certificates as a kubelet does: its own first, then the intermediates that it sent along.

    ``roots`` is what ``clientCAFile`` holds; as in Go each of them is an anchor, self-signed or not. ``now`` is aware
    of its time zone and defaults to the current time. Raises nothing for what the client sent.
    """
    now = now or _now()
    if not der_chain:
        return Rejection("the client presented no certificate")
    if len(der_chain) > MAX_CHAIN:
        return Rejection(f"the client presented {len(der_chain)} certificates; more than {MAX_CHAIN} are not looked at")
    if isinstance(roots, CertificateAuthority):
        roots = roots.certificate
    anchors = [roots] if isinstance(roots, x509.Certificate) else list(roots)
    try:
        leaf, *intermediates = [x509.load_der_x509_certificate(der) for der in der_chain]
        problem = _unfit(leaf, now, below=None) or _no_path(leaf, intermediates, anchors, now)
        if problem:
            return Rejection(problem)
        users = [str(a.value) for a in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        groups = [str(a.value) for a in leaf.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    except (ValueError, TypeError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        return Rejection(f"the certificate cannot be parsed: {error}")
    if not users or not users[-1]:
        return Rejection("the certificate has no common name, so it names no user")
    return ClientIdentity(users[-1], tuple(groups))  # Go keeps the last common name too


def _no_path(
    leaf: x509.Certificate,
    intermediates: list[x509.Certificate],
    anchors: list[x509.Certificate],
    now: datetime.datetime,
) -> str | None:
    """Why no path leads from ``leaf`` to an anchor; None if one does. Depth first; each certificate is used once."""
    if leaf in anchors:
        return None
    problem = "the certificate is not signed by the client CA"
    budget = MAX_CHAIN * MAX_CHAIN  # signatures: a client could send authorities that all have the same name

    def climb(certificate: x509.Certificate, used: frozenset[int], depth: int) -> bool:
        nonlocal problem, budget
        for issuer, position in _candidates(anchors, intermediates, used):
            if issuer.subject != certificate.issuer or budget <= 0:
                continue
            budget -= 1
            if not _signed(certificate, issuer):
                continue
            unfit = _unfit(issuer, now, below=depth)
            if unfit:
                problem = unfit
            elif position is None or climb(issuer, used | {position}, depth + 1):
                return True
        return False

    return None if climb(leaf, frozenset(), 0) else problem


def _candidates(
    anchors: list[x509.Certificate], intermediates: list[x509.Certificate], used: frozenset[int]
) -> Iterator[tuple[x509.Certificate, int | None]]:
    yield from ((anchor, None) for anchor in anchors)
    yield from ((issuer, i) for i, issuer in enumerate(intermediates) if i not in used)


def _signed(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True


def _unfit(certificate: x509.Certificate, now: datetime.datetime, *, below: int | None) -> str | None:
    """What is wrong with one certificate of the path; ``below`` counts the authorities under it, None is the leaf."""
    name = certificate.subject.rfc4514_string()
    if now < certificate.not_valid_before_utc:
        return f"the certificate of {name} is not valid before {certificate.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ}"
    if now > certificate.not_valid_after_utc:
        return f"the certificate of {name} expired at {certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"
    extensions = certificate.extensions
    for extension in extensions:
        if extension.critical and extension.oid not in _HANDLED:
            oid = extension.oid.dotted_string
            return f"the certificate of {name} has a critical extension that is not understood: {oid}"
    try:
        usages = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        pass  # any use
    else:
        if _ANY_PURPOSE.isdisjoint(usages):
            return f"the certificate of {name} is not for client authentication"
    return None if below is None else _no_authority(certificate, name, below)


def _no_authority(certificate: x509.Certificate, name: str, below: int) -> str | None:
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return f"{name} is no certificate authority"
    if not constraints.ca:
        return f"{name} is no certificate authority"
    if constraints.path_length is not None and below > constraints.path_length:
        return f"{name} allows {constraints.path_length} authorities below itself, and there are {below}"
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return None
    return None if usage.key_cert_sign else f"the key of {name} may not sign certificates"
