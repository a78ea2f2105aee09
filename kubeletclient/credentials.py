"""Who we are: client certificates, bearer tokens, user names with passwords, and several of them at once.

Nothing here shows a secret: not ``repr``, not an error, not a pickle. Key material given as bytes goes to OpenSSL
through memory (OpenSSL's binding reads files only, so an anonymous in-memory file stands in) and never stays on
disk.
"""

from __future__ import annotations

import base64
import os
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NoReturn

from kubeletclient.errors import CredentialsError
from spdyproto.limits import MIB
from spdyproto.pem import PathOrPEM, pem_file

__all__ = ["BasicAuth", "BearerToken", "ClientCertificate", "CombinedCredentials", "Credentials", "Impersonation"]

_TOKEN_FILE_SIZE: Final = 64 * 1024
"""Bytes read from a token file. Service account tokens are about 1 KiB; an HTTP head takes 64 KiB."""


class Credentials:
    """Who is asking. Safe to share between threads, and between clients.

    Some of it shows in the TLS handshake (``load_into``), some in the head of each request (``header``). What is had
    from files or from a program may change while the client lives, and is looked at for each connection: ``fresh``
    says whether it can be used as it is, and ``renew`` makes it so, and may take its time.
    """

    __slots__ = ()

    @property
    def sends_secret(self) -> bool:
        """Whether a header may carry a secret, which only a verified server may see."""
        return False

    def fresh(self, now: float) -> bool:
        """Whether ``header`` and ``load_into`` would answer without reading a file or running a program."""
        return True

    def renew(self, timeout: float | None = None) -> None:
        """Read and run what is due, in at most ``timeout`` seconds. Raises CredentialsError."""

    def header(self, now: float | None = None) -> str | None:
        """The value of ``Authorization``, if there is one. Raises CredentialsError."""
        return None

    @property
    def files(self) -> tuple[str, ...]:
        """The paths whose change makes another TLS context necessary."""
        return ()

    def version(self) -> object:
        """Changes, by ``!=``, when ``load_into`` would load something else from elsewhere than ``files``."""
        return None

    def load_into(self, context: ssl.SSLContext) -> None:
        """Put a client certificate into ``context``, if there is one. Raises CredentialsError."""

    def rejected(self, taken: float) -> bool:
        """The server answered 401 to what was taken at that time of the monotonic clock. Whether something else may be
        had now, so that it is worth asking again. May read a file.
        """
        return False

    def complaint(self) -> str:
        """What a server may have against them, as far as it can be told from here; empty if nothing."""
        return ""

    def certificate_only(self) -> Credentials | None:
        """These without what is secret in a header: what may be shown to a server that is not to get the token."""
        return None if self.sends_secret else self


class ClientCertificate(Credentials):
    """A certificate and its private key, in PEM.

    ``cert`` may hold the intermediates too; ``key`` may be left out when ``cert`` holds the key. ``str`` and
    ``PathLike`` are paths, ``bytes`` are the PEM text. ``password`` opens an encrypted key; without one an
    encrypted key is an error and never a question on the terminal.

    Files are read when a connection is dialled, and again after they changed on disk, so rotated certificates are
    used from the next connection on.
    """

    __slots__ = ("_cert", "_key", "_password")

    def __init__(self, cert: PathOrPEM, key: PathOrPEM | None = None, password: str | bytes | None = None) -> None:
        self._cert = cert
        self._key = key
        self._password = password

    def __repr__(self) -> str:
        return (
            f"ClientCertificate(cert={_named(self._cert)}, key={'in cert' if self._key is None else _named(self._key)})"
        )

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a ClientCertificate holds a private key and is not pickled: build it again in the other process"
        )

    @property
    def files(self) -> tuple[str, ...]:
        """The paths that it is read from; empty for bytes."""
        return tuple(os.fspath(p) for p in (self._cert, self._key) if p is not None and not isinstance(p, bytes))

    def load_into(self, context: ssl.SSLContext) -> None:
        """Put certificate and key into ``context``. Raises CredentialsError when they cannot be read or do not fit."""
        try:
            with pem_file(self._cert) as cert:
                if self._key is None:
                    context.load_cert_chain(cert, password=self._ask)
                else:
                    with pem_file(self._key) as key:
                        context.load_cert_chain(cert, key, password=self._ask)
        except ssl.SSLError as error:
            raise CredentialsError(_explain(error, self), hint=_HINT) from error
        except OSError as error:
            raise CredentialsError(
                f"the client certificate or key cannot be read: {error.strerror or error}",
                hint=f"check that {' and '.join(self.files) or 'the files'} exist and may be read by this user",
            ) from error

    def complaint(self) -> str:
        """That it has expired, or is not valid yet."""
        from cryptography import x509  # only on the way to an error

        try:
            if isinstance(self._cert, bytes):
                content = self._cert
            else:
                with open(self._cert, "rb") as stream:
                    content = stream.read(MIB)
            leaf = x509.load_pem_x509_certificate(content)
        except (OSError, ValueError):
            return ""
        return validity(leaf.not_valid_before_utc.timestamp(), leaf.not_valid_after_utc.timestamp())

    def _ask(self) -> str | bytes:
        """OpenSSL's question for a password; left to itself it would ask on the terminal."""
        if self._password is None:
            raise CredentialsError("the private key is encrypted", hint="give ClientCertificate(..., password=...)")
        return self._password


_HINT: Final = (
    "give the PEM certificate (leaf first) and the unencrypted or password-protected PEM key that belongs to it"
)


def _explain(error: ssl.SSLError, credentials: ClientCertificate) -> str:
    reason = (error.reason or "").upper()
    if "KEY_VALUES_MISMATCH" in reason or "KEY_TYPE_MISMATCH" in reason:
        return f"the private key does not belong to the certificate: {credentials!r}"
    if "BAD_DECRYPT" in reason or "BAD_PASSWORD" in reason or "BAD_PASSWORD_READ" in reason:
        return f"the private key cannot be decrypted with this password: {credentials!r}"
    why = reason or "no reason given"
    return f"the client certificate or key is not PEM that OpenSSL can use ({why}): {credentials!r}"


def validity(begins: float, ends: float) -> str:
    """What is wrong with a client certificate that is valid from ``begins`` to ``ends`` (seconds of the epoch)."""
    now = time.time()
    if begins <= now <= ends:
        return ""
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(ends if now > ends else begins))
    return f"the client certificate expired at {when}" if now > ends else f"the client certificate is valid from {when}"


class BasicAuth(Credentials):
    """A user name and a password, sent with each request. Current apiservers and kubelets take none; proxies in front
    of them may.
    """

    __slots__ = ("_header", "username")

    @property
    def sends_secret(self) -> bool:
        """It does."""
        return True

    def __init__(self, username: str, password: str) -> None:
        self.username = username
        self._header = basic_header(username, password)

    def __repr__(self) -> str:
        return f"BasicAuth({self.username!r}, <hidden>)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a BasicAuth holds a password and is not pickled: build it again in the other process")

    def header(self, now: float | None = None) -> str:
        """The value of ``Authorization``."""
        return self._header


def basic_header(username: str, password: str) -> str:
    """User name and password as HTTP headers carry them (RFC 7617, in UTF-8)."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


class BearerToken(Credentials):
    """A bearer token, given as text or as a file that is read again when it is older than 50 seconds.

    With both, the text is used as long as the file cannot be read. The token leaves only over a verified TLS
    connection, unless ``Kubelet(..., allow_unverified_token=True)`` says otherwise. A file that cannot be read any
    more keeps the last token in use, as client-go does (``transport/token_source.go``).
    """

    __slots__ = ("_file", "_read_at", "_token")

    @property
    def sends_secret(self) -> bool:
        """It does."""
        return True

    MAX_AGE: Final = 50.0
    """Seconds: client-go caches a token file for one minute and takes off ten seconds."""

    def __init__(self, token: str | None = None, *, file: str | os.PathLike[str] | None = None) -> None:
        if token is None and file is None:
            raise CredentialsError("give a bearer token, or a file that holds one")
        self._file = None if file is None else os.fspath(file)
        self._token = None if token is None else _checked(token)
        self._read_at = float("-inf")

    def __repr__(self) -> str:
        return f"BearerToken(file={self._file!r})" if self._file is not None else "BearerToken(<hidden>)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a BearerToken is a secret and is not pickled: build it again in the other process")

    @property
    def file(self) -> str | None:
        """The path that it is read from, if there is one."""
        return self._file

    def fresh(self, now: float) -> bool:
        """Whether ``header`` would answer without reading a file."""
        return self._token is not None and (self._file is None or now - self._read_at < self.MAX_AGE)

    def header(self, now: float | None = None) -> str:
        """The value of ``Authorization``. Reads the file when it is due. Raises CredentialsError when there is no
        token.
        """
        now = time.monotonic() if now is None else now
        if not self.fresh(now):
            self._reload(now)
        return f"Bearer {self._token}"

    def renew(self, timeout: float | None = None) -> None:
        """Read the file when it is due."""
        self.header()

    def rejected(self, taken: float) -> bool:
        """Whether another token is in the file by now."""
        if self._file is None:
            return False
        if self._read_at > taken:
            return True
        before, self._read_at = self._token, float("-inf")
        try:
            return self.header().removeprefix("Bearer ") != before
        except CredentialsError:
            return False

    def _reload(self, now: float) -> None:
        assert self._file is not None
        try:
            with open(self._file, encoding="ascii") as stream:
                self._token = _checked(stream.read(_TOKEN_FILE_SIZE))
        except (OSError, UnicodeDecodeError) as error:
            if self._token is None:
                why = error.strerror if isinstance(error, OSError) else "it is not ASCII"
                raise CredentialsError(
                    f"the token file {self._file} cannot be read: {why}", hint="check the path and its permissions"
                ) from None
        self._read_at = now


class CombinedCredentials(Credentials):
    """Several at once, as a kubeconfig user may have them: a client certificate in the handshake and a token in the
    head of each request. The first that has a header gives it.
    """

    __slots__ = ("parts",)

    def __init__(self, parts: Sequence[Credentials]) -> None:
        self.parts = tuple(parts)

    def __repr__(self) -> str:
        return f"CombinedCredentials({list(self.parts)!r})"

    @property
    def sends_secret(self) -> bool:
        """Whether one of them does."""
        return any(part.sends_secret for part in self.parts)

    def fresh(self, now: float) -> bool:
        """Whether all are."""
        return all(part.fresh(now) for part in self.parts)

    def renew(self, timeout: float | None = None) -> None:
        """Renews each."""
        for part in self.parts:
            part.renew(timeout)

    def header(self, now: float | None = None) -> str | None:
        """The first that there is."""
        return next((header for part in self.parts if (header := part.header(now)) is not None), None)

    @property
    def files(self) -> tuple[str, ...]:
        """Those of all."""
        return tuple(file for part in self.parts for file in part.files)

    def version(self) -> object:
        """Those of all."""
        return tuple(part.version() for part in self.parts)

    def load_into(self, context: ssl.SSLContext) -> None:
        """Loads each."""
        for part in self.parts:
            part.load_into(context)

    def rejected(self, taken: float) -> bool:
        """Whether one of them can be had anew."""
        return sum(part.rejected(taken) for part in self.parts) > 0  # each is told

    def complaint(self) -> str:
        """The first that there is."""
        return next((text for part in self.parts if (text := part.complaint())), "")

    def certificate_only(self) -> Credentials | None:
        """Those of them that go without a secret header."""
        left = [kept for part in self.parts if (kept := part.certificate_only()) is not None]
        return CombinedCredentials(left) if left else None


@dataclass(frozen=True, slots=True)
class Impersonation:
    """As whom an apiserver shall see us, if it lets us: ``user``, and its uid, groups and extra (kubectl's ``--as``).

    Kubelets know nothing of it: to them we stay who we are. Raises ValueError for what no header can carry.
    """

    user: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.user:
            raise ValueError("uid, groups and extra go with a user only")
        for value in (
            self.user,
            self.uid,
            *self.groups,
            *(value for values in self.extra.values() for value in values),
        ):
            if not value.isascii() or not (value.isprintable() and value == value.strip()):
                raise ValueError("its values must be ASCII, without control characters or blanks at their ends")

    def headers(self) -> tuple[tuple[str, str], ...]:
        """The headers that say so (``client-go: transport/round_trippers.go``)."""
        extra = [
            (f"Impersonate-Extra-{_escaped(key)}", value) for key, values in self.extra.items() for value in values
        ]
        uid = [("Impersonate-Uid", self.uid)] if self.uid else []
        groups = [("Impersonate-Group", group) for group in self.groups]
        return (("Impersonate-User", self.user), *uid, *groups, *extra)


def _escaped(key: str) -> str:
    """A key of extra as part of a header's name: what may not stand there, and ``%``, in percent escapes."""
    return "".join(
        chr(byte) if chr(byte) in _HEADER_NAME else f"%{byte:02X}" for byte in key.encode("utf-8", "surrogateescape")
    )


_HEADER_NAME: Final = frozenset("!#$&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


def _checked(token: str) -> str:
    """``token`` without surrounding blanks. Anything else that is not visible ASCII could forge a header line."""
    token = token.strip()
    if not token:
        raise CredentialsError("the bearer token is empty", hint="check the file or variable that it came from")
    if not all("!" <= c <= "~" for c in token):
        raise CredentialsError("the bearer token holds blanks or characters that no HTTP header may hold")
    return token


def _named(source: PathOrPEM) -> str:
    return "<bytes>" if isinstance(source, bytes) else repr(os.fspath(source))
