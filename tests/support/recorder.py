"""An HTTPS server that records who asked for what, as an apiserver would see it before it judges."""

from __future__ import annotations

import ssl
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import trustme
from cryptography import x509

__all__ = ["Recorder", "Request"]

_IDENTITY = ("authorization", "impersonate-")


@dataclass(frozen=True)
class Request:
    """One request: its path, the headers that say who is asking (names in lower case, sorted), the name that was asked
    for in the handshake, and the common name of the client's certificate.
    """

    path: str
    identity: tuple[tuple[str, str], ...]
    server_name: str | None
    certificate: str | None


@dataclass
class Recorder:
    """Serves ``{}`` until the block ends, or the statuses in ``answers``, one for each request. ``secure=False`` serves
    plain HTTP.
    """

    authority: trustme.CA
    secure: bool = True
    names: tuple[str, ...] = ("localhost", "127.0.0.1", "other.test")
    requests: list[Request] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)

    def __enter__(self) -> Self:
        recorder = self
        names: dict[int, str | None] = {}

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                certificate = None
                if isinstance(self.connection, ssl.SSLSocket):
                    der = self.connection.getpeercert(binary_form=True)
                    if der:
                        subject = x509.load_der_x509_certificate(der).subject
                        certificate = str(subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value)
                identity = [(name.lower(), value) for name, value in self.headers.items()]
                recorder.requests.append(
                    Request(
                        self.path,
                        tuple(sorted(pair for pair in identity if pair[0].startswith(_IDENTITY))),
                        names.get(id(self.connection)),
                        certificate,
                    )
                )
                self.send_response(recorder.answers.pop(0) if recorder.answers else 200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", "2")
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(b"{}")
                self.close_connection = True

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing."""

        class Server(ThreadingHTTPServer):
            def get_request(self) -> tuple[Any, Any]:
                connection, address = self.socket.accept()
                if not recorder.secure:
                    return connection, address
                wrapped = recorder._context(names).wrap_socket(
                    connection, server_side=True, do_handshake_on_connect=False
                )
                return wrapped, address

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Clients that leave in the handshake are part of the tests."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        port: int = self._server.server_address[1]
        return port

    @property
    def url(self) -> str:
        return f"{'https' if self.secure else 'http'}://127.0.0.1:{self.port}"

    def taken(self) -> list[Request]:
        """The requests so far, which are forgotten here."""
        requests, self.requests = self.requests, []
        return requests

    def _context(self, names: dict[int, str | None]) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(*self.names).configure_cert(context)
        self.authority.configure_trust(context)
        context.verify_mode = ssl.CERT_OPTIONAL
        context.sni_callback = lambda connection, name, _: names.update({id(connection): name})
        return context
