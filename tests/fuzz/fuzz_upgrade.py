"""The upgrade: first byte the size of the pieces, second the role and the end, the rest what the peer sent.

The second byte is ``c`` for a client whose connection ends in order, ``t`` for one that is cut, ``s`` for a server,
which gets the lines of the rest as parsed headers.
"""

from __future__ import annotations

from spdyproto.channels.subprotocols import CRI_SPDY, Subprotocol
from spdyproto.channels.upgrade import (
    ClientUpgrade,
    UpgradeAccepted,
    UpgradeFailed,
    UpgradeOutcome,
    UpgradeRefused,
    negotiate_upgrade,
    upgrade_response,
    wants_upgrade,
)
from spdyproto.errors import UpgradeError
from spdyproto.limits import Limits

SECRET = "Zebra-0123456789"  # no escape sequence can spell its first letter
LIMITS = Limits(http_head=1024, refusal_body=256)  # small, so that mutated inputs cross them
TOKENS = (
    b"HTTP/1.1 101 Switching Protocols\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 403 Forbidden\r\n",
    b"HTTP/1.0 ",
    b"Connection: Upgrade\r\n",
    b"Upgrade: SPDY/3.1\r\n",
    b"X-Stream-Protocol-Version: ",
    b"v4.channel.k8s.io",
    b"channel.k8s.io",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Location: //\r\n",
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    b"\r\n\r\n",
    b"\r\n ",
    b"\n",
    b"\r",
    b"\x00",
    b"\xff",
    b'{"message":"',
    SECRET.encode(),
)


def one_input(data: bytes) -> None:
    """Any bytes give exactly one outcome and no exception, the same one in whatever pieces they come.

    An upgrade is accepted only for a subprotocol that was offered, and every byte after the head is handed on. What is
    kept of a refusal is bounded. Error texts are harmless and short, and no outcome shows the credentials.
    """
    size = max(1, (data[0] - 0x30) % 256) if data else 1
    mode = data[1:2]
    wire = data[2:]
    if mode == b"s":
        _serve(wire)
        return
    clean = mode != b"t"
    whole, rest = _settle(wire, max(1, len(wire)), clean)
    assert not rest
    pieces, rest = _settle(wire, size, clean)
    assert type(pieces) is type(whole)
    assert SECRET not in repr(whole)
    if isinstance(whole, UpgradeAccepted) and isinstance(pieces, UpgradeAccepted):
        assert whole.protocol == pieces.protocol
        assert isinstance(whole.protocol, Subprotocol)
        assert whole.surplus == pieces.surplus + rest
        assert wire.endswith(whole.surplus)
    elif isinstance(whole, UpgradeRefused) and isinstance(pieces, UpgradeRefused):
        _same_refusal(whole, pieces)
    else:
        assert isinstance(whole, UpgradeFailed)
        assert isinstance(whole.error, UpgradeError)
        assert str(whole.error).isprintable()
        assert len(str(whole.error)) < 2000


def _settle(wire: bytes, size: int, clean: bool) -> tuple[UpgradeOutcome, bytes]:
    upgrade = ClientUpgrade("h", "/exec", headers=[("Authorization", f"Bearer {SECRET}")], limits=LIMITS)
    upgrade.data_to_send()
    for at in range(0, len(wire), size):
        outcome = upgrade.receive_data(wire[at : at + size])
        if outcome is not None:
            return outcome, wire[at + size :]
    return upgrade.receive_eof(clean=clean), b""


def _same_refusal(whole: UpgradeRefused, pieces: UpgradeRefused) -> None:
    assert (whole.status, whole.reason, whole.headers) == (pieces.status, pieces.reason, pieces.headers)
    room = LIMITS.refusal_body + len("<credentials>") * LIMITS.refusal_body // len(SECRET)
    assert len(whole.body) <= room
    assert SECRET.encode() not in whole.body
    assert whole.message
    whole.message.encode()
    if "reading stopped" not in whole.note + pieces.note:  # where reading stops depends on how much came at once
        assert (whole.body, whole.message, whole.note) == (pieces.body, pieces.message, pieces.note)


def _serve(wire: bytes) -> None:
    lines = [line.partition(b":") for line in wire.split(b"\n")]
    headers = [(name.strip(), value.strip()) for name, _, value in lines]
    answer = negotiate_upgrade(headers, CRI_SPDY)
    assert answer.status in (101, 400, 403)
    assert (answer.protocol is not None) == (answer.status == 101)
    assert (answer.status == 101) == (not answer.body)
    for name, value in answer.headers:
        assert b"\n" not in name + value
        assert b"\r" not in name + value
    if answer.protocol is not None:
        assert wants_upgrade(headers)
        assert answer.protocol in CRI_SPDY
        assert upgrade_response(answer.protocol).endswith(b"\r\n\r\n")
