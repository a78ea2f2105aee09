"""Real containers: a private containerd with runc, and a kubelet's streaming endpoints in front of it.

The fixture ``containerd`` (session-scoped, so one in each worker of xdist) gives a running `Containerd`::

    def test_something(containerd: Containerd) -> None:
        with containerd.pod() as pod:  # a sandbox in the host's network
            main = pod.container(["sh", "-c", "echo hello; sleep 60"])  # name "main", image with all of busybox
            main.exec_url(["ls", "/"])
            main.attach_url(stdin=True)
            pod.forward_url([8080])

These are one-time URLs of containerd's own streaming server, each good for one connection within a minute: v1 to v4
over SPDY, v4 and older over WebSocket, plain HTTP on loopback. Through the kubelet in front (TLS, client certificates)
the same container is reached by names, as on a node::

            Kubelet(containerd.url, **containerd.options()).pod(pod.name).run(["ls"], container="main")

``containerd.demo`` is container ``main`` of pod ``default/demo``, made once, for tests that only need some container.

Which tools a container has is the image's word: ``containerd.image("bare", tools=["cat", "sh"])`` has these of busybox
and nothing else on its PATH, ``programs=["/usr/bin/tar"]`` adds programs of this machine with their libraries,
``files={"/bin/helper": data}`` files. ``pod.container(..., image=...)`` takes what `image` answered; the same name is
made once. Terminals, stdin, ``stdin_once``, environment and mounts are arguments of `container`; `Container.log` is
its CRI log file.

It needs root and the Debian packages containerd, runc and busybox-static; without them a test is skipped with that
reason, and fails under ``KUBEWIRE_REQUIRE_PEERS=1``. Everything is removed by id in the end, by `kwcri`
(``tests/interop/go``), even if the test run is killed.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import pytest

from kubeletclient import ClientCertificate
from support.gopeers import GoProgram, PeerMissing, build
from support.pki import Pki
from support.rootfs import BUSYBOX, IN_IMAGE, archive

__all__ = ["Container", "Containerd", "Pod", "require_containerd"]

_PACKAGES = ("containerd", "runc", "busybox-static")
_CALL_SECONDS = 120
_TERMINAL_LABEL = "kubewire.invalid/tty"
_FOREVER = (IN_IMAGE, "sleep", "2147483647")
_CONFIG = """\
version = 2
root = "{folder}/root"
state = "{folder}/state"
oom_score = 0
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = "{folder}/c.sock"
[ttrpc]
  address = "{folder}/t.sock"
[debug]
  level = "warn"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/local/pause:1"
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{folder}/cni"
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
"""


def require_containerd() -> None:
    """Skip the test that asks where real containers cannot run, or fail it under ``KUBEWIRE_REQUIRE_PEERS=1``."""
    missing = _missing()
    if missing is None:
        return
    if os.environ.get("KUBEWIRE_REQUIRE_PEERS", "") not in ("", "0"):
        pytest.fail(f"KUBEWIRE_REQUIRE_PEERS is set, but there are no real containers: {missing}", pytrace=False)
    pytest.skip(f"no real containers: {missing}")


@functools.cache
def _missing() -> str | None:
    if os.geteuid() != 0:
        return "only root can start them"
    absent = [name for name in ("containerd", "ctr", "runc") if shutil.which(name) is None]
    if absent or not BUSYBOX.exists():
        packages = " ".join(_PACKAGES)
        return f"{', '.join(absent) or BUSYBOX} is missing; on Debian: apt-get install {packages}"
    try:
        build()
    except PeerMissing as missing:
        return str(missing)
    return None


@dataclass
class Containerd(GoProgram):
    """`kwcri`: containerd and a kubelet in front of it. See the module's text.

    `translate` makes it a kubelet of 1.36 or newer, which takes WebSocket v5.
    """

    pki: Pki | None = None
    translate: bool = False

    folder: Path = field(default=Path(), init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _images: dict[str, str] = field(default_factory=dict, init=False, repr=False)
    _numbers: itertools.count[int] = field(default_factory=itertools.count, init=False, repr=False)
    _demo: Container | None = field(default=None, init=False, repr=False)

    _name: ClassVar[str] = "kwcri"
    _start_seconds: ClassVar[float] = 90
    _stop_seconds: ClassVar[float] = 90

    def _options(self) -> list[str]:
        return [
            f"-config={self.folder}/config.toml",
            f"-socket={self.folder}/c.sock",
            f"-remove={self.folder}",
            f"-translate={self.translate}",
        ]

    def __enter__(self) -> Self:
        # In /tmp whatever TMPDIR says: the path of a socket has 107 bytes at most.
        self.folder = Path(tempfile.mkdtemp(prefix="kwcri-", dir="/tmp"))
        (self.folder / "config.toml").write_text(_CONFIG.format(folder=self.folder))
        if self.pki is not None:
            self.certificate, self.key = self.pki.server_certificate, self.pki.server_key
            self.client_ca = self.pki.ca
        try:
            super().__enter__()
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        try:
            self.image("pause", tools=["sleep"], entrypoint=_FOREVER)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, traceback)
        if kind is None:
            left = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(self.folder) in line]
            assert not left, f"containerd left mounts behind: {left}"

    def options(self) -> dict[str, Any]:
        """Authority and credentials for the kubelet in front, as `Kubelet` and `connect_exec` take them."""
        if self.pki is None:
            return {}
        return {"ca": self.pki.ca, "credentials": ClientCertificate(self.pki.client_certificate, self.pki.client_key)}

    def call(self, method: str, /, **request: Any) -> dict[str, Any]:
        """A call of the CRI, e.g. ``call("RuntimeService/ContainerStatus", containerId=...)``: names and answer as in
        protobuf's JSON. Raises RuntimeError with the runtime's words."""
        with self._lock:
            answer = self.ask(json.dumps({"method": method, "request": request}), _CALL_SECONDS)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        response: dict[str, Any] = answer["response"]
        return response

    def image(
        self,
        name: str = "busybox",
        *,
        tools: Sequence[str] | None = None,
        programs: Sequence[str] = (),
        files: Mapping[str, bytes | Path] | None = None,
        entrypoint: Sequence[str] = (),
        user: str = "",
    ) -> str:
        """The reference of an image, made on the first call with this `name`; see `archive` for the rest."""
        if name not in self._images:
            reference = f"docker.io/local/{name}:1"
            content = archive(reference, tools=tools, programs=programs, files=files, entrypoint=entrypoint, user=user)
            path = self.folder / f"{name}.tar"
            path.write_bytes(content)
            command = ["ctr", "--address", f"{self.folder}/c.sock", "--namespace", "k8s.io"]
            command += ["images", "import", "--snapshotter", "native", str(path)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=_CALL_SECONDS)
            if done.returncode != 0:
                raise RuntimeError(f"image {name} was not imported: {done.stderr or done.stdout}")
            path.unlink()
            self._await_image(reference)
            self._images[name] = reference
        return self._images[name]

    def _await_image(self, reference: str) -> None:
        """containerd tells its CRI of an image by an event, which takes a moment."""
        deadline = time.monotonic() + _CALL_SECONDS
        while not self.call("ImageService/ImageStatus", image={"image": reference}).get("image"):
            if time.monotonic() > deadline:
                raise RuntimeError(f"containerd's CRI does not get to know {reference}; its log:\n{self.log()}")
            time.sleep(0.05)

    def pod(self, name: str | None = None, namespace: str = "default") -> Pod:
        """A new pod without containers; a context manager that removes it."""
        return Pod(self, name or f"pod-{next(self._numbers)}", namespace)

    @property
    def demo(self) -> Container:
        """Container ``main`` of pod ``default/demo``, which does nothing and lasts as long as this containerd."""
        if self._demo is None:
            self._demo = self.pod("demo").container(_FOREVER)
        return self._demo


class Pod:
    """A pod sandbox in the host's network."""

    def __init__(self, containerd: Containerd, name: str, namespace: str) -> None:
        self.containerd = containerd
        self.name = name
        self.namespace = namespace
        self.uid = f"uid-{name}"
        self.logs = containerd.folder / "logs" / f"{namespace}_{name}_{self.uid}"
        self.logs.mkdir(parents=True)
        self._config = {
            "metadata": {"name": name, "namespace": namespace, "uid": self.uid},
            "logDirectory": str(self.logs),
            "linux": {"securityContext": {"namespaceOptions": {"network": "NODE"}}},
        }
        self.id: str = containerd.call("RuntimeService/RunPodSandbox", config=self._config)["podSandboxId"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.remove()

    def remove(self) -> None:
        """Kill its containers, and remove them and it."""
        self.containerd.call("RuntimeService/StopPodSandbox", podSandboxId=self.id)
        self.containerd.call("RuntimeService/RemovePodSandbox", podSandboxId=self.id)

    def container(
        self,
        command: Sequence[str] = _FOREVER,
        *,
        name: str = "main",
        image: str | None = None,
        tty: bool = False,
        stdin: bool = False,
        stdin_once: bool = False,
        env: Mapping[str, str] | None = None,
        working_dir: str = "",
        mounts: Mapping[str, Path] | None = None,
    ) -> Container:
        """A new container that runs `command`; `mounts` are folders of this machine by their path in it."""
        config = {
            "metadata": {"name": name},
            "image": {"image": image or self.containerd.image()},
            "command": list(command),
            # Bytes to protobuf, so base64 in its JSON.
            "envs": [{"key": key, "value": b64encode(value.encode()).decode()} for key, value in (env or {}).items()],
            "workingDir": working_dir,
            "mounts": [{"containerPath": to, "hostPath": str(path)} for to, path in (mounts or {}).items()],
            "labels": {_TERMINAL_LABEL: "1"} if tty else {},
            "logPath": f"{name}.log",
            "tty": tty,
            "stdin": stdin,
            "stdinOnce": stdin_once,
            "linux": {},
        }
        made = self.containerd.call(
            "RuntimeService/CreateContainer", podSandboxId=self.id, config=config, sandboxConfig=self._config
        )
        container = Container(self, name, made["containerId"], tty)
        self.containerd.call("RuntimeService/StartContainer", containerId=container.id)
        return container

    def forward_url(self, ports: Sequence[int] = ()) -> str:
        """A one-time URL for port-forward."""
        answer = self.containerd.call("RuntimeService/PortForward", podSandboxId=self.id, port=list(ports))
        url: str = answer["url"]
        return url


@dataclass(frozen=True)
class Container:
    """A container of a pod, started."""

    pod: Pod
    name: str
    id: str
    tty: bool

    @property
    def log(self) -> Path:
        """Its log in CRI's format."""
        return self.pod.logs / f"{self.name}.log"

    def exec_url(
        self,
        command: Sequence[str],
        *,
        stdin: bool = False,
        stdout: bool = True,
        stderr: bool = True,
        tty: bool = False,
    ) -> str:
        """A one-time URL that runs `command`. What it says about streams counts, whatever the client asks for."""
        return self._url("Exec", cmd=list(command), tty=tty, stdin=stdin, stdout=stdout, stderr=stderr and not tty)

    def attach_url(self, *, stdin: bool = False, stdout: bool = True, stderr: bool = True) -> str:
        """A one-time URL that attaches to its main process."""
        return self._url("Attach", tty=self.tty, stdin=stdin, stdout=stdout, stderr=stderr and not self.tty)

    def _url(self, method: str, **request: Any) -> str:
        url: str = self.pod.containerd.call(f"RuntimeService/{method}", containerId=self.id, **request)["url"]
        return url

    def status(self) -> dict[str, Any]:
        """What the runtime tells of it: ``state``, ``exitCode``..."""
        answer = self.pod.containerd.call("RuntimeService/ContainerStatus", containerId=self.id)
        status: dict[str, Any] = answer["status"]
        return status

    def wait(self, seconds: float = 30) -> int:
        """Its exit code, once it has ended."""
        deadline = time.monotonic() + seconds
        while (status := self.status())["state"] != "CONTAINER_EXITED":
            if time.monotonic() > deadline:
                raise TimeoutError(f"container {self.name} did not end within {seconds} s: {status['state']}")
            time.sleep(0.05)
        code: int = status.get("exitCode", 0)
        return code

    def stop(self) -> None:
        """Kill its main process."""
        self.pod.containerd.call("RuntimeService/StopContainer", containerId=self.id, timeout=0)
