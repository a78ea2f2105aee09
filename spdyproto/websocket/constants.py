"""Numbers of RFC 6455: opcodes (section 11.8) and close codes (section 7.4.1)."""

from __future__ import annotations

import enum
from typing import Final

GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""Joined to the client's key for ``Sec-WebSocket-Accept`` (section 1.3)."""

VERSION: Final = "13"
"""Of the protocol, in ``Sec-WebSocket-Version`` (section 4.1)."""

MAX_CONTROL: Final = 125
"""Payload of a control frame (section 5.5)."""


class Opcode(enum.IntEnum):
    """What a frame is. 3-7 and 11-15 are reserved and end the connection."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


class CloseCode(enum.IntEnum):
    """Why a connection is closed. 1005, 1006 and 1015 never occur on the wire."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    NO_STATUS = 1005
    ABNORMAL = 1006
    INVALID_DATA = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    MANDATORY_EXTENSION = 1010
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    BAD_GATEWAY = 1014
    TLS_HANDSHAKE = 1015


_ON_THE_WIRE: Final = frozenset(
    {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, *range(3000, 5000)}
)


def valid_close_code(code: int) -> bool:
    """Whether ``code`` may stand in a Close frame (section 7.4)."""
    return code in _ON_THE_WIRE
