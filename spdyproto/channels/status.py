"""How a session ended: the body of the error stream, decoded for the client and encoded for the server.

V1 to V3 write text, and only on failure: an empty body is success. From V4 on the body is always a JSON ``Status``, so
an empty body is a loss. Either rule holds for the whole body only: decode it when the stream has truly ended.

Success comes in two forms, ``{"status":"Success"}`` and ``{"metadata":{},"status":"Success"}``; what else there is
follows ``k8s.io/client-go: tools/remotecommand/v4.go`` (decoding) and ``k8s.io/cri-streaming:
pkg/streaming/remotecommand`` (encoding), with one exception: the reference client takes an empty V4 body for success.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NoReturn

from spdyproto.channels.subprotocols import Subprotocol
from spdyproto.errors import StatusError
from spdyproto.text import printable

NON_ZERO_EXIT: Final = "NonZeroExitCode"
"""The ``reason`` of a status that carries an exit code."""

EXIT_CODE_CAUSE: Final = "ExitCode"
"""The ``reason`` of the cause whose message is the exit code."""

INTERNAL_ERROR: Final = "InternalError"
"""The ``reason`` of everything that went wrong around the command rather than in it."""

_INTERNAL_PREFIX: Final = "Internal error occurred: "
_EXCERPT: Final = 200  # characters of a bad body that an error quotes: enough to recognise a proxy's error page
_LONE_SURROGATES: Final = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """The end of a remote command as the server reported it.

    ``code`` is 0 to 255, or None when the server reports a failure that is not an exit code (the runtime could not
    start the command, say, or the protocol is older than V4 and knows no codes). ``message`` is the server's text, not
    escaped: see ``spdyproto.text.printable``. ``reason`` is the machine-readable word, empty on success and before V4.
    ``raw`` is the body it was decoded from; it takes no part in comparisons.
    """

    code: int | None
    message: str = ""
    reason: str = ""
    raw: bytes = field(default=b"", compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.code is not None and not 0 <= self.code <= 255:
            raise ValueError(f"an exit code is 0 to 255, not {self.code}")

    @property
    def ok(self) -> bool:
        """Whether the command ended with exit code 0."""
        return self.code == 0

    @classmethod
    def success(cls) -> ExitStatus:
        """The command ended with exit code 0 (or an attached stream simply ended: attach reports no code)."""
        return cls(0)

    @classmethod
    def exited(cls, code: int, message: str = "") -> ExitStatus:
        """The command ended with ``code``; ``message`` as it shall stand in the status (see ``exit_message``).

        Raises ValueError for a code outside 0 to 255.
        """
        return cls(code, message, NON_ZERO_EXIT) if code else cls(code, message)

    @classmethod
    def failure(cls, message: str, reason: str = INTERNAL_ERROR) -> ExitStatus:
        """No exit code is known: ``message`` says why. It shall not be empty, which before V4 would mean success."""
        return cls(None, message, reason)


def exit_message(argv: Sequence[str], code: int) -> str:
    """The text of a non-zero exit as a kubelet on containerd has it: arguments in brackets, not quoted."""
    return f"command terminated with non-zero exit code: error executing command [{' '.join(argv)}], exit code {code}"


def internal_error_message(cause: str) -> str:
    """The text of a failure around the command, for example ``error executing command in container: <cause>``."""
    return _INTERNAL_PREFIX + cause


def decode_status(version: Subprotocol, body: bytes) -> ExitStatus:
    """The status that the whole body of an error stream holds.

    Call it only when the stream has ended and the connection is known to be whole: before V4 an empty body is success.

    Raises StatusError, and nothing else, for a body that is empty though V4 owes a status, that is not JSON, or that is
    JSON but not a status; for an exit code outside 0 to 255; and for a non-zero exit without its code. Before V4 it
    raises StatusError for a JSON status: no such server writes one, so what the 101 said of the version was wrong.
    """
    if not version.has_json_status:
        return _decode_text(version, body)
    if not body:
        raise StatusError(
            f"the error stream ended empty, but {version} owes a JSON status, on success too: "
            "how the command ended is unknown (the connection or a proxy on the way was cut, or the runtime died)"
        )
    return _decode_json(version, body)


def encode_status(version: Subprotocol, status: ExitStatus, *, metadata: bool = False) -> bytes:
    """The body that a server writes to the error stream; may be empty before V4.

    ``metadata=True`` writes the form of servers that marshal the whole ``metav1.Status`` (kubelets and runtimes before
    cri-streaming 0.36, the translating apiserver); False the newer, shorter form.
    """
    if not version.has_json_status:
        if status.ok:
            return b""
        return _clean(status.message or f"command failed with {_what(status)}").encode()
    document: dict[str, object] = {"metadata": {}} if metadata else {}
    document["status"] = "Success" if status.ok else "Failure"
    if not status.ok:
        _describe_failure(document, status, metadata)
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    # Go's encoder writes these five as escapes wherever they stand, and they stand only inside strings.
    for char in "&<>\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text.encode()


def _describe_failure(document: dict[str, object], status: ExitStatus, metadata: bool) -> None:
    message = _clean(status.message)
    if message:
        document["message"] = message
    if status.reason:
        document["reason"] = _clean(status.reason)
    if status.code is not None:
        document["reason"] = NON_ZERO_EXIT
        document["details"] = {"causes": [{"reason": EXIT_CODE_CAUSE, "message": str(status.code)}]}
    elif status.reason == INTERNAL_ERROR:
        if metadata:
            document["details"] = {"causes": [{"message": message.removeprefix(_INTERNAL_PREFIX)}]}
        document["code"] = 500


def _decode_text(version: Subprotocol, body: bytes) -> ExitStatus:
    if not body:
        return ExitStatus(0)
    if _is_status(body):
        _reject(
            version,
            bytes(body),
            "holds a JSON status, which servers write from v4 on: the header that chose the version did not arrive",
        )
    return ExitStatus(None, body.decode("utf-8", "replace"), raw=bytes(body))


def _is_status(body: bytes) -> bool:
    if not body.startswith(b"{"):
        return False
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and document.get("status") in ("Success", "Failure")


def _decode_json(version: Subprotocol, body: bytes) -> ExitStatus:
    raw = bytes(body)
    try:
        document = json.loads(raw.decode("utf-8", "replace"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:  # ValueError: not JSON, or a number of thousands of digits
        why = "nested too deeply" if isinstance(error, RecursionError) else printable(str(error), limit=_EXCERPT)
        _reject(version, raw, f"is not a JSON status ({why})")
    if not isinstance(document, dict):
        _reject(version, raw, "is JSON, but not an object")
    outcome = document.get("status")
    if outcome == "Success":
        return ExitStatus(0, _text(version, raw, document, "message"), raw=raw)
    if outcome != "Failure":
        _reject(version, raw, 'has a "status" that is neither "Success" nor "Failure"')
    message = _text(version, raw, document, "message")
    reason = _text(version, raw, document, "reason")
    code = _exit_code(version, raw, document) if reason == NON_ZERO_EXIT else None
    return ExitStatus(code, message, reason, raw)


def _exit_code(version: Subprotocol, raw: bytes, document: dict[str, object]) -> int:
    details = document.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    for cause in causes if isinstance(causes, list) else ():
        if isinstance(cause, dict) and cause.get("reason") == EXIT_CODE_CAUSE:
            text = cause.get("message")
            # Checked before int(), which takes signs, spaces, other scripts, and quadratic time for many digits.
            if isinstance(text, str) and re.fullmatch("0*[0-9]{1,3}", text) and int(text[-3:]) <= 255:
                return int(text[-3:])
            _reject(version, raw, "has an exit code that is not a decimal number of 0 to 255")
    _reject(version, raw, f'says {NON_ZERO_EXIT}, but "details.causes" has no {EXIT_CODE_CAUSE}')


def _text(version: Subprotocol, raw: bytes, document: dict[str, object], key: str) -> str:
    value = document.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        _reject(version, raw, f'has a "{key}" that is not a string')
    return _clean(value)


def _clean(text: str) -> str:
    """JSON can spell half a surrogate pair; no encoder takes one, so it becomes what Go makes of it."""
    return _LONE_SURROGATES.sub("\ufffd", text)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _what(status: ExitStatus) -> str:
    return f"exit code {status.code}" if status.code is not None else (status.reason or "an unknown error")


def _reject(version: Subprotocol, raw: bytes, complaint: str) -> NoReturn:
    excerpt = printable(raw[: 4 * _EXCERPT].decode("utf-8", "replace"), limit=_EXCERPT)
    raise StatusError(
        f"the error stream of {version} {complaint}: how the command ended is unknown. "
        f"It holds {len(raw)} bytes: {excerpt}"
    ) from None
