"""Certificates of kubelets that were pinned by hand, as ``ssh`` keeps the keys of hosts.

A kubelet signs its own certificate unless the cluster is set up otherwise, so no authority can vouch for it. What a
person has looked at once can be kept here, and is then the only certificate that this server may present. Nothing is
ever added by itself: ``kubewire trust`` adds, and so does ``KnownNodes.add``.

One line for each server: ``HOST:PORT sha256:FINGERPRINT CERTIFICATE``, the certificate being DER in base64, for TLS
has to be told the certificate itself. Blank lines and lines that begin with ``#`` are passed over. Anything else is an
error: a line that is skipped silently would be a pin that does not hold.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import hashlib
import os
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from kubeletclient.errors import CredentialsError
from spdyproto.limits import MIB

__all__ = ["KnownNodes", "Pin", "default_path", "fingerprint_of"]

_LIMIT: Final = 64 * MIB
"""Bytes of the file: tens of thousands of nodes, of less than 3 KiB each."""


def fingerprint_of(certificate: bytes) -> str:
    """``sha256:`` and the digest of a certificate in DER, in hexadecimal digits."""
    return f"sha256:{hashlib.sha256(certificate).hexdigest()}"


def default_path(environ: Mapping[str, str] = os.environ) -> str:
    """``KUBEWIRE_KNOWN_NODES``, else ``~/.kube/kubewire_known_nodes``."""
    home = environ.get("HOME") or os.path.expanduser("~")
    return environ.get("KUBEWIRE_KNOWN_NODES") or os.path.join(home, ".kube", "kubewire_known_nodes")


@dataclass(frozen=True, slots=True)
class Pin:
    """The certificate (DER) that a server must present."""

    server: str
    certificate: bytes

    @property
    def fingerprint(self) -> str:
        """See ``fingerprint_of``."""
        return fingerprint_of(self.certificate)

    @property
    def pem(self) -> bytes:
        """The certificate as ``pinned=`` takes it."""
        return ssl.DER_cert_to_PEM_cert(self.certificate).encode()


class KnownNodes:
    """The file. Each call reads it anew; a missing file has no entries."""

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = default_path() if path is None else os.fspath(path)

    def __repr__(self) -> str:
        return f"KnownNodes({self.path!r})"

    def entries(self) -> dict[str, Pin]:
        """All of it. Raises CredentialsError for a file that cannot be read or holds something else."""
        return {pin.server: pin for _, pin in self._lines() if pin is not None}

    def lookup(self, host: str, port: int) -> Pin | None:
        """The pin of this server. Raises CredentialsError as ``entries`` does."""
        return self.entries().get(_server(host, port))

    def add(self, host: str, port: int, certificate: bytes) -> Pin:
        """Pin ``certificate`` (DER), in the place of one that was there before."""
        pin = Pin(_server(host, port), certificate)
        line = f"{pin.server} {pin.fingerprint} {base64.b64encode(certificate).decode()}"
        self._rewrite(lambda lines: [text for text, old in lines if old is None or old.server != pin.server] + [line])
        return pin

    def remove(self, host: str, port: int) -> bool:
        """Take the pin away. False if there was none."""
        server = _server(host, port)
        there = server in self.entries()
        if there:
            self._rewrite(lambda lines: [text for text, pin in lines if pin is None or pin.server != server])
        return there

    def _lines(self) -> Iterator[tuple[str, Pin | None]]:
        try:
            with open(self.path, encoding="ascii") as stream:
                text = stream.read(_LIMIT)
        except FileNotFoundError:
            return
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not ASCII"
            raise CredentialsError(
                f"the file of known nodes {self.path} cannot be read: {why}", hint="check the file and its permissions"
            ) from error
        for number, line in enumerate(text.splitlines(), 1):
            yield line, _parse(line, f"{self.path}:{number}")

    def _rewrite(self, change: Callable[[list[tuple[str, Pin | None]]], list[str]]) -> None:
        import tempfile  # pulls in random and shutil, and only writing needs it

        folder = os.path.dirname(os.path.abspath(self.path))
        os.makedirs(folder, mode=0o700, exist_ok=True)
        with _locked(f"{self.path}.lock"):
            lines = change(list(self._lines()))
            descriptor, name = tempfile.mkstemp(prefix=".known_nodes-", dir=folder)
            try:
                with os.fdopen(descriptor, "w", encoding="ascii") as stream:
                    stream.writelines(f"{line}\n" for line in lines)
                os.replace(name, self.path)
            except BaseException:
                os.unlink(name)
                raise


@contextmanager
def _locked(path: str) -> Iterator[None]:
    """Two that add at the same time both get in: the file is read and replaced under a lock."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _server(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host.lower()}:{port}"


def _parse(line: str, where: str) -> Pin | None:
    words = line.split()
    if not words or words[0].startswith("#"):
        return None
    try:
        server, fingerprint, encoded = words[:3]
        pin = Pin(server, base64.b64decode(encoded, validate=True))
    except (ValueError, binascii.Error):
        raise CredentialsError(
            f"{where} is no entry of a known node", hint="expected HOST:PORT sha256:FINGERPRINT CERTIFICATE"
        ) from None
    if pin.fingerprint != fingerprint:
        raise CredentialsError(
            f"{where}: the certificate does not have the fingerprint beside it", hint="pin the node anew"
        )
    return pin
