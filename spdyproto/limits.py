"""Bounds and deadlines of the engines. Every default says why it has the value it has."""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may cost us, whatever the peer sends.

    Crossing a receive limit ends the connection with a typed error; crossing ``queued_bytes`` refuses the caller's send
    before anything changed. All sizes are bytes.
    """

    control_frame: int = 64 * KIB
    """Largest control frame accepted. Kubernetes sends fewer than 100 bytes; 64 KiB is what h2 peers accept by habit.
    The wire allows 16 MiB."""

    header_block: int = 64 * KIB
    """Largest header block after inflation. spdystream 0.5.1 allows 1000 pairs of 1 MiB each, which a 1 KiB deflate
    bomb can fill."""

    header_pairs: int = 1000
    """Name/value pairs in one block, the value of spdystream 0.5.1 (CVE-2026-35469)."""

    streams: int = 256
    """Streams alive at once. Exec needs five; port-forward two for each connection. spdystream has no limit at all."""

    connections: int = 1024
    """Forwarded connections alive at once in one port-forward session, which has two streams for each. Go's server has
    no limit; a browser under load opens a few hundred."""

    early_data: int = 64 * KIB
    """Server role of port-forward: bytes of a connection that may wait until its second stream is there. Clients open
    both before they send; hasty ones have a request head at most."""

    closed_streams: int = 1024
    """How many ended streams are remembered with the way they ended, so that late frames are told from wrong ones."""

    settings_entries: int = 64
    """Entries of one SETTINGS frame. SPDY/3.1 defines eight."""

    data_frame: int = (1 << 24) - 1
    """Largest DATA frame accepted: the wire's own maximum, harmless because payload is handed on as it arrives."""

    data_frame_out: int = 65528
    """Payload of one DATA frame that we send: with its 8-byte header it fills exactly four TLS records of 16 KiB."""

    queued_bytes: int = 4 * MIB
    """Output accepted but not yet handed to the driver. Drivers flush at 256 KiB, so this only stops a caller that
    never flushes."""

    queued_chores: int = 1024
    """Control frames that the peer made us queue (PING echoes, resets) and has not let us send: a ping or reset flood
    ends here."""

    nuisances: int = 2_000
    """Frames in a burst that move nothing: PINGs, SETTINGS, resets of streams that carried nothing, refused streams,
    empty frames. A tenth of it is given back each second, which is far more than any healthy peer needs; a flood that
    the peer does read the answers of ends here."""

    error_stream: int = 256 * KIB
    """Bytes kept of the error stream. A status is a few hundred bytes of JSON; kubelets cut messages far below this."""

    ws_frame: int = 32 * MIB
    """Largest WebSocket frame accepted: the value of Go's server (``x/net/websocket``). Payload is handed on as it
    comes."""

    ws_message: int = 1 << 40
    """Largest message, over all its fragments. Nothing here collects messages, so this only stops an endless one."""

    http_head: int = 64 * KIB
    """Bytes of an HTTP/1.1 head. Go's client and kubelet accept 1 MiB; no real answer to an upgrade comes near 64
    KiB."""

    refusal_body: int = 64 * KIB
    """Bytes kept of the body of a refused upgrade: enough for any ``Status``, the rest is dropped and counted."""

    resize_buffer: int = 4 * KIB
    """Undecoded bytes of the resize stream: one JSON object is about 30 bytes."""

    def __post_init__(self) -> None:
        if not 0 < self.data_frame_out < 1 << 24:
            raise ValueError(
                f"data_frame_out of {self.data_frame_out}; 1 to 2^24 - 1 expected (the length has 24 bits)"
            )


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long each step that the protocol owes may take, in seconds; ``None`` waits for ever.

    None of them bounds the remote command itself: that is the caller's ``timeout`` (and keepalive, which notices a
    dead peer).
    """

    dial: float | None = 30.0
    """TCP connection, per address; the value of client-go's dialer."""

    tls: float | None = 10.0
    """TLS handshake; the value of client-go's transport."""

    upgrade: float | None = 30.0
    """From the request head until the whole head of the answer. The kubelet asks the runtime for a URL in between."""

    stream_reply: float | None = 30.0
    """SYN_STREAM until SYN_REPLY (``streaming: pkg/httpstream/spdy/connection.go``)."""

    streams: float | None = 30.0
    """Server role: from the upgrade until the client has opened every stream (``DefaultStreamCreationTimeout``)."""

    status: float | None = 60.0
    """From the end of the last output until the status. A command that closes its own stdout and stderr and works on
    for longer than this needs a larger value."""

    drain: float | None = 30.0
    """From the status until the end of the outputs and of the error stream: in order on a healthy connection."""

    close: float | None = 5.0
    """How long a closing connection may take to flush what is queued."""


@dataclass(frozen=True, slots=True)
class Keepalive:
    """PINGs that notice a dead peer; they also reset the idle timers between the two ends.

    A pong that is missing while our own output is blocked proves nothing (a Go server answers no ping while a
    container leaves stdin unread), so the deadline is not counted then; TCP keepalive and ``TCP_USER_TIMEOUT`` watch
    in that state.
    """

    period: float = 5.0
    """Seconds between PINGs: client-go's value."""

    deadline: float = 30.0
    """Seconds without a pong (and without any other byte from the peer) after which it is taken for dead."""

    def __post_init__(self) -> None:
        if self.period <= 0 or self.deadline <= 0:
            raise ValueError(f"keepalive every {self.period} s, deadline {self.deadline} s: both must be more than 0")
