"""Which subprotocol two ends settle on, and what it can do."""

from __future__ import annotations

import pytest

from spdyproto.channels.subprotocols import (
    CLIENT_OFFER,
    CRI_SPDY,
    PORT_FORWARD,
    Subprotocol,
    negotiate,
    offered_protocols,
)

V1, V2, V3, V4, V5 = Subprotocol


def test_names_on_the_wire() -> None:
    assert [str(version) for version in Subprotocol] == [
        "channel.k8s.io",
        "v2.channel.k8s.io",
        "v3.channel.k8s.io",
        "v4.channel.k8s.io",
        "v5.channel.k8s.io",
    ]
    assert PORT_FORWARD == "portforward.k8s.io"


@pytest.mark.parametrize(
    ("version", "json_status", "resize", "close_signal"),
    [
        (V1, False, False, False),
        (V2, False, False, False),
        (V3, False, True, False),
        (V4, True, True, False),
        (V5, True, True, True),
    ],
)
def test_what_each_version_can_do(version: Subprotocol, json_status: bool, resize: bool, close_signal: bool) -> None:
    assert (version.has_json_status, version.has_resize, version.has_close_signal) == (
        json_status,
        resize,
        close_signal,
    )


def test_lists_are_those_of_the_reference_best_first() -> None:
    assert CLIENT_OFFER == (V5, V4, V3, V2, V1)
    assert CRI_SPDY == (V4, V3, V2, V1)


@pytest.mark.parametrize(
    ("values", "entries"),
    [
        (["v4.channel.k8s.io", "channel.k8s.io"], ["v4.channel.k8s.io", "channel.k8s.io"]),
        (["v4.channel.k8s.io,channel.k8s.io"], ["v4.channel.k8s.io", "channel.k8s.io"]),
        ([" a , b\t", "c"], ["a", "b", "c"]),
        (["", " ", ",,", " , "], []),
        ([], []),
    ],
)
def test_offer_is_read_from_lines_and_from_comma_lists(values: list[str], entries: list[str]) -> None:
    assert offered_protocols(values) == entries


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (CLIENT_OFFER, V4),
        ([V3, V4], V3),  # the order of the client decides, not the better version
        ([V1], V1),
        (["v9.channel.k8s.io", V2], V2),
        (["V4.CHANNEL.K8S.IO"], None),
        ([PORT_FORWARD], None),
        ([], None),
    ],
)
def test_first_entry_of_the_client_that_the_server_supports_wins(
    offered: list[str], chosen: Subprotocol | None
) -> None:
    assert negotiate(offered, CRI_SPDY) == chosen


def test_choice_is_the_item_of_the_server_so_its_type_stays() -> None:
    assert isinstance(negotiate(["v3.channel.k8s.io"], CRI_SPDY), Subprotocol)
