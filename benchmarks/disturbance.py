"""How much of the machine's processor time went to others while something was measured.

On a machine that has other work to do, a sample is worth little: the other work takes the core away, and what it leaves
behind in the caches costs more still. Linux tells how busy all cores were together. What neither the measured processes
nor this one used was somebody else's, and a sample with more than a little of it is taken again.
"""

from __future__ import annotations

import os
import resource
import time
from typing import Final, Self

SHARE: Final = 0.10
"""Of one core, from which on a sample counts as disturbed."""

_LOOK: Final = 0.1
_TICK: Final = 1 / os.sysconf("SC_CLK_TCK")


def busy() -> float | None:
    """Processor seconds of all cores since the system started; None where the system does not tell."""
    try:
        with open("/proc/stat") as file:
            fields = file.readline().split()
    except OSError:
        return None
    user, nice, system, _, _, _, _, steal = map(int, fields[1:9])
    return (user + nice + system + steal) * _TICK


def await_calm(seconds: float) -> None:
    """Wait until others leave the machine alone for a moment, but no longer than ``seconds``."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        before = busy()
        time.sleep(_LOOK)
        after = busy()
        if before is None or after is None or after - before <= SHARE * _LOOK + 2 * _TICK:
            return


class Watch:
    """What others used between ``start`` and ``foreign``, this process and its ended children left out."""

    @classmethod
    def start(cls) -> Self:
        """Look at the clock."""
        watch = cls()
        watch._began = time.monotonic()
        watch._busy = busy()
        watch._ours = _ours()
        return watch

    def __init__(self) -> None:
        self._began = 0.0
        self._busy: float | None = None
        self._ours = 0.0

    def foreign(self, peer: float) -> float:
        """Of one core, the share that went to others; ``peer`` are the seconds that the measured peer used. 0 where the
        system does not tell."""
        now = busy()
        if self._busy is None or now is None:
            return 0.0
        others = now - self._busy - (_ours() - self._ours) - peer - 2 * _TICK
        return max(0.0, others) / max(_TICK, time.monotonic() - self._began)


def _ours() -> float:
    total = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        used = resource.getrusage(who)
        total += used.ru_utime + used.ru_stime
    return total
