"""Commands in a container: what ``Pod.run``, ``Pod.popen`` and ``Pod.attach`` do."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kubeletclient._door import Ask, PodRef, Way, attach_ask, exec_ask
from kubeletclient._plan import Plan
from kubeletclient._policy import DEVNULL, Deadline
from kubeletclient.aio.background import is_async_input
from kubeletclient.aio.door import Client
from kubeletclient.aio.process import Process, Targets, open_process
from kubeletclient.endpoints import Target
from kubeletclient.results import Completed

__all__ = ["Call", "attach", "popen", "run", "to_plan"]


@dataclass(frozen=True, slots=True)
class Call:
    """Where, and the checked arguments; ``targets`` is what the plan was made from."""

    client: Client
    pod: PodRef
    container: str | None
    plan: Plan
    targets: Targets
    deadline: Deadline
    capture_limit: int


async def popen(call: Call, words: Sequence[str]) -> Process:
    """Start a command."""
    return await _start(call, exec_ask(words, call.plan.streams), words)


async def attach(call: Call) -> Process:
    """Attach to the main process."""
    return await _start(call, attach_ask(call.plan.streams), None)


async def run(call: Call, words: Sequence[str], *, check: bool) -> Completed[bytes] | Completed[str]:
    """Run a command to its end."""
    began = time.monotonic()
    process = await popen(call, words)
    try:
        returncode = await process.wait()
    finally:
        await process.close()
    done = Completed.of(process, returncode, call.plan.captured(), call.plan.decode, time.monotonic() - began)
    if check:
        done.check_returncode()
    return done


async def _start(call: Call, ask: Ask, words: Sequence[str] | None) -> Process:
    async def opener(way: Way, target: Target) -> Process:
        request = way.settings.request(target, call.plan)
        args = words or (target.shown,)
        return await open_process(request, call.plan, call.targets, args, call.deadline, call.capture_limit)

    return await call.client._reach(call.pod, call.container, ask, opener, call.deadline)


def to_plan(given: Any) -> Any:  # noqa: ANN401 - one type in, the same out
    """What the shared checks make of stdin: one that is awaited looks to them like one that ends at once."""
    return DEVNULL if is_async_input(given) else given
