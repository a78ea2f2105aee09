"""PEM text where a path is wanted: the ``ssl`` module takes key material from files only."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TypeAlias

__all__ = ["PathOrPEM", "naming", "pem_file"]

PathOrPEM: TypeAlias = str | os.PathLike[str] | bytes
"""A path, or PEM text as bytes."""


@contextlib.contextmanager
def pem_file(source: PathOrPEM) -> Iterator[str]:
    """A path to ``source`` for as long as the block lasts.

    Bytes stand in an anonymous file in memory (Linux: ``memfd_create``, reached as ``/proc/self/fd/N``), which no other
    user can open and which ends with the block. Where there is none, a file that only this user can read stands in the
    temporary folder, and is removed at the end of the block whatever happens in it.
    """
    if not isinstance(source, bytes):
        yield os.fspath(source)
        return
    descriptor = _memory_file()
    if descriptor is not None:
        with open(descriptor, "wb", buffering=0) as file:
            _write_all(file.fileno(), source)
            yield f"/proc/self/fd/{descriptor}"
        return
    import tempfile  # not needed on Linux, and it pulls in random and shutil

    descriptor, path = tempfile.mkstemp(prefix="kubewire-")  # mode 0600
    try:
        with open(descriptor, "wb", buffering=0) as file:
            _write_all(file.fileno(), source)
        yield path
    finally:
        os.unlink(path)


@contextlib.contextmanager
def naming(*paths: str | os.PathLike[str]) -> Iterator[None]:
    """Name the file in an OSError of the ``ssl`` module, which does not say which one is missing or closed to us."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            for path in paths:
                with open(path, "rb"):  # fails as that module did, and says where; else the fault lies in the content
                    pass
        raise


def _memory_file() -> int | None:
    try:
        descriptor = os.memfd_create("kubewire", os.MFD_CLOEXEC)
    except (AttributeError, OSError):  # another system, or forbidden by a sandbox
        return None
    if os.path.exists(f"/proc/self/fd/{descriptor}"):
        return descriptor
    os.close(descriptor)
    return None


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
