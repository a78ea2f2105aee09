"""The two servers that clients are tested on: Kubernetes' own code, and the fake kubelet."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fakekubelet import CertificateAuthority, FakeKubelet
from kubeletclient import ClientCertificate
from spdyproto.channels.subprotocols import Subprotocol
from support.contract import Peer
from support.gopeers import GoServer
from support.pki import Pki

__all__ = ["FakePeer", "GoPeer"]


@dataclass
class GoPeer:
    """A Go server with a client's identity at it."""

    server: GoServer
    pki: Pki

    @classmethod
    def serve(cls, pki: Pki, **settings: Any) -> contextlib.AbstractContextManager[GoPeer]:
        """Start a server that judges clients by `pki`; `settings` are those of `GoServer`."""

        @contextlib.contextmanager
        def run() -> Iterator[GoPeer]:
            with GoServer(pki.server_certificate, pki.server_key, client_ca=pki.ca, **settings) as server:
                yield cls(server, pki)

        return run()

    @property
    def url(self) -> str:
        return self.server.url

    def options(self) -> dict[str, Any]:
        return {"ca": self.pki.ca, "credentials": ClientCertificate(self.pki.client_certificate, self.pki.client_key)}

    def strangers(self) -> list[dict[str, Any]]:
        stranger = ClientCertificate(self.pki.stranger_certificate, self.pki.stranger_key)
        return [{"ca": self.pki.ca}, {"ca": self.pki.ca, "credentials": stranger}]

    @contextlib.contextmanager
    def speaking(self, version: Subprotocol) -> Iterator[Peer]:
        with self.serve(self.pki, protocols=[version]) as peer:
            yield peer


class FakePeer:
    """A fake kubelet with a client's identity at it."""

    def __init__(self, kubelet: FakeKubelet) -> None:
        self.kubelet = kubelet
        pair = kubelet.credentials()
        self._client = ClientCertificate(pair.cert_pem, pair.key_pem)

    @property
    def url(self) -> str:
        return self.kubelet.url

    def options(self) -> dict[str, Any]:
        return {"ca": self.kubelet.ca, "credentials": self._client}

    def strangers(self) -> list[dict[str, Any]]:
        pair = CertificateAuthority.create().issue_client("stranger", [])
        stranger = ClientCertificate(pair.cert_pem, pair.key_pem)
        return [{"ca": self.kubelet.ca}, {"ca": self.kubelet.ca, "credentials": stranger}]

    @contextlib.contextmanager
    def speaking(self, version: Subprotocol) -> Iterator[Peer]:
        with FakeKubelet(protocols=[version], ca=self.kubelet.authority) as kubelet:
            yield FakePeer(kubelet)
