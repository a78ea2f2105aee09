"""The decisions about routes, as tables."""

from __future__ import annotations

from typing import Any

import pytest

from kubeletclient import errors
from kubeletclient.endpoints import Endpoint, local_address
from kubeletclient.routes import (
    ADDRESS_TYPES,
    FORGET_AFTER,
    NODES_REMEMBERED,
    Node,
    NodeAddress,
    Remembered,
    RouteMemory,
    check_via,
    node_endpoints,
    parse_node,
    reason_to_pass_by,
)

ADDRESSES = (
    NodeAddress("Hostname", "n1"),
    NodeAddress("InternalIP", "10.0.0.1"),
    NodeAddress("InternalIP", "fd00::1"),
    NodeAddress("ExternalIP", "203.0.113.5"),
    NodeAddress("Other", "x"),
)


def failure(kind: type[errors.ClientError], status: int | None = None, message: str = "") -> errors.ClientError:
    error = kind("why", http_status=status)
    if message:
        error.message = message  # type: ignore[attr-defined]  # those of answers have it
    return error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        # not reached: the apiserver may reach it
        (failure(errors.NameResolutionError), "the node cannot be reached: why"),
        (failure(errors.ConnectionRefused), "the node cannot be reached: why"),
        (failure(errors.DialTimeout), "the node cannot be reached: why"),
        (failure(errors.ConnectError), "the node cannot be reached: why"),
        (failure(errors.HandshakeCutError), "the node cannot be reached: why"),
        (failure(errors.TLSTimeout), "the node cannot be reached: why"),
        # someone else may be answering: never passed by
        (failure(errors.UnknownAuthorityError), None),
        (failure(errors.CertificateNameError), None),
        (failure(errors.CertificateExpiredError), None),
        (failure(errors.CertificateVerifyError), None),
        (failure(errors.PinnedCertificateChanged), None),
        (failure(errors.NotTLSError), None),
        # not let in
        (failure(errors.ClientCertificateRejected), "the kubelet refused this client certificate: why"),
        (failure(errors.Unauthorized, 401), "the kubelet refused these credentials (HTTP 401)"),
        (
            failure(errors.Forbidden, 403, "Forbidden (user=u)"),
            "the kubelet refused this identity (HTTP 403: Forbidden (user=u))",
        ),
        # not served
        (failure(errors.ProtocolNotSupported, 403), "the kubelet does not serve this: why"),
        (failure(errors.UpgradeMissing, 200), "the kubelet does not serve this: why"),
        (
            failure(errors.UpgradeRefused, 405, "Debug endpoints are disabled."),
            "the kubelet does not serve this (HTTP 405: Debug endpoints are disabled.)",
        ),
        # about the pod or the command, or perhaps begun already
        (failure(errors.BadRequest, 400), None),
        (failure(errors.NotFound, 404), None),
        (failure(errors.TooManyRequests, 429), None),
        (failure(errors.ServerError, 500), None),
        (failure(errors.Redirected, 302), None),
        (failure(errors.InvalidAnswer), None),
        (failure(errors.UpgradeTimeout), None),
        (failure(errors.ConnectionLost), None),
        (failure(errors.DeadlineExceeded), None),
        (failure(errors.CredentialsError), None),
        (failure(errors.StdinCannotEnd), None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, errors.ClientError) else "",
)
def test_what_a_failure_of_the_kubelet_means(error: errors.ClientError, reason: str | None) -> None:
    assert reason_to_pass_by(error) == reason


@pytest.mark.parametrize("via", ["auto", "kubelet", "apiserver"])
def test_via(via: str) -> None:
    assert check_via(via) == via


def test_unknown_via() -> None:
    with pytest.raises(ValueError, match="via 'proxy' is unknown: expected auto, kubelet or apiserver"):
        check_via("proxy")


def test_what_is_read_of_a_node() -> None:
    document = {
        "metadata": {"name": "n1"},
        "status": {
            "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "Hostname", "address": ""}, 3],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10255}},
            "conditions": [{"type": "Ready", "status": "Unknown", "message": "Kubelet stopped posting node status."}],
            "nodeInfo": {"kubeletVersion": "v1.36.1"},
        },
    }
    assert parse_node(document) == Node(
        "n1",
        (NodeAddress("InternalIP", "10.0.0.1"),),
        10255,
        False,
        "Kubelet stopped posting node status.",
        "v1.36.1",
    )


@pytest.mark.parametrize(
    "document", [None, [], {"status": 3}, {"status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": 0}}}}]
)
def test_nodes_of_any_shape(document: Any) -> None:
    assert parse_node(document) == Node("", ())


@pytest.mark.parametrize(
    ("prefer", "hosts"),
    [
        (ADDRESS_TYPES, ["10.0.0.1", "fd00::1", "203.0.113.5", "n1"]),
        (("ExternalIP", "InternalIP"), ["203.0.113.5", "10.0.0.1", "fd00::1"]),
        (("Hostname",), ["n1"]),
        ((), []),
    ],
)
def test_addresses_in_the_order_preferred(prefer: tuple[str, ...], hosts: list[str]) -> None:
    endpoints, left = node_endpoints(Node("n1", ADDRESSES, 10251), prefer=prefer)
    assert endpoints == [Endpoint(True, host, 10251) for host in hosts]
    assert "Other x: not asked for" in left


@pytest.mark.parametrize(
    "host",
    "127.0.0.1 127.8.8.8 ::1 localhost a.localhost 169.254.169.254 fe80::1 fe80::1%eth0 0.0.0.0 :: 224.0.0.1"
    " ::ffff:127.0.0.1 ::ffff:169.254.169.254".split(),
)
def test_addresses_that_lead_back_here_are_left_out(host: str) -> None:
    assert local_address(host) is not None
    node = Node("n", (NodeAddress("InternalIP", host),))
    endpoints, left = node_endpoints(node)
    assert not endpoints
    assert left == [f"InternalIP {host}: {local_address(host)}"]
    assert node_endpoints(node, allow_local=True)[0] == [Endpoint(True, host, 10250)]


@pytest.mark.parametrize("host", ["10.0.0.1", "192.168.1.1", "203.0.113.5", "fd00::1", "n1", "localhost.example"])
def test_ordinary_addresses(host: str) -> None:
    assert local_address(host) is None


def test_an_address_that_stands_twice_is_tried_once() -> None:
    node = Node("n", (NodeAddress("InternalIP", "10.0.0.1"), NodeAddress("Hostname", "10.0.0.1")))
    assert [endpoint.host for endpoint in node_endpoints(node)[0]] == ["10.0.0.1"]


def test_decisions_are_kept_for_a_time_and_by_verb() -> None:
    memory = RouteMemory()
    decision = Remembered(None, "why")
    memory.learn("n1", "exec", decision, 100.0)
    assert memory.recall("n1", "exec", 100.0 + FORGET_AFTER - 1) == decision
    assert memory.recall("n1", "logs", 101.0) is None
    assert memory.recall("n1", "exec", 100.0 + FORGET_AFTER) is None
    memory.learn("n1", "logs", decision, 100.0)
    memory.forget("n1")
    assert memory.recall("n1", "exec", 101.0) is memory.recall("n1", "logs", 101.0) is None


def test_decisions_are_bounded() -> None:
    memory = RouteMemory()
    for number in range(NODES_REMEMBERED + 1):
        memory.learn(f"n{number}", "exec", Remembered(None), 0.0)
    assert memory.recall("n0", "exec", 1.0) is None
    assert memory.recall(f"n{NODES_REMEMBERED}", "exec", 1.0) is not None
