"""URLs: what is accepted, what is sent, and what is shown."""

from __future__ import annotations

import pytest

from kubeletclient.endpoints import (
    KUBELET_PORT,
    Endpoint,
    attach_target,
    exec_target,
    is_address,
    parse_endpoint,
    parse_target,
)
from spdyproto.channels.events import StreamSet

NODE = Endpoint(True, "node", 10250)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://10.0.0.1:10250", Endpoint(True, "10.0.0.1", 10250)),
        ("https://10.0.0.1", Endpoint(True, "10.0.0.1", 10250)),
        ("https://node/", Endpoint(True, "node", 10250)),
        ("HTTPS://Node:443/prefix/", Endpoint(True, "node", 443, "/prefix")),
        ("http://[::1]:8080", Endpoint(False, "::1", 8080)),
        ("https://[fe80::1%25eth0]:10250", Endpoint(True, "fe80::1%eth0", 10250)),
    ],
)
def test_servers(url: str, expected: Endpoint) -> None:
    assert parse_endpoint(url, default_port=KUBELET_PORT) == expected


@pytest.mark.parametrize(
    "url",
    [
        "10.0.0.1:10250",
        "node",
        "ftp://node",
        "https://",
        "https://:10250",
        "https://node:0",
        "https://node:70000",
        "https://node:x",
        "https://user:secret@node",
        "https://node?token=secret",
        "https://node#secret",
        "https://node/ HTTP/1.1\r\nX: y",
        "https://n\u00f6de",
    ],
)
def test_what_is_no_server_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL|port") as caught:
        parse_endpoint(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("endpoint", "authority"),
    [(NODE, "node:10250"), (Endpoint(True, "::1", 443), "[::1]"), (Endpoint(False, "h", 80), "h")],
)
def test_authority(endpoint: Endpoint, authority: str) -> None:
    assert endpoint.authority == authority


def test_exec_path_and_query_as_a_kubelet_wants_them() -> None:
    streams = StreamSet(stdin=True, stdout=True, stderr=True)
    target = exec_target(NODE, "ns", "pod", "main", ["sh", "-c", "echo a&b=c \u00e9"], streams, None)
    assert target.path == (
        "/exec/ns/pod/main?command=sh&command=-c&command=echo+a%26b%3Dc+%C3%A9&input=1&output=1&error=1"
    )
    assert target.shown == "https://node:10250/exec/ns/pod/main"
    assert target.route == "kubelet"


def test_exec_with_uid_prefix_and_terminal() -> None:
    endpoint = Endpoint(True, "node", 443, "/proxy")
    target = exec_target(endpoint, "ns", "p", "c", ["x"], StreamSet(stdout=True, stderr=False, tty=True), "u-1")
    assert target.path == "/proxy/exec/ns/p/u-1/c?command=x&output=1&tty=1"
    assert target.shown == "https://node/proxy/exec/ns/p/u-1/c"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b"])
def test_names_cannot_leave_their_place_in_the_path(name: str) -> None:
    with pytest.raises(ValueError, match="non-empty names"):
        exec_target(NODE, "ns", name, "c", ["x"], StreamSet(), None)


def test_names_are_encoded() -> None:
    assert exec_target(NODE, "n s", "p?", "c#", ["x"], StreamSet(), None).path.startswith("/exec/n%20s/p%3F/c%23?")


@pytest.mark.parametrize(
    ("url", "path", "shown"),
    [
        ("http://127.0.0.1:9/exec/Tok3n_-x", "/exec/Tok3n_-x", "http://127.0.0.1:9/exec/..."),
        ("https://h/attach/T?x=1", "/attach/T?x=1", "https://h/attach/..."),
        ("https://h/portforward/T", "/portforward/T", "https://h/portforward/..."),
        (
            "https://h/exec/ns/pod/c?command=id&output=1",
            "/exec/ns/pod/c?command=id&output=1",
            "https://h/exec/ns/pod/c",
        ),
        ("https://h", "/", "https://h/"),
    ],
)
def test_a_complete_url_is_sent_as_it_is_and_shown_without_its_secrets(url: str, path: str, shown: str) -> None:
    target = parse_target(url)
    assert (target.path, target.shown, target.route) == (path, shown, "url")


@pytest.mark.parametrize(
    ("host", "literal"), [("10.0.0.1", True), ("::1", True), ("fe80::1%eth0", True), ("node", False)]
)
def test_literal_addresses(host: str, literal: bool) -> None:
    assert is_address(host) is literal


def test_attach() -> None:
    target = attach_target(NODE, "ns", "pod", "main", StreamSet(stdin=True, stderr=False, tty=True), "u-1")
    assert target.path == "/attach/ns/pod/u-1/main?input=1&output=1&tty=1"
    assert target.shown.endswith("/attach/ns/pod/u-1/main")
    with pytest.raises(ValueError, match="non-empty names"):
        attach_target(NODE, "ns", "..", "main", StreamSet(), None)
