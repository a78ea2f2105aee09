"""TLS inside TLS, end to end in memory: the outer peer is a proxy that hands the plaintext on."""

from __future__ import annotations

import ssl

import pytest
import trustme

from spdyproto.nestedtls import NestedTLSPipe
from spdyproto.tls import TLSPipe, client_context, server_context

CA = trustme.CA()
PLAIN = memoryview(bytearray(65536))


def server(name: str) -> TLSPipe:
    return TLSPipe.server(server_context(CA.issue_cert(name).private_key_and_cert_chain_pem.bytes()))


def pour(source: TLSPipe, into: TLSPipe) -> bytes:
    """What `into` decrypts of everything that `source` has ready; both handshakes are complete."""
    return b"".join([bytes(view) for view in into.receive(source.take(), memoryview(bytearray(65536)))])


class Pair:
    """A client behind a proxy, and both servers; each step moves all that there is."""

    def __init__(self) -> None:
        context = client_context(ca=CA.cert_pem.bytes())
        self.outer = TLSPipe.client(context, "proxy.test")
        self.proxy, self.server = server("proxy.test"), server("server.test")
        data = b""
        while not (self.outer.do_handshake(data) and self.proxy.established):
            self.proxy.do_handshake(self.outer.take())
            data = self.proxy.take()
        inner = NestedTLSPipe.client(context, "server.test")
        assert isinstance(inner, NestedTLSPipe)
        self.client = inner.within(self.outer)
        data = b""
        while not (self.client.do_handshake(data) and self.server.established):
            self.server.do_handshake(self.up())
            self.proxy.send([self.server.take()])
            data = self.proxy.take()

    def up(self) -> bytes:
        """What the proxy takes out of the outer connection: ciphertext for the server."""
        return pour(self.client, self.proxy)

    def down(self) -> bytes:
        """What the client reads of what the server has sent."""
        self.proxy.send([self.server.take()])
        return pour(self.proxy, self.client)


def received(pipe: TLSPipe, ciphertext: bytes) -> bytes:
    return b"".join([bytes(view) for view in pipe.receive(ciphertext, PLAIN)])


@pytest.mark.parametrize("size", [1, 16384, 70_000, 1_000_000])
def test_data_passes_both_ways(size: int) -> None:
    pair, data = Pair(), bytes(range(256)) * (size // 256 + 1)
    pair.client.send([data[:size], b"tail"])
    assert received(pair.server, pair.up()) == data[:size] + b"tail"
    pair.server.send([data[:size]])
    assert pair.down() == data[:size]
    assert pair.client.pending == 0


def test_bytes_one_at_a_time() -> None:
    pair = Pair()
    pair.server.send([b"hello"])
    pair.proxy.send([pair.server.take()])
    wire = pair.proxy.take()
    assert b"".join(received(pair.client, wire[i : i + 1]) for i in range(len(wire))) == b"hello"


def test_the_end_is_the_servers() -> None:
    pair = Pair()
    pair.server.close_notify()
    assert pair.down() == b""
    assert pair.client.closed_by_peer
    assert pair.client.receive_eof()


def test_a_proxy_that_ends_has_truncated_the_server() -> None:
    pair = Pair()
    pair.proxy.close_notify()
    assert received(pair.client, pair.proxy.take()) == b""
    assert not pair.client.closed_by_peer
    assert not pair.client.receive_eof()


def test_goodbye_is_said_to_both() -> None:
    pair = Pair()
    pair.client.close_notify()
    received(pair.server, pair.up())
    assert pair.server.closed_by_peer
    assert pair.proxy.closed_by_peer


def test_the_servers_certificate_is_the_one_that_counts() -> None:
    context = client_context(ca=CA.cert_pem.bytes())
    pair = Pair()
    inner = NestedTLSPipe.client(context, "somebody.else")
    assert isinstance(inner, NestedTLSPipe)
    client, other = inner.within(pair.outer), server("server.test")
    client.do_handshake()
    other.do_handshake(pour(client, pair.proxy))
    pair.proxy.send([other.take()])
    with pytest.raises(ssl.SSLCertVerificationError, match=r"somebody\.else"):
        client.do_handshake(pair.proxy.take())
    assert client.pending, "the alert that says why goes through the proxy, too"


def test_a_fault_of_the_outer_connection_is_raised_after_what_was_good() -> None:
    pair = Pair()
    pair.server.send([b"good"])
    pair.proxy.send([pair.server.take()])
    views = pair.client.receive(pair.proxy.take() + b"\x17\x03\x03\x00\x20" + bytes(32), PLAIN)
    assert bytes(next(views)) == b"good"
    with pytest.raises(ssl.SSLError):
        next(views)
