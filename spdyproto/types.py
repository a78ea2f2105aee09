"""Names shared by every engine: buffers, roles, header lists and the tracer hook."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview
"""Anything whose bytes can be read without copying. Views given to an engine are kept until they were sent."""

HeaderList: TypeAlias = Sequence[tuple[str, str]]
"""Name/value pairs. A name that occurs several times is one header with several values (joined by NUL on the wire)."""

Tracer: TypeAlias = Callable[[str, tuple[object, ...]], None]
"""Called as ``tracer(direction, frame)``: direction is ``"in"`` or ``"out"``, frame a small decoded tuple whose first
item names the frame type. It never sees payload: data frames are reported by their length."""


class Role(enum.Enum):
    """Which end of the connection an engine plays. The law of the states does not depend on it; numbering does."""

    CLIENT = "client"
    SERVER = "server"


class Policy(enum.Enum):
    """How to treat the cases in which SPDY/3.1 as written and deployed Kubernetes peers differ.

    ``KUBERNETES`` behaves as ``moby/spdystream`` does (``connection.go``): data for unknown or ended streams is
    dropped, a repeated or lower stream id is reset and the connection lives on, parity of incoming ids is not checked.
    ``STRICT`` follows the text of SPDY/3.1: the same cases are stream or connection errors.
    """

    KUBERNETES = "kubernetes"
    STRICT = "strict"
