"""HTTP/2 of the fakes: the same answers as over HTTP/1.1, windows that are respected, and what a client cannot do."""

from __future__ import annotations

import asyncio
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from urllib.parse import urlsplit

import h2.config
import h2.connection
import h2.errors
import h2.events
import httpx
import pytest

from fakekubelet import Container, FakeApiserver, FakeKubelet, Pod
from fakekubelet.http2 import STREAMS
from fakekubelet.listening import Settings
from fakekubelet.messages import Answer, Cut, RawAnswer, Request, Streaming, plain
from spdyproto.limits import Limits
from spdyproto.types import Buffer
from support.apps import AppServer
from support.fakes import Caller
from support.rawclient import connect, exec_target

NONE: Mapping[str, str] = {}
LINES = 20_000
LOG = "".join(f"2024-05-01T10:00:00Z stdout F {index:06d} {'x' * 100}\n" for index in range(LINES))


class Http2Client:
    """One connection, driven by hand; nothing is acknowledged unless it is told to."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self.sock = sock
        self.http = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.http.initiate_connection()
        self.flush()

    def __enter__(self) -> Http2Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def flush(self) -> None:
        self.sock.sendall(self.http.data_to_send())

    def request(self, path: str, method: str = "GET", *, end: bool = True, headers: Mapping[str, str] = NONE) -> int:
        stream = self.http.get_next_available_stream_id()
        lines = [(":method", method), (":path", path), (":scheme", "https"), (":authority", "kubelet.test")]
        self.http.send_headers(stream, [*lines, *headers.items()], end_stream=end)
        self.flush()
        return stream

    def events(self) -> list[h2.events.Event]:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError
        found = self.http.receive_data(data)
        self.flush()
        return found

    def until(self, kind: type[h2.events.Event], stream: int | None = None) -> h2.events.Event:
        while True:
            for event in self.events():
                if isinstance(event, kind) and (stream is None or getattr(event, "stream_id", None) == stream):
                    return event

    def read(self, stream: int, *, acknowledge: bool = True) -> tuple[int, bytes]:
        """Status and body of an answer; other streams are not looked at."""
        status, body = 0, b""
        while True:
            for event in self.events():
                if getattr(event, "stream_id", stream) != stream:
                    continue
                if isinstance(event, h2.events.ResponseReceived):
                    status = int(next(value for name, value in event.headers or () if str(name) == ":status"))
                elif isinstance(event, h2.events.DataReceived):
                    body += event.data or b""
                    if acknowledge:
                        self.http.acknowledge_received_data(event.flow_controlled_length or 0, stream)
                        self.flush()
                elif isinstance(event, h2.events.StreamEnded):
                    return status, body
                elif isinstance(event, h2.events.StreamReset):
                    raise ConnectionResetError(event.error_code)


def dial(url: str, ca: bytes) -> Http2Client:
    context = ssl.create_default_context(cadata=ca.decode())
    context.set_alpn_protocols(["h2"])
    plain_socket = socket.create_connection(("127.0.0.1", urlsplit(url).port), 30)
    sock = context.wrap_socket(plain_socket, server_hostname="127.0.0.1")
    assert sock.selected_alpn_protocol() == "h2"
    return Http2Client(sock)


def serve(handler: object, settings: Settings | None = None) -> AppServer:
    return AppServer(handler, settings, alpn=("h2", "http/1.1"))  # type: ignore[arg-type]  # each test's own function


@pytest.fixture(scope="module")
def kubelet() -> Iterator[FakeKubelet]:
    pods = [Pod("default/demo", [Container("main", log=LOG, log_size=1 << 24), Container("other")])]
    with FakeKubelet(pods, anonymous=True) as server:
        yield server


@pytest.fixture(scope="module")
def client(kubelet: FakeKubelet) -> Iterator[httpx.Client]:
    context = ssl.create_default_context(cadata=kubelet.ca.decode())
    with httpx.Client(verify=context, http2=True, http1=False, base_url=kubelet.url) as http:
        yield http


SAME = [
    ("GET", "/healthz?verbose"),
    ("HEAD", "/healthz"),
    ("GET", "/pods"),
    ("POST", "/pods"),
    ("GET", "/nope"),
    ("GET", "/logs"),
    ("GET", "/logs/kubelet.log"),
    ("POST", "/run/default/demo/main?cmd=echo+a"),
    ("GET", "/containerLogs/default/demo/main?tailLines=10"),
    ("GET", "/containerLogs/default/demo/nope"),
    ("GET", exec_target(["true"])),
    ("GET", "/portForward/default/demo"),
]


@pytest.mark.parametrize(("method", "target"), SAME)
def test_answers_are_those_of_http_1(kubelet: FakeKubelet, client: httpx.Client, method: str, target: str) -> None:
    answer = client.request(method, target)
    with Caller(kubelet).http() as http:
        expected = http.request(method, target)
    assert answer.http_version == "HTTP/2"
    assert (answer.status_code, answer.content) == (expected.status, expected.body)
    hop = {"transfer-encoding", "date"}
    told = sorted((name.lower(), value) for name, value in expected.headers if name.lower() not in hop)
    assert sorted((name, value) for name, value in answer.headers.items() if name not in hop) == told


def test_an_exec_cannot_be_upgraded(client: httpx.Client) -> None:
    answer = client.post(exec_target(["true"]), headers={"X-Stream-Protocol-Version": "v4.channel.k8s.io"})
    assert (answer.status_code, answer.text) == (500, "Upgrade request required\n")


def test_a_body_arrives(client: httpx.Client) -> None:
    assert client.post("/run/default/demo/main", data={"cmd": "echo form"}).text == "form\n"


def test_many_requests_at_once(kubelet: FakeKubelet) -> None:
    with dial(kubelet.url, kubelet.ca) as http:
        streams = [http.request(f"/containerLogs/default/demo/main?tailLines={index}") for index in range(50)]
        ended: dict[int, int] = dict.fromkeys(streams, 0)
        left = set(streams)
        while left:
            for event in http.events():
                if isinstance(event, h2.events.DataReceived):
                    ended[event.stream_id or 0] += len(event.data or b"")
                    http.http.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
                elif isinstance(event, h2.events.StreamEnded):
                    left.discard(event.stream_id or 0)
            http.flush()
        assert list(ended.values()) == [index * 108 for index in range(50)]


def test_a_long_log_waits_for_the_window(kubelet: FakeKubelet) -> None:
    with dial(kubelet.url, kubelet.ca) as http:
        stream = http.request("/containerLogs/default/demo/main")
        got = 0
        while got < 65535:
            for event in http.events():
                if isinstance(event, h2.events.DataReceived):
                    got += len(event.data or b"")
        assert got == 65535
        other = http.request("/healthz/ping")
        http.until(h2.events.ResponseReceived, other)  # a head needs no window
        http.http.increment_flow_control_window(1 << 20)
        http.flush()
        http.until(h2.events.DataReceived, other)  # the connection's window is open, that stream's is not
        http.http.increment_flow_control_window(1 << 24, stream)
        http.http.increment_flow_control_window(1 << 24)
        http.flush()
        status, body = http.read(stream)
        assert (status, got + len(body)) == (0, LINES * 108)


def test_a_window_that_shrinks_is_respected(kubelet: FakeKubelet) -> None:
    with dial(kubelet.url, kubelet.ca) as http:
        http.http.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 10})
        http.flush()
        stream = http.request("/containerLogs/default/demo/main?tailLines=1")
        event = http.until(h2.events.DataReceived, stream)
        assert isinstance(event, h2.events.DataReceived)
        assert len(event.data or b"") <= 10
        http.http.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1000})
        http.flush()
        assert len(http.read(stream)[1]) == 108 - len(event.data or b"")


def test_a_reader_who_resets_his_stream_ends_the_iterator_and_nothing_else() -> None:
    ended = threading.Event()

    async def body() -> AsyncIterator[Buffer]:
        try:
            while True:
                yield b"x" * 1000
                await asyncio.sleep(0.001)
        finally:
            ended.set()

    async def handler(request: Request) -> Answer:
        return Streaming(body()) if request.path == "/endless" else plain(200, "ok")

    with serve(handler) as server, dial(server.url, server.ca) as http:
        stream = http.request("/endless")
        http.until(h2.events.DataReceived, stream)
        http.http.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
        http.flush()
        assert ended.wait(30)
        assert http.read(http.request("/")) == (200, b"ok")


def test_a_slow_reader_stops_the_iterator() -> None:
    made = 0

    async def body() -> AsyncIterator[Buffer]:
        nonlocal made
        while True:
            made += 1 << 16
            yield bytes(1 << 16)

    async def handler(request: Request) -> Answer:
        return Streaming(body())

    with serve(handler) as server, dial(server.url, server.ca) as http:
        http.http.increment_flow_control_window((1 << 30) - 65535)
        http.http.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: (1 << 30)})
        http.flush()
        http.request("/")
        before = -1
        while before != made:
            before = made
            time.sleep(0.3)  # nothing tells that nothing happens
        assert 0 < made < 64 << 20


def test_answers_that_http2_cannot_give_and_answers_that_fail() -> None:
    async def half() -> AsyncIterator[Buffer]:
        yield b"half"
        raise ConnectionError

    async def handler(request: Request) -> Answer:
        if request.path == "/raw":
            return RawAnswer(b"HTTP/1.1 403 Forbidden\r\n\r\n")
        if request.path == "/cut":
            return Cut()
        return Streaming(half()) if request.path == "/half" else plain(200, request.version)

    with serve(handler) as server, dial(server.url, server.ca) as http:
        assert http.read(http.request("/raw")) == (500, b"unable to upgrade: unable to hijack response\n")
        for path in ("/cut", "/half"):
            with pytest.raises(ConnectionResetError):
                http.read(http.request(path))
        assert http.read(http.request("/")) == (200, b"2")


def test_a_fault_of_a_handler_resets_its_stream_and_is_told() -> None:
    async def handler(request: Request) -> Answer:
        if request.path == "/bad":
            raise ZeroDivisionError
        return plain(200, "ok")

    server = serve(handler).start()
    with dial(server.url, server.ca) as http:
        with pytest.raises(ConnectionResetError):
            http.read(http.request("/bad"))
        assert http.read(http.request("/")) == (200, b"ok")
    with pytest.raises(RuntimeError, match="failed while it ran"):
        server.close()


async def echo(request: Request) -> Answer:
    return plain(200, f"{len(request.body)} {request.values(b'host')} {request.values(b'cookie')}")


def test_bodies_are_bounded() -> None:
    with serve(echo, Settings(body_limit=20_000)) as server, dial(server.url, server.ca) as http:
        stream = http.request("/", "POST", end=False)
        http.http.send_data(stream, bytes(15_000))
        http.http.send_data(stream, bytes(5_000), end_stream=True)
        http.flush()
        assert http.read(stream)[1] == b"20000 ['kubelet.test'] []"
        stream = http.request("/", "POST", end=False)
        http.http.send_data(stream, bytes(15_000))
        http.http.send_data(stream, bytes(5_001))
        http.flush()
        assert http.read(stream)[0] == 413
        assert http.read(http.request("/"))[0] == 200


def test_cookies_are_put_together_and_a_target_is_checked() -> None:
    with serve(echo) as server, dial(server.url, server.ca) as http:
        stream = http.http.get_next_available_stream_id()
        lines = [(":method", "GET"), (":path", "/"), (":scheme", "https"), ("host", "a")]
        http.http.send_headers(stream, [*lines, ("cookie", "a=1"), ("cookie", "b=2")], end_stream=True)
        http.flush()
        assert http.read(stream)[1] == b"0 ['a'] ['a=1; b=2']"
        assert http.read(http.request("*"))[0] == 400


def test_who_waits_to_be_told_to_go_on_is_told() -> None:
    with serve(echo) as server, dial(server.url, server.ca) as http:
        stream = http.request("/", "POST", end=False, headers={"expect": "100-continue"})
        http.until(h2.events.InformationalResponseReceived, stream)
        http.http.send_data(stream, b"abc", end_stream=True)
        http.flush()
        assert http.read(stream)[1].startswith(b"3 ")


def cut_off(http: Http2Client) -> h2.errors.ErrorCodes | int | None:
    """The code of the GOAWAY that the connection ends with."""
    code: h2.errors.ErrorCodes | int | None = None
    try:
        while True:
            for event in http.events():
                if isinstance(event, h2.events.ConnectionTerminated):
                    code = event.error_code
    except (EOFError, OSError):
        return code


def test_rapid_resets_end_the_connection() -> None:
    calls = 0

    async def handler(request: Request) -> Answer:
        nonlocal calls
        calls += 1
        await asyncio.sleep(600)
        return plain(200, "")

    with serve(handler) as server, dial(server.url, server.ca) as http:
        try:
            for _ in range(1000):
                stream = http.request("/")
                http.http.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
            http.flush()
        except OSError:
            pass
        assert cut_off(http) in (h2.errors.ErrorCodes.ENHANCE_YOUR_CALM, None)
        assert calls < 300


def test_a_head_that_is_too_long_ends_the_connection() -> None:
    with serve(echo, Settings(limits=Limits(http_head=16384))) as server, dial(server.url, server.ca) as http:
        http.request("/", headers={f"x-{index}": "y" * 1000 for index in range(40)})
        assert cut_off(http) == h2.errors.ErrorCodes.ENHANCE_YOUR_CALM


def test_there_are_no_more_streams_than_it_says() -> None:
    async def handler(request: Request) -> Answer:
        await asyncio.sleep(600)
        return plain(200, "")

    with serve(handler) as server, dial(server.url, server.ca) as http:
        http.until(h2.events.RemoteSettingsChanged)
        assert http.http.remote_settings.max_concurrent_streams == STREAMS
        # and now as if it had not said so
        http.http.remote_settings._settings[h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS].append(10_000)
        http.http.remote_settings.acknowledge()
        for _ in range(STREAMS + 1):
            http.request("/")
        assert cut_off(http) == h2.errors.ErrorCodes.PROTOCOL_ERROR


def test_who_makes_it_answer_for_nothing_is_cut_off() -> None:
    with serve(echo) as server, dial(server.url, server.ca) as http:
        ping = b"\x00\x00\x08\x06\x00\x00\x00\x00\x00" + bytes(8)
        http.sock.sendall(ping * 200)
        http.sock.sendall(ping * 2000)
        assert cut_off(http) == h2.errors.ErrorCodes.ENHANCE_YOUR_CALM


def test_what_is_no_http2_ends_the_connection() -> None:
    with serve(echo) as server, dial(server.url, server.ca) as http:
        http.sock.sendall(b"\x00\x00\x04\x08\x00\x00\x00\x00\x00" + bytes(4))  # WINDOW_UPDATE by nothing
        assert cut_off(http) == h2.errors.ErrorCodes.PROTOCOL_ERROR


def test_a_client_that_goes_away_is_served_to_the_end() -> None:
    go_on = threading.Event()

    async def handler(request: Request) -> Answer:
        await asyncio.to_thread(go_on.wait)
        return plain(200, "late")

    with serve(handler) as server, dial(server.url, server.ca) as http:
        stream = http.request("/")
        http.sock.sendall(b"\x00\x00\x08\x07\x00\x00\x00\x00\x00" + bytes(8))  # GOAWAY, NO_ERROR
        go_on.set()
        assert http.read(stream) == (200, b"late")
        assert cut_off(http) is None


def test_closing_the_server_cancels_what_is_under_way() -> None:
    started, cancelled = threading.Event(), threading.Event()

    async def handler(request: Request) -> Answer:
        started.set()
        try:
            await asyncio.sleep(600)
        finally:
            cancelled.set()
        return plain(200, "")

    with serve(handler) as server:
        http = dial(server.url, server.ca)
        http.request("/")
        assert started.wait(30)
    assert cancelled.is_set()
    http.sock.close()


def test_both_versions_on_one_port(kubelet: FakeKubelet, client: httpx.Client) -> None:
    assert client.get("/healthz").text == "ok"
    with connect(kubelet.url, kubelet.ca) as sock:
        assert sock.selected_alpn_protocol() is None


def test_an_apiserver_speaks_both_versions_too() -> None:
    with FakeApiserver() as apiserver:
        identity = apiserver.authority.issue_client("alice", ["system:masters"])
        context = ssl.create_default_context(cadata=apiserver.ca.decode())
        with tempfile.NamedTemporaryFile() as pair:
            pair.write(identity.cert_pem + identity.key_pem)
            pair.flush()
            context.load_cert_chain(pair.name)
        for http2 in (True, False):
            with httpx.Client(verify=context, http2=http2, base_url=apiserver.url) as http:
                answer = http.get("/api/v1/namespaces")
                assert answer.json()["kind"] == "NamespaceList"
                assert answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
