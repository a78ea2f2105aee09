"""Which pod, and which of its containers: ``deploy/web``, selectors, the default container. Decisions only, no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kubeletclient import errors
from spdyproto.text import printable

__all__ = [
    "ANNOTATION",
    "Kind",
    "PodFacts",
    "Selected",
    "best_pod",
    "is_kind",
    "parse_name",
    "parse_pod",
    "parse_pods",
    "selector_of",
]

ANNOTATION: Final = "kubectl.kubernetes.io/default-container"
"""Names the container that kubectl takes when none is named (``kubectl: pkg/cmd/util/podcmd/podcmd.go``)."""

_LISTED: Final = 20
"""Names that an error lists; the rest is counted."""


# -- names -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object that has pods: its name in paths, the API group, and whether its selector is a plain mapping."""

    resource: str
    group: str = ""
    plain: bool = False

    @property
    def singular(self) -> str:
        """As in sentences."""
        return self.resource[:-1]


_KINDS: Final[tuple[tuple[Kind, tuple[str, ...]], ...]] = (
    (Kind("pods"), ("pod", "po")),
    (Kind("deployments", "apps/v1"), ("deployment", "deploy")),
    (Kind("statefulsets", "apps/v1"), ("statefulset", "sts")),
    (Kind("daemonsets", "apps/v1"), ("daemonset", "ds")),
    (Kind("replicasets", "apps/v1"), ("replicaset", "rs")),
    (Kind("jobs", "batch/v1"), ("job",)),
    (Kind("services", plain=True), ("service", "svc")),
    (Kind("replicationcontrollers", plain=True), ("replicationcontroller", "rc")),
)
_BY_NAME: Final = {name: kind for kind, names in _KINDS for name in (kind.resource, *names)}


@dataclass(frozen=True, slots=True)
class Selected:
    """What a name says: a pod's own (``kind`` is None), or an object whose pods are meant."""

    name: str
    kind: Kind | None = None

    def __str__(self) -> str:
        return f"{self.kind.singular}/{self.name}" if self.kind is not None else self.name


def parse_name(text: str) -> Selected:
    """``POD`` or ``KIND/NAME``, with the short names and the groups that kubectl takes (``deploy``,
    ``deployments.apps``). Raises ValueError for an unknown kind.
    """
    word, slash, name = text.partition("/")
    if not slash:
        return Selected(_valid(text))
    kind = _BY_NAME.get(word.lower().partition(".")[0])
    if kind is None:
        known = ", ".join(names[-1] for _, names in _KINDS)
        raise ValueError(f"{printable(word, limit=100)!r} is no kind of object that has pods: expected one of {known}")
    return Selected(_valid(name), kind if kind.resource != "pods" else None)


def is_kind(word: str) -> bool:
    """Whether ``word/NAME`` names an object by its kind, and not a pod in a namespace."""
    return word.lower().partition(".")[0] in _BY_NAME


def _valid(name: str) -> str:
    if not name or name in {".", ".."} or "/" in name:
        raise ValueError(f"a name is not empty, '.' or '..', and holds no '/': got {printable(name, limit=100)!r}")
    return name


# -- an object's pods --------------------------------------------------------------------------------------------------


def selector_of(document: Any, selected: Selected) -> str:  # noqa: ANN401 - JSON
    """The label selector of this object's pods, as a query carries it. Raises NotFound where it has none."""
    kind = selected.kind
    assert kind is not None
    selector = _mapping(_mapping(document).get("spec")).get("selector")
    labels = _mapping(selector) if kind.plain else _mapping(_mapping(selector).get("matchLabels"))
    terms = [f"{key}={value}" for key, value in labels.items() if isinstance(value, str)]
    if not kind.plain:
        terms += [_expression(_mapping(term)) for term in _list(_mapping(selector).get("matchExpressions"))]
    if not terms:
        raise errors.NotFound(
            f"{selected} selects no pods: it has no selector",
            hint="name a pod, or an object that has pods of its own",
            route="apiserver",
        )
    return ",".join(terms)


def _expression(term: Mapping[str, Any]) -> str:
    key, operator = term.get("key", ""), term.get("operator")
    values = ",".join(value for value in _list(term.get("values")) if isinstance(value, str))
    forms = {"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "Exists": f"{key}"}
    return forms.get(str(operator), f"!{key}")


# -- pods --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PodFacts:
    """What a cluster, or a kubelet, says of one pod."""

    namespace: str
    name: str
    uid: str = ""
    node: str = ""
    host_ip: str = ""
    phase: str = ""
    ready: bool = False
    ready_since: str = ""
    created: str = ""
    leaving: bool = False
    restarts: int = 0
    containers: tuple[str, ...] = ()
    init_containers: tuple[str, ...] = ()
    ephemeral_containers: tuple[str, ...] = ()
    annotated: str = ""
    labels: Mapping[str, str] | None = None

    @property
    def over(self) -> bool:
        """Whether its containers have ended for good."""
        return self.phase in ("Succeeded", "Failed")

    @property
    def all_containers(self) -> tuple[str, ...]:
        """In the order in which kubectl lists them: init, ordinary, ephemeral."""
        return (*self.init_containers, *self.containers, *self.ephemeral_containers)

    def choose(self, container: str | None, route: str, url: str = "") -> str:
        """``container`` if the pod has it; without one the annotated container, else the first.

        Raises NotFound, with the names to choose from.
        """
        if container is None:
            if self.annotated in self.all_containers:
                return self.annotated
            if self.containers:
                return self.containers[0]
        elif container in self.all_containers:
            return container
        what = "no containers" if container is None else f"no container {printable(container, limit=100)!r}"
        raise errors.NotFound(
            f"pod {self.namespace}/{self.name} has {what}",
            hint=f"choose from {self._listed()}" if self.all_containers else "check the pod",
            route=route,
            url=url,
        )

    def _listed(self) -> str:
        groups = (("", self.containers), ("init: ", self.init_containers), ("ephemeral: ", self.ephemeral_containers))
        return "; ".join(
            prefix + ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
            for prefix, names in groups
            if names
        )


def parse_pod(document: Any) -> PodFacts:  # noqa: ANN401 - JSON
    """The pod that this JSON object describes; parts of another shape than they should have count as missing."""
    pod = _mapping(document)
    metadata, spec, status = (_mapping(pod.get(name)) for name in ("metadata", "spec", "status"))
    ready = next((c for c in map(_mapping, _list(status.get("conditions"))) if c.get("type") == "Ready"), {})
    restarts = [c.get("restartCount") for c in map(_mapping, _list(status.get("containerStatuses")))]
    labels = _mapping(metadata.get("labels"))
    return PodFacts(
        namespace=_text(metadata.get("namespace")),
        name=_text(metadata.get("name")),
        uid=_text(metadata.get("uid")),
        node=_text(spec.get("nodeName")),
        host_ip=_text(status.get("hostIP")),
        phase=_text(status.get("phase")),
        ready=ready.get("status") == "True",
        ready_since=_text(ready.get("lastTransitionTime")),
        created=_text(metadata.get("creationTimestamp")),
        leaving=bool(metadata.get("deletionTimestamp")),
        restarts=sum(count for count in restarts if isinstance(count, int)),
        containers=_names(spec.get("containers")),
        init_containers=_names(spec.get("initContainers")),
        ephemeral_containers=_names(spec.get("ephemeralContainers")),
        annotated=_text(_mapping(metadata.get("annotations")).get(ANNOTATION)),
        labels={key: value for key, value in labels.items() if isinstance(value, str)},
    )


def parse_pods(document: Any) -> list[PodFacts]:  # noqa: ANN401 - JSON
    """The pods of a list."""
    return [parse_pod(item) for item in _list(_mapping(document).get("items"))]


def best_pod(pods: Sequence[PodFacts]) -> PodFacts | None:
    """The one to talk to, as kubectl ranks them (``kubectl: pkg/util/podutils/podutils.go: ActivePods``): assigned,
    running, ready, ready for longest, restarted least, oldest; and before all of these, not about to be deleted.
    """
    phases = {"Running": 0, "Unknown": 1, "Pending": 2}

    def rank(pod: PodFacts) -> tuple[object, ...]:
        phase = phases.get(pod.phase, 3)
        since = pod.ready_since or "9"  # times of RFC 3339 in UTC sort as text
        return (pod.leaving, not pod.node, phase, not pod.ready, since, pod.restarts, pod.created or "9", pod.name)

    return min(pods, key=rank, default=None)


def _names(value: Any) -> tuple[str, ...]:  # noqa: ANN401 - JSON
    names = (item.get("name") for item in map(_mapping, _list(value)))
    return tuple(name for name in names if isinstance(name, str) and name)


def _mapping(value: Any) -> Mapping[str, Any]:  # noqa: ANN401 - JSON
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> Sequence[Any]:  # noqa: ANN401 - JSON
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:  # noqa: ANN401 - JSON
    return value if isinstance(value, str) else ""
