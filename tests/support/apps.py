"""A server of the fake's kind around any application, for tests of the machinery itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fakekubelet.background import BackgroundServer
from fakekubelet.listening import BACKLOG, Listening, Settings
from fakekubelet.messages import Answer, Request
from fakekubelet.pki import CertificateAuthority
from fakekubelet.servertls import ServerTLS

Handler = Callable[[Request], Awaitable[Answer]]


class AppServer(BackgroundServer):
    """TLS on a free port of loopback; every request goes to `handler`."""

    def __init__(
        self, handler: Handler, settings: Settings | None = None, alpn: tuple[str, ...] = ("http/1.1",)
    ) -> None:
        super().__init__("the test's server", "appserver")
        self.authority = CertificateAuthority.create()
        self.url = ""
        self._handler = handler
        self._settings = settings or Settings()
        self._alpn = alpn

    @property
    def ca(self) -> bytes:
        return self.authority.cert_pem

    async def answer(self, request: Request) -> Answer:
        return await self._handler(request)

    async def _serve(self, loop: asyncio.AbstractEventLoop, ready: Callable[[], Awaitable[object]]) -> None:
        leaf = self.authority.issue_server(["localhost", "127.0.0.1"])
        tls = ServerTLS(leaf, client_ca=self.ca, alpn=self._alpn)
        listening = Listening(loop, self, tls.pipe, self._settings)
        server = await loop.create_server(listening.connection, "127.0.0.1", 0, backlog=BACKLOG)
        try:
            self.url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            await ready()
        finally:
            server.close()
            await listening.close()
