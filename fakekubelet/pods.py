"""The pods of a fake node, and the PodList that ``/pods`` answers."""

from __future__ import annotations

import asyncio
import copy
import threading
import uuid
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from fakekubelet.behaviours import DEMO_TREE, FileTree, scripted
from fakekubelet.callables import Behaviour, BlockingExec, run_callable
from fakekubelet.mains import MAX_BACKLOG, MainProcess, main_request
from fakekubelet.podlogs import LOG_SIZE, ContainerLog, LogLine, parse_log
from fakekubelet.podstate import ContainerState, PodState
from fakekubelet.ports import Loopback, Port, Service
from fakekubelet.processes import ProcessHost
from fakekubelet.runtimes import Command, Runtime
from spdyproto.channels.events import StreamSet

DEFAULT_IMAGE = "registry.invalid/kubewire/scripted:latest"

LogSource = Callable[[], Iterable[LogLine | str | bytes] | AsyncIterable[LogLine | str | bytes]]
"""A function that gives the lines of a log; called on the server's loop when the container starts. It may raise
``LogFailure``."""

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

    What ``main`` writes is the container's log. ``log`` adds lines that are scripted: the text of a log file as a
    runtime writes it (CRI or Docker's JSON), or a function whose lines (``LogLine``, or plain text) come while the
    container runs, at once or, from an asynchronous generator, in their own time. ``previous_log`` is the text of the
    log of an instance before, which failed. A log is rotated at ``log_size`` bytes; only what came since is read.

    ``waiting``: the container does not start, for a reason such as ``ImagePullBackOff`` or a reason and a message;
    ``PodTable.release`` starts it. ``cpu`` (cores) and ``memory`` (bytes) are what the statistics say that it uses.
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
    log: str | bytes | LogSource | None = None
    previous_log: str | bytes | None = None
    log_size: int = LOG_SIZE
    waiting: str | tuple[str, str] | None = None
    cpu: float = 0.001
    memory: int = 4 * 1024 * 1024

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
        for field_name, text in (("log", self.log), ("previous_log", self.previous_log)):
            try:
                parse_log(text if isinstance(text, str | bytes) else b"")
            except ValueError as error:
                raise ValueError(f"container {self.name!r}: {field_name}: {error}") from None
        if self.log_size <= 0:
            raise ValueError(f"container {self.name!r}: a log_size of at least one byte, not {self.log_size}")

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

    @property
    def wait(self) -> tuple[str, str] | None:
        """Reason and message of ``waiting``, or None."""
        return (self.waiting, "") if isinstance(self.waiting, str) else self.waiting

    def main_process(
        self,
        namespace: str,
        pod: str,
        runtime: Runtime,
        log: ContainerLog | None = None,
        on_over: Callable[[MainProcess], None] | None = None,
    ) -> MainProcess:
        """A new main process, not started yet. ``runtime`` is that of the container."""
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
        return MainProcess(request, runtime, stdin_once=self.stdin_once, backlog=self.backlog, log=log, on_over=on_over)

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

    ``restart_policy`` says what becomes of a container whose process has ended: by default nothing. With ``Always`` and
    ``OnFailure`` it gets another one after as many seconds as ``restart_delays`` says for each further time, as a
    kubelet does with its back-off. ``init_containers`` run one after the other before the others start; one without
    ``main`` ends at once.

    ``manifest`` is an API object whose metadata and spec stand in ``/pods`` instead of the little that is made up
    otherwise.
    """

    name: str
    containers: Iterable[Container] = field(default_factory=lambda: (Container("main"),))
    labels: Mapping[str, str] = field(default_factory=dict)
    uid: str = ""
    ports: Mapping[int, Service | Port] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    init_containers: Iterable[Container] = ()
    restart_policy: Literal["Always", "OnFailure", "Never"] = "Never"
    restart_delays: Sequence[float] = (0.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0)
    manifest: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        namespace, slash, name = self.name.rpartition("/")
        if not name or "/" in namespace or (slash and not namespace):
            raise ValueError(f"a pod is NAMESPACE/NAME or NAME, not {self.name!r}")
        containers, before = tuple(self.containers), tuple(map(_ending, self.init_containers))
        names = [container.name for container in (*containers, *before)]
        if not containers or len(set(names)) != len(names):
            raise ValueError(f"pod {self.name}: expected one container or more, with different names, got {names}")
        if self.restart_policy not in ("Always", "OnFailure", "Never"):
            raise ValueError(f"pod {self.name}: restart_policy Always, OnFailure or Never, not {self.restart_policy!r}")
        if not all(0 < port < 65536 for port in self.ports):
            raise ValueError(f"pod {self.name}: a port is 1 to 65535, not one of {list(self.ports)}")
        if not self.restart_delays or min(self.restart_delays) < 0:
            raise ValueError(f"pod {self.name}: restart_delays of zero seconds or more, one at least")
        object.__setattr__(self, "name", f"{namespace or 'default'}/{name}")
        object.__setattr__(self, "containers", containers)
        object.__setattr__(self, "init_containers", before)
        object.__setattr__(self, "uid", self.uid or str(uuid.uuid5(_NAMESPACE_OF_UIDS, self.name)))

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
        return next((each for each in (*self.containers, *self.init_containers) if each.name == name), None)

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

    def manifest_document(self, node: str) -> dict[str, Any]:
        """Metadata and spec of its API object; on no node if ``node`` is empty."""
        given: Mapping[str, Any] = copy.deepcopy(dict(self.manifest or {}))
        metadata: dict[str, Any] = {"name": self.short_name, "namespace": self.namespace, "uid": self.uid}
        metadata = {**given.get("metadata", {}), **metadata}
        if self.labels:
            metadata["labels"] = dict(self.labels)
        if self.annotations:
            metadata["annotations"] = dict(self.annotations)
        spec: dict[str, Any] = dict(given.get("spec", {}))
        if self.init_containers:
            spec.setdefault("initContainers", [each.document() for each in self.init_containers])
        if "containers" not in spec:
            spec["containers"] = [each.document() for each in self.containers]
            if self.ports:
                spec["containers"][0]["ports"] = self._port_documents()
        spec["restartPolicy"] = self.restart_policy
        return {"metadata": metadata, "spec": {**spec, "nodeName": node} if node else spec}


def _ending(container: Container) -> Container:
    """An init container with nothing to do ends at once."""
    return container if container.main is not None else replace(container, main=_nothing)


def _nothing(context: BlockingExec) -> int:
    return 0


class PodTable:
    """The pods of a node by ``NAMESPACE/NAME``; may be changed while the server runs, from any thread.

    ``host`` runs processes, if that is allowed. Main processes start when ``start`` is called, those of later pods when
    they are added; a pod that is taken away ends its own. ``/pods`` and the logs tell each change from the next request
    on; what other threads see of the processes themselves follows in the next turn of the loop.
    """

    def __init__(
        self, pods: Iterable[Pod], host: ProcessHost | None = None, *, allow_loopback_ports: bool = False
    ) -> None:
        self._lock = threading.RLock()
        self._host = host
        self._allow_loopback_ports = allow_loopback_ports
        self._states: dict[str, PodState] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._watchers: dict[str, set[Callable[[], None]]] = {}
        self._subscribers: list[Callable[[str, Pod | None], None]] = []
        for pod in pods:
            self.add(pod)

    def add(self, pod: Pod) -> None:
        """Declare a pod, in place of one with the same name. Raises PermissionError as ``Container.runtime`` does."""
        if not self._allow_loopback_ports and any(isinstance(pod.service(port), Loopback) for port in pod.ports):
            raise PermissionError(
                f"pod {pod.name} forwards to ports of this host: allow it by name with allow_loopback_ports=True"
            )
        state = PodState(pod, lambda container: container.runtime(self._host), self._on_change)
        with self._lock:
            before = self._states.pop(pod.name, None)
            self._states[pod.name] = state
            self._on_loop(before, state)
            if before is not None:
                self._gone(pod.name)
            self._tell(pod.name, pod)

    def remove(self, name: str) -> None:
        """Take a pod away: its main processes end, and with them who is attached, and what is forwarded to it is reset;
        other commands in it go on. Raises KeyError if there is none."""
        with self._lock:
            self._on_loop(self._states.pop(name), None)
            self._gone(name)
            self._tell(name, None)

    def restart(self, name: str, container: str | None = None) -> None:
        """End the main process of a container, or of all containers, and start another: who is attached is let go, the
        log begins anew, ``restartCount`` rises. Raises KeyError if there is no such pod or container."""
        with self._lock:
            pod = self._states[name]
            states = pod.containers if container is None else [_found(pod, container)]
            for each in states:
                each.restart(self._loop)
            self._tell(name, pod.pod)

    def release(self, name: str, container: str | None = None) -> None:
        """Let a container start that was declared with ``waiting``, or all of them. Raises KeyError as ``restart``."""
        with self._lock:
            pod = self._states[name]
            for each in pod.containers if container is None else [_found(pod, container)]:
                each.waiting = None
            self._on_loop(None, pod)
            self._tell(name, pod.pod)

    def hold(self, name: str, container: str, reason: str, message: str = "") -> None:
        """The opposite of ``release`` for a container that is restarted, or not started yet: it waits, for that reason.
        Raises KeyError as ``restart``."""
        with self._lock:
            pod = self._states[name]
            _found(pod, container).waiting = (reason, message)
            self._tell(name, pod.pod)

    def subscribe(self, subscriber: Callable[[str, Pod | None], None]) -> None:
        """Have ``subscriber`` called with the name and the pod for each pod that comes and for each change of what is
        told of it (a process has started or ended), and with None for each that goes: in order, from whatever thread,
        under the table's lock, so it may not block."""
        with self._lock:
            self._subscribers.append(subscriber)

    def _tell(self, name: str, pod: Pod | None) -> None:
        for subscriber in self._subscribers:
            subscriber(name, pod)

    def _on_change(self, state: PodState) -> None:
        """A process of a pod has started or ended."""
        with self._lock:
            if self._states.get(state.pod.name) is state:  # else it was taken away, which has been told
                self._tell(state.pod.name, state.pod)

    def watch(self, name: str, gone: Callable[[], None]) -> Callable[[], None]:
        """Have ``gone`` called on the loop when the pod is taken away or replaced; the answer takes that back."""
        with self._lock:
            self._watchers.setdefault(name, set()).add(gone)

        def unwatch() -> None:
            with self._lock:
                self._watchers.get(name, set()).discard(gone)

        return unwatch

    def _gone(self, name: str) -> None:
        for gone in self._watchers.pop(name, ()):
            if self._loop is not None:
                try:
                    self._loop.call_soon_threadsafe(gone)
                except RuntimeError:
                    pass  # the server has ended, and everything with it

    def _on_loop(self, before: PodState | None, after: PodState | None) -> None:
        if self._loop is None:
            return
        try:
            if before is not None:
                self._loop.call_soon_threadsafe(self._end, before)
            if after is not None:
                self._loop.call_soon_threadsafe(after.start, self._loop)
        except RuntimeError:
            pass  # the server has ended, and everything with it

    def _end(self, state: PodState) -> None:
        task = asyncio.get_running_loop().create_task(state.close())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Called by the server on its loop: start the main processes of all pods."""
        with self._lock:
            self._loop = loop
            states = list(self._states.values())
        for state in states:
            state.start(loop)

    async def close(self, timeout: float) -> None:
        """Called by the server on its loop: end them all, and wait for it."""
        for state in self.states:
            self._end(state)
        if self._ending:
            _, late = await asyncio.wait(set(self._ending), timeout=timeout)
            for task in late:
                task.cancel()

    @property
    def states(self) -> list[PodState]:
        """What has become of each pod."""
        with self._lock:
            return list(self._states.values())

    def state(self, name: str) -> PodState | None:
        """What has become of the pod ``NAMESPACE/NAME``, or None."""
        return self._states.get(name)

    def main(self, pod: str, container: str) -> MainProcess | None:
        """The main process of a container, or None if there is no such container."""
        state = self._states.get(pod)
        found = state.find(container) if state is not None else None
        return found.main if found is not None else None

    def runtime(self, pod: str, container: str) -> Runtime | None:
        """What launches commands there, or None if there is no such container."""
        state = self._states.get(pod)
        found = state.find(container) if state is not None else None
        return found.runtime if found is not None else None

    def get(self, name: str) -> Pod | None:
        """The pod ``NAMESPACE/NAME``, or None."""
        state = self._states.get(name)
        return state.pod if state is not None else None

    def __getitem__(self, name: str) -> Pod:
        return self._states[name].pod

    def __iter__(self) -> Iterator[Pod]:
        return iter([state.pod for state in self.states])

    def __len__(self) -> int:
        return len(self._states)

    def __contains__(self, name: object) -> bool:
        return name in self._states

    def document(self, node: str, host_ip: str) -> dict[str, Any]:
        """The v1 ``PodList`` that a kubelet answers."""
        return pod_list([state.document(node, host_ip) for state in self.states])


def pod_list(items: list[dict[str, Any]]) -> dict[str, Any]:
    """A v1 ``PodList``."""
    return {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}


def _found(pod: PodState, container: str) -> ContainerState:
    found = pod.find(container)
    if found is None:
        raise KeyError(container)
    return found
