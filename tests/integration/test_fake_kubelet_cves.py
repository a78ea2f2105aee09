"""Known holes of servers like this one, each as a client that tries it. Those of floods and bombs are in
`tests/faults/test_hostile_clients.py`, those of leaks in `test_fake_kubelet_load.py`, those of proxies in
`test_fake_apiserver_proxy.py`."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator

import pytest

from fakekubelet import FakeKubelet
from support import wsframes
from support.fakes import Caller
from support.rawclient import exec_target, websocket_headers

KEY = b"\x01\x02\x03\x04"


@pytest.fixture(scope="module")
def caller() -> Iterator[Caller]:
    with FakeKubelet(profile="1.36") as kubelet:
        yield Caller(kubelet)


def answers(caller: Caller, request: bytes) -> list[int]:
    """The status of every answer to these bytes, until the server closes or has nothing more to say."""
    received = b""
    with caller.connect() as sock:
        sock.settimeout(1.0)
        sock.sendall(request)
        with contextlib.suppress(TimeoutError, ConnectionError, ssl.SSLEOFError):
            while part := sock.recv(65536):
                received += part
    return [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:]]


GET = b"GET /healthz HTTP/1.1\r\nHost: a\r\n"
SECOND = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize(
    "request_",
    [
        GET + b"Content-Length: 0\r\nContent-Length: 35\r\n\r\n" + SECOND,
        GET + b"Content-Length: 0, 35\r\n\r\n" + SECOND,
        GET + b"Content-Length: +0\r\n\r\n" + SECOND,
        GET + b"Content-Length: -1\r\n\r\n" + SECOND,
        GET + b"Transfer-Encoding: xchunked\r\n\r\n" + SECOND,
        GET + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + SECOND,
        GET + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + SECOND,
        GET + b"Transfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n" + SECOND,
        GET + b"Transfer-Encoding: chunked\r\n\r\n1\r\naXX0\r\n\r\n" + SECOND,  # CVE-2025-43859
        GET + b"Bad Name: x\r\n\r\n" + SECOND,
        GET + b"X: a\x00b\r\n\r\n" + SECOND,
        b"GET /healthz\r\n\r\n" + SECOND,
        b"GET  /healthz HTTP/1.1\r\nHost: a\r\n\r\n" + SECOND,
        b"GET /healthz HTTP/1.1\r\n\r\n" + SECOND,  # without Host
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" + SECOND,
        b"\r\nGET /healthz HTTP/2.0\r\nHost: a\r\n\r\n" + SECOND,
    ],
)
def test_requests_that_two_readers_could_take_apart_differently(caller: Caller, request_: bytes) -> None:
    """Refused, and nothing behind them is read: request smuggling (CVE-2025-22871, CVE-2025-43859 and their kind)."""
    got = answers(caller, request_)
    assert got in ([400], [501], [200, 400], []), got  # 200: the head was whole, and its body was not


def test_what_looks_like_a_second_length_is_not_believed(caller: Caller) -> None:
    """Chunks count, as RFC 9112 says, and the connection is whole: what follows is a request of its own."""
    folded = b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: b\r\n Content-Length: 35\r\n\r\n" + SECOND
    assert answers(caller, folded) in ([200, 404], [400])  # a folded line is a part of the value before it
    both = GET + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SECOND
    assert answers(caller, both) in ([200, 404], [400])


@pytest.mark.parametrize(
    "frame",
    [
        wsframes.header(2, (1 << 63) - 1, masked=True) + KEY,
        b"\x82\xff" + (1 << 63).to_bytes(8, "big") + KEY,
        wsframes.frame(2, b"\x00x", key=KEY, form=16),
        wsframes.frame(2, b"\x00x", key=KEY, form=64),
        wsframes.frame(9, b"x", key=KEY, fin=False),
        wsframes.frame(9, bytes(126), key=KEY),
        wsframes.frame(2, b"\x00x", key=KEY, rsv=4),
        wsframes.frame(3, b"\x00x", key=KEY),
        wsframes.frame(2, b"\x00x"),
        wsframes.frame(0, b"\x00x", key=KEY),
    ],
    ids=[
        "length-2^63-1",
        "length-2^63",
        "long-form-16",
        "long-form-64",
        "fragmented-ping",
        "ping-of-126",
        "reserved-bit",
        "reserved-opcode",
        "unmasked",
        "continuation-of-nothing",
    ],
)
def test_frames_that_are_none(caller: Caller, frame: bytes) -> None:
    """CVE-2020-27813 and the rest of RFC 6455's rules: the connection ends, and the command learns of it."""
    with caller.http() as http:
        target = exec_target(["cat"], flags="input=1&output=1")
        assert http.request("GET", target, websocket_headers(["v5.channel.k8s.io"])).status == 101
        execution = caller.kubelet.executions[-1]
        http.sock.sendall(frame)
        told = b""
        with contextlib.suppress(ConnectionError, ssl.SSLEOFError):
            while part := http.sock.recv(65536):
                told += part
        assert told[-4:-2] == b"\x88\x02"  # a Close frame, with a code
        assert int.from_bytes(told[-2:], "big") in (1002, 1009)
        execution.wait_client_left(10)


def test_authorities_are_made_anew_for_each_server() -> None:
    with FakeKubelet() as one, FakeKubelet() as other:
        assert one.ca != other.ca


def test_a_token_among_the_subprotocols_is_never_sent_back(caller: Caller) -> None:
    hidden = "base64url.bearer.authorization.k8s.io.czNjcmV0"
    with caller.http() as http:
        answer = http.request("GET", exec_target(["true"]), websocket_headers(["v4.channel.k8s.io"], extra=[hidden]))
        assert not any("czNjcmV0" in value for _, value in answer.headers)
        assert b"czNjcmV0" not in answer.body


def test_the_output_of_run_is_streamed_or_capped() -> None:
    """CVE-2022-31030, CVE-2022-1708: ExecSync kept whatever a command printed."""
    with FakeKubelet() as kubelet, Caller(kubelet).http() as http:
        answer = http.request("POST", "/run/default/demo/main?cmd=source+33554432")
        assert answer.status in (200, 500)
        assert len(answer.body) <= 17 << 20  # what a kubelet keeps: 16 MiB
