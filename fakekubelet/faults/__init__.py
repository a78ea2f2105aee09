"""Faults for a fake server: presets, each named for what goes wrong and tied to the incident that it reproduces.

::

    FakeKubelet(faults=[CutOutput(after=700_000), SplitWrites()])
    kubelet.faults = []                         # for the sessions that begin from now on
    parse_fault("cut-output:700000:rst")        # as ``kubewire fake --fault`` takes them

They hold for every upgraded connection: exec, attach and port-forward, over SPDY and WebSocket, except for those that
name a single transport. Several work together in the order in which they are given. ``PRESETS`` lists them all; what
they do to a session is ``fakekubelet.injection``'s business.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Final

from fakekubelet.faults.answers import CutAnswer, NoAnswer, NoProtocol, Refuse, WrongAccept, WrongProtocol
from fakekubelet.faults.base import Fault
from fakekubelet.faults.connections import (
    CutInput,
    CutOutput,
    IdleCut,
    ResetAtTheEnd,
    Silence,
    SlowLink,
    SlowReader,
    SplitWrites,
)
from fakekubelet.faults.frames import (
    CloseCode,
    CorruptHeaders,
    EarlyGoaway,
    EarlyStatus,
    FragmentedMessages,
    LateStatus,
    LoseTail,
    LostStatus,
    NoPong,
    NoReply,
    ResetStreams,
    StallStream,
)

__all__ = [
    "PRESETS",
    "CloseCode",
    "CorruptHeaders",
    "CutAnswer",
    "CutInput",
    "CutOutput",
    "EarlyGoaway",
    "EarlyStatus",
    "Fault",
    "FragmentedMessages",
    "IdleCut",
    "LateStatus",
    "LoseTail",
    "LostStatus",
    "NoAnswer",
    "NoPong",
    "NoProtocol",
    "NoReply",
    "Refuse",
    "ResetAtTheEnd",
    "ResetStreams",
    "Silence",
    "SlowLink",
    "SlowReader",
    "SplitWrites",
    "StallStream",
    "WrongAccept",
    "WrongProtocol",
    "parse_fault",
    "usage",
]

PRESETS: Final[Mapping[str, type[Fault]]] = {
    kind.name: kind
    for kind in (
        CutOutput,
        CutInput,
        Silence,
        IdleCut,
        ResetAtTheEnd,
        SplitWrites,
        SlowLink,
        SlowReader,
        StallStream,
        LostStatus,
        LateStatus,
        EarlyStatus,
        LoseTail,
        ResetStreams,
        EarlyGoaway,
        CloseCode,
        CorruptHeaders,
        NoReply,
        FragmentedMessages,
        NoPong,
        WrongProtocol,
        NoProtocol,
        WrongAccept,
        Refuse,
        NoAnswer,
        CutAnswer,
    )
}
"""Every fault by its name."""


def usage(kind: type[Fault]) -> str:
    """How ``parse_fault`` takes a preset: its name, and its fields with what they are if they are not given."""
    fields = dataclasses.fields(kind)  # type: ignore[arg-type] # every preset is one
    return kind.name + "".join(f"[:{each.name.upper()}={each.default}]" for each in fields)


def parse_fault(text: str) -> Fault:
    """``NAME`` or ``NAME:ARG:ARG``, with the fields of the preset in their order. Raises ValueError."""
    name, *values = text.split(":")
    kind = PRESETS.get(name)
    if kind is None:
        raise ValueError(f"fault {name!r} is unknown; expected one of {', '.join(PRESETS)}")
    fields = dataclasses.fields(kind)  # type: ignore[arg-type] # every preset is one
    if len(values) > len(fields):
        raise ValueError(f"fault {text!r}: expected {usage(kind)}")
    try:
        given = {each.name: _READERS[each.type](value) for each, value in zip(fields, values, strict=False)}
        return kind(**given)
    except ValueError as error:
        raise ValueError(f"fault {text!r}: {error} (expected {usage(kind)})") from None


def _flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(f"expected true or false, not {text!r}")
    return text == "true"


_READERS: Final[dict[Any, Callable[[str], Any]]] = {"int": int, "float": float, "str": str, "How": str, "bool": _flag}
