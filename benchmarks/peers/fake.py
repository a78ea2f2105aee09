"""The fake kubelet as a process of its own: ``python -m benchmarks.peers.fake FOLDER`` writes its certificates there.

It speaks to its starter as the other peers do (``benchmarks.peers.wire``), and names its files in the ready line.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from benchmarks.peers.wire import answer_line, say
from fakekubelet import ALL_WEBSOCKET, FakeKubelet


def main(folder: str) -> None:
    """Serve until stdin ends."""
    with FakeKubelet(websocket_protocols=ALL_WEBSOCKET) as kubelet:
        ca = kubelet.authority.write(Path(folder, "fake-ca.crt"))
        identity = kubelet.authority.issue_client("bench", ["system:masters"])
        certificate, key = identity.write(folder, "fake-client")
        files = {"ca": str(ca), "cert": str(certificate), "key": str(key)}
        say({"url": kubelet.url, "pid": os.getpid(), **files})
        while answer_line():
            pass


if __name__ == "__main__":
    main(sys.argv[1])
