"""What holds for every answer to an upgrade request, and for both roles put together."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spdyproto.channels.subprotocols import CLIENT_OFFER, CRI_SPDY, PORT_FORWARD, Subprotocol, negotiate
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
from spdyproto.limits import Limits

LIMITS = Limits(http_head=2048, refusal_body=200)
SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nDate: Tue, 07 Jul 2026 10:00:00 GMT\r\n"
    b"Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n"
)
# Whole answers, each with what it must come to: a protocol, a status, or neither (no HTTP).
ANSWERS: list[tuple[bytes, str | int | None]] = [
    (SWITCHING, "v4.channel.k8s.io"),
    (b"HTTP/1.1 100 Continue\r\n\r\n" + SWITCHING, "v4.channel.k8s.io"),
    (b"HTTP/1.1 404 Not Found\r\nContent-Length: 18\r\n\r\npod does not exist", 404),
    (b"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nT: x\r\n\r\n", 500),
    (b"HTTP/1.1 403 Forbidden\r\n\r\nuntil the end of the connection", 403),
    (b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 300\r\n\r\n" + b"x" * 300, 401),
    (b"HTTP/1.1 302 Found\r\nLocation: https://elsewhere/\r\nContent-Length: 0\r\n\r\n", 302),
    (SWITCHING.replace(b"\r\n", b"\n"), None),
    (SWITCHING.replace(b"v4", b"v9"), None),
    (b"HTTP/1.1 403 X\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", None),
    (b"\x15\x03\x01\x00\x02\x02\x46", None),
]


def client() -> ClientUpgrade:
    upgrade = ClientUpgrade("node", "/exec", limits=LIMITS)
    upgrade.data_to_send()
    return upgrade


def pieces(wire: bytes, cuts: list[int]) -> Iterator[bytes]:
    borders = [0, *sorted(cut % (len(wire) + 1) for cut in cuts), len(wire)]
    return (wire[start:end] for start, end in pairwise(borders))


def settle(parts: Iterator[bytes]) -> tuple[UpgradeOutcome, bytes]:
    """The outcome of an answer that comes in these parts, and whatever of them was not asked for any more."""
    upgrade = client()
    for part in parts:
        result = upgrade.receive_data(part)
        if result is not None:
            return result, b"".join(parts)
    return upgrade.receive_eof(), b""


def verdict(result: UpgradeOutcome) -> str | int | None:
    if isinstance(result, UpgradeAccepted):
        return result.protocol
    return result.status if isinstance(result, UpgradeRefused) else None


@given(st.sampled_from(ANSWERS), st.binary(max_size=50), st.lists(st.integers(0, 1000), max_size=20))
def test_pieces_do_not_change_the_outcome(
    answer: tuple[bytes, str | int | None], after: bytes, cuts: list[int]
) -> None:
    wire, expected = answer
    whole, _ = settle(iter([wire + after]))
    assert verdict(whole) == expected
    result, rest = settle(pieces(wire + after, cuts))
    assert verdict(result) == expected
    if isinstance(result, UpgradeAccepted) and isinstance(whole, UpgradeAccepted):
        assert result.surplus + rest == after == whole.surplus
    elif isinstance(result, UpgradeRefused):
        assert result == whole
    else:
        assert isinstance(result, UpgradeFailed)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize(("wire", "expected"), ANSWERS)
def test_every_answer_byte_by_byte(wire: bytes, expected: str | int | None, size: int) -> None:
    result, _ = settle(wire[at : at + size] for at in range(0, len(wire), size))
    assert verdict(result) == expected


@pytest.mark.parametrize(("wire", "expected"), ANSWERS)
def test_an_answer_cut_anywhere_is_never_an_upgrade(wire: bytes, expected: str | int | None) -> None:
    for cut in range(len(wire)):
        result, _ = settle(iter([wire[:cut]]))
        assert not isinstance(result, UpgradeAccepted)
        if isinstance(result, UpgradeRefused):
            assert result.status == expected


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=8))
@example(b"HTTP/1.1 ", [])
def test_any_bytes_give_one_outcome(wire: bytes, cuts: list[int]) -> None:
    result, _ = settle(pieces(wire, cuts))
    assert isinstance(result, UpgradeRefused | UpgradeFailed)
    if isinstance(result, UpgradeFailed):
        assert str(result.error).isprintable()


@given(st.data())
def test_one_changed_byte_of_a_101_never_breaks_the_rules(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(SWITCHING) - 1))
    wire = bytearray(SWITCHING)
    wire[at] = data.draw(st.integers(0, 255))
    result, _ = settle(iter([bytes(wire)]))
    if isinstance(result, UpgradeAccepted):
        assert result.protocol in CLIENT_OFFER
        assert result.surplus == b""


@given(st.binary(max_size=2000), st.sampled_from([0, 1]))
def test_what_is_kept_of_a_refusal_is_bounded(body: bytes, chunked: int) -> None:
    if chunked:
        head = b"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n"
        wire = head + (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
    else:
        wire = b"HTTP/1.1 500 X\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    result, _ = settle(iter([wire]))
    assert isinstance(result, UpgradeRefused)
    assert result.body == body[: LIMITS.refusal_body]
    assert bool(result.note) == (len(body) > LIMITS.refusal_body)


NAMES = st.sampled_from([*map(str, Subprotocol), PORT_FORWARD, "v9.channel.k8s.io"])


@given(
    st.lists(NAMES, min_size=1, max_size=6),
    st.lists(NAMES, min_size=1, max_size=6, unique=True),
    st.binary(max_size=20),
)
def test_client_and_server_agree(offered: list[str], supported: list[str], surplus: bytes) -> None:
    upgrade = ClientUpgrade("node", "/exec", protocols=offered, limits=Limits())
    http = h11.Connection(h11.SERVER)
    http.receive_data(upgrade.data_to_send())
    request = http.next_event()
    assert isinstance(request, h11.Request)
    assert wants_upgrade(list(request.headers))
    answer = negotiate_upgrade(list(request.headers), supported)
    assert answer.protocol == negotiate(offered, supported)
    if answer.protocol is None:
        response = h11.Response(status_code=answer.status, headers=answer.headers)
        wire = b"".join(http.send(event) or b"" for event in (response, h11.Data(data=answer.body), h11.EndOfMessage()))
        result = upgrade.receive_data(wire)
        assert isinstance(result, UpgradeRefused)
        assert (result.status, result.body) == (403, answer.body)
    else:
        result = upgrade.receive_data(upgrade_response(answer.protocol) + surplus)
        assert isinstance(result, UpgradeAccepted)
        assert (result.protocol, result.surplus) == (answer.protocol, surplus)


LINES = st.lists(
    st.tuples(
        st.sampled_from([b"Connection", b"upgrade", b"X-Stream-Protocol-Version", b"Host", b"X"]),
        st.sampled_from([b"Upgrade", b"SPDY/3.1", b"v4.channel.k8s.io", b"v5.channel.k8s.io", b"", b"close", b"\xff"]),
    ),
    max_size=8,
)


@given(LINES)
def test_server_switches_only_with_every_header_in_place(headers: list[tuple[bytes, bytes]]) -> None:
    answer = negotiate_upgrade(headers, CRI_SPDY)
    first = {name.lower(): value for name, value in reversed(headers)}
    named = any(name.lower() == b"x-stream-protocol-version" and value for name, value in headers)
    fits = (b"X-Stream-Protocol-Version", b"v4.channel.k8s.io") in headers
    switches = first.get(b"connection") == b"Upgrade" and first.get(b"upgrade") == b"SPDY/3.1"
    expected = 400 if not named else 403 if not fits else 101 if switches else 400
    assert answer.status == expected
