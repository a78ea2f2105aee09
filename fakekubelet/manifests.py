"""Pods from a YAML file of ordinary manifests, with what their containers do in annotations.

A file holds any number of documents: kind ``Pod``, or ``List`` and ``PodList`` of them. What the API knows is taken as
it stands (name, namespace, uid, labels, images, ports, stdin and tty, restartPolicy, initContainers) and shown in
``/pods``. An image is not run. What happens instead stands in annotations, one for each container that does more than
answer the scripted commands; its value is YAML::

    metadata:
      annotations:
        fakekubelet.container/web: |
          main: [source, "1000"]           # a command line; `main: command` takes the container's own command and args
          files: {/etc/motd: "hello\\n"}    # what ls and cat show
          log-file: web.log                # a log of a runtime, CRI or Docker; or `log: |` with its text
          waiting: ImagePullBackOff        # it does not start
        fakekubelet.pod/restart-delays: "[0, 1, 5]"

The keys are the fields of ``pods.Container`` with dashes; ``log-file`` and ``previous-log-file`` are paths beside the
manifest. Behaviours in Python cannot be named here: for those there is ``pods.Container``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from fakekubelet.behaviours import DEMO_TREE
from fakekubelet.pods import DEFAULT_IMAGE, Container, Pod
from fakekubelet.ports import Port, echo

CONTAINER = "fakekubelet.container/"
"""Prefix of the annotation of a container; its name follows."""

POD = "fakekubelet.pod/"
"""Prefix of the annotations of a pod."""

FILE_LIMIT = 16 * 1024 * 1024
"""Bytes of a manifest, or of a log file that one names."""

_OPTIONS: Mapping[str, tuple[type, ...]] = {
    "main": (list, str),
    "files": (dict,),
    "log": (str,),
    "log-file": (str,),
    "previous-log": (str,),
    "previous-log-file": (str,),
    "log-size": (int,),
    "waiting": (str, list),
    "backlog": (int,),
    "cpu": (int, float),
    "memory": (int,),
    "processes": (bool,),
    "path": (str,),
    "environment": (dict,),
}


def load_pods(path: str | Path) -> list[Pod]:
    """The pods of a manifest file. Raises OSError for a file that cannot be read, ValueError for one that makes no
    sense, with the place where it does not."""
    path = Path(path)
    return parse_pods(_read(path).decode("utf-8", "replace"), path.parent, str(path))


def parse_pods(text: str, folder: Path | None = None, name: str = "manifest") -> list[Pod]:
    """The pods of a manifest. ``folder`` is where the files lie that it names; without it none may be named."""
    try:
        documents = list(yaml.safe_load_all(text))
    except yaml.YAMLError as error:
        raise ValueError(f"{name}: {error}") from None
    pods = [
        _pod(each, folder, name) for document in documents if document is not None for each in _items(document, name)
    ]
    names = [pod.name for pod in pods]
    twice = sorted({each for each in names if names.count(each) > 1})
    if twice:
        raise ValueError(f"{name}: declared twice: {', '.join(twice)}")
    return pods


def _items(document: Any, name: str) -> Iterable[Any]:  # noqa: ANN401 - whatever YAML holds
    if not isinstance(document, dict):
        raise ValueError(f"{name}: expected an object of kind Pod, got {type(document).__name__}")
    kind = document.get("kind")
    if kind in ("List", "PodList"):
        items = document.get("items") or []
        if not isinstance(items, list):
            raise ValueError(f"{name}: items is a list, not {type(items).__name__}")
        return [each | {"kind": "Pod"} if isinstance(each, dict) and kind == "PodList" else each for each in items]
    return [document]


def _pod(document: Any, folder: Path | None, name: str) -> Pod:  # noqa: ANN401 - whatever YAML holds
    if not isinstance(document, dict) or document.get("kind") != "Pod":
        kind = document.get("kind") if isinstance(document, dict) else None
        raise ValueError(f"{name}: expected objects of kind Pod, got {kind!r}")
    metadata, spec = _object(document, "metadata", name), _object(document, "spec", name)
    if not isinstance(metadata.get("name"), str):
        raise ValueError(f"{name}: a pod without metadata.name")
    where = f"{name}: pod {metadata['name']}"
    annotations = {str(key): str(value) for key, value in _object(metadata, "annotations", where).items()}
    containers, before = (_list(spec, key, where) for key in ("containers", "initContainers"))
    known = {each.get("name") for each in (*containers, *before)}
    for key in annotations:
        if key.startswith(CONTAINER) and key.removeprefix(CONTAINER) not in known:
            raise ValueError(f"{where}: annotation {key} names no container of it")
        if key.startswith(POD) and key != f"{POD}restart-delays":
            raise ValueError(f"{where}: annotation {key} is not known; expected {POD}restart-delays")
    delays = _yaml(annotations.get(f"{POD}restart-delays", "null"), list, f"{where}: {POD}restart-delays")
    more: dict[str, Any] = {} if delays is None else {"restart_delays": tuple(delays)}
    try:
        return Pod(
            f"{metadata.get('namespace') or 'default'}/{metadata['name']}",
            [_container(each, annotations, folder, where) for each in containers],
            labels={str(key): str(value) for key, value in _object(metadata, "labels", where).items()},
            uid=str(metadata.get("uid") or ""),
            ports=_ports(containers),
            annotations=annotations,
            init_containers=[_container(each, annotations, folder, where) for each in before],
            restart_policy=spec.get("restartPolicy") or "Always",
            manifest={"metadata": metadata, "spec": spec},
            **more,
        )
    except ValueError as error:
        raise error if str(error).startswith(where) else ValueError(f"{where}: {error}") from None


def _ports(containers: list[dict[str, Any]]) -> dict[int, Port]:
    """What the containers say that they listen on answers with what it is sent."""
    declared = [each for container in containers for each in container.get("ports") or () if isinstance(each, dict)]
    return {
        each["containerPort"]: Port(echo, name=str(each.get("name") or ""))
        for each in declared
        if isinstance(each.get("containerPort"), int) and each.get("protocol", "TCP") == "TCP"
    }


def _container(document: dict[str, Any], annotations: Mapping[str, str], folder: Path | None, where: str) -> Container:
    if not isinstance(document.get("name"), str):
        raise ValueError(f"{where}: a container without a name")
    where = f"{where}: container {document['name']}"
    given = _yaml(annotations.get(CONTAINER + document["name"], "{}"), dict, where) or {}
    options = dict(_option(key, value, folder, where) for key, value in given.items())
    main = options.pop("main", None)
    if isinstance(main, str) and main != "command":
        raise ValueError(f"{where}: main is a list of arguments, or the word command, not {main!r}")
    if main is not None:
        argv = [*(document.get("command") or ()), *(document.get("args") or ())] if main == "command" else main
        options["main"] = [str(each) for each in argv]
    return Container(
        document["name"],
        image=str(document.get("image") or DEFAULT_IMAGE),
        stdin=bool(document.get("stdin")),
        stdin_once=bool(document.get("stdinOnce")),
        tty=bool(document.get("tty")),
        **options,
    )


def _option(key: str, value: Any, folder: Path | None, where: str) -> tuple[str, Any]:  # noqa: ANN401 - YAML
    """One field of a container, as ``Container`` takes it."""
    kinds: Any = _OPTIONS.get(key)
    if kinds is None:
        raise ValueError(f"{where}: {key!r} is not known; expected some of {', '.join(_OPTIONS)}")
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        expected = " or ".join(kind.__name__ for kind in kinds)
        raise ValueError(f"{where}: {key} is {expected}, not {type(value).__name__}")
    if key.endswith("-file"):
        if folder is None:
            raise ValueError(f"{where}: {key}: there is no folder that {value!r} could lie in")
        return key.removesuffix("-file").replace("-", "_"), _read(folder / value)
    if key == "files":
        value = {**DEMO_TREE, **{str(path): str(content) for path, content in value.items()}}
    elif key == "environment":
        value = {str(name): str(content) for name, content in value.items()}
    elif key == "waiting" and isinstance(value, list):
        value = tuple(map(str, (*value, "")[:2]))
    return key.replace("-", "_"), value


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(FILE_LIMIT + 1)
    if len(data) > FILE_LIMIT:
        raise ValueError(f"{path}: more than {FILE_LIMIT} bytes")
    return data


def _yaml(text: str, kind: type, where: str) -> Any:  # noqa: ANN401 - whatever YAML holds
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{where}: {error}") from None
    if value is not None and not isinstance(value, kind):
        raise ValueError(f"{where}: expected a {kind.__name__}, got {type(value).__name__}")
    return value


def _object(document: dict[str, Any], key: str, where: str) -> dict[str, Any]:
    value = document.get(key) or {}
    if not isinstance(value, dict):
        raise ValueError(f"{where}: {key} is an object, not {type(value).__name__}")
    return value


def _list(document: dict[str, Any], key: str, where: str) -> list[dict[str, Any]]:
    value = document.get(key) or []
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise ValueError(f"{where}: {key} is a list of objects")
    return value
