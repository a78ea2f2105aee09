"""The Go peers of ``tests/interop/go``: build them, start the server, run the client.

They are Kubernetes' own code behind small programs: `GoServer` is a kubelet's exec and attach on
`k8s.io/cri-streaming`, `GoFront` a kube-apiserver's proxy and translator in front of a kubelet, `run_go_client` the
executors of `k8s.io/client-go`. ``tests/interop/go/README.md`` lists the server's commands.

Building is cached by the sources' hash, in an ignored folder beside them, and is safe when several test workers, or
several runs, want it at once: one builds under a file lock, the others wait for it.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, ClassVar, Literal, Self, TypedDict
from urllib.parse import quote, urlencode

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

__all__ = [
    "GoFront",
    "GoProgram",
    "GoReport",
    "GoServer",
    "GoSession",
    "GoSummary",
    "GoUsage",
    "PeerMissing",
    "attach_url",
    "build",
    "exec_url",
    "pod_url",
    "random_blocks",
    "random_bytes",
    "require_peers",
    "run_go_client",
]

SOURCES = Path(__file__).resolve().parents[1] / "interop" / "go"
PATH = "/exec/default/demo/main"
ATTACH_PATH = "/attach/default/demo/main"
# A first build compiles client-go: a minute on two idle cores, several on a busy machine.
_BUILD_SECONDS = 900
_START_SECONDS = 30
_STOP_SECONDS = 10
# What kubectl says that it is: Kubernetes' modules have no version in them, the release is set when it is built.
_VERSION = "-X k8s.io/component-base/version.gitVersion=v1.36.6"
_STALE_SECONDS = 24 * 3600  # programs of other sources may be in use by a run that began before these changed


class PeerMissing(Exception):
    """The Go peers cannot be had on this machine: no Go, or too old a one, or its modules are out of reach."""


def build() -> Path:
    """The folder with `kwserver`, `kwfront`, `kwcri`, `kwclient` and `kwvectors`, built from the present sources.

    Raises PeerMissing when the machine lacks what a build needs, and RuntimeError with the compiler's words when the
    sources themselves do not build. The result, of either kind, holds for the life of this process.
    """
    result = _build_once()
    if isinstance(result, Path):
        return result
    raise type(result)(*result.args)


@functools.cache
def _build_once() -> Path | PeerMissing | RuntimeError:
    try:
        return _build()
    except (PeerMissing, RuntimeError) as error:
        return error


def require_peers() -> Path:
    """`build`, for tests: a missing peer skips the test, or fails it under ``KUBEWIRE_REQUIRE_PEERS=1``."""
    try:
        return build()
    except PeerMissing as missing:
        if os.environ.get("KUBEWIRE_REQUIRE_PEERS", "") not in ("", "0"):
            pytest.fail(f"KUBEWIRE_REQUIRE_PEERS is set, but the Go peers are missing: {missing}", pytrace=False)
        pytest.skip(str(missing))


def _build() -> Path:
    go = shutil.which("go")
    if go is None:
        raise PeerMissing("no `go` on PATH; install Go 1.26 or newer to run the tests against the real peers")
    programs = SOURCES / "bin"
    target = programs / _digest(go)
    programs.mkdir(exist_ok=True)
    with (programs / ".lock").open("w") as lock:
        # Bounded by the time limits of whoever holds it; the kernel frees it should that process die.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            # Before a compiler's error can be ours, everything that it needs from elsewhere must be there.
            _go(go, "mod", "download", missing="the modules of the Go peers cannot be fetched")
            for stale in programs.iterdir():
                if stale.is_dir() and stale.stat().st_mtime < time.time() - _STALE_SECONDS:
                    shutil.rmtree(stale)
            with tempfile.TemporaryDirectory(dir=programs) as scratch:
                _go(go, "build", "-buildvcs=false", f"-ldflags={_VERSION}", "-o", f"{scratch}/", "./cmd/...")
                target.mkdir()
                for program in Path(scratch).iterdir():
                    program.rename(target / program.name)
    return target


def _digest(go: str) -> str:
    digest = hashlib.sha256(_go(go, "version", missing="`go version` fails").encode())
    sources = [SOURCES / "go.mod", SOURCES / "go.sum", *SOURCES.rglob("*.go")]
    for source in sorted(sources):
        digest.update(f"{source.relative_to(SOURCES)}\0".encode() + hashlib.sha256(source.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _go(go: str, *args: str, missing: str | None = None) -> str:
    """Run the go command among the sources; with `missing`, its failure is this machine's, not the sources'."""
    try:
        done = subprocess.run(
            [go, *args], cwd=SOURCES, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_BUILD_SECONDS
        )
    except subprocess.TimeoutExpired as expired:
        raise PeerMissing(f"`go {args[0]}` took more than {_BUILD_SECONDS} s") from expired
    if done.returncode == 0:
        return done.stdout
    if missing is not None:
        raise PeerMissing(f"{missing}: {done.stderr.strip()}")
    raise RuntimeError(f"the Go peers do not build (go {' '.join(args)}):\n{done.stderr}")


class _Flags(TypedDict):
    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool


def exec_url(
    base: str,
    command: Sequence[str],
    *,
    stdin: bool = False,
    stdout: bool = True,
    stderr: bool = True,
    tty: bool = False,
    path: str = PATH,
) -> str:
    """The exec URL of a kubelet at `base`, as the kube-apiserver writes it: only flags that are set, each as 1."""
    flags = {"input": stdin, "output": stdout, "error": stderr, "tty": tty}
    query = [("command", word) for word in command] + [(name, "1") for name, wanted in flags.items() if wanted]
    return f"{base}{quote(path)}?{urlencode(query)}"


def attach_url(base: str, *, path: str = ATTACH_PATH, **flags: bool) -> str:
    """The attach URL of a kubelet at `base`; flags as of `exec_url`."""
    return exec_url(base, (), path=path, **flags)


def pod_url(
    base: str,
    kind: Literal["exec", "attach"],
    command: Sequence[str] = (),
    *,
    stdin: bool = False,
    stdout: bool = True,
    stderr: bool = True,
    tty: bool = False,
    pod: str = "default/demo",
    container: str | None = "main",
) -> str:
    """The URL of a pod's subresource at the kube-apiserver `base`, as kubectl writes it."""
    namespace, name = pod.split("/")
    query = [("command", word) for word in command] + ([] if container is None else [("container", container)])
    flags = {"stdin": stdin, "stdout": stdout, "stderr": stderr, "tty": tty}
    query += [(flag, "true") for flag, wanted in flags.items() if wanted]
    return f"{base}/api/v1/namespaces/{quote(namespace)}/pods/{quote(name)}/{kind}?{urlencode(query)}"


def random_blocks(length: int, seed: int | str, block: int = 1 << 20) -> Iterator[bytes]:
    """The bytes of ``random LENGTH SEED`` and ``random:LENGTH:SEED`` of the Go peers, in blocks.

    The keystream of AES-128 in counter mode: its key is the first 16 bytes of the SHA-256 of the seed as text, its
    counter starts at zero.
    """
    key = hashlib.sha256(str(seed).encode()).digest()[:16]
    stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    zeros = bytes(block)
    for start in range(0, length, block):
        yield stream.update(zeros[: min(block, length - start)])


def random_bytes(length: int, seed: int | str) -> bytes:
    """`random_blocks`, joined."""
    return b"".join(random_blocks(length, seed))


@dataclass(frozen=True)
class GoUsage:
    """What a Go peer has cost so far: processor seconds, and peak resident memory in KiB."""

    user: float
    system: float
    max_rss_kib: int

    @property
    def cpu(self) -> float:
        """Processor seconds, user and system together."""
        return self.user + self.system


@dataclass
class GoProgram:
    """A server program as a context manager, on a free loopback port.

    Client certificates are judged against `client_ca`, tokens against the contents of `token_file`; with neither,
    everybody is let in. Leaving the block stops the server, and raises RuntimeError with its log if it had failed
    before; a server whose test dies stops by itself.
    """

    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None
    token_file: Path | None = None
    tls: str = ""  # the only version to speak, 1.2 or 1.3

    url: str = field(default="", init=False)
    host: str = field(default="", init=False)
    port: int = field(default=0, init=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)
    _log: IO[bytes] | None = field(default=None, init=False, repr=False)
    _unread: bytes = field(default=b"", init=False, repr=False)

    _name: ClassVar[str]
    _start_seconds: ClassVar[float] = _START_SECONDS
    _stop_seconds: ClassVar[float] = _STOP_SECONDS

    def _options(self) -> list[str]:
        """What only this program knows."""
        raise NotImplementedError

    def _argv(self) -> list[str]:
        argv = [str(build() / self._name), *self._options()]
        files = {"cert": self.certificate, "key": self.key, "client-ca": self.client_ca, "token-file": self.token_file}
        argv += [f"-{name}={path}" for name, path in files.items() if path is not None]
        return [*argv, f"-tls={self.tls}", *(["-plain"] if self.certificate is None else [])]

    def __enter__(self) -> Self:
        argv = self._argv()
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, bufsize=0
        )
        try:
            ready = json.loads(self._line(self._start_seconds))
        except BaseException:
            self._stop()
            raise
        self.url = ready["url"]
        self.host, _, port = ready["addr"].rpartition(":")
        self.port = int(port)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        log, code = self._stop()
        if code != 0 and kind is None:
            raise RuntimeError(f"{self._name} ended with {code}; its log:\n{log}")

    @property
    def pid(self) -> int:
        """The process id, while the server runs."""
        return self._running().pid

    def usage(self) -> GoUsage:
        """What the server has cost so far, asked on its stdin so that asking costs no TLS session."""
        return GoUsage(**self.ask("cpu"))

    def ask(self, line: str, seconds: float = _START_SECONDS) -> dict[str, Any]:
        """What the program answers to a line of its stdin."""
        stdin = self._running().stdin
        assert stdin is not None, "started with a pipe"
        stdin.write(line.encode() + b"\n")
        answer: dict[str, Any] = json.loads(self._line(seconds))
        return answer

    def log(self) -> str:
        """What the server has written to its stderr so far."""
        assert self._log is not None, "the server was not started"
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode(errors="replace")

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the server runs inside its `with` block only"
        return self._process

    def _line(self, seconds: float) -> bytes:
        stdout = self._running().stdout
        assert stdout is not None, "started with a pipe"
        deadline = time.monotonic() + seconds
        while b"\n" not in self._unread:
            readable, _, _ = select.select([stdout], [], [], max(0.0, deadline - time.monotonic()))
            chunk = os.read(stdout.fileno(), 65536) if readable else b""
            if not chunk:
                what = "closed its stdout" if readable else f"said nothing for {seconds} s"
                raise RuntimeError(f"{self._name} {what}; its log:\n{self.log()}")
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _stop(self) -> tuple[str, int]:
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        assert self._log is not None
        process.stdin.close()
        try:
            code = process.wait(self._stop_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait(self._stop_seconds)
        process.stdout.close()
        log = self.log()
        self._log.close()
        self._process = None
        return log, code


@dataclass
class GoServer(GoProgram):
    """`kwserver`: a kubelet with pod ``default/demo``, container ``main``.

    `outputs_end` says what a runtime does to stdout and stderr when a command ends: ``fin`` as containerd, ``reset``
    leaves it to the end of the connection. `translate` makes it a kubelet of 1.36 or newer, which takes WebSocket v5.
    The container's main program prints a line every `attach_interval` seconds (0: never; None: ten times in a second),
    has a terminal with `attach_tty`, and ends with an attacher's stdin if `stdin_once`.
    """

    protocols: Sequence[str] = ()  # over SPDY, full names; empty: v4 to v1
    allow_processes: bool = False
    outputs_end: Literal["fin", "reset"] = "fin"
    idle_timeout: float | None = None  # seconds; None: four hours
    creation_timeout: float | None = None  # seconds to wait for the client's streams; None: 30
    translate: bool = False
    attach_interval: float | None = None
    attach_tty: bool = False
    stdin_once: bool = False
    forward_grace: float | None = None  # containerd's wait for the second direction; None: 1; below 0: half-close

    _name = "kwserver"

    def _options(self) -> list[str]:
        switches = {
            "allow-processes": self.allow_processes, "translate": self.translate, "attach-tty": self.attach_tty,
            "stdin-once": self.stdin_once,
        }  # fmt: skip
        times = {
            "idle-timeout": self.idle_timeout, "creation-timeout": self.creation_timeout,
            "attach-interval": self.attach_interval, "forward-grace": self.forward_grace,
        }  # fmt: skip
        return [
            f"-end={self.outputs_end}",
            *(f"-{name}={wanted}" for name, wanted in switches.items()),
            *(f"-{name}={seconds}s" for name, seconds in times.items() if seconds is not None),
            *([f"-protocols={','.join(self.protocols)}"] if self.protocols else []),
        ]

    def exec_url(self, command: Sequence[str], **flags: Any) -> str:
        """`exec_url` of this server."""
        return exec_url(self.url, command, **flags)

    def attach_url(self, **flags: Any) -> str:
        """`attach_url` of this server."""
        return attach_url(self.url, **flags)


@dataclass
class GoFront(GoProgram):
    """`kwfront`: a kube-apiserver in front of the kubelet at `backend`, whose only pod is ``default/demo``.

    It shows `backend_certificate` to the kubelet, and verifies the kubelet's own with `backend_ca` or, as an apiserver
    does without one, not at all. It knows the `containers`, whether or not the kubelet does. Users have the `verbs`: a
    POST needs ``create``, a GET ``get``, a WebSocket both. WebSocket v5 is translated to SPDY, or with
    `pass_websockets` left to the kubelet.
    """

    backend: str = ""
    backend_ca: Path | None = None
    backend_certificate: Path | None = None
    backend_key: Path | None = None
    containers: Sequence[str] = ("main",)
    verbs: Sequence[str] = ("get", "create")
    pass_websockets: bool = False

    _name = "kwfront"

    def _options(self) -> list[str]:
        files = {"ca": self.backend_ca, "cert": self.backend_certificate, "key": self.backend_key}
        return [
            f"-backend={self.backend}",
            *(f"-backend-{name}={path}" for name, path in files.items() if path is not None),
            f"-containers={','.join(self.containers)}",
            f"-verbs={','.join(self.verbs)}",
            f"-pass-websockets={self.pass_websockets}",
        ]

    def pod_url(self, kind: Literal["exec", "attach"], command: Sequence[str] = (), **flags: Any) -> str:
        """`pod_url` of this server."""
        return pod_url(self.url, kind, command, **flags)


@dataclass(frozen=True)
class GoSummary:
    """One output of a session: its length, and its SHA-256 in hex unless it was only counted."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class GoSession:
    """One exec or attach as client-go saw it; `exited` tells a remote exit code from the 255 of every other error.

    `detached` is a session that was left because of `until`. `transports` are those that were tried, and
    `fallback_reason` is why there are two.
    """

    exit_code: int
    exited: bool
    detached: bool
    error: str
    seconds: float
    stdin_bytes: int
    stdout: GoSummary
    stderr: GoSummary
    transports: list[str]
    fallback_reason: str


@dataclass(frozen=True)
class GoReport:
    """A run of the Go client.

    `exit_code` and `error` are those of the first session that failed. The processor's seconds are of the whole
    process between the start of the first session and the end of the last. `stdout` and `stderr` hold the bytes of an
    output that was captured.
    """

    exit_code: int
    error: str
    wall_seconds: float
    user_seconds: float
    system_seconds: float
    max_rss_kib: int
    sessions: tuple[GoSession, ...]
    stdout: bytes = b""
    stderr: bytes = b""

    @property
    def session(self) -> GoSession:
        """The only session."""
        (only,) = self.sessions
        return only

    @property
    def cpu_seconds(self) -> float:
        """Processor seconds, user and system together."""
        return self.user_seconds + self.system_seconds


def run_go_client(
    base: str,
    command: Sequence[str],
    *,
    ca: Path | None = None,
    certificate: Path | None = None,
    key: Path | None = None,
    token_file: Path | None = None,
    insecure: bool = False,
    server_name: str | None = None,
    transport: Literal["spdy", "websocket", "fallback"] = "spdy",
    apiserver: bool = False,
    attach: bool = False,
    until: str = "",
    method: str = "POST",
    path: str | None = None,
    container: str | None = "main",
    pod: str = "default/demo",
    protocols: str = "",
    stdin: bytes | str = "none",
    stdout: str = "capture",
    stderr: str = "capture",
    tty: bool = False,
    resize: Sequence[tuple[int, int]] = (),
    repeat: int = 1,
    parallel: int = 1,
    timeout: float = 50,
) -> GoReport:
    """Run `command` through client-go at `base`, a kubelet or, with `apiserver`, a kube-apiserver; report what it saw.

    `stdin` is the bytes to send, or ``none``, ``hold`` (open, silent, never ended), ``hold:TEXT`` (sent, never ended),
    ``zero:N``, ``random:N:SEED`` or a file's name. `stdout` and `stderr` are ``capture`` (one session only), ``hash``,
    ``discard`` (only counted) or ``none`` (no such stream). `repeat` sessions run, `parallel` at once, each on its own
    connection. `timeout` bounds each in the client; a client that does not end raises subprocess.TimeoutExpired.

    `attach` attaches instead of running a command. `until` is a text: the session is left once stdout has carried it.
    `transport` ``fallback`` is kubectl's: WebSocket v5, then SPDY. `protocols`, such as ``v4,v1``, is what is offered
    over the only transport, and over SPDY in a fallback; empty is client-go's own choice: v5 to v1 over SPDY, v5 over
    WebSocket. `path` and `method` are a kubelet's, `method` for SPDY only; `container` and `pod` are an
    apiserver's.
    """
    flags: _Flags = {
        "stdin": stdin != "none", "stdout": stdout != "none", "stderr": stderr != "none" and not tty, "tty": tty,
    }  # fmt: skip
    if apiserver:
        url = pod_url(base, "attach" if attach else "exec", command, container=container, pod=pod, **flags)
    else:
        url = exec_url(base, command, path=path or (ATTACH_PATH if attach else PATH), **flags)
    files = {"ca": ca, "cert": certificate, "key": key, "token-file": token_file}
    with tempfile.TemporaryDirectory(prefix="kwclient-") as folder:
        outputs = {"stdout": Path(folder, "stdout"), "stderr": Path(folder, "stderr")}
        specs = {"stdin": stdin if isinstance(stdin, str) else "-", "stdout": stdout, "stderr": stderr}
        specs |= {name: str(outputs[name]) for name in outputs if specs[name] == "capture"}
        report = Path(folder, "report.json")
        argv = [
            str(build() / "kwclient"),
            f"-url={url}", f"-method={method}", f"-protocols={protocols}", f"-report={report}",
            f"-transport={transport}", f"-attach={attach}", f"-until={until}",
            f"-insecure={insecure}", f"-tty={tty}", f"-repeat={repeat}", f"-parallel={parallel}",
            f"-timeout={timeout}s", f"-resize={','.join(f'{width}x{height}' for width, height in resize)}",
            *(f"-{name}={spec}" for name, spec in specs.items()),
            *(f"-{name}={file}" for name, file in files.items() if file is not None),
            *([] if server_name is None else [f"-server-name={server_name}"]),
        ]  # fmt: skip
        done = subprocess.run(
            argv,
            input=stdin if isinstance(stdin, bytes) else b"",
            capture_output=True,
            # Sessions that wait for their turn have their own limit each.
            timeout=timeout * -(-repeat // parallel) + _STOP_SECONDS,
        )
        if not report.exists():
            raise RuntimeError(f"kwclient ended with {done.returncode}: {done.stderr.decode(errors='replace')}")
        text = json.loads(report.read_text())
        captured = {name: file.read_bytes() for name, file in outputs.items() if file.exists()}
    sessions = tuple(
        GoSession(**{**s, "stdout": GoSummary(**s["stdout"]), "stderr": GoSummary(**s["stderr"])})
        for s in text.pop("sessions")
    )
    return GoReport(**text, sessions=sessions, stdout=captured.get("stdout", b""), stderr=captured.get("stderr", b""))
