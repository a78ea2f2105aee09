"""Node objects for fake kubelets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fakekubelet.apiserver.resources import Object


def node_document(
    name: str,
    address: str,
    port: int,
    *,
    release: str,
    labels: Mapping[str, str] | None = None,
    features: Iterable[str] = (),
    ready: bool = True,
) -> Object:
    """A node as its kubelet registers it: where it is, what it is, what it can do (``declaredFeatures``)."""
    names = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    moment = "2024-01-01T00:00:00Z"
    fine = {"status": "False", "lastHeartbeatTime": moment, "lastTransitionTime": moment}
    state = {"status": "True" if ready else "False", "lastHeartbeatTime": moment, "lastTransitionTime": moment}
    status: Object = {
        "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
        "allocatable": _CAPACITY,
        "capacity": _CAPACITY,
        "conditions": [
            {"type": "MemoryPressure", **fine, "reason": "KubeletHasSufficientMemory", "message": ""},
            {"type": "DiskPressure", **fine, "reason": "KubeletHasNoDiskPressure", "message": ""},
            {"type": "PIDPressure", **fine, "reason": "KubeletHasSufficientPID", "message": ""},
            {"type": "Ready", **state, "reason": "KubeletReady" if ready else "KubeletNotReady", "message": ""},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "nodeInfo": {
            "architecture": "amd64",
            "bootID": "",
            "containerRuntimeVersion": "containerd://2.0.0",
            "kernelVersion": "6.1.0",
            "kubeProxyVersion": "",
            "kubeletVersion": f"v{release}",
            "machineID": "",
            "operatingSystem": "linux",
            "osImage": "kubewire fake",
            "systemUUID": "",
        },
    }
    declared = sorted(features)
    if declared:
        status["declaredFeatures"] = declared
    return {
        "kind": "Node",
        "apiVersion": "v1",
        "metadata": {"name": name, "creationTimestamp": moment, "labels": {**names, **(labels or {})}},
        "spec": {},
        "status": status,
    }


_CAPACITY = {"cpu": "2", "memory": "4Gi", "pods": "110"}
