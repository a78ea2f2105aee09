"""The whole matrix against Kubernetes' own code: flavour of the client x transport x subprotocol x TLS, each cell with
binary data both ways by digest, and an exit code. A gibibyte goes through one cell of each transport and flavour, in
``test_client_on_go_server.py`` and ``test_client_on_go_websocket.py``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kubeletclient import PIPE, ClientCertificate, OutcomeUnknown, RemoteError, StreamSet
from spdyproto.channels.subprotocols import Subprotocol
from support.contract import ALL_BYTES, MIB, HashSink, expected, hashed_blocks
from support.flavours import Flavour, Running, flavour_fixture
from support.gopeers import GoServer, exec_url, random_bytes
from support.pki import Pki

pytestmark = [pytest.mark.interop, pytest.mark.usefixtures("go_peers"), pytest.mark.timeout(120)]

flavour = flavour_fixture()

SIZE = 16 * MIB
SPDY = [f"spdy:{version.value}" for version in (Subprotocol.V4, Subprotocol.V3, Subprotocol.V2, Subprotocol.V1)]
V5 = "ws:v5.channel.k8s.io"
V4 = ["ws:v4.channel.k8s.io", "ws:v4.base64.channel.k8s.io"]
OLD = ["ws:channel.k8s.io", "ws:base64.channel.k8s.io", "ws:none"]
TRANSPORTS = [*SPDY, V5, *V4, *OLD]
CAN_END_STDIN = [*SPDY, V5]
HAS_CODES = [SPDY[0], V5, *V4]


@dataclass
class Servers:
    """A kubelet up to 1.35 and one from 1.36 on, which both speak one version of TLS."""

    old: GoServer
    new: GoServer
    options: dict[str, Any]

    def start(self, flavour: Flavour, transport: str, *command: str, stdin: Any = None, **more: Any) -> Running:
        streams = StreamSet(stdin=stdin is not None)
        url = exec_url((self.new if transport == V5 else self.old).url, command, stdin=streams.stdin)
        return flavour.connect_exec(url, streams=streams, stdin=stdin, transport=transport, **self.options, **more)


@pytest.fixture(scope="module", params=["1.2", "1.3", "plain"])
def servers(request: pytest.FixtureRequest, go_peers: Path, pki: Pki) -> Iterator[Servers]:
    plain = request.param == "plain"
    files: dict[str, Any] = {
        "certificate": pki.server_certificate, "key": pki.server_key, "client_ca": pki.ca, "tls": request.param,
    }  # fmt: skip
    options = {"ca": pki.ca, "credentials": ClientCertificate(pki.client_certificate, pki.client_key)}
    with ExitStack() as stack:
        old, new = (
            stack.enter_context(GoServer(translate=translate, **({} if plain else files)))
            for translate in (False, True)
        )
        yield Servers(old, new, {} if plain else options)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_down_by_digest(servers: Servers, flavour: Flavour, transport: str) -> None:
    sink = HashSink()
    with servers.start(flavour, transport, "random", str(SIZE), "down", stdout=sink) as process:
        assert (process.process.transport, process.process.protocol) == _named(transport)
        if transport in OLD:
            with pytest.raises(OutcomeUnknown):
                process.wait()
        else:
            assert process.wait() == 0
    assert sink.seen == expected(SIZE, "down")


def _named(transport: str) -> tuple[str, str]:
    wire, _, name = transport.partition(":")
    return wire, "" if name == "none" else name


@pytest.mark.parametrize("transport", CAN_END_STDIN)
def test_up_by_digest(servers: Servers, flavour: Flavour, transport: str) -> None:
    sent = HashSink()
    with servers.start(flavour, transport, "sink", stdin=hashed_blocks(SIZE, "up", sent)) as process:
        assert process.read().decode() == "{} {}\n".format(*sent.seen)
        assert process.wait() == 0
    assert sent.size == SIZE


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_both_ways(servers: Servers, flavour: Flavour, transport: str) -> None:
    """Where stdin cannot end, the way up is judged by what comes back."""
    data = ALL_BYTES + random_bytes(4 * MIB, "echo")
    with servers.start(flavour, transport, "cat", stdin=PIPE) as process:
        for start in range(0, len(data), 256 * 1024):
            piece = data[start : start + 256 * 1024]
            process.write(piece)
            assert process.read(len(piece)) == piece
        if transport in CAN_END_STDIN:
            process.end_stdin()
            assert process.read() == b""
            assert process.wait() == 0


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_exit_code(servers: Servers, flavour: Flavour, transport: str) -> None:
    with servers.start(flavour, transport, "exit", "3") as process:
        if transport in HAS_CODES:
            assert process.wait() == 3
        else:
            with pytest.raises(RemoteError, match="exit code 3"):
                process.wait()
