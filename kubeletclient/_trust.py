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
from typing import Final, Literal, TypeAlias

from kubeletclient._proxies import Proxy, from_environment, parse_proxy
from kubeletclient.credentials import Credentials, Impersonation
from kubeletclient.endpoints import Endpoint
from kubeletclient.errors import CredentialsError, ProxyError, UnverifiedTokenError
from spdyproto.pem import PathOrPEM, pem_file
from spdyproto.tls import client_context

__all__ = ["Trust"]

Headers: TypeAlias = tuple[tuple[str, str], ...]

ProxyChoice: TypeAlias = str | Literal[False] | None
"""The URL of a proxy; None for what the environment says; False for none whatever it says."""

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
        impersonate: Impersonation | None = None,
        proxy: ProxyChoice = None,
        pinned: PathOrPEM | None = None,
    ) -> None:
        given = [name for name, value in (("ca=", ca), ("verify=False", not verify), ("pinned=", pinned)) if value]
        if len(given) > 1:
            raise CredentialsError(f"{' and '.join(given)} contradict each other", hint="leave one of them out")
        self.credentials = credentials
        self.server_name = server_name
        self.verify = verify
        self.impersonate = impersonate
        self.chosen_proxy = proxy
        self._proxy: Proxy | Literal[False] | None = _proxy(proxy)
        self.pinned = pinned
        """The only certificate that the server may present; its name and who signed it do not matter then."""
        self.ca = ca
        self._ca = ca if pinned is None else pinned
        self._allow_unverified_token = allow_unverified_token
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None
        self._proxy_context: ssl.SSLContext | None = None
        self._stamp: tuple[object, ...] = ()
        self._looked_at = float("-inf")

    def check(self, endpoint: Endpoint) -> None:
        """Refuse, before anything is sent, to hand credentials to a server that cannot be told from an impostor."""
        if self.credentials is None:
            return
        if self.credentials.sends_secret:
            if not (endpoint.secure and self.verify) and not self._allow_unverified_token:
                why = "the server's certificate is not verified" if endpoint.secure else "the connection is plain HTTP"
                raise UnverifiedTokenError(
                    f"the bearer token or password was not sent: {why}",
                    hint="verify the server (https, ca=), or allow this by name with allow_unverified_token=True",
                    url=str(endpoint),
                )
        elif not endpoint.secure:
            raise CredentialsError(
                "a client certificate cannot be presented over plain HTTP", hint="use https://", url=str(endpoint)
            )

    def ready(self, now: float) -> ssl.SSLContext | None:
        """The context if no file needs to be read and no program run now, else None: ``context`` has to be called."""
        context = self._context
        if context is None or now - self._looked_at >= _RECHECK:
            return None
        credentials = self.credentials
        if credentials is None:
            return context
        return context if credentials.fresh(now) and self._stamp[0] == credentials.version() else None

    def context(self, timeout: float | None = None) -> ssl.SSLContext:
        """The context, built or built anew when due. Reads files, and runs a credential plugin, for at most
        ``timeout`` seconds. Raises CredentialsError.
        """
        if self.credentials is not None:
            self.credentials.renew(timeout)
        with self._lock:
            now = time.monotonic()
            ready = self.ready(now)
            if ready is not None:
                return ready
            stamp = (self._version(), *map(_stamp, self._files()))
            if self._context is None or stamp != self._stamp:
                self._context = self._build()
                self._stamp = stamp
            self._looked_at = now
            return self._context

    def headers(self, endpoint: Endpoint, now: float) -> Headers | Callable[[float | None], Headers]:
        """Who is asking, as headers; or a function that answers them and may read a file or run a program, for so
        many seconds. Raises UnverifiedTokenError.
        """
        if self.credentials is None or self.credentials.fresh(now):
            return self._headers(endpoint)

        def renewed(timeout: float | None = None) -> Headers:
            assert self.credentials is not None
            self.credentials.renew(timeout)
            return self._headers(endpoint)

        return renewed

    def _headers(self, endpoint: Endpoint) -> Headers:
        self.check(endpoint)  # again: a plugin may have changed its mind since
        header = None if self.credentials is None else self.credentials.header()
        authorization = () if header is None else (("Authorization", header),)
        return (*authorization, *(self.impersonate.headers() if self.impersonate is not None else ()))

    def rejected(self, taken: float) -> bool:
        """The server answered 401 to what was taken then: whether other credentials may be had. May read a file."""
        if self.credentials is None or not self.credentials.rejected(taken):
            return False
        self._looked_at = float("-inf")
        return True

    def complaint(self) -> str:
        """What a server may have against our credentials, as far as it can be told from here. May read a file."""
        return "" if self.credentials is None else self.credentials.complaint()

    def proxy(self, endpoint: Endpoint) -> Proxy | None:
        """The proxy on the way to ``endpoint``. Raises ProxyError for an environment that names none that can be."""
        if self._proxy is not None:
            return self._proxy or None
        try:
            return from_environment(endpoint, os.environ)
        except ValueError as error:
            raise ProxyError(str(error), hint="correct that variable", url=str(endpoint)) from None

    def proxy_context(self) -> ssl.SSLContext:
        """For TLS to the proxy itself: the system's authorities and our CA are trusted, and no client certificate is
        shown. It is verified even where the server is not, for our requests and the proxy's password pass it.
        """
        with self._lock:
            if self._proxy_context is None:
                context = client_context(alpn=("http/1.1",))
                if self._ca is not None and self.pinned is None:
                    extra = self._ca
                    try:
                        with pem_file(extra) as path:
                            context.load_verify_locations(cafile=path)
                    except OSError as error:
                        raise self._unusable_ca(error) from error
                self._proxy_context = context
            return self._proxy_context

    def _version(self) -> object:
        return None if self.credentials is None else self.credentials.version()

    def _files(self) -> tuple[str, ...]:
        files = () if self.credentials is None else self.credentials.files
        if self._ca is None or isinstance(self._ca, bytes):
            return files
        return (*files, os.fspath(self._ca))

    def _build(self) -> ssl.SSLContext:
        try:
            context = client_context(ca=self._ca, verify=self.verify, check_hostname=self.pinned is None)
        except OSError as error:
            raise self._unusable_ca(error) from error
        if self.credentials is not None:
            self.credentials.load_into(context)
        return context

    def _unusable_ca(self, error: OSError) -> CredentialsError:
        if isinstance(error, ssl.SSLError):
            return CredentialsError(
                "the CA is not PEM that OpenSSL can use", hint="give one or more certificates in PEM"
            )
        return CredentialsError(
            f"the CA file {self._ca!r} cannot be read: {error.strerror or error}",
            hint="check the path and its permissions",
        )


def _proxy(choice: ProxyChoice) -> Proxy | Literal[False] | None:
    if choice is None or choice is False:
        return choice
    try:
        return parse_proxy(choice)
    except ValueError as error:
        raise CredentialsError(
            f"the URL of the proxy cannot be used: {error}",
            hint="give http://[USER:PASSWORD@]HOST:PORT, https or socks5",
        ) from None


def _stamp(path: str) -> object:
    """What changes when a file is replaced or rewritten; None when it cannot be looked at."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
