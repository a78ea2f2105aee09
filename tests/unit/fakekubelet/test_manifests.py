"""Pods from YAML: what is taken as it stands, what annotations add, and what is refused with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakekubelet.manifests import load_pods, parse_pods
from fakekubelet.podlogs import parse_log

WEB = """
apiVersion: v1
kind: Pod
metadata:
  name: web
  namespace: shop
  uid: 11111111-2222-3333-4444-555555555555
  labels: {app: web, tier: "1"}
  annotations:
    note: mine
    fakekubelet.container/web: |
      main: command
      files: {/etc/motd: hello}
      cpu: 0.5
      memory: 1048576
      log: |
        2024-01-01T00:00:00Z stdout F one
    fakekubelet.container/setup: "main: [echo, ready]"
    fakekubelet.container/sad: "waiting: [ErrImagePull, no such image]"
    fakekubelet.pod/restart-delays: "[0, 0.5]"
spec:
  restartPolicy: OnFailure
  serviceAccountName: web
  initContainers:
  - {name: setup, image: "busybox:1"}
  containers:
  - name: web
    image: nginx:1.27
    command: [source]
    args: [10]
    stdin: true
    ports: [{containerPort: 8080, name: http}, {containerPort: 53, protocol: UDP}]
  - {name: sad, image: nope, tty: true}
---
apiVersion: v1
kind: PodList
items:
- metadata: {name: plain}
  spec: {containers: [{name: main}]}
"""


def test_manifests_are_taken_as_they_stand() -> None:
    web, plain = parse_pods(WEB)
    assert (web.name, web.uid, web.restart_policy) == ("shop/web", "11111111-2222-3333-4444-555555555555", "OnFailure")
    assert (web.labels, web.restart_delays) == ({"app": "web", "tier": "1"}, (0, 0.5))
    first, sad = web.containers
    assert (first.image, first.main, first.stdin, first.tty) == ("nginx:1.27", ("source", "10"), True, False)
    assert first.files["/etc/motd"] == "hello"
    assert first.files["/etc/hostname"]
    assert (first.cpu, first.memory) == (0.5, 1 << 20)
    assert isinstance(first.log, str)
    assert parse_log(first.log)[0].data == b"one\n"
    assert (sad.wait, sad.tty, sad.main) == (("ErrImagePull", "no such image"), True, None)
    (setup,) = web.init_containers
    assert setup.main == ("echo", "ready")
    assert list(web.ports) == [8080]
    document = web.manifest_document("n1")
    assert document["spec"]["serviceAccountName"] == "web"
    assert document["spec"]["nodeName"] == "n1"
    assert document["metadata"]["annotations"]["note"] == "mine"
    assert (plain.name, plain.restart_policy) == ("default/plain", "Always")


def test_logs_may_lie_in_files_beside_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("2024-01-01T00:00:00Z stdout F a\n")
    manifest = tmp_path / "pods.yaml"
    manifest.write_text(
        "kind: Pod\nmetadata:\n  name: a\n  annotations:\n"
        "    fakekubelet.container/main: '{log-file: a.log, previous-log-file: a.log}'\n"
        "spec: {containers: [{name: main}]}\n"
    )
    (pod,) = load_pods(manifest)
    (container,) = pod.containers
    assert container.log == container.previous_log == b"2024-01-01T00:00:00Z stdout F a\n"
    (tmp_path / "a.log").unlink()
    with pytest.raises(FileNotFoundError):
        load_pods(manifest)


def pod(annotation: str = "", spec: str = "containers: [{name: main}]", metadata: str = "") -> str:
    lines = f"kind: Pod\nmetadata:\n  name: a\n{metadata}"
    if annotation:
        lines += f"  annotations: {{{annotation}}}\n"
    return f"{lines}spec: {{{spec}}}\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: [", "manifest: while parsing"),
        ("[1]", "expected an object of kind Pod, got list"),
        ("kind: Deployment", "expected objects of kind Pod, got 'Deployment'"),
        ("kind: List\nitems: [1]", "expected objects of kind Pod, got None"),
        ("kind: List\nitems: 1", "items is a list, not int"),
        ("kind: Pod\nmetadata: 1", "metadata is an object, not int"),
        ("kind: Pod\nmetadata: {}", "a pod without metadata.name"),
        (pod(spec=""), "pod default/a: expected one container or more"),
        (pod(spec="containers: 1"), "pod a: containers is a list of objects"),
        (pod(spec="containers: [{image: x}]"), "pod a: a container without a name"),
        (pod(spec="restartPolicy: Perhaps, containers: [{name: main}]"), "restart_policy Always, OnFailure or Never"),
        (pod() + "---\n" + pod(), "manifest: declared twice: default/a"),
        (pod("fakekubelet.container/nope: ''"), "fakekubelet.container/nope names no container of it"),
        (pod("fakekubelet.pod/nope: ''"), "fakekubelet.pod/nope is not known"),
        (pod("fakekubelet.pod/restart-delays: '1'"), "restart-delays: expected a list, got int"),
        (pod("fakekubelet.container/main: '[1]'"), "pod a: container main: expected a dict, got list"),
        (pod("fakekubelet.container/main: 'a: ['"), "pod a: container main: while parsing"),
        (pod("fakekubelet.container/main: 'nope: 1'"), "container main: 'nope' is not known; expected some of main,"),
        (pod("fakekubelet.container/main: 'cpu: x'"), "container main: cpu is int or float, not str"),
        (pod("fakekubelet.container/main: 'log-size: true'"), "container main: log-size is int, not bool"),
        (pod("fakekubelet.container/main: 'main: sh'"), "main is a list of arguments, or the word command, not 'sh'"),
        (pod("fakekubelet.container/main: 'main: command'"), "container 'main': main is a list of arguments, not"),
        (pod("fakekubelet.container/main: 'log: x'"), "neither a line of a CRI log nor of a Docker one"),
        (pod("fakekubelet.container/main: 'log-file: x'"), "log-file: there is no folder that 'x' could lie in"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match="manifest") as caught:
        parse_pods(text)
    assert reason in str(caught.value)


def test_an_empty_file_has_no_pods() -> None:
    assert parse_pods("") == parse_pods("---\n---\n") == []
