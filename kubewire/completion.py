"""Shell completion: the script that a shell reads once, and the names that it then asks for, live from the cluster.

Nothing here may hang, print or fail where a person is typing: servers get two seconds, and every error is no name.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, Final

import click
from click.shell_completion import CompletionItem, get_completion_class

if TYPE_CHECKING:
    from kubeletclient import Cluster
    from kubewire.connection import Connection

__all__ = ["complete_container", "complete_context", "complete_namespace", "complete_node", "complete_pod"]

_SECONDS: Final = 2.0
_KINDS: Final = ("deploy", "sts", "ds", "job", "svc")
_VARIABLE: Final = "_KUBEWIRE_COMPLETE"


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(shell: str) -> None:
    """Print the completion script of a shell.

    \b
    bash:  echo 'eval "$(kubewire completion bash)"' >> ~/.bashrc
    zsh:   echo 'eval "$(kubewire completion zsh)"' >> ~/.zshrc     (after compinit)
    fish:  kubewire completion fish > ~/.config/fish/completions/kubewire.fish

    Pods, containers, namespaces, nodes and contexts are completed as they are in the cluster at that moment.
    """
    from kubewire.cli import group

    kind = get_completion_class(shell)
    assert kind is not None, "click has the three of them"
    click.echo(kind(group, {}, "kubewire", _VARIABLE).source())


_Names = Callable[[click.Context, "Connection", str], Iterator[str]]


def _live(find: _Names) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """A completer that answers what ``find`` yields as far as it fits, and nothing when anything goes wrong."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
            try:
                if isinstance(param, click.Option):
                    ctx = _parsed_again(ctx)
                found = set(find(ctx, _connection(ctx), incomplete))
            except Exception:
                return []
        return [CompletionItem(name) for name in sorted(found) if name.startswith(incomplete)]

    return complete


def _parsed_again(ctx: click.Context) -> click.Context:
    """The context without the option whose value is being typed, at which the parser has given up."""
    shell = os.environ[_VARIABLE].partition("_")[0]
    kind = get_completion_class(shell)
    assert kind is not None
    words, _ = kind(ctx.find_root().command, {}, "kubewire", _VARIABLE).get_completion_args()
    depth = len(ctx.command_path.split()) - 1
    return ctx.command.make_context(ctx.info_name, words[depth:-1], parent=ctx.parent, resilient_parsing=True)


def _connection(ctx: click.Context) -> Connection:
    """What was typed so far of the connection options; the rest is as if it were not given."""
    from kubewire.connection import Connection

    values: dict[str, Any] = {name: ctx.params.get(name) for name in Connection.__dataclass_fields__}
    values |= {name: values[name] or () for name in ("as_groups", "as_user_extra", "allow_plugins")}
    values |= {"via": "apiserver", "transport": "auto"}
    return Connection(**values | {"connect_timeout": _SECONDS, "ping_period": 0.0, "ping_deadline": _SECONDS})


def _listed(client: Cluster, path: str) -> list[str]:
    """The names in a list of objects."""
    from kubeletclient._door import Command, Fetch
    from kubeletclient._policy import Deadline

    def fetch() -> Generator[Command, Any, Any]:
        return (yield Fetch(client._cluster.way, path, "the list"))

    document = client._follow(fetch(), Deadline.after(_SECONDS))
    return [item["metadata"]["name"] for item in document["items"]]


def _pods(ctx: click.Context, connection: Connection, incomplete: str) -> Iterator[str]:
    from kubeletclient.endpoints import object_path
    from kubeletclient.selection import is_kind, parse_name, parse_pods

    before, slash, _ = incomplete.rpartition("/")
    given = ctx.params.get("namespace")
    if connection.kubelet:
        with connection.open_kubelet() as kubelet:
            for pod in parse_pods(kubelet.request("/pods", timeout=_SECONDS).json()):
                yield f"{pod.namespace}/{pod.name}" if slash else pod.name
        return
    with connection.open_cluster() as cluster:
        if slash and is_kind(before):
            kind = parse_name(f"{before}/x").kind
            resource, group = (kind.resource, kind.group) if kind is not None else ("pods", "")
            path = object_path(resource, given or cluster.namespace, group=group)
            yield from (f"{before}/{name}" for name in _listed(cluster, path))
        elif slash:
            yield from (f"{before}/{name}" for name in _listed(cluster, object_path("pods", before)))
        else:
            yield from _listed(cluster, object_path("pods", given or cluster.namespace))
            yield from (f"{kind}/" for kind in _KINDS if incomplete and kind.startswith(incomplete))


def _containers(ctx: click.Context, connection: Connection, _incomplete: str) -> Iterator[str]:
    pod = ctx.params.get("pod")
    if pod:
        yield from connection.open_pod(pod, ctx.params.get("namespace")).facts(timeout=_SECONDS).all_containers


def _namespaces(_ctx: click.Context, connection: Connection, _incomplete: str) -> Iterator[str]:
    with connection.open_cluster() as cluster:
        yield from _listed(cluster, "/api/v1/namespaces")


def _nodes(_ctx: click.Context, connection: Connection, _incomplete: str) -> Iterator[str]:
    with connection.open_cluster() as cluster:
        yield from _listed(cluster, "/api/v1/nodes")


def _contexts(_ctx: click.Context, connection: Connection, _incomplete: str) -> Iterator[str]:
    from kubeletclient._kubefiles import default_paths, read_kubefiles

    paths = (connection.kubeconfig,) if connection.kubeconfig else default_paths(os.environ)
    yield from read_kubefiles(paths, must_exist=False).contexts


complete_pod = _live(_pods)
complete_container = _live(_containers)
complete_namespace = _live(_namespaces)
complete_node = _live(_nodes)
complete_context = _live(_contexts)
