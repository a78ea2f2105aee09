"""Records ``tests/vectors/portforward.json``: what Go's port-forwarder and Go's port-forward server say to each other.

Run from the root: ``PYTHONPATH=tests python tools/record_port_forward.py``. Needs Go. The bytes differ from run to run
in the order of headers, and in the masks of the WebSocket; what they mean does not.
"""

from __future__ import annotations

import json
import re
import socket
import threading
from pathlib import Path
from typing import Any

from support.goforward import GoForward, exchange, listening
from support.goforward import echo as echo_service
from support.gopeers import GoServer

_VECTORS = Path(__file__).resolve().parents[1] / "tests" / "vectors" / "portforward.json"


class Tap:
    """A proxy that keeps what passes, in both directions, of its only connection."""

    def __init__(self, port: int) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.passed = {"client": bytearray(), "server": bytearray()}
        self._thread = threading.Thread(target=self._run, args=(port,), daemon=True)
        self._thread.start()

    def _run(self, port: int) -> None:
        client, _ = self._server.accept()
        server = socket.create_connection(("127.0.0.1", port))
        there = threading.Thread(target=self._copy, args=(client, server, "client"), daemon=True)
        there.start()
        self._copy(server, client, "server")
        there.join(10)

    def _copy(self, source: socket.socket, target: socket.socket, name: str) -> None:
        try:
            while data := source.recv(1 << 16):
                self.passed[name] += data
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self) -> None:
        """Wait for the end of the connection."""
        self._thread.join(10)
        self._server.close()


def record(transport: str, what: str) -> dict[str, Any]:
    """One session: ``echo`` sends and half-closes once, ``refused`` finds nobody."""
    with listening(echo_service) as port, GoServer(translate=True, forward_grace=-1) as server:
        if what == "refused":
            with socket.create_server(("127.0.0.1", 0)) as nobody:
                port = nobody.getsockname()[1]
        tap = Tap(server.port)
        url = f"http://127.0.0.1:{tap.port}/portForward/default/demo"
        with GoForward(url, [f":{port}"], transport=transport) as forward:
            exchange(forward.local[0], b"hello" if what == "echo" else b"")
            if what == "refused":
                forward.wait()
        tap.close()
    heads, bodies = {}, {}
    for name, data in tap.passed.items():
        head, _, body = bytes(data).partition(b"\r\n\r\n")
        heads[name] = re.sub(r"(?m)^(Host|Date|Sec-WebSocket-(Key|Accept)): .*\r?\n", "", head.decode())
        bodies[name] = body.hex()
    return {"transport": transport, "what": what, "port": port, "heads": heads, **bodies}


if __name__ == "__main__":
    recorded = [record(transport, what) for transport in ("spdy", "websocket") for what in ("echo", "refused")]
    _VECTORS.write_text(json.dumps(recorded, indent=1) + "\n")
