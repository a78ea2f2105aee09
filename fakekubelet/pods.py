"""The pods of a fake node, and the PodList that ``/pods`` answers."""

from __future__ import annotations

import asyncio
import datetime
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fakekubelet.behaviours import DEMO_TREE, FileTree, scripted
from fakekubelet.callables import Behaviour, run_callable
from fakekubelet.mains import MAX_BACKLOG, MainProcess, main_request
from fakekubelet.ports import Loopback, Port, Service
from fakekubelet.processes import ProcessHost
from fakekubelet.runtimes import Command, Runtime
from spdyproto.channels.events import StreamSet

DEFAULT_IMAGE = "registry.invalid/kubewire/scripted:latest"

_STARTED = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
_NAMESPACE_OF_UIDS = uuid.UUID("5d1f5d3c-5f0e-4b7e-9c2b-0c6f3c1e4a77")


@dataclass(frozen=True, slots=True)
class Container:
    """A declared container and what answers an exec in it.

    ``behaviour`` is one of: None, the scripted commands over ``files`` (see ``fakekubelet.behaviours``); a function
    or coroutine function that takes an exec context and returns the exit code (see ``fakekubelet.callables``); or a
    subclass of ``fakekubelet.runtimes.Command``, which runs on the server's loop.

    ``processes=True`` runs real processes of the host instead. They get a working folder of their own, removed when the
    server closes, and nothing of the server's environment: ``path`` and ``environment`` are all they have. The server
    refuses such a container unless it was made with ``allow_processes=True``.

    ``main`` is the process that starts with the pod and that attach reaches: a command line for what answers an exec
    too, or a behaviour of its own; None is a process that does nothing for ever. It has stdin if ``stdin``, which ends
    with the first attacher that sends some if ``stdin_once``, and a terminal if ``tty``. ``backlog`` is how many bytes
    of its output a new attacher gets to begin with: none in a real container. See ``fakekubelet.mains``.
    """

    name: str
    behaviour: Behaviour | type[Command] | None = None
    files: FileTree = field(default_factory=lambda: DEMO_TREE)
    processes: bool = False
    path: str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    environment: Mapping[str, str] = field(default_factory=dict)
    image: str = DEFAULT_IMAGE
    main: Sequence[str] | Behaviour | type[Command] | None = None
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    backlog: int = 0

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name:
            raise ValueError(f"a container needs a name without '/', not {self.name!r}")
        if self.processes and self.behaviour is not None:
            raise ValueError(f"container {self.name!r}: either processes=True or a behaviour, not both")
        if isinstance(self.main, str) or (isinstance(self.main, Sequence) and not self.main):
            raise ValueError(f"container {self.name!r}: main is a list of arguments, not {self.main!r}")
        if self.stdin_once and not self.stdin:
            raise ValueError(f"container {self.name!r}: stdin_once needs stdin")
        if not 0 <= self.backlog <= MAX_BACKLOG:
            raise ValueError(f"container {self.name!r}: a backlog of 0 to {MAX_BACKLOG} bytes, not {self.backlog}")
        if isinstance(self.main, Sequence):
            object.__setattr__(self, "main", tuple(self.main))

    def runtime(self, host: ProcessHost | None) -> Runtime:
        """What launches a command in this container. ``host`` is needed for processes only.

        Raises PermissionError for a container of processes without a host that runs them.
        """
        if self.processes:
            if host is None:
                raise PermissionError(
                    f"container {self.name!r} runs processes of this host: allow it by name with allow_processes=True "
                    "(--allow-processes on the command line)"
                )
            return host.runtime(self.path, self.environment)
        if self.behaviour is None:
            return scripted(self.files)
        return _runtime_of(self.behaviour)

    def main_process(self, namespace: str, pod: str, runtime: Runtime) -> MainProcess:
        """The main process, not started yet. ``runtime`` is that of the container."""
        main = self.main
        argv: tuple[str, ...] = ()
        if main is None:
            runtime = Command
        elif isinstance(main, Sequence):
            argv = tuple(main)
        else:
            runtime = _runtime_of(main)
        streams = StreamSet(stdin=self.stdin, stdout=True, stderr=not self.tty, tty=self.tty)
        request = main_request(namespace, pod, self.name, argv, streams)
        return MainProcess(request, runtime, stdin_once=self.stdin_once, backlog=self.backlog)

    def document(self) -> dict[str, Any]:
        """The container in the pod's specification."""
        spec: dict[str, Any] = {"name": self.name, "image": self.image}
        if isinstance(self.main, Sequence):
            spec["command"] = list(self.main)
        spec |= {"resources": {}, "imagePullPolicy": "IfNotPresent"}
        flags = {"stdin": self.stdin, "stdinOnce": self.stdin_once, "tty": self.tty}
        return spec | {name: True for name, value in flags.items() if value}


def _runtime_of(behaviour: Behaviour | type[Command]) -> Runtime:
    return behaviour if isinstance(behaviour, type) else run_callable(behaviour)


@dataclass(frozen=True, slots=True)
class Pod:
    """A declared pod. ``name`` is ``NAMESPACE/NAME``, or ``NAME`` for the namespace ``default``.

    ``ports`` is what listens in it, by port: see ``fakekubelet.ports``. They stand in its first container.
    """

    name: str
    containers: Iterable[Container] = field(default_factory=lambda: (Container("main"),))
    labels: Mapping[str, str] = field(default_factory=dict)
    uid: str = ""
    ports: Mapping[int, Service | Port] = field(default_factory=dict)

    def __post_init__(self) -> None:
        namespace, slash, name = self.name.rpartition("/")
        if not name or "/" in namespace or (slash and not namespace):
            raise ValueError(f"a pod is NAMESPACE/NAME or NAME, not {self.name!r}")
        containers = tuple(self.containers)
        names = [container.name for container in containers]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"pod {self.name}: expected one container or more, with different names, got {names}")
        object.__setattr__(self, "name", f"{namespace or 'default'}/{name}")
        object.__setattr__(self, "containers", containers)
        object.__setattr__(self, "uid", self.uid or str(uuid.uuid5(_NAMESPACE_OF_UIDS, self.name)))
        if not all(0 < port < 65536 for port in self.ports):
            raise ValueError(f"pod {self.name}: a port is 1 to 65535, not one of {list(self.ports)}")

    @property
    def namespace(self) -> str:
        """The part before the slash."""
        return self.name.partition("/")[0]

    @property
    def short_name(self) -> str:
        """The part after the slash."""
        return self.name.partition("/")[2]

    def container(self, name: str) -> Container | None:
        """The container of this name, or None."""
        return next((container for container in self.containers if container.name == name), None)

    def service(self, port: int) -> Service | None:
        """What listens at ``port``, or None."""
        found = self.ports.get(port)
        return found.service if isinstance(found, Port) else found

    def _port_documents(self) -> list[dict[str, Any]]:
        named = {port: found.name if isinstance(found, Port) else "" for port, found in self.ports.items()}
        return [
            ({"name": name} if name else {}) | {"containerPort": port, "protocol": "TCP"}
            for port, name in named.items()
        ]

    def document(self, node: str, host_ip: str) -> dict[str, Any]:
        """The pod as its API object."""
        started = _STARTED.strftime("%Y-%m-%dT%H:%M:%SZ")
        conditions = ("Initialized", "Ready", "ContainersReady", "PodScheduled")
        metadata: dict[str, Any] = {"name": self.short_name, "namespace": self.namespace, "uid": self.uid}
        metadata["creationTimestamp"] = started
        if self.labels:
            metadata["labels"] = dict(self.labels)
        containers = [each.document() for each in self.containers]
        if self.ports:
            containers[0]["ports"] = self._port_documents()
        return {
            "metadata": metadata,
            "spec": {
                "containers": containers,
                "restartPolicy": "Always",
                "nodeName": node,
            },
            "status": {
                "phase": "Running",
                "conditions": [
                    {"type": kind, "status": "True", "lastProbeTime": None, "lastTransitionTime": started}
                    for kind in conditions
                ],
                "hostIP": host_ip,
                "podIP": host_ip,
                "podIPs": [{"ip": host_ip}],
                "startTime": started,
                "containerStatuses": [self._status(each, started) for each in self.containers],
                "qosClass": "BestEffort",
            },
        }

    def _status(self, container: Container, started: str) -> dict[str, Any]:
        return {
            "name": container.name,
            "state": {"running": {"startedAt": started}},
            "lastState": {},
            "ready": True,
            "restartCount": 0,
            "image": container.image,
            "imageID": "",
            "containerID": f"containerd://{uuid.uuid5(uuid.UUID(self.uid), container.name).hex * 2}",
            "started": True,
        }


class PodTable:
    """The pods of a node by ``NAMESPACE/NAME``; may be changed while the server runs, from any thread.

    ``host`` runs processes, if that is allowed. Main processes start when ``start`` is called, those of later pods when
    they are added; a pod that is taken away ends its own.
    """

    def __init__(
        self, pods: Iterable[Pod], host: ProcessHost | None = None, *, allow_loopback_ports: bool = False
    ) -> None:
        self._lock = threading.Lock()
        self._host = host
        self._allow_loopback_ports = allow_loopback_ports
        self._pods: dict[str, Pod] = {}
        self._runtimes: dict[tuple[str, str], Runtime] = {}
        self._mains: dict[tuple[str, str], MainProcess] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._subscribers: list[Callable[[str, Pod | None], None]] = []
        for pod in pods:
            self.add(pod)

    def add(self, pod: Pod) -> None:
        """Declare a pod, in place of one with the same name. Raises PermissionError as ``Container.runtime`` does."""
        if not self._allow_loopback_ports and any(isinstance(pod.service(port), Loopback) for port in pod.ports):
            raise PermissionError(
                f"pod {pod.name} forwards to ports of this host: allow it by name with allow_loopback_ports=True"
            )
        runtimes = {(pod.name, each.name): each.runtime(self._host) for each in pod.containers}
        mains = {
            (pod.name, each.name): each.main_process(pod.namespace, pod.short_name, runtimes[pod.name, each.name])
            for each in pod.containers
        }
        with self._lock:
            self._forget(pod.name)
            self._pods[pod.name] = pod
            self._runtimes.update(runtimes)
            self._mains.update(mains)
            for main in mains.values():
                self._on_loop(main, True)
            self._tell(pod.name, pod)

    def remove(self, name: str) -> None:
        """Take a pod away: its main processes end, and with them who is attached; other commands in it go on. Raises
        KeyError if there is none."""
        with self._lock:
            del self._pods[name]
            self._forget(name)
            self._tell(name, None)

    def subscribe(self, subscriber: Callable[[str, Pod | None], None]) -> None:
        """Have ``subscriber`` called with the name and the pod for each pod that comes, and with None for each that
        goes: in order, from whatever thread, under the table's lock, so it may not block."""
        with self._lock:
            self._subscribers.append(subscriber)

    def _tell(self, name: str, pod: Pod | None) -> None:
        for subscriber in self._subscribers:
            subscriber(name, pod)

    def _forget(self, name: str) -> None:
        self._pods.pop(name, None)
        for key in [key for key in self._runtimes if key[0] == name]:
            del self._runtimes[key]
            self._on_loop(self._mains.pop(key), False)

    def _on_loop(self, main: MainProcess, start: bool) -> None:
        if self._loop is None:
            return
        try:
            if start:
                self._loop.call_soon_threadsafe(main.start, self._loop)
            else:
                self._loop.call_soon_threadsafe(self._end, main)
        except RuntimeError:
            pass  # the server has ended, and everything with it

    def _end(self, main: MainProcess) -> None:
        task = asyncio.get_running_loop().create_task(main.close())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Called by the server on its loop: start the main processes of all pods."""
        with self._lock:
            self._loop = loop
            mains = list(self._mains.values())
        for main in mains:
            main.start(loop)

    async def close(self, timeout: float) -> None:
        """Called by the server on its loop: end them all, and wait for it."""
        with self._lock:
            mains = list(self._mains.values())
        for main in mains:
            self._end(main)
        if self._ending:
            _, late = await asyncio.wait(set(self._ending), timeout=timeout)
            for task in late:
                task.cancel()

    def main(self, pod: str, container: str) -> MainProcess | None:
        """The main process of a container, or None if there is no such container."""
        return self._mains.get((pod, container))

    def get(self, name: str) -> Pod | None:
        """The pod ``NAMESPACE/NAME``, or None."""
        return self._pods.get(name)

    def runtime(self, pod: str, container: str) -> Runtime | None:
        """What launches commands there, or None if there is no such container."""
        return self._runtimes.get((pod, container))

    def __getitem__(self, name: str) -> Pod:
        return self._pods[name]

    def __iter__(self) -> Iterator[Pod]:
        with self._lock:
            return iter(list(self._pods.values()))

    def __len__(self) -> int:
        return len(self._pods)

    def __contains__(self, name: object) -> bool:
        return name in self._pods

    def document(self, node: str, host_ip: str) -> dict[str, Any]:
        """The v1 ``PodList`` that a kubelet answers."""
        items = [pod.document(node, host_ip) for pod in self]
        return {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}
