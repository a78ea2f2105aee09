"""Starting and closing: nothing is left behind, and nothing that is not asked for is opened."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Iterator

import pytest

from fakekubelet import CertificateAuthority, Command, Container, FakeKubelet, Pod
from spdyproto.channels.events import StreamSet
from support.fakes import Caller
from support.rawclient import HttpClient, connect


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def nothing_left() -> Iterator[None]:
    threads, files = set(threading.enumerate()), open_files()
    yield
    assert set(threading.enumerate()) <= threads
    assert open_files() <= files


@pytest.mark.usefixtures("nothing_left")
def test_with() -> None:
    with FakeKubelet() as kubelet:
        assert kubelet.url == f"https://127.0.0.1:{kubelet.port}"
        assert kubelet.port != 0
        assert Caller(kubelet).run(["echo", "x"]).stdout == b"x\n"
    with pytest.raises(ConnectionError):
        socket.create_connection(("127.0.0.1", kubelet.port), 10)


@pytest.mark.usefixtures("nothing_left")
def test_async_with() -> None:
    async def main() -> bytes:
        async with FakeKubelet() as kubelet:
            return await asyncio.to_thread(lambda: Caller(kubelet).run(["echo", "x"]).stdout)

    assert asyncio.run(main()) == b"x\n"


@pytest.mark.usefixtures("nothing_left")
def test_closing_cuts_what_is_under_way() -> None:
    kubelet = FakeKubelet().start()
    caller = Caller(kubelet)
    with caller.connect(), caller.http() as http, caller.open(["cat"], streams=StreamSet(stdin=True)):
        assert http.request("GET", "/healthz").status == 200
        with caller.open(["sleep", "1000"]), caller.open(["source", str(1 << 40)]):
            kubelet.close()
        assert [execution.running for execution in kubelet.executions] == [False] * 3


def test_closing_twice_or_without_a_start() -> None:
    kubelet = FakeKubelet()
    kubelet.close()
    kubelet.close()
    with pytest.raises(RuntimeError, match="started once"):
        kubelet.start()
    with FakeKubelet() as kubelet:
        kubelet.close()


def test_the_address_is_known_only_after_the_start() -> None:
    with pytest.raises(RuntimeError, match="start it first"):
        _ = FakeKubelet().url


@pytest.mark.usefixtures("nothing_left")
def test_an_address_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=r"(?i)address already in use"):
            FakeKubelet(port=port).start()

        async def main() -> None:
            with pytest.raises(OSError, match=r"(?i)address already in use"):
                await FakeKubelet(port=port).__aenter__()

        asyncio.run(main())


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_other_machines_must_be_allowed_by_name(host: str) -> None:
    with pytest.raises(PermissionError, match="allow_remote=True"):
        FakeKubelet(host=host)


def test_a_host_is_an_address() -> None:
    with pytest.raises(ValueError, match=r"expected an IP address or localhost, not 'example\.com'"):
        FakeKubelet(host="example.com", allow_remote=True)


def test_all_interfaces_when_allowed() -> None:
    with FakeKubelet(host="0.0.0.0", allow_remote=True) as kubelet:
        assert kubelet.url.startswith("https://127.0.0.1:")
        assert Caller(kubelet).run(["true"]).code == 0


@pytest.mark.parametrize("host", ["localhost", "::1"])
def test_loopback_by_other_names(host: str) -> None:
    if host == "::1":
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            pytest.skip("this machine has no IPv6 loopback")
    with FakeKubelet(host=host) as kubelet:
        assert Caller(kubelet).run(["true"]).code == 0


def test_servers_can_share_an_authority() -> None:
    authority = CertificateAuthority.create("shared")
    with FakeKubelet(ca=authority) as one, FakeKubelet(ca=authority, node_name="two") as two:
        assert one.ca == two.ca
        identity = one.credentials("alice", ["devs"])
        with HttpClient(connect(two.url, two.ca, identity)) as http:
            assert http.request("GET", "/healthz").status == 200


def test_protocols_cannot_be_none() -> None:
    with pytest.raises(ValueError, match="name at least one protocol"):
        FakeKubelet(protocols=[], websocket_protocols=[])


def test_no_pods_at_all() -> None:
    with FakeKubelet([]) as kubelet, Caller(kubelet).http() as http:
        assert b'"items":[]' in http.request("GET", "/pods").body


class Faulty(Command):
    """A command that breaks something outside of every call the server guards."""

    def start(self) -> None:
        self.outlet.loop.call_soon(self.explode)

    def explode(self) -> None:
        raise ZeroDivisionError("deep inside")


FAULTY = Pod("demo", [Container("main", behaviour=Faulty)])


def test_a_fault_of_the_server_is_raised_when_it_closes() -> None:
    kubelet = FakeKubelet([FAULTY]).start()
    with Caller(kubelet).open(["x"]):
        pass
    kubelet.executions[0].wait_client_left(10)
    with pytest.raises(RuntimeError, match="failed while it ran") as caught:
        kubelet.close()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    kubelet.close()  # told once


def test_a_fault_does_not_hide_the_error_of_the_block() -> None:
    with pytest.raises(KeyError), FakeKubelet([FAULTY]) as kubelet, Caller(kubelet).open(["x"]):
        raise KeyError("the test's own")
