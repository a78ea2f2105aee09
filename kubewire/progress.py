"""What a person sees of a long copy: a bar on a terminal, a line for each phase elsewhere, JSON lines on request."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import click

from spdyproto.text import printable

if TYPE_CHECKING:
    from kubeletclient.copy.report import Progress

_VERBS: Final = {"scan": "looking", "transfer": "copying", "verify": "verifying", "place": "moving into place"}


class Display:
    """Shows ``Progress``; a context manager. ``rich`` is imported only when a bar is drawn."""

    def __init__(self, label: str, *, as_json: bool, quiet: bool) -> None:
        self._label = printable(label, limit=40)
        self._json = as_json
        self._quiet = quiet
        self._phase = ""
        self._bar: Any = None
        self._task: Any = None
        self._draws = not as_json and not quiet and sys.stderr.isatty()

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the bar; closing twice is allowed."""
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.stop()

    def update(self, progress: Progress) -> None:
        """Show it."""
        if self._json:
            click.echo(json.dumps({"event": "progress", **asdict(progress)}), err=True)
        elif progress.phase == "retry":
            self.close()
            click.echo(f"kubewire: attempt {progress.files} follows: {progress.reason}", err=True)
        elif self._draws:
            self._draw(progress)
        elif not self._quiet and progress.phase != self._phase and progress.phase in ("transfer", "verify"):
            files = f" {progress.total_files} files" if progress.total_files is not None else ""
            click.echo(f"kubewire: {_VERBS[progress.phase]} {self._label}:{files}", err=True)
        self._phase = progress.phase

    def _draw(self, progress: Progress) -> None:
        if self._bar is None:
            self._bar = _new_bar()
            self._task = self._bar.add_task("", total=None, files="")
            self._bar.start()
        files = f"{progress.files}" + (f"/{progress.total_files}" if progress.total_files is not None else "")
        self._bar.update(
            self._task,
            description=f"{_VERBS.get(progress.phase, progress.phase)} {self._label}",
            total=progress.total_bytes,
            completed=progress.bytes,
            files=f"{files} files" if progress.total_files != 1 else "",
        )


def _new_bar() -> Any:  # noqa: ANN401 - rich.progress.Progress
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TextColumn("{task.fields[files]}", markup=False),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
