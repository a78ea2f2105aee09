"""Whatever a test did: no descriptor and no thread is left behind."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterator

import pytest

PATIENCE = 5.0


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    gc.collect()
    threads = threading.active_count()
    descriptors = _descriptors()
    yield
    gc.collect()
    deadline = time.monotonic() + PATIENCE  # for the other end, which may live in this process, to notice
    while (threading.active_count() > threads or _descriptors() > descriptors) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= threads
    assert _descriptors() <= descriptors


def _descriptors() -> int:
    return len(os.listdir("/dev/fd"))
