"""Every error of the client, by the step that failed.

::

    KubewireError                                  (spdyproto.errors) root of the whole project
      ClientError                                  cause, next step, route, URL, bytes, what was owed
        CredentialsError(ValueError)               a certificate, key, CA or token cannot be used
          UnverifiedTokenError                     a bearer token would have gone over an unverified connection
          ExecPluginError                          the program that gives credentials failed, or may not be run
            ExecPluginNotFound                     there is no such program
        KubeconfigError(ValueError)                a kubeconfig file, or what was chosen in it, cannot be used
        ConnectError(ConnectionError)              no connection was made: nothing reached the server
          NameResolutionError                      the host name has no address
          ConnectionRefused(ConnectionRefusedError)   nothing listens there
          DialTimeout(TimeoutError)                nothing answered the TCP connection
          ProxyError                               the proxy on the way does not connect us
            ProxyAuthenticationError(PermissionError)   it wants a user name and a password, or others
          TLSError                                 the TLS handshake failed
            CertificateVerifyError                 the server's certificate was not accepted
              UnknownAuthorityError                it is signed by an authority that is not trusted here
              CertificateExpiredError              it is not valid now
              CertificateNameError                 it is valid for other names
              PinnedCertificateChanged             it is not the one that was pinned for this server
            ClientCertificateRejected(PermissionError)   the server refused our certificate
            NotTLSError                            something answered, and not in TLS
            HandshakeCutError                      the server hung up in the middle of the handshake
            TLSTimeout(TimeoutError)               the server did not finish the handshake
        PodUnavailable                             the pod is not on a node yet, or its containers have ended
        UpgradeRefused                             the server answered, and did not switch to the streaming protocol
          BadRequest                               400
          Unauthorized(PermissionError)            401
          Forbidden(PermissionError)               403
          NotFound(LookupError)                    404
          TooManyRequests                          429
          Redirected                               3xx: never followed
          ServerError                              5xx
          UpgradeMissing                           2xx, or a 101 that upgrades to something else
          ProtocolNotSupported                     no subprotocol in common
        UpgradeTimeout(TimeoutError)               no answer to the upgrade request
        InvalidAnswer                              the answer is not HTTP/1.1
        ConnectionLost(ConnectionError)            the session ended without the proof that the command completed
          PeerNotResponding(TimeoutError)          because the peer owed something for too long
          OutcomeUnknown                           because the protocol cannot tell success from loss
        ForwardFailed(ConnectionResetError)        a forwarded connection failed, or could not be opened
        RemoteError                                the server reports a failure that is not an exit code
        DeadlineExceeded(TimeoutError)             the caller's ``timeout`` passed
        OutputLimitExceeded                        captured output crossed its cap
        StdinClosed(BrokenPipeError)               the command does not take stdin any more
        StdinCannotEnd(ValueError)                 this transport has no way to end stdin
        ProcessClosed(ValueError)                  the caller closed the process, and went on using it
      CommandFailed(subprocess.CalledProcessError) ``check=True``, and the command exited with another code than 0

Each text names the cause and the next step. Text that came from the server is escaped: it cannot move a cursor or
forge a line of a log. No text, attribute or ``repr`` holds a token, a key or a password.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from spdyproto.errors import KubewireError
from spdyproto.text import printable

if TYPE_CHECKING:
    from kubeletclient._ladder import Attempt

__all__ = [
    "BadRequest",
    "CertificateExpiredError",
    "CertificateNameError",
    "CertificateVerifyError",
    "ClientCertificateRejected",
    "ClientError",
    "CommandFailed",
    "ConnectError",
    "ConnectionLost",
    "ConnectionRefused",
    "CredentialsError",
    "DeadlineExceeded",
    "DialTimeout",
    "ExecPluginError",
    "ExecPluginNotFound",
    "Forbidden",
    "ForwardFailed",
    "HandshakeCutError",
    "InvalidAnswer",
    "KubeconfigError",
    "KubewireError",
    "NameResolutionError",
    "NotFound",
    "NotTLSError",
    "OutcomeUnknown",
    "OutputLimitExceeded",
    "PeerNotResponding",
    "PinnedCertificateChanged",
    "PodUnavailable",
    "ProcessClosed",
    "ProtocolNotSupported",
    "ProxyAuthenticationError",
    "ProxyError",
    "Redirected",
    "RemoteError",
    "ServerError",
    "StdinCannotEnd",
    "StdinClosed",
    "TLSError",
    "TLSTimeout",
    "TooManyRequests",
    "Unauthorized",
    "UnknownAuthorityError",
    "UnverifiedTokenError",
    "UpgradeMissing",
    "UpgradeRefused",
    "UpgradeTimeout",
]

_NOTHING: Mapping[str, int] = MappingProxyType({})


class ClientError(KubewireError):
    """Root of the client's errors.

    ``str()`` gives cause, next step and where; the attributes give the same to programs:

    - ``route``: how the server was reached: ``"kubelet"``, ``"apiserver"`` or ``"url"``; ``route_reason``: why so,
      where it was a choice;
    - ``url``: without secrets and without the command;
    - ``http_status``: the code of the HTTP answer, where there was one;
    - ``attempts``: the transports that were tried before this one, and why they were left (``Attempt``);
    - ``received``, ``sent``: bytes of payload by stream name (``"stdout"``, ``"stdin"``, ...);
    - ``owed``: what the protocol still owed, in words;
    - ``stdout``, ``stderr``: what had been captured by then; ``None`` for an output that was not captured.
    """

    _with_amounts = False

    def __init__(
        self,
        cause: str,
        *,
        hint: str = "",
        route: str = "",
        url: str = "",
        http_status: int | None = None,
        received: Mapping[str, int] = _NOTHING,
        sent: Mapping[str, int] = _NOTHING,
        owed: Sequence[str] = (),
        stdout: bytes | str | None = None,
        stderr: bytes | str | None = None,
    ) -> None:
        super().__init__(cause)
        self.cause = cause
        self.hint = hint
        self.route = route
        self.route_reason = ""
        self.url = url
        self.http_status = http_status
        self.attempts: tuple[Attempt, ...] = ()
        self.received = dict(received)
        self.sent = dict(sent)
        self.owed = tuple(owed)
        self.stdout = stdout
        self.stderr = stderr

    def __str__(self) -> str:
        text = self.cause
        if self._with_amounts and (self.received or self.sent):
            text += f" ({_amounts('received', self.received)}; {_amounts('sent', self.sent)})"
        if self.hint:
            text += f"; {self.hint}"
        if len(self.attempts) > 1:
            text += f" (tried {'; '.join(map(str, self.attempts))})"
        if self.route == "apiserver" and self.route_reason:
            text += f" (through the apiserver, because {self.route_reason})"
        if self.url:
            text += f" [{self.url}]"
        return text


def _amounts(verb: str, counts: Mapping[str, int]) -> str:
    parts = [f"{count} bytes of {name}" for name, count in counts.items() if count]
    return f"{verb} {', '.join(parts) or 'nothing'}"


class CredentialsError(ClientError, ValueError):
    """A certificate, key, CA or token is missing, unreadable, or does not fit. Nothing was sent."""


class UnverifiedTokenError(CredentialsError):
    """A bearer token would have gone over a plain connection, or to a server whose certificate is not verified."""


class ExecPluginError(CredentialsError):
    """A credential plugin failed, answered something unusable, or may not be run (``PluginPolicy``)."""


class ExecPluginNotFound(ExecPluginError):
    """The command of a credential plugin is not there, or not executable."""


class KubeconfigError(ClientError, ValueError):
    """A kubeconfig file, or what was chosen in it, cannot be used. Nothing was sent.

    ``file`` is the path of the file at fault and ``entry`` its entry (such as ``user "jane"``), each empty where the
    fault is of no single one; ``problems`` has every fault that was found, the first of them told in the text.
    """

    file: str = ""
    entry: str = ""
    problems: tuple[str, ...] = ()


class ConnectError(ClientError, ConnectionError):
    """No connection was made; the server has seen no request."""


class NameResolutionError(ConnectError):
    """The host name could not be turned into an address."""


class ConnectionRefused(ConnectError, ConnectionRefusedError):
    """The host answered that nothing listens on that port."""


class DialTimeout(ConnectError, TimeoutError):
    """Nothing answered the TCP connection in time (``Deadlines.dial``)."""


class ProxyError(ConnectError):
    """The proxy on the way to the server does not connect us: ``url`` is the server's, the text names the proxy."""


class ProxyAuthenticationError(ProxyError, PermissionError):
    """The proxy wants a user name and a password, or does not take those that it got."""


class TLSError(ConnectError):
    """The TLS handshake failed."""


class CertificateVerifyError(TLSError):
    """The server's certificate was not accepted."""


class UnknownAuthorityError(CertificateVerifyError):
    """The server's certificate is signed by an authority that is not among those trusted."""


class CertificateExpiredError(CertificateVerifyError):
    """The server's certificate is expired or not valid yet."""


class CertificateNameError(CertificateVerifyError):
    """The server's certificate is valid, for other names than the one asked for."""


class PinnedCertificateChanged(CertificateVerifyError):
    """The server presents another certificate than the one that was pinned for it: a new server, or an impostor."""


class ClientCertificateRejected(TLSError, PermissionError):
    """The server ended the handshake because of our certificate, or because we presented none."""


class NotTLSError(TLSError):
    """Something answered that is not TLS: most often a plain HTTP server."""


class HandshakeCutError(TLSError):
    """The connection ended in the middle of the TLS handshake."""


class TLSTimeout(TLSError, TimeoutError):
    """The server accepted the connection and did not finish the TLS handshake in time (``Deadlines.tls``)."""


class PodUnavailable(ClientError):
    """The pod is there, and nothing can be run in it: it is on no node yet, or its containers have ended."""


class UpgradeRefused(ClientError):
    """The server answered the request and did not switch protocols. ``message`` is its own text, escaped."""

    message: str = ""


class BadRequest(UpgradeRefused):
    """HTTP 400: the server does not take these options, or saw no upgrade."""


class Unauthorized(UpgradeRefused, PermissionError):
    """HTTP 401: the server does not accept the credentials, or got none."""


class Forbidden(UpgradeRefused, PermissionError):
    """HTTP 403: the identity is known and lacks the right. A kubelet asks for ``create`` on ``nodes/proxy``."""


class NotFound(UpgradeRefused, LookupError):
    """HTTP 404: no such pod on this node, or a one-time URL that was used already or is too old."""


class TooManyRequests(UpgradeRefused):
    """HTTP 429: the runtime has no room for one more streaming request now."""


class Redirected(UpgradeRefused):
    """HTTP 3xx: following it would hand credentials to another server, so it is never done."""


class ServerError(UpgradeRefused):
    """HTTP 5xx: the kubelet or the runtime failed; a missing container is reported so, too."""


class UpgradeMissing(UpgradeRefused):
    """The server answered as if it knew nothing of upgrades: not a kubelet, or a proxy between that drops them."""


class ProtocolNotSupported(UpgradeRefused):
    """Client and server have no version of the streaming protocol in common."""


class UpgradeTimeout(ClientError, TimeoutError):
    """The server took the request and did not answer in time (``Deadlines.upgrade``). The command may have started."""


class InvalidAnswer(ClientError):
    """What came back is not an HTTP/1.1 answer."""


class ConnectionLost(ClientError, ConnectionError):
    """The session ended without the proof that the command completed: neither success nor an exit code is known.

    The command may still be running: a kubelet does not kill it when the client leaves.
    """


class PeerNotResponding(ConnectionLost, TimeoutError):
    """The session was given up because the peer owed something for longer than ``Deadlines`` or ``Keepalive``
    allow.
    """


class OutcomeUnknown(ConnectionLost):
    """The session ended in order under a protocol that tells failures only: WebSocket before v4.

    The command succeeded, or its failure was lost. All output that came was handed on.
    """


class ForwardFailed(ClientError, ConnectionResetError):
    """A forwarded connection failed on the pod's side, or was cut; or a session for it could not be had.

    What was received before may be part of more. ``message`` is the server's own text, escaped, if it gave one.
    """

    message: str = ""


class RemoteError(ClientError):
    """The server reports that the command could not be run, or that it failed, without an exit code.

    ``message`` and ``reason`` are the server's own words, escaped. Protocol versions 1 to 3 report every exit code
    other than 0 this way.
    """

    message: str = ""
    reason: str = ""


class DeadlineExceeded(ClientError, TimeoutError):
    """The caller's ``timeout`` passed. ``timeout`` is its value in seconds.

    Where the call owned the session (``run``, or a process made with ``timeout=``), the connection is closed.
    """

    timeout: float = 0.0
    _with_amounts = True


class OutputLimitExceeded(ClientError):
    """Captured output crossed ``capture_limit``; the connection is closed. The bytes up to the limit are in
    ``stdout`` and ``stderr``.
    """

    _with_amounts = True


class StdinClosed(ClientError, BrokenPipeError):
    """The command (or the server for it) takes no more stdin. The session lives on: its output and status still
    come.
    """


class StdinCannotEnd(ClientError, ValueError):
    """stdin was to be ended over a transport that has no word for it: WebSocket before v5.

    Nothing was sent for it, and the session, if there is one, goes on as before: a command that reads to the end of
    its input waits on.
    """


class ProcessClosed(ClientError, ValueError):
    """The process was closed by this program, so nothing more can be read from it or written to it."""


class CommandFailed(KubewireError, subprocess.CalledProcessError):
    """``check=True``, and the command's exit code is not 0. Attributes as on ``subprocess.CalledProcessError``."""

    def __init__(
        self,
        returncode: int,
        cmd: Sequence[str],
        output: bytes | str | None = None,
        stderr: bytes | str | None = None,
    ) -> None:
        subprocess.CalledProcessError.__init__(self, returncode, list(cmd), output, stderr)
        self.args = (returncode, list(cmd), output, stderr)

    def __str__(self) -> str:
        said = self.stderr if isinstance(self.stderr, str) else (self.stderr or b"").decode("utf-8", "replace")
        command = printable(" ".join(self.cmd), limit=200)
        text = f"the command exited with code {self.returncode}: {command}"
        return f"{text}; its stderr: {printable(said.strip(), limit=500)}" if said.strip() else text
