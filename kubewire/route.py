"""``kubewire route``: which way to a pod would be taken and why, and what stands on each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click

from kubewire.connection import (
    Connection,
    connection_options,
    container_option,
    namespace_option,
    pod_argument,
    split_pod,
    take_connection,
)
from kubewire.findings import findings_of
from kubewire.reports import finish

if TYPE_CHECKING:
    from kubeletclient import Cluster, Kubelet
    from kubeletclient._door import PodRef, Way
    from kubeletclient.endpoints import Target

SCHEMA: Final = "kubewire.route/1"
_COLOURS: Final = {"danger": "red", "warning": "yellow", "info": "cyan"}


@click.command("route")
@pod_argument
@namespace_option
@container_option
@click.option("--json", "as_json", is_flag=True, help="The report as JSON; its schema is in docs/routes.md.")
@connection_options
def route_command(**values: Any) -> None:  # noqa: ANN401 - click hands over what the options above declare
    """Report which way to the pod would be taken, and why.

    Objects found, addresses tried, certificates, access as the servers see it, subprotocols, times, and findings with
    their fix. Nothing is run in a container. Exit code 0 when there is a way, 1 when there is none.
    """
    finish(_run, take_connection(values), failed=1, **values)


def _run(connection: Connection, *, pod: str, namespace: str | None, container: str | None, as_json: bool) -> int:
    where, name = split_pod(pod, namespace)
    if connection.kubelet:
        if "/" in name:
            raise click.UsageError(f"a kubelet knows pods by their own names: {name!r} needs a cluster")
        with connection.open_kubelet() as kubelet:
            report = _of_a_kubelet(kubelet, where or "default", name, container)
    else:
        with connection.open_cluster() as cluster:
            report = _of_a_cluster(cluster, where, name, container)
    report["findings"] = findings_of(report, datetime.now(UTC))
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        click.echo(render(report))
    return 0 if report["decision"]["route"] else 1


def _empty() -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "pod": None,
        "node": None,
        "client": None,
        "apiserver": None,
        "addresses_left_out": [],
        "kubelets": [],
        "decision": {"route": None, "reason": "", "url": ""},
        "findings": [],
    }


# -- gathering ---------------------------------------------------------------------------------------------------------


def _of_a_kubelet(kubelet: Kubelet, namespace: str, name: str, container: str | None) -> dict[str, Any]:
    report = _empty()
    pod = kubelet.pod(name, namespace)
    way = kubelet._door.way  # type: ignore[attr-defined]  # a KubeletDoor
    with _told(report):
        facts = pod.facts()
        report["pod"] = _pod(facts)
        container = facts.choose(container, "kubelet")
    report["kubelets"].append(_kubelet(way, namespace, name, container or "main", ""))
    with _told(report):
        _decide(report, kubelet, pod._ref, container)
    return report


def _of_a_cluster(cluster: Cluster, namespace: str | None, name: str, container: str | None) -> dict[str, Any]:
    from kubeletclient._policy import Deadline
    from kubewire import survey

    report = _empty()
    door = cluster._cluster
    pod = cluster.pod(name, namespace)
    report["client"] = _client(door.way)
    dial, tls, _ = survey.look_at(door.way)
    report["apiserver"] = {
        "url": str(door.way.endpoint),
        "dial": dial,
        "tls": tls,
        "certificate": tls["chain"][0] if tls and tls["chain"] else None,
        "access": {},
    }
    with _told(report):
        around = cluster._follow(door.look_around(pod._ref), Deadline(None))
        report["pod"], report["node"] = _pod(around.pod), asdict(around.node) if around.pod.node else None
        report["addresses_left_out"] = list(around.left)
        report["apiserver"] |= survey.apiserver_access(
            door.way, around.pod.namespace, around.pod.name, around.node.name
        )
        chosen = around.pod.choose(container, "apiserver")
        for way in around.ways:
            if isinstance(way, str):
                report["addresses_left_out"].append(way)
            else:
                seen = _kubelet(way, around.pod.namespace, around.pod.name, chosen, around.node.version)
                report["kubelets"].append(seen)
        _decide(report, cluster, pod._ref, chosen)
    return report


@contextmanager
def _told(report: dict[str, Any]) -> Iterator[None]:
    """An error ends the gathering, and is the reason why there is no way."""
    from kubeletclient import ClientError

    try:
        yield
    except ClientError as error:
        report["decision"] = {"route": None, "reason": str(error), "url": error.url}


def _client(way: Way) -> dict[str, Any]:
    credentials = way.settings.trust.credentials
    return {
        "credentials": type(credentials).__name__ if credentials is not None else None,
        "sends_secret": credentials.sends_secret if credentials is not None else False,
        "impersonates": way.settings.trust.impersonate is not None,
        "complaint": way.settings.trust.complaint(),
    }


def _pod(facts: Any) -> dict[str, Any]:  # noqa: ANN401 - a PodFacts
    names = ("namespace", "name", "uid", "node", "host_ip", "phase", "ready", "containers", "init_containers")
    return {name: getattr(facts, name) for name in (*names, "ephemeral_containers")}


def _kubelet(way: Way, namespace: str, pod: str, container: str, version: str) -> dict[str, Any]:
    import httpx

    from kubeletclient import ClientError
    from kubewire import survey

    dial, tls, _ = survey.look_at(way)
    found: dict[str, Any] = {
        "address": way.endpoint.authority,
        "dial": dial,
        "tls": tls,
        "milliseconds": None,
        "access": {},
        "anonymous": None,
        "read_only_port": False,
        "subprotocols": None,
        "error": "",
    }
    if (dial and dial["error"]) or (tls and tls["error"]):
        return found
    try:
        if way.settings.trust.credentials is not None:  # else there is nothing to show, and anonymous is asked below
            found |= survey.kubelet_access(way, namespace, container)
        found["anonymous"] = survey.anonymous(way)
        found["read_only_port"] = survey.read_only_port(way.endpoint)
        if found["access"].get("create nodes/proxy"):
            found["subprotocols"] = {
                "spdy": survey.spdy_protocols(way, namespace, pod, container),
                "websocket": survey.websocket_protocols(version),
                "websocket_source": "the kubelet's version" if version else "every runtime's",
            }
    except (ClientError, httpx.HTTPError) as error:
        found["error"] = error.cause if isinstance(error, ClientError) else str(error)
    return found


class _Trial:
    """What stands for a session in the decision."""

    def __init__(self, target: Target) -> None:
        self.target = target

    def close(self) -> None:
        """There is nothing to close."""


def _decide(report: dict[str, Any], client: Any, pod: PodRef, container: str | None) -> None:  # noqa: ANN401 - Kubelet or Cluster
    """Ask the door, as a command would; but instead of a session only the right to one is asked for."""
    from kubeletclient import ClientError, Forbidden, Unauthorized
    from kubeletclient._door import exec_ask
    from kubeletclient._policy import Deadline
    from kubewire import survey
    from spdyproto.channels.events import StreamSet

    def opener(way: Way, target: Target) -> _Trial:
        if way.route == "apiserver":
            allowed = report["apiserver"]["access"].get("create pods/exec")
            if allowed is False:
                raise Forbidden("this identity may not `create pods/exec`", route="apiserver", url=target.shown)
            return _Trial(target)
        access = survey.kubelet_access(way, pod.namespace, container or "main")
        if access["error"]:
            raise Unauthorized(access["error"], route="kubelet", url=target.shown, http_status=401)
        if not access["access"].get("create nodes/proxy"):
            error = Forbidden("this identity may not `create nodes/proxy`", route="kubelet", url=target.shown)
            error.message = access.get("refusal", "")
            raise error
        return _Trial(target)

    try:
        trial = client._reach(pod, container, exec_ask(["true"], StreamSet()), opener, Deadline(None))
    except ClientError as error:
        report["decision"] = {"route": None, "reason": str(error), "url": error.url}
    else:
        target = trial.target
        report["decision"] = {"route": target.route, "reason": target.reason, "url": target.shown}


# -- rendering ---------------------------------------------------------------------------------------------------------


def render(report: dict[str, Any]) -> str:
    """The report for a person."""
    lines: list[str] = []
    pod, node, client, apiserver = (report[name] for name in ("pod", "node", "client", "apiserver"))
    if pod:
        names = ", ".join((*pod["init_containers"], *pod["containers"], *pod["ephemeral_containers"]))
        ready = ", ready" if pod["ready"] else ""
        lines += [f"pod         {pod['namespace']}/{pod['name']}  {pod['phase'] or 'state unknown'}{ready}"]
        lines += [f"            containers {names}"]
    if node:
        state = {True: "ready", False: f"NOT READY: {node['condition']}", None: "state unknown"}[node["ready"]]
        lines += [f"node        {node['name']}  {node['version'] or 'version unknown'}  {state}"]
    if client:
        lines += [f"client      {client['credentials'] or 'no credentials'}" + _maybe("  ", client["complaint"])]
    if apiserver:
        who = apiserver.get("user")
        lines += [f"apiserver   {apiserver['url']}  {apiserver.get('version') or ''}".rstrip()]
        lines += _connection(apiserver["dial"], apiserver["tls"])
        if who:
            lines += [f"            known there as {who}" + _maybe(", of ", ", ".join(apiserver["groups"]))]
        lines += _access(apiserver["access"])
    for kubelet in report["kubelets"]:
        lines += [f"kubelet     {kubelet['address']}", *_connection(kubelet["dial"], kubelet["tls"])]
        if kubelet["milliseconds"] is not None:
            lines += [f"            answers in {kubelet['milliseconds']:g} ms"]
        lines += _access(kubelet["access"])
        spoken = kubelet["subprotocols"]
        if spoken:
            lines += [f"            speaks over SPDY       {', '.join(spoken['spdy']) or 'nothing that it names'}"]
            source = f"  (by {spoken['websocket_source']})"
            lines += [f"            speaks over WebSocket  {', '.join(spoken['websocket'])}{source}"]
        lines += [f"            {kubelet['error']}"] if kubelet["error"] else []
    decision = report["decision"]
    way = {"kubelet": "straight to the kubelet", "apiserver": "through the apiserver", None: "NO WAY"}[
        decision["route"]
    ]
    lines += ["", f"decision    {way}" + _maybe(": ", decision["reason"])]
    lines += [f"            {decision['url']}"] if decision["route"] else []
    for finding in report["findings"]:
        severity = click.style(f"{finding['severity']:<11}", fg=_COLOURS[finding["severity"]])
        lines += [f"{severity} {finding['text']}", f"            fix: {finding['fix']}"]
    return "\n".join(lines)


def _maybe(before: str, text: str) -> str:
    return f"{before}{text}" if text else ""


def _connection(dial: dict[str, Any] | None, tls: dict[str, Any] | None) -> list[str]:
    lines = []
    if dial:
        if dial["proxy"]:
            lines.append(f"            by the proxy {dial['proxy']}")
        elif dial["error"]:
            lines.append(f"            TCP: {dial['error']}")
        else:
            lines.append(f"            TCP in {dial['milliseconds']:g} ms")
    if tls:
        if tls["error"]:
            lines.append(f"            TLS: NOT VERIFIED: {tls['error']}")
        else:
            lines.append(f"            {tls['version']} in {tls['milliseconds']:g} ms, verified by {tls['trust']}")
        for depth, part in enumerate(tls["chain"]):
            ends = part["not_after"][:10]
            names = f"  for {', '.join(part['names'])}" if part["names"] else ""
            lines.append(f"            {'  ' * depth}{part['subject']}  until {ends}{names}")
    return lines


def _access(access: dict[str, bool]) -> list[str]:
    lines = []
    for wanted, word in ((True, "may"), (False, "may not")):
        rights = [right for right, allowed in access.items() if allowed is wanted]
        if rights:
            lines.append(f"            {word:<7} {', '.join(rights)}")
    return lines
