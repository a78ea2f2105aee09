"""Who we are: client certificates and bearer tokens.

Nothing here shows a secret: not ``repr``, not an error, not a pickle. Key material given as bytes goes to OpenSSL
through memory (OpenSSL's binding reads files only, so an anonymous in-memory file stands in) and never stays on
disk.
"""

from __future__ import annotations

import os
import ssl
import time
from typing import Final, NoReturn, TypeAlias

from kubeletclient.errors import CredentialsError
from spdyproto.pem import PathOrPEM, pem_file

__all__ = ["BearerToken", "ClientCertificate", "Credentials"]

_TOKEN_FILE_SIZE: Final = 64 * 1024
"""Bytes read from a token file. Service account tokens are about 1 KiB; an HTTP head takes 64 KiB."""


class ClientCertificate:
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


class BearerToken:
    """A bearer token, given as text or as a file that is read again when it is older than 50 seconds.

    The token leaves only over a verified TLS connection, unless ``Kubelet(..., allow_unverified_token=True)`` says
    otherwise. A file that cannot be read any more keeps the last token in use, as client-go does
    (``transport/token_source.go``).
    """

    __slots__ = ("_file", "_read_at", "_token")

    MAX_AGE: Final = 50.0
    """Seconds: client-go caches a token file for one minute and takes off ten seconds."""

    def __init__(self, token: str | None = None, *, file: str | os.PathLike[str] | None = None) -> None:
        if (token is None) == (file is None):
            raise CredentialsError("give a bearer token or a file that holds one, and not both")
        self._file = None if file is None else os.fspath(file)
        self._token = None if token is None else _checked(token)
        self._read_at = float("-inf")

    def __repr__(self) -> str:
        return f"BearerToken(file={self._file!r})" if self._file is not None else "BearerToken(<hidden>)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a BearerToken is a secret and is not pickled: build it again in the other process")

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


Credentials: TypeAlias = ClientCertificate | BearerToken


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
