"""The tree of errors: who is to blame, which code tells the peer, and that they survive being passed on."""

from __future__ import annotations

import copy
import pickle

import pytest

from spdyproto import errors
from spdyproto.spdy.constants import GoAwayStatus

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.ProtocolError) and kind.__module__ == errors.__name__
]


@pytest.mark.parametrize("kind", KINDS)
def test_errors_survive_copying_and_pickling(kind: type[errors.ProtocolError]) -> None:
    error = kind("what happened", stream_id=7)
    for again in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(again) is kind
        assert (str(again), again.stream_id, again.code) == ("what happened", 7, error.code)


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_has_a_culprit(kind: type[errors.ProtocolError]) -> None:
    if kind is not errors.ProtocolError:
        assert issubclass(kind, errors.LocalProtocolError) != issubclass(kind, errors.RemoteProtocolError)
    assert issubclass(kind, errors.KubewireError)
    assert isinstance(kind.code, GoAwayStatus)


def test_a_peer_beyond_a_limit_is_told_of_our_trouble_not_of_its_fault() -> None:
    assert errors.LimitExceeded.code is GoAwayStatus.INTERNAL_ERROR
    assert errors.FramingError.code is GoAwayStatus.PROTOCOL_ERROR
