"""Numbers of SPDY/3.1: frame types, flags and codes (draft 3.1 sections 2.2, 2.6; ``moby/spdystream:
spdy/types.go``)."""

from __future__ import annotations

import enum

VERSION = 3
"""On the wire SPDY/3.1 calls itself 3; the ".1" exists only in the HTTP ``Upgrade`` header."""

HEADER_SIZE = 8
MAX_LENGTH = (1 << 24) - 1
MAX_STREAM_ID = (1 << 31) - 1
MAX_PING_ID = 0xFFFFFFFF
DEFAULT_WINDOW = 64 * 1024
MAX_WINDOW = (1 << 31) - 1


class FrameType(enum.IntEnum):
    """Control frames. 5 (NOOP) and 10 (CREDENTIAL) are gone from 3.1 or unused, and no peer implements them."""

    SYN_STREAM = 1
    SYN_REPLY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PING = 6
    GOAWAY = 7
    HEADERS = 8
    WINDOW_UPDATE = 9


class Flag(enum.IntFlag):
    """Flags of SYN_STREAM; FIN also on SYN_REPLY, HEADERS and DATA."""

    NONE = 0
    FIN = 0x01
    UNIDIRECTIONAL = 0x02


FLAG_FIN = 0x01
FLAG_UNIDIRECTIONAL = 0x02
FLAG_CLEAR_SETTINGS = 0x01


class RstStatus(enum.IntEnum):
    """Why a stream was reset (SPDY/3.1 section 2.6.3)."""

    PROTOCOL_ERROR = 1
    INVALID_STREAM = 2
    REFUSED_STREAM = 3
    UNSUPPORTED_VERSION = 4
    CANCEL = 5
    INTERNAL_ERROR = 6
    FLOW_CONTROL_ERROR = 7
    STREAM_IN_USE = 8
    STREAM_ALREADY_CLOSED = 9
    INVALID_CREDENTIALS = 10
    FRAME_TOO_LARGE = 11


class GoAwayStatus(enum.IntEnum):
    """Why a connection ends (SPDY/3.1 section 2.6.6)."""

    OK = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2


class SettingId(enum.IntEnum):
    """What SETTINGS may carry (SPDY/3.1 section 2.6.4)."""

    UPLOAD_BANDWIDTH = 1
    DOWNLOAD_BANDWIDTH = 2
    ROUND_TRIP_TIME = 3
    MAX_CONCURRENT_STREAMS = 4
    CURRENT_CWND = 5
    DOWNLOAD_RETRANS_RATE = 6
    INITIAL_WINDOW_SIZE = 7
    CLIENT_CERTIFICATE_VECTOR_SIZE = 8


class SettingFlag(enum.IntFlag):
    """Flags of one entry of SETTINGS."""

    NONE = 0
    PERSIST_VALUE = 1
    PERSISTED = 2
