"""Text of a peer cannot act on a terminal once it stands in a message of ours (CVE-2021-25743)."""

from __future__ import annotations

import pytest

from spdyproto.text import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, 100% ünïcode 日本語", "plain text, 100% ünïcode 日本語"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("done\rFAILED", r"done\rFAILED"),
        ("a\nb\tc", r"a\nb\tc"),
        ("\x9b31m", r"\x9b31m"),  # CSI as one C1 character
        ("user\u202egnp.exe", r"user\u202egnp.exe"),  # right-to-left override
        ("\u200b\ufeff", r"\u200b\ufeff"),
        ("\ud800", r"\ud800"),
        ("", ""),
    ],
)
def test_what_a_terminal_would_act_on_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert shown.isprintable()
    shown.encode()


def test_lines_and_tabs_stay_where_they_are_wanted() -> None:
    assert printable("a\nb\tc\r\x1b", multiline=True) == "a\nb\tc\\r\\x1b"


def test_long_text_is_cut_and_says_so() -> None:
    assert printable("abcdef", limit=6) == "abcdef"
    assert printable("abcdef", limit=4) == "abcd... (2 more characters)"


def test_limit_counts_characters_of_the_text_not_of_its_escapes() -> None:
    assert printable("\x1b" * 5, limit=2) == r"\x1b\x1b... (3 more characters)"
