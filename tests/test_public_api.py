"""The two flavours of the client offer the same names with the same parameters; only awaiting differs."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

import pytest

import fakekubelet
import kubeletclient
import kubeletclient.aio
import kubewire
import spdyproto
from kubeletclient._cluster import ClusterOptions
from kubeletclient.aio import process as aio_process
from kubeletclient.aio import streams as aio_streams
from kubeletclient.sync import process as sync_process
from kubeletclient.sync import streams as sync_streams

PACKAGES = (spdyproto, kubeletclient, kubeletclient.aio, fakekubelet, kubewire)

TWINS = [
    (kubeletclient.Kubelet, kubeletclient.aio.Kubelet),
    (kubeletclient.Cluster, kubeletclient.aio.Cluster),
    (kubeletclient.Pod, kubeletclient.aio.Pod),
    (kubeletclient.Node, kubeletclient.aio.Node),
    (kubeletclient.LogStream, kubeletclient.aio.LogStream),
    (sync_process.Process, aio_process.Process),
]

AWAITED = {
    *("Kubelet.request", "LogStream.close", "LogStream.open", "LogStream.read", "Node.request", "Pod.facts"),
    "Cluster.close",
    "Cluster.pods",
    "Kubelet.close",
    "Pod.connect",
    "Pod.run",
    "Pod.copy_in",
    "Pod.copy_out",
    "Pod.copy_to",
    "Process.wait",
    "Process.communicate",
    "Process.close",
}
"""What may wait. ``popen`` and ``connect_exec`` answer something to await or to enter; the rest is plain."""

FILE_METHODS = ("read", "read1", "readinto", "readinto1", "peek", "readline")


def parameters(function: Callable[..., Any]) -> list[tuple[str, Any, Any]]:
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


def public(thing: type) -> dict[str, Any]:
    """Its own attributes, and those of a base that it does not show; without what every class has."""
    names = [name for name in dir(thing) if not name.startswith("_")]
    return {name: inspect.getattr_static(thing, name) for name in names}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_all_is_sorted_and_there(package: Any) -> None:
    names = getattr(package, "__all__", [])
    assert list(names) == sorted(names, key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    for name in names:
        assert getattr(package, name) is not None


def test_both_flavours_have_the_same_names() -> None:
    assert kubeletclient.aio.__all__ == kubeletclient.__all__
    own = {"LogStream", "Node", "Cluster", "Forward", "Kubelet", "Pod", "Process", "connect_exec"}
    for name in kubeletclient.__all__:
        same = getattr(kubeletclient, name) is getattr(kubeletclient.aio, name)
        assert same == (name not in own), name


@pytest.mark.parametrize(("blocking", "awaited"), TWINS, ids=lambda twin: twin.__name__)
def test_methods(blocking: type, awaited: type) -> None:
    theirs, ours = public(blocking), public(awaited)
    assert sorted(ours) == sorted(theirs)
    assert parameters(awaited) == parameters(blocking) or awaited is aio_process.Process
    for name, method in theirs.items():
        if inspect.isfunction(method):
            assert parameters(ours[name]) == parameters(method), name
            assert inspect.iscoroutinefunction(ours[name]) == (f"{blocking.__name__}.{name}" in AWAITED), name
        else:
            assert type(ours[name]) is type(method), name


@pytest.mark.parametrize(
    ("blocking", "awaited"),
    [twins for twins in TWINS if hasattr(twins[0], "close")],
    ids=lambda twin: twin.__name__,
)
def test_contexts(blocking: type, awaited: type) -> None:
    assert hasattr(blocking, "__enter__")
    assert hasattr(awaited, "__aenter__")
    assert not hasattr(awaited, "__enter__"), "`with` in the place of `async with` must fail at once"


def test_connect_exec() -> None:
    assert parameters(kubeletclient.aio.connect_exec) == parameters(kubeletclient.connect_exec)


@pytest.mark.parametrize("name", FILE_METHODS)
def test_readers(name: str) -> None:
    blocking, awaited = getattr(sync_streams.OutputReader, name), getattr(aio_streams.OutputReader, name)
    assert inspect.iscoroutinefunction(awaited)
    theirs = [(n, kind, default) for n, kind, default in parameters(blocking)]
    assert [item[1:] for item in parameters(awaited)] == [item[1:] for item in theirs]


def test_writers() -> None:
    for name in ("write", "close"):
        blocking, awaited = getattr(sync_streams.InputWriter, name), getattr(aio_streams.InputWriter, name)
        assert inspect.iscoroutinefunction(awaited)
        assert parameters(awaited) == parameters(blocking)


@pytest.mark.parametrize(
    "module",
    [
        "kubeletclient.aio.client",
        "kubeletclient.aio.cluster",
        "kubeletclient.aio.pods",
        "kubeletclient.aio.process",
        "kubeletclient.aio.streams",
        "kubeletclient.sync.client",
        "kubeletclient.sync.cluster",
        "kubeletclient.sync.pods",
    ],
)
def test_everything_public_is_documented(module: str) -> None:
    loaded = importlib.import_module(module)
    for name in loaded.__all__:
        thing = getattr(loaded, name)
        assert inspect.getdoc(thing), name
        if inspect.isclass(thing):
            missing = [n for n, method in public(thing).items() if inspect.isfunction(method) and not method.__doc__]
            assert not missing, f"{name}: {missing}"


def test_from_kubeconfig_takes_what_the_class_takes() -> None:
    taken = list(inspect.signature(kubeletclient.Cluster).parameters)
    assert taken == ["access", *ClusterOptions.__annotations__]
