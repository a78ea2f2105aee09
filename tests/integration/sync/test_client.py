"""The client object: the pod's default container, and what happens when it is closed meanwhile."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator

import pytest
import trustme

from fakekubelet import FakeKubelet
from kubeletclient import (
    ClientCertificate,
    ConnectError,
    ConnectionRefused,
    DeadlineExceeded,
    Deadlines,
    Forbidden,
    InvalidAnswer,
    Kubelet,
    NotFound,
    ProcessClosed,
    UnknownAuthorityError,
)
from kubeletclient.sync import process as process_module
from support.scripted import Peer, ScriptedServer


@pytest.fixture(scope="module")
def server() -> Iterator[FakeKubelet]:
    with FakeKubelet() as kubelet:
        yield kubelet


def client(server: FakeKubelet) -> Kubelet:
    identity = server.credentials("alice", ["system:masters"])
    return Kubelet(server.url, ca=server.ca, credentials=ClientCertificate(identity.cert_pem, identity.key_pem))


def test_the_container_is_asked_for_once_for_each_pod_object(server: FakeKubelet) -> None:
    with client(server) as kubelet:
        pod = kubelet.pod("demo")
        assert pod.run(["echo", "x"], timeout=30).stdout == b"x\n"
        assert pod._ref.default_container == "main"
        assert pod.run(["echo", "y"], timeout=30).stdout == b"y\n"
        with pytest.raises(NotFound, match="no pod 'nobody'"):
            kubelet.pod("nobody").run(["echo"], timeout=30)


def test_names(server: FakeKubelet) -> None:
    with client(server) as kubelet:
        assert repr(kubelet) == f"<Kubelet {server.url}>"
        assert repr(kubelet.pod("demo", "ns")) == f"<Pod ns/demo of <Kubelet {server.url}>>"


def answer(text: bytes) -> ScriptedServer:
    def script(peer: Peer) -> None:
        peer.read_head()
        peer.sock.sendall(text)

    return ScriptedServer(script)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", Forbidden),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n<>", InvalidAnswer),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n<>", ConnectError),
        (b"rubbish\r\n\r\n", ConnectError),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"items":[]}', NotFound),
    ],
)
def test_a_list_that_cannot_be_had(text: bytes, kind: type[Exception]) -> None:
    with answer(text) as server, Kubelet(server.address) as kubelet, pytest.raises(kind):
        kubelet.pod("p").run(["x"], timeout=30)


def test_a_list_that_does_not_come() -> None:
    def silent(peer: Peer) -> None:
        peer.read_head()
        peer.sock.recv(1)

    with ScriptedServer(silent, silent) as server:
        with pytest.raises(DeadlineExceeded, match="the kubelet's list of pods"):
            Kubelet(server.address).pod("p").run(["x"], timeout=0.2)
        with pytest.raises(ConnectError, match="give container="):
            Kubelet(server.address, deadlines=Deadlines(upgrade=0.2)).pod("p").run(["x"], timeout=30)


def test_a_list_that_trickles_is_ended_by_the_callers_timeout() -> None:
    def trickle(peer: Peer) -> None:
        peer.read_head()
        peer.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not done.wait(0.02):
            peer.sock.sendall(b" ")

    done = threading.Event()
    with ScriptedServer(trickle) as server, Kubelet(server.address) as kubelet:
        with pytest.raises(DeadlineExceeded):
            kubelet.pod("p").run(["x"], timeout=0.3)
        done.set()


def test_faults_of_the_list_are_those_of_exec() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    ca = trustme.CA().cert_pem.bytes()
    with ScriptedServer(lambda peer: None, tls=context) as server, Kubelet(server.address, ca=ca) as kubelet:
        with pytest.raises(UnknownAuthorityError):
            kubelet.pod("p").run(["x"], timeout=30)
        port = server.port
    with Kubelet(f"https://127.0.0.1:{port}", ca=ca) as kubelet, pytest.raises(ConnectionRefused):
        kubelet.pod("p").run(["x"], timeout=30)


def test_closing_while_a_command_is_being_started(server: FakeKubelet, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    real = process_module.open_process

    def slow(*args: object, **options: object) -> object:
        opened.append(real(*args, **options))  # type: ignore[arg-type]  # handed on
        kubelet.close()
        return opened[0]

    monkeypatch.setattr("kubeletclient.sync.commands.open_process", slow)
    with client(server) as kubelet, pytest.raises(ProcessClosed, match="this Kubelet was closed"):
        kubelet.pod("demo").popen(["sleep", "60"], container="main")
    with pytest.raises(ProcessClosed):
        opened[0].wait()
