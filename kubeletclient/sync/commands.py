"""Commands in a container: what ``Pod.run``, ``Pod.popen`` and ``Pod.attach`` do."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from kubeletclient._door import Ask, PodRef, Way, attach_ask, exec_ask
from kubeletclient._plan import Plan
from kubeletclient._policy import Deadline
from kubeletclient.endpoints import Target
from kubeletclient.results import Completed
from kubeletclient.sync.door import Client
from kubeletclient.sync.process import Process, open_process

__all__ = ["Call", "attach", "popen", "run"]


@dataclass(frozen=True, slots=True)
class Call:
    """Where, and the checked arguments."""

    client: Client
    pod: PodRef
    container: str | None
    plan: Plan
    deadline: Deadline
    capture_limit: int


def popen(call: Call, words: Sequence[str]) -> Process:
    """Start a command."""
    return _start(call, exec_ask(words, call.plan.streams), words)


def attach(call: Call) -> Process:
    """Attach to the main process."""
    return _start(call, attach_ask(call.plan.streams), None)


def run(call: Call, words: Sequence[str], *, check: bool) -> Completed[bytes] | Completed[str]:
    """Run a command to its end."""
    began = time.monotonic()
    with popen(call, words) as process:
        returncode = process.wait()
    done = Completed.of(process, returncode, call.plan.captured(), call.plan.decode, time.monotonic() - began)
    if check:
        done.check_returncode()
    return done


def _start(call: Call, ask: Ask, words: Sequence[str] | None) -> Process:
    def opener(way: Way, target: Target) -> Process:
        request = way.settings.request(target, call.plan)
        return open_process(request, call.plan, words or (target.shown,), call.deadline, call.capture_limit)

    return call.client._reach(call.pod, call.container, ask, opener, call.deadline)
