"""``kubewire cp``: copy files into, out of and between containers."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any, Final

import click

from kubewire.connection import Connection, connection_options, take_connection
from kubewire.exec import UNKNOWN, WRONG_USAGE, report_failure
from kubewire.live import completer
from kubewire.progress import Display

if TYPE_CHECKING:
    from kubeletclient import Pod
    from kubeletclient.copy.report import CopyReport
    from kubeletclient.copy.specs import Spec

FAILED: Final = 1
"""The exit code when the copy itself failed; nothing under a final name is incomplete then."""

_LINKS: Final = ("keep", "safe", "skip", "follow")


@click.command("cp")
@click.argument("paths", nargs=-1, metavar="SOURCE... TARGET", type=click.UNPROCESSED)
@click.option(
    "-n",
    "--namespace",
    metavar="NS",
    shell_complete=completer("namespace"),
    help="Namespace of the pods.  [default: default]",
)
@click.option("-c", "--container", metavar="NAME", help="Container of the pods.")
@click.option("--verify", default="auto", show_default=True, metavar="DIGEST",
              help="auto (the cheapest both sides have), cksum, sha256, sha512, sha1, md5, none.")  # fmt: skip
@click.option("--no-preserve", is_flag=True, help="Do not keep modes and times.")
@click.option("--owners", is_flag=True, help="Keep user and group numbers; needs root.")
@click.option("--links", type=click.Choice(_LINKS), default="keep", show_default=True,
              help="Symbolic links: keep them all, the safe ones (inside the tree), skip or follow them.")  # fmt: skip
@click.option("--exclude", multiple=True, metavar="PATTERN", help="Leave out what matches; may be repeated.")
@click.option("--include", multiple=True, metavar="PATTERN", help="Copy what matches even if it is excluded.")
@click.option("--strategy", type=click.Choice(("auto", "tar", "files", "compat")), default="auto", show_default=True,
              help="files: one command for each file, without tar; compat: as kubectl cp, unverified.")  # fmt: skip
@click.option("--compat", is_flag=True, help="The same as --strategy=compat.")
@click.option("--resume", is_flag=True, help="Go on from what an interrupted copy left.")
@click.option("--retries", type=click.IntRange(min=0), default=3, show_default=True, help="Further attempts.")
@click.option("--parallel", type=click.IntRange(1, 32), default=2, show_default=True, help="Connections at once.")
@click.option("--compress", "compression", type=click.Choice(("gzip", "zstd")), help="Compress on the way.")
@click.option("--helper", metavar="FILE", help="A static busybox here that may be lent to the container.")
@click.option("--dry-run", is_flag=True, help="Say what would be copied, and change nothing.")
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS",
              help="Bound for each command of the copy.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="JSON lines about progress and outcome on stderr.")
@click.option("-q", "--quiet", is_flag=True, help="Nothing but errors.")
@connection_options
def cp_command(**values: Any) -> None:  # noqa: ANN401 - click hands over what the options above declare
    """Copy files into, out of and between containers; the last path is the target.

    \b
    A path is [NS/]POD:PATH, pod://NS/POD/CONTAINER/PATH, a local path (./a:b if it holds a colon), or - for
    standard input or output. As cp -r: a directory as target takes the sources below it.

    \b
    kubewire cp --kubelet https://10.0.0.1:10250 ... ./site default/web:/srv
    kubewire cp ... 'default/web:/var/log/*.log' ./logs
    kubewire cp ... default/db:/backup/today.dump - | gunzip
    """
    connection = take_connection(values)
    sys.exit(_run(_Request(connection, **values)))


class _Request:
    """The checked arguments of one call."""

    def __init__(
        self,
        connection: Connection,
        *,
        paths: tuple[str, ...],
        namespace: str | None,
        container: str | None,
        no_preserve: bool,
        owners: bool,
        compat: bool,
        links: str,
        as_json: bool,
        quiet: bool,
        **choices: Any,  # noqa: ANN401 - the other fields of CopyOptions
    ) -> None:
        from kubeletclient.copy.entries import Preserve
        from kubeletclient.copy.errors import BadPath
        from kubeletclient.copy.specs import parse_spec

        if len(paths) < 2:
            raise click.UsageError("name at least one source, and the target")
        self.connection = connection
        self.as_json, self.quiet = as_json, quiet
        self.namespace, self.container = namespace, container
        preserve = Preserve(not no_preserve, not no_preserve, owners, links)
        self.choices = {**choices, "preserve": preserve}
        if compat:
            if choices["strategy"] not in ("auto", "compat"):
                raise click.UsageError("--compat and --strategy contradict one another")
            self.choices["strategy"] = "compat"
        try:
            self.sources: list[Spec] = [parse_spec(path) for path in paths[:-1]]
            self.target: Spec = parse_spec(paths[-1])
        except BadPath as error:
            raise click.UsageError(str(error)) from None
        self._check()

    def _check(self) -> None:
        pods = {(spec.namespace, spec.pod, spec.container) for spec in self.sources}
        if len(pods) > 1:
            raise click.UsageError("the sources are in different places: copy from one pod at a time")
        if self.sources[0].pod is None and self.target.pod is None:
            raise click.UsageError("neither side is in a pod: write it as [NS/]POD:PATH (a local path as ./NAME)")
        if len(self.sources) > 1 and (self.target.is_stream or any(spec.is_stream for spec in self.sources)):
            raise click.UsageError("- stands for one file: give one source with it")
        if len(self.sources) > 1 and self.sources[0].pod and self.target.pod:
            raise click.UsageError("between containers one source at a time")


def _run(request: _Request) -> int:
    from kubeletclient import ClientError
    from kubeletclient.copy.errors import BadPath, CopyError

    stream_out = request.target.is_stream
    with Display(_label(request), as_json=request.as_json, quiet=request.quiet) as display:
        try:
            report = _copy(request, display)
        except ClientError as error:
            display.close()
            leftover = getattr(getattr(error, "report", None), "leftover", None)
            report_failure(error, as_json=request.as_json)
            if leftover and not request.as_json:
                click.echo(f"kubewire: {leftover} keeps what had come; go on with --resume", err=True)
            if isinstance(error, BadPath):
                return WRONG_USAGE
            return FAILED if isinstance(error, CopyError) else UNKNOWN
        except KeyboardInterrupt:
            display.close()
            click.echo("kubewire: interrupted; what had come is kept: go on with --resume", err=True)
            return 128 + 2
        except BrokenPipeError:
            return 128 + 13
        except (ValueError, OSError) as error:
            display.close()
            report_failure(error, as_json=request.as_json)
            return WRONG_USAGE if isinstance(error, ValueError) else UNKNOWN
    _summary(report, request, stream_out)
    return 0


def _copy(request: _Request, display: Display) -> CopyReport:
    choices: Any = request.choices
    first, target = request.sources[0], request.target
    if first.pod and target.pod:
        source, other = _pod(request, first), _pod(request, target)
        return source.copy_to(
            first.path,
            other,
            target.path,
            container=first.container or request.container,
            other_container=target.container or request.container,
            progress=display.update,
            **choices,
        )
    if target.pod:
        sources: Any = sys.stdin.buffer if first.is_stream else [spec.path for spec in request.sources]
        pod, container = _pod(request, target), target.container or request.container
        return pod.copy_in(sources, target.path, container=container, progress=display.update, **choices)
    pod, container = _pod(request, first), first.container or request.container
    where: Any = sys.stdout.buffer if target.is_stream else target.path
    paths = [spec.path for spec in request.sources]
    return pod.copy_out(paths, where, container=container, progress=display.update, **choices)


def _pod(request: _Request, spec: Spec) -> Pod:
    assert spec.pod is not None
    name = spec.pod if spec.namespace is None else f"{spec.namespace}/{spec.pod}"
    return request.connection.open_pod(name, None if spec.namespace else request.namespace)


def _label(request: _Request) -> str:
    spec = request.sources[0]
    name = os.path.basename(os.fsdecode(spec.path).rstrip("/")) or os.fsdecode(spec.path)
    return name if len(request.sources) == 1 else f"{len(request.sources)} sources"


def _summary(report: CopyReport, request: _Request, stream_out: bool) -> None:
    if request.as_json:
        click.echo(json.dumps({"event": "done", **report.to_dict()}), err=True)
        return
    if request.quiet:
        return
    for name, reason in report.skipped[:20]:
        click.echo(f"kubewire: left out {name!r}: {reason}", err=True)
    if report.skipped_count > 20:
        click.echo(f"kubewire: and {report.skipped_count - 20} more were left out", err=True)
    counted = [f"{report.files} file{'s' * (report.files != 1)}"]
    if report.directories:
        counted.append(f"{report.directories} director{'ies' if report.directories != 1 else 'y'}")
    if report.links:
        counted.append(f"{report.links} link{'s' * (report.links != 1)}")
    if report.dry_run:
        click.echo(f"kubewire: would copy {size(report.bytes)} in {', '.join(counted)}", err=True)
        return
    checked = (
        f"verified by {report.verification} in {report.verify_seconds:.2f} s"
        if report.verification not in ("none", "sizes")
        else "sizes compared, contents not verified" if report.verification == "sizes" else "NOT verified"
    )  # fmt: skip
    parts = [
        f"{size(report.bytes)} in {', '.join(counted)}",
        f"{report.transfer_seconds:.2f} s ({size(report.rate)}/s)",
        checked,
        f"{report.strategy}{' with ' + report.compression if report.compression else ''}",
        f"by the {report.route}",
    ]
    if report.resumed_bytes:
        parts.append(f"{size(report.resumed_bytes)} were there already")
    if report.retries:
        parts.append(f"{report.retries} further attempt{'s' * (report.retries != 1)}")
    click.echo(f"kubewire: copied {'; '.join(parts)}", err=True)


def size(count: float) -> str:
    """Bytes as people read them, in powers of 1024."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
