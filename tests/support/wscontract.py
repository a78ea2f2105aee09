"""What a client and a server of exec owe each other over WebSocket, as tests: for the Go server and the fake kubelet.

A module of tests subclasses `WebSocketContract` and gives it the fixtures `flavour`, `peer` (a kubelet up to 1.35,
which knows no v5) and `modern` (one from 1.36 on, which does).
"""

from __future__ import annotations

from typing import Any

import pytest

from kubeletclient import (
    PIPE,
    CommandFailed,
    NotFound,
    OutcomeUnknown,
    ProtocolNotSupported,
    RemoteError,
    ServerError,
    StdinCannotEnd,
    StreamSet,
    Unauthorized,
)
from support.contract import ALL_BYTES, MIB, HashSink, Peer, expected, hashed_blocks
from support.flavours import Flavour, Node
from support.gopeers import exec_url, random_bytes

__all__ = ["WebSocketContract"]

V4, V4_BASE64 = "ws:v4.channel.k8s.io", "ws:v4.base64.channel.k8s.io"
OLD = ["ws:channel.k8s.io", "ws:base64.channel.k8s.io", "ws:none"]


def over(transport: str, flavour: Flavour, peer: Peer, **more: Any) -> Node:
    return flavour.node(peer.url, **peer.options(), transport=transport, **more)


class WebSocketContract:
    """The tests. Each runs in both flavours."""

    @pytest.mark.parametrize("transport", [V4, V4_BASE64])
    def test_outputs_and_exit_codes(self, flavour: Flavour, peer: Peer, transport: str) -> None:
        node = over(transport, flavour, peer)
        done = node.run("both", "3000", text=True)
        assert done.stdout.splitlines() == [f"out {i}" for i in range(3000)]
        assert done.stderr.splitlines() == [f"err {i}" for i in range(3000)]
        assert (done.transport, done.protocol) == ("ws", transport[3:])
        assert [str(attempt) for attempt in done.attempts] == [f"ws: {transport[3:]}"]
        assert [node.run("exit", str(code)).returncode for code in (0, 1, 255)] == [0, 1, 255]
        with pytest.raises(CommandFailed):
            node.run("exit", "3", check=True)
        with pytest.raises(RemoteError, match="cannot start"):
            node.run("fail", "cannot", "start")

    @pytest.mark.parametrize("transport", [V4, V4_BASE64])
    def test_download_by_digest(self, flavour: Flavour, peer: Peer, transport: str) -> None:
        sink = HashSink()
        done = over(transport, flavour, peer).run("random", str(4 * MIB + 1), "down", stdout=sink)
        assert (done.returncode, sink.seen) == (0, expected(4 * MIB + 1, "down"))

    def test_the_best_that_the_server_has(self, flavour: Flavour, peer: Peer, modern: Peer) -> None:
        assert over("ws", flavour, peer).run("echo", "x").protocol == "v4.channel.k8s.io"
        assert over("ws", flavour, modern).run("echo", "x").protocol == "v5.channel.k8s.io"

    # -- stdin ---------------------------------------------------------------------------------------------------------

    def test_v5_ends_stdin(self, flavour: Flavour, modern: Peer) -> None:
        node = over("ws", flavour, modern)
        done = node.run("cat", input=ALL_BYTES * 1000)
        assert (done.returncode, done.stdout, done.protocol) == (0, ALL_BYTES * 1000, "v5.channel.k8s.io")
        with node.popen("cat", stdin=PIPE) as process:
            process.write(b"first,")
            assert process.read(6) == b"first,"
            process.end_stdin()
            assert process.read() == b""
            assert process.wait() == 0

    def test_v5_upload_by_digest(self, flavour: Flavour, modern: Peer) -> None:
        sink = HashSink()
        done = over("ws", flavour, modern).run("sink", input=hashed_blocks(4 * MIB, "up", sink))
        assert done.stdout.decode() == "{} {}\n".format(*sink.seen)

    def test_stdin_that_must_end_needs_v5(self, flavour: Flavour, peer: Peer) -> None:
        with pytest.raises(ProtocolNotSupported, match="none of the subprotocols offered over WebSocket"):
            over("ws", flavour, peer).run("cat", input=b"x")

    @pytest.mark.parametrize("transport", [V4, V4_BASE64, *OLD])
    def test_what_cannot_end_is_refused_before_anything_is_sent(self, flavour: Flavour, transport: str) -> None:
        node = flavour.node("https://127.0.0.1:1", transport=transport)  # nothing listens there
        with pytest.raises(StdinCannotEnd, match="the command would wait for ever"):
            node.run("cat", input=b"x")
        with pytest.raises(StdinCannotEnd):
            node.popen("cat", stdin=iter([b"x"]))

    @pytest.mark.parametrize("transport", [V4, V4_BASE64])
    def test_pipe_that_cannot_be_ended(self, flavour: Flavour, peer: Peer, transport: str) -> None:
        with over(transport, flavour, peer).popen("cat", stdin=PIPE) as process:
            process.write(b"first,")
            assert process.read(6) == b"first,"
            with pytest.raises(StdinCannotEnd, match="cannot end stdin") as caught:
                process.end_stdin()
            assert caught.value.sent == {"stdin": 6}
            with pytest.raises(StdinCannotEnd):
                process.communicate(b"more", timeout=30)
            process.write(ALL_BYTES)  # nothing of it was changed
            assert process.read(256) == ALL_BYTES

    def test_upload_that_says_its_size(self, flavour: Flavour, peer: Peer) -> None:
        data = random_bytes(MIB + 5, "sized")
        with over(V4, flavour, peer).popen("early-exit", str(len(data)), stdin=PIPE) as process:
            process.write(data)
            assert process.wait(30) == 0

    # -- versions without a status -------------------------------------------------------------------------------------

    @pytest.mark.parametrize("transport", OLD)
    def test_success_that_cannot_be_told(self, flavour: Flavour, peer: Peer, transport: str) -> None:
        node = over(transport, flavour, peer)
        with pytest.raises(OutcomeUnknown, match="how the command ended cannot be known") as caught:
            node.run("echo", "x")
        assert caught.value.stdout == b"x\n"
        assert isinstance(caught.value, ConnectionError)
        with pytest.raises(RemoteError, match="no luck"):
            node.run("fail", "no luck")

    def test_no_subprotocol_at_all(self, flavour: Flavour, peer: Peer) -> None:
        with over("ws:none", flavour, peer).popen("cat", stdin=PIPE) as process:
            process.write(ALL_BYTES)
            assert process.read(256) == ALL_BYTES
            assert process.process.protocol == ""
            assert [str(attempt) for attempt in process.process.attempts] == ["ws: no subprotocol"]

    # -- terminals -----------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("transport", [V4, V4_BASE64])
    def test_terminal(self, flavour: Flavour, peer: Peer, transport: str) -> None:
        node = over(transport, flavour, peer)
        with node.popen("sizes", "2", tty=True) as process:
            process.resize(80, 24)
            process.resize(132, 43)
            assert process.read() == b"80x24\n132x43\n"
            assert process.wait() == 0
        assert node.run("early-exit", "5", tty=True, stdin=b"typed").returncode == 0

    # -- refusals ------------------------------------------------------------------------------------------------------

    def test_nobody_is_let_in_without_a_good_credential(self, flavour: Flavour, peer: Peer) -> None:
        for options in peer.strangers():
            with pytest.raises(Unauthorized) as caught:
                flavour.node(peer.url, **options).run("echo", "x")
            assert [attempt.transport for attempt in caught.value.attempts] == ["spdy"]
            with pytest.raises(Unauthorized):
                flavour.node(peer.url, **options, transport="ws").run("echo", "x")

    def test_missing_pod_and_container(self, flavour: Flavour, peer: Peer) -> None:
        node = over("ws", flavour, peer)
        with pytest.raises(NotFound, match="pod does not exist"):
            node.run("echo", pod={"pod": "other"})
        with pytest.raises(ServerError, match="container not found"):
            node.run("echo", container="other")

    def test_url_of_the_callers_own(self, flavour: Flavour, modern: Peer) -> None:
        url = exec_url(modern.url, ["cat"], stdin=True, stderr=False)
        streams = StreamSet(stdin=True, stdout=True, stderr=False)
        with flavour.connect_exec(url, **modern.options(), streams=streams, transport="ws") as process:
            assert process.communicate(b"mine")[0] == b"mine"
            assert (process.process.transport, process.process.protocol) == ("ws", "v5.channel.k8s.io")
