"""The endpoints that tell about the node: health, pods, statistics, configuration, checkpoints, debugging.

Sources: ``k/k: pkg/kubelet/server/server.go``, ``pkg/kubelet/server/stats/handler.go``, ``kubelet:
pkg/apis/stats/v1alpha1/types.go``; ``k8s.io/apiserver: pkg/server/{healthz,routes,statusz,flagz}``.
"""

from __future__ import annotations

import asyncio
import gzip
import html
import re
import time
from typing import Any

from fakekubelet.auth import User
from fakekubelet.gojson import go_json, quoted
from fakekubelet.messages import TEXT, Answer, Request, Response, go_error, plain
from fakekubelet.node import Node
from fakekubelet.pods import pod_list
from fakekubelet.podstate import ContainerState, PodState, api_time

_NOSNIFF = ("X-Content-Type-Options", "nosniff")
_JSON = ("Content-Type", "application/json")
_WARNING = (
    "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is "
    "for debugging purposes only."
)
CHECKS = ("ping", "log", "syncloop")
"""The parts of ``/healthz``."""

_PROFILES = {
    "allocs": "A sampling of all past memory allocations",
    "block": "Stack traces that led to blocking on synchronization primitives",
    "cmdline": "The command line invocation of the current program",
    "goroutine": "Stack traces of all current goroutines. Use debug=2 as a query parameter to export in the same "
    "format as an unrecovered panic.",
    "heap": "A sampling of memory allocations of live objects. You can specify the gc GET parameter to run GC before "
    "taking the heap sample.",
    "mutex": "Stack traces of holders of contended mutexes",
    "profile": "CPU profile. You can specify the duration in the seconds GET parameter. After you get the profile "
    "file, use the go tool pprof command to investigate the profile.",
    "threadcreate": "Stack traces that led to the creation of new OS threads",
    "trace": "A trace of execution of the current program. You can specify the duration in the seconds GET parameter. "
    "After you get the trace file, use the go tool trace command to investigate the trace.",
}


class NodeAPI:
    """Handlers, as ``routing.Handler``. ``paths`` are all that are served, for ``/statusz``."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.paths: tuple[str, ...] = ()

    # -- health ------------------------------------------------------------------------------------------------------

    def healthz(self, request: Request, user: User, names: dict[str, str]) -> Response:
        """``/healthz``"""
        excluded = set(request.query.get("exclude", ()))
        if "verbose" not in request.query:
            text = "ok"
        else:
            lines = [f"[+]{name} excluded: ok" if name in excluded else f"[+]{name} ok" for name in CHECKS]
            unknown = sorted(excluded.difference(CHECKS))
            if unknown:
                shown = ",".join(map(quoted, unknown))
                lines.append(f"warn: some health checks cannot be excluded: no matches for {shown}")
            text = "\n".join([*lines, "healthz check passed", ""])
        return Response(200, text.encode(), [("Content-Type", TEXT), _NOSNIFF])

    def check(self, request: Request, user: User, names: dict[str, str]) -> Response:
        """``/healthz/{check}``"""
        return plain(200, "ok")

    # -- pods --------------------------------------------------------------------------------------------------------

    def pods(self, request: Request, user: User, names: dict[str, str]) -> Response:
        """``/pods``: what shall run, and what has become of it."""
        document = self._node.pods.document(self._node.name, self._node.host_ip)
        return _only_json(request) or Response(200, go_json(document) + b"\n", [_JSON])

    def running_pods(self, request: Request, user: User, names: dict[str, str]) -> Response:
        """``/runningpods/``: what the runtime says that runs."""
        running = [document for state in self._node.pods.states if (document := state.running_document()) is not None]
        return _only_json(request) or Response(200, go_json(pod_list(running)) + b"\n", [_JSON])

    def checkpoint(self, request: Request, user: User, names: dict[str, str]) -> Response:
        """``/checkpoint/{namespace}/{pod}/{container}``: the path of an archive, which nobody wrote."""
        refused = _only_json(request)
        if refused is not None:
            return refused
        namespace, name, container = names["namespace"], names["pod"], names["container"]
        state = self._node.pods.state(f"{namespace}/{name}")
        if state is None:
            return plain(404, "pod does not exist")
        found = state.find(container)
        if found is None:
            return plain(404, f"container {container} does not exist")
        timeout = request.query.get("timeout", ["0"])[-1]
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", timeout, re.ASCII):
            return plain(404, "cannot parse value of timeout parameter")
        cause = ""
        if not self._node.machine.checkpoints:
            cause = "rpc error: code = Unimplemented desc = method CheckpointContainer not implemented"
        elif not found.running:
            cause = f"rpc error: code = Unknown desc = container {quoted(container)} is not running"
        if cause:
            return plain(500, f"checkpointing of {namespace}/{name}/{container} failed ({cause})")
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        path = f"/var/lib/kubelet/checkpoints/checkpoint-{name}_{namespace}-{container}-{stamp}.tar"
        return Response(200, f'{{"items":["{path}"]}}'.encode(), [_JSON])

    # -- statistics --------------------------------------------------------------------------------------------------

    def summary(self, request: Request, user: User, names: dict[str, str]) -> Response:
        """``/stats/summary``: what the declared containers would use."""
        refused = _only_json(request)
        if refused is not None:
            return refused
        only = (request.form_values("only_cpu_and_memory") or [""])[0]
        if only not in ("", "1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False"):
            return plain(500, f"strconv.ParseBool: parsing {quoted(only)}: invalid syntax")
        return Response(200, go_json(self._summary(only in ("1", "t", "T", "TRUE", "true", "True")), indent=1), [_JSON])

    def _summary(self, only: bool) -> dict[str, Any]:
        node, now = self._node, time.time()
        states = node.pods.states
        pods = [self._pod_stats(each, now, only) for each in states if each.phase == "Running"]
        running = [each for state in states for each in state.containers if each.running]
        cores = 0.05 + sum(each.container.cpu for each in running)
        used = (64 << 20) + sum(each.container.memory for each in running)
        document: dict[str, Any] = {
            "nodeName": node.name,
            "startTime": api_time(node.started),
            "cpu": _cpu(cores, node.started, now),
            "memory": {"time": api_time(now), "availableBytes": max(0, node.machine.memory - used), **_memory(used)},
        }
        if not only:
            document["fs"] = self._filesystem(now)
            document["runtime"] = {"imageFs": self._filesystem(now), "containerFs": self._filesystem(now)}
            document["rlimit"] = {"time": api_time(now), "maxpid": 32768, "curproc": 100 + len(running)}
        return {"node": document, "pods": pods}

    def _pod_stats(self, state: PodState, now: float, only: bool) -> dict[str, Any]:
        running = [each for each in state.containers if each.running]
        used = sum(each.container.memory for each in running)
        document: dict[str, Any] = {
            "podRef": {"name": state.pod.short_name, "namespace": state.pod.namespace, "uid": state.pod.uid},
            "startTime": api_time(state.created),
            "containers": [self._container_stats(each, now, only) for each in running],
            "cpu": _cpu(sum(each.container.cpu for each in running), state.created, now),
            "memory": {"time": api_time(now), **_memory(used)},
        }
        if not only:
            document["ephemeral-storage"] = self._filesystem(now)
            document["process_stats"] = {"process_count": len(running)}
        return document

    def _container_stats(self, state: ContainerState, now: float, only: bool) -> dict[str, Any]:
        container, started = state.container, state.main.started
        document: dict[str, Any] = {
            "name": container.name,
            "startTime": api_time(started),
            "cpu": _cpu(container.cpu, started, now),
            "memory": {"time": api_time(now), **_memory(container.memory)},
        }
        if not only:
            document |= {"rootfs": self._filesystem(now), "logs": self._filesystem(now)}
        return document

    def _filesystem(self, now: float) -> dict[str, Any]:
        capacity = self._node.machine.storage
        return {
            "time": api_time(now),
            "availableBytes": capacity // 2,
            "capacityBytes": capacity,
            "usedBytes": capacity // 2,
            "inodesFree": capacity >> 15,
            "inodes": capacity >> 14,
            "inodesUsed": capacity >> 15,
        }

    # -- configuration and debugging ---------------------------------------------------------------------------------

    def configz(self, request: Request, user: User, names: dict[str, str]) -> Response:
        """``/configz``"""
        node, serving = self._node, self._node.serving
        config: dict[str, Any] = {
            "enableServer": True,
            "address": node.host_ip,
            "port": node.port,
            "authentication": {"x509": {}, "webhook": {"enabled": True, "cacheTTL": "2m0s"}, "anonymous": {}},
            "authorization": {
                "mode": "Webhook",
                "webhook": {"cacheAuthorizedTTL": "5m0s", "cacheUnauthorizedTTL": "30s"},
            },
            "healthzPort": 10248,
            "healthzBindAddress": "127.0.0.1",
            "streamingConnectionIdleTimeout": "4h0m0s",
            "enableDebuggingHandlers": serving.debugging,
            "enableProfilingHandler": serving.profiling,
            "enableDebugFlagsHandler": serving.debug_flags,
            "enableSystemLogHandler": serving.system_logs,
            "enableSystemLogQuery": serving.log_query,
            "containerLogMaxSize": "10Mi",
            "containerLogMaxFiles": 5,
            "maxPods": 110,
            "featureGates": dict.fromkeys(sorted(node.profile.gates), True),
            "logging": {"format": "text", "verbosity": node.verbosity},
        }
        config["authentication"]["anonymous"]["enabled"] = node.authenticator.anonymous
        return Response(200, go_json({"kubeletconfig": {**config, **node.machine.config}}), [_JSON, _NOSNIFF])

    def debug_flag(self, request: Request, user: User, names: dict[str, str]) -> Response:
        """``/debug/flags/v``"""
        headers = [("Content-Type", "text/plain"), _NOSNIFF]
        if request.method != "PUT":
            return Response(406, b"unsupported http method", headers)
        text = request.body.decode("utf-8", "replace")
        if not re.fullmatch(r"[+-]?[0-9]{1,9}", text, re.ASCII):
            why = f"strconv.ParseInt: parsing {quoted(text)}: invalid syntax"
            return Response(400, f"failed set klog.logging.verbosity {text}: {why}".encode(), headers)
        self._node.verbosity = int(text)
        return Response(200, f"successfully set klog.logging.verbosity to {text}".encode(), headers)

    async def pprof(self, request: Request, user: User, names: dict[str, str]) -> Response:
        """``/debug/pprof/``: well-formed, and empty: there is no Go program here to profile."""
        name = names.get("path", "")
        if name == "":
            rows = "".join(f"<tr><td>0</td><td><a href='{each}?debug=1'>{each}</a></td></tr>\n" for each in _PROFILES)
            notes = "".join(f"<li><div>{each}: </div> {html.escape(what)}</li>\n" for each, what in _PROFILES.items())
            head = "<html>\n<head>\n<title>/debug/pprof/</title>\n</head>\n<body>\n/debug/pprof/\n<br>\n"
            page = f"{head}<table>\n{rows}</table>\n<ul>\n{notes}</ul>\n</body>\n</html>"
            return Response(200, page.encode(), [("Content-Type", "text/html; charset=utf-8"), _NOSNIFF])
        if name == "cmdline":
            command = "/usr/bin/kubelet\0--config=/var/lib/kubelet/config.yaml"
            return Response(200, command.encode(), [("Content-Type", TEXT), _NOSNIFF])
        if name == "symbol":
            return Response(200, b"num_symbols: 1\n", [("Content-Type", TEXT), _NOSNIFF])
        if name not in _PROFILES:
            return Response(404, b"Unknown profile\n", [("Content-Type", TEXT), _NOSNIFF, ("X-Go-Pprof", "1")])
        if name in ("profile", "trace"):
            given = request.first("seconds")
            fallback = 30.0 if name == "profile" else 1.0
            seconds = float(given) if re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,6})?", given, re.ASCII) else fallback
            await asyncio.sleep(seconds)
        elif request.first("debug") not in ("", "0"):
            return Response(200, f"{name} profile: total 0\n".encode(), [("Content-Type", TEXT), _NOSNIFF])
        body = b"go 1.23 trace\x00\x00\x00" if name == "trace" else empty_profile(time.time_ns())
        attachment = ("Content-Disposition", f'attachment; filename="{name}"')
        return Response(200, body, [("Content-Type", "application/octet-stream"), _NOSNIFF, attachment])

    def flagz(self, request: Request, user: User, names: dict[str, str]) -> Answer:
        """``/flagz``"""
        flags = {"config": "/var/lib/kubelet/config.yaml", "hostname-override": self._node.name}
        flags["v"] = str(self._node.verbosity)
        text = "".join(f"{name}={value}\n" for name, value in sorted(flags.items()))
        return _only_text(request) or plain(200, f"\nkubelet flags\n{_WARNING}\n\n{text}")

    def statusz(self, request: Request, user: User, names: dict[str, str]) -> Answer:
        """``/statusz``"""
        node = self._node
        up = int(time.time() - node.started)
        started = time.strftime("%a %b %e %H:%M:%S UTC %Y", time.gmtime(node.started))
        release = node.profile.release.removeprefix("v")
        lines = (
            f"Started: {started}",
            f"Up: {up // 3600} hr {up // 60 % 60:02d} min {up % 60:02d} sec",
            "Go version: go1.24.0",
            f"Binary version: {release}",
            f"Emulation version: {release.rpartition('.')[0]}",
            f"Paths: {' '.join(self.paths)}",
        )
        return _only_text(request) or plain(200, f"\nkubelet statusz\n{_WARNING}\n\n" + "\n".join(lines) + "\n")


def _accepts(request: Request, kinds: set[str]) -> bool:
    accepted = [each.split(";")[0].strip() for value in request.values(b"accept") for each in value.split(",")]
    return not accepted or bool(kinds & set(accepted))


def _only_json(request: Request) -> Response | None:
    """go-restful's refusal of a client that wants something else."""
    if _accepts(request, {"*/*", "application/*", "application/json"}):
        return None
    return plain(406, "406: Not Acceptable\n\nAvailable representations: application/json")


def _only_text(request: Request) -> Response | None:
    if _accepts(request, {"*/*", "text/*", "text/plain"}):
        return None
    return go_error(406, "only text/plain is served")


def _cpu(cores: float, started: float, now: float) -> dict[str, Any]:
    seconds = max(0.0, now - started)
    return {
        "time": api_time(now),
        "usageNanoCores": round(cores * 1e9),
        "usageCoreNanoSeconds": round(cores * seconds * 1e9),
    }


def _memory(used: int) -> dict[str, Any]:
    return {
        "usageBytes": used,
        "workingSetBytes": used,
        "rssBytes": used,
        "pageFaults": used >> 12,
        "majorPageFaults": 0,
    }


def empty_profile(nanoseconds: int) -> bytes:
    """A profile without samples in the format of pprof (``google/pprof: proto/profile.proto``)."""

    def integer(field: int, value: int) -> bytes:
        output = bytearray([field << 3])
        while value > 127:
            output.append(value & 127 | 128)
            value >>= 7
        return bytes([*output, value])

    def message(field: int, content: bytes) -> bytes:
        return bytes([field << 3 | 2, len(content)]) + content

    kinds = integer(1, 1) + integer(2, 2), integer(1, 3) + integer(2, 4)
    profile = b"".join(message(1, kind) for kind in kinds)
    profile += b"".join(message(6, text) for text in (b"", b"samples", b"count", b"cpu", b"nanoseconds"))
    profile += integer(9, nanoseconds) + message(11, kinds[1]) + integer(12, 10_000_000)
    return gzip.compress(profile, mtime=0)
