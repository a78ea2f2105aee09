"""What a profile changes, seen by a client."""

from __future__ import annotations

import json

import pytest

from fakekubelet import FakeKubelet
from fakekubelet.profiles import PROFILES
from spdyproto.channels.events import Exited, StreamSet
from spdyproto.channels.subprotocols import Subprotocol
from support.fakes import Caller
from support.rawclient import exec_target, upgrade_headers, websocket_headers
from support.wire import RawPeer, data, ping
from support.wsframes import frame

VERSIONS = pytest.mark.parametrize("version", PROFILES)


@VERSIONS
@pytest.mark.parametrize("subprotocol", ["", "channel.k8s.io", "v4.base64.channel.k8s.io", "v5.channel.k8s.io"])
def test_subprotocols_over_websocket(version: str, subprotocol: str) -> None:
    with FakeKubelet(profile=version) as kubelet, Caller(kubelet).http() as http:
        offered = [subprotocol] if subprotocol else []
        answer = http.request("GET", exec_target(["true"]), websocket_headers(offered))
        spoken = subprotocol in PROFILES[version].websocket
        assert answer.status == (101 if spoken else 403)


@VERSIONS
@pytest.mark.parametrize("subprotocol", ["", "v4.channel.k8s.io", "SPDY/3.1+portforward.k8s.io"])
def test_port_forward_over_websocket(version: str, subprotocol: str) -> None:
    with FakeKubelet(profile=version) as kubelet, Caller(kubelet).http() as http:
        offered = [subprotocol] if subprotocol else []
        answer = http.request("GET", "/portForward/default/demo?port=80", websocket_headers(offered))
        assert answer.status == (101 if subprotocol in PROFILES[version].forward_websocket else 403)


@VERSIONS
def test_words_of_a_refusal(version: str) -> None:
    with FakeKubelet(profile=version, authorize=lambda _: False) as kubelet, Caller(kubelet).http() as http:
        new = version not in ("1.29", "1.31")
        said = "subresource(s)=[pods proxy])\n" if new else "subresource=proxy)"
        answer = http.request("GET", "/pods")
        assert answer.status == 403
        assert answer.body.decode() == f"Forbidden (user=tester, verb=get, resource=nodes, {said}"


@VERSIONS
def test_the_right_that_is_enough_for_the_list_of_pods(version: str) -> None:
    """Fine-grained authorization asks for less; without it a kubelet never asks for ``nodes/pods``."""
    kubelet = FakeKubelet(profile=version, authorize=lambda asked: asked.subresource == "pods")
    with kubelet, Caller(kubelet).http() as http:
        assert http.request("GET", "/pods").status == (200 if PROFILES[version].fine_grained else 403)


def status_body(kubelet: FakeKubelet, argv: list[str], websocket: str | None = None) -> bytes:
    """The text of the error stream."""
    with Caller(kubelet).open(argv, websocket=websocket) as client:
        outcome = client.finish().outcome
    assert isinstance(outcome, Exited)
    return outcome.status.raw


@VERSIONS
def test_the_form_of_a_status(version: str) -> None:
    with FakeKubelet(profile=version) as kubelet:
        long = b'{"metadata":{},"status":"Success"}'
        short = b'{"status":"Success"}'
        assert status_body(kubelet, ["true"]) == (long if version in ("1.29", "1.31", "1.35") else short)
        failed = json.loads(status_body(kubelet, ["exit", "3"]))
        assert ("metadata" in failed) == PROFILES[version].metadata
        assert failed["details"]["causes"] == [{"reason": "ExitCode", "message": "3"}]
        internal = json.loads(status_body(kubelet, ["no-such-command"]))
        assert ("details" in internal) == PROFILES[version].metadata
        if "v5.channel.k8s.io" in PROFILES[version].websocket:
            assert status_body(kubelet, ["true"], "v5.channel.k8s.io") == long  # the kubelet's own translation


def test_arguments_replace_what_the_profile_has() -> None:
    with FakeKubelet(profile="1.36", protocols=[Subprotocol.V2], websocket_protocols=["v4.channel.k8s.io"]) as kubelet:
        caller = Caller(kubelet)
        assert caller.run(["echo", "x"], protocols=[Subprotocol.V4, Subprotocol.V2]).stdout == b"x\n"
        with caller.http() as http:
            target = exec_target(["true"])
            assert http.request("GET", target, websocket_headers(["v5.channel.k8s.io"])).status == 403
        with caller.http() as http:
            assert http.request("POST", target, upgrade_headers([Subprotocol.V4])).status == 403


def test_an_unknown_profile_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one of 1\.29"):
        FakeKubelet(profile="2.0")


@pytest.mark.parametrize(("version", "answered"), [("1.36", []), ("strict", [("RST_STREAM", 99, 2)])])
def test_strict_is_spdy_to_the_letter(version: str, answered: list[tuple[object, ...]]) -> None:
    """DATA for a stream that nobody opened: dropped as spdystream does, or answered by INVALID_STREAM as the draft
    says."""
    with FakeKubelet(profile=version) as kubelet, Caller(kubelet).http() as http:
        assert http.request("POST", exec_target(["true"]), upgrade_headers()).status == 101
        peer = RawPeer()
        http.sock.sendall(data(99, b"lost") + ping(1))
        told: list[tuple[object, ...]] = []
        while not any(each[0] == "PING" for each in told):
            told += peer.read([http.sock.recv(65536)])
        assert told[:-1] == answered


@pytest.mark.parametrize(("version", "output"), [("1.36", b"a"), ("strict", b"abc")])
def test_strict_puts_messages_together(version: str, output: bytes) -> None:
    """A message in fragments: Go's server takes each for a message, with a channel of its own."""
    with FakeKubelet(profile=version) as kubelet:
        client = Caller(kubelet).open(["cat"], streams=StreamSet(stdin=True), websocket="v5.channel.k8s.io")
        with client:
            key = b"\x01\x02\x03\x04"
            client.sock.sendall(frame(2, b"\x00a", fin=False, key=key) + frame(0, b"bc", key=key))
            client.session.close_stdin()
            client.flush()
            assert client.finish().stdout == output
