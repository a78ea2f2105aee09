"""What holds for every test: no skip where the peers are required, and reproducible property tests."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

# Helpers whose assertions explain themselves. Named before anything imports them, so here and only here.
for _helper in ("contract", "lines", "wscontract"):
    pytest.register_assert_rewrite(f"support.{_helper}")

# A shared, busy machine makes single examples slow at random, so time is bounded per test (pytest-timeout), not per
# example. `thorough` is for long runs: HYPOTHESIS_PROFILE=thorough make test.
_COMMON = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("default", _COMMON, print_blob=True)
settings.register_profile("thorough", _COMMON, max_examples=2000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

PEERS_REQUIRED = os.environ.get("KUBEWIRE_REQUIRE_PEERS", "") not in ("", "0")


def _fail_instead(report: pytest.TestReport) -> None:
    """Turn the skip of an interop test into a failure, with the reason of the skip as its text."""
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    report.outcome = "failed"
    report.longrepr = f"KUBEWIRE_REQUIRE_PEERS is set, so this test must run, but it was skipped: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where real peers are required, a judge that did not sit is not a verdict."""
    report = yield
    if PEERS_REQUIRED and report.skipped and not hasattr(report, "wasxfail") and item.get_closest_marker("interop"):
        _fail_instead(report)
    return report
