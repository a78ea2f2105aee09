"""What tells clients what there is: groups, versions and resources, the release, and some OpenAPI.

Two forms: the old one, a document for each group, and the aggregated one of two documents
(``apidiscovery.k8s.io/v2``), which kubectl prefers.
"""

from __future__ import annotations

from fakekubelet.apiserver.resources import Object, Resource, groups

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
"""The media type of the aggregated form."""


def api_versions(address: str) -> Object:
    """``/api``."""
    ranges = [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": ranges}


def group_list() -> Object:
    """``/apis``."""
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(name) for name, _ in groups() if name]}


def group(name: str) -> Object | None:
    """``/apis/GROUP``, or None if there is no such group."""
    if name not in [each for each, _ in groups() if each]:
        return None
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(name)}


def _group(name: str) -> Object:
    version = {"groupVersion": f"{name}/v1", "version": "v1"}
    return {"name": name, "versions": [version], "preferredVersion": version}


def resource_list(name: str) -> Object | None:
    """``/api/v1`` for the core group (""), or ``/apis/GROUP/v1``; None if there is no such group."""
    for each, resources in groups():
        if each == name:
            listed = [entry for resource in resources for entry in _entries(resource)]
            version = resources[0].group_version
            return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": listed}
    return None


def _entries(resource: Resource) -> list[Object]:
    entry: Object = {
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(resource.verbs),
    }
    if resource.short:
        entry["shortNames"] = list(resource.short)
    if resource.categories:
        entry["categories"] = list(resource.categories)
    return [
        entry,
        *(
            {
                "name": f"{resource.plural}/{each.name}",
                "singularName": "",
                "namespaced": resource.namespaced,
                "kind": each.kind,
                "verbs": list(each.verbs),
            }
            for each in resource.subresources
        ),
    ]


def aggregated(*, core: bool) -> Object:
    """``/api`` (``core``) or ``/apis`` in the aggregated form."""
    items = [
        {
            "metadata": {"name": name, "creationTimestamp": None} if name else {"creationTimestamp": None},
            "versions": [{"version": "v1", "freshness": "Current", "resources": [_aggregate(each) for each in listed]}],
        }
        for name, listed in groups()
        if (not name) is core
    ]
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    }


def _aggregate(resource: Resource) -> Object:
    entry: Object = {
        "resource": resource.plural,
        "responseKind": {"group": resource.group, "version": resource.version, "kind": resource.kind},
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": list(resource.verbs),
    }
    if resource.short:
        entry["shortNames"] = list(resource.short)
    if resource.categories:
        entry["categories"] = list(resource.categories)
    if resource.subresources:
        entry["subresources"] = [
            {
                "subresource": each.name,
                "responseKind": {"group": "", "version": "v1", "kind": each.kind},
                "verbs": list(each.verbs),
            }
            for each in resource.subresources
        ]
    return entry


def version_document(release: str) -> Object:
    """``/version`` of a release such as ``1.36.6``."""
    major, minor = release.split(".")[:2]
    return {
        "major": major,
        "minor": minor,
        "emulationMajor": major,
        "emulationMinor": minor,
        "gitVersion": f"v{release}",
        "gitCommit": "0" * 40,
        "gitTreeState": "clean",
        "buildDate": "2024-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "none",
        "platform": "linux/amd64",
    }


def openapi_v2(release: str) -> Object:
    """``/openapi/v2``: every kind as an object of any fields, which is enough for what reads it to go on."""
    definitions: Object = {}
    for _, resources in groups():
        for each in resources:
            prefix = f"io.k8s.api.{each.group.partition('.')[0] or 'core'}.{each.version}"
            kinds = [{"group": each.group, "version": each.version, "kind": each.kind}]
            definitions[f"{prefix}.{each.kind}"] = {"type": "object", "x-kubernetes-group-version-kind": kinds}
    info = {"title": "Kubernetes", "version": f"v{release}"}
    return {"swagger": "2.0", "info": info, "paths": {}, "definitions": definitions}


def openapi_v3() -> Object:
    """``/openapi/v3``: no group has a schema."""
    return {"paths": {}}
