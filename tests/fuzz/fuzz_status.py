"""The body of an error stream: the first byte chooses the version (``1`` to ``5``), the rest is the body."""

from __future__ import annotations

import json

from spdyproto.channels.status import ExitStatus, decode_status, encode_status
from spdyproto.channels.subprotocols import Subprotocol
from spdyproto.errors import StatusError

VERSIONS = tuple(Subprotocol)
MAX_SIZE = 64 * 1024
TOKENS = (
    b'"status"',
    b'"Success"',
    b'"Failure"',
    b'"reason"',
    b'"NonZeroExitCode"',
    b'"ExitCode"',
    b'"InternalError"',
    b'"details"',
    b'"causes"',
    b'"message"',
    b'"metadata":{}',
    b"null",
    b"true",
    b"-1",
    b"1e3",
    b"256",
    b'"999"',
    b"NaN",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\\ud800",
    b"\xff",
    b"\xef\xbb\xbf",
)


def one_input(data: bytes) -> None:
    """Any body gives a status or StatusError, and nothing else; no success without proof.

    Before V4 the empty body, and no other, is success, and a JSON status is refused. From V4 on success needs a JSON
    object whose ``status`` is ``Success``, or whose exit code is 0. Texts can be encoded and are harmless; what was
    decoded survives being encoded and decoded again.
    """
    version = VERSIONS[(data[0] - 0x31) % len(VERSIONS)] if data else Subprotocol.V4
    body = data[1:]
    status = _decode(version, body)
    if isinstance(status, StatusError):
        if not version.has_json_status:  # every body has a meaning, but for one that proves another version
            assert json.loads(body)["status"] in ("Success", "Failure")
        assert str(status).isprintable()
        assert len(str(status)) < 5000
        return
    assert status.code is None or 0 <= status.code <= 255
    assert status.raw == body
    status.message.encode()
    if not version.has_json_status:
        assert status.ok == (not body)
        return
    document = json.loads(body.decode("utf-8", "replace"))
    assert document["status"] in ("Success", "Failure")
    assert status.ok == (document["status"] == "Success" or status.code == 0)
    for metadata in (False, True):
        again = decode_status(version, encode_status(version, status, metadata=metadata))
        assert again == (ExitStatus.success() if status.ok else status)


def _decode(version: Subprotocol, body: bytes) -> ExitStatus | StatusError:
    try:
        return decode_status(version, body)
    except StatusError as error:
        return error
