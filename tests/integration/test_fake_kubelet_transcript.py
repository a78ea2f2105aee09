"""What the fake kubelet remembers of its clients."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from fakekubelet import FakeKubelet, Transcript, User
from fakekubelet.faults import LostStatus
from fakekubelet.transcript import ENTRIES_KEPT
from spdyproto.channels.events import StreamSet
from support.fakes import Caller
from support.rawclient import HttpClient, connect, exec_target, upgrade_headers, websocket_headers

WIRES = pytest.mark.parametrize("websocket", [None, "v4.channel.k8s.io", "v5.channel.k8s.io"])
ALL = StreamSet(stdin=True)


@WIRES
def test_a_session_from_its_request_to_its_end(websocket: str | None) -> None:
    with FakeKubelet(profile="1.36") as kubelet:
        Caller(kubelet).run(["both", "2"], websocket=websocket)
        (exchange,) = kubelet.transcript.sessions
        exchange.wait(10)
    assert (exchange.method, exchange.path) == ("POST" if websocket is None else "GET", "/exec/default/demo/main")
    assert exchange.query["command"] == ["both", "2"]
    assert (exchange.status, exchange.protocol) == (101, websocket or "v4.channel.k8s.io")
    assert exchange.total("server", "stdout") == len("out 0\nout 1\n")
    assert json.loads(exchange.exit_status)["status"] == "Success"
    assert exchange.ended in ("server", "client")
    if websocket is None:
        assert exchange.frames("client")[0] == "SYN_STREAM error id=1 streamtype=error"
        assert exchange.frames("server")[-1] == "GOAWAY last stream 5, OK"
    else:
        assert exchange.frames("server")[-1] == "CLOSE 1000"
    assert "< 101" in str(kubelet.transcript)


@WIRES
def test_stdin_output_and_credentials_are_not_kept(websocket: str | None) -> None:
    with FakeKubelet(profile="1.36", tokens={"s3cret-token": User("alice")}) as kubelet:
        caller = Caller(kubelet)
        if websocket != "v4.channel.k8s.io":
            assert caller.run(["cat"], stdin=b"s3cret-stdin", websocket=websocket).stdout == b"s3cret-stdin"
        with HttpClient(connect(kubelet.url, kubelet.ca)) as http:
            authorization = [("Authorization", "Bearer s3cret-token"), ("Cookie", "s3cret-cookie")]
            assert http.request("GET", "/pods", authorization).status == 200
        with HttpClient(connect(kubelet.url, kubelet.ca)) as http:
            hidden = "base64url.bearer.authorization.k8s.io.czNjcmV0LXRva2Vu"
            headers = websocket_headers(["v4.channel.k8s.io"], extra=[hidden])
            assert http.request("GET", exec_target(["true"]), headers).status == 101
        shown = f"{kubelet.transcript} {kubelet.transcript.exchanges!r}"
        assert "s3cret" not in shown
        assert "czNjcmV0" not in shown
        assert kubelet.transcript.last("/pods").header("authorization") == ["(redacted)"]
        if websocket != "v4.channel.k8s.io":
            assert kubelet.transcript.exchanges[0].total("client", "stdin") == len(b"s3cret-stdin")


@WIRES
def test_they_are_kept_on_request(websocket: str | None) -> None:
    transcript = Transcript(payload=8, secrets=True)
    with FakeKubelet(profile="1.36", transcript=transcript, tokens={"token": User("alice")}) as kubelet:
        with Caller(kubelet).open(["cat"], streams=ALL, websocket=websocket) as client:
            client.send(b"0123456789")
            client.pump_until(lambda: len(client.stdout) == 10)
        with HttpClient(connect(kubelet.url, kubelet.ca)) as http:
            http.request("GET", "/healthz", [("Authorization", "Bearer token")])
        exchange = transcript.last("/exec/").wait(10)
        assert exchange.streams["client", "stdin"] == exchange.streams["server", "stdout"] == b"01234567"
        assert exchange.ended == "client"
        assert transcript.last("/healthz").header("Authorization") == ["Bearer token"]
        assert transcript.last("/healthz").body == b"ok"


def test_refusals_with_their_words() -> None:
    with FakeKubelet() as kubelet, Caller(kubelet).http() as http:
        http.request("POST", "/exec/default/absent/main?command=x&output=1", upgrade_headers())
        exchange = kubelet.transcript.last()
        assert (exchange.status, exchange.body, exchange.ended) == (404, b"pod does not exist", "server")
        assert kubelet.transcript.sessions == []
        with pytest.raises(LookupError, match="/attach/"):
            kubelet.transcript.last("/attach/")
        kubelet.transcript.clear()
        assert len(kubelet.transcript) == 0


def test_what_a_fault_did_is_seen() -> None:
    with FakeKubelet(faults=[LostStatus()]) as kubelet:
        Caller(kubelet).run(["echo", "x"])
        exchange = kubelet.transcript.last("/exec/").wait(10)
        assert exchange.total("server", "stdout") == 2
        assert exchange.exit_status == ""
        assert exchange.total("server", "error") == 0


def test_it_is_bounded() -> None:
    with FakeKubelet(transcript=Transcript(exchanges=3)) as kubelet:
        caller = Caller(kubelet)
        with caller.http() as http:
            for number in range(10):
                assert http.request("GET", f"/nothing/{number}", [("X-Long", "y" * 5000)]).status == 404
        exchanges = kubelet.transcript.exchanges
        assert [each.path for each in exchanges] == ["/nothing/7", "/nothing/8", "/nothing/9"]
        assert len(exchanges[0].header("x-long")[0]) < 1000
        with caller.open(["cat"], streams=ALL, websocket="v4.channel.k8s.io") as client:
            for number in range(ENTRIES_KEPT):
                client.send(b"%d" % number)
                before = len(client.stdout)
                client.pump_until(lambda before=before: len(client.stdout) > before)  # type: ignore[misc] # mypy cannot infer a default
        exchange = kubelet.transcript.last("/exec/").wait(10)
        assert len(exchange.entries) == ENTRIES_KEPT
        assert exchange.left_out > 0
        assert f"{exchange.left_out} more frames" in str(exchange)


def test_it_can_be_off() -> None:
    with FakeKubelet(transcript=Transcript(exchanges=0)) as kubelet:
        assert Caller(kubelet).run(["echo", "x"]).stdout == b"x\n"
        assert kubelet.transcript.exchanges == []
    with pytest.raises(ValueError, match="at least 0"):
        Transcript(payload=-1)


def test_what_a_client_sends_cannot_forge_a_line() -> None:
    with FakeKubelet() as kubelet, Caller(kubelet).http() as http:
        http.request("GET", "/evil%0A%1B%5B2J", [("X-Note", "a\x1b[2Jb")])
        assert "\x1b" not in str(kubelet.transcript)
        assert len(str(kubelet.transcript).splitlines()) == len(
            [line for line in str(kubelet.transcript).splitlines() if line.startswith(("GET", "  "))]
        )


def test_the_command_shows_it_at_the_end() -> None:
    command = [sys.executable, "-m", "kubewire", "fake", "--transcript"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            url = json.loads(process.stdout.readline())["kubelet"]
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(f"{url}/healthz", context=context, timeout=20)
            caught.value.close()
            process.terminate()
            _, errors = process.communicate(timeout=20)
            assert errors.decode().startswith("GET /healthz HTTP/1.1\n")
            assert "  < 401\n" in errors.decode()
        finally:
            process.kill()
