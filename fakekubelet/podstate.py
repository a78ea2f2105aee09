"""What has become of the declared pods: which processes run, which ended and how, and what ``/pods`` says of it.

A pod's containers start when its init containers have ended well, one after the other. A container whose process has
ended stays ended, or gets another process, as the pod's ``restart_policy`` says; the log of the instance before is
kept. All of it happens on the server's loop. What other threads ask for (``restart``) takes effect in the records at
once, and on the processes in the loop's next turn.

Source: ``k/k: pkg/kubelet/kubelet_pods.go`` (getPhase, validateContainerLogStatus), ``pkg/kubelet/kuberuntime``.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import time
import uuid
from collections.abc import AsyncIterable, Callable
from typing import TYPE_CHECKING, Any

from fakekubelet.mains import MainProcess
from fakekubelet.podlogs import ContainerLog, LogFailure, entry_of, parse_log
from fakekubelet.runtimes import Runtime
from spdyproto.channels.status import ExitStatus

if TYPE_CHECKING:
    from fakekubelet.pods import Container, Pod

_KILLED = 137  # the exit code of a process that SIGKILL ended


class ContainerState:
    """One container of a pod that is here: its process of the moment, and what is known of the one before."""

    def __init__(self, owner: PodState, container: Container, runtime: Runtime) -> None:
        self.owner = owner
        self.container = container
        self.runtime = runtime
        self.restarts = 0
        self.waiting = container.wait
        """Reason and message of a container that does not start, or None."""
        self.last: MainProcess | None = None
        self.backing_off = False
        self.main = self._instance()
        self._source: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ends: set[asyncio.Task[None]] = set()
        if container.previous_log is not None:
            self.last = self._instance(parse_log(container.previous_log))
            self.last.started = self.last.finished = time.time()
            self.last.execution.mark_over(ExitStatus.exited(1))
            self.restarts = 1

    def _instance(self, entries: list[Any] | None = None) -> MainProcess:
        container, pod = self.container, self.owner.pod
        log = ContainerLog(container.log_size)
        if entries is None and isinstance(container.log, str | bytes):
            entries = list(parse_log(container.log))
        for entry in entries or ():
            log.add(entry)
        return container.main_process(pod.namespace, pod.short_name, self.runtime, log, self._on_over)

    @property
    def started(self) -> bool:
        """Whether its process was started."""
        return self.main.started > 0

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return self.started and not self.main.over

    # -- its life, on the loop ---------------------------------------------------------------------------------------

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the process, unless the container waits or it was started already."""
        if self.waiting is not None or self.started:
            return
        self.backing_off = False
        if self.container.log is not None and not isinstance(self.container.log, str | bytes):
            assert self.main.log is not None
            self._source = loop.create_task(self._feed(self.main.log))
        self.main.start(loop)
        self.owner.changed()

    async def _feed(self, log: ContainerLog) -> None:
        """Play the scripted log."""
        source: Any = self.container.log
        lines = source()
        try:
            if isinstance(lines, AsyncIterable):
                async for line in lines:
                    log.add(entry_of(line))
            else:
                for line in lines:
                    log.add(entry_of(line))
        except LogFailure as failure:
            log.failure = str(failure)
            log.close()

    def _on_over(self, main: MainProcess) -> None:
        if main is self.main:  # nobody restarted it
            self.owner.container_over(self)

    def restart(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Another process in place of the one there is. From any thread; ``loop`` is the server's, if it runs."""
        old = self.main
        self.last, self.restarts, self.backing_off = old, self.restarts + 1, False
        self.main = self._instance()
        if loop is not None:
            loop.call_soon_threadsafe(self._replace, loop, old)

    def _replace(self, loop: asyncio.AbstractEventLoop, old: MainProcess) -> None:
        self.cancel()
        if not old.over:
            task = loop.create_task(old.close())
            self._ends.add(task)
            task.add_done_callback(self._ends.discard)
        self.start(loop)

    def back_off(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        """Restart after a while."""
        self.backing_off = True
        self._timer = loop.call_later(seconds, self.restart, loop)

    def cancel(self) -> None:
        """Neither the scripted log goes on, nor a restart comes."""
        if self._source is not None:
            self._source.cancel()
        if self._timer is not None:
            self._timer.cancel()

    async def close(self) -> None:
        """The pod or the server ends."""
        self.cancel()
        await self.main.close()
        if self._ends:
            await asyncio.wait(set(self._ends))

    # -- what is told ------------------------------------------------------------------------------------------------

    def find_log(self, *, previous: bool) -> ContainerLog | str:
        """The log that is meant, or in the kubelet's words why there is none."""
        who = f"container {json.dumps(self.container.name)} in pod {json.dumps(self.owner.pod.short_name)}"
        before = self.main if self.backing_off else self.last
        if previous:
            found = before
            missing = f"previous terminated {who} not found"
        elif self.started:
            found, missing = self.main, ""
        else:
            found = before
            reason = self._waiting()[0]
            words = {
                "ErrImagePull": "image can't be pulled",
                "ImagePullBackOff": "trying and failing to pull image",
            }
            missing = f"{who} is waiting to start: {words.get(reason, reason)}"
        if found is None:
            return missing
        assert found.log is not None
        return found.log

    def _waiting(self) -> tuple[str, str]:
        if self.waiting is not None:
            return self.waiting
        return ("ContainerCreating", "") if self.owner.initialized else ("PodInitializing", "")

    def identity(self, restarts: int) -> str:
        """The runtime's name for an instance."""
        base = uuid.uuid5(uuid.NAMESPACE_OID, f"{self.owner.pod.uid}/{self.container.name}/{restarts}")
        return f"containerd://{base.hex * 2}"

    def status(self) -> dict[str, Any]:
        """The container's ``ContainerStatus``."""
        last: dict[str, Any] = {}
        if self.backing_off:
            what = f"back-off restarting failed container={self.container.name} pod={self.owner.pod.short_name}"
            state: dict[str, Any] = {"waiting": {"reason": "CrashLoopBackOff", "message": what}}
            last = self._terminated(self.main, self.restarts)
        elif not self.started:
            reason, message = self._waiting()
            state = {"waiting": {"reason": reason} | ({"message": message} if message else {})}
        elif self.main.over:
            state = self._terminated(self.main, self.restarts)
        else:
            state = {"running": {"startedAt": api_time(self.main.started)}}
        if self.last is not None and not last:
            last = self._terminated(self.last, self.restarts - 1)
        document = {
            "name": self.container.name,
            "state": state,
            "lastState": last,
            "ready": self.running,
            "restartCount": self.restarts,
            "image": self.container.image,
            "imageID": "",
        }
        if self.started or self.last is not None:
            document["containerID"] = self.identity(self.restarts)
        return document | {"started": self.running}

    def _terminated(self, main: MainProcess, restarts: int) -> dict[str, Any]:
        status = main.execution.status
        code = _KILLED if main.killed or status is None else 128 if status.code is None else status.code
        reason = "Completed" if code == 0 else "StartError" if code == 128 and status is not None else "Error"
        terminated: dict[str, Any] = {"exitCode": code, "reason": reason}
        if reason == "StartError" and status is not None:
            terminated["message"] = status.message
        terminated |= {"startedAt": api_time(main.started), "finishedAt": api_time(main.finished)}
        return {"terminated": terminated | {"containerID": self.identity(restarts)}}

    @property
    def succeeded(self) -> bool | None:
        """How its process ended; None if it has not."""
        if not self.main.over:
            return None
        status = self.main.execution.status
        return status is not None and status.ok


class PodState:
    """A pod that is here."""

    def __init__(
        self, pod: Pod, make_runtime: Callable[[Container], Runtime], changed: Callable[[PodState], None]
    ) -> None:
        self.pod = pod
        self._changed = changed
        self.created = time.time()
        self.ip = ""
        self.init = [ContainerState(self, each, make_runtime(each)) for each in pod.init_containers]
        self.containers = [ContainerState(self, each, make_runtime(each)) for each in pod.containers]
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = False
        self._failed = False

    def find(self, name: str) -> ContainerState | None:
        """The container of that name, or None."""
        return next((each for each in (*self.containers, *self.init) if each.container.name == name), None)

    @property
    def initialized(self) -> bool:
        """Whether all init containers have ended well."""
        return all(each.succeeded for each in self.init)

    def changed(self) -> None:
        """What is told of the pod is something else now."""
        self._changed(self)

    # -- its life, on the loop ---------------------------------------------------------------------------------------

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Go on: the next init container, or all containers."""
        if self._closing:
            return
        self._loop = loop
        for each in self.init:
            if not each.succeeded:
                each.start(loop)
                return
        for each in self.containers:
            each.start(loop)

    def container_over(self, state: ContainerState) -> None:
        """A process has ended."""
        loop = self._loop
        if loop is None or self._closing:
            return
        self.changed()
        policy, ended_well = self.pod.restart_policy, state.succeeded
        init = state in self.init
        if init and ended_well:
            self.start(loop)
        elif (policy == "Always" and not init) or (policy != "Never" and not ended_well):
            delays = self.pod.restart_delays
            state.back_off(loop, delays[min(state.restarts, len(delays) - 1)])
        elif init:
            self._failed = True

    async def close(self) -> None:
        """Taken away, or the server ends."""
        self._closing = True
        for each in (*self.init, *self.containers):
            await each.close()

    # -- what is told ------------------------------------------------------------------------------------------------

    @property
    def phase(self) -> str:
        """As a kubelet sums the states up."""
        if self._failed:
            return "Failed"
        if not self.initialized:
            return "Pending"
        states = self.containers
        if any(not each.started and each.last is None for each in states):
            return "Pending"
        if any(each.running for each in states) or self.pod.restart_policy == "Always":
            return "Running"
        if any(each.backing_off for each in states):
            return "Running"
        return "Succeeded" if all(each.succeeded for each in states) else "Failed"

    def document(self, node: str, host_ip: str) -> dict[str, Any]:
        """The pod as its API object."""
        created = api_time(self.created)
        document = self.pod.manifest_document(node)
        document["metadata"]["creationTimestamp"] = created
        phase = self.phase
        names = [each.container.name for each in self.containers if not each.running]
        unready = {"reason": "ContainersNotReady", "message": f"containers with unready status: [{' '.join(names)}]"}
        ready = {"status": "True"} if not names else {"status": "False", **unready}
        started = {"status": "True" if self.initialized else "False"}
        conditions = {
            "Initialized": started,
            "Ready": ready,
            "ContainersReady": ready,
            "PodScheduled": {"status": "True"},
        }
        status: dict[str, Any] = {
            "phase": phase,
            "conditions": [
                {"type": kind, **said, "lastProbeTime": None, "lastTransitionTime": created}
                for kind, said in conditions.items()
            ],
            "hostIP": host_ip,
            "podIP": self.ip or host_ip,
            "podIPs": [{"ip": self.ip or host_ip}],
            "startTime": created,
        }
        if self.init:
            status["initContainerStatuses"] = [each.status() for each in self.init]
        status["containerStatuses"] = [each.status() for each in self.containers]
        return {**document, "status": status | {"qosClass": "BestEffort"}}

    def running_document(self) -> dict[str, Any] | None:
        """The pod as the runtime sees it, or None if nothing of it runs."""
        running = [each.container for each in (*self.containers, *self.init) if each.running]
        if not running:
            return None
        pod = self.pod
        return {
            "metadata": {
                "name": pod.short_name,
                "namespace": pod.namespace,
                "uid": pod.uid,
                "creationTimestamp": None,
            },
            "spec": {"containers": [{"name": each.name, "image": each.image, "resources": {}} for each in running]},
            "status": {},
        }


def api_time(seconds: float) -> str:
    """A time as API objects have it, whole seconds in UTC."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
