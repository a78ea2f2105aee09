"""What several commands print: plain columns, ages, and one way to end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, NoReturn

import click

from kubewire.exec import UNKNOWN, WRONG_USAGE, silence_stdout


def columns(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table as kubectl prints them: left-aligned, three blanks between."""
    table = [list(heads), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(heads))]
    lines = ("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table)
    return "\n".join(lines)


def age(since: str) -> str:
    """How long ago this time of RFC 3339 was, as kubectl says it; ``<unknown>`` for none."""
    try:
        seconds = int(time.time() - datetime.fromisoformat(since).timestamp())
    except ValueError:
        return "<unknown>"
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{max(0, seconds)}s"


def size(count: float) -> str:
    """Bytes in binary units."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def finish(run: Callable[..., int], *arguments: Any, failed: int = UNKNOWN, **options: Any) -> NoReturn:  # noqa: ANN401 - handed on
    """Run a command and exit with its code; an error is one line on stderr, and ``failed`` the code then."""
    from kubeletclient import ClientError

    try:
        code = run(*arguments, **options)
        sys.stdout.flush()
    except ClientError as error:
        click.echo(f"kubewire: {error}", err=True)
        code = failed
    except BrokenPipeError:
        silence_stdout()
        code = 128 + 13
    except KeyboardInterrupt:
        code = 128 + 2
    except (ValueError, OSError) as error:
        click.echo(f"kubewire: {error}", err=True)
        code = WRONG_USAGE if isinstance(error, ValueError) else failed
    sys.exit(code)
