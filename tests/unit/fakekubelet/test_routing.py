"""Routes as a table, and Go's ServeMux and JSON where the fakes imitate them."""

from __future__ import annotations

import asyncio

import pytest

from fakekubelet.auth import ANONYMOUS, User
from fakekubelet.gojson import go_json, quoted
from fakekubelet.messages import Answer, Request, Response
from fakekubelet.plaintext import PlainPipe
from fakekubelet.routes import Mux
from fakekubelet.routing import RouteTable, route


def named(name: str) -> Answer:
    return Response(200, name.encode())


async def later(request: Request, user: User, names: dict[str, str]) -> Answer:
    return named("later")


TABLE = RouteTable(
    [
        route("GET", "/pods", lambda *_: named("pods")),
        route("GET POST", "/exec/{ns}/{pod}/{c}", lambda request, user, names: named(str(names))),
        route("PUT", "/exec/{ns}/{pod}/{c}", later),
        route("", "/proxy/{node}/{path...}", lambda request, user, names: named(str(names))),
    ]
)


def answer(method: str, path: str) -> bytes | tuple[str, ...]:
    found = TABLE.find(method, path)
    if found.route is None:
        return found.allowed
    result = asyncio.run(found.answer(Request(method, path, {}, []), ANONYMOUS))
    assert isinstance(result, Response)
    return result.body


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/pods", b"pods"),
        ("GET", "/pods/", b"pods"),
        ("POST", "/pods", ("GET",)),
        ("GET", "/pods/x", ()),
        ("POST", "/exec/a/b/c", b"{'ns': 'a', 'pod': 'b', 'c': 'c'}"),
        ("PUT", "/exec/a/b/c", b"later"),
        ("DELETE", "/exec/a/b/c", ("GET", "POST", "PUT")),
        ("GET", "/exec/a/b", ()),
        ("PATCH", "/proxy/n/a/b", b"{'path': 'a/b', 'node': 'n'}"),
        ("GET", "/proxy/n", b"{'path': '', 'node': 'n'}"),
        ("GET", "/proxy", ()),
    ],
)
def test_the_first_route_that_fits(method: str, path: str, expected: bytes | tuple[str, ...]) -> None:
    assert answer(method, path) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/healthz", "exact"),
        ("/healthz/x", None),
        ("/logs/", "folder"),
        ("/logs/a/b", "folder"),
        ("/logs/deep/x", "deeper"),
        ("/logs/deep", "/logs/deep/"),
        ("/logs", "/logs/"),
        ("/exec/a", "service"),
        ("/exec", "service"),
        ("/executed", None),
        ("/", None),
    ],
)
def test_the_longest_prefix_wins(path: str, expected: str | None) -> None:
    mux = Mux()
    for pattern, name in (("/healthz", "exact"), ("/logs/", "folder"), ("/logs/deep/", "deeper")):
        mux.handle(pattern, lambda request, user, names, name=name: named(name))  # type: ignore[misc]  # its own name
    mux.add("/exec", route("GET", "/exec/{a}", lambda *_: named("service")))
    found = mux.find(path)
    if found is None or isinstance(found, str):
        assert found == expected
    elif expected == "service":
        assert found.table is not None
    else:
        result = asyncio.run(found.answer(Request("GET", path, {}, []), ANONYMOUS, path))
        assert isinstance(result, Response)
        assert result.body == (expected or "").encode()
    assert mux.paths == ("/exec", "/healthz", "/logs", "/logs/deep")


def test_json_is_that_of_go() -> None:
    assert go_json({"b": "<&>\u2028é", "a": [1, None, True]}) == (
        b'{"b":"\\u003c\\u0026\\u003e\\u2028\xc3\xa9","a":[1,null,true]}'
    )
    assert go_json({"a": {"b": 1}}, indent=1) == b'{\n "a": {\n  "b": 1\n }\n}'
    assert go_json("\udcff") == '"\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}"'.encode()
    assert quoted('a"b') == '"a\\"b"'


def test_a_connection_without_tls_changes_nothing() -> None:
    pipe = PlainPipe()
    assert pipe.do_handshake(b"GET")
    scratch = memoryview(bytearray(10))
    assert [bytes(each) for each in pipe.receive(b"", scratch)] == [b"GET"]
    assert [bytes(each) for each in pipe.receive(b" /", scratch)] == [b" /"]
    pipe.send([b"a", memoryview(b"b")])
    assert (pipe.pending, pipe.take(), pipe.pending) == (2, b"ab", 0)
    pipe.close_notify()
    assert pipe.receive_eof()
    assert (pipe.peer_chain_der, pipe.alpn, pipe.closed_by_peer) == ([], None, False)
