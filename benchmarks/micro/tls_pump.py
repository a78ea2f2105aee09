"""CPU seconds per GiB of the TLS pump, beside the loops that the standard library offers; and memory per connection.

::

    python -m benchmarks.micro.tls_pump [--rounds N] [--mib N]

The measured end runs in this process, its peer in another one, each on a core of its own where there are two. Variants
alternate, round by round. A variant's number is the least of its rounds, which is the least disturbed one; the ratio is
that of the limit to it, so above 1 is cheaper than the limit. ``split`` is the record pattern of Go's SPDY framer: 4,
4, 16384, 16384 bytes.

pyOpenSSL is measured in the role it has in the fake kubelet, the server's. Its cipher suite is then Go's choice
(AES-128) where two ends of ``ssl`` agree on AES-256, which is about 3 % more work.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import socket
import ssl
import time
from collections.abc import Callable
from importlib.util import find_spec
from multiprocessing.connection import Connection
from typing import Final, TypeAlias

from fakekubelet.pki import CertificateAuthority, IssuedCertificate
from fakekubelet.servertls import ServerTLS
from spdyproto.tls import TLSPipe, client_context, server_context

MIB: Final = 1 << 20
SCRATCH: Final = 256 * 1024
PATTERNS: Final = {"16 KiB records": (16384,), "split": (4, 4, 16384, 16384), "1 KiB records": (1024,)}
FRAME: Final = 65528  # the payload of the engine's largest data frame: with its header four records

Measure: TypeAlias = Callable[[socket.socket, "Setup", int], int]
"""Move ``total`` bytes over the socket, whose peer does the opposite; answer how many were moved."""


class Setup:
    """One authority, and what either role needs of it."""

    def __init__(self) -> None:
        authority = CertificateAuthority.create()
        self.ca = authority.cert_pem
        self.server: IssuedCertificate = authority.issue_server()
        self.client_context = client_context(ca=self.ca)
        self.server_context = server_context(self.server.cert_pem, self.server.key_pem)
        self.ciphertext = memoryview(bytearray(SCRATCH))
        self.plain = memoryview(bytearray(SCRATCH))
        self.payload = memoryview(os.urandom(SCRATCH))


# Both ends


def handshake(sock: socket.socket, pipe: TLSPipe) -> TLSPipe:
    data = b""
    while True:
        done = pipe.do_handshake(data)
        sock.sendall(pipe.take())
        if done:
            return pipe
        data = sock.recv(SCRATCH)


def receive(sock: socket.socket, pipe: TLSPipe, setup: Setup, total: int) -> int:
    got = sum(map(len, pipe.receive(b"", setup.plain)))
    while got < total:
        count = sock.recv_into(setup.ciphertext)
        if not count:
            break
        for view in pipe.receive(setup.ciphertext[:count], setup.plain):
            got += len(view)
    return got


def send(sock: socket.socket, pipe: TLSPipe, setup: Setup, total: int) -> int:
    batch: list[bytes | memoryview] = [b"8 bytes.", setup.payload[:FRAME]] * 4
    size = 4 * (8 + FRAME)
    sent = 0
    while sent < total:
        pipe.send(batch)
        write(sock, pipe.take_segments())
        sent += size
    return sent


def write(sock: socket.socket, segments: list[bytes]) -> None:
    left = sum(map(len, segments)) - sock.sendmsg(segments)
    if left:
        sock.sendall(b"".join(segments)[-left:])


def send_joined(sock: socket.socket, pipe: TLSPipe, setup: Setup, total: int) -> int:
    """As ``send``, with each batch joined: what a driver without ``sendmsg`` pays."""
    batch: list[bytes | memoryview] = [b"8 bytes.", setup.payload[:FRAME]] * 4
    size = 4 * (8 + FRAME)
    sent = 0
    while sent < total:
        pipe.send(batch)
        sock.sendall(pipe.take())
        sent += size
    return sent


# The measured end


def socket_receive(sock: socket.socket, setup: Setup, total: int) -> int:
    with setup.client_context.wrap_socket(sock, server_hostname="localhost") as tls:
        buffer = setup.plain[:65536]
        got = 0
        while got < total:
            count = tls.recv_into(buffer)
            if not count:
                break
            got += count
        return got


def socket_send(sock: socket.socket, setup: Setup, total: int) -> int:
    with setup.client_context.wrap_socket(sock, server_hostname="localhost") as tls:
        sent = 0
        while sent < total:
            tls.sendall(setup.payload)
            sent += len(setup.payload)
        return sent


def pump_receive(sock: socket.socket, setup: Setup, total: int) -> int:
    return receive(sock, handshake(sock, TLSPipe.client(setup.client_context, "localhost")), setup, total)


def pump_send(sock: socket.socket, setup: Setup, total: int) -> int:
    return send(sock, handshake(sock, TLSPipe.client(setup.client_context, "localhost")), setup, total)


def pump_send_joined(sock: socket.socket, setup: Setup, total: int) -> int:
    return send_joined(sock, handshake(sock, TLSPipe.client(setup.client_context, "localhost")), setup, total)


def fake_pipe(setup: Setup) -> TLSPipe:
    return ServerTLS(setup.server, client_ca=setup.ca, use_pyopenssl=True).pipe()


def fake_receive(sock: socket.socket, setup: Setup, total: int) -> int:
    return receive(sock, handshake(sock, fake_pipe(setup)), setup, total)


def fake_send(sock: socket.socket, setup: Setup, total: int) -> int:
    return send(sock, handshake(sock, fake_pipe(setup)), setup, total)


RECEIVERS: dict[str, Measure] = {"SSLSocket.recv_into 64 KiB (limit)": socket_receive, "pump": pump_receive}
SENDERS: dict[str, Measure] = {
    "SSLSocket.sendall 256 KiB (limit)": socket_send,
    "pump": pump_send,
    "pump, batches joined": pump_send_joined,
}
if find_spec("OpenSSL"):
    RECEIVERS["pump over pyOpenSSL, server"] = fake_receive
    SENDERS["pump over pyOpenSSL, server"] = fake_send


# The peer


def peer(orders: Connection, address: tuple[str, int], core: int | None) -> None:
    """Serve ``(role, pattern or None, total)`` until the parent hangs up: send in that pattern, or receive."""
    if core is not None:
        os.sched_setaffinity(0, {core})
    setup = Setup()
    insecure = client_context(verify=False)
    while True:
        try:
            role, pattern, total = orders.recv()
        except EOFError:
            return
        pipe = TLSPipe.client(insecure, None) if role == "client" else TLSPipe.server(setup.server_context)
        with socket.create_connection(address) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            handshake(sock, pipe)
            if pattern is None:
                receive(sock, pipe, setup, total)
            else:
                send_records(sock, pipe, setup, pattern, total)


def send_records(sock: socket.socket, pipe: TLSPipe, setup: Setup, pattern: tuple[int, ...], total: int) -> None:
    records = [setup.payload[:size] for size in pattern]
    sent = 0
    try:
        while sent < total:
            for record in records:
                pipe.send((record,))
                sent += len(record)
            if pipe.pending >= SCRATCH:
                sock.sendall(pipe.take())
        sock.sendall(pipe.take())
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(SCRATCH):  # session tickets: closing with them unread would reset the connection
            pass
    except ConnectionError:
        pass  # the other end has counted enough


class Bench:
    """Alternating rounds against one peer process."""

    def __init__(self) -> None:
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        mine, its = (cores[0], cores[1]) if len(cores) > 1 else (None, None)
        self._listener = socket.create_server(("127.0.0.1", 0))
        here, there = multiprocessing.Pipe()
        spawn = multiprocessing.get_context("spawn")
        self._peer = spawn.Process(target=peer, args=(there, self._listener.getsockname(), its), daemon=True)
        self._peer.start()
        there.close()
        self._orders = here
        if mine is not None:
            os.sched_setaffinity(0, {mine})
        # The peer's client role does not verify, and the measured client must trust the peer's own certificate.
        self.setup = Setup()
        self.setup.client_context = client_context(verify=False)

    def close(self) -> None:
        self._orders.close()
        self._peer.join(10)
        self._listener.close()

    def table(
        self, title: str, variants: dict[str, Measure], pattern: tuple[int, ...] | None, rounds: int, total: int
    ) -> None:
        """Run and print one table. ``pattern`` None: the measured end sends."""
        seconds: dict[str, list[float]] = {name: [] for name in variants}
        for turn in range(rounds + 1):
            for name, variant in variants.items():
                cpu = self._once(variant, pattern, total)
                if turn:  # the first round warms up
                    seconds[name].append(cpu * 1024 * MIB / total)
        limit = min(next(iter(seconds.values())))
        print(f"\n{title}\n{'':36} {'CPU s/GiB':>9}  {'range':>13}  ratio to the limit")
        for name, values in seconds.items():
            least = min(values)
            print(f"{name:36} {least:9.3f}  {least:.3f}..{max(values):.3f}  {limit / least:.2f}")

    def _once(self, variant: Measure, pattern: tuple[int, ...] | None, total: int) -> float:
        role = "client" if variant in (fake_receive, fake_send) else "server"
        self._orders.send((role, pattern, total))
        sock, _ = self._listener.accept()
        with sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            start = time.process_time()
            moved = variant(sock, self.setup, total)
            spent = time.process_time() - start
        assert moved >= total, f"{moved} of {total} bytes"
        return spent


# Memory


def memory(kind: str, count: int, answer: Connection) -> None:
    """Tell the resident bytes of ``count`` connections, both ends: idle after the handshake, after a burst each way."""
    setup = Setup()
    fake = ServerTLS(setup.server, client_ca=setup.ca, use_pyopenssl=True) if kind == "pyOpenSSL" else None

    def make() -> tuple[TLSPipe, TLSPipe]:
        server = TLSPipe.server(setup.server_context) if fake is None else fake.pipe()
        return TLSPipe.client(setup.client_context, "localhost"), server

    connect(*make(), setup.plain)  # what is allocated once
    before = resident()
    pairs = [make() for _ in range(count)]
    for client, server in pairs:
        connect(client, server, setup.plain)
    idle = resident()
    for client, server in pairs:
        for one, other in ((client, server), (server, client)):
            one.send([setup.payload])
            for _ in other.receive(one.take(), setup.plain):
                pass
    answer.send((idle - before, resident() - before))


def memory_table(count: int) -> None:
    kinds = ["ssl", "pyOpenSSL"] if find_spec("OpenSSL") else ["ssl"]
    measured: dict[str, tuple[float, float]] = {}
    for kind in kinds:  # each in a process of its own: freed memory is not given back, and would be used again
        here, there = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(target=memory, args=(kind, count, there))
        process.start()
        idle, burst = here.recv()
        process.join()
        measured[kind] = idle / count / 1024, burst / count / 1024
    ends = measured["ssl"][0] / 2, measured["ssl"][1] / 2
    print(
        f"\nmemory per end of a connection ({count} of them)\n{'':36} {'idle KiB':>9}  {'after 256 KiB each way':>22}"
    )
    print(f"{'ssl':36} {ends[0]:9.1f}  {ends[1]:22.1f}")
    if "pyOpenSSL" in measured:
        idle, burst = measured["pyOpenSSL"]
        print(f"{'pyOpenSSL, server':36} {idle - ends[0]:9.1f}  {burst - ends[1]:22.1f}")


def connect(client: TLSPipe, server: TLSPipe, plain: memoryview) -> None:
    done = [False, False]
    while not all(done):
        done[0] = client.do_handshake(server.take())
        done[1] = server.do_handshake(client.take())
    for _ in client.receive(server.take(), plain):
        pass


def resident() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--mib", type=int, default=256, help="bytes of one round")
    options = parser.parse_args()
    print(ssl.OPENSSL_VERSION)
    bench = Bench()
    try:
        for name, pattern in PATTERNS.items():
            bench.table(f"receive, {name}", RECEIVERS, pattern, options.rounds, options.mib * MIB)
        bench.table("send, 64 KiB frames in batches of 256 KiB", SENDERS, None, options.rounds, options.mib * MIB)
    finally:
        bench.close()
    if os.path.exists("/proc/self/statm"):
        memory_table(500)


if __name__ == "__main__":
    main()
