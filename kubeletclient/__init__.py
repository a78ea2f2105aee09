"""Run commands in containers straight through a kubelet; the same names, awaited, are in `kubeletclient.aio`.

::

    from kubeletclient import ClientCertificate, Kubelet

    with Kubelet("https://10.0.0.1:10250", ca="ca.crt", credentials=ClientCertificate("c.crt", "c.key")) as node:
        done = node.pod("busybox").run(["ls", "/"], container="busybox1", check=True, timeout=30)
        print(done.stdout.decode())

Names are loaded when they are first used: a program that needs one flavour does not pay for the other.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kubeletclient._access import Access
    from kubeletclient._ladder import Attempt
    from kubeletclient._policy import CAPTURE, DEVNULL, PIPE
    from kubeletclient.credentials import BasicAuth, BearerToken, ClientCertificate, CombinedCredentials, Impersonation
    from kubeletclient.errors import (
        BadRequest,
        CertificateExpiredError,
        CertificateNameError,
        CertificateVerifyError,
        ClientCertificateRejected,
        ClientError,
        CommandFailed,
        ConnectError,
        ConnectionLost,
        ConnectionRefused,
        CredentialsError,
        DeadlineExceeded,
        DialTimeout,
        ExecPluginError,
        ExecPluginNotFound,
        Forbidden,
        ForwardFailed,
        HandshakeCutError,
        InvalidAnswer,
        KubeconfigError,
        KubewireError,
        NameResolutionError,
        NotFound,
        NotTLSError,
        OutcomeUnknown,
        OutputLimitExceeded,
        PeerNotResponding,
        PinnedCertificateChanged,
        PodUnavailable,
        ProcessClosed,
        ProtocolNotSupported,
        ProxyAuthenticationError,
        ProxyError,
        Redirected,
        RemoteError,
        ServerError,
        StdinCannotEnd,
        StdinClosed,
        TLSError,
        TLSTimeout,
        TooManyRequests,
        Unauthorized,
        UnknownAuthorityError,
        UnverifiedTokenError,
        UpgradeMissing,
        UpgradeRefused,
        UpgradeTimeout,
    )
    from kubeletclient.forwarding.records import ForwardedConnection, ForwardEvent
    from kubeletclient.known_nodes import KnownNodes
    from kubeletclient.plugins import PluginPolicy
    from kubeletclient.results import Completed, Reply
    from kubeletclient.selection import PodFacts
    from kubeletclient.sync.client import Kubelet, connect_exec
    from kubeletclient.sync.cluster import Cluster
    from kubeletclient.sync.forward import Forward
    from kubeletclient.sync.logs import LogStream
    from kubeletclient.sync.nodes import Node
    from kubeletclient.sync.pods import Pod
    from kubeletclient.sync.process import Process
    from spdyproto.channels.events import StreamSet
    from spdyproto.limits import Deadlines, Keepalive, Limits

__all__ = [
    "CAPTURE",
    "DEVNULL",
    "PIPE",
    "Access",
    "Attempt",
    "BadRequest",
    "BasicAuth",
    "BearerToken",
    "CertificateExpiredError",
    "CertificateNameError",
    "CertificateVerifyError",
    "ClientCertificate",
    "ClientCertificateRejected",
    "ClientError",
    "Cluster",
    "CombinedCredentials",
    "CommandFailed",
    "Completed",
    "ConnectError",
    "ConnectionLost",
    "ConnectionRefused",
    "CredentialsError",
    "DeadlineExceeded",
    "Deadlines",
    "DialTimeout",
    "ExecPluginError",
    "ExecPluginNotFound",
    "Forbidden",
    "Forward",
    "ForwardEvent",
    "ForwardFailed",
    "ForwardedConnection",
    "HandshakeCutError",
    "Impersonation",
    "InvalidAnswer",
    "Keepalive",
    "KnownNodes",
    "KubeconfigError",
    "Kubelet",
    "KubewireError",
    "Limits",
    "LogStream",
    "NameResolutionError",
    "Node",
    "NotFound",
    "NotTLSError",
    "OutcomeUnknown",
    "OutputLimitExceeded",
    "PeerNotResponding",
    "PinnedCertificateChanged",
    "PluginPolicy",
    "Pod",
    "PodFacts",
    "PodUnavailable",
    "Process",
    "ProcessClosed",
    "ProtocolNotSupported",
    "ProxyAuthenticationError",
    "ProxyError",
    "Redirected",
    "RemoteError",
    "Reply",
    "ServerError",
    "StdinCannotEnd",
    "StdinClosed",
    "StreamSet",
    "TLSError",
    "TLSTimeout",
    "TooManyRequests",
    "Unauthorized",
    "UnknownAuthorityError",
    "UnverifiedTokenError",
    "UpgradeMissing",
    "UpgradeRefused",
    "UpgradeTimeout",
    "connect_exec",
]

_HOMES = {
    "BasicAuth": "kubeletclient.credentials",
    "CombinedCredentials": "kubeletclient.credentials",
    "Impersonation": "kubeletclient.credentials",
    "PluginPolicy": "kubeletclient.plugins",
    "Access": "kubeletclient._access",
    "Attempt": "kubeletclient._ladder",
    "KnownNodes": "kubeletclient.known_nodes",
    "BearerToken": "kubeletclient.credentials",
    "CAPTURE": "kubeletclient._policy",
    "ClientCertificate": "kubeletclient.credentials",
    "Cluster": "kubeletclient.sync.cluster",
    "Completed": "kubeletclient.results",
    "DEVNULL": "kubeletclient._policy",
    "Deadlines": "spdyproto.limits",
    "Keepalive": "spdyproto.limits",
    "Forward": "kubeletclient.sync.forward",
    "ForwardEvent": "kubeletclient.forwarding.records",
    "ForwardedConnection": "kubeletclient.forwarding.records",
    "Kubelet": "kubeletclient.sync.client",
    "Limits": "spdyproto.limits",
    "LogStream": "kubeletclient.sync.logs",
    "Node": "kubeletclient.sync.nodes",
    "Reply": "kubeletclient.results",
    "PIPE": "kubeletclient._policy",
    "Pod": "kubeletclient.sync.pods",
    "PodFacts": "kubeletclient.selection",
    "Process": "kubeletclient.sync.process",
    "StreamSet": "spdyproto.channels.events",
    "connect_exec": "kubeletclient.sync.client",
}
"""Where a name lives; those not listed are errors."""


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module attribute can be anything
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES.get(name, "kubeletclient.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
