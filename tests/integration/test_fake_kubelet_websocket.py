"""Exec over WebSocket on the fake kubelet: the handshake's answers, each subprotocol, and its manners on the wire."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import ssl
from collections.abc import Iterator

import pytest

from fakekubelet import ALL_WEBSOCKET, CRI_WEBSOCKET, Attributes, Command, Container, FakeKubelet, Pod, Timeouts, User
from spdyproto.channels.events import Lost, StreamKind, StreamSet
from spdyproto.errors import HalfCloseUnsupported, OutcomeUnknown
from support.fakes import Caller
from support.rawclient import ACCEPT, HttpClient, connect, exec_target, upgrade_headers, websocket_headers
from support.rawwebsocket import NORMAL_CLOSE, RawWebSocket
from support.wsframes import BINARY, CLOSE, CONT, KEY, PING, PONG, TEXT, frame

MIB = 1 << 20
TOKEN = "sesame"
V4, V5, BASE64 = "v4.channel.k8s.io", "v5.channel.k8s.io", "v4.base64.channel.k8s.io"
EXEC = exec_target(["true"])
IN_OUT = StreamSet(stdin=True, stdout=True, stderr=False)


def bearer(token: str) -> str:
    encoded = base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")
    return f"base64url.bearer.authorization.k8s.io.{encoded}"


class Ears(Command):
    """Writes down each piece of stdin that it is given, as a line of hex."""

    def stdin(self, data: memoryview) -> None:
        self.outlet.write(StreamKind.STDOUT, b"%s\n" % bytes(data).hex().encode())

    def stdin_ended(self) -> None:
        self.outlet.write(StreamKind.STDOUT, b"end\n")


@pytest.fixture(scope="module")
def kubelet() -> Iterator[FakeKubelet]:
    pod = Pod("default/demo", [Container("main"), Container("ears", behaviour=Ears)])
    tokens = {TOKEN: User("robot", ("robots",))}
    with FakeKubelet([pod], websocket_protocols=ALL_WEBSOCKET, tokens=tokens, anonymous=True) as server:
        yield server


@pytest.fixture(scope="module")
def caller(kubelet: FakeKubelet) -> Caller:
    return Caller(kubelet)


@pytest.fixture(scope="module")
def old() -> Iterator[Caller]:
    """A kubelet up to 1.35."""
    with FakeKubelet() as kubelet:
        yield Caller(kubelet)


def raw_answer(caller: Caller, head: bytes) -> bytes:
    with caller.connect() as sock:
        sock.sendall(head)
        return b"".join(iter(lambda: sock.recv(65536), b""))


def head(lines: list[tuple[str, str]], method: str = "GET", target: str = EXEC) -> bytes:
    text = "".join(f"{name}: {value}\r\n" for name, value in [("Host", "a"), *lines])
    return f"{method} {target} HTTP/1.1\r\n{text}\r\n".encode()


# -- the handshake -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (head(websocket_headers(), "POST"), b"HTTP/1.1 405 Method Not Allowed\r\n\r\nbad method"),
        (head(websocket_headers(key=None)), b"HTTP/1.1 400 Bad Request\r\n\r\nmismatch challenge/response"),
        (
            head(websocket_headers(version="8")),
            b"HTTP/1.1 400 Bad Request\r\nSec-WebSocket-Version: 13\r\n\r\nmissing or bad WebSocket Version",
        ),
        (
            head(websocket_headers(version=None)),
            b"HTTP/1.1 400 Bad Request\r\nSec-WebSocket-Version: 13\r\n\r\nmissing or bad WebSocket Version",
        ),
        (head(websocket_headers(["v2.channel.k8s.io", "v3.channel.k8s.io"])), b"HTTP/1.1 403 Forbidden\r\n\r\n"),
        (head(websocket_headers([V5])), b"HTTP/1.1 403 Forbidden\r\n\r\n"),
        (head(websocket_headers(["V4.channel.k8s.io"])), b"HTTP/1.1 403 Forbidden\r\n\r\n"),
    ],
)
def test_a_refusal_is_raw_and_ends_the_connection(old: Caller, head: bytes, expected: bytes) -> None:
    assert raw_answer(old, head) == expected


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ([], ""),
        (["channel.k8s.io"], "channel.k8s.io"),
        (["base64.channel.k8s.io"], "base64.channel.k8s.io"),
        ([V4], V4),
        ([BASE64], BASE64),
        (["v9.channel.k8s.io", V5, V4, "channel.k8s.io"], V4),  # the client's order, among what is spoken
        (["channel.k8s.io", V4], "channel.k8s.io"),
    ],
)
def test_the_101_has_four_lines_and_the_first_protocol_that_fits(old: Caller, offered: list[str], chosen: str) -> None:
    with old.http() as http:
        answer = http.request("GET", EXEC, websocket_headers(offered))
    assert (answer.status, answer.reason) == (101, "Switching Protocols")
    assert answer.headers == [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", ACCEPT),
        ("Sec-WebSocket-Protocol", chosen),
    ]


def test_v5_is_accepted_from_1_36_on(caller: Caller) -> None:
    with caller.http() as http:
        answer = http.request("GET", EXEC, websocket_headers([V5, V4]))
    assert answer.values("Sec-WebSocket-Protocol") == [V5]


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([("Connection", "keep-alive, Upgrade"), ("Upgrade", "WebSocket")], 101),
        ([("Connection", "Upgrade"), ("Upgrade", "websocket, h2c")], 400),  # SPDY, without its protocol
        ([("Connection", "Upgrade"), ("Upgrade", "h2c")], 400),
        ([("Upgrade", "websocket")], 500),
        ([("Connection", "close"), ("Upgrade", "websocket")], 500),
    ],
)
def test_what_counts_as_a_websocket(old: Caller, lines: list[tuple[str, str]], status: int) -> None:
    others = websocket_headers([V4])[2:]
    with old.http() as http:
        answer = http.request("GET", EXEC, [*lines, *others])
    assert answer.status == status
    if status == 400:
        assert answer.body.startswith(b"unable to upgrade: header X-Stream-Protocol-Version does not exist")
    elif status == 500:
        assert answer.body == b"Upgrade request required\n"


@pytest.mark.parametrize(
    ("target", "status", "body"),
    [
        ("/exec/default/demo/main?command=true", 400, b"you must specify at least 1 of stdin, stdout, stderr"),
        ("/exec/default/gone/main?command=true&output=1", 404, b"pod does not exist"),
        ("/exec/default/demo/gone?command=true&output=1", 500, b'container not found ("gone")'),
    ],
)
def test_what_is_judged_before_the_handshake(old: Caller, target: str, status: int, body: bytes) -> None:
    with old.http() as http:
        answer = http.request("GET", target, websocket_headers([V4]))
    assert (answer.status, answer.body) == (status, body)


def test_either_transport_can_be_switched_off() -> None:
    with FakeKubelet(websocket_protocols=()) as kubelet:
        assert raw_answer(Caller(kubelet), head(websocket_headers([V4]))) == b"HTTP/1.1 403 Forbidden\r\n\r\n"
        assert raw_answer(Caller(kubelet), head(websocket_headers())) == b"HTTP/1.1 403 Forbidden\r\n\r\n"
        assert Caller(kubelet).run(["true"]).code == 0
    with FakeKubelet(protocols=()) as kubelet:
        with Caller(kubelet).http() as http:
            answer = http.request("POST", EXEC, upgrade_headers([V4]))
        assert answer.status == 403
        assert answer.body.endswith(b"client supports [v4.channel.k8s.io], server accepts []\n")
        assert Caller(kubelet).run(["true"], websocket=V4).code == 0
    with pytest.raises(ValueError, match="at least one protocol in either"):
        FakeKubelet(protocols=(), websocket_protocols=())
    with pytest.raises(ValueError, match=r"'v2\.channel\.k8s\.io' is not spoken over WebSocket"):
        FakeKubelet(websocket_protocols=["v2.channel.k8s.io"])


# -- who may -----------------------------------------------------------------------------------------------------------


def test_a_websocket_needs_get_and_spdy_needs_create() -> None:
    def read_only(attributes: Attributes) -> bool:
        return attributes.verb == "get"

    with FakeKubelet(authorize=read_only) as kubelet:
        caller = Caller(kubelet)
        assert caller.run(["echo", "in"], websocket=V4).stdout == b"in\n"
        with caller.http() as http:
            answer = http.request("POST", EXEC, upgrade_headers([V4]))
        assert answer.status == 403
        assert answer.body.startswith(b"Forbidden (user=tester, verb=create, resource=nodes, subresource(s)=[proxy])")


def ask_with_token(kubelet: FakeKubelet, offered: list[str], *lines: tuple[str, str]) -> tuple[int, list[str]]:
    """No client certificate."""
    with HttpClient(connect(kubelet.url, kubelet.ca)) as http:
        answer = http.request("GET", EXEC, [*websocket_headers(offered), *lines])
    assert TOKEN not in repr(answer)
    assert bearer(TOKEN) not in repr(answer)
    return answer.status, answer.values("Sec-WebSocket-Protocol")


def test_a_token_among_the_subprotocols_is_a_credential_and_never_comes_back(kubelet: FakeKubelet) -> None:
    for offered in ([V4, bearer(TOKEN)], [bearer(TOKEN), V4]):
        assert ask_with_token(kubelet, offered) == (101, [V4])
        execution = kubelet.executions[-1]
        assert execution.request.user.name == "robot"
        assert TOKEN not in repr(execution.request)


@pytest.mark.parametrize(
    "offered",
    [
        [bearer(TOKEN)],  # alone
        [V4, bearer(TOKEN), bearer(TOKEN)],  # twice
        [V4, bearer("wrong")],  # bad, although anonymous requests are allowed
        [V4, "base64url.bearer.authorization.k8s.io.?"],  # no base64url
        [V4, "base64url.bearer.authorization.k8s.io._w"],  # no UTF-8
    ],
)
def test_a_bad_token_among_the_subprotocols_is_401(kubelet: FakeKubelet, offered: list[str]) -> None:
    assert ask_with_token(kubelet, offered) == (401, [])


def test_a_bad_token_does_no_harm_beside_a_good_credential(kubelet: FakeKubelet) -> None:
    good = ("Authorization", f"Bearer {TOKEN}")
    assert ask_with_token(kubelet, [V4, bearer("wrong")], good) == (101, [V4])
    assert ask_with_token(kubelet, [V4]) == (101, [V4])
    assert kubelet.executions[-1].request.user.name == "system:anonymous"


def test_a_token_is_taken_for_a_protocol_where_nobody_wants_a_websocket(kubelet: FakeKubelet) -> None:
    lines = [("Sec-WebSocket-Protocol", f"{V4}, {bearer(TOKEN)}"), *upgrade_headers([V4])]
    with HttpClient(connect(kubelet.url, kubelet.ca)) as http:
        assert http.request("POST", EXEC, lines).status == 101
    assert kubelet.executions[-1].request.user.name == "system:anonymous"


# -- each subprotocol --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL_WEBSOCKET)
def test_outputs_apart_and_a_failure_in_every_dialect(caller: Caller, name: str) -> None:
    result = caller.run(["cat", "/etc/hostname", "/nope"], websocket=name)
    assert result.stdout == b"demo\n"
    assert result.stderr == b"cat: /nope: No such file or directory\n"
    json_status = name.startswith(("v4", "v5"))
    assert result.code == (1 if json_status else None)
    assert "exit code 1" in result.message


@pytest.mark.parametrize("name", [V4, BASE64, V5])
@pytest.mark.parametrize("code", [0, 1, 137, 255])
def test_exit_codes(caller: Caller, name: str, code: int) -> None:
    assert caller.run(["exit", str(code)], websocket=name).code == code


@pytest.mark.parametrize("name", ["", "channel.k8s.io", "base64.channel.k8s.io"])
def test_success_says_nothing_before_v4(caller: Caller, name: str) -> None:
    result = caller.run(["echo", "x"], websocket=name)
    assert result.stdout == b"x\n"
    assert isinstance(result.outcome, Lost)
    assert isinstance(result.outcome.error, OutcomeUnknown)


@pytest.mark.parametrize("name", ALL_WEBSOCKET)
def test_four_mebibytes_down_in_every_dialect(caller: Caller, name: str) -> None:
    digest = hashlib.sha256(caller.run(["random", str(4 * MIB + 1), "seed"], websocket=name).stdout).digest()
    assert digest == hashlib.sha256(caller.run(["random", str(4 * MIB + 1), "seed"]).stdout).digest()


@pytest.mark.parametrize("name", ALL_WEBSOCKET)
def test_two_mebibytes_up_in_every_dialect(caller: Caller, name: str) -> None:
    data = os.urandom(2 * MIB + 3)
    with caller.open(["cat"], streams=IN_OUT, websocket=name) as client:
        client.send(data)
        client.pump_until(lambda: len(client.stdout) == len(data))
        assert hashlib.sha256(client.stdout).digest() == hashlib.sha256(data).digest()
    execution = caller.kubelet.executions[-1]
    execution.wait(30)
    assert (execution.client_left, execution.received) == (True, len(data))


def test_half_close_in_v5(caller: Caller) -> None:
    data = os.urandom(MIB)
    result = caller.run(["sink"], stdin=data, websocket=V5)
    assert result.stdout.decode() == f"{len(data)} {hashlib.sha256(data).hexdigest()}\n"
    assert result.code == 0


def test_v4_cannot_end_stdin(caller: Caller) -> None:
    with caller.open(["cat"], streams=IN_OUT, websocket=V4) as client:
        with pytest.raises(HalfCloseUnsupported):
            client.session.close_stdin()
        client.send(b"on")
        client.pump_until(lambda: bytes(client.stdout) == b"on")


@pytest.mark.parametrize("name", ALL_WEBSOCKET)
def test_sizes_of_a_terminal_come_in_every_dialect(caller: Caller, name: str) -> None:
    with caller.open(["sizes", "2"], streams=StreamSet(stdin=True, stderr=False, tty=True), websocket=name) as client:
        client.session.resize(121, 41)
        client.session.resize(120, 40)
        client.flush()
        assert client.finish().stdout == b"121x41\n120x40\n"


def test_the_record_says_what_carried_it(caller: Caller) -> None:
    caller.run(["true"], websocket=BASE64)
    request = caller.kubelet.executions[-1].request
    assert (request.protocol, request.transport.value) == ("v4.channel.k8s.io", "websocket, base64")


# -- manners -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "greeting"),
    [("input=1&output=1&error=1", b"\x01"), ("input=1&error=1", b"\x02"), ("input=1", b"\x03")],
)
def test_one_empty_message_on_the_lowest_channel_begins_it(caller: Caller, flags: str, greeting: bytes) -> None:
    with RawWebSocket(caller.connect(), exec_target(["true"], flags=flags)) as peer:
        frames = peer.read_all()
    assert frames[0] == (BINARY, greeting)
    assert [payload for opcode, payload in frames if len(payload) == 1] == [greeting]
    status = frames[-2][1]
    assert (status[0], json.loads(status[1:])["status"]) == (3, "Success")
    assert frames[-1] == NORMAL_CLOSE


@pytest.mark.parametrize(("name", "opcode"), [(V4, BINARY), (BASE64, TEXT)])
def test_raw_messages_are_binary_and_base64_ones_text(caller: Caller, name: str, opcode: int) -> None:
    with RawWebSocket(caller.connect(), exec_target(["echo", "ab"]), [name]) as peer:
        frames = peer.read_all()
    assert {kind for kind, _ in frames[:-1]} == {opcode}
    assert frames[1][1] == (b"\x01ab\n" if name == V4 else b"1YWIK")


def test_output_comes_in_pieces_of_32_kib(caller: Caller) -> None:
    with RawWebSocket(caller.connect(), exec_target(["source", str(100_000)])) as peer:
        sizes = [len(payload) for _, payload in peer.read_all()[1:-2]]
    assert sum(sizes) == 100_000 + len(sizes)
    assert max(sizes) == 32769


@pytest.mark.parametrize(
    ("argv", "text"), [(["exit", "3"], b"exit code 3"), (["nope"], b"executable file not found"), (["fail", "x"], b"x")]
)
def test_the_close_code_is_1000_for_failures_too(caller: Caller, argv: list[str], text: bytes) -> None:
    with RawWebSocket(caller.connect(), exec_target(argv)) as peer:
        frames = peer.read_all()
    assert text in frames[-2][1]
    assert frames[-1] == NORMAL_CLOSE


def test_a_clients_close_is_answered_and_ends_the_connection(caller: Caller) -> None:
    with RawWebSocket(caller.connect(), exec_target(["cat"], streams=IN_OUT)) as peer:
        assert peer.read() == (BINARY, b"\x01")
        peer.close()
        assert peer.read_all() == [NORMAL_CLOSE]
    execution = caller.kubelet.executions[-1]
    execution.wait(30)
    assert execution.client_left


def test_pings_are_answered_while_output_flows(caller: Caller) -> None:
    with RawWebSocket(caller.connect(), exec_target(["source", str(64 * MIB)])) as peer:
        peer.send(b"hello", PING)
        frames = peer.read_all()
    pong = frames.index((PONG, b"hello"))
    assert 0 < pong < len(frames) - 2
    assert frames[-1] == NORMAL_CLOSE


def test_blocked_stdin_stops_the_reading_of_pings_too(caller: Caller) -> None:
    with RawWebSocket(caller.connect(), exec_target(["ignore-stdin", "600"], streams=IN_OUT)) as peer:
        assert peer.read() == (BINARY, b"\x01")
        peer.send(b"before", PING)
        assert peer.read() == (PONG, b"before")
        for _ in range(32):
            peer.send(b"\x00" + bytes(65535))
        peer.send(b"behind", PING)
        peer.sock.settimeout(0.5)
        with pytest.raises(TimeoutError):
            peer.read()


def test_each_frame_is_a_message_of_its_own(caller: Caller) -> None:
    """x/net/websocket joins no fragments: the first byte of a continuation is taken for a channel."""
    path = "default/demo/ears"
    with RawWebSocket(caller.connect(), exec_target([], path=path, streams=IN_OUT), [V5]) as peer:
        assert peer.read() == (BINARY, b"\x01")
        peer.send(b"\x00one", fin=False)
        peer.send(b"\x07lost", CONT, fin=False)
        peer.send(b"\x00two", CONT)
        assert peer.read() == (BINARY, b"\x01" + b"one".hex().encode() + b"\n")
        assert peer.read() == (BINARY, b"\x01" + b"two".hex().encode() + b"\n")


def test_what_is_not_for_the_command_is_swallowed(caller: Caller) -> None:
    path = "default/demo/ears"
    with RawWebSocket(caller.connect(), exec_target([], path=path, streams=IN_OUT), [V4]) as peer:
        assert peer.read() == (BINARY, b"\x01")
        for message in (
            b"",
            b"\x00",
            b"\x01x",
            b"\x03x",
            b'\x04{"Width":1,"Height":1}',
            b"\x09x",
            b"\xff\x00",
            b"\xff",
        ):
            peer.send(message)
        peer.send(b"\x00text too", TEXT)
        assert peer.read() == (BINARY, b"\x01" + b"text too".hex().encode() + b"\n")


def test_bad_base64_is_dropped_and_the_session_goes_on(caller: Caller) -> None:
    path = "default/demo/ears"
    with RawWebSocket(caller.connect(), exec_target([], path=path, streams=IN_OUT), [BASE64]) as peer:
        assert peer.read() == (TEXT, b"1")
        for message in (b"0?", b"0YQ", b"0YQ==", b"0YWI=", b"0YWJj"):
            peer.send(message, TEXT)
        lines = [base64.b64decode(payload[1:]) for _, payload in (peer.read() or (0, b"") for _ in range(3))]
        assert lines == [b"61\n", b"6162\n", b"616263\n"]


def test_the_close_signal_of_v5(caller: Caller) -> None:
    path = "default/demo/ears"
    with RawWebSocket(caller.connect(), exec_target([], path=path, streams=IN_OUT), [V5]) as peer:
        assert peer.read() == (BINARY, b"\x01")
        for message in (b"\xff\x01", b"\x00a", b"\xff\x00", b"\xff\x00", b"\x00late"):
            peer.send(message)
        assert [peer.read() for _ in range(2)] == [(BINARY, b"\x0161\n"), (BINARY, b"\x01end\n")]
        peer.close()
        assert peer.read_all() == [NORMAL_CLOSE]


@pytest.mark.parametrize("message", [b"\xff", b"\xff\x00\x00", b"\xff\x09"])
def test_a_malformed_close_signal_ends_the_connection(caller: Caller, message: bytes) -> None:
    with RawWebSocket(caller.connect(), exec_target(["cat"], streams=IN_OUT), [V5]) as peer:
        assert peer.read() == (BINARY, b"\x01")
        peer.send(message)
        assert peer.read_all() == [NORMAL_CLOSE]


def test_an_unmasked_frame_is_a_protocol_error(caller: Caller) -> None:
    with RawWebSocket(caller.connect(), exec_target(["cat"], streams=IN_OUT)) as peer:
        assert peer.read() == (BINARY, b"\x01")
        peer.send(b"\x00x", key=None)
        ((opcode, payload),) = peer.read_all()
    assert (opcode, payload[:2]) == (CLOSE, b"\x03\xea")


def test_an_idle_session_is_closed_and_pings_do_not_keep_it() -> None:
    with FakeKubelet(timeouts=Timeouts(stream_idle=0.3)) as kubelet:
        target = exec_target(["cat"], streams=IN_OUT)
        with RawWebSocket(Caller(kubelet).connect(), target) as peer:
            assert peer.read() == (BINARY, b"\x01")
            frames: list[tuple[int, bytes]] = []
            peer.send(b"", PING)
            while (frame := peer.read()) is not None:
                frames.append(frame)
                if frame[0] == PONG and len(frames) < 1000:  # more at once would be a flood
                    peer.send(b"", PING)
        assert frames[-1] == NORMAL_CLOSE
        assert {kind for kind, _ in frames[:-1]} == {PONG}
        kubelet.executions[-1].wait_client_left(30)


def test_a_client_that_sends_at_once_loses_nothing(caller: Caller) -> None:
    """Nothing forbids a client to write behind its request, where no proxy is between."""
    path = "default/demo/ears"
    with caller.http() as http:
        early = bytes.fromhex("8283 00000000 0061".replace(" ", ""))  # masked with zeros; cut short
        answer = http.request(
            "GET", exec_target([], path=path, streams=IN_OUT), websocket_headers([V4]), early=early + b"b"
        )
        assert answer.status == 101
        output = answer.surplus
        while b"6162\n" not in output:
            data = http.sock.recv(65536)
            assert data
            output += data
    assert re.fullmatch(rb"\x82\x01\x01\x82\x06\x016162\n", output)


def test_the_default_is_the_list_of_the_runtimes() -> None:
    assert set(CRI_WEBSOCKET) == {"", "channel.k8s.io", "base64.channel.k8s.io", V4, BASE64}
    assert set(ALL_WEBSOCKET) - set(CRI_WEBSOCKET) == {V5}


def test_pings_that_nobody_wants_answered_end_the_session(caller: Caller) -> None:
    """Each asks for a pong, and the client takes none of them."""
    with RawWebSocket(caller.connect(), exec_target(["sleep", "600"])) as peer:
        execution = caller.kubelet.executions[-1]
        pings = frame(PING, bytes(125), key=KEY) * 200
        with contextlib.suppress(ConnectionError, ssl.SSLEOFError):
            for _ in range(10_000):
                peer.sock.sendall(pings)
                if execution.client_left:
                    break
        execution.wait_client_left(30)


@pytest.mark.parametrize("length", [33 * MIB, (1 << 63) - 1])
def test_a_frame_of_more_than_32_mib_ends_the_session(caller: Caller, length: int) -> None:
    with RawWebSocket(caller.connect(), exec_target(["cat"], streams=IN_OUT)) as peer:
        assert peer.read() == (BINARY, b"\x01")
        peer.sock.sendall(frame(BINARY, b"\x00", key=KEY, form=64, length=length))
        ((opcode, _),) = peer.read_all()
        assert opcode == CLOSE
    caller.kubelet.executions[-1].wait_client_left(30)


def test_a_connection_that_is_cut_leaves_the_command_running(caller: Caller) -> None:
    with RawWebSocket(caller.connect(), exec_target(["sleep", "0.5"])) as peer:
        assert peer.read() == (BINARY, b"\x01")
    execution = caller.kubelet.executions[-1]
    execution.wait_client_left(30)
    assert execution.running
    status = execution.wait(30)
    assert status is not None
    assert status.ok
