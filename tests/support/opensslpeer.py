"""The ``openssl`` program as a peer of a pipe: it can do what the ``ssl`` module cannot."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from spdyproto.tls import TLSPipe
from support.tlslink import SCRATCH

SECONDS = 20  # until a test that hangs is given up
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl program here")


def handshake(sock: socket.socket, pipe: TLSPipe) -> None:
    data = b""
    while not pipe.do_handshake(data):
        sock.sendall(pipe.take())
        data = sock.recv(SCRATCH)
        if not data:
            pipe.receive_eof()
    sock.sendall(pipe.take())


@contextmanager
def openssl_client(pipe: TLSPipe, *arguments: str) -> Iterator[tuple[socket.socket, TLSPipe, subprocess.Popen[bytes]]]:
    """``openssl s_client`` connected to ``pipe``, a server's end, which has done the handshake."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(SECONDS)
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        command = ["openssl", "s_client", "-connect", address, "-quiet", "-verify_quiet", *arguments]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            try:
                sock, _ = listener.accept()
                with sock:
                    sock.settimeout(SECONDS)
                    handshake(sock, pipe)
                    yield sock, pipe, process
            finally:
                process.kill()
