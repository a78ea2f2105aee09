"""What a report of ``kubewire route`` means: findings with their severity and the fix. A table, and no I/O."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

__all__ = ["SOON", "findings_of"]

SOON: Final = 30
"""Days before its end from which on a certificate is worth a word."""

_ORDER: Final = {"danger": 0, "warning": 1, "info": 2}


def findings_of(report: dict[str, Any], now: datetime) -> list[dict[str, str]]:
    """The findings, the gravest first. ``report`` is the document of ``--json``; see docs/routes.md."""
    found = [*_of_the_node(report), *_of_access(report)]
    answers = any(kubelet["milliseconds"] is not None for kubelet in report["kubelets"])
    for kubelet in report["kubelets"]:
        found += _of_a_kubelet(kubelet, now, answers=answers)
    for where, part in (("the apiserver", report.get("apiserver")), ("the client", report.get("client"))):
        if part and part.get("certificate"):
            found += _of_dates(where, part["certificate"], now, "renew it")
    return sorted(found, key=lambda finding: _ORDER[finding["severity"]])


def _finding(severity: str, code: str, text: str, fix: str) -> dict[str, str]:
    return {"severity": severity, "code": code, "text": text, "fix": fix}


def _of_the_node(report: dict[str, Any]) -> Iterator[dict[str, str]]:
    node, pod = report.get("node"), report.get("pod")
    if pod is not None and not pod["node"]:
        yield _finding("warning", "pod-unscheduled", "the pod is on no node yet", "wait until it is scheduled")
    elif pod is not None and pod["phase"] in ("Succeeded", "Failed"):
        yield _finding("warning", "pod-over", f"the pod has ended ({pod['phase']})", "nothing can be run in it")
    if node is not None and node["ready"] is False:
        why = f": {node['condition']}" if node["condition"] else ""
        yield _finding("warning", "node-not-ready", f"the node is not ready{why}", "look at its kubelet's log")
    for left in report.get("addresses_left_out", ()):
        local = "loopback" in left or "link-local" in left
        fix = "allow it with --allow-loopback-nodes, if this is a test" if local else "name its type in --address-types"
        yield _finding("warning" if local else "info", "address-left-out", f"not tried: {left}", fix)


def _of_access(report: dict[str, Any]) -> Iterator[dict[str, str]]:
    rights: dict[str, bool] = {}
    for kubelet in report["kubelets"]:
        rights = rights or kubelet["access"]
    asked = (report.get("apiserver") or {}).get("access", {})
    create, get = rights.get("create nodes/proxy"), rights.get("get nodes/proxy")
    if not rights:
        create, get = asked.get("create nodes/proxy"), asked.get("get nodes/proxy")
    if get and not create:
        yield _finding(
            "danger",
            "read-only-exec",
            "this identity can run commands in every pod of this node with read-only `nodes/proxy`: over WebSocket "
            "exec is a GET, which kubelets authorize as `get`",
            "take `get nodes/proxy` away; since 1.32 `nodes/pods`, `nodes/healthz`, `nodes/stats` and `nodes/metrics` "
            "serve who only reads",
        )
    elif create and "create pods/exec" in asked and not asked["create pods/exec"]:
        yield _finding(
            "danger",
            "proxy-without-exec",
            "this identity may not `create pods/exec`, and can run commands all the same, straight at the kubelet",
            "take `create nodes/proxy` away",
        )
    if create:
        yield _finding(
            "info",
            "no-audit",
            "commands that go straight to the kubelet do not stand in the apiserver's audit log",
            "use --via apiserver where they must",
        )
    if asked.get("create pods/exec") and asked.get("get pods/exec") is False:
        yield _finding(
            "info",
            "no-websocket",
            "this identity may `create pods/exec` and not `get` it, so exec over WebSocket is refused by the apiserver",
            "grant `get pods/exec`, or leave it: SPDY is used then",
        )


def _of_a_kubelet(kubelet: dict[str, Any], now: datetime, *, answers: bool) -> Iterator[dict[str, str]]:
    where = f"the kubelet at {kubelet['address']}"
    tls = kubelet["tls"]
    if kubelet["dial"] is not None and kubelet["dial"]["error"]:
        severity = "info" if answers else "warning"
        fix = "leave it: another address answers" if answers else "open the way to its port, or use --via apiserver"
        yield _finding(severity, "unreachable", f"{where} cannot be reached: {kubelet['dial']['error']}", fix)
    if tls is not None:
        leaf = tls["chain"][0] if tls["chain"] else None
        if tls["error"]:
            own = leaf is not None and leaf["self_signed"]
            fix = (
                f"compare its fingerprint on the node, then: kubewire trust {kubelet['address']}; or let the cluster "
                "sign it (serverTLSBootstrap)"
                if own
                else "give the authority that signed it with --kubelet-certificate-authority"
            )
            text = f"{where} cannot be verified: {tls['error']}" + (
                " (it signed its certificate itself)" if own else ""
            )
            yield _finding("warning", "unverified", text, fix)
        if leaf is not None:
            yield from _of_dates(where, leaf, now, "kubelets renew theirs with serverTLSBootstrap")
        if tls["trust"] == "nothing":
            yield _finding("danger", "insecure", f"{where} is not verified at all", "leave the insecure switch out")
    if kubelet["anonymous"] == "let in":
        yield _finding(
            "danger",
            "anonymous",
            f"{where} answers who presents nothing",
            "set authentication.anonymous.enabled: false, and authorization.mode: Webhook",
        )
    elif kubelet["anonymous"] == "refused by authorization":
        yield _finding(
            "info",
            "anonymous-known",
            f"{where} takes who presents nothing for system:anonymous, and refuses",
            "set authentication.anonymous.enabled: false, unless probes need it",
        )
    if kubelet["read_only_port"]:
        yield _finding(
            "danger", "read-only-port", f"{where} serves its pods to everybody on port 10255", "set readOnlyPort: 0"
        )
    if kubelet["error"]:
        yield _finding("warning", "refused", f"{where}: {kubelet['error']}", "see the access that this identity has")


def _of_dates(where: str, certificate: dict[str, Any], now: datetime, fix: str) -> Iterator[dict[str, str]]:
    ends = datetime.fromisoformat(certificate["not_after"]).astimezone(UTC)
    days = (ends - now).days
    if ends <= now:
        text = f"the certificate of {where} expired at {certificate['not_after']}"
        yield _finding("danger", "expired", text, fix)
    elif days < SOON:
        yield _finding(
            "warning",
            "expires-soon",
            f"the certificate of {where} expires {f'in {days} days' if days else 'within a day'}",
            fix,
        )
