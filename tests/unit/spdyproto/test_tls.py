"""The pump, both of its ends in memory. Peers that are not ours: test_tls_peers.py. Contexts: test_tls_contexts.py."""

from __future__ import annotations

import datetime
import itertools
import math
import random
import ssl
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spdyproto.errors import LocalProtocolError
from spdyproto.tls import FEED, RECORD, TLSPipe, client_context, server_context
from spdyproto.types import Buffer
from support.tlslink import (
    HOST,
    SCRATCH,
    VERSIONS,
    Authority,
    authority,
    chunks,
    contexts,
    drain,
    joined,
    limit,
    scratch,
    server_pair,
    shake,
)

FRAME = 65528
each_version = pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


class SpyBIO:
    """A memory BIO that remembers how full it ever was."""

    def __init__(self, bio: ssl.MemoryBIO) -> None:
        self.bio = bio
        self.fullest = 0

    @property
    def pending(self) -> int:
        return self.bio.pending

    def read(self, size: int = -1, /) -> bytes:
        self.fullest = max(self.fullest, self.bio.pending)
        return self.bio.read(size)

    def write(self, b: Buffer, /) -> int:
        written = self.bio.write(b)
        self.fullest = max(self.fullest, self.bio.pending)
        return written

    def write_eof(self) -> None:
        self.bio.write_eof()


# The handshake


@each_version
def test_handshake_agrees_on_version_and_protocol(version: ssl.TLSVersion) -> None:
    client, server = joined(version)
    assert client.version == server.version == version.name.replace("_", ".")
    assert client.alpn == server.alpn == "http/1.1"
    assert client.established
    assert server.established
    assert client.peer_certificate_der == ssl.PEM_cert_to_DER_cert(server_pair().cert.decode())
    assert server.peer_certificate_der is None
    assert server.peer_chain_der == []
    assert client.peer_chain_der[0] == client.peer_certificate_der


@each_version
def test_handshake_byte_by_byte(version: ssl.TLSVersion) -> None:
    ours, theirs = contexts(version, tickets=2)
    client, server = TLSPipe.client(ours, HOST), TLSPipe.server(theirs)
    client.do_handshake()
    for _ in range(4):
        for byte in chunks(client.take(), 1):
            server.do_handshake(byte)
        for byte in chunks(server.take(), 1):
            client.do_handshake(byte)
    assert client.established
    assert server.established
    client.send([b"after all"])
    assert drain(server, client.take()) == b"after all"


@each_version
@pytest.mark.parametrize("size", [5, FEED, 3 * FEED + 7, 20 * FEED])
def test_data_that_came_with_the_end_of_the_handshake_is_kept(version: ssl.TLSVersion, size: int) -> None:
    ours, theirs = contexts(version)
    client, server = TLSPipe.client(ours, HOST), TLSPipe.server(theirs)
    if version is ssl.TLSVersion.TLSv1_2:
        client.do_handshake()
        server.do_handshake(client.take())
        client.do_handshake(server.take())
        assert server.do_handshake(client.take())
        early, late, finished = server, client, server.take()
    else:
        client.do_handshake()
        server.do_handshake(client.take())
        assert client.do_handshake(server.take())
        early, late, finished = client, server, client.take()
    data = noise(size)
    early.send([data])
    assert late.do_handshake(finished + early.take())
    assert drain(late) == data


def test_session_tickets_after_the_handshake_are_no_data() -> None:
    ours, theirs = contexts(tickets=2)
    client, server = TLSPipe.client(ours, HOST), TLSPipe.server(theirs)
    shake(client, server)
    assert server.pending, "the tickets must be among the ciphertext"
    server.send([b"hello"])
    assert drain(client, server.take()) == b"hello"
    assert not client.closed_by_peer


@each_version
def test_a_session_is_resumed(version: ssl.TLSVersion) -> None:
    ours, theirs = contexts(version, tickets=1)
    first, server = TLSPipe.client(ours, HOST), TLSPipe.server(theirs)
    shake(first, server)
    drain(first, server.take())
    assert not first.session_reused
    again, server = TLSPipe.client(ours, HOST, session=first.session), TLSPipe.server(theirs)
    shake(again, server)
    assert again.session_reused
    again.send([b"resumed"])
    assert drain(server, again.take()) == b"resumed"


def failing_handshake(ours: ssl.SSLContext, name: str, theirs: ssl.SSLContext) -> tuple[ssl.SSLError, ssl.SSLError]:
    """The errors of client and server, when the client does not like the server."""
    client, server = TLSPipe.client(ours, name), TLSPipe.server(theirs)
    client.do_handshake()
    server.do_handshake(client.take())
    with pytest.raises(ssl.SSLError) as mine:
        client.do_handshake(server.take())
    assert client.pending, "an alert must tell the server why"
    with pytest.raises(ssl.SSLError) as its:
        server.do_handshake(client.take())
    with pytest.raises(LocalProtocolError, match="after close_notify"):
        client.send([b"x"])
    client.close_notify()
    assert not client.pending
    return mine.value, its.value


@each_version
def test_server_of_another_authority(version: ssl.TLSVersion) -> None:
    ours = limit(client_context(ca=Authority().pem), version)
    mine, its = failing_handshake(ours, HOST, contexts(version)[1])
    assert isinstance(mine, ssl.SSLCertVerificationError)
    assert mine.verify_code in (19, 20)  # an authority that is not ours, sent along or not
    assert "UNKNOWN_CA" in its.reason


@pytest.mark.parametrize("name", ["elsewhere.example", "127.0.0.2"])
def test_server_of_another_name(name: str) -> None:
    ours, theirs = contexts()
    mine, _ = failing_handshake(ours, name, theirs)
    assert isinstance(mine, ssl.SSLCertVerificationError)
    assert name in mine.verify_message


def test_server_with_an_expired_certificate() -> None:
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    pair = authority().issue(HOST, not_after=past)
    mine, _ = failing_handshake(contexts()[0], HOST, server_context(pair.cert, pair.key))
    assert isinstance(mine, ssl.SSLCertVerificationError)
    assert "expired" in mine.verify_message


def test_server_that_does_not_speak_tls() -> None:
    client = TLSPipe.client(contexts()[0], HOST)
    client.do_handshake()
    with pytest.raises(ssl.SSLError) as caught:
        client.do_handshake(b"HTTP/1.0 400 Bad Request\r\n\r\n")
    assert caught.value.reason == "WRONG_VERSION_NUMBER"


def test_no_version_in_common() -> None:
    ours, theirs = limit(contexts()[0], VERSIONS[0]), limit(contexts()[1], VERSIONS[1])
    client, server = TLSPipe.client(ours, HOST), TLSPipe.server(theirs)
    client.do_handshake()
    with pytest.raises(ssl.SSLError):
        server.do_handshake(client.take())
    with pytest.raises(ssl.SSLError) as caught:
        client.do_handshake(server.take())
    assert "PROTOCOL_VERSION" in caught.value.reason


@pytest.mark.parametrize("after", [0, 1])
def test_handshake_cut_off(after: int) -> None:
    ours, theirs = contexts()
    client, server = TLSPipe.client(ours, HOST), TLSPipe.server(theirs)
    client.do_handshake()
    server.do_handshake(client.take())
    assert not client.do_handshake(server.take()[: 100 * after])
    assert client.receive_eof() is False
    with pytest.raises(ssl.SSLEOFError):
        client.do_handshake()


def test_a_client_learns_late_that_its_certificate_was_refused() -> None:
    stranger = Authority().issue("stranger@example.com")
    pair = server_pair()
    theirs = limit(server_context(pair.cert, pair.key, client_ca=authority().pem), VERSIONS[1])
    ours = client_context(ca=authority().pem, certificate=stranger.cert, key=stranger.key)
    client, server = TLSPipe.client(ours, HOST), TLSPipe.server(theirs)
    client.do_handshake()
    server.do_handshake(client.take())
    assert client.do_handshake(server.take())
    with pytest.raises(ssl.SSLCertVerificationError):
        server.do_handshake(client.take())
    with pytest.raises(ssl.SSLError, match=r"(?i)unknown.ca"):
        drain(client, server.take())
    assert not client.closed_by_peer


# Data


@each_version
@pytest.mark.parametrize("from_client", [True, False], ids=["client sends", "server sends"])
@pytest.mark.parametrize("cut", [1, 1000, 20_000, FEED, 50_000, 1 << 20])
def test_ciphertext_may_be_cut_anywhere(version: ssl.TLSVersion, from_client: bool, cut: int) -> None:
    pair = joined(version)
    sender, receiver = pair if from_client else pair[::-1]
    data = noise(40_000 if cut == 1 else 700_000)
    sender.send(chunks(data, 99_999))
    got = [drain(receiver, piece) for piece in chunks(sender.take(), cut)]
    assert b"".join(got) == data
    assert not receiver.pending


@each_version
@pytest.mark.parametrize("size", [4, 1024, RECORD])
def test_many_records_in_one_read_are_few_views(version: ssl.TLSVersion, size: int) -> None:
    client, server = joined(version)
    data = noise(1 << 20 if size > 4 else 1 << 16)
    for piece in chunks(data, size):
        server.send([piece])
    plain = scratch()
    views = [bytes(view) for view in client.receive(server.take(), plain)]
    assert b"".join(views) == data
    assert len(views) == math.ceil(len(data) / (SCRATCH - RECORD)) or len(views) == math.ceil(len(data) / SCRATCH)


def test_views_are_of_the_scratch_and_records_never_overrun_it() -> None:
    client, server = joined()
    server.send([noise(300_000)])
    plain = scratch(2 * RECORD)
    starts = [(view.obj is plain.obj, len(view)) for view in client.receive(server.take(), plain)]
    assert all(mine and RECORD < size <= 2 * RECORD for mine, size in starts[:-1])


@each_version
def test_the_incoming_bio_stays_small(version: ssl.TLSVersion) -> None:
    ours, theirs = contexts(version)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    spies = SpyBIO(incoming), SpyBIO(outgoing)
    client = TLSPipe(ours.wrap_bio(incoming, outgoing, server_hostname=HOST), *spies)
    server = TLSPipe.server(theirs)
    shake(client, server)
    drain(client, server.take())
    data = noise(1 << 20)
    server.send([data])
    assert drain(client, server.take()) == data
    client.send([data])
    assert drain(server, client.take()) == data
    assert spies[0].fullest <= FEED
    assert spies[1].fullest <= RECORD + 256 + 5


def test_frames_fill_their_records() -> None:
    client, server = joined()
    payload = memoryview(noise(FRAME))
    batch: list[Buffer] = [b"8 bytes.", payload, b"8 bytes:", payload, b"8 bytes;", payload]
    client.send(batch)
    records = client.take_segments()
    assert len(records) == 12
    assert len(set(map(len, records))) == 1
    assert drain(server, b"".join(records)) == b"".join(batch)


@pytest.mark.parametrize(
    ("sizes", "records"),
    [
        ([], 0),
        ([0, 0], 0),
        ([1] * 1000, 1),
        ([8, 32768], 3),
        ([8, 32760], 2),
        ([8, 16376, 8, 16376], 2),
        ([16384], 1),
        ([16383, 1], 1),
        ([16383, 2], 2),
        ([10, 0, 16374, 0, 5], 2),
        ([100, 40_000, 3, 40_000, 100], 5),
    ],
)
def test_segments_are_one_stream(sizes: list[int], records: int) -> None:
    client, server = joined()
    segments = [noise(size, seed) for seed, size in enumerate(sizes)]
    client.send(segments)
    taken = client.take_segments()
    assert len(taken) == records
    assert drain(server, b"".join(taken)) == b"".join(segments)


def test_buffers_are_free_again_after_send() -> None:
    client, server = joined()
    mine = bytearray(b"a" * 50_000)
    client.send([memoryview(mine), mine])
    mine[:] = b"b" * 60_000  # a kept view would make this a BufferError, or change what was sent
    assert drain(server, client.take()) == b"a" * 100_000


@given(
    sizes=st.lists(st.one_of(st.integers(0, 20), st.integers(0, 40_000), st.just(8), st.just(FRAME)), max_size=8),
    cuts=st.lists(st.one_of(st.integers(1, 50), st.integers(1, 70_000)), max_size=8),
    room=st.integers(2 * RECORD, 5 * RECORD),
)
def test_any_segments_in_any_pieces_are_the_same_stream(sizes: list[int], cuts: list[int], room: int) -> None:
    client, server = joined()
    segments = [noise(size, seed) for seed, size in enumerate(sizes)]
    client.send(segments)
    client.close_notify()
    got, plain = b"", scratch(room)
    ciphertext = client.take()
    ends = [*itertools.accumulate(cuts), len(ciphertext)]
    for start, end in itertools.pairwise([0, *ends]):
        got += b"".join(map(bytes, server.receive(ciphertext[start:end], plain)))
    assert got == b"".join(segments)
    assert server.receive_eof() is True


@pytest.mark.parametrize("limit_", [1, 100, 16_406, 20_000, 60_000, 1 << 20])
def test_take_in_pieces_keeps_the_order(limit_: int) -> None:
    client, server = joined()
    data = noise(5_000 if limit_ == 1 else 200_000)
    client.send([data])
    client.close_notify()
    taken = []
    while client.pending:
        before = client.pending
        taken.append(client.take(limit_))
        assert 0 < len(taken[-1]) <= limit_
        assert client.pending == before - len(taken[-1])
    assert client.take(limit_) == client.take() == b""
    assert client.take_segments() == []
    assert drain(server, b"".join(taken)) == data
    assert server.closed_by_peer


@each_version
def test_full_duplex_between_yields(version: ssl.TLSVersion) -> None:
    client, server = joined(version)
    data = noise(1 << 20)
    client.send([data])
    for view in server.receive(client.take(), scratch()):
        server.send([view])  # while more of the read waits
    assert drain(client, server.take()) == data


# The end


@each_version
def test_close_notify_is_a_clean_end(version: ssl.TLSVersion) -> None:
    client, server = joined(version)
    server.send([b"last words"])
    server.close_notify()
    assert drain(client, server.take()) == b"last words"
    assert client.closed_by_peer
    assert client.receive_eof() is True


@each_version
def test_an_end_without_close_notify_is_a_truncation(version: ssl.TLSVersion) -> None:
    client, server = joined(version)
    server.send([b"last words"])
    assert drain(client, server.take()) == b"last words"
    assert not client.closed_by_peer
    assert client.receive_eof() is False


def test_a_cut_anywhere_is_a_truncation() -> None:
    whole = 56  # a record of 10 bytes and one of 2, each with a header of 5, a type of 1 and a tag of 16
    for keep in range(whole):
        client, server = joined()
        server.send([b"0123456789"])
        server.close_notify()
        assert server.pending == whole
        assert drain(client, server.take()[:keep]) == (b"0123456789" if keep >= 32 else b"")
        assert client.receive_eof() is False


@each_version
def test_what_follows_close_notify_is_ignored(version: ssl.TLSVersion) -> None:
    client, server = joined(version)
    server.send([b"good"])
    server.close_notify()
    assert drain(client, server.take() + b"\x17\x03\x03\xff\xffinjected" * 9) == b"good"
    assert drain(client, b"more") == b""
    assert client.receive_eof() is True


@each_version
def test_the_peer_may_go_on_after_our_close_notify(version: ssl.TLSVersion) -> None:
    client, server = joined(version)
    client.close_notify()
    assert drain(server, client.take()) == b""
    assert server.closed_by_peer
    if version is ssl.TLSVersion.TLSv1_3:  # TLS 1.2 closes both directions at once
        server.send([noise(100_000)])
        assert drain(client, server.take()) == noise(100_000)
    server.close_notify()
    assert drain(client, server.take()) == b""
    assert client.closed_by_peer
    assert client.receive_eof() is True


def test_close_notify_once_and_nothing_after_it() -> None:
    client, server = joined()
    client.close_notify()
    size = client.pending
    client.close_notify()
    assert client.pending == size > 0
    with pytest.raises(LocalProtocolError, match="after close_notify"):
        client.send([b"x"])
    assert client.pending == size
    assert drain(server, client.take()) == b""


def test_close_notify_while_data_waits_unread() -> None:
    ours, theirs = contexts()
    client, server = TLSPipe.client(ours, HOST), TLSPipe.server(theirs)
    client.do_handshake()
    server.do_handshake(client.take())
    client.do_handshake(server.take())
    client.send([b"never read"])
    server.do_handshake(client.take())
    server.close_notify()
    drain(client, server.take())
    assert client.closed_by_peer


@each_version
def test_a_damaged_record_ends_it_after_the_good_ones(version: ssl.TLSVersion) -> None:
    client, server = joined(version)
    server.send([noise(2 * RECORD)])
    first, second = server.take_segments()
    second = second[:-1] + bytes([second[-1] ^ 1])
    views = client.receive(first + second, scratch())
    assert bytes(next(views)) == noise(2 * RECORD)[:RECORD]
    with pytest.raises(ssl.SSLError, match=r"(?i)bad.record.mac"):
        next(views)
    assert client.pending, "an alert must tell the peer why"
    assert not client.closed_by_peer
    with pytest.raises(LocalProtocolError):
        client.send([b"x"])
    with pytest.raises(ssl.SSLError, match=r"(?i)bad.record.mac"):
        drain(server, client.take())
    assert server.receive_eof() is False


# Misuse


def test_misuse_changes_nothing() -> None:
    ours, _ = contexts()
    fresh = TLSPipe.client(ours, HOST)
    with pytest.raises(LocalProtocolError, match="before the handshake"):
        fresh.receive(b"", scratch())
    with pytest.raises(LocalProtocolError, match="before the handshake"):
        fresh.send([b"x"])
    fresh.close_notify()
    assert not fresh.pending
    client, server = joined()
    with pytest.raises(LocalProtocolError, match="at least 32768 bytes, got 1000"):
        client.receive(b"", scratch(1000))
    client.receive_eof()
    assert client.receive_eof() is False
    with pytest.raises(LocalProtocolError, match="after receive_eof"):
        client.receive(b"", scratch())
    client.send([b"still ours to send"])
    assert drain(server, client.take()) == b"still ours to send"


def test_a_client_that_checks_names_needs_one() -> None:
    with pytest.raises(ValueError, match="server_hostname"):
        TLSPipe.client(contexts()[0], None)
    with pytest.raises(ValueError, match="server_hostname"):
        TLSPipe.client(contexts()[0], "")


class _CountsWaits:
    """A TLS object that counts how often a read was answered by "more ciphertext is needed"."""

    def __init__(self, tls: object) -> None:
        self.tls = tls
        self.waits = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self.tls, name)

    def read(self, size: int, buffer: memoryview, /) -> int:
        read: Callable[[int, memoryview], int] = self.tls.read  # type: ignore[attr-defined] # whatever it stands for
        try:
            return read(size, buffer)
        except ssl.SSLWantReadError:
            self.waits += 1
            raise


@each_version
@pytest.mark.parametrize("size", [64, RECORD, 5 * RECORD + 7, 40 * RECORD])
def test_ciphertext_that_ends_with_a_record_costs_no_exception(version: ssl.TLSVersion, size: int) -> None:
    client, server = joined(version)
    client.send([noise(size)])
    ciphertext = client.take()
    spy = _CountsWaits(server._tls)
    server._tls = spy  # type: ignore[assignment] # it has what the pump needs
    assert drain(server, ciphertext) == noise(size)
    assert not spy.waits
