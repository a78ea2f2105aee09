"""What clients sent and got, decoded: for assertions in tests, and to be printed.

::

    with FakeKubelet() as kubelet:
        ...                                          # a client runs a command
        exchange = kubelet.transcript.last("/exec/")
        exchange.wait(10)
        assert exchange.status == 101
        assert exchange.total("client", "stdin") == 5
        assert "DATA error" in exchange.frames("server")[-3]
        print(kubelet.transcript)

Each request is an ``Exchange``: its head, the answer's head, and, if the connection was upgraded, every frame behind
it, as the bytes say (``fakekubelet.dissect``); what faults did to them is seen, too. Runs of frames of one kind are one
entry.

Secrets are not kept: credentials in headers and among WebSocket subprotocols, bodies, stdin, and what commands print.
Commands are, since they stand in the address. ``Transcript(payload=N)`` keeps the first N bytes of each stream,
``Transcript(secrets=True)`` the credentials. Everything is bounded, so that a transcript can always be on: it costs a
microsecond a frame.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

from fakekubelet.dissect import Run, Seen, Sender
from fakekubelet.messages import Request
from spdyproto.text import printable
from spdyproto.websocket.handshake import BEARER_PREFIX

EXCHANGES_KEPT: Final = 200
"""Requests that a transcript remembers, the newest of them."""

ENTRIES_KEPT: Final = 400
"""Entries of one exchange, the oldest of them; what comes later is counted."""

_HEADERS, _VALUE, _TARGET = 64, 300, 2000  # of one head, characters of a value, of an address
_TEXT_KEPT = 4096  # bytes of a status or of a terminal's sizes
_BODY_KEPT = 2048  # bytes of the body of a refusal
_CREDENTIALS: Final = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie"})
_NOTHING: Final = [0]
_REDACTED: Final = "(redacted)"


@dataclass(slots=True)
class Entry:
    """One frame, or a run of frames of one kind on one stream."""

    sender: Sender
    kind: str
    stream: str = ""
    detail: str = ""
    size: int = 0
    """Bytes of payload."""
    count: int = 1
    """Frames."""
    fin: bool = False
    text: str = ""
    """What a status or a terminal's size says."""

    def __str__(self) -> str:
        parts = [self.kind, self.stream, self.detail]
        if self.size:
            parts.append(f"{self.size} bytes")
        if self.count > 1:
            parts.append(f"in {self.count} frames" if self.size else f"x{self.count}")
        if self.fin:
            parts.append("FIN")
        return " ".join([*filter(None, parts), *([self.text] if self.text else [])])


@dataclass(slots=True)
class Exchange:
    """One request, its answer, and what followed. Complete once ``wait`` returns; readable from any thread before."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: list[tuple[str, str]]
    """Names in lower case; credentials redacted."""
    peer: str = ""
    version: str = "1.1"
    status: int | None = None
    """Of the answer; None while there is none, and if the connection was cut in place of one."""
    answer_headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    """The beginning of the answer's body, if it refuses; of all answers with ``Transcript(payload=...)``."""
    protocol: str = ""
    """What was chosen for an upgraded connection, ``""`` where nothing was named."""
    entries: list[Entry] = field(default_factory=list)
    left_out: int = 0
    """Frames beyond ``ENTRIES_KEPT`` entries."""
    ended: str = ""
    """Who ended it: ``client``, ``server``, or ``cut`` by a fault; ``""`` while it goes on."""
    streams: dict[tuple[Sender, str], bytes] = field(default_factory=dict, repr=False)
    """The beginning of each stream's payload, with ``Transcript(payload=...)``: by sender and name."""
    _totals: dict[tuple[Sender, str], list[int]] = field(default_factory=dict, repr=False)
    _over: threading.Event = field(default_factory=threading.Event, repr=False, compare=False)

    def wait(self, timeout: float | None = None) -> Exchange:
        """Wait until it has ended. Raises TimeoutError after ``timeout`` seconds."""
        if not self._over.wait(timeout):
            raise TimeoutError(f"{self.method} {self.path} has not ended after {timeout} s")
        return self

    def total(self, sender: Sender, stream: str) -> int:
        """Bytes of payload that ``sender`` sent on a stream (``stdin``, ``stdout``, ``error`` ...)."""
        return self._totals.get((sender, stream), _NOTHING)[0]

    def frames(self, sender: Sender | None = None) -> list[str]:
        """The entries of one side, or of both, as text: ``SYN_STREAM error id=1 streamtype=error``."""
        return [str(entry) for entry in list(self.entries) if sender in (None, entry.sender)]

    def header(self, name: str) -> list[str]:
        """The request's values of a header."""
        return [value for key, value in self.headers if key == name.lower()]

    @property
    def exit_status(self) -> str:
        """What the error stream held: the JSON status of v4 and v5, the text of older versions."""
        told = [e.text for e in list(self.entries) if e.sender == "server" and e.stream.partition("#")[0] == "error"]
        return "".join(told)

    def __str__(self) -> str:
        asked = "&".join(f"{key}={value}" for key, values in self.query.items() for value in values)
        lines = [printable(f"{self.method} {self.path}{'?' if asked else ''}{asked} HTTP/{self.version}")]
        lines += [printable(f"  > {name}: {value}") for name, value in self.headers]
        lines.append(f"  < {self.status or 'no answer'}")
        lines += [printable(f"  < {name}: {value}") for name, value in self.answer_headers]
        if self.body:
            lines.append(f"  < {printable(self.body.decode('utf-8', 'replace'))}")
        for entry in list(self.entries):
            lines.append(f"  {'>' if entry.sender == 'client' else '<'} {printable(str(entry))}")
        if self.left_out:
            lines.append(f"  ... {self.left_out} more frames")
        if self.ended:
            lines.append(f"  ended by the {self.ended}" if self.ended != "cut" else "  cut")
        return "\n".join(lines)

    # -- for the recorder --------------------------------------------------------------------------------------------

    def count(self, sender: Sender, stream: str, size: int) -> list[int]:
        """Add bytes of payload; the counter goes on counting."""
        total = self._totals.setdefault((sender, stream), [0])
        total[0] += size
        return total

    def note(self, seen: Seen, keep: int) -> Run | None:
        """Add what was seen; ``keep`` bytes of each stream's payload are kept."""
        where = (seen.sender, seen.stream)
        total: list[int] | None = None
        if seen.kind == "DATA":
            total = self.count(seen.sender, seen.stream, seen.size)
            if keep and seen.payload:
                kept = self.streams.get(where, b"")
                self.streams[where] = kept + seen.payload[: max(0, keep - len(kept))]
        text = ""
        if seen.payload and seen.stream.partition("#")[0] in ("error", "resize"):
            text = printable(seen.payload[:_TEXT_KEPT].decode("utf-8", "replace"))
        last = self.entries[-1] if self.entries else None
        if (
            last is not None
            and (last.sender, last.kind, last.stream) == (seen.sender, seen.kind, seen.stream)
            and not last.fin
            and (seen.kind == "DATA" or seen.kind in ("PING", "PONG", "CONTROL"))
        ):
            last.size += seen.size
            last.count += 0 if seen.more else 1
            last.fin = seen.fin
            if len(last.text) < _TEXT_KEPT:
                last.text += text
        elif len(self.entries) < ENTRIES_KEPT:
            self.entries.append(Entry(seen.sender, seen.kind, seen.stream, seen.detail, seen.size, 1, seen.fin, text))
        else:
            self.left_out += 1
            return None
        if total is None or keep or seen.fin or seen.stream.partition("#")[0] in ("error", "resize"):
            return None
        return Run(self.entries[-1], total, seen.sender, seen.stream)

    def end(self, by: Literal["client", "server", "cut"]) -> None:
        """It has ended; the first word counts."""
        self.ended = self.ended or by
        self._over.set()


class Transcript:
    """The newest ``exchanges`` of a server; with 0 it is off. ``payload``: bytes kept of each stream and body, stdin
    among them; ``secrets`` keeps credentials."""

    def __init__(self, *, payload: int = 0, secrets: bool = False, exchanges: int = EXCHANGES_KEPT) -> None:
        if payload < 0 or exchanges < 0:
            raise ValueError(f"payload={payload}, exchanges={exchanges}: both are at least 0")
        self.payload, self.secrets = payload, secrets
        self._exchanges: deque[Exchange] = deque(maxlen=exchanges)

    @property
    def exchanges(self) -> list[Exchange]:
        """Oldest first."""
        return list(self._exchanges)

    @property
    def sessions(self) -> list[Exchange]:
        """Those that were upgraded, oldest first."""
        return [each for each in self.exchanges if each.status == 101]

    def last(self, prefix: str = "/") -> Exchange:
        """The newest exchange whose path begins so. Raises LookupError if there is none."""
        for each in reversed(self.exchanges):
            if each.path.startswith(prefix):
                return each
        raise LookupError(f"no request for {prefix}... is in the transcript")

    @property
    def keeps_anything(self) -> bool:
        """Whether it is on."""
        return self._exchanges.maxlen != 0

    def clear(self) -> None:
        """Forget everything so far."""
        self._exchanges.clear()

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.exchanges))

    def __len__(self) -> int:
        return len(self._exchanges)

    def begin(self, request: Request) -> Exchange:
        """A request has come."""
        names = list(request.query)[:_HEADERS]
        exchange = Exchange(
            method=request.method[:80],
            path=request.path[:_TARGET],
            query={key[:_VALUE]: [each[:_TARGET] for each in request.query[key][:_HEADERS]] for key in names},
            headers=self._headers((name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers),
            peer=request.peer,
            version=request.version,
        )
        self._exchanges.append(exchange)
        return exchange

    def answered(self, exchange: Exchange, status: int, headers: Iterable[tuple[str, str]], body: bytes = b"") -> None:
        """The head of the answer is known, and its body if it has all of it."""
        exchange.answer_headers = self._headers(headers)
        exchange.body = body[: max(self.payload, _BODY_KEPT if status >= 400 else 0)]
        exchange.status = status

    def _headers(self, headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        kept = []
        for name, value in list(headers)[:_HEADERS]:
            key = name.lower()
            if not self.secrets:
                value = _REDACTED if key in _CREDENTIALS else _without_tokens(value)
            kept.append((key[:_VALUE], value[:_VALUE]))
        return kept


def _without_tokens(value: str) -> str:
    """Bearer tokens stand among the subprotocols of browsers' WebSockets."""
    if BEARER_PREFIX not in value:
        return value
    parts = [part.strip() for part in value.split(",")]
    return ", ".join(BEARER_PREFIX + _REDACTED if part.startswith(BEARER_PREFIX) else part for part in parts)
