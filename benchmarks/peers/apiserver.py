"""The fake apiserver as a process of its own, in front of one kubelet whose only pod is ``default/demo``:

``python -m benchmarks.peers.apiserver FOLDER URL CA CERTIFICATE KEY`` writes the certificates for its own clients into
FOLDER; the other files are for the kubelet at URL. It speaks to its starter as the other peers do.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.peers.wire import answer_line, say
from fakekubelet import FakeApiserver, IssuedCertificate
from fakekubelet.apiserver.gates import EXTEND_FEATURE
from fakekubelet.apiserver.nodes import node_document


def main(folder: str, url: str, ca: str, certificate: str, key: str) -> None:
    """Serve until stdin ends."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    node = node_document("node-1", parts.hostname, parts.port, release="1.36.6", features=[EXTEND_FEATURE])
    spec = {"nodeName": "node-1", "containers": [{"name": "main"}]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "demo"}, "spec": spec}
    with FakeApiserver(
        [node, pod],
        trusted_kubelets=[(parts.hostname, parts.port)],
        kubelet_ca=Path(ca).read_bytes(),
        kubelet_identity=IssuedCertificate(Path(certificate).read_bytes(), Path(key).read_bytes()),
    ) as server:
        own_ca = server.authority.write(Path(folder, "front-ca.crt"))
        own_certificate, own_key = server.credentials("bench").write(folder, "front-client")
        files = {"ca": str(own_ca), "cert": str(own_certificate), "key": str(own_key)}
        say({"url": server.url, "pid": os.getpid(), **files})
        while answer_line():
            pass


if __name__ == "__main__":
    main(*sys.argv[1:])
