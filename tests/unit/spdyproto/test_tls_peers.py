"""The pump against peers that are not ours: ``ssl.SSLSocket`` over a socket, and the ``openssl`` program."""

from __future__ import annotations

import hashlib
import random
import socket
import ssl
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from spdyproto.tls import TLSPipe, client_context, server_context
from support.opensslpeer import handshake, needs_openssl, openssl_client
from support.tlslink import HOST, SCRATCH, VERSIONS, authority, chunks, contexts, limit, scratch, server_pair

SECONDS = 20  # until a test that hangs is given up
BULK = 8 << 20
each_version = pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
each_role = pytest.mark.parametrize("we_are_client", [True, False], ids=["client", "server"])


def read(sock: socket.socket, pipe: TLSPipe) -> Iterator[bytes]:
    """Plaintext until the peer's close_notify or the end of the transport."""
    plain, data = scratch(), b""
    while True:
        yield from map(bytes, pipe.receive(data, plain))
        if pipe.pending:
            sock.sendall(pipe.take())
        if pipe.closed_by_peer:
            return
        data = sock.recv(SCRATCH)
        if not data:
            return


class Against:
    """Our pipe on one end of a socket pair; a function with an ``SSLSocket`` on the other, in a thread."""

    def __init__(self, pool: ThreadPoolExecutor, we_are_client: bool, version: ssl.TLSVersion) -> None:
        self.pool = pool
        self.we_are_client = we_are_client
        self.contexts = contexts(version, tickets=2)
        self.sock, self.theirs = socket.socketpair()
        for end in (self.sock, self.theirs):
            end.settimeout(SECONDS)
        ours, theirs = self.contexts
        self.pipe = TLSPipe.client(ours, HOST) if we_are_client else TLSPipe.server(theirs)

    def start(self, work: object) -> Future[object]:
        assert callable(work)

        def run() -> object:
            context, name = (self.contexts[1], None) if self.we_are_client else (self.contexts[0], HOST)
            with context.wrap_socket(
                self.theirs,
                server_side=self.we_are_client,
                server_hostname=name,
                suppress_ragged_eofs=False,
            ) as tls:
                return work(tls)

        return self.pool.submit(run)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as executor:
        yield executor


@pytest.fixture
def against(pool: ThreadPoolExecutor, we_are_client: bool, version: ssl.TLSVersion) -> Iterator[Against]:
    setting = Against(pool, we_are_client, version)
    with setting.sock, setting.theirs:
        yield setting


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@each_version
@each_role
def test_bulk_both_ways(against: Against) -> None:
    data = noise(BULK)

    def peer(tls: ssl.SSLSocket) -> bytes:
        digest, left = hashlib.sha256(), BULK
        while left:
            piece = tls.recv(65536)
            assert piece
            digest.update(piece)
            left -= len(piece)
        tls.sendall(data)
        tls.unwrap()
        return digest.digest()

    done = against.start(peer)
    sock, pipe = against.sock, against.pipe
    handshake(sock, pipe)
    view = memoryview(data)
    for start in range(0, BULK, SCRATCH):
        batch = view[start : start + SCRATCH]
        pipe.send([batch[:8], batch[8:65536], batch[65536:65544], batch[65544:]])
        sock.sendall(pipe.take())
    digest = hashlib.sha256()
    for piece in read(sock, pipe):
        digest.update(piece)
    assert pipe.closed_by_peer
    pipe.close_notify()  # what the peer's unwrap() waits for
    sock.sendall(pipe.take())
    assert done.result(SECONDS) == digest.digest() == hashlib.sha256(data).digest()


@each_version
@each_role
def test_records_of_odd_sizes(against: Against) -> None:
    sizes = [*range(1, 200, 7), 16383, 16384, 16385, 4, 4, 32768, 1]
    data = noise(sum(sizes))

    def peer(tls: ssl.SSLSocket) -> None:
        start = 0
        for size in sizes:
            tls.sendall(data[start : start + size])
            start += size
        assert tls.recv(1) == b""

    done = against.start(peer)
    handshake(against.sock, against.pipe)
    got = b""
    for piece in read(against.sock, against.pipe):
        got += piece
        if len(got) == len(data):
            break
    assert got == data
    against.pipe.close_notify()
    against.sock.sendall(against.pipe.take())
    done.result(SECONDS)


@each_version
@each_role
@pytest.mark.parametrize("clean", [True, False], ids=["close_notify", "cut"])
def test_the_end_as_they_tell_it(against: Against, clean: bool) -> None:
    def peer(tls: ssl.SSLSocket) -> None:
        tls.sendall(b"all there is")
        if clean:
            assert tls.recv(1) == b""  # ours, before unwrap would wait for it
            tls.unwrap().close()
        else:
            assert tls.recv(1) == b"!"

    done = against.start(peer)
    sock, pipe = against.sock, against.pipe
    handshake(sock, pipe)
    source = read(sock, pipe)
    assert next(source) == b"all there is"
    if clean:
        pipe.close_notify()
    else:
        pipe.send([b"!"])
    sock.sendall(pipe.take())
    assert list(source) == []
    assert pipe.closed_by_peer == clean
    assert pipe.receive_eof() == clean
    done.result(SECONDS)


@each_version
@each_role
@pytest.mark.parametrize("clean", [True, False], ids=["close_notify", "cut"])
def test_the_end_as_they_see_it(against: Against, clean: bool) -> None:
    def peer(tls: ssl.SSLSocket) -> bytes:
        assert tls.recv(100) == b"last words"
        return tls.recv(100)

    done = against.start(peer)
    handshake(against.sock, against.pipe)
    against.pipe.send([b"last words"])
    if clean:
        against.pipe.close_notify()
    against.sock.sendall(against.pipe.take())
    against.sock.shutdown(socket.SHUT_WR)
    if clean:
        assert done.result(SECONDS) == b""
    else:
        with pytest.raises(ssl.SSLEOFError):
            done.result(SECONDS)


@each_version
@each_role
def test_they_hang_up_during_the_handshake(against: Against) -> None:
    against.theirs.sendall(b"\x16\x03\x03")
    against.theirs.shutdown(socket.SHUT_WR)
    with pytest.raises(ssl.SSLEOFError):
        handshake(against.sock, against.pipe)


# The openssl program: what the ssl module cannot do


def our_server() -> TLSPipe:
    pair = server_pair()
    return TLSPipe.server(server_context(pair.cert, pair.key))


def typed(process: subprocess.Popen[bytes], text: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(text)
    process.stdin.flush()


def until(sock: socket.socket, pipe: TLSPipe, wanted: bytes) -> bytes:
    """Receive until ``wanted`` has come, or the peer ends it."""
    got = b""
    for piece in read(sock, pipe):
        got += piece
        if wanted in got:
            break
    return got


@needs_openssl
def test_key_update_is_answered() -> None:
    with openssl_client(our_server(), "-tls1_3", "-no_ign_eof") as (sock, pipe, process):
        typed(process, b"before\n")
        assert until(sock, pipe, b"before\n") == b"before\n"
        typed(process, b"K\n")  # new keys from the next line on, and a request that we take new ones too
        assert process.stderr is not None
        while process.stderr.readline() != b"KEYUPDATE\n":  # what is typed too soon is taken for a part of the command
            assert process.poll() is None
        typed(process, b"after\n")
        assert until(sock, pipe, b"after\n") == b"after\n"
        pipe.send([b"and back\n"])
        answer = pipe.take()
        first = 5 + int.from_bytes(answer[3:5], "big")
        assert 0 < first < len(answer), "OpenSSL answers with the next record that it writes: two of them"
        sock.sendall(answer)
        assert process.stdout is not None
        assert process.stdout.readline() == b"and back\n"


@needs_openssl
def test_renegotiation_is_refused() -> None:
    with openssl_client(our_server(), "-tls1_2", "-no_ign_eof") as (sock, pipe, process):
        typed(process, b"before\n")
        assert until(sock, pipe, b"before\n") == b"before\n"
        typed(process, b"R\n")
        plain = scratch()
        while not pipe.pending:
            assert list(pipe.receive(sock.recv(SCRATCH), plain)) == []
        answer = pipe.take()
        assert answer[0] == 21, "an alert, not a handshake"
        sock.sendall(answer)
        with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):  # s_client insists, and gives up
            until(sock, pipe, b"never")


@needs_openssl
@each_version
def test_a_peer_that_asks_for_short_records_gets_all(version: ssl.TLSVersion) -> None:
    flag = "-" + version.name.lower().removesuffix("_0").replace("tlsv", "tls")
    data = noise(300_000).replace(b"\n", b"")
    with openssl_client(our_server(), flag, "-maxfraglen", "512") as (sock, pipe, process):
        pipe.send([b"8 bytes.", *chunks(data, 65_528)])
        records = pipe.take_segments()
        first = records[0]
        assert int.from_bytes(first[3:5], "big") < 700
        pipe.close_notify()
        sock.sendall(b"".join([*records, pipe.take()]))
        assert process.stdout is not None
        assert process.stdout.read() == b"8 bytes." + data


@needs_openssl
@each_version
def test_openssl_server(version: ssl.TLSVersion, tmp_path: Path) -> None:
    pair = server_pair()
    file = tmp_path / "server.pem"
    file.write_bytes(pair.cert + pair.key)
    command = ["openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", str(file), "-rev", "-naccept", "1"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=0) as process:
        try:
            assert process.stdout is not None
            address = b""
            while not address.startswith(b"ACCEPT "):
                address = process.stdout.readline()
                assert address, "s_server has ended"
            port = int(address.rpartition(b":")[2])
            pipe = TLSPipe.client(limit(client_context(ca=authority().pem), version), HOST)
            with socket.create_connection(("127.0.0.1", port), SECONDS) as sock:
                handshake(sock, pipe)
                pipe.send([b"stressed\n"])  # the server answers each line reversed
                sock.sendall(pipe.take())
                assert until(sock, pipe, b"\n") == b"desserts\n"
        finally:
            process.kill()


def test_contexts_are_shared_by_many_connections(pool: ThreadPoolExecutor) -> None:
    pair = server_pair()
    ours = limit(client_context(ca=authority().pem), None)
    theirs = server_context(pair.cert, pair.key)

    def one(number: int) -> bytes:
        mine, its = socket.socketpair()
        with mine, its:
            mine.settimeout(SECONDS)
            its.settimeout(SECONDS)
            client, server = TLSPipe.client(ours, HOST), TLSPipe.server(theirs)
            serving = pool.submit(handshake, its, server)
            handshake(mine, client)
            serving.result(SECONDS)
            client.send([noise(100_000 + number)])
            client.close_notify()
            sending = pool.submit(mine.sendall, client.take())
            got = b"".join(read(its, server))
            sending.result(SECONDS)
            return got

    with ThreadPoolExecutor(4) as workers:
        for number, got in enumerate(workers.map(one, range(16))):
            assert got == noise(100_000 + number)
