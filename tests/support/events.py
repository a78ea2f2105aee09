"""Events made comparable: views copied to bytes, and adjacent pieces of one stream joined."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

from spdyproto.channels.events import Lost, Output, SessionEvent, Stdin
from spdyproto.spdy.events import ConnectionTerminated, DataAfterReset, DataReceived, Event

Told: TypeAlias = tuple[Any, ...]


def told(event: Event | SessionEvent) -> Told:
    """The event as a tuple of plain values, its payload copied (a view dies with its buffer)."""
    name = type(event).__name__
    if isinstance(event, DataReceived):
        return (name, event.stream_id, bytes(event.data), event.fin)
    if isinstance(event, DataAfterReset):
        return (name, event.stream_id, bytes(event.data))
    if isinstance(event, Output):
        return (name, event.kind, bytes(event.data))
    if isinstance(event, Stdin):
        return (name, bytes(event.data))
    if isinstance(event, ConnectionTerminated | Lost):
        return (name, type(event.error).__name__, str(event.error))
    return (name, *(getattr(event, field) for field in type(event).__slots__))


def tell(events: Iterable[Event | SessionEvent]) -> list[Told]:
    return [told(event) for event in events]


def merged(events: Iterable[Told]) -> list[Told]:
    """Adjacent payload of one stream as one event: how it was cut on the way means nothing."""
    result: list[Told] = []
    for event in events:
        last = result[-1] if result else ("",)
        if event[0] == last[0] == "DataReceived" and event[1] == last[1] and not last[3]:
            result[-1] = (event[0], event[1], last[2] + event[2], event[3])
        elif event[0] == last[0] and event[0] in ("Output", "DataAfterReset") and event[1] == last[1]:
            result[-1] = (event[0], event[1], last[2] + event[2])
        elif event[0] == last[0] == "Stdin":
            result[-1] = (event[0], last[1] + event[1])
        else:
            result.append(event)
    return result
