"""The law of a stream: every transition, once, for both roles and both directions.

A SPDY stream is two halves that live apart: what one end may still send, and what the other may. Each half obeys the
same table; nothing here knows whether a half is ours or the peer's, or which end is the client. When a sender does
what the table forbids, the entry says which RST_STREAM status names the fault (draft 3.1 sections 2.3 and 2.6): on
our own half the engine raises it at the caller, on the peer's half it resets the stream (strict) or drops the frame (as
spdystream does).

The two halves begin as

=====================  ===============  ==================
stream                 opener's half    acceptor's half
=====================  ===============  ==================
ordinary               OPEN             AWAITING_REPLY
unidirectional         OPEN             ENDED
with FIN               ENDED            AWAITING_REPLY
=====================  ===============  ==================

and the stream is over when both are ENDED, or when either side has reset it.
"""

from __future__ import annotations

import enum

from spdyproto.spdy.constants import RstStatus


class Half(enum.Enum):
    """What the sender of this half may still do."""

    AWAITING_REPLY = "awaiting reply"
    OPEN = "open"
    ENDED = "ended"
    RESET = "reset"


class Act(enum.Enum):
    """What the sender of a half did. A frame with FIN is its own act, then ``END``."""

    REPLY = "SYN_REPLY"
    HEADERS = "HEADERS"
    DATA = "DATA"
    END = "FIN"
    RESET = "RST_STREAM"


TRANSITIONS: dict[tuple[Half, Act], Half | RstStatus] = {
    (Half.AWAITING_REPLY, Act.REPLY): Half.OPEN,
    (Half.AWAITING_REPLY, Act.HEADERS): RstStatus.PROTOCOL_ERROR,
    (Half.AWAITING_REPLY, Act.DATA): RstStatus.PROTOCOL_ERROR,
    (Half.AWAITING_REPLY, Act.END): RstStatus.PROTOCOL_ERROR,
    (Half.AWAITING_REPLY, Act.RESET): Half.RESET,
    (Half.OPEN, Act.REPLY): RstStatus.STREAM_IN_USE,
    (Half.OPEN, Act.HEADERS): Half.OPEN,
    (Half.OPEN, Act.DATA): Half.OPEN,
    (Half.OPEN, Act.END): Half.ENDED,
    (Half.OPEN, Act.RESET): Half.RESET,
    (Half.ENDED, Act.REPLY): RstStatus.STREAM_IN_USE,
    (Half.ENDED, Act.HEADERS): RstStatus.STREAM_ALREADY_CLOSED,
    (Half.ENDED, Act.DATA): RstStatus.STREAM_ALREADY_CLOSED,
    (Half.ENDED, Act.END): RstStatus.STREAM_ALREADY_CLOSED,
    (Half.ENDED, Act.RESET): Half.RESET,
    (Half.RESET, Act.REPLY): RstStatus.INVALID_STREAM,
    (Half.RESET, Act.HEADERS): RstStatus.INVALID_STREAM,
    (Half.RESET, Act.DATA): RstStatus.INVALID_STREAM,
    (Half.RESET, Act.END): RstStatus.INVALID_STREAM,
    (Half.RESET, Act.RESET): RstStatus.INVALID_STREAM,
}


def initial_halves(*, fin: bool, unidirectional: bool) -> tuple[Half, Half]:
    """(opener's half, acceptor's half) of a stream that a SYN_STREAM with these flags opens."""
    return Half.ENDED if fin else Half.OPEN, Half.ENDED if unidirectional else Half.AWAITING_REPLY
