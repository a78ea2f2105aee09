"""The public names: complete, sorted, and loaded only when used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import kubeletclient
from kubeletclient import errors

SOURCE = Path(kubeletclient.__file__)


def test_every_name_is_there() -> None:
    assert all(getattr(kubeletclient, name) is not None for name in kubeletclient.__all__)
    assert set(kubeletclient.__all__) <= set(dir(kubeletclient))


def test_names_for_type_checkers_are_the_names_at_run_time() -> None:
    tree = ast.parse(SOURCE.read_text())
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    homes = {
        alias.name: node.module for node in guarded.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert sorted(homes) == sorted(kubeletclient.__all__)
    assert all(kubeletclient._HOMES.get(name, "kubeletclient.errors") == home for name, home in homes.items())


def test_every_error_is_public() -> None:
    assert set(errors.__all__) <= set(kubeletclient.__all__)


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Kubelets'"):
        kubeletclient.Kubelets  # noqa: B018 - the look itself is tested


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import kubeletclient", ["kubeletclient.sync", "kubeletclient._flows", "ssl", "asyncio", "httpx", "h11"]),
        ("from kubeletclient import Kubelet", ["asyncio", "httpx", "h2", "cryptography", "kubeletclient.aio"]),
    ],
)
def test_nothing_is_loaded_before_it_is_needed(statement: str, absent: list[str]) -> None:
    code = f"import sys; {statement}; print([name for name in {absent!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=SOURCE.parents[1]
    )
    assert done.stdout.strip() == "[]"
