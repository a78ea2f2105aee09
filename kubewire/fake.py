"""``kubewire fake``: a fake kubelet, or a fake cluster, as a process of its own, for tests in other languages,
demonstrations and benchmarks."""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import click

from fakekubelet import ALL_WEBSOCKET, Container, FakeCluster, FakeKubelet, Pod, PodTable
from fakekubelet.faults import PRESETS, parse_fault, usage
from fakekubelet.manifests import load_pods
from fakekubelet.node import Serving
from fakekubelet.ports import DEMO_PORTS
from fakekubelet.profiles import PROFILES
from fakekubelet.transcript import Transcript
from spdyproto.channels.subprotocols import CRI_SPDY, Subprotocol

_ATTACHABLE = (
    Container("main", main=["cat"], stdin=True),
    Container("once", main=["sink"], stdin=True, stdin_once=True),
    Container("tty", main=["sizes", "1000000"], stdin=True, tty=True),
)


@click.command("fake")
@click.option(
    "--listen",
    metavar="ADDR",
    default="127.0.0.1:0",
    show_default=True,
    help="Address to listen on, IP:PORT, IP or :PORT; port 0 takes a free one.",
)
@click.option("--allow-remote", is_flag=True, help="Allow an ADDR that other machines can reach.")
@click.option(
    "--apiserver",
    is_flag=True,
    help="Serve a kube-apiserver on ADDR, and kubelets behind it on free ports of 127.0.0.1. The kubeconfig of "
    "--write-config is for it.",
)
@click.option("--nodes", type=click.IntRange(1, 64), help="With --apiserver: how many kubelets; 1 by default.")
@click.option(
    "--pods",
    "manifest",
    metavar="FILE",
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    help="Serve the pods of this YAML file, and no others: ordinary manifests, with what containers do in annotations "
    "(pydoc fakekubelet.manifests). SIGHUP reads it again: pods come, go, and are replaced where they differ.",
)
@click.option(
    "--read-only-port",
    type=click.IntRange(0, 65535),
    help="Open a port without TLS and authentication, too: health, pods, statistics and metrics. 0 takes a free one.",
)
@click.option(
    "--healthz-port",
    type=click.IntRange(0, 65535),
    help="Open a port without TLS for /healthz, too.",
)
@click.option(
    "--allow-processes",
    is_flag=True,
    help="Serve pod default/host too, whose commands are real processes of this machine, run as the current user.",
)
@click.option(
    "--write-config",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write ca.crt, client.crt and client.key (mode 0600), and with --apiserver a kubeconfig, into DIR, which is "
    "made if it is missing.",
)
@click.option("--user", default="kubewire", show_default=True, help="Who the client certificate speaks for.")
@click.option("--group", "groups", multiple=True, default=("system:masters",), show_default=True, help="Repeatable.")
@click.option(
    "--protocol",
    "protocols",
    multiple=True,
    type=click.Choice(list(dict.fromkeys([*map(str, CRI_SPDY), *filter(None, ALL_WEBSOCKET)]))),
    help="Subprotocol to accept in place of the profile's; repeatable. A transport that speaks none of those named "
    "keeps what the profile has. v5.channel.k8s.io exists over WebSocket only.",
)
@click.option(
    "--profile",
    type=click.Choice(list(PROFILES)),
    help="The version of Kubernetes to be: what it speaks, serves and says. By default 1.35, with --apiserver 1.36. "
    "strict is the protocols as they are written.",
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="NAME[:ARG]",
    help="What goes wrong with every session; repeatable, and several work together. --list-faults shows them.",
)
@click.option(
    "--transcript",
    is_flag=True,
    help="When it ends, show on stderr what clients sent and got, decoded; without credentials, stdin and output.",
)
@click.option(
    "--list-faults",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=lambda context, option, wanted: _list(context, wanted),
    help="Show the faults, what each does and where it was met, and exit.",
)
def fake(
    listen: str,
    allow_remote: bool,
    apiserver: bool,
    nodes: int | None,
    manifest: Path | None,
    read_only_port: int | None,
    healthz_port: int | None,
    allow_processes: bool,
    write_config: Path | None,
    user: str,
    groups: tuple[str, ...],
    protocols: tuple[str, ...],
    profile: str | None,
    faults: tuple[str, ...],
    transcript: bool,
) -> None:
    """Serve a fake kubelet on this machine, or a cluster of them, for tests and trials.

    Pod default/demo has the container main, which runs scripted commands only: ls, cat, echo, true, false, exit N,
    source N, random N SEED, sink, discard, both N, sleep S, ignore-stdin S, early-exit N, sizes N, fail TEXT.
    Port 7 echoes, port 9 discards, port 80 (http) speaks HTTP; nothing else listens in it.

    Pod default/attach has main processes to attach to: container main runs cat; once runs sink, whose stdin ends with
    the first attacher's; tty has a terminal, and prints each size it is told.

    When it is ready to accept, one line of JSON is printed: the addresses as "kubelet" (of several, the first) and
    "apiserver", and the paths of the files that were written. SIGTERM or Ctrl-C ends it, and every command in it.
    """
    host, port = _address(listen)
    pods = _pods(manifest, allow_processes)
    if nodes is not None and not apiserver:
        raise click.UsageError("--nodes counts the kubelets behind an apiserver: give --apiserver too")
    if apiserver and (read_only_port, healthz_port) != (None, None):
        raise click.UsageError("--read-only-port and --healthz-port are a single kubelet's: leave --apiserver out")
    options: dict[str, Any] = {
        "host": host,
        "port": port,
        "allow_remote": allow_remote,
        "allow_processes": allow_processes,
        "protocols": [Subprotocol(name) for name in protocols if name in CRI_SPDY] or None,
        "websocket_protocols": [name for name in protocols if name in ALL_WEBSOCKET] or None,
        **({} if profile is None else {"profile": profile}),
    }
    server: FakeKubelet | FakeCluster
    try:
        options["transcript"] = record = Transcript(exchanges=1000 if transcript else 0)
        options["faults"] = list(faults) if apiserver else [parse_fault(text) for text in faults]
        if apiserver:
            server = FakeCluster(nodes or 1, pods, **options)
        else:
            serving = Serving(read_only_port=read_only_port, healthz_port=healthz_port)
            server = FakeKubelet(pods, serving=serving, **options)
    except (ValueError, PermissionError) as error:
        raise click.UsageError(str(error)) from error
    stopped = _stop_on_signals()
    try:
        server.start()
        if manifest is not None and isinstance(server, FakeKubelet):
            _reload_on_signal(manifest, server.pods)
        facts = _facts(server)
        if write_config is not None:
            facts.update(_write(server, write_config, user, groups))
        click.echo(json.dumps(facts))
        stopped.wait()
    except OSError as error:
        raise click.ClickException(f"cannot serve on {listen}: {error.strerror or error}") from error
    finally:
        server.close()
        if transcript:
            click.echo(str(record), err=True)


def _pods(manifest: Path | None, allow_processes: bool) -> list[Pod]:
    if manifest is not None:
        try:
            return load_pods(manifest)
        except (OSError, ValueError) as error:
            raise click.BadParameter(str(error), param_hint="--pods") from None
    pods = [Pod("default/demo", ports=DEMO_PORTS), Pod("default/attach", _ATTACHABLE)]
    if allow_processes:
        pods.append(Pod("default/host", [Container("main", processes=True)]))
    return pods


def _reload_on_signal(manifest: Path, table: PodTable) -> None:
    """Have SIGHUP read the pods again; a file that makes no sense changes nothing."""

    def reload(number: int, frame: FrameType | None) -> None:
        try:
            wanted = {pod.name: pod for pod in load_pods(manifest)}
            for pod in table:
                if pod.name not in wanted:
                    table.remove(pod.name)
            for name, pod in wanted.items():
                if table.get(name) != pod:
                    table.add(pod)
        except (OSError, ValueError, PermissionError) as error:
            click.echo(f"the pods stay as they are: {error}", err=True)

    signal.signal(signal.SIGHUP, reload)


def _facts(server: FakeKubelet | FakeCluster) -> dict[str, Any]:
    if isinstance(server, FakeKubelet):
        ports = {"read_only_port": server.read_only_port, "healthz_port": server.healthz_port}
        more = {name: port for name, port in ports.items() if port is not None}
        return {"kubelet": server.url, "apiserver": None, **more}
    kubelets = {name: kubelet.url for name, kubelet in server.kubelets.items()}
    return {"kubelet": next(iter(kubelets.values())), "apiserver": server.url, "kubelets": kubelets}


def _list(context: click.Context, wanted: bool) -> None:
    """Print the faults, one a paragraph, and end."""
    if not wanted or context.resilient_parsing:
        return
    for kind in PRESETS.values():
        click.echo(usage(kind))
        text = " ".join((kind.__doc__ or "").replace("``", "").split())
        click.echo(click.wrap_text(text, 100, "    ", "    "))
        for address in kind.incident.split():
            click.echo(f"    {address}")
    context.exit()


def _address(listen: str) -> tuple[str, int]:
    """Host and port of ``IP:PORT``, ``[IPV6]:PORT``, ``IP`` or ``:PORT``."""
    host, colon, port = listen.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")):
        host, port = listen, "0"  # no port, or an IPv6 address alone
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    if not (port.isascii() and port.isdecimal() and int(port) <= 65535):
        raise click.BadParameter(f"expected a port of 0 to 65535, got {port!r}", param_hint="--listen")
    return host, int(port)


def _stop_on_signals() -> threading.Event:
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    return stopped


def _write(server: FakeKubelet | FakeCluster, folder: Path, user: str, groups: tuple[str, ...]) -> dict[str, Any]:
    folder = folder.absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    identity = server.credentials(user, groups)
    certificate, key = identity.write(folder)
    ca = server.authority.write(folder / "ca.crt")
    paths: dict[str, Path] = {"ca": ca, "client_certificate": certificate, "client_key": key}
    if isinstance(server, FakeCluster):
        paths["kubeconfig"] = server.write_kubeconfig(folder / "kubeconfig", user, groups)
    return {"kubeconfig": None, **{name: str(path) for name, path in paths.items()}}
