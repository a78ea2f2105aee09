"""Logs: what is asked for, and how a log that is followed goes on after the connection broke. No I/O.

Theory of operation. The kubelet numbers no lines, but it can put a time before each, and can leave out those before a
time (``cri-client: pkg/logs/logs.go``); an apiserver passes that time on in whole seconds. So what is followed is asked
for with times, which are taken off again if the caller wants none. ``Lines`` counts the lines delivered of the newest
second that was seen and of the one before, for stdout and stderr are written by two threads, and times may go back a
little. After a break the log is asked for from the beginning of the second before the newest, and so many lines are
dropped: they come again in the same order, for a log is only ever appended to. Where the first of them is not the line
that was first then, the file is another one (rotated, or of a restarted container) and lines may be missing: that is an
error and never a gap. A line whose end had not come yet was not delivered, and comes again whole.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from math import ceil
from typing import Final

from kubeletclient import errors
from kubeletclient._door import Ask, PodRef, Way
from kubeletclient.endpoints import Target
from spdyproto.limits import MIB

__all__ = ["Backoff", "Lines", "LogOptions", "gap", "logs_ask", "worth_waiting_for"]

LINE_LIMIT: Final = 16 * MIB
"""Bytes of a line that are kept until its end comes. A longer one is handed on in pieces, and cannot be resumed."""

_TIME: Final = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d) ")


@dataclass(frozen=True, slots=True)
class LogOptions:
    """What to ask for. See ``Pod.logs``."""

    follow: bool = False
    previous: bool = False
    since: float | datetime | None = None
    tail: int | None = None
    timestamps: bool = False
    limit_bytes: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.since, datetime):
            if self.since.tzinfo is None:
                raise ValueError("since= is a number of seconds, or a datetime that knows its time zone")
        elif self.since is not None and not self.since > 0:
            raise ValueError(f"since= is a number of seconds greater than 0, not {self.since!r}")
        if self.tail is not None and self.tail < 0:
            raise ValueError(f"tail= is a number of lines of at least 0, not {self.tail!r}")
        if self.limit_bytes is not None and self.limit_bytes < 1:
            raise ValueError(f"limit_bytes= is at least 1, not {self.limit_bytes!r}")

    @property
    def resumable(self) -> bool:
        """Whether it is worth to go on after a break. With a limit the times would be counted, so there are none."""
        return self.follow and self.limit_bytes is None

    def query(self, *, elapsed: float = 0.0, resume: str | None = None) -> list[tuple[str, str]]:
        """The options as a kubelet and an apiserver take them. ``resume`` is where to go on; ``elapsed`` is how long
        ago ``since=`` was meant.
        """
        options = [("follow", self.follow), ("previous", self.previous)]
        options.append(("timestamps", self.timestamps or self.resumable))
        query = [(name, "true") for name, wanted in options if wanted]
        if resume is not None:
            query.append(("sinceTime", resume))
        else:
            if isinstance(self.since, datetime):
                query.append(("sinceTime", self.since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")))
            elif self.since is not None:
                query.append(("sinceSeconds", str(max(1, ceil(self.since + elapsed)))))
            if self.tail is not None:
                query.append(("tailLines", str(self.tail)))
        if self.limit_bytes is not None:
            query.append(("limitBytes", str(self.limit_bytes)))
        return query


def logs_ask(query: Sequence[tuple[str, str]], found: list[PodRef]) -> Ask:
    """To read a log. The pod that it came to is put into ``found``: another try must not take another one."""

    def target(way: Way, pod: PodRef, container: str) -> Target:
        found[:] = [PodRef(pod.namespace, pod.name, pod.uid, via=pod.via, default_container=container)]
        return way.logs_target(pod, container, query)

    return Ask("logs", target, while_running=False)


@dataclass(slots=True)
class _Second:
    """Lines of one second: the number of the first, that line, and how many."""

    index: int
    line: bytes
    count: int = 1


class Lines:
    """From the bytes of a log, broken off and begun again, to its lines."""

    def __init__(self, options: LogOptions) -> None:
        self._options = options
        self._strip = options.resumable and not options.timestamps
        self._partial = bytearray()
        self._text = b""  # the second of the line before, as it stands there
        self._second = 0  # the same, as a number
        self._zone: tzinfo = UTC
        self._taken = 0  # lines that had a time
        self._seconds: dict[int, _Second] = {}  # the newest, and the one before it
        self._skip = 0
        self._first: bytes | None = None  # what must be the first line after a break
        self._torn = False
        self._began = time.monotonic()

    @property
    def resume_query(self) -> list[tuple[str, str]]:
        """What to ask for after a break."""
        return self._options.query(elapsed=time.monotonic() - self._began, resume=self._resume_at())

    def _resume_at(self) -> str | None:
        if not self._seconds:
            return None
        return datetime.fromtimestamp(max(self._seconds) - 1, self._zone).isoformat()

    @property
    def can_resume(self) -> bool:
        """Whether what is missing can be asked for."""
        return self._options.resumable and not self._torn

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that are whole now, each with its end. Raises what ``gap`` answers."""
        self._partial += data
        end = self._partial.rfind(b"\n") + 1
        if not end:
            if len(self._partial) <= LINE_LIMIT:
                return []
            self._torn, end = True, len(self._partial)
        whole = bytes(self._partial[:end])
        del self._partial[:end]
        lines = whole.splitlines(keepends=True) if b"\r" not in whole else re.findall(rb"[^\n]*\n|[^\n]+", whole)
        return [line for line in map(self._take, lines) if line is not None] if self._options.resumable else lines

    def broken(self) -> None:
        """The connection was lost: what follows begins at ``resume_query``."""
        self._partial.clear()
        self._skip = sum(second.count for second in self._seconds.values())
        self._first = min(self._seconds.values(), key=lambda second: second.index).line if self._skip else None

    def end(self) -> list[bytes]:
        """The log ended; what is left is a line without an end. Raises what ``gap`` answers."""
        if self._skip:
            raise gap(self._resume_at())
        rest, self._partial = bytes(self._partial), bytearray()
        if not rest:
            return []
        line = self._take(rest) if self._options.resumable else rest
        return [line] if line is not None else []

    def _take(self, line: bytes) -> bytes | None:
        match = _TIME.match(line)
        if match is None:
            return line  # the kubelet's own words, e.g. that the rest cannot be read
        if self._skip:
            if self._first not in (None, line):
                raise gap(self._resume_at())
            self._first = None
            self._skip -= 1
            return None
        self._count(match, line)
        return line[match.end() :] if self._strip else line

    def _count(self, match: re.Match[bytes], line: bytes) -> None:
        if match[1] != self._text:
            when = datetime.fromisoformat((match[1] + match[2]).decode())
            self._text, self._second, self._zone = match[1], int(when.timestamp()), when.tzinfo or UTC
        seconds, second = self._seconds, self._second
        known = seconds.get(second)
        self._taken += 1
        if known is not None:
            known.count += 1
        elif not seconds or second >= max(seconds) - 1:
            seconds[second] = _Second(self._taken, line)
            for old in [old for old in seconds if old < max(seconds) - 1]:
                del seconds[old]


def gap(since: str | None) -> errors.ConnectionLost:
    """The log cannot be gone on with."""
    return errors.ConnectionLost(
        f"the connection broke, and the log is another one now: lines since {since} may be missing",
        hint="the container was restarted or its log rotated: read it anew, with previous= for the one before",
        owed=("lines of the log",),
    )


def worth_waiting_for(error: errors.ClientError) -> bool:
    """Whether a node that hiccuped may be well again soon after this."""
    if isinstance(error, errors.CertificateVerifyError | errors.NotTLSError):
        return False
    return isinstance(
        error,
        errors.ConnectError
        | errors.ConnectionLost
        | errors.ServerError
        | errors.TooManyRequests
        | errors.UpgradeTimeout,
    )


class Backoff:
    """How long to wait between two tries: soon at first, then every few seconds, until ``patience`` is over."""

    def __init__(self, patience: float) -> None:
        self._ends = time.monotonic() + patience
        self._next = 0.25

    def wait(self) -> float | None:
        """Seconds until the next try; None when there is none."""
        if time.monotonic() >= self._ends:
            return None
        pause, self._next = self._next, min(5.0, self._next * 2)
        return min(pause, max(0.0, self._ends - time.monotonic()))
