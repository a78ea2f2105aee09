from __future__ import annotations

import pytest

from fakekubelet.profiles import DEFAULT, PROFILES, profile
from fakekubelet.websockets import ALL_WEBSOCKET, CRI_WEBSOCKET
from spdyproto.channels.subprotocols import CRI_SPDY


def test_the_columns_of_the_table() -> None:
    assert list(PROFILES) == ["1.29", "1.31", "1.35", "1.36", "strict"]
    assert DEFAULT is PROFILES["1.35"]
    assert {name: each.name for name, each in PROFILES.items()} == {name: name for name in PROFILES}


def test_exec_over_spdy_is_the_runtimes_list_in_every_version() -> None:
    assert {each.spdy for each in PROFILES.values()} == {tuple(CRI_SPDY)}


def test_v5_over_websocket_came_with_1_36() -> None:
    for name in ("1.29", "1.31", "1.35"):
        assert PROFILES[name].websocket == CRI_WEBSOCKET
    assert PROFILES["1.36"].websocket == ALL_WEBSOCKET
    assert set(PROFILES["strict"].websocket) == set(ALL_WEBSOCKET) - {""}


def test_tunnelled_port_forward_came_with_1_36() -> None:
    tunnelling = {name for name, each in PROFILES.items() if "SPDY/3.1+portforward.k8s.io" in each.forward_websocket}
    assert tunnelling == {"1.36", "strict"}


@pytest.mark.parametrize(
    ("gate", "since"),
    [
        ("TranslateStreamCloseWebsocketRequests", "1.31"),  # beta, and on, in 1.30
        ("PortForwardWebsockets", "1.31"),
        ("KubeletFineGrainedAuthz", "1.35"),  # beta, and on, in 1.33
        ("AuthorizePodWebsocketUpgradeCreatePermission", "1.35"),
        ("ExtendWebSocketsToKubelet", "1.36"),
        ("NodeLogQuery", None),
        ("PodLogsQuerySplitStreams", None),
    ],
)
def test_gates(gate: str, since: str | None) -> None:
    versions = [name for name in PROFILES if name != "strict"]
    expected = set(versions[versions.index(since) :]) if since else set()
    assert {name for name in versions if gate in PROFILES[name].gates} == expected


def test_endpoints_that_came_and_those_that_were_always_there() -> None:
    serving = {path: [name for name, each in PROFILES.items() if each.serves(path)] for path in ("checkpoint", "flagz")}
    assert serving == {"checkpoint": ["1.31", "1.35", "1.36", "strict"], "flagz": ["1.36", "strict"]}
    assert all(each.serves("exec") for each in PROFILES.values())


def test_words_and_rules() -> None:
    assert [name for name, each in PROFILES.items() if each.lists_subresources] == ["1.35", "1.36", "strict"]
    assert [name for name, each in PROFILES.items() if each.fine_grained] == ["1.35", "1.36", "strict"]
    assert [name for name, each in PROFILES.items() if each.metadata] == ["1.29", "1.31", "1.35"]
    assert [name for name, each in PROFILES.items() if each.strict] == ["strict"]


@pytest.mark.parametrize("name", ["1.36", "v1.36", "1.36.2", "v1.36.0"])
def test_a_profile_is_found_by_the_version_that_a_node_reports(name: str) -> None:
    assert profile(name) is PROFILES["1.36"]
    assert profile(PROFILES["1.36"]) is PROFILES["1.36"]


@pytest.mark.parametrize("name", ["1.30", "latest", "", "136"])
def test_an_unknown_profile_is_refused_with_the_list(name: str) -> None:
    with pytest.raises(ValueError, match=r"one of 1\.29, 1\.31, 1\.35, 1\.36, strict"):
        profile(name)
