"""What holds for every body of an error stream."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from spdyproto.channels.status import NON_ZERO_EXIT, ExitStatus, decode_status, encode_status
from spdyproto.channels.subprotocols import Subprotocol
from spdyproto.errors import StatusError

JSON_VERSIONS = st.sampled_from([Subprotocol.V4, Subprotocol.V5])
TEXT_VERSIONS = st.sampled_from([Subprotocol.V1, Subprotocol.V2, Subprotocol.V3])
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
STATUSES = st.one_of(
    st.builds(ExitStatus.success),
    st.builds(ExitStatus.exited, st.integers(1, 255), TEXT),
    st.builds(ExitStatus.failure, TEXT, TEXT.filter(lambda reason: reason != NON_ZERO_EXIT)),
)

WORDS = st.sampled_from(
    ["Success", "Failure", "NonZeroExitCode", "ExitCode", "InternalError", "0", "3", "255", "256", "-1", ""]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS | st.text(max_size=5)
KEYS = st.sampled_from(["status", "message", "reason", "details", "causes", "code", "metadata"])
DOCUMENTS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=12
)


def outcome(version: Subprotocol, body: bytes) -> ExitStatus | StatusError:
    try:
        return decode_status(version, body)
    except StatusError as error:
        return error


@given(JSON_VERSIONS, STATUSES, st.booleans())
def test_round_trip(version: Subprotocol, status: ExitStatus, metadata: bool) -> None:
    body = encode_status(version, status, metadata=metadata)
    assert decode_status(version, body) == status
    assert json.loads(body)["status"] == ("Success" if status.ok else "Failure")


@given(TEXT_VERSIONS, STATUSES)
def test_text_versions_keep_success_and_failure_apart(version: Subprotocol, status: ExitStatus) -> None:
    assert decode_status(version, encode_status(version, status)).ok == status.ok


@given(st.sampled_from(list(Subprotocol)), st.binary(max_size=200))
def test_any_bytes_give_a_status_or_a_status_error(version: Subprotocol, body: bytes) -> None:
    result = outcome(version, body)
    if isinstance(result, StatusError):
        assert version.has_json_status
        assert str(result).isprintable()
    elif not version.has_json_status:
        assert result.ok == (not body)


@given(JSON_VERSIONS, DOCUMENTS)
def test_any_json_gives_a_status_or_a_status_error(version: Subprotocol, document: Any) -> None:
    result = outcome(version, json.dumps(document).encode())
    if isinstance(result, ExitStatus):
        assert isinstance(document, dict)
        assert document["status"] in ("Success", "Failure")
        assert result.ok == (document["status"] == "Success" or result.code == 0)
        assert isinstance(result.message, str)
        assert isinstance(result.reason, str)
        assert (result.code is None) == (not result.ok and result.reason != NON_ZERO_EXIT)


@given(JSON_VERSIONS, STATUSES, st.booleans(), st.data())
def test_a_status_cut_anywhere_is_no_status(
    version: Subprotocol, status: ExitStatus, metadata: bool, data: st.DataObject
) -> None:
    body = encode_status(version, status, metadata=metadata)
    cut = data.draw(st.integers(0, len(body) - 1))
    assert isinstance(outcome(version, body[:cut]), StatusError)


@given(JSON_VERSIONS, st.text())
def test_any_exit_code_text_that_is_not_one_byte_is_refused(version: Subprotocol, text: str) -> None:
    causes = [{"reason": "ExitCode", "message": text}]
    body = json.dumps({"status": "Failure", "reason": NON_ZERO_EXIT, "details": {"causes": causes}}).encode()
    decimal = text.isascii() and text.isdigit() and int(text) <= 255
    result = outcome(version, body)
    assert isinstance(result, ExitStatus) == decimal
    if isinstance(result, ExitStatus):
        assert result.code == int(text)
