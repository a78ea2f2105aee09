"""Every error of the engines, by culprit.

::

    KubewireError                       root of the whole project
      ProtocolError                     abstract: carries a wire code where the protocol has one
        LocalProtocolError              raised at the call that broke the rules; nothing has changed
          StreamClosedError             the stream cannot take this any more
          StreamIdsExhausted            31 bits of ids are used up: open a new connection
          OutputLimitExceeded           the send would cross ``Limits.queued_bytes``
          EngineTerminated              the connection is over
          HalfCloseUnsupported          the protocol has no end of stdin
        RemoteProtocolError             carried by ``ConnectionTerminated`` and ``Lost``; never raised by an engine
          FramingError                  a frame that is not one
          HeaderBlockError              a header block that does not inflate or parse
          FlowControlError              a window overrun
          EncodingError                 text that is not UTF-8
          LimitExceeded                 the peer went beyond one of ``Limits``
          PeerClosed                    the connection ended while something was owed
          PeerTimeout                   the peer did not do in time what the protocol owes
          StatusError                   the error stream does not hold a status
          OutcomeUnknown                the protocol cannot tell success from loss
          UpgradeError                  the answer to an upgrade request is not one
          ForwardingFailed              one forwarded connection failed; the session goes on
"""

from __future__ import annotations

from spdyproto.spdy.constants import GoAwayStatus


class KubewireError(Exception):
    """Root of every error that this project raises on purpose."""


class ProtocolError(KubewireError):
    """A rule of the wire was broken. ``code`` is the GOAWAY status, ``close_code`` the WebSocket one, that tell the
    peer."""

    code: GoAwayStatus = GoAwayStatus.PROTOCOL_ERROR
    close_code: int = 1002

    def __init__(self, message: str, *, stream_id: int | None = None) -> None:
        super().__init__(message)
        self.stream_id = stream_id

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.args[0], self.stream_id))


def _rebuild(kind: type[ProtocolError], message: str, stream_id: int | None) -> ProtocolError:
    return kind(message, stream_id=stream_id)


class LocalProtocolError(ProtocolError):
    """The caller asked for something that the protocol does not allow now. Nothing has changed; the engine goes on."""


class StreamClosedError(LocalProtocolError):
    """The stream is unknown, was ended by us, or was reset."""


class StreamIdsExhausted(LocalProtocolError):
    """No stream id is left on this connection (SPDY/3.1 section 2.3.2: ids do not wrap)."""


class OutputLimitExceeded(LocalProtocolError):
    """The queued output would cross ``Limits.queued_bytes``. Send what is queued, then try again."""


class EngineTerminated(LocalProtocolError):
    """The connection is over: nothing can be sent or received on it."""


class HalfCloseUnsupported(LocalProtocolError):
    """The protocol has no end of stdin: WebSocket before v5. A command that reads to the end would wait for ever."""


class RemoteProtocolError(ProtocolError):
    """The peer broke a rule, went away, or was too slow. Carried by terminal events."""


class FramingError(RemoteProtocolError):
    """A frame with an impossible length, type, flag, version or id."""


class HeaderBlockError(RemoteProtocolError):
    """A header block that cannot be inflated or parsed; the shared compression state is lost with it."""


class FlowControlError(RemoteProtocolError):
    """More data than the window allows, or a window beyond 2^31 - 1."""


class EncodingError(RemoteProtocolError):
    """Text that is not UTF-8 (RFC 6455 section 8.1)."""

    close_code = 1007


class LimitExceeded(RemoteProtocolError):
    """The peer would have made us spend more than ``Limits`` allows."""

    code = GoAwayStatus.INTERNAL_ERROR
    close_code = 1009


class PeerClosed(RemoteProtocolError):
    """The connection ended (GOAWAY, close_notify, FIN or cut) while something was still owed."""


class PeerTimeout(RemoteProtocolError):
    """The peer did not answer within a deadline of ``Deadlines`` or ``Keepalive``."""


class StatusError(RemoteProtocolError):
    """The error stream ended without the status owed, or with something that is not one."""


class OutcomeUnknown(RemoteProtocolError):
    """The session ended in order, under a protocol that cannot tell success from loss: WebSocket before v4."""


class UpgradeError(RemoteProtocolError):
    """The bytes that came are no HTTP/1.1 answer to our upgrade request."""


class ForwardingFailed(RemoteProtocolError):
    """One forwarded connection failed, or was ended by the peer before its end; the others of its session go on.

    ``text`` is the server's own, empty when it gave none.
    """

    def __init__(self, message: str, *, stream_id: int | None = None, text: str = "") -> None:
        super().__init__(message, stream_id=stream_id)
        self.text = text
