"""The endpoints that show logs: containerLogs, and the files of the node under /logs/.

Sources: ``k/k: pkg/kubelet/server/server.go`` (getContainerLogs), ``pkg/apis/core/v1/validation`` (the options),
``pkg/kubelet/kubelet_server_journal.go`` (NodeLogQuery); Go's ``net/http/fs.go`` (FileServer).
"""

from __future__ import annotations

import html
import mimetypes
import posixpath
import re
import time
from collections.abc import Mapping
from email.utils import formatdate
from urllib.parse import quote

from fakekubelet.auth import User
from fakekubelet.gojson import quoted
from fakekubelet.messages import TEXT, Answer, Request, Response, Streaming, go_error, plain
from fakekubelet.node import Node
from fakekubelet.podlogs import Entry, LogOptions, parse_log, parse_time

_SECOND = 1_000_000_000
_INT64 = 1 << 63
_STREAMS = {"All": frozenset(("stdout", "stderr")), "Stdout": frozenset(("stdout",)), "Stderr": frozenset(("stderr",))}


class _Undecodable(ValueError):
    """A parameter of the wrong kind."""


class _Invalid(ValueError):
    """Parameters that make no sense."""


class LogAPI:
    """Handlers, as ``routing.Handler``."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def container_logs(self, request: Request, user: User, names: dict[str, str]) -> Answer:
        """``/containerLogs/{namespace}/{pod}/{container}``"""
        split = self._node.gate("PodLogsQuerySplitStreams")
        query = dict(request.query)
        tail = request.first("tail")  # what it was called once
        if tail:
            query["tailLines"] = [tail]
            if tail == "all":
                del query["tailLines"]
        try:
            options = log_options(query, time.time_ns(), split_streams=split)
        except _Undecodable:
            return plain(400, '{"message": "Unable to decode query."}')
        except _Invalid:
            return plain(422, '{"message": "Invalid request."}')
        namespace, pod, container = names["namespace"], names["pod"], names["container"]
        state = self._node.pods.state(f"{namespace}/{pod}")
        if state is None:
            return plain(404, f"pod {quoted(pod)} does not exist")
        found = state.find(container)
        if found is None:
            return plain(404, f"container {quoted(container)} not found in pod {quoted(pod)}")
        stream = query.get("stream", ["All"])[0]
        if not split and stream != "All":
            return plain(
                400,
                f"unable to return the given log stream: {quoted(stream)}. "
                "Please enable PodLogsQuerySplitStreams feature gate in kubelet",
            )
        log = found.find_log(previous=options.previous)
        if isinstance(log, str):
            return plain(400, log)
        return Streaming(log.read(options))  # with no Content-Type: the kubelet names a Transfer-Encoding instead

    # -- the node's own ----------------------------------------------------------------------------------------------

    def node_logs(self, request: Request, user: User, names: dict[str, str]) -> Answer:
        """``/logs/`` and below: files of the declared tree, as Go's file server shows them."""
        if self._node.serving.log_query and "query" in request.query:
            return self._query(request)
        path = "/" + names.get("path", "")
        if request.path.endswith("/") and path != "/":
            path += "/"
        return serve_tree(self._node.machine.logs, path, "/logs" + path, self._node.started)

    def _query(self, request: Request) -> Answer:
        services = [each for each in request.query["query"] if each]
        faults = _query_faults(request, services)
        if faults:
            return go_error(400, faults)
        pattern = re.compile(request.first("pattern").encode("utf-8", "surrogateescape"))
        output = bytearray()
        for service in services:
            entries = parse_log(self._node.machine.journal.get(service, b""))
            entries = [each for each in entries if _in_time(each, request) and pattern.search(each.data)]
            tail = request.first("tailLines")
            for entry in entries[-int(tail) or len(entries) :] if tail else entries:
                output += f"{_journal_time(entry.time)} {self._node.name} {service}: ".encode() + entry.data
            if not entries:
                output += b"-- No entries --\n"
        return Response(200, bytes(output), [("Content-Type", "text/plain;charset=UTF-8")])


def _query_faults(request: Request, services: list[str]) -> str:
    faults = [
        f"query: Invalid value: {quoted(each)}" for each in services if not re.fullmatch(r"[\w.@:/-]+", each, re.ASCII)
    ]
    for name in ("sinceTime", "untilTime"):
        try:
            if request.first(name):
                parse_time(request.first(name))
        except ValueError:
            faults.append(f"{name}: Invalid value: {quoted(request.first(name))}: invalid time format")
    tail = request.first("tailLines")
    if tail and not (tail.isascii() and tail.isdecimal() and int(tail) <= 100_000):
        faults.append(f"tailLines: Invalid value: {quoted(tail)}")
    try:
        re.compile(request.first("pattern"))
    except re.error:
        faults.append(f"pattern: Invalid value: {quoted(request.first('pattern'))}")
    return ", ".join(faults)


def _journal_time(nanoseconds: int) -> str:
    """As ``journalctl --output=short-precise``."""
    moment = time.gmtime(nanoseconds // _SECOND)
    return f"{time.strftime('%b %d %H:%M:%S', moment)}.{nanoseconds % _SECOND // 1000:06d}"


def _in_time(entry: Entry, request: Request) -> bool:
    since, until = request.first("sinceTime"), request.first("untilTime")
    return (not since or entry.time >= parse_time(since)[0]) and (not until or entry.time <= parse_time(until)[0])


def serve_tree(files: Mapping[str, str | bytes], path: str, shown: str, modified: float) -> Response:
    """A file or a folder of ``files``, whose keys are absolute paths; one that ends in ``/`` is an empty folder.

    ``shown`` is the path as the client has it.
    """
    clean = posixpath.normpath(path)
    names: dict[str, bool] = {}
    for key in files:
        if key.startswith(clean.rstrip("/") + "/") and key != clean + "/":
            first, slash, _ = key[len(clean.rstrip("/")) + 1 :].partition("/")
            names[first] = bool(slash) or names.get(first, False)
    folder = bool(names) or clean == "/" or clean + "/" in files
    stamp = ("Last-Modified", formatdate(modified, usegmt=True))
    if clean in files and not folder:
        if path.endswith("/"):
            return Response(301, headers=[("Location", "../" + quote(posixpath.basename(clean)))])
        content = files[clean]
        body = content.encode() if isinstance(content, str) else bytes(content)
        kind = mimetypes.guess_type(clean)[0] or _sniff(body)
        return Response(200, body, [("Accept-Ranges", "none"), ("Content-Type", kind), stamp])
    if not folder:
        return go_error(404, "404 page not found")
    if not path.endswith("/"):
        return Response(301, headers=[("Location", quote(posixpath.basename(clean)) + "/")])
    lines = []
    for name, is_folder in sorted(names.items()):
        label = name + "/" if is_folder else name
        lines.append(f'<a href="{quote(label)}">{html.escape(label)}</a>\n')
    page = '<!doctype html>\n<meta name="viewport" content="width=device-width">\n<pre>\n' + "".join(lines) + "</pre>\n"
    return Response(200, page.encode(), [("Content-Type", "text/html; charset=utf-8"), stamp])


def _sniff(body: bytes) -> str:
    """What Go makes of the first bytes, as far as logs are concerned."""
    if body[:3] == b"\x1f\x8b\x08":
        return "application/x-gzip"
    binary = any(byte < 9 or 13 < byte < 27 or 27 < byte < 32 or byte == 11 for byte in body[:512])
    return "application/octet-stream" if binary else TEXT


# -- the options of containerLogs --------------------------------------------------------------------------------------


def log_options(query: Mapping[str, list[str]], now: int, *, split_streams: bool) -> LogOptions:
    """``PodLogOptions`` of a query. ``now`` in nanoseconds since 1970. Raises _Undecodable, then _Invalid."""
    since_seconds = _integer(query, "sinceSeconds")
    tail = _integer(query, "tailLines")
    limit = _integer(query, "limitBytes")
    since = _moment(query, "sinceTime")
    follow, previous, timestamps = (_flag(query, name) for name in ("follow", "previous", "timestamps"))
    stream = query.get("stream", ["All"])[0]
    if since_seconds is not None and (since is not None or since_seconds < 1):
        raise _Invalid("sinceSeconds")
    if (tail is not None and tail < 0) or (limit is not None and limit < 1):
        raise _Invalid("tailLines or limitBytes")
    if split_streams and (stream not in _STREAMS or (stream != "All" and tail is not None)):
        raise _Invalid("stream")
    if since_seconds is not None:
        since = now - since_seconds * _SECOND
    streams = _STREAMS.get(stream, _STREAMS["All"])
    return LogOptions(follow, previous, timestamps, tail, since, limit, streams)


def _flag(query: Mapping[str, list[str]], name: str) -> bool:
    """Absent, ``0`` and ``false`` are no; everything else is yes, nothing at all too."""
    values = query.get(name)
    return values is not None and values[0].lower() not in ("0", "false")


def _integer(query: Mapping[str, list[str]], name: str) -> int | None:
    values = query.get(name)
    if values is None:
        return None
    if not re.fullmatch(r"[+-]?[0-9]{1,20}", values[0], re.ASCII) or not -_INT64 <= int(values[0]) < _INT64:
        raise _Undecodable(name)
    return int(values[0])


def _moment(query: Mapping[str, list[str]], name: str) -> int | None:
    values = query.get(name)
    if values is None:
        return None
    if values[0] in ("", "null"):
        return 0
    try:
        return parse_time(values[0])[0]
    except ValueError:
        raise _Undecodable(name) from None
