"""The golden bytes in `tests/vectors`: from the specification, and captured from the Go implementation."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent.parent / "vectors"


def _read(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    return document


SPEC = _read("spec.json")
_FRAMES = _read("spdystream/frames.json")
_DIALOGUES = _read("spdystream/dialogues.json")


@dataclass(frozen=True)
class Vector:
    """Bytes of one fresh connection in one direction, and the frames that they hold, as the vectors' file says."""

    name: str
    wire: bytes
    frames: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Dialogue:
    """A recorded exec between two Go programs. ``exit_code`` is what client-go made of it, None for another error."""

    name: str
    protocol: str
    tty: bool
    stdin: bytes | None
    stdout: bytes
    stderr: bytes
    exit_code: int | None
    error: str
    client: Vector
    server: Vector
    steps: tuple[tuple[str, int], ...]


def pairs(headers: list[tuple[str, list[str]]]) -> list[tuple[str, str]]:
    """The headers of a vector as the engine gives them: one pair for each value, ISO 8859-1 for each byte."""
    return [(name, value.encode().decode("latin-1")) for name, values in headers for value in values]


def _vector(name: str, entry: dict[str, Any]) -> Vector:
    return Vector(name, bytes.fromhex(entry["hex"]), tuple(entry["frames"]))


def _dialogue(entry: dict[str, Any]) -> Dialogue:
    stdin = entry["stdin"]
    return Dialogue(
        entry["name"],
        entry["protocol"],
        entry["tty"],
        None if stdin is None else stdin.encode(),
        entry["stdout"].encode(),
        entry["stderr"].encode(),
        entry.get("exit_code"),
        entry["error"],
        _vector(entry["name"], entry["client"]),
        _vector(entry["name"], entry["server"]),
        tuple((step["from"], step["bytes"]) for step in entry["steps"]),
    )


VECTORS = [_vector(entry["name"], entry) for entry in (*SPEC["vectors"], *_FRAMES["vectors"])]
DIALOGUES = [_dialogue(entry) for entry in _DIALOGUES["dialogues"]]
