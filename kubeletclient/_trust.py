"""Whom we trust, and as whom we appear: one ``SSLContext`` for each client, built when it is first needed.

A default context costs 44 ms, because it loads the system's whole bundle of authorities; one with a CA of its own
costs 1 ms. So a client builds one context and shares it between all its connections and threads. It is built anew
when one of the files that it came from has changed, so that rotated certificates are used from the next connection
on.
"""

from __future__ import annotations

import os
import ssl
import threading
import time
from collections.abc import Callable
from typing import Final

from kubeletclient.credentials import BearerToken, ClientCertificate, Credentials
from kubeletclient.endpoints import Endpoint
from kubeletclient.errors import CredentialsError, UnverifiedTokenError
from spdyproto.pem import PathOrPEM
from spdyproto.tls import client_context

__all__ = ["Trust"]

_RECHECK: Final = 1.0
"""Seconds between two looks at the files: client-go's value (``transport/cert_rotation.go``)."""


class Trust:
    """The TLS settings and the credentials of one client. Safe to share between threads."""

    def __init__(
        self,
        *,
        ca: PathOrPEM | None = None,
        verify: bool = True,
        credentials: Credentials | None = None,
        server_name: str | None = None,
        allow_unverified_token: bool = False,
    ) -> None:
        if ca is not None and not verify:
            raise CredentialsError("ca= and verify=False contradict each other", hint="leave one of them out")
        self.credentials = credentials
        self.server_name = server_name
        self.verify = verify
        self._ca = ca
        self._allow_unverified_token = allow_unverified_token
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None
        self._stamp: tuple[object, ...] = ()
        self._looked_at = float("-inf")

    def check(self, endpoint: Endpoint) -> None:
        """Refuse, before anything is sent, to hand credentials to a server that cannot be told from an impostor."""
        if isinstance(self.credentials, BearerToken):
            if not (endpoint.secure and self.verify) and not self._allow_unverified_token:
                why = "the server's certificate is not verified" if endpoint.secure else "the connection is plain HTTP"
                raise UnverifiedTokenError(
                    f"the bearer token was not sent: {why}",
                    hint="verify the server (https, ca=), or allow this by name with allow_unverified_token=True",
                    url=str(endpoint),
                )
        elif self.credentials is not None and not endpoint.secure:
            raise CredentialsError(
                "a client certificate cannot be presented over plain HTTP", hint="use https://", url=str(endpoint)
            )

    def ready(self, now: float) -> ssl.SSLContext | None:
        """The context if it needs no file to be read now, else None: then ``context`` has to be called."""
        context = self._context
        return context if context is not None and now - self._looked_at < _RECHECK else None

    def context(self) -> ssl.SSLContext:
        """The context, built or built anew when due. Reads files. Raises CredentialsError."""
        with self._lock:
            now = time.monotonic()
            ready = self.ready(now)
            if ready is not None:
                return ready
            stamp = tuple(map(_stamp, self._files()))
            if self._context is None or stamp != self._stamp:
                self._context = self._build()
                self._stamp = stamp
            self._looked_at = now
            return self._context

    def authorization(self, now: float) -> str | Callable[[], str] | None:
        """The value of ``Authorization``; or a function that answers it and may read a file; or None."""
        credentials = self.credentials
        if not isinstance(credentials, BearerToken):
            return None
        return credentials.header(now) if credentials.fresh(now) else credentials.header

    def _files(self) -> tuple[str, ...]:
        files = self.credentials.files if isinstance(self.credentials, ClientCertificate) else ()
        if self._ca is None or isinstance(self._ca, bytes):
            return files
        return (*files, os.fspath(self._ca))

    def _build(self) -> ssl.SSLContext:
        try:
            context = client_context(ca=self._ca, verify=self.verify)
        except ssl.SSLError as error:
            raise CredentialsError(
                "the CA is not PEM that OpenSSL can use", hint="give one or more certificates in PEM"
            ) from error
        except OSError as error:
            raise CredentialsError(
                f"the CA file {self._ca!r} cannot be read: {error.strerror or error}",
                hint="check the path and its permissions",
            ) from error
        if isinstance(self.credentials, ClientCertificate):
            self.credentials.load_into(context)
        return context


def _stamp(path: str) -> object:
    """What changes when a file is replaced or rewritten; None when it cannot be looked at."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
