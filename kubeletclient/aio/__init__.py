"""The names of `kubeletclient`, awaited.

::

    from kubeletclient.aio import ClientCertificate, Kubelet

    async with Kubelet("https://10.0.0.1:10250", ca="ca.crt", credentials=ClientCertificate("c.crt", "c.key")) as node:
        done = await node.pod("busybox").run(["ls", "/"], container="busybox1", check=True, timeout=30)
        async with node.pod("busybox").popen(["cat"], stdin=PIPE) as process: ...

What may wait is awaited, and everything else is as in the blocking flavour: parameters, results, errors. Runs on any
loop with ``add_reader`` (asyncio's own, uvloop).
"""

from __future__ import annotations

from kubeletclient._access import Access
from kubeletclient._ladder import Attempt
from kubeletclient._policy import CAPTURE, DEVNULL, PIPE
from kubeletclient.aio.client import Kubelet, connect_exec
from kubeletclient.aio.cluster import Cluster
from kubeletclient.aio.forward import Forward
from kubeletclient.aio.logs import LogStream
from kubeletclient.aio.nodes import Node
from kubeletclient.aio.pods import Pod
from kubeletclient.aio.process import Process
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
