"""Programs of the machine that judge: a missing one is a skip on a newcomer's machine, and a failure in CI."""

from __future__ import annotations

import os
import shutil

import pytest


def require_program(name: str) -> str:
    """The path of a program, which a Debian package of ``.ci/run`` brings."""
    found = shutil.which(name)
    if found is not None:
        return found
    if os.environ.get("KUBEWIRE_REQUIRE_PEERS", "") not in ("", "0"):
        pytest.fail(f"KUBEWIRE_REQUIRE_PEERS is set, but there is no {name} here", pytrace=False)
    pytest.skip(f"there is no {name} on this machine")
