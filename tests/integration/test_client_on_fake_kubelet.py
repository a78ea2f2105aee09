"""The client, in both flavours, on the fake kubelet."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fakekubelet import Attributes, FakeKubelet, User
from kubeletclient import BearerToken, Forbidden, Unauthorized, UnverifiedTokenError
from support.contract import ExecContract
from support.flavours import Flavour, flavour_fixture
from support.peers import FakePeer

flavour = flavour_fixture()


@pytest.fixture(scope="module")
def peer() -> Iterator[FakePeer]:
    with FakeKubelet() as kubelet:
        yield FakePeer(kubelet)


class TestExec(ExecContract):
    """All of it."""


def test_default_container(flavour: Flavour, peer: FakePeer) -> None:
    assert flavour.node(peer.url, **peer.options()).run("echo", "x", container=None).stdout == b"x\n"


def test_verb_decides(flavour: Flavour) -> None:
    """`create nodes/proxy` for POST, `get nodes/proxy` for GET: who may read may not always execute."""

    def readers_only(attributes: Attributes) -> bool:
        return (attributes.verb, attributes.subresource) == ("get", "proxy")

    with FakeKubelet(authorize=readers_only) as kubelet:
        peer = FakePeer(kubelet)
        with pytest.raises(Forbidden, match="verb=create") as caught:
            flavour.node(peer.url, **peer.options()).run("echo", "x")
        assert caught.value.http_status == 403
        assert isinstance(caught.value, PermissionError)
        assert flavour.node(peer.url, **peer.options(), method="GET").run("echo", "x").stdout == b"x\n"


def test_bearer_tokens(flavour: Flavour) -> None:
    with FakeKubelet(tokens={"correct": User("alice")}) as kubelet:
        good, bad = BearerToken("correct"), BearerToken("wr0ng-secret")
        assert flavour.node(kubelet.url, ca=kubelet.ca, credentials=good).run("echo", "x").returncode == 0
        assert kubelet.executions[-1].request.user.name == "alice"
        with pytest.raises(Unauthorized) as caught:
            flavour.node(kubelet.url, ca=kubelet.ca, credentials=bad).run("echo", "x")
        assert "wr0ng-secret" not in repr(caught.value) + str(caught.value)
        with pytest.raises(UnverifiedTokenError):
            flavour.node(kubelet.url, verify=False, credentials=good).run("echo", "x")


def test_client_that_leaves_is_noticed(flavour: Flavour, peer: FakePeer) -> None:
    before = len(peer.kubelet.executions)
    with flavour.node(peer.url, **peer.options()).popen("sleep", "600"):
        (execution,) = peer.kubelet.executions[before:]
        assert not execution.client_left
    execution.wait_client_left(10)
    assert execution.running, "a kubelet does not kill the command"
