"""``kubewire kubelet``: the rest of a kubelet's API, readable or as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import click

from kubewire import metrics
from kubewire.connection import (
    Connection,
    connection_options,
    namespace_option,
    pod_argument,
    split_pod,
    take_connection,
)
from kubewire.live import completer
from kubewire.reports import age, columns, finish, size
from spdyproto.limits import MIB

if TYPE_CHECKING:
    from kubeletclient import Kubelet, Node, Reply

_METRICS: Final = ("cadvisor", "resource", "probes", "slis")


@click.group("kubelet")
def kubelet_command() -> None:
    """Ask a node's kubelet: --node NAME of the cluster, or --kubelet URL.

    Straight to the kubelet or through the apiserver's node proxy, as --via says. Exit code 1 when it cannot be had.
    """


def _command(name: str, *options: Callable[[Any], Any]) -> Callable[[Callable[..., int | None]], click.Command]:
    """A subcommand with the options that all have; its function gets the node, ``as_json``, ``timeout`` and its own."""

    def decorate(function: Callable[..., int | None]) -> click.Command:
        def run(**values: Any) -> None:  # noqa: ANN401 - click hands over what the options declare
            connection, node = take_connection(values), values.pop("node")
            finish(_on_node, function, connection, node, values, failed=1)

        run.__doc__ = function.__doc__
        wrapped: Any = connection_options(run)
        for option in reversed(
            (
                *options,
                click.option("--node", metavar="NAME", shell_complete=completer("node"), help="Node of the cluster."),
                click.option("--json", "as_json", is_flag=True, help="What the kubelet says, as JSON."),
                click.option("--timeout", type=click.FloatRange(min=0), default=60.0, show_default=True),
                click.option("-v", "--verbose", count=True, help="Which way was taken, on stderr."),
            )
        ):
            wrapped = option(wrapped)
        return kubelet_command.command(name)(wrapped)

    return decorate


def _on_node(function: Callable[..., int | None], connection: Connection, node: str | None, values: Any) -> int:  # noqa: ANN401 - see _command
    with _node(connection, node, values) as target:
        return function(_Asker(target, values.pop("timeout"), values.pop("verbose")), **values) or 0


@contextmanager
def _node(connection: Connection, name: str | None, values: dict[str, Any]) -> Iterator[Kubelet | Node]:
    """The kubelet; a command about a pod finds the node by the pod."""
    if connection.kubelet:
        if name is not None:
            raise click.UsageError("--kubelet names the kubelet: leave --node out")
        if values.get("pod"):
            values["where"] = _named(*split_pod(values["pod"], values.get("namespace")))
        with connection.open_kubelet() as kubelet:
            yield kubelet
        return
    with connection.open_cluster() as cluster:
        if values.get("pod"):
            namespace, pod = split_pod(values["pod"], values.get("namespace"))
            facts = cluster.pod(pod, namespace).facts()
            values["where"] = (facts.namespace, facts.name)
            name = name or facts.node
        if not name:
            raise click.UsageError("name the node: --node NAME, or --kubelet URL")
        yield cluster.node(name)


def _named(namespace: str | None, name: str) -> tuple[str, str]:
    if "/" in name:
        raise click.UsageError(f"a kubelet knows pods by their own names: {name!r} needs a cluster")
    return namespace or "default", name


class _Asker:
    """Requests to the one kubelet that is meant."""

    def __init__(self, node: Kubelet | Node, timeout: float, verbose: int) -> None:
        self._node = node
        self._timeout = timeout
        self._verbose = verbose

    def pour(self, path: str, params: Any) -> str | None:  # noqa: ANN401 - as Node.request
        """The answer to standard output as it comes, however long; or, if it is a page that lists files, the page."""
        from kubeletclient import Node
        from kubeletclient._policy import Deadline

        node = self._node if isinstance(self._node, Node) else Node(self._node, "")
        answer = node._open(path, params, "GET", Deadline(None), quiet=self._timeout)
        self._tell(answer.call.target.route, answer.call.target.reason)
        try:
            if answer.content_type.startswith("text/html"):
                return answer.read(MIB).decode("utf-8", "replace")
            for piece in answer.pieces():
                sys.stdout.buffer.write(piece)
        finally:
            answer.close()
        return None

    def __call__(self, path: str, params: Any = (), method: str = "GET") -> Reply:  # noqa: ANN401 - as Node.request
        reply = self._node.request(path, params, method=method, timeout=self._timeout)
        self._tell(reply.route, reply.route_reason)
        return reply

    def _tell(self, route: str, reason: str) -> None:
        if self._verbose:
            where = "straight from the kubelet" if route == "kubelet" else "through the apiserver"
            click.echo(f"kubewire: {where}{f': {reason}' if reason else ''}", err=True)


def _dump(document: Any) -> None:  # noqa: ANN401 - JSON
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def _path(*names: str) -> str:
    from kubeletclient.endpoints import segment

    return "/" + "/".join(map(segment, names))


# -- pods --------------------------------------------------------------------------------------------------------------


@_command("pods")
def _pods(ask: _Asker, as_json: bool) -> None:
    """The pods that the kubelet has been given."""
    _print_pods(ask("/pods").json(), as_json)


@_command("runningpods")
def _runningpods(ask: _Asker, as_json: bool) -> None:
    """The pods that the container runtime runs."""
    _print_pods(ask("/runningpods/").json(), as_json)


def _print_pods(document: Any, as_json: bool) -> None:  # noqa: ANN401 - JSON
    from kubeletclient.selection import parse_pods

    if as_json:
        _dump(document)
        return
    rows = [
        (pod.namespace, pod.name, ",".join(pod.containers), pod.phase or "-", pod.restarts, age(pod.created))
        for pod in parse_pods(document)
    ]
    click.echo(columns(("NAMESPACE", "NAME", "CONTAINERS", "STATUS", "RESTARTS", "AGE"), rows))


# -- state -------------------------------------------------------------------------------------------------------------


@_command("healthz", click.argument("check", required=False, metavar="[CHECK]"))
def _healthz(ask: _Asker, as_json: bool, check: str | None) -> int:
    """Whether the kubelet is healthy.

    In all, or by one CHECK: ping, log, syncloop. Exit code 1 if it is not.
    """
    from kubeletclient import ServerError

    path = "/healthz" + (_path(check) if check else "")
    try:
        text, healthy = ask(path, [] if check else [("verbose", "true")]).text, True
    except ServerError as error:
        text, healthy = error.message or str(error), False
    if as_json:
        _dump({"healthy": healthy, "text": text})
    else:
        click.echo(text.rstrip("\n"))
    return 0 if healthy else 1


@_command("stats", click.option("--only-cpu-and-memory", is_flag=True))
def _stats(ask: _Asker, as_json: bool, only_cpu_and_memory: bool) -> None:
    """What the node and its pods use: /stats/summary."""
    document = ask("/stats/summary", [("only_cpu_and_memory", "true")] if only_cpu_and_memory else []).json()
    if as_json:
        _dump(document)
        return
    node = document.get("node", {})
    rows = [(node.get("nodeName", "node"), "", *_usage(node))]
    for pod in document.get("pods", []):
        reference = pod.get("podRef", {})
        rows.append((f"{reference.get('namespace')}/{reference.get('name')}", "", *_usage(pod)))
        rows += [("", container.get("name"), *_usage(container)) for container in pod.get("containers", [])]
    click.echo(columns(("NODE OR POD", "CONTAINER", "CPU", "MEMORY", "DISK", "RECEIVED", "SENT"), rows))


def _usage(part: dict[str, Any]) -> tuple[str, ...]:
    cores = part.get("cpu", {}).get("usageNanoCores")
    disk = part.get("fs") or part.get("ephemeral-storage") or part.get("rootfs") or {}
    network = part.get("network", {})
    amounts = (
        part.get("memory", {}).get("workingSetBytes"),
        disk.get("usedBytes"),
        network.get("rxBytes"),
        network.get("txBytes"),
    )
    return (
        f"{cores / 1e6:.0f}m" if cores is not None else "-",
        *(size(amount) if amount is not None else "-" for amount in amounts),
    )


@_command("metrics", click.argument("part", required=False, metavar="[PART]", type=click.Choice(_METRICS)))
def _metrics(ask: _Asker, as_json: bool, part: str | None) -> None:
    """Metrics in Prometheus' format.

    The kubelet's own, or those of a PART: cadvisor, resource, probes, slis.
    """
    text = ask(f"/metrics/{part}" if part else "/metrics").text
    if as_json:
        _dump(list(metrics.samples(text)))
    else:
        click.echo(text.rstrip("\n"))


@_command("configz")
def _configz(ask: _Asker, as_json: bool) -> None:
    """The configuration that the kubelet runs with."""
    document = ask("/configz").json()
    if as_json:
        _dump(document)
        return
    import yaml

    click.echo(yaml.safe_dump(document.get("kubeletconfig", document), sort_keys=True).rstrip("\n"))


@_command("get", click.argument("path"))
def _get(ask: _Asker, as_json: bool, path: str) -> None:
    """GET any PATH of the kubelet.

    With its query, e.g. /debug/pprof/cmdline, /flagz, /statusz.
    """
    from urllib.parse import parse_qsl

    path, _, query = path.partition("?")
    params = parse_qsl(query, keep_blank_values=True)
    if as_json:
        _dump(ask(path, params).json())
    elif (page := ask.pour(path, params)) is not None:
        click.echo(page.rstrip("\n"))


# -- containers --------------------------------------------------------------------------------------------------------

_CONTAINER: Final = (
    pod_argument,
    namespace_option,
    click.option(
        "-c",
        "--container",
        metavar="NAME",
        shell_complete=completer("container"),
        required=True,
        help="Container of the pod.",
    ),
)


@_command("run", *_CONTAINER, click.argument("words", nargs=-1, required=True, metavar="-- COMMAND..."))
def _run(ask: _Asker, as_json: bool, where: tuple[str, str], container: str, words: tuple[str, ...], **_: Any) -> None:  # noqa: ANN401 - pod and namespace, as typed
    """Run COMMAND by a plain request.

    To its end, without streams: output only, and no exit code.

    The kubelet splits the command at single blanks, so no word may hold one. `kubewire exec` has none of these limits.
    """
    if any(" " in word or not word for word in words):
        raise click.UsageError("the kubelet splits the command at blanks, so no word may hold one: use kubewire exec")
    reply = ask("/run" + _path(*where, container), [("cmd", " ".join(words))], "POST")
    if as_json:
        _dump({"output": reply.text})
        return
    sys.stdout.buffer.write(reply.content)


@_command("checkpoint", *_CONTAINER)
def _checkpoint(ask: _Asker, as_json: bool, where: tuple[str, str], container: str, **_: Any) -> None:  # noqa: ANN401 - pod and namespace, as typed
    """Checkpoint a container to a file on the node.

    Prints the path of the file there.
    """
    document = ask("/checkpoint" + _path(*where, container), (), "POST").json()
    if as_json:
        _dump(document)
        return
    for path in document.get("items") or ():
        click.echo(path)


# -- the node's logs ---------------------------------------------------------------------------------------------------


@_command(
    "logs",
    click.argument("path", required=False, default="", metavar="[PATH]"),
    click.option(
        "--query", "services", multiple=True, metavar="SERVICE", help="Of this service's journal. Repeatable."
    ),
    click.option("--since-time", metavar="TIME", help="With --query: not older than this time of RFC 3339."),
    click.option("--until-time", metavar="TIME", help="With --query: not newer."),
    click.option("--tail", type=click.IntRange(min=0), metavar="N", help="With --query: the last N lines."),
    click.option("--pattern", metavar="REGEX", help="With --query: lines that match."),
    click.option("--boot", type=int, metavar="N", help="With --query: of this boot, 0 the current, -1 before it."),
)
def _logs(ask: _Asker, as_json: bool, path: str, services: tuple[str, ...], **query: Any) -> None:  # noqa: ANN401 - the options above
    """The node's own log files and journals.

    The files in its /var/log, or one of them at PATH; with --query the journal of services.
    """
    names = {"since_time": "sinceTime", "until_time": "untilTime", "tail": "tailLines"}
    params = [("query", service) for service in services]
    params += [(names.get(name, name), str(value)) for name, value in query.items() if value is not None]
    if params and not services:
        raise click.UsageError("name the service with --query SERVICE")
    path = "/logs/" + path.strip("/").replace(" ", "%20") + ("/" if path.endswith("/") else "")
    if as_json:
        reply = ask(path, params)
        listing = reply.content_type.startswith("text/html")
        _dump(metrics.links(reply.text) if listing else {"text": reply.text})
    elif (page := ask.pour(path, params)) is not None:
        click.echo("\n".join(metrics.links(page)))
