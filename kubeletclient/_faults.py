"""The one seam at which faults of sockets, TLS and servers become errors of ours.

Sockets and OpenSSL report what happened to them; a person needs to know which step failed, why, and what to do. Every
translation names the step by its function; the original error stays chained as the cause.
"""

from __future__ import annotations

import errno
import socket
import ssl
from typing import Any, Final

from kubeletclient import errors
from kubeletclient.endpoints import Target
from kubeletclient.errors import ClientError
from spdyproto.channels.subprotocols import ACCEPTED_HEADER
from spdyproto.channels.upgrade import ProtocolNotOffered, UpgradeFailed, UpgradeMissing, UpgradeRefused
from spdyproto.text import printable

__all__ = [
    "UNREACHABLE",
    "cut_during_upgrade",
    "dial_fault",
    "not_an_upgrade",
    "refusal",
    "resolve_fault",
    "tls_fault",
    "upgrade_timeout",
]

TEXT_LIMIT: Final = 500
"""Characters of a server's text that go into an error: enough for any ``Status``, and not a page of HTML."""

_OF_ANOTHER: Final = frozenset({2, 18, 19, 20, 21})
"""What OpenSSL says of a certificate whose issuer is not known, or that is self-signed and not trusted itself."""

UNREACHABLE: Final = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.ENETDOWN})
"""Errors of the system that mean that there is no route to an address."""


def _error(kind: type[ClientError], target: Target, cause: str, hint: str, **more: Any) -> ClientError:  # noqa: ANN401 - handed on
    return kind(cause, hint=hint, route=target.route, url=target.shown, **more)


def resolve_fault(target: Target, error: OSError) -> ClientError:
    """The host name gave no address."""
    host = target.endpoint.host
    if isinstance(error, TimeoutError):
        return _error(
            errors.NameResolutionError,
            target,
            f"the name {host!r} was not resolved in time",
            "check the resolver, or use an address",
        )
    why = error.strerror if isinstance(error, socket.gaierror) else str(error)
    return _error(
        errors.NameResolutionError,
        target,
        f"the name {host!r} has no address: {why}",
        "check the spelling, or use an address",
    )


def dial_fault(target: Target, tried: list[tuple[str, OSError]]) -> ClientError:
    """No address could be connected to; ``tried`` holds each with its fault, in order."""
    port = target.endpoint.port
    last = tried[-1][1]
    each = ", ".join(f"{address} ({_short(error)})" for address, error in tried)
    if all(isinstance(error, TimeoutError) for _, error in tried):
        return _error(
            errors.DialTimeout,
            target,
            f"nothing answered on port {port}: {each}",
            "check that the host is up, and that no firewall between drops the packets",
        )
    if isinstance(last, ConnectionRefusedError):
        return _error(
            errors.ConnectionRefused,
            target,
            f"nothing listens on port {port}: {each}",
            "check host and port (a kubelet listens on 10250), and that it is running",
        )
    hint = "check the route to this host" if last.errno in UNREACHABLE else "check the address and the network"
    return _error(errors.ConnectError, target, f"no connection on port {port}: {each}", hint)


def _short(error: OSError) -> str:
    return "timed out" if isinstance(error, TimeoutError) else error.strerror or str(error) or type(error).__name__


def tls_fault(target: Target, error: OSError, server_name: str, *, pinned: bool = False) -> ClientError:
    """The TLS handshake failed, or the server ended it with an alert after we had finished our side (TLS 1.3)."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _certificate_fault(target, error, server_name, pinned)
    if isinstance(error, TimeoutError):
        return _error(
            errors.TLSTimeout,
            target,
            "the server accepted the connection and did not finish the TLS handshake in time",
            "check that the port speaks TLS, and that the server is not overloaded",
        )
    if not isinstance(error, ssl.SSLError) or isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return _error(
            errors.HandshakeCutError,
            target,
            f"the connection was cut during the TLS handshake ({_short(error)})",
            "check that the port speaks TLS, and that no proxy or firewall between ends it",
        )
    reason = (error.reason or "").upper()
    if "WRONG_VERSION_NUMBER" in reason or "HTTP_REQUEST" in reason or "RECORD_LAYER_FAILURE" in reason:
        return _error(
            errors.NotTLSError,
            target,
            f"the server does not speak TLS on this port ({reason})",
            "if it is a plain HTTP server use http://, else check the port",
        )
    if "ALERT" in reason and ("CERT" in reason or "UNKNOWN_CA" in reason or "ACCESS_DENIED" in reason):
        return _error(
            errors.ClientCertificateRejected,
            target,
            f"the server did not accept our client certificate ({reason})",
            "present a certificate that its client CA signed and that is valid now",
        )
    if "PROTOCOL_VERSION" in reason or "UNSUPPORTED_PROTOCOL" in reason:
        return _error(
            errors.TLSError,
            target,
            f"client and server have no TLS version in common ({reason})",
            "TLS 1.2 is the oldest that this client speaks: update the server",
        )
    return _error(
        errors.TLSError,
        target,
        f"the TLS handshake failed ({reason or printable(str(error), limit=TEXT_LIMIT)})",
        "check that the port belongs to a kubelet",
    )


def _certificate_fault(
    target: Target, error: ssl.SSLCertVerificationError, server_name: str, pinned: bool
) -> ClientError:
    code, said = error.verify_code, error.verify_message
    if pinned and code in _OF_ANOTHER:
        return _error(
            errors.PinnedCertificateChanged,
            target,
            f"THE CERTIFICATE OF {target.endpoint.authority} HAS CHANGED: it is not the one that was pinned. Someone "
            "may be posing as this node, or its certificate was renewed",
            "ask who runs the node for its fingerprint; then pin the new one with kubewire trust --replace",
        )
    if code in (9, 10):  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
        return _error(
            errors.CertificateExpiredError,
            target,
            f"the server's certificate is not valid now: {said}",
            "renew it (kubelets rotate theirs with serverTLSBootstrap), or check this machine's clock",
        )
    if code in (62, 64):  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
        return _error(
            errors.CertificateNameError,
            target,
            f"the server's certificate is not valid for {server_name!r}: {said}",
            "give server_name= with a name that the certificate holds",
        )
    if code in _OF_ANOTHER:
        return _error(
            errors.UnknownAuthorityError,
            target,
            f"the server's certificate is not signed by an authority trusted here: {said}",
            "give ca= with the authority that signed the kubelet's certificate (often not the cluster's own CA)",
        )
    return _error(
        errors.CertificateVerifyError,
        target,
        f"the server's certificate was not accepted: {said}",
        "check ca= and the certificate",
    )


def cut_during_upgrade(target: Target, error: OSError | None, server_name: str) -> ClientError:
    """The connection ended, or failed, between the request and the end of the answer's head."""
    if isinstance(error, ssl.SSLError):
        fault = tls_fault(target, error, server_name)
        if isinstance(fault, errors.ClientCertificateRejected):
            return fault
    why = "closed the connection" if error is None else f"broke the connection ({_short(error)})"
    return _error(
        errors.ConnectionLost,
        target,
        f"the server {why} before it answered the upgrade request",
        "check its log; a proxy between may not let upgrades pass",
        owed=("the answer to the upgrade request",),
    )


def upgrade_timeout(target: Target, seconds: float) -> ClientError:
    """No whole answer came in time."""
    return _error(
        errors.UpgradeTimeout,
        target,
        f"the server took the request and did not answer within {seconds:g} s",
        "the runtime may be stuck, and the command may have started; a larger Deadlines.upgrade waits longer",
        owed=("the answer to the upgrade request",),
    )


_BY_STATUS: Final[dict[int, tuple[type[errors.UpgradeRefused], str]]] = {
    400: (errors.BadRequest, "check the command and the streams asked for"),
    401: (
        errors.Unauthorized,
        "give a certificate signed by the kubelet's client CA, or a token if its webhook authentication is on",
    ),
    403: (errors.Forbidden, "grant this identity `create` on `nodes/proxy`, which is the right a kubelet asks for"),
    404: (errors.NotFound, "check namespace and pod name, and that the pod runs on this node"),
    429: (errors.TooManyRequests, "the runtime has too many requests pending: try again in a minute"),
}


def _apiserver_hint(target: Target, status: int) -> str:
    """What to do about a refusal by an apiserver; empty where a kubelet's hint fits as well."""
    subresource = f"pods/{target.shown.rpartition('/')[2]}"
    if status == 401:
        return "check the credentials of the kubeconfig: the apiserver does not know them, or they have expired"
    if status == 403:
        return (
            f"grant this identity `create` on `{subresource}`, and `get` too for WebSocket, which is tried first; "
            "transport 'spdy' asks for `create` alone"
        )
    if status == 404:
        return "check the namespace and the pod's name"
    if status >= 500:
        return "check the node of the pod: the apiserver could not be served by its kubelet"
    return ""


def refusal(target: Target, answer: UpgradeRefused, *, websocket: bool = False) -> errors.UpgradeRefused:
    """The server answered and did not upgrade."""
    status = answer.status
    said = printable(answer.message.strip(), limit=TEXT_LIMIT)
    kind, hint = _BY_STATUS.get(status, (errors.UpgradeRefused, "check that the URL belongs to a kubelet"))
    accepted = [value for name, value in answer.headers if name.lower() == ACCEPTED_HEADER.lower()]
    if websocket and status == 403:
        hint = "grant this identity `get` on `nodes/proxy`, which is the right a kubelet asks for over WebSocket"
    if accepted:
        kind = errors.ProtocolNotSupported
        spoken = printable(", ".join(accepted), limit=TEXT_LIMIT)
        hint = f"the server speaks {spoken}: ask for one of these with protocols="
    elif status == 403 and "unable to negotiate protocol" in said:
        kind = errors.ProtocolNotSupported
        hint = "ask for a subprotocol, or a transport, that the server speaks"
    elif websocket and status == 403 and not answer.body:
        kind = errors.ProtocolNotSupported
        said = "it takes none of the subprotocols offered over WebSocket"
        hint = "kubelets before 1.36 speak v4.channel.k8s.io there, which cannot end stdin: use SPDY"
    elif status >= 500:
        kind = errors.ServerError
        hint = "check the container name and the log of the kubelet"
    elif status == 404 and target.route == "url":
        hint = "a one-time URL is valid once and for a minute: ask for a new one"
    elif status == 400 and "HTTP request to an HTTPS server" in said:
        hint = "this port speaks TLS: use https://"
    elif 300 <= status < 400:
        kind, hint = errors.Redirected, "redirects are not followed, for credentials would go along: use the right URL"
    elif status < 300:
        kind = errors.UpgradeMissing
        hint = "check that the URL belongs to a kubelet, and that a proxy between lets upgrades pass"
    if target.route == "apiserver" and kind is not errors.ProtocolNotSupported:
        hint = _apiserver_hint(target, status) or hint
    note = f" ({answer.note})" if answer.note else ""
    error = _error(kind, target, f"the server answered HTTP {status}: {said}{note}", hint, http_status=status)
    assert isinstance(error, errors.UpgradeRefused)
    error.message = said
    return error


def not_an_upgrade(target: Target, answer: UpgradeFailed) -> ClientError:
    """What came is no HTTP/1.1 answer, or a 101 that does not do what was asked."""
    if isinstance(answer.error, UpgradeMissing):
        hint = "check that the URL belongs to a kubelet, and that a proxy between lets upgrades pass"
        return _error(errors.UpgradeMissing, target, str(answer.error), hint, http_status=101)
    if isinstance(answer.error, ProtocolNotOffered):
        hint = "the server does not keep to the negotiation: check what it is"
        return _error(errors.ProtocolNotSupported, target, str(answer.error), hint, http_status=101)
    hint = "check that the URL belongs to a kubelet, and whether it wants https or http"
    return _error(errors.InvalidAnswer, target, str(answer.error), hint)
