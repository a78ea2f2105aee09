"""Where the peers are required, an interop test cannot be skipped; elsewhere it can, and other skips always can."""

from __future__ import annotations

from pathlib import Path

import pytest

CONFTEST = Path(__file__).with_name("conftest.py")

TESTS = """
    import pytest

    @pytest.mark.interop
    def test_judged():
        pytest.skip("no go on this machine")

    def test_other():
        pytest.skip("needs another system")

    @pytest.mark.interop
    @pytest.mark.xfail(reason="the peer is wrong here", strict=True)
    def test_known():
        assert False
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeconftest(CONFTEST.read_text())
    pytester.makeini("[pytest]\nmarkers = interop: judged\nasyncio_default_fixture_loop_scope = function\n")
    pytester.makepyfile(TESTS)
    return pytester


@pytest.mark.parametrize("value", ["", "0", None])
def test_missing_peer_is_a_skip_on_a_newcomers_machine(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.delenv("KUBEWIRE_REQUIRE_PEERS", raising=False)
    if value is not None:
        monkeypatch.setenv("KUBEWIRE_REQUIRE_PEERS", value)
    result = project.runpytest_inprocess("-rs")
    result.assert_outcomes(skipped=2, xfailed=1)
    result.stdout.fnmatch_lines(["*no go on this machine*"])


def test_missing_peer_is_a_failure_where_required(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBEWIRE_REQUIRE_PEERS", "1")
    result = project.runpytest_inprocess()
    result.assert_outcomes(skipped=1, failed=1, xfailed=1)
    result.stdout.fnmatch_lines(["*KUBEWIRE_REQUIRE_PEERS is set*no go on this machine*"])
