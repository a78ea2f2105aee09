"""The fixtures that every pytest run has where kubewire is installed, and the example of their documentation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs" / "fake-cluster.md"


def example() -> str:
    found = re.search(r"<!-- tested: .*? -->\n```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def test_the_documented_example_is_short() -> None:
    lines = [line for line in example().splitlines() if line.strip()]
    assert len(lines) <= 10


def test_the_documented_example_passes(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(example())
    pytester.runpytest_subprocess("-q").assert_outcomes(passed=1)


def test_it_runs_in_parallel(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("number", range(8))
        def test_each_has_its_own(number, fake_cluster, fake_kubelet):
            assert fake_cluster.url != fake_kubelet.url
            assert fake_cluster.kubelets["node-1"].executions == fake_kubelet.executions == []
        """
    )
    pytester.runpytest_subprocess("-q", "-n", "2").assert_outcomes(passed=8)


def test_options_and_scope(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nkubewire_scope = module\n")
    pytester.makepyfile(
        """
        import pytest
        from fakekubelet import Pod

        urls = set()

        @pytest.fixture(scope="module")
        def fake_cluster_options():
            return {"nodes": 2, "profile": "1.31"}

        @pytest.fixture(scope="module")
        def fake_kubelet_options():
            return {"pods": [Pod("shop/web")]}

        @pytest.mark.parametrize("number", range(2))
        def test_shared(number, fake_cluster, fake_kubelet):
            assert list(fake_cluster.kubelets) == ["node-1", "node-2"]
            assert [pod.name for pod in fake_kubelet.pods] == ["shop/web"]
            urls.add(fake_cluster.url)
            assert len(urls) == 1
        """
    )
    pytester.runpytest_subprocess("-q").assert_outcomes(passed=2)


def test_a_scope_that_is_none(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nkubewire_scope = forever\n")
    pytester.makepyfile("def test_it(fake_cluster): pass")
    done = pytester.runpytest_subprocess("-q")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["*kubewire_scope: expected one of function*"])


def test_nothing_heavy_is_imported_before_it_is_used(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_it():
            assert "kubewire.pytest_plugin" in sys.modules
            assert not {"fakekubelet", "kubeletclient", "cryptography", "httpx", "click"} & set(sys.modules)
        """
    )
    pytester.runpytest_subprocess("-q", "-p", "no:hypothesispytest").assert_outcomes(passed=1)
