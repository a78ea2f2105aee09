"""What listens in the pod: ``source``, ``sink`` and ``echo``, each on a free port, a thread for each connection.

A process of its own, so that its interpreter is not that of who measures. Prints one JSON line with the ports, answers
``cpu``, and ends with its stdin.
"""

from __future__ import annotations

import json
import resource
import socket
import sys
import threading
from collections.abc import Callable

_BLOCK = bytes(1 << 20)


def source(connection: socket.socket) -> None:
    """Sends as many bytes as the first eight tell, and ends."""
    left = int.from_bytes(connection.recv(8), "big")
    while left:
        connection.sendall(memoryview(_BLOCK)[: min(left, len(_BLOCK))])
        left -= min(left, len(_BLOCK))


def sink(connection: socket.socket) -> None:
    """Reads to the end, and answers how many bytes came."""
    room, size = bytearray(1 << 20), 0
    while got := connection.recv_into(room):
        size += got
    connection.sendall(size.to_bytes(8, "big"))


def echo(connection: socket.socket) -> None:
    """Sends back what comes."""
    while data := connection.recv(1 << 16):
        connection.sendall(data)


def _serve(server: socket.socket, service: Callable[[socket.socket], None]) -> None:
    while True:
        connection, _ = server.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_guarded, args=(service, connection), daemon=True).start()


def _guarded(service: Callable[[socket.socket], None], connection: socket.socket) -> None:
    with connection:
        try:
            service(connection)
        except OSError:
            pass


def main() -> None:
    """Serve."""
    ports = {}
    for service in (source, sink, echo):
        server = socket.create_server(("127.0.0.1", 0), backlog=1024)
        ports[service.__name__] = server.getsockname()[1]
        threading.Thread(target=_serve, args=(server, service), daemon=True).start()
    print(json.dumps({"url": "", "ports": ports}), flush=True)
    for _ in sys.stdin:
        used = resource.getrusage(resource.RUSAGE_SELF)
        print(json.dumps({"user": used.ru_utime, "system": used.ru_stime}), flush=True)


if __name__ == "__main__":
    main()
