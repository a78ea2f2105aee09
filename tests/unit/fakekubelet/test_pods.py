"""Declaring pods."""

from __future__ import annotations

import pytest

from fakekubelet.behaviours import scripted
from fakekubelet.pods import Container, Pod, PodTable
from fakekubelet.runtimes import ExecRequest


@pytest.mark.parametrize(
    ("name", "namespace", "short"), [("demo", "default", "demo"), ("kube-system/dns", "kube-system", "dns")]
)
def test_names(name: str, namespace: str, short: str) -> None:
    pod = Pod(name)
    assert (pod.namespace, pod.short_name, pod.name) == (namespace, short, f"{namespace}/{short}")
    assert [container.name for container in pod.containers] == ["main"]


@pytest.mark.parametrize("name", ["", "/", "a/", "/a", "a/b/c"])
def test_bad_pod_names(name: str) -> None:
    with pytest.raises(ValueError, match="NAMESPACE/NAME"):
        Pod(name)


@pytest.mark.parametrize("names", [[], ["a", "a"]])
def test_containers_are_some_and_differ(names: list[str]) -> None:
    with pytest.raises(ValueError, match="different names"):
        Pod("demo", [Container(name) for name in names])


def test_bad_containers() -> None:
    with pytest.raises(ValueError, match="name without '/'"):
        Container("a/b")
    with pytest.raises(ValueError, match="not both"):
        Container("a", behaviour=lambda exec: 0, processes=True)
    with pytest.raises(ValueError, match="absolute"):
        scripted({"etc/passwd": ""})


def test_uids_are_stable_and_differ() -> None:
    assert Pod("a").uid == Pod("default/a").uid
    assert Pod("a").uid != Pod("b").uid
    assert Pod("a", uid="given").uid == "given"


def test_table() -> None:
    table = PodTable([Pod("a"), Pod("x/b", [Container("c"), Container("d")])])
    assert (len(table), "default/a" in table, "a" in table) == (2, True, False)
    assert [pod.name for pod in table] == ["default/a", "x/b"]
    assert table.runtime("x/b", "d") is not None
    assert table.runtime("x/b", "main") is None
    table.add(Pod("x/b"))  # in place of the other
    assert table.runtime("x/b", "d") is None
    assert table.runtime("x/b", "main") is not None
    table.remove("x/b")
    assert (table.get("x/b"), table.runtime("x/b", "main")) == (None, None)
    with pytest.raises(KeyError):
        table.remove("x/b")
    with pytest.raises(KeyError):
        table["x/b"]


def test_processes_need_a_host() -> None:
    with pytest.raises(PermissionError, match="--allow-processes"):
        PodTable([Pod("a", [Container("main", processes=True)])])


def test_requests_are_shown_as_a_shell_would_take_them() -> None:
    from fakekubelet.auth import User
    from spdyproto.channels.events import StreamSet
    from spdyproto.channels.subprotocols import Subprotocol

    request = ExecRequest("ns", "pod", "c", ("echo", "a b"), StreamSet(), Subprotocol.V4, User("u"))
    assert str(request) == "ns/pod/c: echo 'a b'"
