"""The law of a stream: the table itself. Whether the engine keeps it is `test_transitions`."""

from __future__ import annotations

import itertools

import pytest

from spdyproto.spdy.constants import RstStatus
from spdyproto.spdy.states import TRANSITIONS, Act, Half, initial_halves


def test_every_state_has_a_rule_for_every_act() -> None:
    assert set(TRANSITIONS) == set(itertools.product(Half, Act))


def test_nothing_leads_back() -> None:
    order = [Half.AWAITING_REPLY, Half.OPEN, Half.ENDED, Half.RESET]
    for (before, _), after in TRANSITIONS.items():
        if isinstance(after, Half):
            assert order.index(after) >= order.index(before)


def test_a_reset_half_takes_nothing() -> None:
    assert {TRANSITIONS[Half.RESET, act] for act in Act} == {RstStatus.INVALID_STREAM}


def test_only_a_reply_or_a_reset_comes_before_the_reply() -> None:
    legal = {act for act in Act if isinstance(TRANSITIONS[Half.AWAITING_REPLY, act], Half)}
    assert legal == {Act.REPLY, Act.RESET}


@pytest.mark.parametrize(
    ("fin", "unidirectional", "halves"),
    [
        (False, False, (Half.OPEN, Half.AWAITING_REPLY)),
        (True, False, (Half.ENDED, Half.AWAITING_REPLY)),
        (False, True, (Half.OPEN, Half.ENDED)),
        (True, True, (Half.ENDED, Half.ENDED)),
    ],
)
def test_how_a_stream_begins(fin: bool, unidirectional: bool, halves: tuple[Half, Half]) -> None:
    assert initial_halves(fin=fin, unidirectional=unidirectional) == halves
