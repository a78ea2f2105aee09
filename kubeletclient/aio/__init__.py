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

from kubeletclient._ladder import Attempt
from kubeletclient._policy import CAPTURE, DEVNULL, PIPE
from kubeletclient.aio.client import Kubelet, connect_exec
from kubeletclient.aio.pods import Pod
from kubeletclient.aio.process import Process
from kubeletclient.credentials import BearerToken, ClientCertificate
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
    Forbidden,
    HandshakeCutError,
    InvalidAnswer,
    KubewireError,
    NameResolutionError,
    NotFound,
    NotTLSError,
    OutcomeUnknown,
    OutputLimitExceeded,
    PeerNotResponding,
    ProcessClosed,
    ProtocolNotSupported,
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
from kubeletclient.results import Completed
from spdyproto.channels.events import StreamSet
from spdyproto.limits import Deadlines, Keepalive, Limits

__all__ = [
    "CAPTURE",
    "DEVNULL",
    "PIPE",
    "Attempt",
    "BadRequest",
    "BearerToken",
    "CertificateExpiredError",
    "CertificateNameError",
    "CertificateVerifyError",
    "ClientCertificate",
    "ClientCertificateRejected",
    "ClientError",
    "CommandFailed",
    "Completed",
    "ConnectError",
    "ConnectionLost",
    "ConnectionRefused",
    "CredentialsError",
    "DeadlineExceeded",
    "Deadlines",
    "DialTimeout",
    "Forbidden",
    "HandshakeCutError",
    "InvalidAnswer",
    "Keepalive",
    "Kubelet",
    "KubewireError",
    "Limits",
    "NameResolutionError",
    "NotFound",
    "NotTLSError",
    "OutcomeUnknown",
    "OutputLimitExceeded",
    "PeerNotResponding",
    "Pod",
    "Process",
    "ProcessClosed",
    "ProtocolNotSupported",
    "Redirected",
    "RemoteError",
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
