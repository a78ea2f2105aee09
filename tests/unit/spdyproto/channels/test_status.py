"""The body of the error stream, as real servers write it and as hostile ones might.

The documents marked REFERENCE are what Kubernetes servers send, written down from their sources; none is made by our
own encoder.
"""

from __future__ import annotations

import dataclasses
import json
import pickle

import pytest

from spdyproto.channels.status import (
    ExitStatus,
    decode_status,
    encode_status,
    exit_message,
    internal_error_message,
)
from spdyproto.channels.subprotocols import Subprotocol
from spdyproto.errors import RemoteProtocolError, StatusError

V1, V2, V3, V4, V5 = Subprotocol

# REFERENCE
SUCCESS = b'{"status":"Success"}'
SUCCESS_METADATA = b'{"metadata":{},"status":"Success"}'
EXIT_3 = (
    b'{"metadata":{},"status":"Failure","message":"command terminated with non-zero exit code: '
    b'error executing command [sh -c exit 3], exit code 3","reason":"NonZeroExitCode",'
    b'"details":{"causes":[{"reason":"ExitCode","message":"3"}]}}'
)
INTERNAL = (
    b'{"metadata":{},"status":"Failure","message":"Internal error occurred: error executing command in container: '
    b'no such file","reason":"InternalError","details":{"causes":[{"message":"error executing command in container: '
    b'no such file"}]},"code":500}'
)
INTERNAL_SHORT = (
    b'{"status":"Failure","message":"Internal error occurred: error executing command in container: no such file",'
    b'"reason":"InternalError","code":500}'
)
EXIT_3_TEXT = "command terminated with non-zero exit code: error executing command [sh -c exit 3], exit code 3"
INTERNAL_TEXT = "Internal error occurred: error executing command in container: no such file"


def exit_json(code: object, **changes: object) -> bytes:
    document: dict[str, object] = {
        "status": "Failure",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": code}]},
    }
    return json.dumps(document | changes).encode()


@pytest.mark.parametrize("version", [V4, V5])
class TestJson:
    @pytest.mark.parametrize("body", [SUCCESS, SUCCESS_METADATA, b' { "status" : "Success" } \n'])
    def test_success_in_either_form(self, version: Subprotocol, body: bytes) -> None:
        status = decode_status(version, body)
        assert status == ExitStatus.success()
        assert status.ok
        assert status.raw == body

    def test_exit_code(self, version: Subprotocol) -> None:
        status = decode_status(version, EXIT_3)
        assert status == ExitStatus(3, EXIT_3_TEXT, "NonZeroExitCode")
        assert not status.ok
        assert status.raw == EXIT_3

    @pytest.mark.parametrize("body", [INTERNAL, INTERNAL_SHORT])
    def test_failure_that_is_no_exit_code(self, version: Subprotocol, body: bytes) -> None:
        status = decode_status(version, body)
        assert status == ExitStatus(None, INTERNAL_TEXT, "InternalError")
        assert not status.ok

    @pytest.mark.parametrize("code", [0, 1, 127, 137, 255])
    def test_exit_codes_of_one_byte(self, version: Subprotocol, code: int) -> None:
        assert decode_status(version, exit_json(str(code))).code == code

    @pytest.mark.parametrize("text", ["007", "0" * 5000 + "7"])
    def test_leading_zeros_are_decimal(self, version: Subprotocol, text: str) -> None:
        assert decode_status(version, exit_json(text)).code == 7

    @pytest.mark.parametrize(
        "code",
        [
            "256",
            "999",
            "-1",
            "+1",
            "1e3",
            "1.0",
            "x",
            "",
            " 1",
            "1 ",
            "1\n",
            "0x1",
            "1_0",
            "٣",
            "9" * 5000,
            3,
            None,
            [],
            True,
        ],
    )
    def test_anything_else_is_no_exit_code(self, version: Subprotocol, code: object) -> None:
        with pytest.raises(StatusError, match="exit code that is not a decimal number of 0 to 255"):
            decode_status(version, exit_json(code))

    @pytest.mark.parametrize(
        "details",
        [
            None,
            {},
            {"causes": None},
            {"causes": []},
            {"causes": {}},
            {"causes": "ExitCode"},
            {"causes": [None, 3, "x", []]},
            {"causes": [{"reason": "Other", "message": "3"}]},
            {"causes": [{"message": "3"}]},
            [],
            "x",
            3,
        ],
    )
    def test_non_zero_exit_owes_its_code(self, version: Subprotocol, details: object) -> None:
        with pytest.raises(StatusError, match=r'"details\.causes" has no ExitCode'):
            decode_status(version, exit_json("3", details=details))

    def test_missing_details(self, version: Subprotocol) -> None:
        with pytest.raises(StatusError, match=r'"details\.causes" has no ExitCode'):
            decode_status(version, b'{"status":"Failure","reason":"NonZeroExitCode"}')

    def test_first_exit_code_cause_counts(self, version: Subprotocol) -> None:
        causes = [{"reason": "Other", "message": "1"}] + [{"reason": "ExitCode", "message": code} for code in "34"]
        assert decode_status(version, exit_json("", details={"causes": causes})).code == 3

    @pytest.mark.parametrize("reason", ["Forbidden", "", None, "Brand New Reason"])
    def test_unknown_reason_is_a_failure_with_its_message(self, version: Subprotocol, reason: str | None) -> None:
        body = json.dumps({"status": "Failure", "message": "no", "reason": reason}).encode()
        assert decode_status(version, body) == ExitStatus(None, "no", reason or "")

    @pytest.mark.parametrize("outcome", ["success", "Unknown", "", None, 1, True, [], {"status": "Success"}])
    def test_unknown_status_is_never_success(self, version: Subprotocol, outcome: object) -> None:
        with pytest.raises(StatusError, match='neither "Success" nor "Failure"'):
            decode_status(version, json.dumps({"status": outcome}).encode())

    def test_empty_body_says_what_was_owed(self, version: Subprotocol) -> None:
        with pytest.raises(StatusError, match=f"{version} owes a JSON status") as caught:
            decode_status(version, b"")
        assert isinstance(caught.value, RemoteProtocolError)

    @pytest.mark.parametrize("body", [b"null", b"true", b"3", b'"Success"', b'["Success"]', b'[{"status":"Success"}]'])
    def test_json_that_is_no_object(self, version: Subprotocol, body: bytes) -> None:
        with pytest.raises(StatusError, match="not an object"):
            decode_status(version, body)

    @pytest.mark.parametrize(
        "body",
        [
            b" ",
            b"Success",
            b"command failed",
            b"<html>502 Bad Gateway</html>",
            b"\xff\xfe\x00",
            b"\x00" * 10,
            b'{"status":"Success"',
            b'{"status":"Success"}{"status":"Success"}',
            b"{'status':'Success'}",
            b'{"status":"Success","code":NaN}',
            b'{"status":"Success","code":-Infinity}',
            b'{"status":"Success","code":' + b"9" * 5000 + b"}",
            b'{"status":"Succ\ness"}',
        ],
    )
    def test_what_is_not_json(self, version: Subprotocol, body: bytes) -> None:
        with pytest.raises(StatusError, match="is not a JSON status"):
            decode_status(version, body)

    @pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"status":"Success","details":['])
    def test_nesting_without_end(self, version: Subprotocol, opening: bytes) -> None:
        with pytest.raises(StatusError, match="is not a JSON status"):
            decode_status(version, opening * (256 * 1024 // len(opening)))

    @pytest.mark.parametrize("key", ["message", "reason"])
    @pytest.mark.parametrize("value", [3, True, [], {}, ["x"]])
    def test_wrong_types(self, version: Subprotocol, key: str, value: object) -> None:
        with pytest.raises(StatusError, match=f'"{key}" that is not a string'):
            decode_status(version, json.dumps({"status": "Failure", key: value}).encode())

    def test_error_quotes_the_body_briefly_and_harmlessly(self, version: Subprotocol) -> None:
        with pytest.raises(StatusError) as caught:
            decode_status(version, b"\x1b[2J" + b"x" * 100_000)
        text = str(caught.value)
        assert text.isprintable()
        assert "holds 100004 bytes" in text
        assert len(text) < 700

    def test_control_characters_stay_raw_in_the_message(self, version: Subprotocol) -> None:
        body = b'{"status":"Failure","message":"\\u001b[31mred"}'
        assert decode_status(version, body).message == "\x1b[31mred"

    def test_half_a_surrogate_pair_can_be_printed(self, version: Subprotocol) -> None:
        message = decode_status(version, b'{"status":"Failure","message":"\\ud800 \\ud83d\\ude00"}').message
        assert message == "\ufffd \U0001f600"
        message.encode()

    def test_bytes_that_are_no_utf8_become_replacement_characters(self, version: Subprotocol) -> None:
        assert decode_status(version, b'{"status":"Failure","message":"a\xffb"}').message == "a\ufffdb"


@pytest.mark.parametrize("version", [V1, V2, V3])
class TestText:
    def test_nothing_is_success(self, version: Subprotocol) -> None:
        assert decode_status(version, b"") == ExitStatus.success()

    @pytest.mark.parametrize("body", [b'{"status":"Success"}', b'{"metadata":{},"status":"Failure","message":"no"}'])
    def test_a_json_status_tells_that_the_version_is_another(self, version: Subprotocol, body: bytes) -> None:
        with pytest.raises(StatusError, match="the header that chose the version did not arrive"):
            decode_status(version, body)

    @pytest.mark.parametrize("body", [b'{"status":"Ok"}', b'{"status":["Success"]}', b"{", b'["Success"]'])
    def test_json_that_is_no_status_is_text(self, version: Subprotocol, body: bytes) -> None:
        assert decode_status(version, body).message == body.decode()

    @pytest.mark.parametrize("body", [b"no such container", b" ", b"\n", b"0"])
    def test_any_text_is_failure(self, version: Subprotocol, body: bytes) -> None:
        status = decode_status(version, body)
        assert status == ExitStatus(None, body.decode())
        assert not status.ok
        assert status.raw == body

    def test_bytes_that_are_no_utf8(self, version: Subprotocol) -> None:
        assert decode_status(version, b"\xffno").message == "\ufffdno"

    @pytest.mark.parametrize(
        "status",
        [
            ExitStatus.exited(3),
            ExitStatus.exited(3, "why"),
            ExitStatus.failure("why"),
            ExitStatus(None),
            ExitStatus(None, "", "R"),
        ],
    )
    def test_failure_is_never_written_as_nothing(self, version: Subprotocol, status: ExitStatus) -> None:
        body = encode_status(version, status)
        assert body
        assert not decode_status(version, body).ok

    def test_success_is_written_as_nothing(self, version: Subprotocol) -> None:
        assert encode_status(version, ExitStatus.success(), metadata=True) == b""

    def test_failure_is_written_as_its_text(self, version: Subprotocol) -> None:
        assert encode_status(version, ExitStatus.exited(3, EXIT_3_TEXT)) == EXIT_3_TEXT.encode()


class TestEncode:
    """Byte for byte what the reference servers send: a client that compares bytes cannot tell the fake from them."""

    @pytest.mark.parametrize("version", [V4, V5])
    @pytest.mark.parametrize(
        ("status", "metadata", "body"),
        [
            (ExitStatus.success(), False, SUCCESS),
            (ExitStatus.success(), True, SUCCESS_METADATA),
            (ExitStatus.exited(3, exit_message(["sh", "-c", "exit 3"], 3)), True, EXIT_3),
            (
                ExitStatus.exited(3, exit_message(["sh", "-c", "exit 3"], 3)),
                False,
                EXIT_3.replace(b'"metadata":{},', b""),
            ),
            (ExitStatus.failure(INTERNAL_TEXT), True, INTERNAL),
            (ExitStatus.failure(INTERNAL_TEXT), False, INTERNAL_SHORT),
        ],
    )
    def test_reference_bytes(self, version: Subprotocol, status: ExitStatus, metadata: bool, body: bytes) -> None:
        assert encode_status(version, status, metadata=metadata) == body

    def test_internal_error_text(self) -> None:
        assert internal_error_message("error executing command in container: no such file") == INTERNAL_TEXT

    def test_other_reasons_carry_neither_code_nor_details(self) -> None:
        assert encode_status(V4, ExitStatus.failure("no", "Forbidden")) == (
            b'{"status":"Failure","message":"no","reason":"Forbidden"}'
        )

    def test_strings_are_escaped_as_go_escapes_them(self) -> None:
        body = encode_status(V4, ExitStatus.failure('a<b>&"\\\n\x1b\u2028é', "R"))
        assert b'"message":"a\\u003cb\\u003e\\u0026\\"\\\\\\n\\u001b\\u2028\xc3\xa9"' in body
        assert decode_status(V4, body).message == 'a<b>&"\\\n\x1b\u2028é'

    def test_lone_surrogates_do_not_break_the_encoder(self) -> None:
        for version in Subprotocol:
            assert b"\xef\xbf\xbd" in encode_status(version, ExitStatus.failure("a\ud800b"))


class TestExitStatus:
    @pytest.mark.parametrize("code", [-1, 256, 1000])
    def test_codes_are_one_byte(self, code: int) -> None:
        with pytest.raises(ValueError, match="0 to 255"):
            ExitStatus(code)

    def test_only_code_zero_is_ok(self) -> None:
        assert ExitStatus.success().ok
        assert ExitStatus.exited(0).ok
        assert not ExitStatus.exited(1).ok
        assert not ExitStatus.failure("x").ok

    def test_raw_takes_no_part_in_comparisons_and_repr(self) -> None:
        status = ExitStatus(1, raw=b"secret")
        assert status == ExitStatus(1)
        assert "secret" not in repr(status)

    def test_immutable_and_picklable(self) -> None:
        status = ExitStatus.exited(3, "x")
        with pytest.raises(dataclasses.FrozenInstanceError):
            status.code = 0  # type: ignore[misc]  # that it is refused is the point
        assert pickle.loads(pickle.dumps(status)) == status
