"""``kubewire logs``: what containers wrote, straight from the kubelet or through the apiserver."""

from __future__ import annotations

import re
import sys
import threading
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import click

from kubewire.connection import (
    Connection,
    connection_options,
    namespace_option,
    optional_pod_argument,
    split_pod,
    take_connection,
)
from kubewire.live import completer
from kubewire.reports import finish

if TYPE_CHECKING:
    from kubeletclient import Cluster, Kubelet, Pod

_UNITS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_TAIL_OF_A_SELECTOR: Final = 10


def duration(text: str) -> float:
    """Seconds of a duration as Go writes it: ``1h30m``, ``90s``, ``1.5h``. Raises ValueError."""
    parts = re.findall(r"(\d+(?:\.\d*)?|\.\d+)(h|ms|us|µs|ns|m|s)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is no duration: expected e.g. 90s, 5m or 1h30m")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


@dataclass(frozen=True, slots=True)
class _Source:
    """One container's log."""

    pod: Pod
    container: str | None
    name: str = ""

    def prefix(self) -> bytes:
        return f"[pod/{self.name}/{self.container}] ".encode()


@click.command("logs")
@optional_pod_argument
@click.argument("container", required=False, metavar="[CONTAINER]")
@namespace_option
@click.option(
    "-c", "--container", "named", metavar="NAME", shell_complete=completer("container"), help="Container of the pod."
)
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written from now on.")
@click.option("-p", "--previous", is_flag=True, help="Of the container's instance before this one.")
@click.option("--since", metavar="DURATION", help="Not older than this, e.g. 90s, 5m, 1h30m.")
@click.option("--since-time", metavar="TIME", help="Not older than this time of RFC 3339.")
@click.option("--tail", type=int, metavar="N", help="The last N lines; -1 for all.  [default: -1; with -l: 10]")
@click.option("--timestamps", is_flag=True, help="Begin each line with the time at which it was written.")
@click.option("--limit-bytes", type=click.IntRange(min=0), metavar="N", help="At most N bytes of each log; 0 for all.")
@click.option("--all-containers", is_flag=True, help="Of all containers of the pod, init and ephemeral ones too.")
@click.option("--all-pods", is_flag=True, help="Of all pods of the object, each line with its prefix.")
@click.option("-l", "--selector", metavar="LABELS", help="Of all pods with these labels.")
@click.option("--prefix", is_flag=True, help="Begin each line with pod and container.")
@click.option(
    "--max-log-requests",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    metavar="N",
    help="With -f: how many logs may be followed at the same time.",
)
@click.option("--ignore-errors", is_flag=True, help="Go on with the other logs when one fails.")
@click.option(
    "--reconnect",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="With -f: how long to try again after the connection broke.",
)
@click.option("-v", "--verbose", count=True, help="Which way each log was read, on stderr.")
@connection_options
def logs_command(**values: Any) -> None:  # noqa: ANN401 - click hands over what the options above declare
    """Print the logs of containers.

    \b
    kubewire logs -f deploy/web -c app
    kubewire logs -l app=web --all-containers --prefix --since 10m

    A log that is followed is gone on with when the connection breaks, without losing or repeating a line; where that
    is not possible, it ends with an error. Exit code 0 means that every log came whole; 1 that one did not.
    """
    finish(_run, take_connection(values), failed=1, **values)


def _run(connection: Connection, **values: Any) -> int:  # noqa: ANN401 - see logs_command
    verbose, ignore, most = values.pop("verbose"), values.pop("ignore_errors"), values.pop("max_log_requests")
    options = _options(values)
    client = connection.open()
    try:
        sources = _sources(client, values)
        many = len(sources) > 1 or values["all_pods"]
        prefix = values["prefix"] or values["all_pods"]
        if options["follow"] and many:
            if len(sources) > most:
                raise click.UsageError(
                    f"this would follow {len(sources)} logs at the same time, and the limit is {most}: raise it with "
                    f"--max-log-requests={len(sources)}"
                )
            return _Together(sources, options, prefix, ignore, verbose).run()
        failed = [source for source in sources if not _print(source, options, prefix, ignore, verbose)]
        return 1 if failed and not ignore else 0
    finally:
        client.close()


def _options(values: dict[str, Any]) -> dict[str, Any]:
    """The arguments of ``Pod.logs``; raises ``click.UsageError`` for options that do not fit together."""
    if (values["pod"] is None) == (values["selector"] is None):
        raise click.UsageError("name the pod, or choose pods with --selector, and not both")
    if values["container"] and values["named"]:
        raise click.UsageError("the container is named twice")
    if values["all_containers"] and (values["container"] or values["named"]):
        raise click.UsageError("--all-containers leaves no container to name")
    if values["since"] and values["since_time"]:
        raise click.UsageError("give --since or --since-time, and not both")
    if values["previous"] and values["follow"]:
        raise click.UsageError("nothing more is written to --previous: leave --follow out")
    since: float | datetime | None = None
    try:
        if values["since"]:
            since = duration(values["since"])
        elif values["since_time"]:
            since = datetime.fromisoformat(values["since_time"])
            if since.tzinfo is None:
                raise ValueError("a time of RFC 3339 has a zone, as in 2026-01-01T00:00:00Z")
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    tail = values["tail"]
    if tail is None and values["selector"] is not None:
        tail = _TAIL_OF_A_SELECTOR
    return {
        "follow": values["follow"],
        "previous": values["previous"],
        "since": since,
        "tail": None if tail is None or tail < 0 else tail,
        "timestamps": values["timestamps"],
        "limit_bytes": values["limit_bytes"] or None,
        "reconnect": values["reconnect"],
    }


def _sources(client: Kubelet | Cluster, values: dict[str, Any]) -> list[_Source]:
    from kubeletclient import Cluster

    container = values["container"] or values["named"]
    if values["selector"] is None:
        namespace, name = split_pod(values["pod"], values["namespace"])
        if isinstance(client, Cluster):
            if values["all_pods"]:
                pods = client.pods(name if "/" in name else f"pod/{name}", namespace)
            else:
                pods = [client.pod(name, namespace)]
        elif "/" in name or values["all_pods"]:
            raise click.UsageError(f"a kubelet knows pods by their own names: {name!r} needs a cluster")
        else:
            pods = [client.pod(name, namespace or "default")]
    elif isinstance(client, Cluster):
        pods = client.pods(values["selector"], values["namespace"])
        if not pods:
            where = values["namespace"] or client.namespace
            click.echo(f"kubewire: no pods with the labels {values['selector']} in namespace {where}", err=True)
    else:
        raise click.UsageError("--selector needs a cluster, and --kubelet names one node")
    named = values["all_containers"] or values["prefix"] or values["all_pods"]
    if not named:
        return [_Source(pod, container) for pod in pods]
    sources = []
    for pod in pods:
        found = pod.facts()
        if isinstance(client, Cluster):
            pod = client.pod(found.name, found.namespace, uid=found.uid)  # of an object: this one from now on
        chosen = found.all_containers if values["all_containers"] else (found.choose(container, "kubelet"),)
        sources += [_Source(pod, name, found.name) for name in chosen]
    return sources


_PRINTING: Final = threading.Lock()


def _print(source: _Source, options: dict[str, Any], prefix: bool, ignore: bool, verbose: int) -> bool:
    """One log, line by line; False if it did not come whole, which was told then."""
    from kubeletclient import ClientError

    begin = source.prefix() if prefix else b""
    out = sys.stdout.buffer
    try:
        with source.pod.logs(container=source.container, **options) as log:
            if verbose:
                where = "straight from the kubelet" if log.route == "kubelet" else "through the apiserver"
                because = f": {log.route_reason}" if log.route_reason else ""
                click.echo(f"kubewire: {source.pod.name}: {where}{because}", err=True)
            for line in log:
                with _PRINTING:
                    out.write(begin + line)
                    if prefix and not line.endswith(b"\n"):
                        out.write(b"\n")
                    if options["follow"]:
                        out.flush()
            if verbose and log.reconnects:
                click.echo(f"kubewire: {source.pod.name}: connected anew {log.reconnects} times", err=True)
    except ClientError as error:
        click.echo(f"{'error' if ignore else 'kubewire'}: {error}", err=True)
        return False
    return True


class _Together:
    """Several logs that are followed, each in a thread of its own. The first that fails ends all, unless errors are
    ignored."""

    def __init__(
        self, sources: list[_Source], options: dict[str, Any], prefix: bool, ignore: bool, verbose: int
    ) -> None:
        self._arguments = options, prefix, ignore, verbose
        self._ignore = ignore
        self._left = len(sources)
        self._failed = False
        self._broken: BaseException | None = None
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._follow, args=(source,), name="kubewire-log", daemon=True)
            for source in sources
        ]

    def run(self) -> int:
        for thread in self._threads:
            thread.start()
        with self._changed:
            self._changed.wait_for(lambda: not self._left or (self._failed and not self._ignore) or self._broken)
        if self._broken is not None:
            raise self._broken
        return int(self._failed and not self._ignore)

    def _follow(self, source: _Source) -> None:
        whole = False
        try:
            whole = _print(source, *self._arguments)
        except BaseException as error:
            self._broken = error
        with self._changed:
            self._left -= 1
            self._failed = self._failed or not whole
            self._changed.notify()
