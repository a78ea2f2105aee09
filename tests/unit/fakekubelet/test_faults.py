from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from fakekubelet import faults
from fakekubelet.faults import PRESETS, Fault, parse_fault, usage

ALL = pytest.mark.parametrize("kind", PRESETS.values(), ids=PRESETS)


@ALL
def test_a_preset_is_made_without_arguments_says_what_it_is_and_where_it_was_met(kind: type[Fault]) -> None:
    assert PRESETS[kind.name] is kind
    assert parse_fault(kind.name) == kind()
    assert (kind.__doc__ or "").strip().endswith(".")
    assert kind.incident.startswith("https://")
    assert kind.wires


@ALL
def test_its_text_is_what_makes_it(kind: type[Fault]) -> None:
    fault = kind()
    assert parse_fault(str(fault).replace("False", "false")) == fault
    assert usage(kind).startswith(kind.name)
    assert usage(kind).count("[:") == len(dataclasses.fields(kind))  # type: ignore[arg-type] # every preset is one


def test_arguments_in_the_order_of_the_fields() -> None:
    assert parse_fault("cut-output:700000:rst") == faults.CutOutput(700_000, "rst")
    assert parse_fault("idle-cut:0.5") == faults.IdleCut(0.5)
    assert parse_fault("refuse:503:true") == faults.Refuse(503, status=True)
    assert parse_fault("stall-stream:stderr:10") == faults.StallStream("stderr", 10)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("cut-everything", "expected one of cut-output, "),
        ("", "expected one of cut-output, "),
        ("cut-output:many", r"cut-output:many'.*expected cut-output\[:AFTER=0\]\[:HOW=close_notify\]"),
        ("cut-output:-1", "at least 0, not -1"),
        ("cut-output:0:sideways", "one of fin, rst, close_notify, not 'sideways'"),
        ("lost-status:1", "expected lost-status$"),
        ("slow-link:0", "rate is more than 0"),
        ("refuse:101", "200 to 599"),
        ("refuse:404:yes", "true or false"),
        ("close-code:5000", "1000 to 4999"),
    ],
)
def test_what_is_no_fault_is_refused_with_what_was_expected(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_fault(text)


@ALL
def test_the_page_has_a_row_for_it(kind: type[Fault]) -> None:
    page = (Path(__file__).parents[3] / "docs" / "faults.md").read_text()
    (row,) = [line for line in page.splitlines() if line.startswith(f"| `{kind.name}`")]
    for address in kind.incident.split():
        assert address in row
