"""How sources and targets are written: ``[NS/]POD:PATH``, ``pod://NS/POD/CONTAINER/PATH``, a local path, or ``-``.

kubectl takes every argument with a colon for a pod's, and has no escape (``kubectl: pkg/cmd/cp/filespec.go``). Here a
local path with a colon is written with a slash in front of the colon (``./a:b``), and a single letter before it is a
drive.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

from kubeletclient.copy.errors import BadPath

__all__ = ["Spec", "parse_spec", "split_remote"]

_NAME: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?\Z")
_GLOB: Final = re.compile(rb"[*?[]")


@dataclass(frozen=True, slots=True)
class Spec:
    """One source or target. ``pod`` is None for a local path; ``path`` is ``b"-"`` for stdin or stdout."""

    path: bytes
    pod: str | None = None
    namespace: str | None = None
    container: str | None = None

    @property
    def is_stream(self) -> bool:
        """Whether it is stdin or stdout."""
        return self.pod is None and self.path == b"-"


def parse_spec(text: str) -> Spec:
    """Read one argument. Raises BadPath for what cannot be meant."""
    if text.startswith("pod://"):
        return _url(text)
    before, colon, path = text.partition(":")
    local = not colon or "/." in f"/{before}" or before.startswith(("/", "\\\\")) or len(before) == 1
    if local or before.count("/") > 1:
        if not text:
            raise BadPath("an empty path", hint="name a file, a directory, or - for stdin or stdout")
        return Spec(text.encode("utf-8", "surrogateescape"))
    namespace, slash, pod = before.rpartition("/")
    for part, what in ((pod, "pod"), *(((namespace, "namespace"),) if slash else ())):
        if not _NAME.match(part):
            raise BadPath(
                f"{text!r}: {part!r} is no name of a {what}",
                hint="write a local path that holds a colon as ./NAME, a pod's path as [NAMESPACE/]POD:PATH",
            )
    if not path:
        raise BadPath(f"{text!r} names no path in the pod", hint="write POD:PATH, or POD:. for its working directory")
    return Spec(path.encode("utf-8", "surrogateescape"), pod, namespace or None)


def _url(text: str) -> Spec:
    parts = text[len("pod://") :].split("/", 3)
    if len(parts) < 4 or not parts[3]:
        raise BadPath(f"{text!r} is not complete", hint="write pod://NAMESPACE/POD/CONTAINER/PATH")
    namespace, pod, container, path = parts
    for part, what in ((namespace, "namespace"), (pod, "pod"), (container, "container")):
        if not _NAME.match(part):
            raise BadPath(f"{text!r}: {part!r} is no name of a {what}")
    return Spec(b"/" + unquote_to_bytes(path), pod, namespace, container)


def split_remote(path: bytes) -> tuple[bytes, bytes]:
    """Directory and last part of a path in a container; the last part is empty for ``/``, ``.`` and ``..``, whose own
    name is not to be had from the text.
    """
    directory, name = posixpath.split(path.rstrip(b"/") or b"/")
    if name in (b"", b".", b".."):
        return path, b""
    return directory or b".", name


def has_glob(path: bytes) -> bool:
    """Whether a path holds wildcards."""
    return _GLOB.search(path) is not None
