"""What an application of the fakes' HTTP server can do: await, stream, be cancelled, refuse, take a connection over."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import AsyncIterator

import pytest

from fakekubelet.connection import Timeouts
from fakekubelet.listening import Settings
from fakekubelet.messages import Answer, Cut, Request, Response, Streaming, Upgrade, plain
from fakekubelet.upgrades import Carrier, SessionHost
from spdyproto.types import Buffer
from support.apps import AppServer
from support.rawclient import HttpClient, connect


def client(server: AppServer) -> HttpClient:
    return HttpClient(connect(server.url, server.ca))


def read_all(server: AppServer, head: bytes) -> bytes:
    with connect(server.url, server.ca) as sock:
        sock.sendall(head)
        return b"".join(iter(lambda: sock.recv(65536), b""))


def half_close(sock: socket.socket) -> None:
    """`SSLSocket.shutdown` would forget its TLS."""
    with socket.socket(fileno=os.dup(sock.fileno())) as twin:
        twin.shutdown(socket.SHUT_WR)


def read_rest(sock: socket.socket) -> bytes:
    """Up to the end, or to a reset."""
    got = b""
    try:
        while data := sock.recv(65536):
            got += data
    except OSError:
        pass
    return got


GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CLOSE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def test_handlers_may_wait_and_pipelined_requests_keep_their_order() -> None:
    async def handler(request: Request) -> Answer:
        await asyncio.sleep(0.05 if request.path == "/slow" else 0)
        return plain(200, request.path)

    with AppServer(handler) as server:
        answer = read_all(server, GET.replace(b"/ ", b"/slow ") + GET.replace(b"/ ", b"/fast ") + CLOSE)
        assert answer.index(b"/slow") < answer.index(b"/fast")
        assert answer.count(b"HTTP/1.1 200 OK") == 3


def test_a_handler_sees_the_body_the_form_and_the_client() -> None:
    seen: list[Request] = []

    async def handler(request: Request) -> Answer:
        seen.append(request)
        return plain(200, ",".join(request.form_values("cmd")))

    with AppServer(handler) as server:
        identity = server.authority.issue_client("alice")
        with HttpClient(connect(server.url, server.ca, identity)) as http:
            form = [("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")]
            assert http.request("POST", "/run?cmd=b&x=%2f", form, body=b"cmd=a+c&y=1").body == b"a c,b"
            assert http.request("POST", "/run?cmd=b", body=b"cmd=a").body == b"b"
    request = seen[0]
    assert (request.target, request.peer, request.version) == ("/run?cmd=b&x=%2f", "127.0.0.1", "1.1")
    assert len(request.certificates) >= 1
    assert seen[1].body == b"cmd=a"
    assert "cmd=a" not in repr(seen[1])


def test_a_stream_is_chunked_and_its_head_comes_first() -> None:
    go_on = threading.Event()

    async def body() -> AsyncIterator[Buffer]:
        await asyncio.to_thread(go_on.wait)
        yield b"one"
        yield b""
        yield memoryview(b"two")

    async def handler(request: Request) -> Answer:
        return Streaming(body(), headers=[("Content-Type", "text/plain")])

    with AppServer(handler) as server, connect(server.url, server.ca) as sock:
        sock.sendall(GET)
        head = sock.recv(65536)
        assert b"\r\nTransfer-Encoding: chunked\r\n" in head
        assert head.endswith(b"\r\n\r\n")
        go_on.set()
        rest = b""
        while not rest.endswith(b"0\r\n\r\n"):
            rest += sock.recv(65536)
        assert rest == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
        with client(server) as http:
            assert http.request("HEAD", "/").body == b""
            assert http.request("GET", "/").body == b"onetwo"
        assert read_all(server, b"GET / HTTP/1.0\r\n\r\n").endswith(b"\r\n\r\nonetwo")


def test_a_stream_waits_for_its_reader_and_ends_when_he_leaves() -> None:
    made = 0
    ended = threading.Event()

    async def body() -> AsyncIterator[Buffer]:
        nonlocal made
        try:
            while True:
                made += 1 << 16
                yield bytes(1 << 16)
        finally:
            ended.set()

    async def handler(request: Request) -> Answer:
        return Streaming(body())

    with AppServer(handler) as server:
        sock = connect(server.url, server.ca)
        sock.sendall(GET)
        before = -1
        while before != made:
            before = made
            time.sleep(0.3)  # nothing tells that nothing happens
        assert made < 64 << 20
        sock.close()
        assert ended.wait(30)


@pytest.mark.parametrize("politely", [True, False])
def test_a_quiet_stream_is_cancelled_when_its_reader_leaves(politely: bool) -> None:
    cancelled = threading.Event()

    async def body() -> AsyncIterator[Buffer]:
        yield b"x"
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def handler(request: Request) -> Answer:
        return Streaming(body())

    with AppServer(handler) as server:
        sock = connect(server.url, server.ca)
        sock.sendall(GET)
        while not sock.recv(65536).endswith(b"x\r\n"):
            pass
        if politely:
            sock.shutdown(socket.SHUT_WR)
        else:
            sock.close()
        assert cancelled.wait(30)
        sock.close()


def test_closing_the_server_cancels_what_is_under_way() -> None:
    started, cancelled = threading.Event(), threading.Event()

    async def handler(request: Request) -> Answer:
        started.set()
        try:
            await asyncio.sleep(600)
        finally:
            cancelled.set()
        return plain(200, "")

    with AppServer(handler) as server:
        sock = connect(server.url, server.ca)
        sock.sendall(GET)
        assert started.wait(30)
    assert cancelled.is_set()
    sock.close()


def test_who_only_closes_his_side_behind_a_request_is_answered() -> None:
    async def handler(request: Request) -> Answer:
        await asyncio.sleep(0.05)
        return plain(200, "late")

    with AppServer(handler) as server, connect(server.url, server.ca) as sock:
        sock.sendall(GET)
        half_close(sock)
        assert b"".join(iter(lambda: sock.recv(65536), b"")).endswith(b"late")


def test_who_sends_nothing_more_may_read_slowly_and_does_not_hold_up_a_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fakekubelet.http1.LEAVING", 0.05)
    cancelled = threading.Event()
    size = 32 << 20  # more than the network takes at once

    async def handler(request: Request) -> Answer:
        if request.path == "/":
            return Response(200, bytes(size))
        try:
            await asyncio.sleep(600)
        finally:
            cancelled.set()
        return plain(200, "")

    with AppServer(handler) as server:
        with connect(server.url, server.ca) as sock:
            sock.sendall(GET)
            half_close(sock)
            time.sleep(0.5)  # longer than somebody who waits for a handler is given
            assert len(read_rest(sock)) > size
        with connect(server.url, server.ca) as sock:
            sock.sendall(GET.replace(b"/ ", b"/slow "))
            half_close(sock)
            assert cancelled.wait(30)
            assert read_rest(sock) == b""


@pytest.mark.parametrize("kind", ["cut", "raise", "body"])
def test_an_answer_that_is_cut_off_looks_like_that(kind: str) -> None:
    async def body() -> AsyncIterator[Buffer]:
        yield b"half"
        raise ConnectionError("the backend went away")

    async def handler(request: Request) -> Answer:
        if kind == "cut":
            return Cut()
        if kind == "raise":
            raise ConnectionResetError
        return Streaming(body())

    with AppServer(handler) as server, connect(server.url, server.ca) as sock:
        sock.sendall(GET)
        got = read_rest(sock)
        assert not got.endswith(b"0\r\n\r\n")
        assert (b"half" in got) is (kind == "body")


def test_a_fault_of_a_handler_cuts_one_connection_and_is_told_at_the_end() -> None:
    async def handler(request: Request) -> Answer:
        if request.path == "/bad":
            raise ZeroDivisionError("a bug")
        return plain(200, "ok")

    server = AppServer(handler).start()
    with connect(server.url, server.ca) as sock:
        sock.sendall(GET.replace(b"/ ", b"/bad "))
        assert read_rest(sock) == b""
    with client(server) as http:
        assert http.request("GET", "/").body == b"ok"
    with pytest.raises(RuntimeError, match="failed while it ran") as caught:
        server.close()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_bodies_are_bounded_by_what_the_server_says() -> None:
    async def handler(request: Request) -> Answer:
        return Response(200, str(len(request.body)).encode())

    with AppServer(handler, Settings(body_limit=1000)) as server:
        with client(server) as http:
            assert http.request("POST", "/", body=bytes(1000)).body == b"1000"
        with client(server) as http:
            assert http.request("POST", "/", body=bytes(1001)).status == 413


def test_what_is_piled_up_behind_a_request_is_not_read() -> None:
    go_on = threading.Event()

    async def handler(request: Request) -> Answer:
        await asyncio.to_thread(go_on.wait)
        return plain(200, "")

    with AppServer(handler) as server, connect(server.url, server.ca) as sock:
        sock.settimeout(0.5)
        sent = 0
        try:
            for _ in range(4000):
                sock.sendall(GET * 1000)
                sent += 1
        except TimeoutError:
            pass
        go_on.set()
        assert sent < 4000
        sock.settimeout(30)
        assert sock.recv(1000).startswith(b"HTTP/1.1 200 OK")


class Echo:
    """The smallest session: bytes back, and its own engine."""

    def __init__(self, carrier: Carrier, host: SessionHost, log: list[str]) -> None:
        self.engine = self
        self.starved = False
        self.log = log
        self._carrier, self._host = carrier, host
        self._queue: list[Buffer] = []

    @property
    def pending_bytes(self) -> int:
        return sum(map(len, self._queue))

    def data_to_send(self) -> list[Buffer]:
        taken, self._queue = self._queue, []
        return taken

    def next_deadline(self) -> float | None:
        return None

    def start(self, now: float) -> None:
        self.log.append("start")

    def receive(self, plain: Buffer, now: float) -> bool:
        data = bytes(plain)
        if data == b"bye":
            self._host.session_over(self)
            self._carrier.end(lost=False)
        self._queue.append(data)
        return True

    def receive_eof(self, now: float, *, clean: bool) -> None:
        self.log.append("eof")
        self._host.session_over(self)

    def handle_timeout(self, now: float) -> None:
        pass

    def wrote(self) -> bool:
        return True

    def hang_up(self) -> None:
        self.log.append("hang up")
        self._carrier.end(lost=True)

    def room(self) -> None:
        pass

    async def close(self) -> None:
        self.log.append("close")


def test_a_connection_can_become_a_session_of_any_kind() -> None:
    log: list[str] = []

    async def handler(request: Request) -> Answer:
        await asyncio.sleep(0)
        headers = [(b"Connection", b"Upgrade"), (b"Upgrade", b"echo")]
        return Upgrade(headers, lambda carrier, host: Echo(carrier, host, log))

    upgrade = [("Connection", "Upgrade"), ("Upgrade", "echo")]
    with AppServer(handler, Settings(timeouts=Timeouts(stream_idle=600))) as server:
        with client(server) as http:
            answer = http.request("GET", "/", upgrade, early=b"early ")
            assert answer.status == 101
            got = answer.surplus
            http.sock.sendall(b"hello")
            while got != b"early hello":
                got += http.sock.recv(100)
            http.sock.sendall(b"bye")
            assert http.sock.recv(100) == b"bye"
            assert http.sock.recv(100) == b""
        assert log == ["start"]
        with client(server) as http:
            assert http.request("GET", "/", upgrade).status == 101
            http.sock.shutdown(socket.SHUT_RDWR)
        deadline = time.monotonic() + 30
        while log != ["start", "start", "eof"]:
            assert time.monotonic() < deadline, log
            time.sleep(0.01)
        with client(server) as http:
            assert http.request("GET", "/", upgrade).status == 101
            server.close()
    assert log == ["start", "start", "eof", "start", "eof", "close"]
