"""The pytest plugin: fixtures ``fake_kubelet`` and ``fake_cluster``, wherever kubewire is installed.

Each gives a started server with a pod ``default/demo`` of scripted commands; what else it shall have says a fixture of
the test's own, ``fake_kubelet_options`` or ``fake_cluster_options``: the arguments of the class. A server starts in
some tens of milliseconds, on free ports, with an authority and files of its own, so tests may run in parallel (xdist).
It lives as long as one test, or as the ini option ``kubewire_scope`` says.

Nothing heavy is imported before a fixture is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import pytest

if TYPE_CHECKING:
    from fakekubelet import FakeCluster, FakeKubelet

_SCOPES = ("function", "class", "module", "package", "session")
Scope = Literal["function", "class", "module", "package", "session"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """The ini option."""
    words = ", ".join(_SCOPES)
    parser.addini("kubewire_scope", f"how long fake_kubelet and fake_cluster live: {words}", default="function")


def pytest_configure(config: pytest.Config) -> None:
    """Refuses a scope that is none."""
    chosen = config.getini("kubewire_scope")
    if chosen not in _SCOPES:
        raise pytest.UsageError(f"kubewire_scope: expected one of {', '.join(_SCOPES)}, got {chosen!r}")


def _scope(fixture_name: str, config: pytest.Config) -> Scope:
    scope: Scope = config.getini("kubewire_scope")
    return scope


@pytest.fixture(scope=_scope)
def fake_kubelet_options() -> dict[str, Any]:
    """Arguments of ``fakekubelet.FakeKubelet``; override it where ``fake_kubelet`` shall be another."""
    return {}


@pytest.fixture(scope=_scope)
def fake_cluster_options() -> dict[str, Any]:
    """Arguments of ``fakekubelet.FakeCluster``; override it where ``fake_cluster`` shall be another."""
    return {}


@pytest.fixture(scope=_scope)
def fake_kubelet(fake_kubelet_options: dict[str, Any]) -> Iterator[FakeKubelet]:
    """A kubelet: ``url``, ``ca``, ``credentials()``, ``pods``, ``executions``. What it failed at fails the test."""
    from fakekubelet import FakeKubelet

    with FakeKubelet(**fake_kubelet_options) as kubelet:
        yield kubelet


@pytest.fixture(scope=_scope)
def fake_cluster(fake_cluster_options: dict[str, Any]) -> Iterator[FakeCluster]:
    """An apiserver with kubelets behind it: ``kubeconfig``, ``url``, ``credentials()``, ``store``, ``kubelets`` ..."""
    from fakekubelet import FakeCluster

    with FakeCluster(**fake_cluster_options) as cluster:
        yield cluster
