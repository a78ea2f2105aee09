"""Parts without a network: parsing with and without decryption, the same of ``h2``, and opening a stream."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.peers.patterns import cut_into_records
from benchmarks.variants.meter import UNIT
from spdyproto.channels.events import Output, StreamSet
from spdyproto.channels.session import ClientSession, ServerSession
from spdyproto.channels.subprotocols import Subprotocol
from spdyproto.limits import Limits
from spdyproto.spdy.connection import SpdyConnection
from spdyproto.spdy.events import DataReceived
from spdyproto.tls import TLSPipe, client_context, server_context
from spdyproto.types import Role

_REPEATS: Final = 7


def _least(run: Callable[[], float]) -> float:
    """The least of several runs: what is left when nothing disturbs."""
    return min(run() for _ in range(_REPEATS))


def _pair() -> tuple[ClientSession, int]:
    """A session that is ready, and the stream id of its stdout."""
    streams = StreamSet(stdout=True, stderr=False)
    client, server = ClientSession(Subprotocol.V4, streams), ServerSession(Subprotocol.V4, streams)
    client.start(0.0)
    server.start(0.0)
    server.receive_data(b"".join(client.data_to_send()), 0.0)
    client.receive_data(b"".join(server.data_to_send()), 0.0)
    return client, 3


def _engine() -> tuple[SpdyConnection, int]:
    client, server = SpdyConnection(Role.CLIENT), SpdyConnection(Role.SERVER)
    stream = client.open_stream([("streamtype", "stdout")])
    server.receive_data(b"".join(client.data_to_send()), 0.0)
    server.accept_stream(stream)
    client.receive_data(b"".join(server.data_to_send()), 0.0)
    return client, stream


def _frames(stream: int, payload: int) -> bytes:
    frame = struct.pack(">II", stream, payload) + bytes(payload)
    return frame * max(1, UNIT // len(frame))


def parse(payload: int, mib: int) -> dict[str, Any]:
    """Frames a second of the engine, of the session on it, and CPU seconds per GiB, from ready plaintext."""
    engine, stream = _engine()
    session, session_stream = _pair()
    feed = _frames(stream, payload)
    frames = len(feed) // (payload + 8)
    rounds = max(1, (mib << 20) // len(feed))

    def run_engine() -> float:
        total, start = 0, time.process_time()
        for _ in range(rounds):
            for event in engine.receive_data(feed, 0.0):
                if type(event) is DataReceived:
                    total += len(event.data)
        spent = time.process_time() - start
        _check(total, frames * rounds * payload)
        return spent

    fed = _frames(session_stream, payload)

    def run_session() -> float:
        total, start = 0, time.process_time()
        for _ in range(rounds):
            for event in session.receive_data(fed, 0.0):
                if type(event) is Output:
                    total += len(event.data)
        spent = time.process_time() - start
        _check(total, frames * rounds * payload)
        return spent

    return {"engine": _answer(_least(run_engine), frames * rounds, payload)} | {
        "session": _answer(_least(run_session), frames * rounds, payload)
    }


def _check(total: int, expected: int) -> None:
    if total != expected:
        raise ValueError(f"{total} bytes came out of {expected}")


def _answer(seconds: float, frames: int, payload: int) -> dict[str, float]:
    return {"frames_per_second": frames / seconds, "cpu_per_gib": seconds * (1 << 30) / (frames * payload)}


class _Recorded:
    """The ciphertext of a one-way transfer, and the pipe that can read it, once: TLS numbers its records."""

    def __init__(self, folder: str, plaintext: bytes, records: Sequence[int], rounds: int) -> None:
        pipe = TLSPipe.client(client_context(ca=str(Path(folder, "ca.crt"))), "localhost")
        server = TLSPipe.server(server_context(str(Path(folder, "server.crt")), str(Path(folder, "server.key"))))
        done = [False, False]
        while not all(done):
            done[0] = pipe.do_handshake(server.take())
            done[1] = server.do_handshake(pipe.take())
        self.pipe = pipe
        pieces = cut_into_records(plaintext, records)
        cipher = bytearray()
        for _ in range(rounds):
            for piece in pieces:
                server.send((piece,))
            cipher += server.take()
        view = memoryview(cipher)
        self.reads = [view[start : start + UNIT] for start in range(0, len(view), UNIT)]


def decrypt_and_parse(folder: str, payload: int, records: list[int], mib: int) -> dict[str, Any]:
    """The same with decryption in front, of frames that were cut into these records; and decryption alone."""
    plain = memoryview(bytearray(UNIT))
    spent, decrypted, frames = [], [], 0
    for _ in range(_REPEATS):
        session, stream = _pair()
        feed = _frames(stream, payload)
        rounds = max(1, (mib << 20) // len(feed))
        frames = len(feed) // (payload + 8) * rounds
        recorded = _Recorded(folder, feed, records, rounds)
        start = time.process_time()
        total = sum(len(view) for read in recorded.reads for view in recorded.pipe.receive(read, plain))
        decrypted.append(time.process_time() - start)
        _check(total, frames * (payload + 8))
        recorded = _Recorded(folder, feed, records, rounds)
        receive, total = recorded.pipe.receive, 0
        start = time.process_time()
        for read in recorded.reads:
            for view in receive(read, plain):
                for event in session.receive_data(view, 0.0):
                    if type(event) is Output:
                        total += len(event.data)
        spent.append(time.process_time() - start)
        _check(total, frames * payload)
    return {"tls": _answer(min(decrypted), frames, payload), "both": _answer(min(spent), frames, payload)}


def h2_parse(payload: int, mib: int, acknowledge: bool) -> dict[str, Any]:
    """DATA frames through ``h2``, with windows opened so wide that nothing stops.

    ``acknowledge``: with the call for each frame that any receiver must make, lest the sender's window runs dry.
    """
    from h2.config import H2Configuration
    from h2.connection import H2Connection
    from h2.events import DataReceived as H2Data
    from h2.settings import SettingCodes

    client = H2Connection(H2Configuration(client_side=True))
    client.initiate_connection()
    window = (1 << 31) - 1
    client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
    client.increment_flow_control_window(window - 65535)
    request = [(":method", "GET"), (":scheme", "https"), (":authority", "x"), (":path", "/")]
    client.send_headers(1, request, end_stream=True)
    server = H2Connection(H2Configuration(client_side=False))
    server.initiate_connection()
    server.receive_data(client.data_to_send())
    server.send_headers(1, [(":status", "200")])
    client.receive_data(server.data_to_send())
    frame = struct.pack(">I", payload)[1:] + b"\x00\x00" + struct.pack(">I", 1) + bytes(payload)
    count = max(1, UNIT // len(frame))
    feed = frame * count
    rounds = max(1, (mib << 20) // len(feed))

    def run() -> float:
        total, start = 0, time.process_time()
        for _ in range(rounds):
            for event in client.receive_data(feed):
                if type(event) is H2Data:
                    total += len(event.data)
                    if acknowledge:
                        client.acknowledge_received_data(payload, 1)
        client.data_to_send()
        spent = time.process_time() - start
        _check(total, count * rounds * payload)
        return spent

    return _answer(_least(run), count * rounds, payload)


def open_stream(headers: int, count: int = 5000) -> dict[str, Any]:
    """Microseconds to open a stream and take its SYN_STREAM, with so many headers."""
    pairs = [("streamtype", "data"), ("port", "8080"), ("requestid", "17"), ("user-agent", "kubewire")][:headers]

    def run() -> float:
        engine = SpdyConnection(Role.CLIENT, limits=Limits(streams=1 << 20))
        start = time.process_time()
        for _ in range(count):
            engine.open_stream(pairs)
            engine.data_to_send()
        return time.process_time() - start

    return {"microseconds": _least(run) * 1e6 / count}
