"""Label and field selectors, as the query parameters have them.

Sources: ``apimachinery: pkg/labels/selector.go``, ``pkg/fields/selector.go``; which fields can be selected by is in
``k/k: pkg/apis/core/v1/conversion.go``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from fakekubelet.apiserver.resources import Object, Resource

Predicate = Callable[[Object], bool]

_KEY = r"[A-Za-z0-9](?:[A-Za-z0-9._/-]*[A-Za-z0-9])?"
_VALUE = r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)?"
_EXISTS = re.compile(rf"(!?)\s*({_KEY})")
_EQUALITY = re.compile(rf"({_KEY})\s*(==|=|!=)\s*({_VALUE})")
_SET = re.compile(rf"({_KEY})\s+(in|notin)\s*\(([^()]*)\)")
_ORDER = re.compile(rf"({_KEY})\s*([<>])\s*(-?[0-9]+)")


class SelectorError(ValueError):
    """A selector that cannot be read, or names a field that cannot be selected by."""


def _split(text: str) -> list[str]:
    """At the commas outside of parentheses."""
    return [part.strip() for part in re.split(r",(?![^(]*\))", text)]


def label_selector(text: str) -> Predicate:
    """A predicate over objects. Raises SelectorError."""
    if not text.strip():
        return lambda document: True
    tests = [_requirement(part) for part in _split(text)]

    def matches(document: Object) -> bool:
        labels: Mapping[str, str] = document.get("metadata", {}).get("labels") or {}
        return all(test(labels) for test in tests)

    return matches


def _requirement(text: str) -> Callable[[Mapping[str, str]], bool]:
    if found := _EXISTS.fullmatch(text):
        absent, key = bool(found[1]), found[2]
        return lambda labels: (key in labels) is not absent
    if found := _EQUALITY.fullmatch(text):
        key, operator, value = found.groups()
        if operator == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if found := _SET.fullmatch(text):
        key, operator, values = found[1], found[2], {each.strip() for each in found[3].split(",")}
        if all(re.fullmatch(_VALUE, value) for value in values):
            if operator == "in":
                return lambda labels: key in labels and labels[key] in values
            return lambda labels: key not in labels or labels[key] not in values
    if found := _ORDER.fullmatch(text):
        key, operator, bound = found[1], found[2], int(found[3])
        return lambda labels: _ordered(labels.get(key), operator, bound)
    raise SelectorError(f"unable to parse requirement: {text!r}")


def _ordered(value: str | None, operator: str, bound: int) -> bool:
    if value is None or not re.fullmatch(r"-?[0-9]+", value):
        return False
    return int(value) > bound if operator == ">" else int(value) < bound


def matches_labels(selector: Mapping[str, str], document: Object) -> bool:
    """Whether an object has all these labels, as a Service selects."""
    labels = document.get("metadata", {}).get("labels") or {}
    return all(labels.get(key) == value for key, value in selector.items())


_FIELDS: dict[str, tuple[str, ...]] = {
    "pods": (
        "spec.hostNetwork",
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "status.nominatedNodeName",
        "status.phase",
        "status.podIP",
    ),
    "nodes": ("spec.unschedulable",),
    "namespaces": ("status.phase",),
    "jobs": ("status.successful",),
    "services": ("spec.clusterIP", "spec.type"),
    "replicasets": ("status.replicas",),
}


def field_selector(text: str, resource: Resource) -> Predicate:
    """A predicate over objects of that resource. Raises SelectorError."""
    if not text.strip():
        return lambda document: True
    known = {"metadata.name", *_FIELDS.get(resource.plural, ())}
    if resource.namespaced:
        known.add("metadata.namespace")
    tests: list[tuple[str, bool, str]] = []
    for part in text.split(","):
        found = re.fullmatch(r"([^=!]+)(==|=|!=)(.*)", part.strip())
        if found is None:
            raise SelectorError(f"invalid selector: {part!r}; can't understand {part!r}")
        key, operator, value = found.groups()
        if key not in known:
            raise SelectorError(f"field label not supported: {key}")
        tests.append((key, operator != "!=", value))
    return lambda document: all((_field(document, key) == value) is wanted for key, wanted, value in tests)


def _field(document: Object, path: str) -> str:
    value: object = document
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    if value is None:
        return "false" if path in ("spec.unschedulable", "spec.hostNetwork") else ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def all_of(predicates: Iterable[Predicate]) -> Predicate:
    """Their conjunction."""
    tests = list(predicates)
    return lambda document: all(test(document) for test in tests)
