"""Certificates for tests against real peers, made by trustme: neither side of such a test has a part in them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Pki:
    """Files of one authority: a server's pair for 127.0.0.1 and localhost, a client's, and a stranger's."""

    ca: Path
    server_certificate: Path
    server_key: Path
    client_certificate: Path
    client_key: Path
    stranger_certificate: Path  # a client of another authority
    stranger_key: Path


def make_pki(folder: Path) -> Pki:
    """Write a new authority's files to `folder`; all keys are on P-256."""
    authority, other = trustme.CA(), trustme.CA()
    pairs = {
        "server": authority.issue_cert("127.0.0.1", "localhost"),
        "client": authority.issue_cert("tester@kubewire.test", common_name="kubewire:tester"),
        "stranger": other.issue_cert("stranger@kubewire.test", common_name="kubewire:stranger"),
    }
    authority.cert_pem.write_to_path(str(folder / "ca.crt"))
    for name, pair in pairs.items():
        pair.private_key_pem.write_to_path(str(folder / f"{name}.key"))
        for index, pem in enumerate(pair.cert_chain_pems):
            pem.write_to_path(str(folder / f"{name}.crt"), append=index > 0)
    return Pki(
        ca=folder / "ca.crt",
        server_certificate=folder / "server.crt",
        server_key=folder / "server.key",
        client_certificate=folder / "client.crt",
        client_key=folder / "client.key",
        stranger_certificate=folder / "stranger.crt",
        stranger_key=folder / "stranger.key",
    )
