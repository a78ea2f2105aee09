"""What an upgrade needs of HTTP/1.1, whatever it leads to. Answers of real servers: ``channels/test_upgrade.py``."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from spdyproto.errors import LocalProtocolError, UpgradeError
from spdyproto.http import (
    ClientExchange,
    Judge,
    RequestHead,
    ServerAnswer,
    UpgradeAccepted,
    UpgradeFailed,
    UpgradeRefused,
    check_line,
    decode_headers,
    encode_headers,
    header_values,
)
from spdyproto.types import HeaderList

SECRET = "tok-3f9a1c77d2"
HEAD = RequestHead(
    "GET", "node:10250", "/x?secret=1", (("Upgrade", "gopher"),), (("Authorization", f"Bearer {SECRET}"),)
)
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: gopher\r\nX: "


def takes_all(headers: HeaderList, quote: Callable[[str], str]) -> str:
    return "chosen"


def exchange(judge: Judge = takes_all, *, secrets: tuple[str, ...] = ()) -> ClientExchange:
    return ClientExchange(HEAD, judge, token="gopher", secrets=secrets)


class TestRequestHead:
    def test_own_lines_stand_between_the_host_and_the_lines_of_the_caller(self) -> None:
        assert exchange().data_to_send() == (
            b"GET /x?secret=1 HTTP/1.1\r\nHost: node:10250\r\nUpgrade: gopher\r\n"
            b"Authorization: Bearer tok-3f9a1c77d2\r\n\r\n"
        )

    @pytest.mark.parametrize("name", ["host", "UPGRADE", "Content-Length", "transfer-encoding"])
    def test_the_caller_gives_no_line_of_the_upgrade_and_none_that_frames_a_body(self, name: str) -> None:
        head = RequestHead("GET", "node", "/", (("Upgrade", "gopher"),), ((name, "1"),))
        with pytest.raises(LocalProtocolError, match="written by the upgrade itself"):
            head.to_h11()

    def test_repr_shows_neither_target_nor_values(self) -> None:
        for text in (repr(HEAD), repr(exchange())):
            assert "secret" not in text
            assert SECRET not in text
            assert "node:10250" in text

    def test_a_value_that_must_be_one_word(self) -> None:
        check_line("X", "a b")
        for value in ("a b", ""):
            with pytest.raises(LocalProtocolError, match="'X' does not fit"):
                check_line("X", value, spaces=False)


class TestJudge:
    def test_its_verdict_is_the_outcome(self) -> None:
        assert exchange().receive_data(SWITCHING + b"1\r\n\r\nsurplus") == UpgradeAccepted(
            "chosen", b"surplus", (("upgrade", "gopher"), ("x", "1"))
        )

    def test_it_sees_the_headers_as_they_came_and_the_outcome_shows_no_credentials(self) -> None:
        seen: list[str] = []

        def judge(headers: HeaderList, quote: Callable[[str], str]) -> str:
            seen.extend(header_values(headers, "x"))
            return "chosen"

        result = exchange(judge).receive_data(SWITCHING + SECRET.encode() + b"\r\n\r\n")
        assert seen == [SECRET]
        assert isinstance(result, UpgradeAccepted)
        assert ("x", "<credentials>") in result.headers

    def test_its_error_is_the_outcome(self) -> None:
        def judge(headers: HeaderList, quote: Callable[[str], str]) -> str:
            raise UpgradeError(f"X is {quote(header_values(headers, 'X')[0])}, Y is {quote('')}")

        result = exchange(judge).receive_data(SWITCHING + b"\x1b[0m" + SECRET.encode() + b"a" * 300 + b"\r\n\r\n")
        assert isinstance(result, UpgradeFailed)
        assert str(result.error).startswith("X is '\\\\x1b[0m<credentials>aaa")
        assert str(result.error).endswith("more characters)', Y is absent")
        assert len(str(result.error)) < 300

    def test_it_is_not_asked_about_a_refusal(self) -> None:
        def judge(headers: HeaderList, quote: Callable[[str], str]) -> str:
            raise AssertionError

        result = exchange(judge).receive_data(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        assert isinstance(result, UpgradeRefused)

    def test_a_101_with_a_body_names_what_should_begin(self) -> None:
        result = exchange().receive_data(SWITCHING + b"1\r\nContent-Length: 1\r\n\r\n")
        assert isinstance(result, UpgradeFailed)
        assert "where gopher begins" in str(result.error)


class TestSecrets:
    def test_further_ones_are_struck_out_too(self) -> None:
        result = exchange(secrets=("hush-hush", "abc")).receive_data(
            b"HTTP/1.1 400 X\r\nContent-Length: 39\r\n\r\nhush-hush Bearer tok-3f9a1c77d2 tok abc."
        )
        assert isinstance(result, UpgradeRefused)
        assert result.message == "<credentials> <credentials> tok abc"  # the scheme goes with its token


def test_values_of_a_header_in_any_case_and_in_order() -> None:
    lines = [("A", " 1"), ("b", "2"), ("a", "3\t"), ("A", "")]
    assert header_values(lines, "a") == ["1", "3", ""]
    assert header_values(lines, "c") == []


def test_headers_as_text_and_back() -> None:
    lines = [(b"A", b"\xff\x00"), (b"a", b"")]
    assert encode_headers(decode_headers(lines)) == lines


def test_an_answer_is_written_with_nothing_added() -> None:
    assert ServerAnswer(403, []).to_bytes() == b"HTTP/1.1 403 Forbidden\r\n\r\n"
    assert ServerAnswer(405, [(b"A", b"b"), (b"C", b"")], b"text").to_bytes() == (
        b"HTTP/1.1 405 Method Not Allowed\r\nA: b\r\nC: \r\n\r\ntext"
    )
