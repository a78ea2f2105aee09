"""The local terminal of a remote one: raw while the session lives, itself again afterwards, and its size told.

In raw mode every key goes to the remote side, Ctrl-C included, so leaving must never depend on one: the mode is
restored when the block ends, whatever ends it, and on SIGTERM and SIGHUP, which would otherwise leave a terminal that
echoes nothing. (SIGKILL cannot be caught; ``stty sane`` repairs what it leaves.)
"""

from __future__ import annotations

import os
import signal
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_DEADLY = (signal.SIGTERM, signal.SIGHUP)
_LARGEST = 65535  # what a size is on the wire


def is_terminal(descriptor: int) -> bool:
    """Whether ``descriptor`` is a terminal; a closed one is none."""
    try:
        return os.isatty(descriptor)
    except OSError:
        return False


def size_of(descriptor: int) -> tuple[int, int] | None:
    """Width and height in characters, or None where there is no terminal or it does not know."""
    try:
        size = os.get_terminal_size(descriptor)
    except OSError:
        return None
    return (size.columns, size.lines) if size.columns and size.lines else None


@contextmanager
def raw_mode(descriptor: int) -> Iterator[None]:
    """Raw mode while the block runs. SIGTERM and SIGHUP end the block with ``SystemExit`` (128 + the signal)."""
    before = termios.tcgetattr(descriptor)

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    handlers: dict[int, Any] = {number: signal.signal(number, leave) for number in _DEADLY}
    try:
        tty.setraw(descriptor, termios.TCSAFLUSH)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        sys.stdout.flush()


@contextmanager
def following_size(descriptor: int, tell: Callable[[int, int], None], *, redraw: bool = False) -> Iterator[None]:
    """Calls ``tell(width, height)`` now and after every SIGWINCH while the block runs.

    With ``redraw`` the first size is told twice, one larger first: a program that runs already draws its screen anew
    only when the size changes (``kubectl: pkg/cmd/attach/attach.go``).

    A signal handler may interrupt the very code that ``tell`` needs, so it only wakes a thread, which does the telling.
    """
    changed = threading.Event()
    over = threading.Event()

    def follow() -> None:
        first = redraw
        while changed.wait() and not over.is_set():
            changed.clear()
            size = size_of(descriptor)
            if size is None:
                continue
            if first:
                first = False
                tell(min(size[0] + 1, _LARGEST), min(size[1] + 1, _LARGEST))
            tell(*size)

    previous = signal.signal(signal.SIGWINCH, lambda _number, _frame: changed.set())
    thread = threading.Thread(target=follow, name="kubewire-size", daemon=True)
    changed.set()
    thread.start()
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, previous)
        over.set()
        changed.set()
        thread.join()
