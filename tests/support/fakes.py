"""A fake kubelet and a client of it, as the tests of the server itself need them."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Any

from fakekubelet import FakeKubelet
from support.rawclient import ExecClient, HttpClient, Identity, Result, connect, run


class Caller:
    """Somebody who talks to one fake kubelet, on a new connection each time."""

    def __init__(self, kubelet: FakeKubelet, identity: Identity | None = None) -> None:
        self.kubelet = kubelet
        self.identity = identity or kubelet.credentials("tester", ["system:masters"])

    def connect(self) -> ssl.SSLSocket:
        return connect(self.kubelet.url, self.kubelet.ca, self.identity)

    def http(self) -> HttpClient:
        return HttpClient(self.connect())

    def open(self, argv: Sequence[str] | None, **options: Any) -> ExecClient:
        return ExecClient.open(self.connect(), argv, **options)

    def run(self, argv: Sequence[str], **options: Any) -> Result:
        return run(self.connect(), argv, **options)
