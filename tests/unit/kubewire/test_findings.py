"""What a report of a route means, as a table."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from kubewire.findings import findings_of

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def leaf(**more: Any) -> dict[str, Any]:
    values = {"subject": "CN=n", "self_signed": False, "names": ["n"], "not_after": "2027-06-01T00:00:00+00:00"}
    return {**values, **more}


def kubelet(**more: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "address": "10.0.0.1:10250",
        "dial": {"milliseconds": 1.0, "error": "", "proxy": None},
        "tls": {"error": "", "trust": "pinned", "chain": [leaf()]},
        "milliseconds": 2.0,
        "access": {},
        "anonymous": "refused",
        "read_only_port": False,
        "error": "",
    }
    return {**values, **more}


def report(**more: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "pod": {"node": "n", "phase": "Running"},
        "node": {"ready": True, "condition": ""},
        "client": None,
        "apiserver": {"access": {}, "certificate": None},
        "addresses_left_out": [],
        "kubelets": [kubelet()],
    }
    return {**values, **more}


def with_access(kubelet_access: dict[str, bool], asked: dict[str, bool] | None = None) -> dict[str, Any]:
    return report(kubelets=[kubelet(access=kubelet_access)], apiserver={"access": asked or {}, "certificate": None})


def tls(**more: Any) -> dict[str, Any]:
    return report(kubelets=[kubelet(tls={"error": "", "trust": "pinned", "chain": [leaf()], **more})])


UNREACHED = kubelet(dial={"milliseconds": None, "error": "no route", "proxy": None}, tls=None, milliseconds=None)
CREATE, GET = "create nodes/proxy", "get nodes/proxy"
EXEC, WS_EXEC = "create pods/exec", "get pods/exec"


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (report(), []),
        (report(pod={"node": "", "phase": "Pending"}, node=None), [("warning", "pod-unscheduled")]),
        (report(pod={"node": "n", "phase": "Failed"}), [("warning", "pod-over")]),
        (report(node={"ready": False, "condition": "asleep"}), [("warning", "node-not-ready")]),
        (
            report(addresses_left_out=["InternalIP 127.0.0.1: it is a loopback address"]),
            [("warning", "address-left-out")],
        ),
        (report(addresses_left_out=["Other x: not asked for"]), [("info", "address-left-out")]),
        (with_access({CREATE: False, GET: True}), [("danger", "read-only-exec")]),
        (with_access({}, {CREATE: False, GET: True}), [("danger", "read-only-exec")]),
        (
            with_access({CREATE: True, GET: True}, {EXEC: False}),
            [("danger", "proxy-without-exec"), ("info", "no-audit")],
        ),
        (with_access({CREATE: True, GET: True}, {EXEC: True, WS_EXEC: True}), [("info", "no-audit")]),
        (with_access({CREATE: False, GET: False}, {EXEC: True, WS_EXEC: False}), [("info", "no-websocket")]),
        (report(kubelets=[UNREACHED]), [("warning", "unreachable")]),
        (report(kubelets=[UNREACHED, kubelet()]), [("info", "unreachable")]),
        (tls(error="self-signed certificate", chain=[leaf(self_signed=True)]), [("warning", "unverified")]),
        (tls(error="unable to get local issuer certificate"), [("warning", "unverified")]),
        (tls(chain=[leaf(not_after="2026-05-31T00:00:00+00:00")]), [("danger", "expired")]),
        (tls(chain=[leaf(not_after="2026-06-11T00:00:00+00:00")]), [("warning", "expires-soon")]),
        (tls(trust="nothing"), [("danger", "insecure")]),
        (report(kubelets=[kubelet(anonymous="let in")]), [("danger", "anonymous")]),
        (report(kubelets=[kubelet(anonymous="refused by authorization")]), [("info", "anonymous-known")]),
        (report(kubelets=[kubelet(read_only_port=True)]), [("danger", "read-only-port")]),
        (report(kubelets=[kubelet(error="it does not know these credentials")]), [("warning", "refused")]),
        (
            report(apiserver={"access": {}, "certificate": leaf(not_after="2026-06-01T05:00:00+00:00")}),
            [("warning", "expires-soon")],
        ),
    ],
)
def test_findings(document: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    found = findings_of(document, NOW)
    assert [(finding["severity"], finding["code"]) for finding in found] == expected
    assert all(finding["text"] and finding["fix"] for finding in found)


def test_the_gravest_first() -> None:
    document = with_access({CREATE: True, GET: True}, {EXEC: False})
    document["node"]["ready"] = False
    assert [finding["severity"] for finding in findings_of(document, NOW)] == ["danger", "warning", "info"]


def test_a_self_signed_certificate_is_pinned_with_trust() -> None:
    (finding,) = findings_of(tls(error="self-signed certificate", chain=[leaf(self_signed=True)]), NOW)
    assert "kubewire trust 10.0.0.1:10250" in finding["fix"]
