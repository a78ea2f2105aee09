"""The asyncio client fails as the blocking one does: the same types, the same texts, the same facts."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
import trustme

import kubeletclient
import kubeletclient.aio
from kubeletclient import BearerToken, ClientCertificate, ClientError, Deadlines, Keepalive, StreamSet
from support.loops import descriptors, on_a_loop
from support.scripted import SUCCESS, Peer, Script, ScriptedServer, exit_status
from support.wire import data, goaway, ping, rst

CA = trustme.CA()
SERVER = CA.issue_cert("127.0.0.1")
FOREIGN = trustme.CA().issue_cert("127.0.0.1")
ELSEWHERE = CA.issue_cert("elsewhere.internal")
CA_PEM = CA.cert_pem.bytes()
QUICK = Deadlines(dial=0.2, tls=0.2, upgrade=0.2, stream_reply=0.2, status=0.2, drain=0.2)
OUTPUTS = StreamSet(stdin=False, stdout=True, stderr=True)


def tls(leaf: trustme.LeafCert = SERVER, *, clients: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)
    if clients:
        CA.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


# What a server may do to its client, by name.


def leave(peer: Peer) -> None:
    """Hang up after the first bytes; not before, or it would depend on the moment whether TCP resets the connection."""
    peer.sock.recv(65536)


def leave_after_the_head(peer: Peer) -> None:
    peer.read_head()


def never(peer: Peer) -> None:
    raise AssertionError("the client must not come this far")


def be_deaf(peer: Peer) -> None:
    while peer.sock.recv(65536):
        pass


def answer(text: bytes) -> Script:
    def script(peer: Peer) -> None:
        peer.read_head()
        peer.sock.sendall(text)

    return script


def refuse(status: bytes, body: bytes = b"why", headers: bytes = b"") -> Script:
    return answer(b"HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n%s" % (status, headers, len(body), body))


def reply_to_no_stream(peer: Peer) -> None:
    peer.read_head()
    peer.switch()
    peer.read_to_the_end()


def speak(*frames: Callable[[Peer], bytes], protocol: str = "v4.channel.k8s.io") -> Script:
    def script(peer: Peer) -> None:
        peer.open_streams(3, protocol)
        peer.send(*(frame(peer) for frame in frames))
        peer.sock.shutdown(socket.SHUT_WR)
        peer.read_to_the_end()

    return script


OUT: Callable[[Peer], bytes] = lambda peer: data(peer.stdout, b"part of it")  # noqa: E731 - a table reads better
ENDS: Callable[[Peer], bytes] = lambda peer: data(peer.stdout, fin=True) + data(peer.stderr, fin=True)  # noqa: E731

STATUSES = {
    "400": refuse(b"400 Bad Request"),
    "401": refuse(b"401 Unauthorized"),
    "403": refuse(b"403 Forbidden", b"Forbidden (user=x, verb=create, resource=nodes, subresource=proxy)"),
    "404": refuse(b"404 Not Found"),
    "429": refuse(b"429 Too Many Requests"),
    "500": refuse(b"500 Internal Server Error"),
    "redirect": refuse(b"302 Found", headers=b"Location: https://evil.internal/\r\n"),
    "ok": refuse(b"200 OK"),
    "other protocol": refuse(b"403 Forbidden", headers=b"X-Accepted-Stream-Protocol-Versions: v9.channel.k8s.io\r\n"),
    "not offered": answer(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
        b"X-Stream-Protocol-Version: v9.channel.k8s.io\r\n\r\n"
    ),
    "other upgrade": answer(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
    "no http": answer(b"\x16\x03\x01 nonsense\r\n\r\n"),
    "cut in the head": answer(b"HTTP/1.1 101 Switch"),
}

SESSIONS = {
    "cut": speak(OUT),
    "empty status": speak(OUT, ENDS, lambda peer: data(peer.error, fin=True)),
    "goaway": speak(OUT, lambda _: goaway()),
    "no outputs' end": speak(OUT, lambda peer: data(peer.error, SUCCESS)),
    "garbled status": speak(ENDS, lambda peer: data(peer.error, b"{nonsense", fin=True)),
    "no exit code": speak(
        ENDS, lambda peer: data(peer.error, b'{"status":"Failure","message":"no luck","reason":"InternalError"}')
    ),
    "text": speak(ENDS, lambda peer: data(peer.error, b"no luck", fin=True), protocol="v3.channel.k8s.io"),
    "aborted": speak(OUT, lambda peer: rst(peer.stdout, 6)),
    "nonsense": speak(OUT, lambda _: b"\xff" * 40),
    "exit code": speak(ENDS, lambda peer: data(peer.error, exit_status(3))),
    "well": speak(OUT, ENDS, lambda _: ping(2), lambda peer: data(peer.error, SUCCESS), lambda _: goaway()),
}


def facts(error: BaseException | None) -> dict[str, Any]:
    """Everything that a caller can see of an error; what differs between two connections is taken out."""
    if error is None:
        return {}
    seen: dict[str, Any] = {"type": type(error), "text": str(error), "cause": type(error.__cause__)}
    if isinstance(error, ClientError):
        names = ("hint", "route", "url", "http_status", "received", "sent", "owed", "stdout", "stderr")
        seen |= {name: getattr(error, name) for name in names}
    return seen


def blocking(url: str, **options: Any) -> dict[str, Any]:
    try:
        with kubeletclient.connect_exec(url, streams=OUTPUTS, stdout=-101, stderr=-101, **options) as process:
            return {"code": process.wait(), "received": process.received, "protocol": process.protocol}
    except Exception as error:
        return facts(error)


async def awaited(url: str, **options: Any) -> dict[str, Any]:
    try:
        opening = kubeletclient.aio.connect_exec(url, streams=OUTPUTS, stdout=-101, stderr=-101, **options)
        async with opening as process:
            return {"code": await process.wait(), "received": process.received, "protocol": process.protocol}
    except Exception as error:
        return facts(error)


async def both(script: Script, *, context: ssl.SSLContext | None = None, scheme: str = "", **options: Any) -> Any:
    """What both flavours see of the same server; it must be the same. Nothing stays open."""
    before = descriptors()
    with ScriptedServer(script, script, tls=context) as server:
        url = server.url if not scheme else server.url.replace("http:", f"{scheme}:").replace("https:", f"{scheme}:")
        first = await asyncio.to_thread(blocking, url, **options)
        second = await awaited(url, **options)
    assert second == first
    assert descriptors() <= before + 1  # the loop's executor keeps nothing but itself
    return second


@pytest.mark.parametrize("name", STATUSES)
@on_a_loop
async def test_refusals(name: str) -> None:
    assert issubclass((await both(STATUSES[name]))["type"], ClientError)


@pytest.mark.parametrize("name", SESSIONS)
@on_a_loop
async def test_endings(name: str) -> None:
    seen = await both(SESSIONS[name], keepalive=None)
    if name in ("well", "exit code"):
        assert seen["code"] == (0 if name == "well" else 3)
    else:
        assert issubclass(seen["type"], ClientError)
        if "not ended" in seen["text"] or name == "empty status":
            assert seen["stdout"] == b"part of it"


TLS_CASES: dict[str, tuple[Script, dict[str, Any]]] = {
    "foreign authority": (never, {"context": tls(FOREIGN), "ca": CA_PEM}),
    "other name": (never, {"context": tls(ELSEWHERE), "ca": CA_PEM}),
    "certificate wanted": (be_deaf, {"context": tls(clients=True), "ca": CA_PEM}),
    "hangs up after it": (leave_after_the_head, {"context": tls(), "ca": CA_PEM}),
    "hangs up in it": (leave, {"scheme": "https", "ca": CA_PEM}),
    "never answers": (be_deaf, {"scheme": "https", "ca": CA_PEM, "deadlines": QUICK}),
    "verified": (SESSIONS["well"], {"context": tls(), "ca": CA_PEM, "credentials": BearerToken("s3cr3t")}),
}


@pytest.mark.parametrize("name", TLS_CASES)
@on_a_loop
async def test_tls(name: str) -> None:
    script, options = TLS_CASES[name]
    seen = await both(script, **options)
    assert "s3cr3t" not in str(seen)


@pytest.mark.parametrize("script", [be_deaf, reply_to_no_stream])
@on_a_loop
async def test_servers_that_say_nothing(script: Script) -> None:
    assert issubclass((await both(script, deadlines=QUICK))["type"], TimeoutError)


@on_a_loop
async def test_a_status_that_never_comes() -> None:
    def script(peer: Peer) -> None:
        peer.open_streams(3)
        peer.send(ENDS(peer))
        peer.read_to_the_end()

    assert issubclass((await both(script, deadlines=QUICK, keepalive=Keepalive(period=60)))["type"], TimeoutError)


@on_a_loop
async def test_the_callers_timeout() -> None:
    def script(peer: Peer) -> None:
        peer.open_streams(3)
        peer.send(OUT(peer))
        peer.read_to_the_end()

    seen = await both(script, timeout=0.3)
    assert (seen["type"], seen["stdout"]) == (kubeletclient.DeadlineExceeded, b"part of it")


@on_a_loop
async def test_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/exec/T"
    assert await awaited(url) == await asyncio.to_thread(blocking, url)


@pytest.fixture
def deaf_port() -> Iterator[int]:
    """A port whose queue of connections is full, so that the next dial is never answered."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        dialled = [socket.socket() for _ in range(4)]
        for sock in dialled:
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
        for sock in dialled:
            sock.close()


@pytest.mark.parametrize("options", [{"deadlines": QUICK}, {"timeout": 0.5, "ca": CA_PEM}])
@on_a_loop
async def test_nothing_answers_the_dial(deaf_port: int, options: dict[str, Any]) -> None:
    url = f"https://127.0.0.1:{deaf_port}/exec/T"
    seen = await awaited(url, **options)
    assert issubclass(seen["type"], TimeoutError)
    assert seen == await asyncio.to_thread(blocking, url, **options)


@on_a_loop
async def test_names(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    url = "https://node.invalid/exec/T"
    assert await awaited(url) == await asyncio.to_thread(blocking, url)
    done = threading.Event()

    def hang(*_: object, **__: object) -> list[Any]:
        done.wait(10)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    try:
        seen = await awaited(url, deadlines=QUICK)
        assert seen == await asyncio.to_thread(blocking, url, deadlines=QUICK)
        assert "not resolved in time" in seen["text"]
    finally:
        done.set()


@on_a_loop
async def test_the_next_address_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        refused = listener.getsockname()
    with ScriptedServer(SESSIONS["well"]) as server:
        there = ("127.0.0.1", server.port)
        entries = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", where) for where in (refused, there)]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: entries)
        assert (await awaited("http://node.invalid/exec/T"))["code"] == 0


@on_a_loop
async def test_misuse_is_told_before_anything_is_dialled() -> None:
    calls: list[Callable[[ModuleType], Any]] = [
        lambda client: client.Kubelet("ftp://x"),
        lambda client: client.Kubelet("https://x", ca=CA_PEM, verify=False),
        lambda client: client.Kubelet("https://x").pod("p").popen("ls", container="c"),
        lambda client: client.Kubelet("https://x").pod("p").popen([], container="c"),
        lambda client: client.Kubelet("https://x").pod("p").popen(["ls"], container="c", timeout=-1),
        lambda client: client.Kubelet("https://x").pod("p").popen(["ls"], container="c", stdout=-2),
        lambda client: client.Kubelet("https://x").pod("p").popen(["ls"], container="c", stdout=None, stderr=None),
        lambda client: client.connect_exec("https://user:pw@x/exec/T"),
    ]
    for call in calls:
        told = []
        for client in (kubeletclient, kubeletclient.aio):
            with pytest.raises((ValueError, TypeError)) as caught:
                call(client)
            told.append(facts(caught.value))
        assert told[0] == told[1]


@on_a_loop
async def test_credentials_that_must_not_go_out() -> None:
    pair = ClientCertificate(b"no pem", b"no pem")
    for options in ({"verify": False, "credentials": BearerToken("s3cr3t")}, {"credentials": pair, "ca": CA_PEM}):
        for url in ("https://127.0.0.1:9/exec/T", "http://127.0.0.1:9/exec/T"):
            seen = await awaited(url, **options)
            assert seen == await asyncio.to_thread(blocking, url, **options)
            assert issubclass(seen["type"], kubeletclient.CredentialsError)
            assert "s3cr3t" not in str(seen)
