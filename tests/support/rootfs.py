"""Images for real containers, made by hand: busybox, programs of this machine with their libraries, files.

An image is a docker-archive of one layer, as ``ctr images import`` takes it.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["BUSYBOX", "IN_IMAGE", "archive", "busybox_tools"]

BUSYBOX = Path("/bin/busybox")
IN_IMAGE = "/usr/lib/busybox"
"""Where each image has busybox: on no PATH, so that a container has the tools that it was given and nothing else."""
_FOLDERS = (
    "bin",
    "dev",
    "etc",
    "lib",
    "lib64",
    "proc",
    "root",
    "run",
    "sbin",
    "sys",
    "tmp",
    "usr/bin",
    "usr/lib",
    "var",
)
_ACCOUNTS = {
    "/etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "/etc/group": b"root:x:0:\nnogroup:x:65534:\n",
}
_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"


def busybox_tools() -> list[str]:
    """The names that busybox answers to."""
    return subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True, timeout=30).stdout.split()


def archive(
    reference: str,
    *,
    tools: Sequence[str] | None = None,
    programs: Sequence[str] = (),
    files: Mapping[str, bytes | Path] | None = None,
    entrypoint: Sequence[str] = (),
    user: str = "",
) -> bytes:
    """The docker-archive of an image with the name `reference`.

    - `tools`: the busybox tools it has in ``/bin``; None: all of them; an empty list: none;
    - `programs`: paths, or names on this machine's PATH: copied to the same place with the libraries they need;
    - `files`: contents, or files of this machine, by their absolute path in the image; executable if the file is, and
      contents always are.
    """
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for folder in _FOLDERS:
            _add_folder(tar, folder, 0o1777 if folder == "tmp" else 0o755)
        names = busybox_tools() if tools is None else list(tools)
        _add_file(tar, IN_IMAGE.lstrip("/"), BUSYBOX)
        for name in names:
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, IN_IMAGE
            tar.addfile(link)
        for program in programs:
            for path in _with_libraries(program):
                _add_file(tar, str(path).lstrip("/"), path)
        for where, what in ({**_ACCOUNTS, **(files or {})}).items():
            _add_file(tar, where.lstrip("/"), what)
    content = layer.getvalue()
    config = {
        "architecture": _architecture(),
        "os": "linux",
        "config": {"Env": [f"PATH={_PATH}"], "Entrypoint": list(entrypoint), "User": user},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(content).hexdigest()}"]},
    }
    described = json.dumps(config).encode()
    name = f"{hashlib.sha256(described).hexdigest()}.json"
    manifest = [{"Config": name, "RepoTags": [reference], "Layers": ["layer.tar"]}]
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        for file, data in ((name, described), ("layer.tar", content), ("manifest.json", json.dumps(manifest).encode())):
            _add_file(tar, file, data)
    return whole.getvalue()


def _add_folder(tar: tarfile.TarFile, name: str, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, mode
    tar.addfile(entry)


def _add_file(tar: tarfile.TarFile, name: str, what: bytes | Path) -> None:
    entry = tarfile.TarInfo(name)
    content = what if isinstance(what, bytes) else what.read_bytes()
    entry.size = len(content)
    entry.mode = 0o755 if isinstance(what, bytes) or what.stat().st_mode & 0o100 else 0o644
    tar.addfile(entry, io.BytesIO(content))


def _with_libraries(program: str) -> list[Path]:
    """A program of this machine, and what its loader would open for it."""
    found = shutil.which(program)
    if found is None:
        raise FileNotFoundError(f"no program {program!r} on this machine to be put into an image")
    listed = subprocess.run(["ldd", found], capture_output=True, text=True, timeout=30)  # a static one has none: fails
    words = [word for line in listed.stdout.splitlines() for word in line.split() if word.startswith("/")]
    return [Path(found), *(Path(word) for word in dict.fromkeys(words))]


def _architecture() -> str:
    import platform

    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
