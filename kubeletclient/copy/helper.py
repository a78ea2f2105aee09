"""A static busybox of the user's, lent to a container that lacks tools.

Nothing is ever brought into a container unless the user names the file. It goes to a directory of its own in one of the
usual temporary places, is asked to run, gives links for its applets, stands in front of the container's PATH for the
commands of this copy, and is removed at the end, whatever happens.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from typing import Final

from kubeletclient.copy.errors import NoStrategy, SourceMissing
from kubeletclient.copy.remote import Remote, probe
from kubeletclient.copy.scripts import HELP, WHOLE, script

__all__ = ["Helper"]

_PLACES: Final = ("/tmp", "/var/tmp", "/dev/shm", "/run")
_PIECE: Final = 1 << 18


class Helper:
    """Installs the file ``path`` of this machine in the container of ``remote``; an asynchronous context manager."""

    def __init__(self, remote: Remote, path: bytes) -> None:
        self._remote = remote
        self._path = path
        self._folder: bytes | None = None

    async def __aenter__(self) -> None:
        tools = await probe(self._remote)
        writer = next((tool for tool in ("cat", "dd") if tool in tools.names), None)
        if writer is None or not {"mkdir", "chmod", "rm"} <= tools.names:
            raise NoStrategy("a helper needs sh, mkdir, chmod, rm, and cat or dd in the container to get there")
        answer = await self._remote.run(
            script(HELP, f".kubewire-{secrets.token_hex(8)}", *_PLACES), what="looking for a place for the helper"
        )
        if not answer:
            raise NoStrategy(f"no place in the container takes a helper; looked at {', '.join(_PLACES)}")
        self._folder = answer.rstrip(b"\n")
        program = os.path.join(self._folder, b"busybox")
        try:
            await self._remote.run(
                script(WHOLE[writer] % "", program, "0"), what="sending the helper", stdin=_pieces(self._path)
            )
            await self._remote.run(
                script('d "$1"; chmod 700 "$v" && cd "${v%/*}" && ./busybox --install -s .', program),
                what="starting the helper",
            )
        except BaseException:
            await self.__aexit__()
            raise
        self._remote.search_first = os.fsdecode(self._folder)

    async def __aexit__(self, *exc: object) -> None:
        folder, self._folder = self._folder, None
        if folder is not None:
            self._remote.search_first = None
            await self._remote.run(script('d "$1"; rm -rf "$v"', folder), what="removing the helper")


def _pieces(path: bytes) -> Iterator[bytes]:
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below, by a generator that may be left early
    except FileNotFoundError:
        raise SourceMissing(f"the helper {os.fsdecode(path)!r} does not exist") from None
    with file:
        while piece := file.read(_PIECE):
            yield piece
