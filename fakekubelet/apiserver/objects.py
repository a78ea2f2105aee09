"""Reading the objects: get, list and watch, plain, as a Table, or their metadata alone.

A watch is a body of one JSON object for each change. What comes in between two reads of the client waits in a queue of
its own; a client that lets too much wait is cut off with 410, and lists again, as one whose history was compacted.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections import deque
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from fakekubelet.apiserver import media, tables
from fakekubelet.apiserver.resources import Object, Resource
from fakekubelet.apiserver.selectors import Predicate, SelectorError, all_of, field_selector, label_selector
from fakekubelet.apiserver.status import StatusError, bad_request, expired, not_acceptable, not_found
from fakekubelet.apiserver.store import Change, Store
from fakekubelet.messages import Request, Response, Streaming

WATCH_BACKLOG = 4096
"""Changes that wait for one slow watcher. They are references to objects that the history mostly holds as well."""

_BOOKMARK_SECONDS = 60.0
_WATCH_SECONDS = 1800.0  # an apiserver ends every watch after 30 to 60 minutes, and clients begin another
_TABLE = ("Table", "meta.k8s.io", "v1")
_METADATA = ("PartialObjectMetadata", "meta.k8s.io", "v1")
_METADATA_LIST = ("PartialObjectMetadataList", "meta.k8s.io", "v1")


def to_json(document: Object) -> bytes:
    """As an apiserver writes it: compact, with a line feed."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass") + b"\n"


def json_response(document: Object, status: int = 200, media_type: str = "application/json") -> Response:
    """A document as the whole answer."""
    headers = [("Cache-Control", "no-cache, private"), ("Content-Type", media_type)]
    return Response(status, to_json(document), headers)


def truth(request: Request, name: str) -> bool:
    """A flag as ``apimachinery: pkg/runtime/converter.go`` reads it: the first value counts, and what is no plain no is
    a yes, the empty text included."""
    values = request.query.get(name)
    return values is not None and values[0] != "0" and values[0].lower() != "false"


def get(store: Store, resource: Resource, namespace: str, name: str, request: Request) -> Response:
    """One object. Raises StatusError."""
    form = _form(request, _TABLE, _METADATA)
    document = store.get(resource, namespace, name)
    if document is None:
        raise not_found(resource, name)
    if form.kind == "Table":
        version = {"resourceVersion": document["metadata"]["resourceVersion"]}
        document = tables.table(resource, [document], version, _include(request))
    elif form.kind:
        document = _metadata_of(document)
    return json_response(document, media_type=form.media_type if form.kind == "Table" else "application/json")


def list_(store: Store, resource: Resource, namespace: str, request: Request) -> Response:
    """A list, of one namespace or all (""). Raises StatusError."""
    form = _form(request, _TABLE, _METADATA_LIST)
    selected = _selection(resource, namespace, request)
    version, found = store.all(resource, namespace)
    found = [document for document in found if selected(document)]
    metadata: Object = {"resourceVersion": str(version)}
    found, rest = _page(found, request)
    if rest:
        metadata |= rest
    if form.kind == "Table":
        document = tables.table(resource, found, metadata, _include(request))
    elif form.kind:
        document = _list_of("PartialObjectMetadataList", "meta.k8s.io/v1", metadata, map(_metadata_of, found))
    else:
        items = ({k: v for k, v in each.items() if k not in ("kind", "apiVersion")} for each in found)
        document = _list_of(f"{resource.kind}List", resource.group_version, metadata, items)
    return json_response(document, media_type=form.media_type if form.kind == "Table" else "application/json")


def _list_of(kind: str, version: str, metadata: Object, items: Iterable[Object]) -> Object:
    return {"kind": kind, "apiVersion": version, "metadata": metadata, "items": list(items)}


def _page(found: list[Object], request: Request) -> tuple[list[Object], Object]:
    """The part of a list that ``limit`` and ``continue`` ask for, and what its metadata says of the rest."""
    limit, token = _number(request, "limit") or 0, request.first("continue")
    if token:
        try:
            after = base64.b64decode(token.encode(), b"-_", validate=True).decode()
        except ValueError:
            raise bad_request("continue key is not valid") from None
        found = [document for document in found if _place(document) > after]
    if not limit or len(found) <= limit:
        return found, {}
    page = found[:limit]
    following = base64.urlsafe_b64encode(_place(page[-1]).encode()).decode()
    return page, {"continue": following, "remainingItemCount": len(found) - limit}


def _place(document: Object) -> str:
    metadata = document["metadata"]
    return f"{metadata.get('namespace', '')}\0{metadata['name']}"


def _form(request: Request, *kinds: tuple[str, str, str]) -> media.Form:
    form = media.accepted(request.values(b"accept"), kinds=kinds)
    if form is None:
        raise not_acceptable()
    return form


def _include(request: Request) -> str:
    return request.first("includeObject") or "Metadata"


def _metadata_of(document: Object) -> Object:
    head = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
    return {**head, "metadata": document["metadata"]}


def _selection(resource: Resource, namespace: str, request: Request) -> Predicate:
    labels, fields = request.first("labelSelector"), request.first("fieldSelector")
    try:
        tests = [label_selector(labels), field_selector(fields, resource)]
    except SelectorError as error:
        raise bad_request(
            f'Unable to find "{resource.group}/{resource.version}, Resource={resource.plural}" that match '
            f'label selector "{labels}", field selector "{fields}": {error}'
        ) from error
    if namespace:
        tests.append(lambda document: document["metadata"].get("namespace", "") == namespace)
    return all_of(tests)


def _number(request: Request, name: str) -> int | None:
    text = request.first(name)
    if not text:
        return None
    if not (text.isascii() and text.isdecimal()) or len(text) > 18:
        raise bad_request(f"{name}: expected a number, got {text!r}")
    return int(text)


# -- watch -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _View:
    """How a watch shows objects."""

    resource: Resource
    form: media.Form
    include: str

    def show(self, document: Object, *, first: bool) -> Object:
        if self.form.kind == "Table":
            version = {"resourceVersion": document["metadata"]["resourceVersion"]}
            return tables.table(self.resource, [document], version, self.include, columns=first)
        return _metadata_of(document) if self.form.kind else document

    def bookmark(self, version: int, *, initial: bool) -> Object:
        metadata: Object = {"resourceVersion": str(version), "creationTimestamp": None}
        if initial:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        document = {"kind": self.resource.kind, "apiVersion": self.resource.group_version, "metadata": metadata}
        if self.form.kind == "Table":
            return {**tables.table(self.resource, [], {"resourceVersion": str(version)}, self.include), "rows": []}
        return document


def watch(store: Store, resource: Resource, namespace: str, request: Request) -> Streaming:
    """A stream of changes. Raises StatusError before it begins; later errors are events of type ERROR."""
    form = _form(request, _TABLE, _METADATA)
    selected = _selection(resource, namespace, request)
    version = request.first("resourceVersion")
    since = None if version in ("", "0") else _number(request, "resourceVersion")
    initial = truth(request, "sendInitialEvents")
    if initial:
        since = None
    elif "sendInitialEvents" in request.query and since is None:
        since = store.version
    seconds = _number(request, "timeoutSeconds")
    watching = _Watch(store, _View(resource, form, _include(request)), selected)
    body = watching.run(
        since, initial=initial, bookmarks=truth(request, "allowWatchBookmarks"), seconds=seconds or _WATCH_SECONDS
    )
    media_type = form.media_type if form.kind == "Table" else "application/json"
    headers = [("Cache-Control", "no-cache, private"), ("Content-Type", f"{media_type};stream=watch")]
    if not form.kind:
        headers[1] = ("Content-Type", "application/json")
    return Streaming(body, 200, headers)


class _Watch:
    """One watch; it begins when its body is first asked for, on the server's loop."""

    def __init__(self, store: Store, view: _View, selected: Predicate) -> None:
        self._store = store
        self._view = view
        self._selected = selected
        self._changes: deque[Change] = deque()
        self._overrun = False
        self._news: asyncio.Event
        self._loop: asyncio.AbstractEventLoop
        self._columns_told = False

    def _on_change(self, change: Change) -> None:
        """From any thread."""
        if len(self._changes) >= WATCH_BACKLOG:
            self._overrun = True
        else:
            self._changes.append(change)
        try:
            self._loop.call_soon_threadsafe(self._news.set)
        except RuntimeError:
            pass  # the server has ended

    async def run(self, since: int | None, *, initial: bool, bookmarks: bool, seconds: float) -> AsyncIterator[bytes]:
        """The events, as lines."""
        self._loop, self._news = asyncio.get_running_loop(), asyncio.Event()
        ends = self._loop.time() + seconds
        try:
            version, beginning = self._store.watch(self._view.resource, self._on_change, since=since)
        except StatusError as error:
            yield self._error(error)
            return
        try:
            first = b"".join(self._event("ADDED", document) for document in beginning if self._selected(document))
            if initial:
                first += to_json({"type": "BOOKMARK", "object": self._view.bookmark(version, initial=True)})
            if first:
                yield first
            while True:
                lines = self._take()
                if lines:
                    yield lines
                if self._overrun:
                    yield self._error(expired("the watch fell behind: too many changes wait to be read"))
                    return
                left = ends - self._loop.time()
                if left <= 0:
                    return
                try:
                    await asyncio.wait_for(self._news.wait(), min(left, _BOOKMARK_SECONDS))
                except TimeoutError:
                    if bookmarks:
                        shown = self._view.bookmark(self._store.version, initial=False)
                        yield to_json({"type": "BOOKMARK", "object": shown})
                self._news.clear()
        finally:
            self._store.unwatch(self._on_change)

    def _take(self) -> bytes:
        lines = []
        while self._changes:
            change = self._changes.popleft()
            was = change.before is not None and self._selected(change.before)
            now = change.kind != "DELETED" and self._selected(change.document)
            if now:
                lines.append(self._event("MODIFIED" if was else "ADDED", change.document))
            elif was:  # gone, or not among the selected any more
                assert change.before is not None
                version = {"resourceVersion": change.document["metadata"]["resourceVersion"]}
                gone = {**change.before, "metadata": {**change.before["metadata"], **version}}
                lines.append(self._event("DELETED", gone))
        return b"".join(lines)

    def _event(self, kind: str, document: Object) -> bytes:
        first, self._columns_told = not self._columns_told, True
        return to_json({"type": kind, "object": self._view.show(document, first=first)})

    @staticmethod
    def _error(error: StatusError) -> bytes:
        return to_json({"type": "ERROR", "object": error.document()})
