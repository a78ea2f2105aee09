"""What ``kubectl get`` prints: objects as the rows of a ``meta.k8s.io/v1`` Table.

The columns are those of an apiserver (``k/k: pkg/printers/internalversion/printers.go``); ``priority`` 1 is shown with
``-o wide`` only.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fakekubelet.apiserver.resources import Object, Resource

Cells = list[Any]


@dataclass(frozen=True, slots=True)
class _Printer:
    columns: tuple[tuple[str, str, str, int], ...]  # name, type, format, priority
    cells: Callable[[Object], Cells]


def table(
    resource: Resource, objects: Iterable[Object], list_metadata: Object, include: str, *, columns: bool = True
) -> Object:
    """A Table; ``include`` is the parameter ``includeObject``: Metadata, Object or None."""
    printer = _PRINTERS.get(resource.plural, _PLAIN)
    definitions = [
        {"name": name, "type": kind, "format": form, "description": name, "priority": priority}
        for name, kind, form, priority in printer.columns
    ]
    rows = [_row(printer, document, include) for document in objects]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": list_metadata,
        "columnDefinitions": definitions if columns else None,
        "rows": rows,
    }


def _row(printer: _Printer, document: Object, include: str) -> Object:
    row: Object = {"cells": printer.cells(document)}
    if include == "Object":
        row["object"] = document
    elif include != "None":
        head = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
        row["object"] = {**head, "metadata": document["metadata"]}
    return row


def age(created: str | None, now: datetime.datetime | None = None) -> str:
    """The time since, as ``duration.HumanDuration`` shortens it (``apimachinery: pkg/util/duration``)."""
    if not created:
        return "<unknown>"
    start = datetime.datetime.fromisoformat(created.replace("Z", "+00:00"))
    return human((now or datetime.datetime.now(datetime.UTC)) - start)


def human(time: datetime.timedelta) -> str:
    """A duration in one or two units."""
    seconds = int(time.total_seconds())
    if seconds < 0:
        return "0s" if seconds >= -1 else "<invalid>"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return f"{minutes}m{seconds % 60}s" if seconds % 60 else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    if days < 730:
        return f"{days}d"
    years, rest = divmod(days, 365)
    if years < 8 and rest:
        return f"{years}y{rest}d"
    return f"{years}y"


def _age(document: Object) -> str:
    return age(document["metadata"].get("creationTimestamp"))


def _name(document: Object) -> str:
    return str(document["metadata"]["name"])


def _at(document: Object, path: str, default: Any = None) -> Any:  # noqa: ANN401 - a piece of JSON
    value: Any = document
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return default if value is None else value


def _selector(labels: Object | None) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items())) or "<none>"


def _templates(document: Object) -> tuple[str, str]:
    containers = _at(document, "spec.template.spec.containers", [])
    return ",".join(c.get("name", "") for c in containers), ",".join(c.get("image", "") for c in containers)


def _pod(document: Object) -> Cells:
    statuses: Sequence[Object] = _at(document, "status.containerStatuses", [])
    total = len(_at(document, "spec.containers", []))
    ready = sum(bool(each.get("ready")) for each in statuses)
    reason = _at(document, "status.reason") or _at(document, "status.phase", "")
    for each in reversed(statuses):
        state = each.get("state", {})
        if _at(state, "waiting.reason"):
            reason = state["waiting"]["reason"]
        elif "terminated" in state:
            ended = state["terminated"]
            reason = ended.get("reason") or f"ExitCode:{ended.get('exitCode', 0)}"
    if document["metadata"].get("deletionTimestamp"):
        reason = "Terminating"
    restarts = str(sum(each.get("restartCount", 0) for each in statuses))
    return [
        _name(document),
        f"{ready}/{total}",
        reason,
        restarts,
        _age(document),
        _at(document, "status.podIP") or "<none>",
        _at(document, "spec.nodeName") or "<none>",
        _at(document, "status.nominatedNodeName") or "<none>",
        "<none>",
    ]


def _node(document: Object) -> Cells:
    conditions = {each["type"]: each["status"] for each in _at(document, "status.conditions", [])}
    states = {"True": "Ready", "False": "NotReady"}
    state = states.get(conditions.get("Ready", ""), "Unknown")
    if _at(document, "spec.unschedulable"):
        state += ",SchedulingDisabled"
    prefix = "node-role.kubernetes.io/"
    labels = document["metadata"].get("labels") or {}
    roles = sorted(key.removeprefix(prefix) for key in labels if key.startswith(prefix))
    addresses = {each["type"]: each["address"] for each in _at(document, "status.addresses", [])}
    info = _at(document, "status.nodeInfo", {})
    return [
        _name(document),
        state,
        ",".join(roles) or "<none>",
        _age(document),
        info.get("kubeletVersion", ""),
        addresses.get("InternalIP", "<none>"),
        addresses.get("ExternalIP", "<none>"),
        info.get("osImage") or "<unknown>",
        info.get("kernelVersion") or "<unknown>",
        info.get("containerRuntimeVersion") or "<unknown>",
    ]


def _service(document: Object) -> Cells:
    ports = []
    for port in _at(document, "spec.ports", []):
        node = f":{port['nodePort']}" if port.get("nodePort") else ""
        ports.append(f"{port['port']}{node}/{port.get('protocol', 'TCP')}")
    return [
        _name(document),
        _at(document, "spec.type", "ClusterIP"),
        _at(document, "spec.clusterIP", "<none>"),
        ",".join(_at(document, "spec.externalIPs", [])) or "<none>",
        ",".join(ports) or "<none>",
        _age(document),
        _selector(_at(document, "spec.selector")),
    ]


def _deployment(document: Object) -> Cells:
    wanted, status = _at(document, "spec.replicas", 1), document.get("status") or {}
    return [
        _name(document),
        f"{status.get('readyReplicas', 0)}/{wanted}",
        status.get("updatedReplicas", 0),
        status.get("availableReplicas", 0),
        _age(document),
        *_templates(document),
        _selector(_at(document, "spec.selector.matchLabels")),
    ]


def _stateful_set(document: Object) -> Cells:
    ready = f"{_at(document, 'status.readyReplicas', 0)}/{_at(document, 'spec.replicas', 1)}"
    return [_name(document), ready, _age(document), *_templates(document)]


def _replica_set(document: Object) -> Cells:
    status = document.get("status") or {}
    counts = [_at(document, "spec.replicas", 1), status.get("replicas", 0), status.get("readyReplicas", 0)]
    selector = _selector(_at(document, "spec.selector.matchLabels"))
    return [_name(document), *counts, _age(document), *_templates(document), selector]


def _job(document: Object) -> Cells:
    status = document.get("status") or {}
    conditions = {each["type"] for each in status.get("conditions", []) if each.get("status") == "True"}
    state = next((each for each in ("Complete", "Failed", "Suspended") if each in conditions), "Running")
    done, wanted = status.get("succeeded", 0), _at(document, "spec.completions", 1)
    started, ended = status.get("startTime"), status.get("completionTime")
    duration = ""
    if started:
        end = None if ended is None else datetime.datetime.fromisoformat(ended.replace("Z", "+00:00"))
        duration = age(started, end)
    selector = _selector(_at(document, "spec.selector.matchLabels"))
    return [_name(document), state, f"{done}/{wanted}", duration, _age(document), *_templates(document), selector]


def _endpoint_slice(document: Object) -> Cells:
    ports = ",".join(str(each.get("port", "*")) for each in document.get("ports") or []) or "<unset>"
    addresses = [address for each in document.get("endpoints") or [] for address in each.get("addresses", [])]
    shown = ",".join(addresses[:3]) + (f" + {len(addresses) - 3} more..." if len(addresses) > 3 else "")
    return [_name(document), document.get("addressType", ""), ports, shown or "<unset>", _age(document)]


def _columns(*names: str, wide: Sequence[str] = ()) -> tuple[tuple[str, str, str, int], ...]:
    listed = [(name, 0) for name in names] + [(name, 1) for name in wide]
    numbers = ("Desired", "Current", "Up-To-Date", "Available", "Data")
    return tuple(
        (name, "integer" if name in numbers else "string", "name" if name == "Name" else "", priority)
        for name, priority in listed
    )


_TEMPLATE = ("Containers", "Images", "Selector")
_PLAIN = _Printer(
    (("Name", "string", "name", 0), ("Created At", "date", "", 0)),
    lambda document: [_name(document), document["metadata"].get("creationTimestamp")],
)
_PRINTERS = {
    "pods": _Printer(
        _columns(
            *("Name", "Ready", "Status", "Restarts", "Age"),
            wide=("IP", "Node", "Nominated Node", "Readiness Gates"),
        ),
        _pod,
    ),
    "nodes": _Printer(
        _columns(
            *("Name", "Status", "Roles", "Age", "Version"),
            wide=("Internal-IP", "External-IP", "OS-Image", "Kernel-Version", "Container-Runtime"),
        ),
        _node,
    ),
    "namespaces": _Printer(
        _columns("Name", "Status", "Age"),
        lambda document: [_name(document), _at(document, "status.phase", ""), _age(document)],
    ),
    "services": _Printer(
        _columns("Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age", wide=("Selector",)), _service
    ),
    "configmaps": _Printer(
        _columns("Name", "Data", "Age"),
        lambda document: [
            _name(document),
            len(document.get("data") or {}) + len(document.get("binaryData") or {}),
            _age(document),
        ],
    ),
    "deployments": _Printer(_columns("Name", "Ready", "Up-to-date", "Available", "Age", wide=_TEMPLATE), _deployment),
    "statefulsets": _Printer(_columns("Name", "Ready", "Age", wide=("Containers", "Images")), _stateful_set),
    "replicasets": _Printer(_columns("Name", "Desired", "Current", "Ready", "Age", wide=_TEMPLATE), _replica_set),
    "jobs": _Printer(_columns("Name", "Status", "Completions", "Duration", "Age", wide=_TEMPLATE), _job),
    "endpointslices": _Printer(_columns("Name", "AddressType", "Ports", "Endpoints", "Age"), _endpoint_slice),
}
