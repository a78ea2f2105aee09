"""Both flavours have the same names, parameters and defaults; only the waiting differs."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import kubeletclient
import kubeletclient.aio
from kubeletclient.aio import streams as aio_streams
from kubeletclient.sync import streams as sync_streams

PAIRS = [
    (kubeletclient.Kubelet, kubeletclient.aio.Kubelet),
    (kubeletclient.Pod, kubeletclient.aio.Pod),
    (kubeletclient.Process, kubeletclient.aio.Process),
]
FILES = [
    (sync_streams.OutputReader, aio_streams.OutputReader, ["read", "read1", "readinto", "readinto1", "close"]),
    (sync_streams.InputWriter, aio_streams.InputWriter, ["write", "close"]),
]


def public(kind: type[Any]) -> dict[str, Any]:
    return {name: value for name, value in vars(kind).items() if not name.startswith("_")}


def shape(function: Any) -> list[tuple[str, Any, Any]]:
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize(("blocking", "awaited"), PAIRS)
def test_classes_have_the_same_members(blocking: type[Any], awaited: type[Any]) -> None:
    assert sorted(public(blocking)) == sorted(public(awaited))
    assert shape(blocking.__init__)[1:] == shape(awaited.__init__)[1:] or blocking is kubeletclient.Process
    for name, member in public(blocking).items():
        if inspect.isfunction(member):
            assert shape(member) == shape(public(awaited)[name]), name


def test_functions_have_the_same_parameters() -> None:
    assert shape(kubeletclient.connect_exec) == shape(kubeletclient.aio.connect_exec)


@pytest.mark.parametrize(("blocking", "awaited", "names"), FILES)
def test_files_share_what_matters(blocking: type[Any], awaited: type[Any], names: list[str]) -> None:
    for name in names:
        assert shape(getattr(blocking, name)) == shape(getattr(awaited, name)), name
