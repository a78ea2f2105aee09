"""A kubelet for tests, demonstrations and benchmarks: real protocol, scripted containers, nothing of the host by
default.

``FakeKubelet`` is the server, ``Pod`` and ``Container`` declare what it runs; ``FakeCluster`` is an apiserver with
kubelets behind it. See ``fakekubelet.behaviours`` for the
scripted commands, ``fakekubelet.callables`` for containers written in Python, and ``fakekubelet.mains`` for what attach
reaches.
"""

from fakekubelet.access import AccessRules
from fakekubelet.apiserver.rbac import Access, Rule
from fakekubelet.apiserver.server import FakeApiserver
from fakekubelet.auth import Attributes, User
from fakekubelet.callables import AsyncExec, BlockingExec
from fakekubelet.cluster import FakeCluster
from fakekubelet.connection import Timeouts
from fakekubelet.forwarding import Forwarded
from fakekubelet.manifests import load_pods
from fakekubelet.node import Machine, Serving
from fakekubelet.pki import CertificateAuthority, IssuedCertificate
from fakekubelet.podlogs import LogFailure, LogLine
from fakekubelet.pods import Container, Pod, PodTable
from fakekubelet.ports import Loopback, Port
from fakekubelet.runtimes import Command, ExecRequest, Execution
from fakekubelet.server import FakeKubelet
from fakekubelet.transcript import Exchange, Transcript
from fakekubelet.websockets import ALL_WEBSOCKET, CRI_WEBSOCKET

__all__ = [
    "ALL_WEBSOCKET",
    "CRI_WEBSOCKET",
    "Access",
    "AccessRules",
    "AsyncExec",
    "Attributes",
    "BlockingExec",
    "CertificateAuthority",
    "Command",
    "Container",
    "Exchange",
    "ExecRequest",
    "Execution",
    "FakeApiserver",
    "FakeCluster",
    "FakeKubelet",
    "Forwarded",
    "IssuedCertificate",
    "LogFailure",
    "LogLine",
    "Loopback",
    "Machine",
    "Pod",
    "PodTable",
    "Port",
    "Rule",
    "Serving",
    "Timeouts",
    "Transcript",
    "User",
    "load_pods",
]
