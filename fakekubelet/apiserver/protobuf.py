"""Reviews that come as protobuf, which is how ``kubectl auth`` and Go's typed clients send them.

Only the envelope (``runtime.Unknown`` behind ``k8s\\0``) and the messages of the reviews are known; answers are JSON,
which every client that sends protobuf accepts as well. Field numbers are those of ``k8s.io/api: authentication/v1`` and
``authorization/v1`` (``generated.proto``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fakekubelet.apiserver.resources import Object
from fakekubelet.apiserver.status import bad_request

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\0"

Schema = dict[int, tuple[str, Any]]
"""Of a message: a field's name, and ``str``, ``[str]`` or the schema of a message."""

_RESOURCE: Schema = {
    number: (name, str)
    for number, name in enumerate(("namespace", "verb", "group", "version", "resource", "subresource", "name"), 1)
}
_PATH: Schema = {1: ("path", str), 2: ("verb", str)}
_ACCESS: Schema = {1: ("resourceAttributes", _RESOURCE), 2: ("nonResourceAttributes", _PATH)}
_SUBJECT: Schema = {**_ACCESS, 3: ("user", str), 4: ("groups", [str]), 6: ("uid", str)}
_TOKEN: Schema = {1: ("token", str), 2: ("audiences", [str])}
_SPECS: dict[str, Schema] = {
    "LocalSubjectAccessReview": _SUBJECT,
    "SelfSubjectAccessReview": _ACCESS,
    "SelfSubjectReview": {},
    "SubjectAccessReview": _SUBJECT,
    "TokenReview": _TOKEN,
}
_TYPE: Schema = {1: ("apiVersion", str), 2: ("kind", str)}
_ENVELOPE: Schema = {1: ("type", _TYPE), 2: ("raw", bytes)}


def decode_review(body: bytes) -> Object:
    """The review as JSON would have it, without metadata and status. Raises StatusError 400."""
    try:
        if not body.startswith(_MAGIC):
            raise ValueError("it does not begin as Kubernetes' protobuf does")
        envelope = _message(memoryview(body)[len(_MAGIC) :], _ENVELOPE)
        kind: Object = envelope.get("type", {})
        spec = _SPECS.get(kind.get("kind", ""))
        if spec is None:
            raise ValueError(f"it is a {kind.get('kind', '')!r}, and no review")
        document = _message(memoryview(envelope.get("raw", b"")), {2: ("spec", spec)} if spec else {})
    except ValueError as error:
        raise bad_request(f"the body of the request cannot be decoded: {error}") from error
    return {**kind, **document}


def _message(data: memoryview, schema: Schema) -> Object:
    found: Object = {}
    for number, value in _fields(data):
        name, kind = schema.get(number, ("", None))
        if kind is None or not isinstance(value, memoryview):
            continue
        if isinstance(kind, list):
            found.setdefault(name, []).append(bytes(value).decode())
        elif isinstance(kind, dict):
            found[name] = _message(value, kind)
        else:
            found[name] = bytes(value) if kind is bytes else bytes(value).decode()
    return found


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Number and value of each field. Raises ValueError for what is no protobuf."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, position = _varint(data, position)
            yield number, value
            continue
        if wire == 2:
            size, position = _varint(data, position)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"a field of wire type {wire}")
        if position + size > len(data):
            raise ValueError("it is cut off")
        yield number, data[position : position + size]
        position += size


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise ValueError("it is cut off")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a number of more than ten bytes")
