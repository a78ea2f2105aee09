"""The kinds of objects that the fake apiserver knows, in one table: what discovery tells and what paths mean.

Everything is declared and read; nothing is created by clients but reviews, which are questions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
"""An API object as JSON has it."""

READ = ("get", "list", "watch")
_CONNECT = ("create", "get")
_ANY_METHOD = ("create", "delete", "get", "patch", "update")


@dataclass(frozen=True, slots=True)
class Subresource:
    """A subresource as discovery tells it."""

    name: str
    kind: str
    verbs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind: its names, its place, and what may be done with it."""

    plural: str
    kind: str
    group: str = ""
    version: str = "v1"
    namespaced: bool = True
    short: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = READ
    subresources: tuple[Subresource, ...] = ()

    @property
    def singular(self) -> str:
        """As ``kubectl`` takes it, too."""
        return self.kind.lower()

    @property
    def group_version(self) -> str:
        """``apiVersion`` of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """``PLURAL.GROUP``, as error messages name it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


_POD_SUBRESOURCES = (
    Subresource("attach", "PodAttachOptions", _CONNECT),
    Subresource("exec", "PodExecOptions", _CONNECT),
    Subresource("log", "Pod", ("get",)),
    Subresource("portforward", "PodPortForwardOptions", _CONNECT),
)
_ALL = ("all",)

RESOURCES = (
    Resource("configmaps", "ConfigMap", short=("cm",)),
    Resource("namespaces", "Namespace", namespaced=False, short=("ns",)),
    Resource(
        "nodes",
        "Node",
        namespaced=False,
        short=("no",),
        subresources=(Subresource("proxy", "NodeProxyOptions", _ANY_METHOD),),
    ),
    Resource("pods", "Pod", short=("po",), categories=_ALL, subresources=_POD_SUBRESOURCES),
    Resource("services", "Service", short=("svc",), categories=_ALL),
    Resource("deployments", "Deployment", "apps", short=("deploy",), categories=_ALL),
    Resource("replicasets", "ReplicaSet", "apps", short=("rs",), categories=_ALL),
    Resource("statefulsets", "StatefulSet", "apps", short=("sts",), categories=_ALL),
    Resource("selfsubjectreviews", "SelfSubjectReview", "authentication.k8s.io", namespaced=False, verbs=("create",)),
    Resource("tokenreviews", "TokenReview", "authentication.k8s.io", namespaced=False, verbs=("create",)),
    Resource("localsubjectaccessreviews", "LocalSubjectAccessReview", "authorization.k8s.io", verbs=("create",)),
    Resource(
        "selfsubjectaccessreviews",
        "SelfSubjectAccessReview",
        "authorization.k8s.io",
        namespaced=False,
        verbs=("create",),
    ),
    Resource(
        "subjectaccessreviews", "SubjectAccessReview", "authorization.k8s.io", namespaced=False, verbs=("create",)
    ),
    Resource("jobs", "Job", "batch", categories=_ALL),
    Resource("endpointslices", "EndpointSlice", "discovery.k8s.io"),
)

_BY_PATH = {(each.group, each.version, each.plural): each for each in RESOURCES}
_BY_KIND = {(each.group_version, each.kind): each for each in RESOURCES}


def find(group: str, version: str, plural: str) -> Resource | None:
    """The resource of a path, or None."""
    return _BY_PATH.get((group, version, plural))


def of_object(document: Object) -> Resource:
    """The resource of an object, by its ``apiVersion`` and ``kind``. Raises ValueError for one that is not served."""
    found = _BY_KIND.get((document.get("apiVersion", ""), document.get("kind", "")))
    if found is None or "list" not in found.verbs:
        known = ", ".join(sorted(each.kind for each in RESOURCES if "list" in each.verbs))
        raise ValueError(
            f"no such kind of object here: apiVersion {document.get('apiVersion')!r}, kind {document.get('kind')!r}; "
            f"known are {known}"
        )
    return found


def groups() -> Iterator[tuple[str, list[Resource]]]:
    """Each group and its resources, the core group ("") first."""
    names = dict.fromkeys(each.group for each in RESOURCES)
    for name in names:
        yield name, [each for each in RESOURCES if each.group == name]
