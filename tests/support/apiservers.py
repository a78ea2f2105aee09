"""Requests to a fake apiserver, and a scripted server in place of a kubelet behind one."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlencode

from fakekubelet import CertificateAuthority, FakeApiserver, FakeCluster
from fakekubelet.apiserver.nodes import node_document
from spdyproto.channels.events import StreamSet
from support.rawclient import Answer, ExecClient, HttpClient, Identity, Result, connect

TIMEOUT = 30.0


def pod_target(
    kind: str, argv: Sequence[str] = (), streams: StreamSet | None = None, *, pod: str = "default/demo", **more: str
) -> str:
    """The path and query of a pod's subresource, as kubectl writes them."""
    streams = streams or StreamSet()
    namespace, name = pod.split("/")
    query = [("command", word) for word in argv] + list(more.items())
    flags = {"stdin": streams.stdin, "stdout": streams.stdout, "stderr": streams.stderr, "tty": streams.tty}
    query += [(flag, "true") for flag, wanted in flags.items() if wanted]
    return f"/api/v1/namespaces/{quote(namespace)}/pods/{quote(name)}/{kind}?{urlencode(query)}"


class Api:
    """A user of an apiserver, by certificate; without a name, one of ``system:masters``."""

    def __init__(
        self, server: FakeApiserver | FakeCluster, user: str = "admin", groups: Iterable[str] | None = None
    ) -> None:
        self.server = server
        groups = ("system:masters",) if groups is None else groups
        self.identity: Identity = server.authority.issue_client(user, groups)

    def connect(self, *, receive_buffer: int = 0) -> ssl.SSLSocket:
        return connect(self.server.url, self.server.ca, self.identity, receive_buffer=receive_buffer)

    def request(self, method: str, target: str, headers: Iterable[tuple[str, str]] = (), body: bytes = b"") -> Answer:
        with HttpClient(self.connect()) as http:
            return http.request(method, target, headers, body)

    def get(self, target: str, headers: Iterable[tuple[str, str]] = ()) -> Any:
        """A document; the answer must be 200."""
        answer = self.request("GET", target, headers)
        assert answer.status == 200, answer
        return json.loads(answer.body)

    def refusal(self, target: str, method: str = "GET", headers: Iterable[tuple[str, str]] = ()) -> tuple[int, str]:
        """The code and the message of a Status."""
        answer = self.request(method, target, headers)
        status = json.loads(answer.body)
        assert (status["kind"], status["status"], status["code"]) == ("Status", "Failure", answer.status), answer
        return answer.status, status["message"]

    def open(
        self, argv: Sequence[str], streams: StreamSet | None = None, *, websocket: str | None = None, **more: str
    ) -> ExecClient:
        streams = streams or StreamSet()
        target = pod_target("exec", argv, streams, **more)
        return ExecClient.open(self.connect(), argv, streams=streams, websocket=websocket, target=target)

    def run(
        self, argv: Sequence[str], *, stdin: bytes | None = None, websocket: str | None = None, **more: str
    ) -> Result:
        """A whole exec."""
        with self.open(argv, StreamSet(stdin=stdin is not None), websocket=websocket, **more) as client:
            if stdin is not None:
                client.send(stdin, eof=client.session.can_close_stdin)
            return client.finish()


def pod_document(name: str, node: str, containers: Sequence[str] = ("main",), **spec: Any) -> dict[str, Any]:
    """A pod that an apiserver knows, whether or not a kubelet does."""
    namespace, short = name.split("/")
    listed = [{"name": each, "image": "registry.invalid/x"} for each in containers]
    document: dict[str, Any] = {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {"name": short, "namespace": namespace},
        "spec": {"containers": listed, **spec},
        "status": {"phase": "Running"},
    }
    if node:
        document["spec"]["nodeName"] = node
    return document


class ScriptedKubelet:
    """A TLS server that answers the first request of each connection with fixed bytes, and remembers everything.

    `says` comes back after the head of a request; `then` after that. With `closes` the connection ends behind them;
    else it is kept until the other side ends it. ``received[i]`` is all that came on connection i, complete once
    ``ended[i]`` is set.
    """

    def __init__(self, authority: CertificateAuthority, folder: Path, says: bytes, *, closes: bool = False) -> None:
        self._says, self._closes = says, closes
        leaf = authority.issue_server(("127.0.0.1",))
        pair = folder / "scripted.pem"
        pair.write_bytes(leaf.cert_pem + leaf.key_pem)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pair)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.received: list[bytearray] = []
        self.ended: list[threading.Event] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def node(self, name: str = "node-1") -> dict[str, Any]:
        return node_document(name, "127.0.0.1", self.port, release="1.31.0")

    def __enter__(self) -> ScriptedKubelet:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(TIMEOUT)

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            self.received.append(bytearray())
            self.ended.append(threading.Event())
            thread = threading.Thread(target=self._serve, args=(plain, self.received[-1], self.ended[-1]), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, plain: socket.socket, received: bytearray, ended: threading.Event) -> None:
        plain.settimeout(TIMEOUT)
        try:
            with self._context.wrap_socket(plain, server_side=True) as sock:
                answered = False
                while data := sock.recv(65536):
                    received += data
                    if not answered and b"\r\n\r\n" in received:
                        answered = True
                        sock.sendall(self._says)
                        if self._closes:
                            return
        except OSError:
            pass
        finally:
            ended.set()

    def wait_ended(self, number: int = 0) -> bytes:
        """All that came on a connection, after its end."""
        assert self.ended[number].wait(TIMEOUT), "the connection to the kubelet is still open"
        return bytes(self.received[number])
