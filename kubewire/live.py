"""Completers that cost nothing until a shell asks: each imports ``completion`` when it is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["completer"]


def completer(what: str) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """The completer of ``pod``, ``container``, ``namespace``, ``node`` or ``context``, as ``shell_complete=`` takes
    it."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from kubewire import completion

        find: Any = getattr(completion, f"complete_{what}")
        found: list[CompletionItem] = find(ctx, param, incomplete)
        return found

    return complete
