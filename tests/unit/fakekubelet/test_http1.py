"""HTTP/1.1 of the fake kubelet without a socket."""

from __future__ import annotations

import pytest

from fakekubelet.http1 import HttpConnection
from fakekubelet.messages import Request, Response, clean_path, go_error, plain
from spdyproto.limits import Limits


def feed(data: bytes, limits: Limits = Limits()) -> Request | Response | None:
    connection = HttpConnection(limits)
    connection.feed(data)
    return connection.next()


def request(target: str, *lines: str) -> Request:
    head = "\r\n".join([f"GET {target} HTTP/1.1", "Host: a", *lines, "", ""]).encode("latin-1")
    item = feed(head)
    assert isinstance(item, Request)
    return item


def test_query_keeps_order_blanks_and_bytes() -> None:
    item = request("/exec/a%2Fb/%C3%A4?command=sh&command=-c&command=a+b%20c&command=&command=%FF&tty&x=1;y=2")
    assert item.path == "/exec/a/b/ä"
    assert item.query["command"] == ["sh", "-c", "a b c", "", "\udcff"]
    assert item.first("tty") == ""
    assert item.first("nope") == ""
    assert item.query["x"] == ["1;y=2"]


def test_only_the_first_value_counts() -> None:
    assert request("/?input=0&input=1").first("input") == "0"


def test_headers_are_found_by_lower_case_name_in_order() -> None:
    item = request("/", "X-Stream-Protocol-Version: b", "x-stream-protocol-version: a, c")
    assert item.values(b"x-stream-protocol-version") == ["b", "a, c"]


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        ([], False),
        (["Connection: keep-alive"], False),
        (["Connection: Upgrade"], True),
        (["Connection: keep-alive, upgrade"], True),
        (["Connection: keep-alive", "Connection: UPGRADE"], True),
        (["Upgrade: SPDY/3.1"], False),
    ],
)
def test_wants_upgrade(lines: list[str], wanted: bool) -> None:
    assert request("/", *lines).wants_upgrade is wanted


def test_absolute_form() -> None:
    item = request("https://kubelet:10250/pods?x=1")
    assert (item.path, item.query) == ("/pods", {"x": ["1"]})


@pytest.mark.parametrize("piece", [1, 7, 10_000])
def test_the_head_limit_does_not_depend_on_how_bytes_come(piece: int) -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 2000 + b"\r\n\r\n"
    for limit, status in ((len(head), 0), (1000, 431)):
        connection = HttpConnection(Limits(http_head=limit))
        item = None
        for start in range(0, len(head), piece):
            connection.feed(head[start : start + piece])
            item = item or connection.next()
        assert isinstance(item, Response if status else Request)
        if isinstance(item, Response):
            assert (item.status, item.close) == (status, True)


def test_too_many_query_fields_are_refused() -> None:
    item = feed(b"GET /?" + b"a&" * 5000 + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    assert isinstance(item, Response)
    assert item.status == 400


def test_answers_keep_the_connection_unless_they_must_not() -> None:
    connection = HttpConnection(Limits())
    for _ in range(3):
        connection.feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        item = connection.next()
        assert isinstance(item, Request)
        output, last = connection.answer(item, plain(200, "ok"))
        assert output.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nDate: ")
        assert output.endswith(b"GMT\r\nContent-Length: 2\r\n\r\nok")
        assert not last
    connection.feed(b"GET / HTTP/1.0\r\n\r\n")
    item = connection.next()
    assert isinstance(item, Request)
    assert connection.answer(item, plain(200, "ok"))[1]
    assert connection.next() is None


def test_texts_of_the_two_kinds_of_handlers() -> None:
    assert plain(404, "x").body == b"x"
    assert go_error(404, "x").body == b"x\n"
    assert ("X-Content-Type-Options", "nosniff") in go_error(404, "x").headers


@pytest.mark.parametrize(
    ("path", "clean"),
    [
        ("/", "/"),
        ("/pods", "/pods"),
        ("/pods/", "/pods/"),
        ("//pods//", "/pods/"),
        ("/a/./b/../c", "/a/c"),
        ("/../..", "/"),
        ("", "/"),
        ("/a/..", "/"),
    ],
)
def test_clean_path(path: str, clean: str) -> None:
    assert clean_path(path) == clean
